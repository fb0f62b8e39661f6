"""deliver on moto: every shape of output, every fault, every crash, and each end notified once."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import boto3
import httpx
import jsonschema
import pytest

from posedrop.aws.ledger import Ledger
from posedrop.contract.errors import DeliveryFailed, InferenceFailed
from posedrop.deliver.delivery import DEFERRALS
from tests.aws import Copy, restore, saved
from tests.integration.conftest import API_KEY, BASE_URL, BUCKET, OUTPUTS, TABLE, Pipeline
from tests.support import Context, image, load_event, schema

JOB_ID = "hero-walk-0123456789abcdef"
PNG, JPEG, WEBP = image("png", (16, 12)), image("jpeg", (9, 7)), image("webp", (5, 3))
RED = image("png", (4, 4), "red")
PUBLIC = "https://images.segmind.com"


_submitted: list[tuple[float, Copy]] = []
"""The time at which the job was submitted, and all that AWS held then."""


class Delivering:
    """A job that the provider has finished, and the handler that ends it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.provider = pipeline.provider
        if not _submitted:
            pipeline.put("incoming/hero/face.png", PNG)
            pipeline.put("incoming/hero/job.json", {"prompt": "rain", "context": {"order": [1.5, None]}})
            assert pipeline.handle(pipeline.put("incoming/hero/poses/walk.png", PNG))
            assert not pipeline.later
            _submitted.append((pipeline.clock.now, saved()))
        else:  # submitting would take longer than most tests
            ((pipeline.clock.now, made),) = _submitted
            restore(made)
        self.job_id = str(pipeline.record()["job_id"])
        self.folder = f"outputs/hero/walk/{self.job_id}/1"
        self.provider.requests.clear()

    def event(self, name: str = "deliver.json") -> dict[str, Any]:
        """A sample event, about this job."""
        text = json.dumps(load_event(name))
        assert JOB_ID in text
        event: dict[str, Any] = json.loads(text.replace(JOB_ID, self.job_id))
        return event

    def deliver(self, event: str | dict[str, Any] = "deliver.json", seconds: float = 300.0) -> dict[str, Any]:
        """Invoke the handler."""
        given = self.event(event) if isinstance(event, str) else event
        answer: dict[str, Any] = self.pipeline.deliver.handler(given, Context(seconds))
        return answer

    def output(self, output: Any, *media: bytes | httpx.Response | Exception) -> None:
        """Let the provider's result name this output, and its media be these."""
        body = {"status": "COMPLETED", "error": None, "metrics": {"inference_time": 31.06}, "output": output}
        self.provider.results = [httpx.Response(200, json=body)]
        if media:
            self.provider.media = [httpx.Response(200, content=m) if isinstance(m, bytes) else m for m in media]

    def notified(self) -> dict[str, Any]:
        """The only notification; it fits its schema."""
        (found,) = self.pipeline.notifications()
        jsonschema.validate(found, schema("notification"), cls=jsonschema.Draft7Validator)
        return found

    def failure(self) -> tuple[str, str]:
        """Type and message of the only notification, which ledger and answer agree with."""
        found = self.notified()
        record = self.pipeline.record()
        assert (record["status"], record["error"]) == ("FAILED", found["error"])
        assert not record.get("outputs")
        assert found["outputs"] == []
        return found["error"]["type"], found["error"]["message"]


@pytest.fixture
def delivering(pipeline: Pipeline) -> Delivering:
    """A pipeline with the job of the sample events, submitted."""
    return Delivering(pipeline)


@pytest.fixture(autouse=True)
def public_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name resolves to a public address."""
    answer = [(2, 1, 6, "", ("93.184.216.34", 443))]
    monkeypatch.setattr("posedrop.segmind.downloads.socket.getaddrinfo", lambda *_, **__: answer)


# ---- success -------------------------------------------------------------------------------------------------------


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


SHAPES: dict[str, tuple[Any, list[bytes]]] = {
    "url": (f"{PUBLIC}/1.png", [PNG]),
    "url of the provider itself": (f"{BASE_URL}/media/1.png", [PNG]),
    "list": ([f"{PUBLIC}/1", f"{PUBLIC}/2"], [PNG, JPEG]),
    "four samples": ([f"{PUBLIC}/{n}" for n in range(4)], [PNG, JPEG, WEBP, PNG]),
    "object": ({"url": f"{PUBLIC}/1"}, [WEBP]),
    "list of objects": ([{"url": f"{PUBLIC}/1"}, {"url": f"{PUBLIC}/2"}], [PNG, WEBP]),
    "list in a string": (json.dumps([f"{PUBLIC}/1", f"{PUBLIC}/2"]), [PNG, JPEG]),
    "object in a string": (json.dumps({"images": [{"url": f"{PUBLIC}/1"}]}), [PNG]),
    "base64": (encoded(PNG), [PNG]),
    "data url": (f"data:image/jpeg;base64,{encoded(JPEG)}", [JPEG]),
    "data url of another type": (f"data:image/png;base64,{encoded(WEBP)}", [WEBP]),
    "four in base64": ([encoded(PNG), f"data:image/png;base64,{encoded(JPEG)}", encoded(WEBP), encoded(RED)],
                       [PNG, JPEG, WEBP, RED]),
    "base64 in an object": ({"image": encoded(JPEG)}, [JPEG]),
    "one of four once more": ({"images": [f"{PUBLIC}/{n}" for n in range(4)], "image_url": f"{PUBLIC}/0"},
                              [PNG, JPEG, WEBP, PNG]),
    "more than four": ([f"{PUBLIC}/{n}" for n in range(16)], [PNG, JPEG, WEBP, RED]),
    "a url and the same in base64": ({"image": encoded(PNG), "url": f"{PUBLIC}/1"}, [PNG]),
    "a url and another in base64": ({"image": encoded(RED), "url": f"{PUBLIC}/1"}, [PNG, RED]),
    "the same twice in base64": ([encoded(PNG), f"data:image/png;base64,{encoded(PNG)}"], [PNG]),
}  # fmt: skip
KINDS = {
    PNG: ("png", "image/png", 16, 12),
    JPEG: ("jpg", "image/jpeg", 9, 7),
    WEBP: ("webp", "image/webp", 5, 3),
    RED: ("png", "image/png", 4, 4),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_output(delivering: Delivering, shape: str) -> None:
    output, images = SHAPES[shape]
    delivering.output(output, *images)
    answer = delivering.deliver()
    notified = delivering.notified()
    expected = []
    for number, data in enumerate(images, start=1):
        extension, content_type, width, height = KINDS[data]
        key = f"{delivering.folder}/{number}.{extension}"
        head = delivering.pipeline.s3.head_object(Bucket=OUTPUTS, Key=key)
        assert head["ContentType"] == content_type
        expected.append(
            {
                "bucket": OUTPUTS,
                "key": key,
                "uri": f"s3://{OUTPUTS}/{key}",
                "url": None,
                "content_type": content_type,
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "width": width,
                "height": height,
            }
        )
    assert notified["outputs"] == expected
    assert answer["outputs"] == [output["uri"] for output in expected]
    stored = delivering.pipeline.outputs()
    result = stored.pop(f"{delivering.folder}/result.json")
    assert json.loads(result) == notified
    assert list(stored.values()) == images


@pytest.mark.parametrize("body", [{"images": [f"{PUBLIC}/1", f"{PUBLIC}/2"], "output": f"{PUBLIC}/1"}, {"image": RED}])
def test_images_beside_the_output_are_delivered_as_well(delivering: Delivering, body: dict[str, Any]) -> None:
    images = [PNG, RED] if "images" in body else [RED]
    texts = {key: encoded(value) if isinstance(value, bytes) else value for key, value in body.items()}
    delivering.output(None, *images)
    delivering.provider.results = [httpx.Response(200, json={"status": "COMPLETED", "metrics": {}, **texts})]
    delivering.deliver()
    assert [output["bytes"] for output in delivering.notified()["outputs"]] == [len(data) for data in images]


def test_what_is_notified_of_a_success(delivering: Delivering) -> None:
    delivering.pipeline.clock.now += 36.25
    answer = delivering.deliver()
    (message,) = delivering.pipeline.receive(delivering.pipeline.notifications_url)
    envelope = json.loads(message["Body"])
    notified = json.loads(envelope["Message"])
    assert {name: found["Value"] for name, found in envelope["MessageAttributes"].items()} == {
        "status": "SUCCEEDED",
        "character": "hero",
    }
    assert notified["metrics"] == {
        "inference_seconds": 31.06,
        "total_seconds": pytest.approx(36.25, abs=0.002),  # the ledger's times are cut to milliseconds
        "polls": 3,
        "cost_usd": None,
        "rescued": False,
    }
    assert (notified["request_id"], notified["attempt"], notified["context"]) == (
        "request-1",
        1,
        {"order": [1.5, None]},
    )
    assert notified["inputs"]["face"] == {
        "bucket": BUCKET,
        "key": "incoming/hero/face.png",
        "version_id": delivering.pipeline.s3.head_object(Bucket=BUCKET, Key="incoming/hero/face.png")["VersionId"],
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "prepared": None,
    }
    assert (answer["status"], answer["error"]) == ("SUCCEEDED", None)
    record = delivering.pipeline.record()
    for key in ("status", "outputs", "completed_at", "request_id", "submitted_at"):
        assert record[key] == notified[key]
    assert record["notified_at"]


@pytest.fixture
def metrics(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, list[float]]]:
    """Gives the values of the metrics that were written since it was last asked, by their names."""

    def read() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for line in capsys.readouterr().out.splitlines():
            data = json.loads(line)
            for directive in data.get("_aws", {}).get("CloudWatchMetrics", []):
                for metric in directive["Metrics"]:
                    found.setdefault(metric["Name"], []).extend(data[metric["Name"]])
        return found

    return read


def test_the_metrics_of_a_success(delivering: Delivering, metrics: Callable[[], dict[str, list[float]]]) -> None:
    delivering.pipeline.clock.now += 36.25
    metrics()
    delivering.deliver()
    found = metrics()
    assert (found["Succeeded"], found["Polls"], found["InferenceSeconds"]) == ([1], [3], [31.06])
    assert found["EndToEndSeconds"] == [pytest.approx(36.25, abs=0.002)]


def test_the_metrics_of_a_failure_count_its_polls_too(
    delivering: Delivering, metrics: Callable[[], dict[str, list[float]]]
) -> None:
    delivering.provider.results = [httpx.Response(422, json={"status": "FAILED", "error": "blocked"})]
    metrics()
    delivering.deliver()
    found = metrics()
    assert (found["Failed"], found["FailedByType"], found["Polls"]) == ([1], [1], [3])
    assert "EndToEndSeconds" not in found


def test_a_second_attempt_says_no_time_since_the_first(
    delivering: Delivering, metrics: Callable[[], dict[str, list[float]]]
) -> None:
    delivering.pipeline.dynamodb.update_item(
        Key={"job_id": delivering.job_id},
        UpdateExpression="SET attempt = :two",
        ExpressionAttributeValues={":two": 2},
    )
    metrics()
    delivering.deliver({**delivering.event(), "attempt": 2})
    found = metrics()
    assert (found["Succeeded"], found["InferenceSeconds"]) == ([1], [31.06])
    assert "EndToEndSeconds" not in found


@pytest.mark.parametrize(("number", "warns"), [(4, False), (5, True), (16, True)])
def test_more_outputs_than_expected_are_logged(
    delivering: Delivering, logs: Callable[[], list[Any]], number: int, warns: bool
) -> None:
    delivering.output({"images": [f"{PUBLIC}/{n}" for n in range(number)], "image_url": f"{PUBLIC}/0"}, PNG)
    delivering.deliver()
    assert len(delivering.notified()["outputs"]) == len(delivering.pipeline.record()["outputs"]) == 4
    media = [request.url.path for request in delivering.provider.requests if "/v2/" not in request.url.path]
    assert media == ["/0", "/1", "/2", "/3"]
    warnings = [line["message"] for line in logs() if line["level"] == "WARNING"]
    assert warnings == ["more outputs than expected: the first are delivered"] * warns


def test_result_json_is_written_last(delivering: Delivering) -> None:
    keys: list[str] = []
    delivering.pipeline.hook("s3", "PutObject", lambda params, **_: keys.append(params["url_path"]))
    delivering.output([f"{PUBLIC}/1", f"{PUBLIC}/2"], PNG)
    delivering.deliver()
    assert [key.rpartition("/")[2] for key in keys] == ["1.png", "2.png", "result.json"]


def test_the_key_goes_to_the_provider_only(delivering: Delivering) -> None:
    moved = httpx.Response(302, headers={"location": f"{PUBLIC}/moved"})
    delivering.output([f"{PUBLIC}/1", f"{BASE_URL}/media/2", f"{PUBLIC}/3"], PNG, PNG, moved, PNG)
    delivering.deliver()
    calls = [request for request in delivering.provider.requests if request.url.path.startswith("/v2/")]
    media = [request for request in delivering.provider.requests if request not in calls]
    assert [request.headers["x-api-key"] for request in calls] == [API_KEY]
    assert len(media) == 4
    for request in media:
        assert API_KEY not in str(request.headers.raw) + str(request.url)


# ---- twice, and after a crash --------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["deliver.json", "deliver-failed.json", "deliver-given-up.json"])
def test_twice_changes_nothing_and_says_once(delivering: Delivering, event: str) -> None:
    first = delivering.deliver(event)
    before = (delivering.pipeline.records(), delivering.pipeline.outputs(), len(delivering.provider.requests))
    delivering.pipeline.clock.now += 100
    assert delivering.deliver(event) == first
    assert (delivering.pipeline.records(), delivering.pipeline.outputs(), len(delivering.provider.requests)) == before
    assert delivering.notified()["status"] == first["status"]


class Crash(BaseException):
    """The function was killed."""


def killed(**_: Any) -> None:
    raise Crash


def result_json(action: Callable[..., None]) -> Callable[..., None]:
    def hook(params: dict[str, Any], **_: Any) -> None:
        if params["url_path"].endswith("result.json"):
            action()

    return hook


def ledger_write(attribute: str) -> Callable[..., None]:
    def hook(params: dict[str, Any], **_: Any) -> None:
        if f'"{attribute}"' in params["body"].decode():
            raise Crash

    return hook


CRASHES = {
    "before the ledger": ("dynamodb", "UpdateItem", ledger_write("outputs")),
    "before result.json": ("s3", "PutObject", result_json(killed)),
    "before publishing": ("sns", "Publish", killed),
    "before notified_at": ("dynamodb", "UpdateItem", ledger_write("notified_at")),
}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_run_after_a_crash_completes_the_job(delivering: Delivering, crash: str) -> None:
    end = delivering.pipeline.hook(*CRASHES[crash])
    with pytest.raises(Crash):
        delivering.deliver()
    end()
    images = {key: data for key, data in delivering.pipeline.outputs().items() if not key.endswith("json")}
    delivering.pipeline.clock.now += 5
    answer = delivering.deliver()
    assert answer["status"] == "SUCCEEDED"
    notifications = delivering.pipeline.notifications()
    assert len(notifications) == (2 if crash == "before notified_at" else 1)  # at least once
    assert all(notified == notifications[0] for notified in notifications)
    stored = delivering.pipeline.outputs()
    assert json.loads(stored.pop(f"{delivering.folder}/result.json")) == notifications[0]
    assert stored == images == {f"{delivering.folder}/1.png": image("png", (16, 12), "green")}
    assert delivering.pipeline.record()["notified_at"]


@pytest.mark.parametrize("crash", ["before publishing", "before notified_at"])
def test_a_run_after_a_crash_says_a_failure(delivering: Delivering, crash: str) -> None:
    end = delivering.pipeline.hook(*CRASHES[crash])
    with pytest.raises(Crash):
        delivering.deliver("deliver-failed.json")
    end()
    assert delivering.deliver("deliver-failed.json")["status"] == "FAILED"
    kinds = {notified["error"]["type"] for notified in delivering.pipeline.notifications()}
    assert kinds == {"InferenceFailed"}


# ---- errors that end the job ---------------------------------------------------------------------------------------

NO_IMAGE: dict[str, tuple[object, list[bytes | httpx.Response], str]] = {
    "missing": (None, [], "missing or empty"),
    "empty": ("", [], "missing or empty"),
    "empty list": ([], [], "missing or empty"),
    "a number": (17, [], "a number"),
    "plain http": ("http://images.segmind.com/1.png", [], "not https"),
    "another port of the provider": ("http://segmind.test:81/1.png", [], "not https"),
    "a file": ("file:///etc/passwd", [], "file:"),
    "html": (f"{PUBLIC}/1", [b"<html>gone</html>"], "not a PNG"),
    "empty body": (f"{PUBLIC}/1", [b""], "0 bytes"),
    "no base64": ("not base64 at all", [], "neither a URL nor valid base64"),
    "the second of two": ([f"{PUBLIC}/1", f"{PUBLIC}/2"], [PNG, b"GIF89a"], "not a PNG"),
    "too large": (
        f"{PUBLIC}/1",
        [httpx.Response(200, headers={"content-length": "256000001"}, content=PNG)],
        "more than 256000000 bytes",
    ),
}


@pytest.mark.parametrize("name", NO_IMAGE)
def test_an_output_that_is_none(delivering: Delivering, name: str) -> None:
    output, media, reason = NO_IMAGE[name]
    delivering.output(output, *media)
    answer = delivering.deliver()
    kind, message = delivering.failure()
    assert kind == answer["error"]["type"] == "OutputInvalid"
    assert reason in message
    assert answer["outputs"] == []
    assert f"{delivering.folder}/result.json" not in delivering.pipeline.outputs()


def test_an_address_that_is_not_public(delivering: Delivering, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(2, 1, 6, "", ("169.254.169.254", 443))]
    monkeypatch.setattr("posedrop.segmind.downloads.socket.getaddrinfo", lambda *_, **__: answer)
    delivering.output(f"{PUBLIC}/1", PNG)
    delivering.deliver()
    assert delivering.failure() == ("OutputInvalid", f"the output's address is not public: {PUBLIC}")


def test_failed_at_the_result(delivering: Delivering) -> None:
    delivering.provider.results = [httpx.Response(422, json={"status": "FAILED", "error": "Blocked."})]
    delivering.deliver()
    assert delivering.failure() == ("InferenceFailed", "Blocked.")


ENDS = [status for status in range(400, 500) if status not in (401, 403, 404, 408, 410, 429)]


@pytest.mark.parametrize(
    ("content", "text"),
    [(b'{"error": "No face found."}', ": No face found."), (b"<h1>Teapot</h1>", ": Teapot"), (b"", "")],
)
@pytest.mark.parametrize("status", [ENDS[0], 402, 406, 409, 413, 418, 422, 451, ENDS[-1]])
def test_a_result_that_is_refused_is_the_end(delivering: Delivering, status: int, content: bytes, text: str) -> None:
    delivering.provider.results = [httpx.Response(status, content=content)]
    delivering.deliver()
    assert delivering.failure() == ("InferenceFailed", f"the provider answered {status}{text}")


def test_which_statuses_of_the_result_refuse_it(delivering: Delivering) -> None:
    record = Ledger(boto3.client("dynamodb"), TABLE, 0).get(delivering.job_id)
    assert record
    found = []
    for status in range(100, 600):
        delivering.provider.results = [httpx.Response(status, json={"error": "why"})]
        try:
            delivering.pipeline.deliver.deliver().delivery._fetching._result(record, "request-1")
        except InferenceFailed:
            found.append(status)
        except DeliveryFailed:
            pass
    assert found == ENDS


def test_a_response_about_another_request_is_unusable(delivering: Delivering, logs: Callable[[], list[Any]]) -> None:
    good = delivering.provider.results
    for status, body in (
        (200, {"status": "COMPLETED", "output": f"{PUBLIC}/another.png"}),
        (200, {"status": "FAILED", "error": "blocked"}),
        (422, {"status": "FAILED", "error": "blocked"}),
    ):
        delivering.provider.results = [httpx.Response(status, json={**body, "request_id": "request-2"}), *good]
        with pytest.raises(DeliveryFailed, match="about another request: request-2"):
            delivering.deliver()
        assert "request-2" in logs()[-1]["reason"]
    assert (delivering.pipeline.notifications(), delivering.pipeline.outputs()) == ([], {})
    assert delivering.deliver()["status"] == "SUCCEEDED"
    assert delivering.notified()["request_id"] == "request-1"


@pytest.mark.parametrize("kind", ["InferenceFailed", "TimedOut", "ResultExpired"])
def test_an_end_that_poll_saw_is_notified_without_asking_again(delivering: Delivering, kind: str) -> None:
    answer = delivering.deliver({**delivering.event("deliver-failed.json"), "error": {"type": kind, "message": "why"}})
    assert answer["error"] == {"type": kind, "message": "why"}
    assert delivering.failure() == (kind, "why")
    assert delivering.provider.requests == []


def test_attributes_of_a_failure(delivering: Delivering) -> None:
    delivering.deliver("deliver-failed.json")
    (message,) = delivering.pipeline.receive(delivering.pipeline.notifications_url)
    attributes = json.loads(message["Body"])["MessageAttributes"]
    assert {name: found["Value"] for name, found in attributes.items()} == {
        "status": "FAILED",
        "character": "hero",
        "error_type": "InferenceFailed",
    }


@pytest.mark.parametrize(
    ("waits", "ends"), [([31], False), ([31, 29], False), ([31, 31], True), ([5, 31], False), ([5, 31, 25], True)]
)
@pytest.mark.parametrize("status", [404, 410])
def test_404_at_the_result_is_the_end_once_seen_twice_and_late(
    delivering: Delivering, status: int, waits: list[float], ends: bool
) -> None:
    delivering.provider.results = [httpx.Response(status, json={"error": "unknown"})]
    for wait in waits[:-1]:
        delivering.pipeline.clock.now += wait
        with pytest.raises(DeliveryFailed):
            delivering.deliver()
    delivering.pipeline.clock.now += waits[-1]
    if ends:
        assert delivering.deliver()["error"]["type"] == "ResultExpired"
        assert delivering.failure()[0] == "ResultExpired"
    else:
        with pytest.raises(DeliveryFailed):
            delivering.deliver()
        assert delivering.pipeline.notifications() == []


def test_a_job_that_ended_before_it_was_sent(pipeline: Pipeline) -> None:
    pipeline.upload(("incoming/hero/face.png", PNG[:-20]), ("incoming/hero/poses/walk.png", PNG))
    (execution,) = pipeline.executions().values()
    assert set(execution) == set(load_event("deliver-ended-before.json"))
    assert pipeline.run(execution)["status"] == "FAILED"
    (notified,) = pipeline.notifications()
    jsonschema.validate(notified, schema("notification"), cls=jsonschema.Draft7Validator)
    assert notified["error"]["type"] == "InvalidInput"
    assert "face.png" in notified["error"]["message"]
    assert pipeline.provider.requests == []


# ---- faults that may pass ------------------------------------------------------------------------------------------

MEDIA_FAULTS = [
    httpx.Response(200, content=PNG[:-1]),
    httpx.Response(404),
    httpx.Response(503, text="<html>"),
    httpx.Response(403, text="<Error>Request has expired</Error>"),
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.ReadTimeout("slow"),
]


def give_up(delivering: Delivering, fault: Exception) -> None:
    """Do what the state machine does once it has retried for long enough."""
    cause = {
        "errorMessage": str(fault),
        "errorType": type(fault).__name__,
        "requestId": "4a2e1a7c",
        "stackTrace": ['  File "/var/task/app.py", line 1, in handler\n'] * 200,
    }
    event = delivering.event("deliver-given-up.json")
    event["deliver_fault"] = {"error": type(fault).__name__, "cause": json.dumps(cause)[:4000]}
    delivering.deliver(event)


@pytest.mark.parametrize("fault", MEDIA_FAULTS, ids=str)
def test_a_fetch_that_fails_is_tried_again_and_then_given_up(
    delivering: Delivering, fault: httpx.Response | Exception
) -> None:
    delivering.output(f"{PUBLIC}/1", fault)
    with pytest.raises(DeliveryFailed) as caught:
        delivering.deliver()
    assert delivering.pipeline.notifications() == []
    assert delivering.pipeline.record()["status"] == "SUBMITTED"
    give_up(delivering, caught.value)
    assert delivering.failure() == ("OutputInvalid", f"the output could not be delivered: {caught.value}")


def test_an_image_in_the_response_that_ends_early_is_fetched_again(delivering: Delivering) -> None:
    delivering.output(encoded(PNG[:-4]))
    with pytest.raises(DeliveryFailed, match="truncated"):
        delivering.deliver()
    delivering.output(encoded(PNG))
    assert delivering.deliver()["status"] == "SUCCEEDED"


@pytest.mark.parametrize("body", [None, {"status": "failed", "error": "quota"}, {"status": "COMPLETED"}])
@pytest.mark.parametrize("status", [401, 403, 408, 429, 500, 502, 503])
def test_a_result_that_cannot_be_fetched_is_tried_again(delivering: Delivering, status: int, body: object) -> None:
    answers = delivering.provider.results
    delivering.provider.results = [httpx.Response(status, json=body), *answers]
    with pytest.raises(DeliveryFailed, match=f"answered {status}"):
        delivering.deliver()
    assert delivering.deliver()["status"] == "SUCCEEDED"


@pytest.mark.parametrize("state", ["PROCESSING", "QUEUED", "WARMING_UP"])
def test_a_result_that_is_not_there_yet_is_tried_again(delivering: Delivering, state: str) -> None:
    delivering.provider.results.insert(0, httpx.Response(200, json={"status": state}))
    with pytest.raises(DeliveryFailed, match=state):
        delivering.deliver()
    assert delivering.deliver()["status"] == "SUCCEEDED"


def test_a_job_that_poll_lost_sight_of_is_still_delivered(delivering: Delivering) -> None:
    delivering.provider.results.insert(0, httpx.Response(200, json={"status": "PROCESSING"}))
    event = {**delivering.event(), "poll_fault": {"error": "Runtime.ExitError", "cause": ""}}
    with pytest.raises(DeliveryFailed, match="PROCESSING"):
        delivering.deliver(event)
    assert delivering.deliver(event)["status"] == "SUCCEEDED"


def test_a_job_that_poll_lost_sight_of_for_good_is_our_fault(delivering: Delivering) -> None:
    event = {**delivering.event("deliver-given-up.json"), "poll_fault": {"error": "Runtime.ExitError"}}
    delivering.deliver(event)
    kind, message = delivering.failure()
    assert kind == "InternalError"
    assert "Runtime.ExitError" in message


def test_a_429_at_the_result_pauses_all(delivering: Delivering, metrics: Callable[[], dict[str, list[float]]]) -> None:
    delivering.provider.results = [httpx.Response(429, headers={"retry-after": "17"})]
    metrics()
    assert delivering.deliver()["wait_seconds"] == 17
    paused_until = delivering.pipeline.gate().limiter.read().paused_until
    assert paused_until == delivering.pipeline.clock() + 17
    assert metrics()["RateLimited"] == [1]


IN_40_S = {"date": "Wed, 21 Oct 2026 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2026 07:28:40 GMT"}


@pytest.mark.parametrize("headers", [{"retry-after": "39.1"}, IN_40_S])
@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize("of", ["result", "media"])
def test_a_delivery_waits_for_as_long_as_it_is_asked_to(
    delivering: Delivering, of: str, status: int, headers: dict[str, str]
) -> None:
    event = delivering.event()
    good = delivering.provider.results if of == "result" else delivering.provider.media
    later = [httpx.Response(status, headers=headers), *good]
    setattr(delivering.provider, "results" if of == "result" else "media", later)
    deferred = delivering.deliver(event)
    assert (deferred["status"], deferred["wait_seconds"]) == ("DEFERRED", 40)
    assert (delivering.pipeline.notifications(), delivering.pipeline.record()["status"]) == ([], "SUBMITTED")
    delivering.pipeline.clock.now += 40
    asked = len(delivering.provider.requests)
    again = json.loads(json.dumps(delivering.pipeline.poll.handler(deferred, Context())))
    assert (again["finished"], len(delivering.provider.requests)) == (True, asked), "poll asks for nothing"
    assert again == {**event, "poll_wait_seconds": event["wait_seconds"], "completed": True, "faults": 1}
    assert delivering.deliver(again)["status"] == "SUCCEEDED"
    assert delivering.notified()["status"] == "SUCCEEDED"


def test_a_delivery_is_asked_to_wait_so_often_and_then_fails(delivering: Delivering) -> None:
    delivering.provider.results = [httpx.Response(503, headers={"retry-after": "1"})]
    state = delivering.event()
    for _ in range(DEFERRALS):
        state = delivering.pipeline.poll.handler(delivering.deliver(state), Context())
    with pytest.raises(DeliveryFailed, match="answered 503"):
        delivering.deliver(state)


@pytest.mark.parametrize("which", [".png", "result.json"])
def test_storing_that_is_refused_is_tried_again(delivering: Delivering, which: str) -> None:
    broken = True

    def refuse(params: dict[str, Any], **_: Any) -> Any:
        if broken and params["url_path"].endswith(which):
            return httpx.Response(403), {"Error": {"Code": "AccessDenied", "Message": "no"}}
        return None

    delivering.pipeline.hook("s3", "PutObject", refuse)
    with pytest.raises(DeliveryFailed, match="AccessDenied"):
        delivering.deliver()
    assert delivering.pipeline.notifications() == []
    broken = False
    assert delivering.deliver()["status"] == "SUCCEEDED"


def test_no_time_left_is_tried_again(delivering: Delivering) -> None:
    with pytest.raises(DeliveryFailed, match="too slow"):
        delivering.deliver(seconds=20)


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ({"error": "DeliveryFailed", "cause": '{"errorMessage": "say \\"no\\"", "e'}, "OutputInvalid", 'say "no"'),
        ({"error": "DeliveryFailed", "cause": "no JSON"}, "OutputInvalid", "no JSON"),
        (
            {"error": "Sandbox.Timedout", "cause": '{"errorMessage": "Task timed out"}'},
            "InternalError",
            "Task timed out",
        ),
        ({"error": "States.Timeout"}, "InternalError", "States.Timeout"),
        ({"error": "Runtime.ExitError", "cause": ""}, "InternalError", "Runtime.ExitError"),
    ],
)
def test_a_delivery_that_was_given_up(delivering: Delivering, fault: dict[str, str], kind: str, text: str) -> None:
    delivering.deliver({**delivering.event("deliver.json"), "deliver_fault": fault})
    found, message = delivering.failure()
    assert found == kind
    assert text in message


def test_a_job_that_ended_before_its_delivery_was_given_up_is_notified_as_it_ended(delivering: Delivering) -> None:
    delivering.pipeline.break_call("sns", "Publish", times=1)
    with pytest.raises(Exception, match="AccessDenied"):
        delivering.deliver()
    assert delivering.deliver("deliver-given-up.json")["status"] == "SUCCEEDED"
    assert delivering.notified()["status"] == "SUCCEEDED"


# ---- executions that ended badly -----------------------------------------------------------------------------------


def ended(delivering: Delivering, status: str, **changes: Any) -> dict[str, Any]:
    event = delivering.event("deliver-execution-failed.json")
    event["detail"] |= {"status": status, **changes}
    return event


@pytest.mark.parametrize("status", ["TIMED_OUT", "ABORTED", "FAILED"])
def test_an_execution_that_did_not_notify(delivering: Delivering, status: str) -> None:
    cause = {"error": "States.Runtime", "cause": "x" * 5000}
    delivering.deliver(ended(delivering, status, **cause))
    kind, message = delivering.failure()
    assert kind == "InternalError"
    assert status in message
    assert "States.Runtime" in message
    assert len(message) <= 1024
    delivering.deliver(ended(delivering, status, **cause))
    assert delivering.pipeline.notifications() == []


def test_what_an_execution_did_not_say_is_unknown(delivering: Delivering) -> None:
    delivering.deliver(ended(delivering, "ABORTED"))
    assert delivering.notified()["metrics"]["polls"] is None


@pytest.mark.parametrize("event", ["deliver.json", "deliver-failed.json"])
def test_an_execution_that_notified_its_end(delivering: Delivering, event: str) -> None:
    delivering.deliver(event)
    before = delivering.pipeline.records()
    delivering.pipeline.notifications()
    delivering.deliver(ended(delivering, "FAILED"))
    assert delivering.pipeline.notifications() == []
    assert delivering.pipeline.records() == before


def test_an_execution_that_ended_its_job_but_could_not_say_it(delivering: Delivering) -> None:
    end = delivering.pipeline.hook("sns", "Publish", killed)
    with pytest.raises(Crash):
        delivering.deliver()
    end()
    delivering.deliver(ended(delivering, "TIMED_OUT"))
    assert delivering.notified()["status"] == "SUCCEEDED"


def test_a_delivery_that_loses_against_the_report_of_its_execution(delivering: Delivering) -> None:
    def report(**_: Any) -> None:
        end()
        delivering.pipeline.deliver.handler(ended(delivering, "TIMED_OUT"), Context())

    end = delivering.pipeline.hook("s3", "PutObject", report)
    assert delivering.deliver()["status"] == "FAILED"
    assert delivering.notified()["error"]["type"] == "InternalError"
    assert f"{delivering.folder}/result.json" not in delivering.pipeline.outputs()


def test_an_end_whose_result_json_cannot_be_stored_for_good_is_notified_all_the_same(delivering: Delivering) -> None:
    def refuse(params: dict[str, Any], **_: Any) -> Any:
        if params["url_path"].endswith("result.json"):
            return httpx.Response(403), {"Error": {"Code": "AccessDenied", "Message": "no"}}
        return None

    delivering.pipeline.hook("s3", "PutObject", refuse)
    with pytest.raises(DeliveryFailed, match="AccessDenied"):
        delivering.deliver()
    assert delivering.deliver("deliver-given-up.json")["status"] == "SUCCEEDED"
    assert delivering.notified()["status"] == "SUCCEEDED"


# ---- records that are not as the event expects ---------------------------------------------------------------------


@pytest.mark.parametrize("event", ["deliver.json", "deliver-failed.json", "deliver-given-up.json"])
def test_a_superseded_attempt_ends_nothing(delivering: Delivering, event: str) -> None:
    delivering.pipeline.dynamodb.update_item(
        Key={"job_id": delivering.job_id}, UpdateExpression="SET attempt = :two", ExpressionAttributeValues={":two": 2}
    )
    before = delivering.pipeline.records()
    answer = delivering.deliver(event)
    assert answer["status"] == "SUPERSEDED"
    assert answer["error"]["type"] == "InternalError"  # what the state machine fails with
    delivering.deliver(ended(delivering, "FAILED"))
    assert delivering.pipeline.records() == before
    assert delivering.pipeline.notifications() == []
    assert delivering.pipeline.outputs() == {}


@pytest.mark.parametrize("event", ["deliver.json", "deliver-ended-before.json", "deliver-execution-failed.json"])
def test_a_job_without_a_record_is_not_passed_over(pipeline: Pipeline, event: str) -> None:
    with pytest.raises(Exception, match="has no record"):
        pipeline.deliver.handler(load_event(event), Context())
    assert pipeline.notifications() == []


def test_a_metric_that_no_table_can_hold_is_left_out(delivering: Delivering) -> None:
    body = {"status": "COMPLETED", "metrics": {"inference_time": 1e300}, "output": encoded(PNG)}
    delivering.provider.results = [httpx.Response(200, json=body)]
    assert delivering.deliver()["status"] == "SUCCEEDED"
    assert delivering.notified()["metrics"]["inference_seconds"] is None
