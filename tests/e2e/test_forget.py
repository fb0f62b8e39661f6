"""`forget` on the deployed stack: every store and every log is searched afterwards for what should be gone."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from local.pipeline import drop, records
from local.stack import ARTIFACT_BUCKET, LocalStack
from ops.act.forget import queues
from ops.cli import commands as cli
from tests.corpus import encode, exif, picture
from tests.stores import everything, hits

CLIENT = "forgetters"
CHARACTER, OTHER = f"{CLIENT}/ottilie", f"{CLIENT}/somebody-else"
PROMPT, OTHER_PROMPT = "a violinist under chandeliers", "a lighthouse keeper"
FACE, POSE, SHARED = (encode(picture(seed=seed), "JPEG", exif=exif(6)) for seed in (71, 72, 73))

Record = dict[str, Any]
LONG = "600"
"""Seconds that the model takes for a job that is to be under way for as long as the test."""


@pytest.fixture(autouse=True)
def one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the queues without waiting for all servers of SQS: here there is one."""
    monkeypatch.setattr(queues, "WAIT_SECONDS", 0)


@pytest.fixture
def slow(stack: LocalStack) -> Iterator[Callable[[], None]]:
    """Lets the jobs that are submitted from then on, until the test's end, be under way for long."""

    def take(latency: str) -> None:
        url = f"{stack.segmind_base_url}/_emulator/settings"
        httpx.post(url, json={"latency": latency}, trust_env=False).raise_for_status()

    yield lambda: take(LONG)
    take("1")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def forget(stack: LocalStack, character: str, *words: str, code: int = 0) -> Any:
    """Forget a character; return the report, or what was said instead."""
    argv = ["forget", character, "--yes", "--json", "--stack", str(stack.state_file), *words]
    done = CliRunner(mix_stderr=False).invoke(cli.main, argv)
    assert done.exit_code == code, f"{done.stdout}\n{done.stderr}\n{done.exception!r}"
    return json.loads(done.stdout) if done.stdout else done.stderr


def stores(stack: LocalStack) -> dict[str, str]:
    """All that the stack's stores hold, by where it is; not what subscribers got, nor the functions' code."""
    names = ("UploadQueueUrl", "SubmitQueueUrl", "DeadLetterQueueUrl")
    urls = [*(stack.outputs[name] for name in names), stack.resource("EventDeadLetterQueue")]
    found = everything(stack.client, urls, without=ARTIFACT_BUCKET)
    return {f"{where}~{number}": text for number, (where, text) in enumerate(found)}


def test_nothing_is_left_of_a_character(
    stack: LocalStack,
    upload: Callable[..., None],
    wait_for_record: Callable[[str, str, str], Record],
    wait_for_notification: Callable[[str], Record],
    slow: Callable[[], None],
) -> None:
    """One that is stopped while it runs, after one that was done; beside it another character of the same client."""
    mine = {"job.json": json.dumps({"prompt": PROMPT}).encode(), "face.jpg": FACE, ".DS_Store": b"ottilie"}
    upload(CHARACTER, {**mine, "poses/._bows.jpg": b"\0", "poses/bows.jpg": POSE, "poses/shared.jpg": SHARED})
    upload(OTHER, {"job.json": json.dumps({"prompt": OTHER_PROMPT}).encode(), "face.jpg": SHARED, "pose.jpg": SHARED})
    ended = [wait_for_record(CHARACTER, pose, "SUCCEEDED") for pose in ("bows", "shared")]
    ended.append(wait_for_record(OTHER, "pose", "SUCCEEDED"))
    for record in ended:
        wait_for_notification(record["job_id"])
    slow()
    drop(stack, f"incoming/{CHARACTER}/poses/bows.jpg", POSE + b"\0")  # another version, and so another job
    under_way = wait_for_record(CHARACTER, "bows", "SUBMITTED")
    assert "has 1 unfinished job" in forget(stack, CHARACTER, code=4)

    mine_are = records(stack, CHARACTER)
    ids = {str(record["job_id"]) for record in mine_are}
    requests = {str(request["request_id"]) for record in mine_are for request in record["requests"]}
    words = [*ids, *requests, *(hashlib.sha256(job_id.encode()).hexdigest() for job_id in ids)]
    words += [CHARACTER, "ottilie", "violinist", sha256(FACE), sha256(POSE), sha256(POSE + b"\0")]
    assert len(ids) == 3
    before = stores(stack)
    kinds = {where.partition(":")[0] for where in hits(before.items(), words)}
    assert kinds == {"s3", "dynamodb", "states", "logs"}

    report = forget(stack, CHARACTER, "--abandon")
    notified = wait_for_notification(str(under_way["job_id"]))
    assert notified["error"]["type"] == "InternalError"  # its execution was stopped
    stays = {stay["where"]: stay for stay in report["stays"]}
    assert "under-way" not in stays
    named = [item for where in ("executions", "attempts", "logs") for item in stays[where]["items"]]
    after = stores(stack)
    found = hits(after.items(), words)
    left = {where.rpartition("~")[0] for where in found}
    assert {where for where in left if not any(where.endswith(item) for item in named)} == set()
    assert {item for item in stays["executions"]["items"] if any(where.endswith(item) for where in left)}
    assert "violinist" not in {word for words_left in found.values() for word in words_left}
    assert sorted(stays["provider"]["items"]) == sorted(requests)
    gone = report["gone"]
    assert (gone["records"], gone["uploads"], gone["prepared"], gone["client_rank"]) == (3, 7, 3, 0)

    # The other one is as it was, what was prepared of the picture that both have too.
    assert stays["prepared"]["items"] == [sha256(SHARED)]
    other = hits(before.items(), ["somebody-else", "lighthouse", sha256(SHARED)])
    kept = {where.rpartition("~")[0] for where in other if "ottilie" not in f"{where} {before[where]}"}
    kept = {where for where in kept if where.startswith(("s3:", "dynamodb:"))}
    assert len(kept) >= 8
    assert kept <= {where.rpartition("~")[0] for where in after}
    (record,) = records(stack, OTHER)
    assert record["status"] == "SUCCEEDED"

    again = forget(stack, CHARACTER)
    assert set(again["gone"].values()) == {0}
    last = forget(stack, OTHER)
    assert (last["gone"]["records"], last["gone"]["prepared"]) == (1, 1)
    assert not [where for where in hits(stores(stack).items(), [CLIENT]) if not where.startswith(("states:", "logs:"))]
