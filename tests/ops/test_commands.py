"""Every command but `explain`: what it says, and what it does."""

import io
import json
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import httpx
import pytest
from botocore.response import StreamingBody
from click.testing import CliRunner
from rich.console import Console

from ops.act.uploading import Standing
from ops.cli import commands as cli
from ops.cli.views import following as display
from ops.inspect.health import functions_needed, problems, submits_needed
from ops.stack import Stack
from posedrop.aws.record import Status
from posedrop.contract.times import rfc3339
from posedrop.gate.budget import Charge
from tests.corpus import encode, exif, picture
from tests.integration.conftest import BUCKET, REGION, Pipeline
from tests.ops.conftest import ALARM_TOPIC, FACE, SIT, WALK, Run
from tests.support import image

Ask = Callable[..., Any]

FAILED = httpx.Response(422, json={"status": "FAILED", "error": "out of luck"})
COMPLETED = httpx.Response(200, json={"status": "COMPLETED", "metrics": {}})


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A face and a pose on this machine."""
    for name, body in (("face-hero.png", FACE[1]), ("walk.png", WALK[1])):
        (tmp_path / name).write_bytes(body)
    return str(tmp_path / "face-hero.png"), str(tmp_path / "walk.png")


def fail(pipeline: Pipeline) -> str:
    """Let a job fail, and return its id."""
    pipeline.provider.statuses = [FAILED]
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.provider.statuses = [COMPLETED]
    return str(pipeline.record()["job_id"])


def test_in_json_all_records_have_the_same_attributes(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.upload(FACE, WALK, ("incoming/lonely/pose.png", WALK[1]))
    found = {record["status"]: record for record in ask("jobs")["records"]}
    job, waiting = found["SUBMITTED"], found["WAITING"]
    assert set(job) == set(waiting)
    assert (job["missing"], job["alerted_at"], waiting["missing"]) == ([], None, ["face"])
    unknown = ("attempt", "inputs", "parameters", "requests", "request_id", "outputs", "error", "unfinished")
    assert [waiting[name] for name in unknown] == [1, {}, {}, [], None, [], None, "waiting"]
    for record in (job, waiting):
        shown = ask("show", record["job_id"])["record"]
        assert {**shown, "unfinished": record["unfinished"]} == record


# ---- status ----------------------------------------------------------------------------------------------------------


def test_status_of_a_stack_that_is_well(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    pipeline.upload(SIT, ("incoming/lonely/pose.png", WALK[1]), ("incoming/bad/face.png", FACE[1][:-20]))
    pipeline.upload(("incoming/bad/pose.png", WALK[1]))
    found = ask("status", "--check")
    assert {status: count for status, count in found["jobs"]["by_status"].items() if count} == {
        "WAITING": 1,
        "SUBMITTED": 1,
        "SUCCEEDED": 1,
        "FAILED": 1,
    }
    assert found["jobs"]["failures"] == {"InvalidInput": 1}
    assert (found["spend"]["today"], found["spend"]["month"]) == (0.0588, 0.0588)
    assert (found["pause"], found["problems"], found["credits"]) == (None, [], None)
    assert "All is well." in run("status").stdout


def test_status_says_what_is_left_of_the_credits(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    assert re.search(r"Credits +unknown", run("status").stdout)
    pipeline.provider.credits = httpx.Response(200, json={"credits": 2.94, "free-credits": 0})
    pipeline.upload(FACE, WALK)
    pipeline.clock.now += 180
    assert ask("status")["credits"]["jobs"] == 100
    assert re.search(r"Credits +2.94 USD left 3 min ago, enough for about 100 jobs", run("status").stdout)


def test_status_says_a_pause_and_until_when(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.provider.submits = [httpx.Response(406, json={"error": "not enough credits"})]
    pipeline.upload(FACE, WALK, SIT)
    found = ask("status", "--check", code=5)
    assert found["pause"]["cause"] == "ACCOUNT_REFUSED"
    assert found["problems"][0]["next_step"] == found["pause"]["next_step"]
    assert "buy credits (406)" in found["pause"]["next_step"]
    assert "not enough credits" in found["pause"]["reason"]
    assert 0 <= found["oldest_queued_seconds"] < 1  # the second one waited for its time
    assert found["spend"]["today"] == 0
    assert "paused for another 15 min (the account, so all jobs): the provider answered 406" in run("status").stdout
    pipeline.clock.now += 901
    assert "one request at a time, until one is accepted" in run("status").stdout


def test_status_says_one_refused_job_from_a_refused_account(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.provider.submits = [httpx.Response(403, text="<html>")]
    pipeline.upload(FACE, WALK)
    found = ask("status", "--check")
    assert (found["jobs"]["refused"], found["pause"], found["problems"]) == (1, None, [])
    assert "1 queued job: deferred, and retried behind the others, which continue" in run("status").stdout


def test_status_says_of_dead_letters_and_of_a_bucket_that_is_not_set_up(
    pipeline: Pipeline, ask: Ask, notifications: dict[str, Any]
) -> None:
    pipeline.handle("not a message")
    pipeline.sqs.send_message(QueueUrl=pipeline.sqs.get_queue_url(QueueName="undelivered")["QueueUrl"], MessageBody="x")
    pipeline.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    notifications.clear()
    found = ask("status")
    assert found["dead_letters"] == 1
    assert [problem["what"].split(" ", 1)[1] for problem in found["problems"]] == [
        "message in the dead-letter queue",
        "event could not be delivered",
        f"upload bucket {BUCKET} keeps no versions",
        f"upload bucket {BUCKET} sends no events to EventBridge",
    ]
    assert "put-bucket-versioning" in found["problems"][2]["next_step"]
    for problem in (found["problems"][0], *found["problems"][2:]):
        assert shlex.join(shlex.split(problem["next_step"])) == problem["next_step"]  # it can be pasted as it is
    assert ask("status", "--check", code=5) == found


def test_status_says_of_a_job_that_waits_for_long(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.provider.submits = [httpx.Response(503)]
    pipeline.upload(FACE, WALK)
    pipeline.clock.now += 5.9 * 3600
    assert ask("status", "--check")["problems"] == []
    pipeline.clock.now += 3 * 86400
    (problem,) = ask("status", "--check", code=5)["problems"]
    assert problem["what"] == "the oldest job has waited for 3 d to be sent"
    assert problem["next_step"].endswith("jobs --status QUEUED")


@pytest.mark.parametrize(
    ("status", "well", "stuck"),
    [("SUBMITTING", 599, 601), ("SUBMITTED", 3899, 3901), ("SUCCEEDED", 899, 901), ("FAILED", 899, 901)],
)
def test_status_says_of_what_nobody_works_on(
    pipeline: Pipeline, ask: Ask, status: str, well: float, stuck: float
) -> None:
    changed = rfc3339(pipeline.clock.now)
    item = {"job_id": "hero-walk-0123456789abcdef", "status": status, "unfinished": "paid", "attempt": 1}
    times = {"unfinished_at": changed, "updated_at": changed, "character": "hero", "pose": "walk"}
    pipeline.dynamodb.put_item(Item={**item, **times})
    pipeline.clock.now += well
    assert ask("status", "--check")["problems"] == []
    pipeline.clock.now += stuck - well
    (problem,) = ask("status", "--check", code=5)["problems"]
    assert problem["what"] == f"jobs are stuck, and their ends not notified: 1 {status}"
    assert problem["next_step"].endswith("-m ops sweep")


def test_status_says_of_alarms_that_are_on(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    cloudwatch = boto3.client("cloudwatch")
    for name, topic, state in (
        ("posedrop-DeadLettersAlarm-1", ALARM_TOPIC, "ALARM"),
        ("posedrop-NoSuccessAlarm-1", ALARM_TOPIC, "OK"),
        ("posedrop-prod-NoSuccessAlarm-1", f"{ALARM_TOPIC}-prod", "ALARM"),
    ):
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            AlarmDescription="Read their reason.",
            AlarmActions=[topic],
            Namespace="n",
            MetricName="m",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            ComparisonOperator="GreaterThanThreshold",
            Threshold=0,
        )
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="the test's")
    found = ask("status", "--check", code=5)
    assert found["alarms"] == ["posedrop-DeadLettersAlarm-1"]
    expected = {"what": "the alarm posedrop-DeadLettersAlarm-1 is on", "next_step": "Read their reason.", "action": ""}
    assert found["problems"] == [expected]
    pipeline.break_call("cloudwatch", "DescribeAlarms")
    assert ask("status", "--check")["alarms"] is None
    assert "cannot be read" in run("status").stdout


def test_status_and_explain_say_of_a_bucket_in_another_region(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.put(*FACE)
    pipeline.put(*WALK)
    answer = (SimpleNamespace(status_code=200), {"BucketRegion": "us-west-2"})
    pipeline.hook("s3", "HeadBucket", lambda **_: answer)
    (problem,) = ask("status", "--check", code=5)["problems"]
    assert problem["what"].endswith(f"{BUCKET} is in us-west-2, and its events do not reach {REGION}")
    assert problem["next_step"] == f"deploy the stack in us-west-2, or use a bucket in {REGION}"
    found = ask("explain", WALK[0])
    assert (found["reason"], found["next_step"]) == ("no-events", problem["next_step"])


def test_status_says_what_of_a_bucket_cannot_be_checked(
    pipeline: Pipeline, ask: Ask, notifications: dict[str, Any]
) -> None:
    """What is refused hides nothing: the other checks are made all the same."""
    notifications.clear()
    pipeline.break_call("s3", "GetBucketVersioning")
    unknown, missing = ask("status", "--check", code=5)["problems"]
    assert unknown["what"] == f"cannot check whether the upload bucket {BUCKET} keeps versions: AccessDenied"
    assert "docs/security.md" in unknown["next_step"]
    assert missing["what"] == f"the upload bucket {BUCKET} sends no events to EventBridge"


def test_status_says_of_a_bucket_that_is_gone(ask: Ask, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = replace(stack, outputs={**stack.outputs, "UploadBucketName": "deleted-by-hand"})
    monkeypatch.setattr("ops.cli.shell.find", lambda target: gone)
    (problem,) = ask("status", "--check", code=5)["problems"]
    assert problem["what"] == "there is no upload bucket deleted-by-hand, so no upload makes a job"
    assert problem["next_step"].startswith("create it again")


def test_what_a_bucket_says_others_stays_when_it_says_eventbridge(
    ask: Ask, notifications: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    notifications.clear()
    queue = {"QueueConfigurations": [{"QueueArn": "arn:aws:sqs:r:1:it's", "Events": ["s3:ObjectRemoved:*"]}]}
    notifications.update(queue)
    step = shlex.split(ask("status")["problems"][0]["next_step"])
    assert step[:3] == ["aws", "s3api", "put-bucket-notification-configuration"]
    assert json.loads(step[step.index("--notification-configuration") + 1]) == {**queue, "EventBridgeConfiguration": {}}


def test_the_next_steps_are_on_the_same_stack(
    pipeline: Pipeline, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.cli.shell.find", lambda target: replace(stack, target=target))
    fail(pipeline)
    pipeline.handle("not a message")

    def run(*words: str) -> str:
        return CliRunner(mix_stderr=False).invoke(cli.main, ["--stack", "prod", "--region", REGION, *words]).output

    ours = f".venv/bin/python -m ops --stack prod --region {REGION}"
    assert f"{ours} redrive" in run("status")
    assert f"{ours} retry hero-walk-" in run("explain", WALK[0])
    assert f"{ours} show hero-walk-" in run("retry", str(pipeline.record()["job_id"]), "--yes")


def test_status_says_the_use_of_the_limit(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("SEGMIND_REQUESTS_PER_MINUTE", "2")
    ask, pipeline = request.getfixturevalue("ask"), request.getfixturevalue("pipeline")
    pipeline.upload(FACE, WALK, SIT)
    rate = ask("status")["rate"]
    assert (rate["requests_per_minute"], rate["counting"]) == (2, "submits")
    assert rate["taken"] == 2
    assert 60 < rate["next_free_seconds"] <= 62.2  # two times 60 s / 2 / 0.97 / 0.995


@pytest.mark.parametrize(
    ("requests", "counts_all", "submits", "functions"),
    [
        *((5, False, 2, 10), (50, False, 2, 11), (600, False, 10, 32), (601, False, 16, 39), (6000, False, 150, 307)),
        *((50, True, 2, 10), (600, True, 10, 22), (6000, True, 100, 152)),
    ],
)
def test_functions_that_a_plan_needs(requests: float, counts_all: bool, submits: int, functions: int) -> None:
    assert submits_needed(requests, counts_all=counts_all) == submits
    assert functions_needed(requests, counts_all=counts_all) == functions


@pytest.mark.parametrize(("submits", "functions", "lacking"), [("9", 32, 0), ("10", 31, 1)])
def test_status_says_what_is_too_small_for_the_limit(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    account: dict[str, Any],
    submits: str,
    functions: int,
    lacking: int,
) -> None:
    assert ask("status", "--check")["problems"] == []
    account["AccountLimit"] = {"UnreservedConcurrentExecutions": functions}
    small = replace(stack, parameters={**stack.parameters, "SubmitConcurrency": submits})
    monkeypatch.setattr("ops.cli.shell.find", lambda target: small)
    (problem,) = ask("status", "--check", code=5)["problems"]
    assert (
        problem["what"]
        == (
            "SubmitConcurrency (9) is too small for 600 requests a minute: about 10 functions are needed",
            "the account's Lambda concurrency (31) is too small for 600 requests a minute: "
            "about 32 functions of this stack run at once",
        )[lacking]
    )
    assert ("SubmitConcurrency=10", "--quota-code L-B99A9384")[lacking] in problem["next_step"]
    assert [found.what for found in problems(small)] == [problem["what"]]


def test_status_of_an_account_whose_limit_cannot_be_read(ask: Ask, account: dict[str, Any]) -> None:
    account.clear()
    assert ask("status", "--check")["problems"] == []


# ---- jobs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def many_jobs(pipeline: Pipeline, stack: Stack) -> None:
    """Jobs of some characters: ended, running and waiting, a minute apart."""
    jobs = [("hero", f"p{number}", Status.SUCCEEDED) for number in range(3)]
    jobs += [("rival", "pose", Status.SUBMITTED), ("lonely", "pose", Status.WAITING)]
    with pipeline.dynamodb.batch_writer() as batch:
        for number, (character, pose, status) in enumerate(jobs):
            changed = rfc3339(pipeline.clock.now - 60 * (len(jobs) - number))
            item = {
                "job_id": f"{character}-{pose}-{number:016x}",
                "status": status,
                "character": character,
                "pose": pose,
                "day": changed[:10],
                "created_at": changed,
                "updated_at": changed,
                "missing": ["face"],
                "outputs": [{"uri": "s3://x/1.png"}],
                "completed_at": rfc3339(pipeline.clock.now - 60 * (len(jobs) - number) + 26),
            }
            place = {Status.SUBMITTED: "paid", Status.WAITING: "waiting"}.get(status)
            batch.put_item({**item, "unfinished": place, "unfinished_at": changed} if place else item)


@pytest.mark.usefixtures("many_jobs")
@pytest.mark.parametrize(
    ("options", "poses"),
    [
        ([], ["lonely/pose", "rival/pose", "hero/p2", "hero/p1", "hero/p0"]),
        (["--character", "hero"], ["hero/p2", "hero/p1", "hero/p0"]),
        (["--status", "waiting", "--status", "submitted"], ["lonely/pose", "rival/pose"]),
        (["--status", "SUCCEEDED"], ["hero/p2", "hero/p1", "hero/p0"]),
        (["--character", "rival", "--status", "failed"], []),
        (["--newer-than", "150s"], ["lonely/pose", "rival/pose"]),
        (["--older-than", "150s"], ["hero/p2", "hero/p1", "hero/p0"]),
    ],
)
def test_jobs_are_filtered(ask: Ask, options: list[str], poses: list[str]) -> None:
    found = [f"{record['character']}/{record['pose']}" for record in ask("jobs", *options)["records"]]
    assert found == poses


@pytest.mark.usefixtures("many_jobs")
@pytest.mark.parametrize("options", [[], ["--character", "hero"], ["--status", "submitted", "--status", "waiting"]])
def test_jobs_come_in_pages(ask: Ask, options: list[str]) -> None:
    whole = [record["job_id"] for record in ask("jobs", *options)["records"]]
    paged: list[str] = []
    cursor: list[str] | None = []
    while cursor is not None:
        page = ask("jobs", *options, "--limit", "1", *cursor)
        paged += [record["job_id"] for record in page["records"]]
        cursor = ["--page", page["cursor"]] if page["cursor"] else None
    assert paged == whole


@pytest.mark.parametrize(
    "option", [["--newer-than", "yesterday"], ["--status", "lost"], ["--page", "x"], ["--limit", "0"]]
)
def test_a_wrong_filter_is_a_usage_error(run: Run, option: list[str]) -> None:
    assert "Error: Invalid value for" in run("jobs", *option, code=2).stderr


@pytest.mark.usefixtures("many_jobs")
def test_jobs_as_a_table(run: Run) -> None:
    lines = run("jobs", "--limit", "4")
    assert lines.stdout.splitlines()[0].split() == ["Job", "Status", "Changed", "Result", "Prompt"]
    assert "missing: face" in lines.stdout
    assert "in the model" in lines.stdout
    assert "1 image in 26 s" in lines.stdout
    assert "There are more: --page" in lines.stderr


# ---- show ------------------------------------------------------------------------------------------------------------


def test_show_says_a_job_s_timeline(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    record = pipeline.record()
    (expected,) = pipeline.notifications()
    found = ask("show", record["job_id"])
    assert [event["what"] for event in found["events"]] == [
        *("face uploaded", "pose uploaded", "queued", "sent", "accepted", "succeeded", "notified"),
    ]
    assert found["notification"] == expected
    assert found["outputs"] == [output["uri"] for output in expected["outputs"]]
    assert found["execution"]["url"].endswith(f":{record['job_id']}-1")
    shown = run("show", record["job_id"], "--notification").stdout
    for text in ("request-1", f"s3://{BUCKET}/{WALK[0]}", found["outputs"][0], '"version": "1"'):
        assert text in shown


def test_show_says_what_it_could_not_read(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    record = pipeline.record()
    pipeline.s3.delete_object(Bucket=BUCKET, Key=FACE[0], VersionId=record["inputs"]["face"]["version_id"])
    found = ask("show", record["job_id"])
    assert found["unread"] == ["when the face was uploaded: the file does not exist any more"]
    pipeline.break_call("s3", "HeadObject")
    found = ask("show", record["job_id"])
    assert found["unread"][1] == "when the pose was uploaded: S3 says AccessDenied"
    assert "Unknown: when the face was uploaded: S3 says AccessDenied" in run("show", record["job_id"]).stdout


def test_show_of_what_waits(pipeline: Pipeline, run: Run) -> None:
    pipeline.upload(WALK)
    shown = run("show", "waiting/hero/walk").stdout
    assert "waiting for a face" not in shown
    assert "waits for a face" in shown


def test_show_of_no_job(run: Run) -> None:
    assert run("show", "hero-walk-0123456789abcdef", code=3).stderr.endswith(
        "there is no job hero-walk-0123456789abcdef\n"
    )


# ---- retry -----------------------------------------------------------------------------------------------------------


def test_retry_asks_before_it_pays(pipeline: Pipeline, run: Run) -> None:
    job_id = fail(pipeline)
    asked = run("retry", job_id, code=1, answer="n\n")
    assert "1 new attempt, at most 0.0294 USD. Begin?" in asked.stderr
    run("retry", job_id, code=1)  # nobody answers
    assert pipeline.receive(pipeline.queue_url) == []
    run("retry", job_id, "--json", code=2)
    run("retry", job_id, job_id, answer="y\n")
    assert [json.loads(message["Body"]) for message in pipeline.receive(pipeline.queue_url)] == [{"retry": job_id}]


def test_retry_follows_the_new_attempt(pipeline: Pipeline, ask: Ask, work_on: Callable[[], None]) -> None:
    job_id = fail(pipeline)
    pipeline.provider.submits = [httpx.Response(200, json={"request_id": "request-2", "status": "QUEUED"})]
    pipeline.provider.statuses = [FAILED, COMPLETED]
    work_on()
    (found,) = ask("retry", job_id, "--yes", "--wait")
    assert found["status"] == "SUCCEEDED"
    assert found["images"][0].endswith(f"/{job_id}/2/1.png")


def test_retry_refuses_what_is_in_vain(pipeline: Pipeline, run: Run) -> None:
    pipeline.upload(FACE, WALK, (SIT[0], SIT[1][:-20]))
    jobs = {record["pose"]: job_id for job_id, record in pipeline.records().items()}
    assert "has not failed: it is SUBMITTED" in run("retry", jobs["walk"], "--yes", code=4).stderr
    assert "would fail again: incoming/hero/poses/sit.png" in run("retry", jobs["sit"], "--yes", code=4).stderr
    assert "there is no job nothing" in run("retry", "nothing", "--yes", code=3).stderr
    assert pipeline.receive(pipeline.queue_url) == []


def test_retry_reads_the_folder_of_a_job_that_was_never_sent(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.upload(FACE, (WALK[0], WALK[1][:-20]))
    pipeline.run_all()
    job_id = str(pipeline.record()["job_id"])
    pipeline.put(*WALK)
    (planned,) = ask("retry", job_id, "--yes")
    assert (planned["job_id"], planned["attempt"]) == (job_id, 1)
    assert planned["makes"] != job_id
    (message,) = pipeline.receive(pipeline.queue_url)
    pipeline.handle(message["Body"])
    assert pipeline.records()[planned["makes"]]["status"] == Status.SUBMITTED
    assert f"they make {planned['makes']}, which is SUBMITTED" in run("retry", job_id, "--yes", code=4).stderr
    pipeline.s3.delete_object(Bucket=BUCKET, Key=FACE[0])
    assert "lacks a face" in run("retry", job_id, "--yes", code=4).stderr


def test_retry_can_insist(pipeline: Pipeline, run: Run) -> None:
    job_id = fail(pipeline)
    asked = run("retry", "--buy-again", job_id, answer="y\n")
    assert "then the job is paid twice. Begin?" in asked.stderr
    (message,) = pipeline.receive(pipeline.queue_url)
    assert json.loads(message["Body"]) == {"retry": job_id, "buy_again": True}


# ---- upload, dry-run -------------------------------------------------------------------------------------------------


@pytest.fixture
def work_on(pipeline: Pipeline, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the pipeline work whenever the command waits."""

    def work(seconds: float) -> None:
        pipeline.clock.sleep(seconds)
        with redirect_stdout(io.StringIO()):  # the functions' metrics
            for message in pipeline.receive(pipeline.queue_url):
                pipeline.handle(message["Body"])
            pipeline.handle({"job": {"bucket": BUCKET, "character": "hero", "pose": "", "upload": None}})
            pipeline.run_all()

    return lambda: monkeypatch.setattr("ops.cli.shell.find", lambda target: replace(stack, sleep=work))


def test_upload_follows_to_the_result(
    pipeline: Pipeline, run: Run, work_on: Callable[[], None], files: tuple[str, str], tmp_path: Path
) -> None:
    work_on()
    options = [
        "--prompt",
        "in the rain",
        "--param",
        "samples=2",
        "--param",
        "output_format=webp",
        "--context",
        '{"a": 1}',
    ]
    result = run("upload", *files, *options, "--wait", "-o", str(tmp_path / "out"))
    record = pipeline.record()
    assert record["status"] == "SUCCEEDED"
    assert (record["parameters"]["prompt"], record["parameters"]["samples"]) == ("in the rain", 2)
    assert record["parameters"]["output_format"] == "webp"
    assert json.loads(record["context"]) == {"a": 1}
    assert result.stdout.strip() == str(tmp_path / "out" / f"{record['job_id']}-1.png")
    assert Path(result.stdout.strip()).read_bytes() == next(iter(pipeline.outputs().values()))
    assert "Uploading 1 pose of hero, about 0.0294 USD." in result.stderr
    assert [line.split("  ")[-1] for line in result.stderr.splitlines()[2:]] == ["walk: settling", "walk: succeeded"]


def test_upload_of_a_known_job_is_reported_at_once(pipeline: Pipeline, ask: Ask, files: tuple[str, str]) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    (found,) = ask("upload", *files, "--wait")
    assert found["status"] == "SUCCEEDED"


def test_upload_of_a_job_that_fails(
    pipeline: Pipeline, run: Run, work_on: Callable[[], None], files: tuple[str, str]
) -> None:
    pipeline.provider.statuses = [FAILED]
    work_on()
    result = run("upload", *files, "--wait", code=4)
    assert "failed at the provider: out of luck" in result.stdout
    assert result.stderr.endswith("Error: 1 of 1 job failed\n")


def test_upload_that_does_not_end_in_time(pipeline: Pipeline, run: Run, files: tuple[str, str]) -> None:
    assert "not finished in time" in run("upload", *files, "--wait", "--timeout", "2", code=6).stderr


def test_upload_without_waiting_names_the_job(pipeline: Pipeline, run: Run, files: tuple[str, str]) -> None:
    job_id = run("upload", *files).stdout.strip()
    assert pipeline.upload(FACE, WALK)
    assert list(pipeline.records()) == [job_id]


def test_upload_asks_before_it_makes_more_jobs_than_poses(pipeline: Pipeline, run: Run, files: tuple[str, str]) -> None:
    pipeline.put(FACE[0], image("png", (10, 10), "red"))
    pipeline.put(*SIT)
    asked = run("upload", *files, code=1, answer="n\n")
    assert "The face is new to 1 other pose of hero, which will be made again: 0.0588 USD in all." in asked.stderr
    assert {entry["Key"] for entry in pipeline.s3.list_objects_v2(Bucket=BUCKET)["Contents"]} == {FACE[0], SIT[0]}
    run("upload", *files, "--yes")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--param", "smaples=2"], "did you mean samples?"),
        (["--param", "custom_width=10"], "custom_width must be bigger than or equal to 64"),
        (["--character", "../x"], "empty, '.' or '..'"),
        (["--character", "a/poses"], "choose other names"),
        (["--character", "a/poses/b"], "'poses' is reserved"),
        (["--context", "[]"], "context must be object"),
        (["{text}"], "/notes.txt: this is text: upload a picture"),
        (["{walk}"], "/walk.png: another pose is also named walk"),
        (["{broken}"], "/broken.png: this is text: upload a picture"),
    ],
)
def test_upload_refuses_what_the_stack_would(
    pipeline: Pipeline, run: Run, files: tuple[str, str], tmp_path: Path, options: list[str], words: str
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.png").write_text("x")
    names = {"{text}": tmp_path / "notes.txt", "{walk}": files[1], "{broken}": tmp_path / "broken.png"}
    options = [str(names.get(option, option)) for option in options]
    for command in ("upload", "dry-run"):
        result = run(command, *files, *options, code=4)
        assert words in result.stdout + result.stderr
    assert "Contents" not in pipeline.s3.list_objects_v2(Bucket=BUCKET)


def test_upload_without_a_prompt_is_refused(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    files: tuple[str, str],
) -> None:
    monkeypatch.setenv("DEFAULT_PROMPT_PARAMETER", "")
    run = request.getfixturevalue("run")
    assert "use --prompt" in run("upload", *files, code=4).stderr
    assert "waits for a prompt" in run("dry-run", *files).stdout


def test_dry_run_says_the_very_job_and_sends_nothing(pipeline: Pipeline, ask: Ask, files: tuple[str, str]) -> None:
    found = ask("dry-run", *files, "--param", "seed=7")
    assert "Contents" not in pipeline.s3.list_objects_v2(Bucket=BUCKET)
    (job,) = found["jobs"]
    assert (job["outcome"], job["usd"], found["usd"]) == ("new", 0.0294, 0.0294)
    assert found["url"] == "http://segmind.test/v2/consistent-character-with-pose"
    pipeline.upload(FACE, WALK, ("incoming/hero/poses/walk.json", {"seed": 7}))
    assert list(pipeline.records()) == [job["job_id"]]
    (sent,) = pipeline.provider.posts
    assert {**sent, "face_image": 0, "pose_image": 0} == {**job["request"], "face_image": 0, "pose_image": 0}


def test_dry_run_of_a_character(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.put(*SIT)
    pipeline.put("incoming/hero/poses/run.png", b"")
    pipeline.put("incoming/hero/poses/jump.json", {})
    found = ask("dry-run", "hero", code=4)
    outcomes = {job["pose"]: job["outcome"] for job in found["jobs"]}
    assert outcomes == {"walk": "known", "sit": "new", "run": "refused", "jump": "waiting"}
    assert found["usd"] == 0.0294
    assert "1 new job, about 0.0294 USD. Nothing was sent." in run("dry-run", "hero", code=4).stdout
    assert "There are no poses" in run("dry-run", "nobody").stdout


def test_dry_run_of_a_face_alone(run: Run, files: tuple[str, str]) -> None:
    assert "add a pose" in run("dry-run", files[0], code=2).stderr


# ---- redrive, sweep --------------------------------------------------------------------------------------------------


def test_redrive_moves_the_dead_letters_to_their_queues(pipeline: Pipeline, run: Run, ask: Ask) -> None:
    assert "are empty" in run("redrive").stdout
    pipeline.handle("not a message")
    asked = run("redrive", code=1, answer="n\n")
    assert "not JSON" in asked.stderr
    assert "Send 1 message back to the queues? Jobs" in asked.stderr
    job = {"submit": "hero-walk-0123456789abcdef", "number": 3}
    source: Any = {"source": {"DataType": "String", "StringValue": "submits"}}
    for body, attributes in ((json.dumps(job), {}), ("what submit cannot read", source)):
        pipeline.sqs.send_message(QueueUrl=pipeline.dead_letter_url, MessageBody=body, MessageAttributes=attributes)
    assert ask("redrive", "--yes")["moved"] == 3
    assert [message["Body"] for message in pipeline.receive(pipeline.queue_url)] == ["not a message"]
    submits = {message["Body"] for message in pipeline.receive(pipeline.submit_queue_url)}
    assert submits == {json.dumps(job), "what submit cannot read"}
    assert pipeline.receive(pipeline.dead_letter_url) == []


def test_redrive_sees_to_events_that_could_not_be_delivered(
    pipeline: Pipeline, run: Run, ask: Callable[..., Any]
) -> None:
    url = pipeline.sqs.get_queue_url(QueueName="undelivered")["QueueUrl"]
    upload = json.dumps(pipeline.put(*WALK))
    for body in (upload, json.dumps({"requestPayload": {"detail-type": "Step Functions"}}), "{}", "no JSON"):
        pipeline.sqs.send_message(QueueUrl=url, MessageBody=body)
    swept = answer_invoke(pipeline, {})
    asked = run("redrive", code=1, answer="n\n")
    assert "Handle 4 undelivered events?" in asked.stderr
    assert ask("redrive", "--yes")["undelivered"] == 4
    assert [message["Body"] for message in pipeline.receive(pipeline.queue_url)] == [upload]
    assert pipeline.receive(url) == []
    assert len(swept) == 1


@pytest.mark.parametrize(
    ("options", "event"),
    [
        ([], {}),
        (
            ["--older-than", "1m"],
            {"ages": dict.fromkeys(["waiting", "submitting", "submitted", "ended", "rescue"], 60.0)},
        ),
    ],
)
def test_sweep_now(pipeline: Pipeline, run: Run, options: list[str], event: dict[str, Any]) -> None:
    asked = answer_invoke(pipeline, {"WAITING": 2, "FAILED": 0})
    assert run("sweep", *options).stdout == "Resumed: 2 waiting.\n"
    assert asked == [event]


def test_a_sweep_that_fails_is_reported(pipeline: Pipeline, run: Run) -> None:
    answer_invoke(pipeline, {"errorMessage": "1 records were not resumed"}, FunctionError="Unhandled")
    assert "the sweep failed: 1 records were not resumed" in run("sweep", code=1).stderr


def answer_invoke(pipeline: Pipeline, expected: object, **more: str) -> list[Any]:
    """Let an invocation answer this; return the list of the events that were sent."""
    events: list[Any] = []

    def invoke(params: dict[str, Any], **_: Any) -> Any:
        events.append(json.loads(params["body"]))
        body = json.dumps(expected).encode()
        return SimpleNamespace(status_code=200), {"Payload": StreamingBody(io.BytesIO(body), len(body)), **more}

    pipeline.hook("lambda", "Invoke", invoke)
    return events


def test_bars_on_a_terminal() -> None:
    shown = io.StringIO()
    screen = Console(file=shown, force_terminal=True, width=100)
    reads = [[Standing("a", "settling", 0.05)], [Standing("a", "failed", 1.0)]]
    assert display.follow(screen, {"a": "walk [bold]\x1b"}, iter(reads)) == reads[-1]
    drawn = shown.getvalue()
    assert "walk [bold]\\x1b" in drawn
    assert "\x1b[31m failed " in drawn


def test_a_dry_run_takes_the_learned_price_of_such_jobs(pipeline: Pipeline, files: tuple[str, str], ask: Ask) -> None:
    budgets = pipeline.gate().budgets
    charge = Charge(0.0294, pipeline.clock.now)
    budgets.settle(charge, 0.03, pipeline.clock.now, {"samples": 1})
    budgets.settle(charge, 0.1, pipeline.clock.now, {"samples": 4})
    for samples, usd in ((1, 0.03), (4, 0.1), (2, 0.06)):
        found = ask("dry-run", *files, "--prompt", "x", "--param", f"samples={samples}")
        assert found["usd"] == usd


# ---- photographs -----------------------------------------------------------------------------------------------------

SIDEWAYS = encode(picture(size=(64, 48)), "JPEG", exif=exif(6))


def test_dry_run_and_show_say_what_is_done_to_a_photograph(
    pipeline: Pipeline, ask: Ask, run: Run, tmp_path: Path
) -> None:
    pipeline.upload(FACE)
    (tmp_path / "face.jpg").write_bytes(SIDEWAYS)
    (tmp_path / "run.png").write_bytes(WALK[1])
    files = [str(tmp_path / "face.jpg"), str(tmp_path / "run.png"), "--character", "hero"]
    (planned,) = ask("dry-run", *files)["jobs"]
    assert planned["changes"] == {"face": ["turned", "cleaned"]}
    assert "the face is turned and cleaned first" in " ".join(run("dry-run", *files).stdout.split())
    pipeline.upload(("incoming/anna/face.jpg", SIDEWAYS), ("incoming/anna/pose.png", WALK[1]))
    (job_id,) = [job_id for job_id, record in pipeline.records().items() if record["character"] == "anna"]
    expected = pipeline.records()[job_id]["inputs"]["face"]["prepared"]
    shown = " ".join(run("show", job_id).stdout.split())
    assert expected["key"] in shown.replace(" ", "")
    assert "turned, cleaned" in shown


def test_what_may_have_been_meant_is_reported(pipeline: Pipeline, ask: Ask, run: Run) -> None:
    pipeline.put("incoming/hero/front.jpg", SIDEWAYS)
    pipeline.upload(WALK)
    assert "front.jpg is no face: name it face.jpg" in ask("explain", WALK[0])["sentence"]
    assert "front.jpg is no face" in " ".join(run("jobs").stdout.split())
    side = ask("explain", "incoming/hero/poses/._walk.png")
    assert (side["reason"], "a hidden file" in side["sentence"]) == ("side-file", True)


def test_a_side_file_of_a_picture_is_explained(pipeline: Pipeline, ask: Ask) -> None:
    pipeline.put("incoming/hero/poses/walk.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    pipeline.upload(FACE, WALK)
    found = ask("explain", "incoming/hero/poses/walk.mov")
    assert found["reason"] == "superseded"
    assert WALK[0] in found["sentence"]
