"""`explain`: the right reason for each way to get nothing, in one sentence with a next step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from ops.inspect.explain_record import explain_record
from ops.inspect.explanation import Reason
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.aws.places import dispatched, in_line
from posedrop.aws.record import Record, Status, WaitingRecord
from posedrop.contract.reasons import InputFault, ReasonCode
from posedrop.contract.times import epoch, rfc3339
from posedrop.gate.breaker import Breaker, Cause
from posedrop.gate.budget import Budget, Spending
from posedrop.gate.gate import Gate
from posedrop.gate.poll_schedule import Latency
from posedrop.gate.rate_limit import RateLimit, RateLimitState
from posedrop.segmind.model import CONSISTENT_CHARACTER
from posedrop.segmind.requests import Request, RequestStatus
from tests.integration.conftest import BUCKET, Pipeline
from tests.items import MemoryItems
from tests.ops.conftest import FACE, SIT, WALK, Run
from tests.support import FIRST_PRICE, image

Ask = Callable[..., Any]

RUNNING = httpx.Response(200, json={"status": "PROCESSING", "metrics": {}})
FAILED = httpx.Response(422, json={"status": "FAILED", "error": "out of luck"})
REFUSED = httpx.Response(401, json={"error": "Invalid API key"})
UNAVAILABLE = httpx.Response(503)
FIREWALL = httpx.Response(403, text="<html>blocked</html>")
ELSEWHERE = ("hero/face.png", FACE[1])
PORTRAIT = ("incoming/hero/portrait.png", FACE[1])


def succeed_twice(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.upload(FACE, WALK)


def fail(pipeline: Pipeline) -> None:
    pipeline.provider.statuses = [FAILED]
    pipeline.upload(FACE, WALK)
    pipeline.run_all()


def refuse_account(pipeline: Pipeline) -> None:
    pipeline.provider.submits = [REFUSED]
    pipeline.upload(FACE, WALK)


def uploads(*files: tuple[str, Any]) -> Callable[[Pipeline], None]:
    def act(pipeline: Pipeline) -> None:
        pipeline.upload(*files)

    return act


TWELVE = {
    "wrong-prefix": (uploads(ELSEWHERE), ELSEWHERE[0], "not below incoming/", "incoming/<character>/face.png"),
    "wrong-name": (uploads(PORTRAIT), PORTRAIT[0], "none of face.<ext>", "below incoming/<character>/"),
    "missing-face": (uploads(WALK), WALK[0], "waits for a face", "incoming/hero/face"),
    "missing-pose": (uploads(FACE), FACE[0], "wait for a pose", "incoming/hero/poses/"),
    "no-prompt": (uploads(FACE, WALK), WALK[0], "waits for a prompt", "incoming/hero/poses/walk.json"),
    "bad-job-file": (
        uploads(FACE, WALK, ("incoming/hero/job.json", {"smaples": 2})),
        WALK[0],
        "did you mean samples?",
        "Fix the file",
    ),
    "bad-image": (
        uploads((FACE[0], FACE[1][:-20]), WALK),
        FACE[0],
        "truncated: ends at byte",
        "-m ops retry hero-walk-",
    ),
    "duplicate": (succeed_twice, WALK[0], "the same content as job hero-walk-", "s3://posedrop-outputs/outputs/hero/"),
    "waiting-limit": (uploads(FACE, SIT, WALK), WALK[0], "within the plan's request limit", "continues by itself"),
    "paused": (refuse_account, WALK[0], "paused for the whole account: the provider answered 401", "valid API key"),
    "failed-at-provider": (
        fail,
        WALK[0],
        "failed at the provider: out of luck",
        "-m ops retry hero-walk-",
    ),
    "running": (uploads(FACE, WALK), WALK[0], "is still running", ".venv/bin/python -m ops show hero-walk-"),
}


@pytest.mark.parametrize("reason", TWELVE)
def test_the_twelve_ways_to_get_nothing(
    reason: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if reason == "no-prompt":
        monkeypatch.setenv("DEFAULT_PROMPT_PARAMETER", "")
    if reason == "waiting-limit":
        monkeypatch.setenv("SEGMIND_REQUESTS_PER_MINUTE", "1")
    act, key, sentence, next_step = TWELVE[reason]
    ask, pipeline = request.getfixturevalue("ask"), request.getfixturevalue("pipeline")
    act(pipeline)
    found = ask("explain", key)
    assert found["reason"] == reason
    assert sentence in found["sentence"]
    assert found["sentence"].count(". ") == 0
    assert next_step in found["next_step"]
    assert found["key"] == key
    if found["job_id"] and reason != "duplicate":  # the job itself knows nothing of the second upload
        by_job = ask("explain", found["job_id"])
        assert (by_job["reason"], by_job["next_step"]) == (reason, found["next_step"])


def test_the_sentence_is_what_is_printed(pipeline: Pipeline, run: Run) -> None:
    pipeline.upload(WALK)
    result = run("explain", f"s3://{BUCKET}/{WALK[0]}")
    assert result.stdout.splitlines()[0] == "The pose walk of hero waits for a face: incoming/hero/ has none."
    assert result.stdout.splitlines()[1].startswith("Next  Upload the face as incoming/hero/face")
    assert result.stderr.startswith("posedrop in eu-central-1, account 123456789012")


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_that_is_not_there(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(FACE, WALK)
    found = ask("explain", "incoming/hero/poses/wolk.png")
    assert (found["reason"], found["next_step"]) == ("not-uploaded", f"Did you mean {WALK[0]}?")
    found = ask("explain", "incoming/other/poses/x.png")
    assert found["next_step"] == f"aws s3 cp FILE s3://{BUCKET}/incoming/other/poses/x.png"


def test_a_key_in_another_bucket(ask: Ask) -> None:
    found = ask("explain", "s3://elsewhere/my pictures/face.png")
    assert found["reason"] == "wrong-bucket"
    copy = f"aws s3 cp 's3://elsewhere/my pictures/face.png' s3://{BUCKET}/incoming/CHARACTER/face.png"
    assert found["next_step"] == copy


def test_any_text_is_explained_or_not_found(run: Run) -> None:
    for key in ("/", "incoming/", "incoming//face.png", "incoming/hero/", "s3://"):
        assert run("explain", key).stdout.splitlines()[1].startswith("Next  ")
    for name in ("", "a b"):
        assert "there is no job" in run("explain", name, code=3).stderr


def test_what_was_deleted(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.put(*WALK)
    pipeline.s3.delete_object(Bucket=BUCKET, Key=WALK[0])
    assert ask("explain", WALK[0])["reason"] == "deleted"


@pytest.mark.parametrize("gone", [FACE, WALK])
def test_a_job_is_known_when_its_files_are_gone(pipeline: Pipeline, ask: Ask, gone: tuple[str, bytes]) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.s3.delete_object(Bucket=BUCKET, Key=gone[0])
    assert ask("explain", WALK[0])["reason"] == "done"


def test_what_is_left_to_settle(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.put(*FACE)
    pipeline.put(*WALK)
    pipeline.clock.now -= 59
    found = ask("explain", WALK[0])
    assert found["reason"] == "settling"
    assert "waits 5 s after an upload" in found["sentence"]


def test_a_file_that_another_ending_outdoes(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.put(*FACE)
    pipeline.upload(("incoming/hero/face.webp", image("webp")), WALK)
    found = ask("explain", FACE[0])
    assert found["reason"] == "superseded"
    assert "incoming/hero/face.webp" in found["sentence"]


def test_a_face_of_several_poses(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(FACE, WALK, (SIT[0], SIT[1][:-20]))
    found = ask("explain", FACE[0])
    assert found["reason"] == "several"
    assert found["sentence"] == f"{FACE[0]} serves 2 poses of hero: 1 bad image, 1 running."
    assert [part["reason"] for part in found["parts"]] == ["bad-image", "running"]


def test_a_job_file_without_anything(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(("incoming/hero/job.json", {"prompt": "x"}))
    found = ask("explain", "incoming/hero/job.json")
    assert found["reason"] == "missing-pose"
    assert "and for a face" in found["sentence"]


def test_a_pose_s_own_file_without_the_pose(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(FACE, ("incoming/hero/poses/walk.json", {"prompt": "x"}))
    assert ask("explain", "incoming/hero/poses/walk.json")["reason"] == "missing-pose"


def test_a_bucket_that_says_nobody(pipeline: Pipeline, ask: Ask, notifications: dict[str, Any]) -> None:
    pipeline.put(*FACE)
    pipeline.put(*WALK)
    assert ask("explain", WALK[0])["reason"] == "queued"
    pipeline.clock.now += 60
    assert ask("explain", WALK[0])["reason"] == "not-seen"
    pipeline.sqs.send_message(QueueUrl=pipeline.dead_letter_url, MessageBody="{}")
    assert ask("explain", WALK[0])["next_step"] == ".venv/bin/python -m ops redrive"
    notifications.clear()
    found = ask("explain", WALK[0])
    assert found["reason"] == "no-events"
    assert found["next_step"].startswith("aws s3api put-bucket-notification-configuration")


def test_a_changed_pose_is_not_explained_by_the_job_before(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.put(WALK[0], image("png", (12, 8), "red"))
    assert ask("explain", WALK[0])["reason"] == "not-seen"
    pipeline.put(WALK[0], b"")
    assert ask("explain", WALK[0])["reason"] == "bad-image"


def with_parameters(monkeypatch: pytest.MonkeyPatch, stack: Stack, **changes: str) -> None:
    """Let the stack have other parameters than it was deployed with."""
    changed = replace(stack, parameters={**stack.parameters, **changes})
    monkeypatch.setattr("ops.cli.shell.find", lambda target: changed)


@pytest.mark.parametrize("prompt", ["another prompt", ""])
@pytest.mark.parametrize("key", [FACE[0], WALK[0]])
def test_a_job_of_before_the_default_prompt_changed(
    pipeline: Pipeline, stack: Stack, ask: Ask, monkeypatch: pytest.MonkeyPatch, key: str, prompt: str
) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.clock.now += 3600
    with_parameters(monkeypatch, stack, DefaultPrompt=prompt)
    found = ask("explain", key)
    assert (found["reason"], found["job_id"]) == ("other-parameters", pipeline.record()["job_id"])
    assert "before the parameters changed" in found["sentence"]
    assert f"Job {found['job_id']} succeeded" in found["sentence"]
    assert found["sentence"].count(". ") == 0
    assert "s3://posedrop-outputs/outputs/hero/walk/" in found["next_step"]
    assert "a new job, which is paid for" in found["next_step"]


def test_a_job_of_before_its_job_file_was_deleted(pipeline: Pipeline, ask: Ask) -> None:
    job_file = ("incoming/hero/job.json", {"seed": 7})
    pipeline.upload(job_file, FACE, WALK)
    pipeline.s3.delete_object(Bucket=BUCKET, Key=job_file[0])
    pipeline.clock.now += 3600
    assert ask("explain", WALK[0])["reason"] == "other-parameters"


def test_a_job_file_that_came_since_has_an_event_to_come(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(FACE, WALK)
    age(pipeline)
    pipeline.put("incoming/hero/job.json", {"seed": 7})
    pipeline.clock.now += 3600
    assert ask("explain", WALK[0])["reason"] == "not-seen"


def age(pipeline: Pipeline) -> None:
    """Let the records be an hour older, before what is uploaded now: moto's S3 has a clock of its own."""
    for record in pipeline.records().values():
        before = rfc3339(epoch(record["created_at"]) - 3600)
        pipeline.dynamodb.put_item(Item={**record, "created_at": before})


@pytest.mark.parametrize(("days", "reason"), [("0", "not-seen"), ("30", "not-seen"), ("1", "expired")])
def test_a_record_that_may_have_expired(
    pipeline: Pipeline, stack: Stack, ask: Ask, monkeypatch: pytest.MonkeyPatch, days: str, reason: str
) -> None:
    pipeline.put(*FACE)
    pipeline.put(*WALK)
    pipeline.clock.now += 2 * 86400
    with_parameters(monkeypatch, stack, RecordRetentionDays=days)
    found = ask("explain", WALK[0])
    assert found["reason"] == reason
    if reason == "expired":
        assert "RecordRetentionDays is 1" in found["sentence"]
        assert found["next_step"].endswith("aws s3 ls --recursive s3://posedrop-outputs/outputs/hero/walk/")


# ---- jobs ------------------------------------------------------------------------------------------------------------


def test_what_waits_is_explained_by_its_record(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(WALK)
    assert ask("explain", "waiting/hero/walk")["reason"] == "missing-face"


@pytest.mark.parametrize("name", ["hero-walk-0123456789abcdef", "waiting/hero/run", "rate-limit", "latency", "breaker"])
def test_a_job_that_there_is_not(pipeline: Pipeline, run: Run, name: str) -> None:
    pipeline.upload(FACE, WALK)
    assert name in run("explain", name, code=3).stderr


def test_a_provider_that_is_not_available(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.provider.submits = [UNAVAILABLE]
    pipeline.put(*FACE)
    pipeline.upload(WALK)
    found = ask("explain", WALK[0])
    assert found["reason"] == "deferred"
    assert "the provider answered 503" in found["sentence"]
    assert "its history is searched in 60 s before the job is sent again" in found["sentence"]


def test_a_job_that_is_refused_alone(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.provider.submits = [FIREWALL]
    pipeline.upload(FACE, WALK)
    found = ask("explain", WALK[0])
    assert found["reason"] == "refused"
    assert "is deferred, the other jobs continue" in found["sentence"]
    assert "403" in found["sentence"]
    assert "the next try is in 16 min, behind the others" in found["next_step"]
    assert "Rejected" in found["next_step"]


def test_an_account_that_is_refused(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.provider.submits = [FIREWALL]
    pipeline.upload(FACE, WALK)
    pipeline.upload(SIT)
    for key in (WALK[0], SIT[0]):
        found = ask("explain", key)
        assert found["reason"] == "paused"
        assert "paused for the whole account: the provider answered 403" in found["sentence"]
        assert "this job itself was refused" in found["sentence"]
        assert "give it access to the model (403)" in found["next_step"]
        assert "the next probe is sent in 15 min" in found["next_step"]


def test_a_failure_that_was_uploaded_again(pipeline: Pipeline, ask: Ask) -> None:
    fail(pipeline)
    pipeline.upload(FACE, WALK)
    assert "does not retry the job" in ask("explain", WALK[0])["sentence"]


NOW = 1_800_000_000.0  # that is 2027-01-15T08:00:00Z
RECORD = Record("hero-walk-0123456789abcdef", Status.FAILED, "hero", "walk", updated_at=NOW)
LIMIT = RateLimit(50, "submits")
NO_BUDGET = Budget()


def situation(budget: Budget = NO_BUDGET, before: int = 0, **state: Any) -> Situation:
    """The situation of a stack whose gate's state differs from an unused one in this."""
    gate = Gate(MemoryItems(), LIMIT, budget, CONSISTENT_CHARACTER)
    found = replace(gate.read(NOW), **state)
    opening = gate.opening(found, NOW)
    return Situation(found, opening, LIMIT, Latency.typical(31), 3000, 60, NOW, before=lambda _: before)


SITUATION = situation()


def refused(code: InputFault) -> dict[str, str]:
    """What a record says of an upload that was refused. The code alone decides, not the words."""
    return {"type": "InvalidInput", "message": "k.png: replaced or deleted", "code": code}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"error": {"type": "TimedOut", "message": "x"}}, Reason.NO_RESULT),
        ({"error": {"type": "ResultExpired", "message": "x"}}, Reason.NO_RESULT),
        ({"error": {"type": "OutputInvalid", "message": "x"}}, Reason.NO_RESULT),
        ({"error": {"type": "Rejected", "message": "x"}}, Reason.FAILED_AT_PROVIDER),
        ({"error": {"type": "SubmitOutcomeUnknown", "message": "x"}}, Reason.OUTCOME_UNKNOWN),
        ({"error": {"type": "InternalError", "message": "x"}}, Reason.INTERNAL),
        ({"error": {"type": "SomethingNew", "message": "x"}}, Reason.INTERNAL),
        ({"error": None}, Reason.INTERNAL),
        ({"error": refused(InputFault.NAME)}, Reason.WRONG_NAME),
        ({"error": refused(InputFault.GONE)}, Reason.DELETED),
        ({"error": refused(InputFault.IMAGE)}, Reason.BAD_IMAGE),
        ({"error": refused(InputFault.PARAMETERS)}, Reason.BAD_JOB_FILE),
        ({"status": Status.SUBMITTING, "requests": [Request(1, NOW - 3)]}, Reason.RUNNING),
        ({"status": Status.SUBMITTING, "requests": [Request(1, NOW - 59)]}, Reason.RUNNING),
        ({"status": Status.SUBMITTING, "requests": [Request(1, NOW - 61)]}, Reason.STUCK),
        ({"status": Status.SUBMITTING}, Reason.RUNNING),
        (
            {
                "status": Status.SUBMITTING,
                "requests": [Request(1, NOW, RequestStatus.UNKNOWN)],
                "reason": "no response",
            },
            Reason.OUTCOME_UNKNOWN,
        ),
        ({"status": Status.SUBMITTED, "submitted_at": NOW - 3600}, Reason.STUCK),
        ({"status": Status.QUEUED}, Reason.QUEUED),
    ],
)
def test_every_state_of_a_job_has_its_reason(changes: dict[str, Any], reason: Reason) -> None:
    found = explain_record(replace(RECORD, **changes), SITUATION)
    assert found.reason is reason
    assert found.sentence.endswith(".")
    assert found.next_step


WAITING = WaitingRecord("waiting/hero/walk", Status.WAITING, "hero", "walk", updated_at=NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"errors": 2, "reason": "unexpected error: x"}, Reason.INTERNAL),
        ({"missing": ["face"]}, Reason.MISSING_FACE),
        ({"missing": ["face", "pose"]}, Reason.MISSING_POSE),
        ({"missing": ["prompt"]}, Reason.NO_PROMPT),
    ],
)
def test_waiting_uploads_have_their_reason(changes: dict[str, Any], reason: Reason) -> None:
    found = explain_record(replace(WAITING, **changes), SITUATION)
    assert (found.reason, found.job_id) == (reason, WAITING.job_id)
    assert found.sentence.endswith(".")
    assert found.next_step


SPENT = Spending(day=9.0, month=9.0, price=FIRST_PRICE)


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (
            situation(limit=RateLimitState(paused_until=NOW + 30)),
            Reason.WAITING_LIMIT,
            "the provider answered 429; it continues in about 30 s at the earliest",
        ),
        (
            situation(Budget(daily=9.0), spending=SPENT),
            Reason.WAITING_BUDGET,
            "the day's budget (DailyBudget) is spent: 9.00 of 9.00 USD; it continues in about 16 h",
        ),
        (
            situation(Budget(monthly=9.01), spending=SPENT),
            Reason.WAITING_BUDGET,
            "the month's budget (MonthlyBudget) is spent: 9.00 of 9.01 USD; it continues in about 17 d",
        ),
    ],
)
def test_a_closed_gate_is_why_a_job_waits(found: Situation, reason: Reason, words: str) -> None:
    why = explain_record(replace(RECORD, status=Status.QUEUED), found)
    assert why.reason is reason
    assert words in why.sentence
    assert ("a larger budget" in why.next_step) == (reason is Reason.WAITING_BUDGET)


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (situation(before=0), Reason.WAITING_LIMIT, "with 0 jobs before it, within"),
        (situation(before=97, until=NOW + 60), Reason.WAITING_LIMIT, "with 97 jobs before it, within"),
        (situation(before=97, until=NOW + 60), Reason.WAITING_LIMIT, "it will be sent in about 3 min."),
        (situation(before=1000), Reason.WAITING_LIMIT, "1,000 jobs or more before it"),
        (situation(before=1000), Reason.WAITING_LIMIT, "it will be sent in at least 21 min."),
        (
            situation(Budget(daily=9.0 + 2 * FIRST_PRICE), before=2, spending=SPENT),
            Reason.WAITING_BUDGET,
            "with 2 jobs before it, and the budget does not pay for so many now",
        ),
    ],
)
def test_a_job_in_line_says_its_place_and_when_its_turn_comes(found: Situation, reason: Reason, words: str) -> None:
    place: dict[str, Any] = in_line(7, NOW - 3600)
    record = replace(RECORD, status=Status.QUEUED, **place)
    why = explain_record(record, found)
    assert why.reason is reason
    assert words in why.sentence


def test_a_dispatched_job_says_when_it_is_sent() -> None:
    record = replace(RECORD, status=Status.QUEUED, **dispatched(NOW + 40))
    assert "is sent in 40 s" in explain_record(record, SITUATION).sentence
    why = explain_record(record, replace(SITUATION, now=NOW + 41))
    assert (why.reason, "after ten minutes" in why.next_step) == (Reason.QUEUED, True)


def queued(**changes: Any) -> Record:
    """A queued job that is deferred for a minute."""
    return replace(RECORD, status=Status.QUEUED, deferred_until=NOW + 60, **changes)


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (ReasonCode.REFUSED, Reason.REFUSED, "is deferred, the other jobs continue: x"),
        (ReasonCode.SERVER_FAULT, Reason.DEFERRED, "its history is searched in 60 s"),
        (ReasonCode.EARLIER_REQUEST, Reason.DEFERRED, "nothing is paid before the outcome is known"),
        (ReasonCode.UNAVAILABLE, Reason.DEFERRED, "x; the next try is in 60 s"),
        (ReasonCode.AWS, Reason.DEFERRED, "x; the next try is in 60 s"),
        (ReasonCode.PAUSED, Reason.DEFERRED, "x; the next try is in 60 s"),
        ("SOMETHING_NEW", Reason.DEFERRED, "x; the next try is in 60 s"),
    ],
)
def test_why_one_job_is_deferred_is_read_from_its_code(code: str, reason: Reason, words: str) -> None:
    found = explain_record(queued(reason="x", reason_code=code), SITUATION)
    assert found.reason is reason
    assert words in found.sentence


@pytest.mark.parametrize("code", [code for code in ReasonCode if code is not ReasonCode.EARLIER_REQUEST])
def test_an_open_breaker_is_why_any_job_waits(code: ReasonCode) -> None:
    breaker = Breaker().key_refused(NOW, "the provider answered 401", 900)
    found = explain_record(queued(reason="x", reason_code=code), situation(breaker=breaker))
    assert found.reason is Reason.PAUSED


def test_a_look_up_goes_on_while_the_breaker_is_open() -> None:
    breaker = Breaker().key_refused(NOW, "the provider answered 401", 900)
    record = queued(reason="x", reason_code=ReasonCode.EARLIER_REQUEST)
    assert explain_record(record, situation(breaker=breaker)).reason is Reason.DEFERRED


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (Cause.KEY_REFUSED, "valid API key"),
        (Cause.ACCOUNT_REFUSED, "buy credits (406)"),
        (Cause.OUTCOMES_UNKNOWN, "no usable response and may be billed"),
        (Cause.SERVER_FAULTS, "5xx"),
    ],
)
def test_what_to_do_for_each_cause_of_a_pause(cause: Cause, words: str) -> None:
    breaker = Breaker(open_until=NOW + 120, cause=cause, reason="x")
    found = explain_record(replace(RECORD, status=Status.QUEUED), situation(breaker=breaker))
    assert words in found.next_step
    assert "the next probe is sent in 2 min" in found.next_step


@pytest.mark.parametrize(
    ("breaker", "words"),
    [
        (Breaker(open_until=NOW - 1, cause=Cause.KEY_REFUSED, probe_until=NOW + 9), "a probe has been sent"),
        (Breaker(open_until=NOW - 1, cause=Cause.KEY_REFUSED), "the next job that is tried is the probe"),
    ],
)
def test_after_a_pause_comes_the_probe(breaker: Breaker, words: str) -> None:
    found = explain_record(replace(RECORD, status=Status.QUEUED), situation(breaker=breaker))
    assert found.reason is Reason.PAUSED
    assert words in found.next_step


def test_an_unknown_outcome_says_how_to_pay_again() -> None:
    error = {"type": "SubmitOutcomeUnknown", "message": "x"}
    assert f"retry --buy-again {RECORD.job_id}" in explain_record(replace(RECORD, error=error), SITUATION).next_step
