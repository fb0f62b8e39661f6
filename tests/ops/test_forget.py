"""`forget`: nothing is left of a character but what its report names, and nothing of another one is taken."""

import hashlib
import io
import json
import unicodedata
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import httpx
import pytest

from ops.act.forget.buckets import _job_of
from ops.act.forget.forgetting import Forgetting, character_of
from ops.act.forget.queues import About, folder_of
from ops.errors import Refused
from ops.stack import Stack
from posedrop.contract.times import epoch
from posedrop.contract.upload_layout import UploadLayout
from posedrop.gate.breaker import Breaker
from tests.aws import Copy, restore, saved
from tests.corpus import encode, exif, picture
from tests.integration.conftest import BUCKET, OUTPUTS, Pipeline
from tests.ops.conftest import FACE, SIT, WALK, Run
from tests.stores import everything, hits
from tests.support import image

Ask = Callable[..., Any]

CHARACTER = "agency/marlene"
FOLDER = f"incoming/{CHARACTER}/"
PROMPT = "a lady in a blue velvet coat"
POSES = {pose: encode(picture(seed=seed), "JPEG", exif=exif(6)) for seed, pose in enumerate(("strolls", "waves"), 2)}
PORTRAIT = encode(picture(seed=1), "JPEG", exif=exif(6))
OTHER = "agency/other"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of moto's has one server: there is nothing to wait for."""
    monkeypatch.setattr("ops.act.forget.queues.WAIT_SECONDS", 0)


@pytest.fixture
def queues(pipeline: Pipeline, stack: Stack) -> list[str]:
    """All queues of the stack."""
    undelivered: str = pipeline.sqs.get_queue_url(QueueName="undelivered")["QueueUrl"]
    return [pipeline.queue_url, pipeline.submit_queue_url, pipeline.dead_letter_url, undelivered]


@pytest.fixture
def stores(queues: list[str]) -> Callable[[], dict[str, str]]:
    """Gives all that the stack's stores hold, by where it is."""
    return lambda: dict(everything(lambda service: boto3.client(service), queues))  # type: ignore[call-overload]


def live(pipeline: Pipeline) -> None:
    """A character with all that one can have, and another one of the same client with one of its poses."""
    files = {"face.jpg": PORTRAIT, "job.json": json.dumps({"prompt": PROMPT}).encode(), ".DS_Store": b"marlene"}
    poses = {f"poses/{pose}.jpg": data for pose, data in POSES.items()}
    pipeline.upload(*((FOLDER + name, data) for name, data in {**files, **poses, "poses/._waves.jpg": b"\0"}.items()))
    pipeline.run_all()
    pipeline.upload((f"{FOLDER}poses/strolls.json", {"prompt": f"{PROMPT}, from behind"}))
    pipeline.handle(pipeline.put(f"{FOLDER}poses/kneels.json", {"seed": 1}))
    pipeline.put(f"{FOLDER}front.jpg", PORTRAIT)
    pipeline.put(f"{FOLDER}poses/more/deep.jpg", PORTRAIT)
    pipeline.s3.delete_object(Bucket=BUCKET, Key=f"{FOLDER}job.json")
    pipeline.s3.create_multipart_upload(Bucket=BUCKET, Key=f"{FOLDER}poses/runs.jpg")
    pipeline.handle(pipeline.put(f"incoming/{OTHER}/face.png", FACE[1]))
    pipeline.handle(pipeline.put(f"incoming/{OTHER}/poses/strolls.jpg", POSES["strolls"]))
    pipeline.handle(pipeline.put(f"incoming/{OTHER}/poses/incomplete.json", {"seed": 1}))
    pipeline.run_all()
    ended = [job_id for job_id, record in pipeline.records().items() if record["status"] == "SUCCEEDED"]
    pipeline.gate().breaker.change(lambda state: (Breaker(faulted_jobs=ended), None))
    pipeline.dynamodb.put_item(Item={"job_id": f"client/{sha256(b'agency')}", "rank": 3})


def send_about(pipeline: Pipeline, queues: list[str], character: str, pose: str, job_id: str) -> int:
    """Put messages about a character into all queues, and return how many."""
    uploads, submits, dead, undelivered = queues

    def event(name: str) -> dict[str, Any]:
        upload = {"key": f"incoming/{character}/{name}", "etag": "e"}
        return {"detail-type": "Object Created", "detail": {"bucket": {"name": BUCKET}, "object": upload}}

    names = ("face.jpg", f"poses/._{pose}.jpg", "notes.txt")
    bodies: list[tuple[str, Any]] = [
        *((url, event(name)) for url in (uploads, dead, undelivered) for name in names),
        (uploads, {"job": {"bucket": BUCKET, "character": character, "pose": pose, "upload": None}}),
        (uploads, {"retry": job_id}),
        (uploads, {"cancel": f"waiting/{character}/{pose}", "attempt": 1}),
        (submits, {"submit": job_id, "number": 3}),
        (dead, {"submit": f"{job_id.rpartition('-')[0]}-{'0' * 16}"}),
        (undelivered, {"detail-type": "Step Functions Execution Status Change", "detail": {"name": f"{job_id}-1"}}),
    ]
    for url, body in bodies:
        pipeline.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))
    return len(bodies)


_lived: list[tuple[Copy, list[str]]] = []


def lived(pipeline: Pipeline, queues: list[str]) -> list[str]:
    """Restore a character with all that one can have and messages about it, made once; return what is to be gone."""
    if not _lived:
        live(pipeline)
        pipeline.run_all()
        words = words_of(pipeline, CHARACTER)
        job_id = next(job_id for job_id, found in pipeline.records().items() if found["character"] == CHARACTER)
        send_about(pipeline, queues, CHARACTER, "waves", job_id)
        _lived.append((saved(), words))
    ((made, words),) = _lived
    restore(made)
    return words


def words_of(pipeline: Pipeline, character: str) -> list[str]:
    """What is to be gone of a character: its names, prompts, hashes, jobs and requests."""
    records = [record for record in pipeline.records().values() if record["character"] == character]
    words = {str(record["job_id"]) for record in records}
    words |= {hashlib.sha256(job_id.encode()).hexdigest() for job_id in words}
    words |= {str(request["request_id"]) for record in records for request in record.get("requests", [])}
    words |= {sha256(data) for data in (PORTRAIT, POSES["waves"])}
    return [*words, CHARACTER, "marlene", "velvet", "waves"]


def test_nothing_is_left_but_what_the_report_names(
    pipeline: Pipeline, stores: Callable[[], dict[str, str]], queues: list[str], ask: Ask, run: Run
) -> None:
    live(pipeline)
    pipeline.run_all()
    words = words_of(pipeline, CHARACTER)
    records = [record for record in pipeline.records().values() if record["status"] == "SUCCEEDED"]
    jobs = {str(record["character"]): str(record["job_id"]) for record in records}
    messages = send_about(pipeline, queues, CHARACTER, "waves", jobs[CHARACTER])
    send_about(pipeline, queues, OTHER, "strolls", jobs[OTHER])
    pipeline.sqs.send_message(QueueUrl=pipeline.dead_letter_url, MessageBody="not a message")
    before = stores()
    assert hits(before.items(), words)

    found = ask("forget", CHARACTER, "--yes")
    gone, stays = found["gone"], {stay["where"]: stay for stay in found["stays"]}
    after = stores()
    left = hits(after.items(), words)
    named = [item for where in ("executions", "attempts", "logs") for item in stays[where]["items"]]
    assert left
    assert not [where for where in left if not any(where.endswith(item) for item in named)]
    assert all(where.startswith(("states:", "dynamodb:jobs/attempts/")) for where in left)
    # All else is as it was, but for the state of the breaker: it had the ids of its jobs.
    taken = before.keys() - after.keys()
    assert hits({where: before[where] for where in taken}.items(), words).keys() == taken
    assert {where for where in after if after[where] != before[where]} == {"dynamodb:jobs/breaker"}
    assert jobs[OTHER] in after["dynamodb:jobs/breaker"]

    assert (gone["uploads"], gone["waiting"]) == (10, 1)
    assert (gone["delete_markers"], gone["unfinished_uploads"], gone["records"]) == (1, 1, 3)
    assert (gone["prepared"], gone["outputs"], gone["requests"], gone["messages"]) == (2, 6, 3, messages)
    assert (gone["client_rank"], gone["remembered"]) == (0, 1)
    assert stays["prepared"]["items"] == [sha256(POSES["strolls"])]
    assert stays["client-rank"]["until"] is None
    assert sorted(stays["provider"]["items"]) == ["request-1", "request-2", "request-3"]
    for where, days in (("provider", 7), ("executions", 90), ("point-in-time-recovery", 35), ("logs", 14)):
        assert days - 0.1 < (epoch(stays[where]["until"]) - epoch(found["at"])) / 86400 <= days, where

    again = ask("forget", f"incoming/{CHARACTER}/", "--yes")
    assert set(again["gone"].values()) == {0}
    assert {stay["where"] for stay in again["stays"]} >= {"provider", "executions", "point-in-time-recovery", "logs"}
    assert stores() == after

    said = run("forget", OTHER, "--yes").stdout
    assert "1  prepared image\n" in said
    assert "1  place in line of its client\n" in said
    assert not [where for where in stores() if where.startswith("s3:")]
    nameless = {where for where in stores() if where.startswith(("states:", "dynamodb:jobs/attempts/"))}
    assert not hits(stores().items(), [*words, "other", "agency"]).keys() - nameless
    assert not hits(((where, "") for where in nameless if "attempts" in where), ["marlene", "waves", "agency"])


def test_it_asks_first_and_shows_what_there_is(pipeline: Pipeline, stores: Any, run: Run) -> None:
    pipeline.upload(FACE, WALK, ("incoming/hero/job.json", {"prompt": "x"}))
    pipeline.run_all()
    before = stores()
    asked = run("forget", "hero", answer="n\n", code=1)
    assert "3  versions and delete markers of uploads" in asked.stderr
    assert "Delete everything about hero permanently?" in asked.stderr
    assert "--json cannot ask" in run("forget", "hero", "--json", code=2).stderr
    assert stores() == before
    said = run("forget", "hero", answer="y\n").stdout
    assert "3  versions of uploads" in said
    assert "1  record of a job" in said
    assert "the provider keeps the images of a request for seven days, at links that need no key" in said
    assert "the table can be restored to any time of the last 35 days" in said
    again = run("forget", "hero", "--yes")
    assert "There are no uploads, outputs or records of hero." in again.stderr
    assert "There was nothing of hero." in again.stdout


def test_a_character_that_is_a_client_too(pipeline: Pipeline, stores: Any, ask: Ask) -> None:
    """Below the folder of one lies the folder of the other; the client's rank stays as long as there is one of them."""
    nested = "agency/walk"
    for character in ("agency", nested):
        pipeline.upload((f"incoming/{character}/face.png", FACE[1]), (f"incoming/{character}/poses/walk.png", WALK[1]))
        pipeline.upload((f"incoming/{character}/pose.png", SIT[1]), (f"incoming/{character}/poses/w/x.png", SIT[1]))
    pipeline.upload(("incoming/agency-2/face.png", FACE[1]), ("incoming/agency-2/pose.png", SIT[1]))
    pipeline.run_all()
    pipeline.dynamodb.put_item(Item={"job_id": f"client/{sha256(b'agency')}", "rank": 3})
    before = stores()
    gone = ask("forget", "agency", "--yes")["gone"]
    assert (gone["uploads"], gone["records"], gone["outputs"], gone["client_rank"]) == (4, 2, 4, 0)
    after = stores()
    ids = {job_id for job_id, record in pipeline.records().items() if record["character"] != "agency"}
    assert len(ids) == 3
    names = {f"incoming/{nested}/", "incoming/agency-2/", *ids}
    kept = {where for where in before if any(name in where for name in names)}
    assert kept
    assert all(after[where] == before[where] for where in kept)
    assert not [where for where in after if where.startswith("s3:") and where not in kept]
    assert ask("forget", nested, "--yes")["gone"]["client_rank"] == 1
    assert {where.partition("#")[0] for where in stores() if "incoming/" in where} == {
        f"s3:{BUCKET}/incoming/agency-2/{name}.png" for name in ("face", "pose")
    }


def test_it_refuses_while_a_job_is_under_way(pipeline: Pipeline, stores: Any, run: Run, ask: Ask) -> None:
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    before = stores()
    refused = run("forget", "hero", "--yes", code=4)
    assert f"hero has 1 unfinished job, for example {job_id}: wait for the end, or use --abandon" in refused.stderr
    assert f"{job_id} has not ended: SUBMITTED" in refused.stderr
    assert stores() == before
    pipeline.run_all()
    assert ask("forget", "hero", "--yes")["gone"]["records"] == 1


def test_what_is_under_way_is_ended_first_if_it_is_said(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """One job is in the model, one waits for money: the one is stopped, the other cancelled; both are notified."""
    monkeypatch.setenv("DAILY_BUDGET", "0.03")
    pipeline: Pipeline = request.getfixturevalue("pipeline")
    stack: Stack = request.getfixturevalue("stack")
    run: Run = request.getfixturevalue("run")
    ask: Ask = request.getfixturevalue("ask")
    pipeline.upload(FACE, WALK, SIT)
    stopped: list[str] = []

    def stop(params: dict[str, Any], **_: Any) -> Any:
        stopped.append(json.loads(params["body"])["executionArn"].rpartition(":")[2])
        return SimpleNamespace(status_code=200), {"stopDate": 0}

    def notify(seconds: float) -> None:
        pipeline.clock.now += seconds
        with redirect_stdout(io.StringIO()):
            for message in pipeline.receive(pipeline.queue_url):
                pipeline.handle(message["Body"])
            if stopped:
                pipeline.run_all()

    pipeline.hook("stepfunctions", "StopExecution", stop)
    monkeypatch.setattr("ops.cli.shell.find", lambda target: replace(stack, sleep=notify))
    poses = {str(record["status"]): str(record["pose"]) for record in pipeline.records().values()}
    assert poses.keys() == {"SUBMITTED", "QUEUED"}
    assert "2 unfinished jobs will end as FAILED" in run("forget", "hero", "--abandon", answer="n\n", code=1).stderr
    found = ask("forget", "hero", "--abandon", "--yes")
    assert len(stopped) == 1
    assert f"-{poses['SUBMITTED']}-" in stopped[0]
    assert found["gone"]["records"] == 2
    assert not [stay for stay in found["stays"] if stay["where"] == "under-way"]
    notified = {message["pose"]: message["status"] for message in pipeline.notifications()}
    assert notified.keys() == {"walk", "sit"}
    assert notified[poses["QUEUED"]] == "FAILED"
    assert pipeline.records() == {}


def test_what_does_not_end_in_time_is_in_the_report(pipeline: Pipeline, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    job_id = str(pipeline.record()["job_id"])
    pipeline.break_call("stepfunctions", "StopExecution", "ExecutionDoesNotExist")
    done = run("forget", "hero", "--abandon", "--yes", "--json", "--timeout", "5s", code=6)
    (stay,) = [stay for stay in json.loads(done.stdout)["stays"] if stay["where"] == "under-way"]
    assert stay["items"] == [job_id]
    assert "1 job had not ended in time: run the command again later" in done.stderr
    assert pipeline.records() == {}


@pytest.mark.parametrize(
    ("service", "operation", "number"),
    [
        ("s3", "AbortMultipartUpload", 0),
        *(("s3", "DeleteObjects", number) for number in range(3)),
        *(("dynamodb", "BatchWriteItem", number) for number in range(3)),
        ("dynamodb", "BatchGetItem", 4),
        ("sqs", "DeleteMessage", 3),
    ],
)
def test_it_can_be_run_again_wherever_it_ended(
    pipeline: Pipeline, stores: Any, run: Run, queues: list[str], service: str, operation: str, number: int
) -> None:
    """One of its calls fails; what is left then is gone after the next run."""
    words = lived(pipeline, queues)
    calls = iter(range(1000))

    def fail(**_: Any) -> Any:
        broken = {"Error": {"Code": "AccessDenied", "Message": "broken by the test"}}
        return (SimpleNamespace(status_code=403), broken) if next(calls) == number else None

    end = pipeline.hook(service, operation, fail)
    assert "broken by the test" in run("forget", CHARACTER, "--yes", code=1).stderr
    end()
    run("forget", CHARACTER, "--yes")
    kept = ("states:", "dynamodb:jobs/attempts/")
    assert not [where for where in hits(stores().items(), words) if not where.startswith(kept)]


def test_s3_may_refuse_to_delete_some(pipeline: Pipeline, run: Run, ask: Ask) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    refused = {"Errors": [{"Key": FACE[0], "VersionId": "v", "Code": "AccessDenied", "Message": "object lock"}]}
    end = pipeline.hook("s3", "DeleteObjects", lambda **_: (SimpleNamespace(status_code=200), refused))
    said = run("forget", "hero", "--yes", code=1).stderr
    assert (
        f"S3 refused to delete some objects of {OUTPUTS} (AccessDenied: object lock): fix that, and run it again"
        in said
    )
    end()
    assert ask("forget", "hero", "--yes")["gone"]["records"] == 1


def test_names_in_every_spelling(pipeline: Pipeline, stores: Any, ask: Ask) -> None:
    """Each letter may be in NFC or NFD by itself; a folder that was deleted has versions all the same."""
    name = "Zoë/Noël"
    mixed = f"{unicodedata.normalize('NFD', 'Zoë')}/Noël"
    half = f"Zoë/{unicodedata.normalize('NFD', 'Noël')}"
    for spelled in (name, mixed, half, unicodedata.normalize("NFD", name)):
        pipeline.put(f"incoming/{spelled}/face.png", FACE[1])
        pipeline.put(f"incoming/{spelled}//Poses/{len(spelled)}.png", WALK[1])
        pipeline.put(f"incoming/{spelled}-2/face.png", FACE[1])
    pipeline.s3.delete_object(Bucket=BUCKET, Key=f"incoming/{half}/face.png")
    gone = ask("forget", mixed, "--yes")["gone"]
    assert (gone["uploads"], gone["delete_markers"]) == (8, 1)
    assert len([where for where in stores() if where.startswith(f"s3:{BUCKET}/")]) == 4


@pytest.mark.parametrize("way", ["result", "remembered", "upload"])
def test_what_was_prepared_of_uploads_without_a_record(pipeline: Pipeline, stores: Any, ask: Ask, way: str) -> None:
    """The hash is read from the result, from what is remembered, or from the upload itself."""
    pipeline.upload((f"{FOLDER}face.jpg", PORTRAIT), (f"{FOLDER}poses/x.png", WALK[1]))
    pipeline.run_all()
    pipeline.dynamodb.delete_item(Key={"job_id": pipeline.record()["job_id"]})
    if way == "result":
        for version in pipeline.s3.list_object_versions(Bucket=BUCKET, Prefix=FOLDER)["Versions"]:
            key, version_id = version["Key"], version["VersionId"]
            pipeline.s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version_id)
    else:
        for key in [key for key in pipeline.outputs() if key.startswith("outputs/")]:
            pipeline.s3.delete_object(Bucket=OUTPUTS, Key=key)
    if way == "upload":
        for item in pipeline.dynamodb.scan()["Items"]:
            if item["job_id"].startswith("read/"):
                pipeline.dynamodb.delete_item(Key={"job_id": item["job_id"]})
    assert f"prepared/1/{sha256(PORTRAIT)}" in str([*stores()])
    assert ask("forget", CHARACTER, "--yes")["gone"]["prepared"] == 1
    assert sha256(PORTRAIT) not in str([*stores()])


def test_an_upload_that_cannot_be_read_is_in_the_report(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.s3.put_object(Bucket=OUTPUTS, Key="prepared/1/of-another.png", Body=b"x")
    pipeline.put(*FACE, StorageClass="GLACIER")
    found = ask("forget", "hero", "--yes")
    assert [stay["what"] for stay in found["stays"] if stay["where"] == "prepared"] == [
        "images prepared from 1 upload that could not be read, if there are any"
    ]
    assert found["gone"]["uploads"] == 1


def test_a_record_of_another_version_is_removed_too(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    item = pipeline.record()
    pipeline.dynamodb.put_item(Item={**item, "status": "UNHEARD_OF"})
    assert ask("forget", "hero", "--yes")["gone"]["records"] == 1


def test_messages_that_cannot_be_seen_are_counted(pipeline: Pipeline, stack: Stack, ask: Ask) -> None:
    body = json.dumps({"job": {"bucket": BUCKET, "character": "hero", "pose": "walk", "upload": None}})
    for url in (pipeline.queue_url, pipeline.submit_queue_url):
        pipeline.sqs.send_message(QueueUrl=url, MessageBody=body)
    pipeline.sqs.receive_message(QueueUrl=pipeline.queue_url, VisibilityTimeout=600)
    found = ask("forget", "hero", "--yes")
    assert found["gone"]["messages"] == 1
    (stay,) = [stay for stay in found["stays"] if stay["where"] == "messages"]
    assert stay["what"] == "1 message in the queues, delayed or in flight, may be about it"


@pytest.mark.parametrize("name", ["", "incoming/", "a//b", "a/poses", "a/poses/b", "../a", "a\nb"])
def test_names_that_no_character_has(name: str) -> None:
    with pytest.raises(Refused, match="cannot be the name of a character"):
        character_of(name, UploadLayout())


@pytest.mark.parametrize(
    ("key", "character"),
    [
        ("incoming/hero/face.png", "hero"),
        ("incoming/a/hero/Poses/walk.png", "a/hero"),
        ("incoming/hero/poses/deep/er.png", "hero"),
        ("incoming/hero//._x", "hero"),
        ("incoming/hero/", "hero"),
        ("incoming/", ""),
        ("elsewhere/hero/face.png", ""),
    ],
)
def test_whose_folder_a_key_lies_in(key: str, character: str) -> None:
    assert folder_of(key, UploadLayout()) == character


def test_whose_output_a_key_is() -> None:
    job_id = "a-walk-0123456789abcdef"
    assert _job_of(f"walk/{job_id}/1/1.png", "a") == job_id
    assert _job_of(f"walk/{job_id}/1/result.json", "a") == job_id
    for other in (f"walk/pose/{job_id}/1/1.png", "walk/notes.txt", f"sit/{job_id}/1/1.png", f"walk/{job_id}"):
        assert _job_of(other, "a") is None


def test_which_messages_are_about_it() -> None:
    about = About("hero", UploadLayout(), {"hero-walk-0123456789abcdef"}.__contains__)
    execution = {"detail-type": "Step Functions Execution Status Change", "detail": {"input": '{"character": "hero"}'}}
    assert about(json.dumps(execution))
    assert about('{"requestPayload": {"rescue": "hero-walk-0123456789abcdef", "attempt": 1}}')
    for other in ("no JSON", "{}", '{"cancel": "waiting/hero/sub/pose", "attempt": 1}', '{"detail": {}}', "[1]"):
        assert not about(other)


def test_the_whole_table_is_read_once(pipeline: Pipeline, stack: Stack) -> None:
    calls: list[str] = []
    pipeline.hook("dynamodb", "Scan", lambda **_: calls.append("Scan"))
    Forgetting(stack, "hero").find()
    assert calls == ["Scan"]


def test_a_breaker_of_others_is_left_as_it_is(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.provider.submits = [httpx.Response(503)]
    pipeline.upload(("incoming/b/face.png", image()), ("incoming/b/pose.png", WALK[1]))
    before = pipeline.item("breaker")
    ask("forget", "hero", "--yes")
    assert pipeline.item("breaker") == before
