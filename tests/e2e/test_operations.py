"""What an operator goes through: a bucket of their own, a key that breaks, an update while jobs are in flight."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.pipeline import Inbox, drop, records, wait_for
from local.segmind.server import Emulator
from local.stack import LOCAL_API_KEY, LocalStack
from tests.alarms import CloudWatch
from tests.cloudformation import Stack
from tests.e2e.conftest import ops
from tests.e2e.leaks import NEW_KEY, check_logs
from tests.support import HANGS, image

BUCKET = "bucket-of-their-own"
PAUSE_SECONDS = 8

Record = dict[str, Any]


class OwnBucketStack(LocalStack):
    """A stack that takes its uploads from a bucket that was there before it, without versions and without events."""

    def _deploy(self, template: Path, env: Mapping[str, str]) -> None:
        s3 = self.client("s3")
        if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket=BUCKET)
        super()._deploy(template, env)


@pytest.fixture(scope="module")
def own(early_uploads: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBucketStack]:
    """Such a stack, in front of an emulator that lives on while the stack is updated.

    What takes two minutes on the other stack begins before it.
    """
    parameters: dict[str, str | int] = {
        "ExistingUploadBucket": BUCKET,
        "SettleSeconds": 1,
        "TypicalInferenceSeconds": 1,
        "AccountPauseSeconds": PAUSE_SECONDS,
        "SegmindRequestsPerMinute": 120,  # jobs wait for the limit, but not for long
    }
    directory = tmp_path_factory.mktemp("own")
    with (
        Emulator(latency=1) as provider,
        OwnBucketStack(directory, parameters=parameters, segmind_base_url=provider.url) as running,
    ):
        running.set_visibility(70)
        yield running
        check_logs(running)  # of the whole run


@pytest.fixture(scope="module")
def own_inbox(own: OwnBucketStack) -> Inbox:
    """A subscriber of that stack's topic."""
    return Inbox(own)


@pytest.fixture
def emulator(own: OwnBucketStack) -> Iterator[httpx.Client]:
    """The emulator's control API; what a test changes there is put back."""
    with httpx.Client(base_url=f"{own.segmind_base_url}/_emulator/", trust_env=False) as client:
        yield client
        client.post("settings", json={"api_key": LOCAL_API_KEY, "latency": "1"}).raise_for_status()


def upload(stack: LocalStack, character: str, poses: int) -> None:
    """Upload a character's folder, with its name as the prompt."""
    drop(stack, f"incoming/{character}/face.png", image())
    drop(stack, f"incoming/{character}/job.json", json.dumps({"prompt": character}).encode())
    for number in range(poses):
        drop(stack, f"incoming/{character}/poses/{number}.png", image(size=(8, 7 + number)))


def statuses(stack: LocalStack, character: str) -> list[str]:
    """The status of each of a character's jobs, in alphabetical order."""
    return sorted(record["status"] for record in records(stack, character))


def wait_for_all(stack: LocalStack, inbox: Inbox, character: str, poses: int) -> list[Record]:
    """Wait until each job of a character has been notified; return the notifications."""

    def read() -> list[Record] | None:
        notified = [message for message in inbox.receive() if message["character"] == character]
        return notified if len({message["job_id"] for message in notified}) == poses else None

    return wait_for(read, f"{poses} notifications of {character}", HANGS)


def dispatch_log(stack: LocalStack) -> str:
    """All that `dispatch` has logged so far."""
    return next(path for path in stack.save_function_logs() if path.stem == "function-dispatch").read_text()


def oldest_job_seconds(stack: LocalStack) -> float | None:
    """The age of the oldest job in seconds, as the last run of `dispatch` has written it; None if no job waited."""
    found = [json.loads(line) for line in dispatch_log(stack).splitlines() if '"OldestJobSeconds"' in line]
    return max(found[-1]["OldestJobSeconds"]) or None


def paid(emulator: httpx.Client, prompt: str) -> int:
    """How many requests with a prompt the provider has taken."""
    return [request["prompt"] for request in emulator.get("requests").json()].count(prompt)


def test_a_bucket_of_ones_own(own: OwnBucketStack, own_inbox: Inbox, emulator: httpx.Client) -> None:
    lacking = ops(own, "status", "--check", code=5)["problems"]
    assert ["keeps no versions" in problem["what"] for problem in lacking] == [True, False]
    assert ["EventBridge" in problem["what"] for problem in lacking] == [False, True]
    s3 = own.client("s3")
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}})
    assert ops(own, "status", "--check")["problems"] == []
    drop(own, "holiday/face.png", image())  # the bucket serves other ends too
    upload(own, "guest", 2)
    notified = wait_for_all(own, own_inbox, "guest", 2)
    assert [message["status"] for message in notified] == ["SUCCEEDED", "SUCCEEDED"]
    assert {message["inputs"]["face"]["bucket"] for message in notified} == {BUCKET}
    assert all(message["inputs"]["face"]["version_id"] for message in notified)
    assert own.outputs["UploadBucketName"] == BUCKET
    assert paid(emulator, "guest") == 2


def test_a_key_that_breaks_holds_the_jobs_and_fails_none(
    own: OwnBucketStack, own_inbox: Inbox, emulator: httpx.Client
) -> None:
    emulator.post("settings", json={"api_key": NEW_KEY}).raise_for_status()
    upload(own, "patient", 3)

    def paused() -> Record | None:
        health: Record = ops(own, "status")
        return health if health["pause"] and health["jobs"]["by_status"].get("QUEUED") == 3 else None

    health = wait_for(paused, "the pause", HANGS)
    assert "401" in health["pause"]["reason"]

    def explained() -> str | None:  # between a pause's end and the next refusal they are only queued
        found = ops(own, "explain", "incoming/patient/poses/0.png")
        return str(found["sentence"]) if found["reason"] == "paused" else None

    assert "401" in wait_for(explained, "the reason", HANGS)
    alarm = Stack().of_type("AWS::CloudWatch::Alarm")["AccountPausedAlarm"]
    assert CloudWatch().state(alarm, 0.0) == "OK"

    def alarmed() -> bool | None:  # by the first run of dispatch that ends after the key was refused
        cloudwatch = CloudWatch()
        cloudwatch.collect(dispatch_log(own), at=0.0)
        return cloudwatch.state(alarm, 0.0) == "ALARM" or None

    assert wait_for(alarmed, "the alarm", HANGS)

    def held() -> bool | None:  # a probe is SUBMITTING until it is refused, one at a time
        found = statuses(own, "patient")
        assert found in (["QUEUED"] * 3, ["QUEUED", "QUEUED", "SUBMITTING"])
        return found == ["QUEUED"] * 3 or None

    wait_for(held, "the return of a refused probe", HANGS)
    assert paid(emulator, "patient") == 0
    upload(own, "unwanted", 2)
    wait_for(lambda: len(statuses(own, "unwanted")) == 2 or None, "the jobs", HANGS)

    def cancelled() -> bool | None:  # the one that is a probe just now is left alone, and queued again
        ops(own, "cancel", "--character", "unwanted", "--yes")
        return statuses(own, "unwanted") == ["FAILED"] * 2 or None

    wait_for(cancelled, "the cancelled jobs", HANGS)
    ended = wait_for_all(own, own_inbox, "unwanted", 2)
    assert {message["error"]["message"] for message in ended} == {"cancelled"}
    ops(own, "sweep")
    assert wait_for(lambda: oldest_job_seconds(own), "the age of the oldest job", HANGS) > 0
    own.client("secretsmanager").put_secret_value(SecretId=own.resource("SegmindSecret"), SecretString=NEW_KEY)
    notified = wait_for_all(own, own_inbox, "patient", 3)
    assert [(message["status"], message["attempt"]) for message in notified] == [("SUCCEEDED", 1)] * 3
    assert (paid(emulator, "patient"), paid(emulator, "unwanted")) == (3, 0)
    own.client("secretsmanager").put_secret_value(SecretId=own.resource("SegmindSecret"), SecretString=LOCAL_API_KEY)


def test_an_update_loses_nothing_in_flight(own: OwnBucketStack, own_inbox: Inbox, emulator: httpx.Client) -> None:
    emulator.post("settings", json={"latency": "6"}).raise_for_status()
    upload(own, "traveller", 4)
    wait_for(lambda: "SUBMITTED" in statuses(own, "traveller") or None, "the first submit", HANGS)
    machine = own.outputs["JobStateMachineArn"]
    before = own.client("lambda").get_function_configuration(FunctionName=own.resource("SubmitFunction"))
    own.parameters |= {"LogLevel": "DEBUG", "TypicalInferenceSeconds": "2"}
    own.update()
    after = own.client("lambda").get_function_configuration(FunctionName=own.resource("SubmitFunction"))
    assert before["Environment"] != after["Environment"]
    assert own.outputs["JobStateMachineArn"] == machine
    emulator.post("settings", json={"latency": "1"}).raise_for_status()
    upload(own, "late", 1)
    notified = wait_for_all(own, own_inbox, "traveller", 4) + wait_for_all(own, own_inbox, "late", 1)
    assert [message["status"] for message in notified] == ["SUCCEEDED"] * 5
    assert (paid(emulator, "traveller"), paid(emulator, "late")) == (4, 1)
