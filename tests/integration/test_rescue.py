"""Pictures whose result is gone are fetched through the provider's history, so that nothing paid is lost."""

import json
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import httpx
import jsonschema
import pytest

from posedrop import settings
from posedrop.contract.errors import DeliveryFailed
from tests.integration.conftest import BASE_URL, Pipeline, Provider, clock_module, load
from tests.support import Context, image, load_event, schema

HISTORY_HOST = "history.test"
FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
FIRST, SECOND = image("png", (16, 12), "green"), image("png", (16, 12), "red")
GONE = httpx.Response(404, json={"error": "Request not found"})


class Forgetful(Provider):
    """A provider that has forgotten its results, while its history has a row for each picture of request-1.

    rows: what the history has; fault: what it answers instead; by_id: whether it can be asked for one request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows = [self.row(1)]
        self.fault: httpx.Response | Exception | None = None
        self.by_id = True
        self.asked: list[str] = []
        self.statuses = [GONE]
        self.results = [GONE]
        self.pictures: dict[str, bytes | httpx.Response] = {"/media/1.png": FIRST, "/media/2.png": SECOND}

    @staticmethod
    def row(number: int, **changes: Any) -> dict[str, Any]:
        url = f"{BASE_URL}/media/{number}.png"
        known = {"request_id": "request-1", "model_status": "COMPLETED", "generation_url": url, "latency_ms": 31060}
        return {**known, "credits_deduction": 0.05, **changes}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.url.host == HISTORY_HOST:
            return self._history(path)
        if path.startswith("/media/"):
            self.requests.append(request)
            found = self.pictures.get(path, httpx.Response(404))
            # A stream, as one from a network, that can be read in any way but once.
            return httpx.Response(200, stream=httpx.ByteStream(found)) if isinstance(found, bytes) else found
        return super().__call__(request)

    def _history(self, path: str) -> httpx.Response:
        self.asked.append(path)
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault:
            return self.fault
        if path.endswith("/request-history"):
            return httpx.Response(200, json={"generations": self.rows})
        found = [row for row in self.rows if path.endswith(f"/{row['request_id']}")]
        return httpx.Response(200, json=found[0]) if found and self.by_id else GONE


@pytest.fixture
def provider() -> Forgetful:
    return Forgetful()


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SEGMIND_HISTORY_URL", f"https://{HISTORY_HOST}")
    monkeypatch.setenv("DELIVER_FUNCTION", "deliver")
    monkeypatch.setenv("WAITING_ALERT_HOURS", "24")
    return environment


class Rescued:
    """The pipeline with one job that is submitted, and the sweep."""

    def __init__(self, pipeline: Pipeline, provider: Forgetful, module: Any, **parameters: Any) -> None:
        self.pipeline = pipeline
        self.provider = provider
        self.module = module
        self.invoked: list[dict[str, Any]] = []
        pipeline.hook("lambda", "Invoke", self._invoke)
        pipeline.put(*FACE)
        pipeline.put("incoming/hero/job.json", {"prompt": "rain", **parameters})
        pipeline.upload(WALK)

    def _invoke(self, params: dict[str, Any], **_: Any) -> Any:
        self.invoked.append(json.loads(params["body"]))
        return SimpleNamespace(status_code=202), {"StatusCode": 202}

    def end(self) -> None:
        """Let the job's execution run to its end."""
        (execution,) = self.pipeline.executions().values()
        self.pipeline.run(execution)

    def deliver(self, **changes: Any) -> dict[str, Any]:
        """Let `deliver` end the job as the state machine does, with changes of its sample event."""
        event = {**load_event("deliver.json"), "job_id": self.pipeline.record()["job_id"], **changes}
        answer: dict[str, Any] = self.pipeline.deliver.handler(event, Context(300))
        return answer

    def sweep(self, after: float, **event: Any) -> list[bool]:
        """Let time pass and sweep; return of each rescue that it asked for whether it worked."""
        self.pipeline.clock.now += after
        self.module.handler(event, Context(300))
        self.pipeline.drain()
        asked, self.invoked = [event for event in self.invoked if "rescue" in event], []
        return [self.pipeline.deliver.handler(each, Context(300))["rescued"] for each in asked]

    def notified(self) -> list[dict[str, Any]]:
        """The notifications since the last call; each fits its schema."""
        found = self.pipeline.notifications()
        for each in found:
            jsonschema.validate(each, schema("notification"), cls=jsonschema.Draft7Validator)
        return found

    def fail(self, error: str = "ResultExpired") -> dict[str, Any]:
        """Let the job fail while the history cannot be asked, and return what was notified."""
        self.provider.fault = httpx.Response(503)
        self.deliver(error={"type": error, "message": "why"})
        self.provider.fault = None
        (notified,) = self.notified()
        return notified


@pytest.fixture
def start(pipeline: Pipeline, provider: Forgetful, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rescued]:
    module = load("sweep")
    monkeypatch.setattr(module, "time", clock_module(pipeline.clock))
    return lambda **parameters: Rescued(pipeline, provider, module, **parameters)


@pytest.fixture
def job(start: Callable[..., Rescued]) -> Rescued:
    return start()


# ---- before the job is failed ----------------------------------------------------------------------------------------


def test_a_result_that_is_not_known_any_more_is_fetched_from_the_history(job: Rescued) -> None:
    job.end()
    (notified,) = job.notified()
    assert (notified["status"], notified["attempt"], notified["error"]) == ("SUCCEEDED", 1, None)
    assert (notified["metrics"]["rescued"], notified["metrics"]["cost_usd"]) == (True, 0.05)
    assert notified["metrics"]["inference_seconds"] == 31.06
    folder = f"outputs/hero/walk/{notified['job_id']}/1"
    stored = job.pipeline.outputs()
    assert json.loads(stored.pop(f"{folder}/result.json")) == notified
    assert stored == {f"{folder}/1.png": FIRST}
    assert len(job.provider.posts) == 1
    assert job.pipeline.gate().budgets.read(job.pipeline.clock.now).day == 0.05


@pytest.mark.parametrize("error", ["ResultExpired", "TimedOut"])
def test_an_end_that_poll_saw_is_rescued(job: Rescued, error: str) -> None:
    answer = job.deliver(error={"type": error, "message": "why"})
    assert answer["status"] == "SUCCEEDED"
    assert [notified["metrics"]["rescued"] for notified in job.notified()] == [True]


def test_a_dead_link_is_replaced_once_the_delivery_was_given_up(job: Rescued) -> None:
    body = {"status": "COMPLETED", "output": f"{BASE_URL}/media/dead.png", "metrics": {}}
    job.provider.results = [httpx.Response(200, json=body)]
    with pytest.raises(Exception, match="404"):
        job.deliver()
    job.deliver(deliver_fault={"error": "DeliveryFailed", "cause": '{"errorMessage": "HTTP status 404"}'})
    (notified,) = job.notified()
    assert (notified["status"], notified["metrics"]["rescued"]) == ("SUCCEEDED", True)


def test_an_execution_that_ended_without_notifying_is_rescued(job: Rescued) -> None:
    event = load_event("deliver-execution-failed.json")
    given = {"job_id": job.pipeline.record()["job_id"], "attempt": 1}
    event["detail"] |= {"status": "FAILED", "input": json.dumps(given)}
    job.pipeline.deliver.handler(event, Context(300))
    (notified,) = job.notified()
    assert (notified["status"], notified["metrics"]["rescued"]) == ("SUCCEEDED", True)


@pytest.mark.parametrize("by_id", [True, False], ids=["by id", "only the list"])
def test_every_picture_is_fetched_once(start: Callable[..., Rescued], provider: Forgetful, by_id: bool) -> None:
    job = start(samples=2)
    provider.by_id = by_id
    provider.rows = [provider.row(1), {"request_id": "request-9"}, provider.row(2), provider.row(2)]
    job.deliver(error={"type": "ResultExpired", "message": "why"})
    (notified,) = job.notified()
    assert [output["key"].rpartition("/")[2] for output in notified["outputs"]] == ["1.png", "2.png"]
    assert [data for key, data in job.pipeline.outputs().items() if key.endswith("png")] == [FIRST, SECOND]
    assert notified["metrics"]["cost_usd"] == 0.05  # each row has the whole cost


NOTHING: dict[str, Callable[[Forgetful], object]] = {
    "not in the history": lambda provider: provider.rows.clear(),
    "failed there": lambda provider: provider.rows.__setitem__(0, provider.row(1, model_status="FAILED")),
    "no link": lambda provider: provider.rows.__setitem__(0, provider.row(1, generation_url=None)),
    "a dead link": lambda provider: provider.pictures.clear(),
    "no image": lambda provider: provider.pictures.update({"/media/1.png": b"<html>"}),
    "an address that may not be asked": lambda provider: provider.rows.__setitem__(
        0, provider.row(1, generation_url="http://169.254.169.254/1.png")
    ),
    "turned off": lambda provider: setattr(provider, "fault", httpx.Response(410)),
    "down": lambda provider: setattr(provider, "fault", httpx.ConnectError("refused")),
    "no JSON": lambda provider: setattr(provider, "fault", httpx.Response(200, html="<html>")),
    "no rows": lambda provider: setattr(provider, "fault", httpx.Response(200, json={"detail": "moved"})),
}


@pytest.mark.parametrize("why", NOTHING)
def test_what_cannot_be_rescued_fails_as_it_would_without(job: Rescued, why: str) -> None:
    NOTHING[why](job.provider)
    job.deliver(error={"type": "ResultExpired", "message": "gone"})
    (notified,) = job.notified()
    assert (notified["status"], notified["error"]) == ("FAILED", {"type": "ResultExpired", "message": "gone"})
    assert notified["metrics"]["rescued"] is False
    assert not [key for key in job.pipeline.outputs() if key.endswith("result.json")]


@pytest.mark.parametrize("error", ["InferenceFailed", "Rejected"])
def test_an_end_that_made_nothing_is_not_asked_for(job: Rescued, error: str) -> None:
    job.deliver(error={"type": error, "message": "why"})
    assert (job.notified()[0]["status"], job.provider.asked) == ("FAILED", [])
    assert job.sweep(2 * HOUR) == []


# ---- later, by the sweep ---------------------------------------------------------------------------------------------


def test_a_failed_job_is_rescued_later_as_an_attempt_that_cost_nothing(job: Rescued) -> None:
    charged_at = job.pipeline.clock.now
    failed = job.fail()
    assert job.sweep(5 * MINUTE) == []  # once soon, but not at once
    assert job.sweep(HOUR) == [True]
    (notified,) = job.notified()
    assert (failed["status"], failed["attempt"]) == ("FAILED", 1)
    assert (notified["status"], notified["attempt"], notified["request_id"]) == ("SUCCEEDED", 2, "request-1")
    assert (notified["metrics"]["rescued"], notified["metrics"]["cost_usd"]) == (True, 0)
    folder = f"outputs/hero/walk/{notified['job_id']}/2"
    assert set(job.pipeline.outputs()) == {f"{folder}/1.png", f"{folder}/result.json"}
    assert len(job.provider.posts) == 1
    record = job.pipeline.record()
    assert record["notified_at"]
    assert "unfinished" not in record
    assert float(record["requests"][0]["cost_usd"]) == 0.05
    assert job.pipeline.gate().budgets.read(charged_at).day == 0.05  # it may be tomorrow now
    assert job.sweep(2 * DAY) == []


def test_what_is_rescued_later_goes_to_every_channel_again(
    start: Callable[..., Rescued], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_BUS_NAME", "images")
    settings.from_environment.cache_clear()
    job = start()
    events: list[dict[str, Any]] = []

    def put(params: dict[str, Any], **_: Any) -> Any:
        events.extend(json.loads(entry["Detail"]) for entry in json.loads(params["body"])["Entries"])
        return SimpleNamespace(status_code=200), {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}

    job.pipeline.hook("events", "PutEvents", put)
    failed = job.fail()
    assert job.sweep(HOUR) == [True]
    assert [failed, *job.notified()] == events
    assert [event["status"] for event in events] == ["FAILED", "SUCCEEDED"]


@pytest.mark.parametrize("error", ["TimedOut", "OutputInvalid", "InternalError"])
def test_which_failures_are_rescued_later(job: Rescued, error: str) -> None:
    job.fail(error)
    assert job.sweep(HOUR) == [True]


def test_a_picture_that_is_not_there_yet_is_tried_once_a_day_for_a_week(job: Rescued) -> None:
    job.provider.rows.clear()
    job.fail()
    tries = [hour for hour in range(1, 24 * 9) if job.sweep(HOUR)]
    assert tries[0] == 1
    assert {later - earlier for earlier, later in pairwise(tries)} <= {24, 25}
    assert len(tries) == 7
    assert max(tries) < 7 * 24
    assert "unfinished" not in job.pipeline.record()
    assert job.notified() == []


def test_a_run_of_deliver_that_is_lost_is_asked_for_by_the_next_sweep(job: Rescued) -> None:
    job.fail()
    job.pipeline.clock.now += HOUR
    job.module.handler({}, Context(300))
    assert [event for event in job.invoked if "rescue" in event]
    job.invoked.clear()
    assert job.sweep(HOUR) == [True]
    assert [notified["attempt"] for notified in job.notified()] == [2]


def test_what_may_work_soon_is_tried_by_the_next_sweep(job: Rescued) -> None:
    job.fail()
    job.provider.fault = httpx.Response(503)
    assert [job.sweep(HOUR), job.sweep(HOUR), job.sweep(HOUR)] == [[False], [False], [False]]
    job.provider.fault = None
    job.pipeline.break_call("s3", "PutObject", times=1)
    assert job.sweep(HOUR) == [False]
    assert job.sweep(HOUR) == [True]
    assert [notified["attempt"] for notified in job.notified()] == [2]


def test_a_result_json_that_could_not_be_stored_is_stored_later(job: Rescued) -> None:
    down = True

    def refuse(params: dict[str, Any], **_: Any) -> Any:
        if down and params["url_path"].endswith("result.json"):
            return SimpleNamespace(status_code=503), {"Error": {"Code": "ServiceUnavailable", "Message": "down"}}
        return None

    job.pipeline.hook("s3", "PutObject", refuse)
    with pytest.raises(DeliveryFailed):
        job.deliver()
    assert job.notified() == []
    job.deliver(deliver_fault={"error": "DeliveryFailed", "cause": '{"errorMessage": "down"}'})
    assert [notified["status"] for notified in job.notified()] == ["SUCCEEDED"]
    assert not [key for key in job.pipeline.outputs() if key.endswith("result.json")]
    assert job.sweep(HOUR) == [False]
    down = False
    assert job.sweep(HOUR) == [True]
    assert [key for key in job.pipeline.outputs() if key.endswith("/1/result.json")]
    assert job.sweep(25 * HOUR) == []
    assert job.notified() == []
    assert "unfinished" not in job.pipeline.record()


def test_without_a_history_nothing_is_tried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.getfixturevalue("environment")
    monkeypatch.setenv("SEGMIND_HISTORY_URL", "")
    job: Rescued = request.getfixturevalue("start")()
    job.fail()
    assert "unfinished" not in job.pipeline.record()
    assert job.sweep(2 * HOUR) == []


def test_a_rescue_whose_function_dies_before_it_notifies_is_notified(job: Rescued) -> None:
    job.fail()
    job.pipeline.break_call("sns", "Publish", times=1)
    with pytest.raises(Exception, match="broken by the test"):
        job.sweep(HOUR)
    assert job.notified() == []
    job.sweep(HOUR)
    *_, execution = job.pipeline.executions().values()
    job.pipeline.run(execution)
    assert [(notified["status"], notified["attempt"]) for notified in job.notified()] == [("SUCCEEDED", 2)]


def test_a_retry_goes_before_a_rescue(job: Rescued) -> None:
    job.fail()
    job.pipeline.clock.now += HOUR
    job.module.handler({}, Context(300))
    (asked,) = [event for event in job.invoked if "rescue" in event]
    job.provider.statuses = [httpx.Response(503)]
    job.pipeline.handle({"retry": job.pipeline.record()["job_id"]})
    assert job.pipeline.deliver.handler(asked, Context(300))["rescued"] is False
    assert job.pipeline.record()["attempt"] == 2
    assert job.notified() == []


# ---- before a retry buys ---------------------------------------------------------------------------------------------


def retry(job: Rescued) -> dict[str, Any]:
    """Ask for a new attempt, let it run for a quarter of an hour, and return the execution's outcome."""
    job.pipeline.handle({"retry": job.pipeline.record()["job_id"]})
    job.pipeline.live(15 * MINUTE)
    *_, execution = job.pipeline.executions().values()
    job.pipeline.run(execution)
    (notified,) = job.notified()
    return notified


def test_a_retry_buys_nothing_that_the_history_leads_to(job: Rescued) -> None:
    job.fail()
    notified = retry(job)
    assert (notified["status"], notified["attempt"], notified["metrics"]["rescued"]) == ("SUCCEEDED", 2, True)
    assert notified["metrics"]["cost_usd"] == 0
    assert len(job.provider.posts) == 1


def test_a_retry_waits_for_a_history_that_is_down(job: Rescued) -> None:
    job.fail()
    job.provider.fault = httpx.Response(503)
    job.pipeline.handle({"retry": job.pipeline.record()["job_id"]})
    job.pipeline.live(5 * MINUTE)
    assert len(job.provider.posts) == 1
    assert job.pipeline.record()["reason_code"] == "EARLIER_REQUEST"
    job.provider.fault = None
    job.pipeline.live(5 * MINUTE)
    assert (len(job.provider.posts), job.pipeline.record()["status"]) == (1, "SUBMITTED")


@pytest.mark.parametrize("why", ["not in the history", "failed there", "turned off", "down"])
def test_a_retry_buys_what_is_lost(job: Rescued, why: str) -> None:
    job.fail()
    NOTHING[why](job.provider)
    job.pipeline.handle({"retry": job.pipeline.record()["job_id"]})
    job.pipeline.live(20 * MINUTE)
    assert len(job.provider.posts) == 2
    assert [request["status"] for request in job.pipeline.record()["requests"]] == ["GONE", "ACCEPTED"]


def test_a_week_later_the_history_is_not_asked(job: Rescued) -> None:
    job.fail()
    job.provider.asked.clear()
    job.pipeline.clock.now += 8 * DAY
    job.pipeline.handle({"retry": job.pipeline.record()["job_id"]})
    job.pipeline.live(5 * MINUTE)
    assert (len(job.provider.posts), job.provider.asked) == (2, [])
