"""Run jobs on the local stack with the model's real latency: their cost, and the time that the pipeline adds.

First single uploads, one every few seconds, when all functions are warm: the added time. Then a folder of poses at
once, within the plan's limit: the cost.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench import cost, overhead
from bench.overhead import Parts
from bench.stage import (
    PROMPT,
    Notifications,
    histories,
    provider,
    sample_images,
    seconds,
    stage,
    upload_folder,
    usage,
)
from local.chaos.evidence import depth
from local.deploy import ROOT
from local.pipeline import drop, wait_for
from local.stack import LocalStack

LATENCY = "31.4:0.25"
"""Lognormal, with the mean of the 31 s trace (bench/polling.py): 32.4 s."""
SEED = 20  # with it, the jobs of the folder have that mean and spread
RPM = 50
SETTLE = 5
SINGLE_JOBS, WARM_UP_JOBS, EVERY_SECONDS = 24, 4, 2.5
FOLDER_JOBS = 40
TIMEOUT = 300.0
AT_REST_SECONDS = 5.0
METRICS_PER_STACK = 17
"""The number of custom metrics of a stack (posedrop/aws/metrics.py)."""


class Probe:
    """A second target of the upload rule: it shows when each upload's event was delivered, by key."""

    def __init__(self, stack: LocalStack) -> None:
        self._sqs = stack.client("sqs")
        self._url = self._sqs.create_queue(QueueName="bench-uploads")["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])["Attributes"]
        arn = attributes["QueueArn"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={"Policy": policy})
        stack.client("events").put_targets(Rule=stack.resource("UploadRule"), Targets=[{"Id": "bench", "Arn": arn}])

    def read(self) -> dict[str, float]:
        """Return the delivery times in seconds since the epoch, by the object's key."""
        sent: dict[str, float] = {}
        while batch := self._sqs.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["SentTimestamp"]
        ).get("Messages"):
            for message in batch:
                event = json.loads(message["Body"])
                sent[event["detail"]["object"]["key"]] = int(message["Attributes"]["SentTimestamp"]) / 1000
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return sent


def single_jobs(stack: LocalStack, inbox: Notifications, jobs: int) -> list[Parts]:
    """Upload poses one after the other; return the parts of the added time of each but the first."""
    face, pose = sample_images()
    probe = Probe(stack)
    folder = stack.layout.folder("single")
    drop(stack, f"{folder.face}.png", face)
    drop(stack, folder.job_file, json.dumps({"prompt": PROMPT}).encode())
    time.sleep(SETTLE + 2)
    uploaded: dict[str, float] = {}
    for number in range(jobs):
        began = time.monotonic()
        key = f"{folder.pose(f'{number:02}')}.png"
        drop(stack, key, pose)
        uploaded[key] = time.time()
        time.sleep(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))
    messages = inbox.wait(jobs, TIMEOUT)
    at_rest(stack)
    delivered = probe.read()
    ended = {request["request_id"]: seconds(request["completed_at"]) for request in provider(stack, "requests")}
    polls = {name: last_poll(history) for name, history in histories(stack).items()}
    found = {}
    for message in messages:
        key = message["inputs"]["pose"]["key"]
        poll = polls[f"{message['job_id']}-{message['attempt']}"]
        found[key] = Parts(
            event=delivered[key] - uploaded[key],
            settle=SETTLE,
            submit=seconds(message["submitted_at"]) - delivered[key] - SETTLE,
            detection=poll - ended[message["request_id"]],
            delivery=inbox.sent[message["job_id"]] - poll,
        )
    return [found[key] for key in sorted(found)]


def last_poll(history: Sequence[Mapping[str, Any]]) -> float:
    """Return when the poll that found the end began, in seconds since the epoch."""
    polls = [
        event["timestamp"]
        for event in history
        if event["type"] == "TaskStateEntered" and event["stateEnteredEventDetails"]["name"] == "CheckStatus"
    ]
    began: float = polls[-1].timestamp()
    return began


def folder(stack: LocalStack, inbox: Notifications, jobs: int) -> cost.Batch:
    """Upload a folder at once; return the usage of its jobs."""
    face, pose = sample_images()
    before, notified = usage(stack), len(inbox.sent)
    upload_folder(stack, "folder", [f"{number:03}" for number in range(jobs)], face, pose)
    messages = inbox.wait(notified + jobs, TIMEOUT)
    at_rest(stack)
    return cost.Batch(
        jobs=jobs,
        uploads=jobs + 2,
        egress_bytes=float(jobs * (len(face) + len(pose))),
        inference=[message["metrics"]["inference_seconds"] for message in messages if message["character"] == "folder"],
        usage=usage(stack) - before,
    )


def at_rest(stack: LocalStack) -> None:
    """Wait until no execution runs and no message is left, not even a delayed one; then a little longer, for logs."""
    states = stack.client("stepfunctions")
    machine = stack.outputs["JobStateMachineArn"]
    wait_for(
        lambda: not states.list_executions(stateMachineArn=machine, statusFilter="RUNNING")["executions"] or None,
        "the end of all executions",
        TIMEOUT,
    )
    queues = [stack.outputs[name] for name in ("UploadQueueUrl", "SubmitQueueUrl")]
    wait_for(lambda: sum(depth(stack, queue) for queue in queues) == 0 or None, "the end of all messages", TIMEOUT)
    time.sleep(AT_REST_SECONDS)


def alarm_metrics() -> int:
    """Return how many metrics the template's alarms read; each is billed."""
    text = (ROOT / "template.yaml").read_text()
    alarms = [part for part in text.split("\n\n") if "Type: AWS::CloudWatch::Alarm" in part]
    return sum(max(1, alarm.count("MetricStat")) for alarm in alarms)


def main(single: int = SINGLE_JOBS, poses: int = FOLDER_JOBS) -> dict[str, Any]:
    """Print the tables, and return the figures."""
    parameters: dict[str, str | int] = {"SegmindRequestsPerMinute": RPM, "SettleSeconds": SETTLE}
    emulator = ["--latency", LATENCY, "--rpm", str(RPM), "--seed", str(SEED)]
    with stage("jobs", parameters, emulator) as stack:
        inbox = Notifications(stack)
        parts = single_jobs(stack, inbox, single)
        batch = folder(stack, inbox, poses)
    figures = {"overhead": overhead.report(parts[min(WARM_UP_JOBS, single - 1) :])}
    print()
    return {**figures, "cost": cost.report(batch, alarm_metrics(), METRICS_PER_STACK)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.jobs")
    parser.add_argument("--single", type=int, default=SINGLE_JOBS, help="single uploads")
    parser.add_argument("--poses", type=int, default=FOLDER_JOBS, help="poses of the folder")
    main(**vars(parser.parse_args()))
