"""The feed: what changed is sent, once, in order, and to a page that was away as well."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anyio
import boto3
import pytest

from ops.console import feed
from ops.console.events import Event, Events
from ops.console.feed import READ_SECONDS
from ops.console.known import TableReader, differences
from posedrop.aws.places import due, in_line
from posedrop.aws.record import Status, only_jobs
from posedrop.gate.latency import LatencyStore
from posedrop.segmind.requests import Request
from tests.console.conftest import TOKEN, Console
from tests.support import HANGS, image, until


class Page:
    """A page that listens: the events that came so far."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str, Any]] = []
        self._news = threading.Condition()

    def read(self, lines: Iterable[bytes]) -> None:
        """Take the lines of a stream, until it is closed on either side."""
        event: dict[str, str] = {}
        with suppress(ConnectionResetError):
            for line in lines:
                name, _, value = line.decode().strip().partition(": ")
                if value:
                    event[name] = value
                elif event.keys() >= {"id", "event", "data"}:
                    with self._news:
                        self.events.append((int(event["id"]), event["event"], json.loads(event["data"])))
                        self._news.notify_all()
                    event = {}

    def wait(self, name: str, seconds: float = HANGS, **values: Any) -> Any:
        """The data of the first event of a name with these values."""
        return self.wait_for(name, lambda data: values.items() <= data.items(), seconds)

    def wait_for(self, name: str, fits: Callable[[Any], Any], seconds: float = HANGS) -> Any:
        """The data of the first event of a name that fits."""

        def found() -> Any:
            return next((data for _, kind, data in self.events if kind == name and fits(data)), None)

        with self._news:
            assert self._news.wait_for(lambda: found() is not None, seconds), (name, self.events)
            return found()


@contextmanager
def listening(console: Console, last: int | None = None) -> Iterator[Page]:
    """A page that is connected."""
    console.get("/api/summary")  # what is sent before the first reading is no change
    host = console.base.removeprefix("http://")
    port = host.rpartition(":")[2]
    headers = [f"Host: {host}", f"Cookie: posedrop-{port}={TOKEN}"]
    if last is not None:
        headers.append(f"Last-Event-ID: {last}")
    page = Page()
    # HTTP/1.0 has no chunks, and a bare socket can be closed while it is read.
    with socket.create_connection(("127.0.0.1", int(port))) as connection, connection.makefile("rb") as lines:
        connection.sendall("\r\n".join(["GET /api/events HTTP/1.0", *headers, "", ""]).encode())
        assert b" 200 " in lines.readline()
        reader = threading.Thread(target=page.read, args=(lines,), daemon=True)
        reader.start()
        try:
            yield page
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            reader.join(HANGS)


# ---- over a connection -----------------------------------------------------------------------------------------------


def test_two_readings_take_no_longer_than_two_seconds() -> None:
    assert READ_SECONDS <= 1


def test_a_change_is_reported(console: Console) -> None:
    running = console.seed(4)[3]
    with listening(console) as page:
        page.wait("hello")
        page.wait("state", connected=True)
        now = time.time()
        console.change(running, status=Status.SUCCEEDED, completed_at=now, outputs=console.seed(1)[0].outputs)
        page.wait("job", job_id=running.job_id, state="delivering")
        console.change(running, status=Status.SUCCEEDED, completed_at=now, notified_at=now)
        page.wait("job", job_id=running.job_id, state="done")
        page.wait("summary", done=3)
    ids = [number for number, _, _ in page.events]
    assert ids == sorted(ids)


def test_what_waits_no_more_is_gone(console: Console) -> None:
    waiting = console.seed(6)[5]
    with listening(console) as page:
        page.wait("hello")
        console.stack.table.ledger.stop_waiting(waiting.character, waiting.pose)
        page.wait("gone", job_id=waiting.job_id)


def test_an_upload_is_announced_as_it_goes(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its end is announced before it is forgotten: in between it is not listed any more.
    monkeypatch.setattr("ops.console.acting.Acting._forget", lambda _self, _upload: None)
    with listening(console) as page:
        page.wait("hello")
        found = console.upload(("face.png", image()), ("walk.png", image("png", (900, 900))))
        begun = page.wait("upload", upload=found["upload"], state="running", done=0)
        assert begun["files"] == 2
        assert begun["keys"] == ["incoming/hero/face.png", "incoming/hero/poses/walk.png"]
        standing = page.wait("upload", upload=found["upload"], state="done")
        assert (standing["done"], standing["sent"], standing["errors"]) == (2, standing["bytes"], [])
    assert console.get("/api/uploads") == []


def test_an_upload_that_fails_says_so_and_goes_on_where_it_stopped(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.act.sender.SENDERS", 1)
    console.get("/api/summary")
    puts: list[str] = []

    def second_fails(**_: Any) -> Any:
        puts.append("put")
        broken = SimpleNamespace(status_code=400), {"Error": {"Code": "AccessDenied", "Message": "by the test"}}
        return broken if len(puts) == 2 else None

    console.pipeline.hook("s3", "PutObject", second_fails)
    with listening(console) as page:
        page.wait("hello")
        upload = console.upload(("face.png", image()), ("walk.png", image()), ("sit.png", image()))["upload"]
        standing = page.wait("upload", upload=upload, state="stopped")
        assert standing["done"] == 1
        assert [error["file"] for error in standing["errors"]] == ["hero/poses/walk.png"]
        assert "AccessDenied" in standing["errors"][0]["error"]
        assert [each["upload"] for each in console.get("/api/uploads")] == [upload]
        assert len(puts) == 2  # nothing was begun after that
        console.post(f"/api/uploads/{upload}/resume", status=202)
        page.wait("upload", upload=upload, state="done")
        assert len(puts) == 4  # the face does not go again


def test_an_upload_goes_on_by_itself_when_the_stack_is_back(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.act.sender.PAUSES", (0.2,) * 100)
    drop = console.drop(("face.png", image()), ("walk.png", image()), usd=9.0)
    with listening(console) as page:
        page.wait("hello")
        assert console.server
        sender = console.server.console.acting._sender
        reads: list[str] = []
        monkeypatch.setattr(sender, "_send", _down_at_first(console, sender._send, reads))
        upload = console.post("/api/uploads", drop, status=202)["upload"]
        assert "continues by itself" in page.wait_for("upload", lambda standing: standing["note"])["note"]
        console.down = False
        assert page.wait("upload", upload=upload, state="done")["done"] == 2


def _down_at_first(console: Console, send: Any, calls: list[str]) -> Any:
    """The stack goes away with the first file that is sent."""

    def sending(*arguments: Any) -> None:
        if not calls:
            console.down = True
        calls.append("send")
        send(*arguments)

    return sending


def test_an_upload_that_stopped_can_be_given_up(console: Console) -> None:
    console.get("/api/summary")
    console.pipeline.break_call("s3", "PutObject")
    with listening(console) as page:
        page.wait("hello")
        upload = console.upload(("face.png", image()), ("walk.png", image()))["upload"]
        page.wait("upload", upload=upload, state="stopped")
        console.post(f"/api/uploads/{upload}/discard")
        page.wait("upload", upload=upload, state="discarded")
    assert console.get("/api/uploads") == []
    assert "is over or was discarded" in console.post(f"/api/uploads/{upload}/resume", status=404)["error"]


def test_a_job_that_is_refused_at_once_is_reported(console: Console) -> None:
    with listening(console) as page:
        page.wait("hello")
        console.upload(("face.png", image()), ("walk.png", image()))
        page.wait("upload", state="done")
        console.pipeline.put("incoming/hero/job.json", {"quality": 1000})
        console.handle()
        console.finish()
        assert page.wait("job", state="failed")["error"]["type"] == "InvalidInput"


def test_a_page_that_was_away_catches_up(console: Console) -> None:
    seeded = console.seed(5)
    with listening(console) as page:
        last = page.wait("hello")["id"]
        other = console.change(seeded[4], status=Status.SUBMITTING, requests=[Request(1, time.time())])
        page.wait("job", job_id=other.job_id, state="submitting")
    with listening(console, last) as back:
        back.wait("job", job_id=other.job_id, state="submitting")
        assert back.events[0][0] == last + 1
    with listening(console, 10**6) as lost:
        lost.wait("reset")
        lost.wait("state")


def test_the_stack_goes_away_and_returns(console: Console) -> None:
    seeded = console.seed(5)
    with listening(console) as page:
        page.wait("hello")
        console.down = True
        assert page.wait("state", connected=False)["error"]
        assert console.get("/api/jobs")["total"] == 5
        console.change(seeded[3], status=Status.FAILED, notified_at=time.time())
        console.seed(1, states=("failed",), characters=1)
        console.down = False
        page.wait("job", job_id=seeded[3].job_id, state="failed")
        page.wait("job", job_id=seeded[0].job_id, state="failed")
        assert [data["connected"] for _, name, data in page.events if name == "state"] == [True, False, True]


def test_a_stack_that_hangs_holds_up_nobody(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.console.feed.READ_DEADLINE", 3.0)
    seeded = console.seed(5)
    with listening(console) as page:
        page.wait("state", connected=True)
        console.answering.clear()
        assert console.get("/api/jobs")["total"] == 5  # answered, though the stack never answers
        assert "3 seconds" in page.wait("state", connected=False)["error"]
        assert console.get("/api/jobs")["total"] == 5
        console.answering.set()
        console.change(seeded[3], status=Status.FAILED, notified_at=time.time())
        page.wait("job", job_id=seeded[3].job_id, state="failed")
        assert [data["connected"] for _, name, data in page.events if name == "state"] == [True, False, True]


def test_a_record_of_an_unknown_form_is_left_out_and_reported(console: Console) -> None:
    seeded = console.seed(5)
    key = {"job_id": {"S": "strange-0000000000000000"}}
    values = {"status": "PONDERING", "unfinished": "paid", "character": "hero", "pose": "x", "updated_at": "2026"}
    values["unfinished_at"] = "2026"
    item = {**key, **{name: {"S": value} for name, value in values.items()}}
    with listening(console) as page:
        page.wait("state", connected=True)
        boto3.client("dynamodb").put_item(TableName=console.stack.output("JobsTableName"), Item=item)
        assert page.wait_for("summary", lambda summary: summary["unreadable"])["unreadable"] == [key["job_id"]["S"]]
        console.change(seeded[4], status=Status.SUBMITTING, requests=[Request(1, time.time())])
        page.wait("job", job_id=seeded[4].job_id)
        assert all(data["connected"] for _, name, data in page.events if name == "state")


def test_a_fault_of_a_reading_is_reported_and_ends_nothing(
    console: Console, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(console) as page:
        page.wait("state", connected=True)
        with monkeypatch.context() as broken:
            broken.setattr("ops.console.known.send_times", lambda *_, **__: {"a job": 1.0}["no such job"])
            assert "KeyError" in page.wait("state", connected=False)["error"]
            console.upload(("face.png", image()), ("walk.png", image()))
            page.wait("upload", state="done")
        console.change(console.seed(4)[3], status=Status.SUBMITTING, requests=[Request(1, time.time())])
        page.wait("job", state="submitting")
        assert [data["connected"] for _, name, data in page.events if name == "state"] == [True, False, True]
    assert "the stack could not be read" in caplog.text


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console knows ten records, besides those that are unfinished."""
    monkeypatch.setattr("ops.inspect.records.WINDOW", 10)
    monkeypatch.setattr("ops.console.known.WINDOW", 10)


@pytest.mark.usefixtures("small_window")
def test_more_records_than_are_known_come_in_pages(console: Console) -> None:
    seeded = console.seed(30)
    known = TableReader(console.stack).whole(None)
    jobs = list(only_jobs(seeded))
    over = {record.job_id for record in jobs if record.ended and record.notified_at}
    sent = {record.job_id for record in jobs if record.requests}
    twenty_nine = {record.job_id for record in jobs if "number 29" in record.parameters.get("prompt", "")}
    unfinished = {record.job_id for record in seeded} - over
    assert unfinished <= known.records.keys()
    assert known.summary()["cut"] == len(known.records) < 30
    scans: list[int] = []
    console.pipeline.hook("dynamodb", "Scan", lambda **_: scans.append(1))
    queries: tuple[tuple[str, Callable[[Any], bool]], ...] = (
        ("", lambda record: True),
        ("&state=done", lambda record: record.status is Status.SUCCEEDED and record.job_id in over),
        ("&state=queued", lambda record: record.status is Status.QUEUED),
        ("&state=submitting,running,delivering", lambda record: record.job_id in unfinished & sent),
        ("&character=hero-2&state=done,failed", lambda record: record.character == "hero-2" and record.job_id in over),
        ("&text=number%2029", lambda record: record.job_id in twenty_nine),
    )
    for query, fits in queries:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = console.get(f"/api/jobs?limit=4{query}{cursor}")
            assert len(page["jobs"]) <= 4
            assert page["cut"]
            found += [card["job_id"] for card in page["jobs"]]
            cursor = f"&cursor={page['next']}" if page["next"] else None
        assert sorted(found) == sorted(record.job_id for record in seeded if fits(record)), query
    assert scans == []
    console.get("/api/jobs?cursor=bm8", 400)
    assert console.request("GET", "/api/sheet/hero-1.png").status == 200


@pytest.mark.usefixtures("small_window")
def test_what_is_not_known_any_more_is_not_gone(console: Console) -> None:
    seeded = console.seed(12, states=("done",))
    reader = TableReader(console.stack)
    known = reader.whole(None)
    console.write([replace(seeded[0], job_id=f"hero-new-{number:016x}", created_at=time.time()) for number in range(8)])
    boto3.client("dynamodb").delete_item(
        TableName=console.stack.output("JobsTableName"), Key={"job_id": {"S": seeded[0].job_id}}
    )
    again = reader.whole(known)
    changed, gone = differences(known, again)
    assert len(changed) == 8
    assert gone == []  # it is older than the newest that are known
    console.write([replace(seeded[1], job_id="hero-brief-0000000000000000", created_at=time.time() + 1)])
    more = reader.whole(again)
    boto3.client("dynamodb").delete_item(
        TableName=console.stack.output("JobsTableName"), Key={"job_id": {"S": "hero-brief-0000000000000000"}}
    )
    assert differences(more, reader.whole(more))[1] == ["hero-brief-0000000000000000"]


def test_a_long_line_is_counted_and_its_head_has_turns(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("ops.inspect.records.MOST_PLACES", "ops.console.known.MOST_PLACES"):
        monkeypatch.setattr(place, 5)
    seeded = console.seed(12, states=("queued",), characters=1)
    now = time.time()
    console.write(
        [replace(record, rank=number, **in_line(number, record.queued_at)) for number, record in enumerate(seeded)]
    )
    known = TableReader(console.stack).whole(None)
    assert known.summary()["backlog"] == 12
    assert set(known.send_times) == {record.job_id for record in seeded[:5]}
    times = [known.send_times[record.job_id] for record in seeded[:5]]
    assert times == sorted(times)
    assert times[0] >= now - 1


def test_uploads_that_were_not_read_yet_are_seen(console: Console) -> None:
    console.seed(5)
    for number in range(12):
        console.pipeline.sqs.send_message(QueueUrl=console.pipeline.queue_url, MessageBody=str(number), DelaySeconds=0)
    found = console.get("/api/summary")
    assert (found["backlog"], found["arriving"]) == (1, 12)


def test_the_server_ends_quietly_though_pages_are_open(console: Console, capfd: pytest.CaptureFixture[str]) -> None:
    with listening(console) as page:
        page.wait("hello")
        console.stop()
        assert not console.thread.is_alive()
    assert "ERROR" not in capfd.readouterr().err


# ---- by itself -------------------------------------------------------------------------------------------------------


def collect(events: Events, after: int | None, count: int) -> list[Event]:
    """The first events that a page gets."""

    async def first() -> list[Event]:
        found: list[Event] = []
        stream = events.follow(after)
        with anyio.fail_after(HANGS):
            async for event in stream:
                found.append(event)
                if len(found) == count:
                    break
        await stream.aclose()  # type: ignore[attr-defined]
        return found

    return anyio.run(first)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (None, [(10, "hello")]),
        (8, [(9, "job"), (10, "job")]),
        (5, [(6, "job"), (7, "job")]),
        (4, [(10, "reset")]),
        (11, [(10, "reset")]),
    ],
)
def test_events_that_are_kept(after: int | None, expected: list[tuple[int, str]]) -> None:
    async def publish() -> Events:
        events = Events(kept=5)
        for number in range(10):
            events.publish("job", {"number": number})
        return events

    found = collect(anyio.run(publish), after, len(expected))
    assert [(event.id, event.name) for event in found] == expected


def test_a_reading_reads_only_what_is_paid_for_or_has_moved(console: Console) -> None:
    seeded = console.seed(30)
    paid = {record.job_id for record in only_jobs(seeded) if record.requests and not record.notified_at}
    reader = TableReader(console.stack)
    known = reader.whole(None)
    scans: list[int] = []
    read: set[str] = set()

    def batch(params: dict[str, Any], **_: Any) -> None:
        (wanted,) = json.loads(params["body"])["RequestItems"].values()
        read.update(key["job_id"]["S"] for key in wanted["Keys"] if "-pose-" in key["job_id"]["S"])

    console.pipeline.hook("dynamodb", "Scan", lambda **_: scans.append(1))
    console.pipeline.hook("dynamodb", "BatchGetItem", batch)
    same = reader.changes(known, {})
    assert differences(known, same) == ([], [])
    assert (scans, read) == ([], paid)
    paid_at = round(time.time(), 3)
    sent = console.change(seeded[4], status=Status.SUBMITTING, requests=[Request(1, paid_at)])
    running = console.change(seeded[3], status=Status.FAILED, error={"type": "TimedOut", "message": ""})
    read.clear()
    changed = reader.changes(same, {})
    assert differences(same, changed) == ([sent, running], [])
    assert (scans, read) == ([], paid | {sent.job_id})


def test_nothing_is_read_while_no_page_is_open(console: Console) -> None:
    console.seed(5)
    console.get("/api/jobs")
    calls: list[int] = []
    console.pipeline.hook("dynamodb", "Query", lambda **_: calls.append(1))
    time.sleep(5 * feed.READ_SECONDS)
    assert calls == []
    with listening(console) as page:
        page.wait("hello")
        page.wait("state")
        until(lambda: calls)


def test_what_moves_all_cards_is_reported_once(console: Console) -> None:
    seeded = console.seed(30, states=("queued", "queued", "running"))
    # Without an expected time of their own, which a pause moves.
    queued = [record for record in seeded if record.status is Status.QUEUED]
    console.write([replace(record, **due(time.time() + 600)) for record in queued])
    table = console.stack.output("JobsTableName")
    with listening(console) as page:
        usual = page.wait("state") and console.get("/api/summary")["typical_seconds"]
        for _ in range(20):
            LatencyStore(boto3.client("dynamodb"), table, 31).observe(50)
        console.refuse_account("it answered 406")
        now = page.wait("summary", typical_seconds=50)
        assert usual < now["typical_seconds"] < now["late_seconds"]
        assert page.wait_for("summary", lambda summary: summary["pause"])["pause"]["reason"] == "it answered 406"
        # One change is sent after all that: of that job alone.
        console.change(seeded[0], status=Status.SUBMITTING, requests=[Request(1, time.time())])
        page.wait("job", job_id=seeded[0].job_id)
        assert [data["job_id"] for _, name, data in page.events if name == "job"] == [seeded[0].job_id]


def test_the_sentence_on_a_queued_job_is_in_its_own_view(console: Console) -> None:
    queued = console.seed(5)[4]
    console.refuse_account("it answered 406")
    found = console.get(f"/api/jobs/{queued.job_id}")
    assert found["card"]["sentence"] is None
    assert "406" in found["explanation"]["sentence"]
