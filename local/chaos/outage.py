"""Two hours without delivery: `python -m local.chaos.outage --seed 1`. Ends with exit code 1 if a promise was broken.

When half of the jobs are sent, all calls of `deliver` are refused for two hours, and the output bucket refuses all
writes for three. The provider deletes a result after an hour. Time is compressed: an hour takes HOUR seconds, for the
provider, for the sweep's schedule and ages, and for the retries of the state machine. Afterwards every picture that was
paid for must be delivered, and none may have been bought again.
"""

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from local.chaos.__main__ import DIRECTORY
from local.chaos.evidence import Ledger, Record
from local.chaos.gateway import FAULTS_PATH
from local.chaos.run import ChaosStack
from local.chaos.scenario import LAYOUT, picture
from local.pipeline import Inbox, drop
from local.processes import LocalError
from ops.inspect.reconcile import Reconciled, compare, read_history
from ops.inspect.records import Records
from ops.stack import Target, find
from posedrop.segmind.history_rows import merged

HOUR = 30.0
"""Seconds of an hour in compressed time."""
POSES = 5
UPLOAD_SECONDS = 20.0
OUTAGE = 2 * HOUR
BUCKET_LONGER = HOUR
LIMIT = 20 * HOUR
BEFORE = 3600.0
"""Seconds before the end within which everything has happened."""
SAY_SECONDS = 10.0
AGES = {name: seconds * HOUR / 3600 for name, seconds in
        {"waiting": 600, "submitting": 3600, "submitted": 600, "ended": 900, "rescue": 600}.items()}  # fmt: skip
"""The sweep's own ages, except for claims, because the functions' own time is not compressed."""
PARAMETERS: dict[str, str | int] = {
    "SettleSeconds": 1,
    "SubmitConcurrency": 4,
    "JobTimeoutSeconds": 25,
    "TypicalInferenceSeconds": 2,
    "SegmindRequestsPerMinute": 1200,
}
EMULATOR = (
    *("--latency", "2:0.3", "--rpm", "1200", "--cost", "0.05", "--history-others", "5000", "--history-lag", "1"),
    *("--retention", str(HOUR), "--media-retention", str(7 * 24 * HOUR)),
)
AT_ONCE = {"PollFunction": 5, "DeliverFunction": 6}
SENT = ("SUBMITTED", "SUCCEEDED", "FAILED")


@dataclass
class Outage:
    """One run and its results. `violations` are sentences that name the job."""

    stack: ChaosStack
    seed: int
    jobs: int
    console: Console
    sweeps: int = 0
    rescues_asked_for: int = 0
    violations: list[str] = field(default_factory=list)
    started: float = 0.0

    @property
    def seconds(self) -> float:
        """Return the seconds since the first upload."""
        return time.monotonic() - self.started

    def run(self) -> Table:
        """Run the outage, and return the table of results."""
        self._compress_retries()
        inbox = Inbox(self.stack)
        ledger = Ledger(self.stack)
        drawn = random.Random(self.seed)  # nosec B311 # the same each time
        uploads = self._uploads(drawn)
        self.started = time.monotonic()
        plan: list[tuple[float, Callable[[], None]]] = []
        began = False
        sweep_at, say_at = HOUR, 0.0
        while self.seconds < LIMIT:
            while uploads and uploads[0][0] <= self.seconds:
                _, key, body, metadata = uploads.pop(0)
                drop(self.stack, key, body, **metadata)
            while plan and plan[0][0] <= self.seconds:
                plan.pop(0)[1]()
            if self.seconds >= sweep_at:
                sweep_at += HOUR
                self._sweep()
            records = ledger.read()
            states = Counter(record["status"] for record in records)
            if self.seconds >= say_at:
                say_at += SAY_SECONDS
                self.console.print(f"{self.seconds:5.0f} s  {_counts(states)}", markup=False)
            if not began and sum(states[name] for name in SENT) >= self.jobs / 2:
                began = True
                self._let_deliver(works=False)
                self._let_bucket(works=False)
                plan = [
                    (self.seconds + OUTAGE, lambda: self._let_deliver(works=True)),
                    (self.seconds + OUTAGE + BUCKET_LONGER, lambda: self._let_bucket(works=True)),
                ]
            inbox.receive()
            done = [record for record in records if record["status"] == "SUCCEEDED" and record.get("notified_at")]
            if began and not plan and not uploads and len(done) == self.jobs:
                break
            time.sleep(0.5)
        time.sleep(1)
        return self._judge(ledger.read(), inbox.receive())

    # ---- events ------------------------------------------------------------------------------------------------------

    def _uploads(self, drawn: random.Random) -> list[tuple[float, str, bytes, dict[str, str]]]:
        found: list[tuple[float, str, bytes, dict[str, str]]] = []
        for number in range(-(-self.jobs // POSES)):
            at, folder = drawn.uniform(0, UPLOAD_SECONDS), LAYOUT.folder(f"c{number:02}")
            face, ending = picture(drawn)
            found.append((at, f"{folder.face}.{ending}", face, {}))
            for pose in range(min(POSES, self.jobs - number * POSES)):
                body, ending = picture(drawn)
                found.append((at, f"{folder.pose(f'pose{pose}')}.{ending}", body, {"prompt": f"<{number}.{pose}>"}))
        return sorted(found)

    def _compress_retries(self) -> None:
        """Compress the state machine's waits between its retries, to at least a second."""
        sfn, arn = self.stack.client("stepfunctions"), self.stack.outputs["JobStateMachineArn"]
        definition = json.loads(sfn.describe_state_machine(stateMachineArn=arn)["definition"])
        for state in definition["States"].values():
            for retry in state.get("Retry", []):
                retry |= {"IntervalSeconds": 1, "BackoffRate": 1, "MaxDelaySeconds": 1}
        sfn.update_state_machine(stateMachineArn=arn, definition=json.dumps(definition))

    def _let_deliver(self, *, works: bool) -> None:
        """Allow all calls of `deliver`, or refuse all of them by a concurrency of 0."""
        self.stack.client("lambda").put_function_concurrency(
            FunctionName=self.stack.resource("DeliverFunction"),
            ReservedConcurrentExecutions=AT_ONCE["DeliverFunction"] if works else 0,
        )
        self.console.print(f"{self.seconds:5.0f} s  deliver {'works again' if works else 'is down'}")

    def _let_bucket(self, *, works: bool) -> None:
        response = httpx.post(  # nosec B501 # plain HTTP, on this machine
            f"{self.stack.endpoint_url}{FAULTS_PATH}",
            json={"outputs_refused": 0.0 if works else 1.0},
            trust_env=False,
            verify=False,
        )
        response.raise_for_status()
        self.console.print(f"{self.seconds:5.0f} s  the output bucket {'works again' if works else 'refuses writes'}")

    def _sweep(self) -> None:
        """Sweep as the hourly schedule does."""
        with suppress(BotoCoreError, ClientError):
            response = self.stack.client("lambda").invoke(
                FunctionName=self.stack.outputs["SweepFunctionName"], Payload=json.dumps({"ages": AGES})
            )
            counts = json.loads(response["Payload"].read())
            if "FunctionError" not in response:
                self.sweeps += 1
                self.rescues_asked_for += counts["FAILED"]

    # ---- results -----------------------------------------------------------------------------------------------------

    def _judge(self, records: list[Record], notifications: list[Record]) -> Table:
        jobs = [record for record in records if record["status"] != "WAITING"]
        with httpx.Client(  # nosec B501 # plain HTTP, on this machine
            base_url=self.stack.segmind_base_url, trust_env=False, timeout=20, verify=False
        ) as http:
            http.post("/_emulator/settings", json={"history_others": 0}).raise_for_status()
            requests = http.get("/_emulator/requests").raise_for_status().json()
            leaks = http.get("/_emulator/calls").raise_for_status().json()["key_leaks"]
        reconciled = self._reconcile()
        paid = Counter(request["prompt"] for request in requests)
        stored = self._stored()
        lost = [record for record in jobs if record["status"] != "SUCCEEDED"]
        again = {prompt: times for prompt, times in paid.items() if times > 1}
        if len(jobs) != self.jobs:
            self.violations.append(f"{len(jobs)} jobs, but {self.jobs} were uploaded")
        self.violations += [f"{record['job_id']}: paid, and {record['status']}" for record in lost]
        self.violations += [f"{prompt}: bought {times} times" for prompt, times in again.items()]
        ends: dict[tuple[str, int], Record] = {(each["job_id"], each["attempt"]): each for each in notifications}
        late = [end for end in ends.values() if end["metrics"]["rescued"]]
        for record in jobs:
            self._check(record, ends, stored)
        if not late or not any(end["attempt"] > 1 for end in late):
            self.violations.append("no picture was rescued at once, or none later, so the run proves nothing about it")
        if leaks:
            self.violations.append(f"the API key was sent to other hosts {leaks} times")
        failed = Counter(end["error"]["type"] for end in ends.values() if end["error"])
        table = Table(title=f"An outage of two hours, seed {self.seed}", title_justify="left", show_header=False)
        table.add_column(style="dim")
        table.add_column()
        rows = {
            "jobs": _counts(Counter(record["status"] for record in jobs)),
            "paid pictures lost": str(len(lost)),
            "bought again": str(sum(times - 1 for times in again.values())),
            "attempts that failed": _counts(failed) or "none",
            "delivered in their first attempt": str(sum(int(record["attempt"]) == 1 for record in jobs)),
            "rescued": f"{len(late)}, {sum(end['attempt'] > 1 for end in late)} of them as a new attempt",
            "sweeps": f"{self.sweeps}, {self.rescues_asked_for} rescues asked for",
            "reconciled": f"{reconciled.ledger.requests} requests in the ledger for {reconciled.ledger.usd} USD, "
            f"{reconciled.history.requests} in the history for {reconciled.history.usd} USD",
            "seconds": f"{self.seconds:.0f}",
        }
        for name, text in rows.items():
            table.add_row(name, text)
        return table

    def _reconcile(self) -> Reconciled:
        """Compare the ledger with the provider's history, as `ops reconcile` does."""
        stack = find(Target(stack=str(self.stack.state_file)))
        now = time.time()
        past = merged(read_history(stack, now - BEFORE, now))
        found, _ = compare(list(Records(stack).every()), past.values(), now - BEFORE, now)
        self.violations += [f"reconcile: {each.kind}: {each.what}" for each in found.differences]
        return found

    def _check(self, record: Record, ends: dict[tuple[str, int], Record], stored: dict[str, int]) -> None:
        """Check that a job's pictures are stored, and that its end was notified correctly."""
        name, attempt = record["job_id"], int(record["attempt"])
        if record["status"] != "SUCCEEDED":
            return
        folder = f"outputs/{record['character']}/{record['pose']}/{name}/{attempt}/"
        keys = [output["key"] for output in record["outputs"]]
        if not keys or any(not stored.get(key) for key in [*keys, f"{folder}result.json"]):
            self.violations.append(f"{name}: its pictures or its result.json are missing")
        end = ends.get((name, attempt))
        if end is None or end["status"] != "SUCCEEDED":
            self.violations.append(f"{name}: the notification of attempt {attempt} differs from its end")
        if attempt > 1 and end is not None and end["metrics"]["cost_usd"] != 0:
            self.violations.append(f"{name}: attempt {attempt} cost {end['metrics']['cost_usd']}")

    def _stored(self) -> dict[str, int]:
        pages = self.stack.client("s3").get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.stack.outputs["OutputBucketName"])
        return {entry["Key"]: entry["Size"] for page in found for entry in page.get("Contents", [])}


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.chaos.outage", description="Two hours without delivery.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=60)
    arguments = parser.parse_args()
    console = Console(highlight=False)
    directory = DIRECTORY / f"outage-{arguments.seed}-{os.getpid()}"
    stack = ChaosStack(directory, parameters=PARAMETERS, emulator=[*EMULATOR, "--seed", str(arguments.seed)])
    outage = Outage(stack, arguments.seed, arguments.jobs, console)
    try:
        console.print(f"Seed {arguments.seed}: {arguments.jobs} jobs. Starting the local stack ...")
        stack.start()
        for function, number in AT_ONCE.items():
            stack.client("lambda").put_function_concurrency(
                FunctionName=stack.resource(function), ReservedConcurrentExecutions=number
            )
        console.print(outage.run())
    except (LocalError, BotoCoreError, ClientError, OSError) as error:
        outage.violations.append(f"{type(error).__name__}: {error}")
    finally:
        with suppress(BotoCoreError, ClientError, OSError, LocalError):
            stack.save_function_logs()
        stack.stop()
    logs = DIRECTORY / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    shutil.move(stack.logs, logs)
    shutil.rmtree(directory)
    for line in outage.violations:
        console.print(f"  {line}", style="red", markup=False, soft_wrap=True)
    console.print("All promises were kept." if not outage.violations else f"{len(outage.violations)} violations.")
    return 1 if outage.violations else 0


def _counts(counts: Counter[Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()) if number)


if __name__ == "__main__":
    sys.exit(main())
