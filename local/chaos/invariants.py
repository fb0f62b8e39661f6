"""Check that the pipeline kept its promises. Pure: takes scenario, evidence and requests; returns the violations."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from local.chaos.evidence import Evidence, Record
from local.chaos.faults import ALWAYS_500, ALWAYS_REFUSED, JobFault
from local.chaos.scenario import PlannedJob, Scenario
from local.chaos.spending import check_charges, check_sums
from local.deploy import STACK_NAME

TERMINAL = ("SUCCEEDED", "FAILED")
EVENT_DEAD_LETTERS, DISPATCH = "EventDeadLetterQueue", f":function:{STACK_NAME}-DispatchFunction-"
"""The queue of failed function runs, and a text in messages about a run of dispatch."""
UNRESOLVED = "UNRESOLVED"
"""The outcome of a request which the history could neither confirm nor deny, however long it was asked."""
MOST_REFUSALS = 8
MOST_500S = 8
"""The most times that a job is sent if it always gets this response."""
GONE = frozenset({"InferenceFailed"})
"""The ends after which an accepted request has no more results, so that a new attempt pays again."""
RESCUE = "rescue"
"""The status of a failed job whose images may still be at the provider."""
PARTS = ('"rescue"', '"credits"')
"""The tasks of an asynchronous run of deliver that a later run repeats."""


@dataclass(frozen=True)
class Asked:
    """The requests besides the uploads, by the jobs' names.

    `attempts`: new attempts. `retries`: the messages and uploads that asked for them; each may make one.
    `forgotten`: the records that expired before one of them. `unreadable`: messages that nobody can read, by queue.
    """

    attempts: Mapping[str, int] = field(default_factory=dict)
    retries: Mapping[str, int] = field(default_factory=dict)
    forgotten: Mapping[str, Record] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Findings:
    """`violations` are sentences that name the job; `explained` are deviations that the faults explain."""

    violations: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)


def check(scenario: Scenario, evidence: Evidence, asked: Asked) -> Findings:
    """Check everything."""
    findings = Findings()
    places: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in evidence.records:
        places[record["character"], record["pose"]].append(record)
    expected = {(job.character, job.pose) for job in scenario.all_jobs}
    for place in places.keys() - expected:
        findings.violations.append(f"{place[0]}/{place[1]}: a record of a job that no upload makes")
    checks = _Checks(scenario, evidence, asked)
    for job in scenario.all_jobs:
        found = places[job.character, job.pose]
        if len(found) != 1:
            known = ", ".join(f"{record['job_id']} {record['status']}" for record in found) or "none"
            findings.violations.append(f"{job.name}: one record expected, not {len(found)}: {known}")
            continue
        findings.violations += [f"{job.name} ({found[0]['job_id']}): {fault}" for fault in checks.job(job, found[0])]
    findings.violations += checks.all()
    findings.explained += checks.explained
    return findings


class _Checks:
    def __init__(self, scenario: Scenario, evidence: Evidence, asked: Asked) -> None:
        self.explained: list[str] = []
        self._evidence = evidence
        self._asked = asked
        self._accepted: dict[str, list[int]] = defaultdict(list)
        """The attempts of each job with a request that the provider accepted, in the order of the requests."""
        for accepted in evidence.accepted:
            job_id, _, number = accepted.name.rpartition("-")
            self._accepted[job_id].append(int(number) if number.isdigit() else 0)
        self._executions: dict[str, list[str]] = defaultdict(list)
        for name, status in evidence.executions:
            self._executions[name].append(status)
        self._notifications: dict[str, dict[int, list[Record]]] = defaultdict(dict)
        for message in evidence.notifications:
            self._notifications[message["job_id"]].setdefault(message["attempt"], []).append(message)
        self._struck: dict[str, list[tuple[JobFault, int]]] = defaultdict(list)
        for (job, fault), times in zip(scenario.striking(), evidence.struck, strict=False):
            if times:
                self._struck[job.name].append((fault, times))
        self._known: dict[str, int] = {}
        """The last attempt of each job that has a record."""
        self._endless: set[str] = set()
        self._deaths = evidence.deaths["submit"]
        self._dispatch_deaths = evidence.deaths["dispatch"]
        self._deliver_deaths = evidence.deaths["deliver"]

    def job(self, job: PlannedJob, record: Record) -> Iterator[str]:
        """Yield the violations of one job, which has one record."""
        job_id, attempt = record["job_id"], int(record.get("attempt", 1))
        self._known[job_id] = attempt
        yield from self._requests(job, job_id)
        yield from _place(record)
        if job.endless:
            self._endless.add(job_id)
            yield from self._kept_going(record)
            return
        if record["status"] not in TERMINAL:
            yield f"ended as {record['status']}, reason: {record.get('reason')}"
            return
        if not record.get("notified_at"):
            yield "is not marked as notified"
        yield from self._attempts(job, job_id, attempt)
        yield from self._payments(job, record)
        yield from self._last(record, attempt)
        yield from self._outputs(record)
        yield from self._errors(job, job_id)

    def _requests(self, job: PlannedJob, job_id: str) -> Iterator[str]:
        """Check that no attempt is accepted twice, and that a job that is always refused is not sent for ever."""
        for number, times in Counter(self._accepted[job_id]).items():
            if times > 1:
                yield f"the provider accepted {times} requests of attempt {number}"
        for fault, times in self._struck[job.name]:
            most = {ALWAYS_REFUSED.name: MOST_REFUSALS, ALWAYS_500.name: MOST_500S}.get(fault.name, times)
            if times > most:
                yield f"{fault.name}: it was sent {times} times, at most {most} are allowed"

    def _kept_going(self, record: Record) -> Iterator[str]:
        """Check that a job that always gets a 500 waits with a reason, or has ended with a notification."""
        if self._accepted[record["job_id"]]:
            yield "the provider accepted a job although it always answers 500"
        if record["status"] == "FAILED":
            error = (record.get("error") or {}).get("type")
            if error not in ("Rejected", "SubmitOutcomeUnknown") or not record.get("notified_at"):
                yield f"always gets a 500, and ended as {error}, notified at {record.get('notified_at')}"
        elif record["status"] not in ("QUEUED", "SUBMITTING") or not record.get("reason"):
            yield f"always gets a 500, and is {record['status']}, reason: {record.get('reason')}"

    def _attempts(self, job: PlannedJob, job_id: str, attempt: int) -> Iterator[str]:
        notifications = self._notifications[job_id]
        numbers = sorted(notifications)
        late = [number for number in numbers if number > 1 and _rescued(notifications[number][0])]
        least = 1 + self._asked.attempts.get(job.name, 0)
        most = 1 + self._asked.retries.get(job.name, 0) + len(late)
        if not least <= len(numbers) <= most:
            yield f"{len(numbers)} attempts were notified, {least} to {most} were asked for"
        if numbers and numbers[-1] != attempt:
            yield f"is at attempt {attempt}, but the last notified one is {numbers[-1]}"
        for number in numbers:
            name, sent = f"{job_id}-{number}", notifications[number]
            runs = self._executions[name]
            if len(runs) != 1 and not (number in late and not runs):  # a rescue needs none
                yield f"{name}: {len(runs)} executions"
            ends = {json.dumps([message[key] for key in ("status", "error", "outputs")]) for message in sent}
            if len(ends) > 1:
                yield f"{name}: its notifications differ: {'; '.join(sorted(ends))}"
            if runs and runs[0] != sent[0]["status"]:
                yield f"{name}: the execution ended as {runs[0]}, the notification says {sent[0]['status']}"
            if number < attempt and sent[0]["status"] != "FAILED" and job.name not in self._asked.forgotten:
                yield f"attempt {number} was notified as {sent[0]['status']}, and another one was made"

    def _payments(self, job: PlannedJob, record: Record) -> Iterator[str]:
        """Check that no request in the history is given up, and that none is paid for again without need."""
        job_id = record["job_id"]
        unresolved = {int(sent["attempt"]) for sent in record.get("requests") or () if sent.get("status") == UNRESOLVED}
        ended = sorted(self._notifications[job_id].items())
        accepted = self._accepted[job_id]
        before = 0
        for number, sent in ended:
            if _error(sent[0]) == "SubmitOutcomeUnknown" and any(before < paid <= number for paid in accepted):
                if number in unresolved:
                    self.explained.append(f"{job_id}-{number}: of unknown outcome: the history could not say")
                else:
                    yield f"{job_id}-{number}: notified as SubmitOutcomeUnknown, but the provider's history has it"
            before = number
        struck = {end for fault, _ in self._struck[job.name] for end in fault.explains}
        for earlier, later in pairwise(accepted):
            between = [_error(sent[0]) for number, sent in ended if earlier <= number < later]
            gone = GONE & {*between, *struck} or (job.name in self._asked.forgotten and None in between)
            if (between and gone) or earlier in unresolved:
                continue
            ends = ", ".join(error or "SUCCEEDED" for error in between) or "nothing"
            yield f"{job_id}-{later}: paid although attempt {earlier} was paid, and ended as {ends}"

    def _last(self, record: Record, attempt: int) -> Iterator[str]:
        for message in self._notifications[record["job_id"]].get(attempt, [])[:1]:
            sent, known = (message["status"], message["error"]), (record["status"], _notified_error(record))
            if sent != known:
                yield f"attempt {attempt}: notified as {sent}, the ledger has {known}"

    def _outputs(self, record: Record) -> Iterator[str]:
        folder = f"outputs/{record['character']}/{record['pose']}/{record['job_id']}/{int(record['attempt'])}/"
        stored = {
            key.removeprefix(folder): found for key, found in self._evidence.stored.items() if key.startswith(folder)
        }
        result = stored.pop("result.json", None)
        if record["status"] == "FAILED":
            if result:
                yield "FAILED, but there is a result.json"
            return
        if result is None or result.result is None:
            yield "SUCCEEDED without a result.json"
            return
        outputs = {output["key"].removeprefix(folder): output["sha256"] for output in result.result["outputs"]}
        if result.result["status"] != "SUCCEEDED" or not outputs:
            yield f"result.json says {result.result['status']} with {len(outputs)} outputs"
        sent = self._notifications[record["job_id"]].get(int(record["attempt"]))
        if sent and result.result != sent[0]:
            yield "result.json and the notification differ"
        if len(outputs) != (record["parameters"].get("samples") or 1):
            yield f"{len(outputs)} outputs, but {record['parameters'].get('samples')} samples were requested"
        if outputs != {name: found.sha256 for name, found in stored.items()}:
            yield f"result.json names {sorted(outputs)}, stored are {sorted(stored)}, or the bytes differ"
        for name, found in stored.items():
            if found.fault:
                yield f"{name} is not a complete image: {found.fault}"

    def _errors(self, job: PlannedJob, job_id: str) -> Iterator[str]:
        """Check that the faults of the job explain how its attempts ended."""
        struck = [fault for fault, _ in self._struck[job.name]]
        ends = {number: _error(sent[0]) for number, sent in sorted(self._notifications[job_id].items())}
        errors = {number: error for number, error in ends.items() if error}
        if job.bad_input:
            if set(ends.values()) != {"InvalidInput"}:
                yield f"its file is bad, but it ended as {list(ends.values())}"
            if self._accepted[job_id]:
                yield "its file is bad, but the provider accepted it"
            return
        explains = frozenset[str]().union(*(fault.explains for fault in struck))
        for number, error in errors.items():
            if error in explains:
                continue
            if why := self._own_fault(f"{job_id}-{number}", error):
                self.explained.append(f"{job.name}: {error}: {why}")
            else:
                yield f"ended as {error}, struck by {', '.join(fault.name for fault in struck) or 'nothing'}"
        for fault in struck:
            # A job that timed out has not seen how it ended at the provider.
            if fault.fatal and not {*fault.explains, "TimedOut"} & {*errors.values()}:
                yield f"struck by {fault.name}, but ended as {list(errors.values()) or 'SUCCEEDED'}"

    def _own_fault(self, name: str, error: str) -> str | None:
        """Return how killed or throttled functions explain the end of an attempt, or None."""
        if error == "SubmitOutcomeUnknown" and self._deaths:
            self._deaths -= 1  # a function that died after the claim and before the request
            return "a submit function was killed while working"
        failed = self._evidence.late_tasks.get(name, 0)
        if error == "TimedOut" and failed:
            return f"{failed} calls of its functions failed, killed or throttled"
        return None

    def all(self) -> Iterator[str]:
        """Yield the violations that belong to no single job, and the messages that are left in the queues."""
        yield from self._strays()
        yield from self._dead_letters()
        records = [*self._evidence.records, *self._asked.forgotten.values()]
        yield from check_sums(self._evidence, records)
        yield from check_charges(records, self._evidence.accepted)
        listed, accepted = len(self._evidence.accepted), self._evidence.accepted_in_all
        if listed != accepted:
            yield f"the provider's history has {listed} requests, but {accepted} were accepted"
        if self._evidence.key_leaks:
            yield f"the API key was sent to other hosts {self._evidence.key_leaks} times"
        for queue, bodies in self._evidence.left.items():
            for body in bodies:
                if queue == EVENT_DEAD_LETTERS and DISPATCH in body and self._dispatch_deaths:
                    self._dispatch_deaths -= 1  # a failed run is stored there; the next run did its work
                    self.explained.append("a run of dispatch was killed, and is in EventDeadLetterQueue")
                elif queue == EVENT_DEAD_LETTERS and any(part in body for part in PARTS) and self._deliver_deaths:
                    self._deliver_deaths -= 1
                    self.explained.append("a run of deliver for the sweep was killed, and is in EventDeadLetterQueue")
                elif not any(job_id in body for job_id in self._endless):
                    yield f"left in {queue}: {body[:300]}"

    def _dead_letters(self) -> Iterator[str]:
        """Check that each unreadable message is a dead letter with reason and source, and no other message is."""
        found = {(letter.source, letter.body) for letter in self._evidence.dead_letters if letter.reason}
        for queue, body in self._asked.unreadable.items():
            if (queue, body) not in found:
                yield f"an unreadable message of {queue} is not dead-lettered with its reason: {body}"
        for letter in self._evidence.dead_letters:
            if self._asked.unreadable.get(letter.source) != letter.body:
                yield f"dead-lettered from {letter.source or 'nowhere'}: {letter.body[:300]}, reason: {letter.reason}"

    def _strays(self) -> Iterator[str]:
        """Yield executions without a notification, notifications without a job, and requests without an attempt."""
        notified = {f"{job_id}-{number}" for job_id, attempts in self._notifications.items() for number in attempts}
        for name, statuses in sorted(self._executions.items()):
            if statuses and name not in notified:
                yield f"an execution that was not notified: {name}: {', '.join(statuses)}"
        for name in sorted(notified):
            if name.rpartition("-")[0] not in self._known:
                yield f"a notification of no job: {name}"
        for job_id, numbers in sorted(self._accepted.items()):
            for number in numbers:
                if not 1 <= number <= self._known.get(job_id, 0):
                    yield f"a request of no attempt: {job_id!r}, attempt {number}"


def _place(record: Record) -> Iterator[str]:
    """Check that a job is in the index places of its status, and in none after its end."""
    notified = bool(record.get("notified_at"))
    queued, paid = record["status"] == "QUEUED", record["status"] in ("SUBMITTING", "SUBMITTED")
    if (queued, queued) != ("stands" in record, "place" in record):
        yield f"{record['status']}, but its place in line is {record.get('stands')}, {record.get('place')}"
    if not queued and "send_at" in record:
        yield f"{record['status']}, but it is to be sent at {record['send_at']}"
    rescue = record["status"] == "FAILED" and record.get("unfinished") == RESCUE
    if "unfinished" in record and (queued or notified) and not rescue:
        yield f"{record['status']}{', notified' * notified}, but unfinished: {record['unfinished']}"
    if paid and record.get("unfinished") != "paid":
        yield f"{record['status']}, but not among the paid ones: {record.get('unfinished')}"


def _rescued(message: Record) -> bool:
    """Return whether an attempt was delivered through the provider's history."""
    return bool((message.get("metrics") or {}).get("rescued"))


def _error(message: Record) -> str | None:
    """Return the error type of a notification, None for a success."""
    error = message["error"]
    return str(error["type"]) if error else None


def _notified_error(record: Record) -> dict[str, str] | None:
    """Return a record's error as in the notification, which leaves out the code."""
    error = record.get("error")
    return {name: error[name] for name in ("type", "message")} if error else None
