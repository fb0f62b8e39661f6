"""Did the pipeline keep its promises? Pure: a scenario and the evidence in, the violations out."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from local.chaos.evidence import Evidence, Record
from local.chaos.scenario import PlannedJob, Scenario
from local.chaos.trouble import Trouble

TERMINAL = ("SUCCEEDED", "FAILED")


@dataclass
class Verdict:
    """`violations` are sentences that name the job; `explained` are those that look like one and are none."""

    violations: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)


def judge(scenario: Scenario, evidence: Evidence, asked_for: Mapping[str, int]) -> Verdict:
    """Count everything. `asked_for`: how many new attempts were asked for, by the job's name."""
    verdict = Verdict()
    places: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in evidence.records:
        places[record["character"], record["pose"]].append(record)
    expected = {(job.character, job.pose) for job in scenario.jobs}
    for place in places.keys() - expected:
        verdict.violations.append(f"{place[0]}/{place[1]}: a record of a job that no upload makes")
    sound = _Judge(scenario, evidence)
    for job in scenario.jobs:
        found = places[job.character, job.pose]
        if len(found) != 1:
            known = ", ".join(f"{record['job_id']} {record['status']}" for record in found) or "none"
            verdict.violations.append(f"{job.name}: one record expected, not {len(found)}: {known}")
            continue
        attempts = 1 + asked_for.get(job.name, 0)
        verdict.violations += [
            f"{job.name} ({found[0]['job_id']}): {fault}" for fault in sound.job(job, found[0], attempts)
        ]
    verdict.violations += sound.all()
    verdict.explained += sound.explained
    return verdict


class _Judge:
    def __init__(self, scenario: Scenario, evidence: Evidence) -> None:
        self.explained: list[str] = []
        self._evidence = evidence
        self._accepted = Counter(accepted.name for accepted in evidence.accepted)
        self._executions: dict[str, list[str]] = defaultdict(list)
        for name, status in evidence.executions:
            self._executions[name].append(status)
        self._told: dict[str, list[Record]] = defaultdict(list)
        for message in evidence.notifications:
            self._told[f"{message['job_id']}-{message['attempt']}"].append(message)
        self._struck: dict[str, list[Trouble]] = defaultdict(list)
        for (job, trouble), times in zip(scenario.striking(), evidence.struck, strict=False):
            if times:
                self._struck[job.name].append(trouble)
        self._known: set[str] = set()
        self._deaths = evidence.deaths["submit"]

    def job(self, job: PlannedJob, record: Record, attempts: int) -> Iterator[str]:
        """What is wrong with one job, which has one record."""
        job_id, attempt = record["job_id"], int(record.get("attempt", 1))
        self._known |= {f"{job_id}-{number}" for number in range(1, attempt + 1)}
        if record["status"] not in TERMINAL:
            yield f"ended as {record['status']}, reason: {record.get('reason')}"
            return
        if attempt != attempts:
            yield f"is at attempt {attempt}, {attempts} were asked for"
        if not record.get("notified_at"):
            yield "is not marked as told"
        errors = []
        for number in range(1, attempt + 1):
            name = f"{job_id}-{number}"
            yield from self._attempt(name)
            told = self._told[name]
            if told and told[0]["error"]:
                errors.append(told[0]["error"]["type"])
                yield from self._payment(name, f"{job_id}-{number + 1}", errors[-1], self._struck[job.name])
            if told and number < attempt and told[0]["status"] != "FAILED":
                yield f"attempt {number} was told as {told[0]['status']}, and another one was made"
        yield from self._last(record, f"{job_id}-{attempt}")
        yield from self._outputs(record)
        yield from self._errors(job, job_id, errors)

    def _attempt(self, name: str) -> Iterator[str]:
        paid, runs, told = self._accepted[name], self._executions[name], self._told[name]
        if paid > 1:
            yield f"{name}: the provider accepted {paid} submits"
        if len(runs) != 1:
            yield f"{name}: {len(runs)} executions"
        if not told:
            yield f"{name}: no notification"
        ends = {json.dumps([message[key] for key in ("status", "error", "outputs")]) for message in told}
        if len(ends) > 1:
            yield f"{name}: its notifications differ: {'; '.join(sorted(ends))}"
        if told and runs and runs[0] != told[0]["status"]:
            yield f"{name}: the execution ended as {runs[0]}, the notification says {told[0]['status']}"

    def _payment(self, name: str, following: str, error: str, struck: list[Trouble]) -> Iterator[str]:
        """Whether an attempt that was taken, and ended with this error, was given up or bought again without need."""
        if not self._accepted[name]:
            return
        if error == "SubmitOutcomeUnknown":
            if name in self._evidence.unasked:
                self.explained.append(f"{name}: of unknown outcome: the history could not be asked")
            else:
                yield f"{name}: told as SubmitOutcomeUnknown, and the provider's history has it"
        if not self._accepted[following] or following in self._evidence.unasked:
            return
        gone = {"InferenceFailed", "ResultExpired"}
        if not gone & {error, *(end for trouble in struck for end in trouble.explains)}:
            yield f"{following}: bought although the attempt before was, and ended as {error}"

    def _last(self, record: Record, name: str) -> Iterator[str]:
        for message in self._told[name][:1]:
            told, known = (message["status"], message["error"]), (record["status"], record.get("error"))
            if told != known:
                yield f"{name}: told as {told}, the ledger has {known}"

    def _outputs(self, record: Record) -> Iterator[str]:
        folder = f"outputs/{record['character']}/{record['pose']}/{record['job_id']}/{int(record['attempt'])}/"
        stored = {
            key.removeprefix(folder): found for key, found in self._evidence.stored.items() if key.startswith(folder)
        }
        result = stored.pop("result.json", None)
        if record["status"] == "FAILED":
            if result:
                yield "FAILED, and there is a result.json"
            return
        if result is None or result.result is None:
            yield "SUCCEEDED without a result.json"
            return
        outputs = {output["key"].removeprefix(folder): output["sha256"] for output in result.result["outputs"]}
        if result.result["status"] != "SUCCEEDED" or not outputs:
            yield f"result.json says {result.result['status']} with {len(outputs)} outputs"
        told = self._told[f"{record['job_id']}-{int(record['attempt'])}"]
        if told and result.result != told[0]:
            yield "result.json and the notification differ"
        if len(outputs) != (record["parameters"].get("samples") or 1):
            yield f"{len(outputs)} outputs, {record['parameters'].get('samples')} samples were asked for"
        if outputs != {name: found.sha256 for name, found in stored.items()}:
            yield f"result.json names {sorted(outputs)}, stored are {sorted(stored)}, or other bytes"
        for name, found in stored.items():
            if found.fault:
                yield f"{name} is not a whole image: {found.fault}"

    def _errors(self, job: PlannedJob, job_id: str, errors: list[str]) -> Iterator[str]:
        """Whether what struck the job explains how its attempts ended."""
        struck = self._struck[job.name]
        if job.bad_input:
            if set(errors) != {"InvalidInput"}:
                yield f"its file is bad, and it ended as {errors or 'SUCCEEDED'}"
            if any(name.startswith(f"{job_id}-") for name in self._accepted):
                yield "its file is bad, and the provider accepted it"
            return
        explains = frozenset[str]().union(*(trouble.explains for trouble in struck))
        for number, error in enumerate(errors, start=1):
            if error in explains:
                continue
            if why := self._own_fault(f"{job_id}-{number}", error):
                self.explained.append(f"{job.name}: {error}: {why}")
            else:
                yield f"ended as {error}, struck by {', '.join(trouble.name for trouble in struck) or 'nothing'}"
        for trouble in struck:
            # What timed out has not seen how the provider ended it.
            if trouble.fatal and not {*trouble.explains, "TimedOut"} & {*errors}:
                yield f"struck by {trouble.name}, and ended as {errors or 'SUCCEEDED'}"

    def _own_fault(self, name: str, error: str) -> str | None:
        """How the end of an attempt is explained by functions that were killed or throttled, if it is."""
        if error == "SubmitOutcomeUnknown" and self._deaths:
            self._deaths -= 1  # one that dies after the claim and before the request
            return "a submit function was killed at work"
        failed = self._evidence.late_tasks.get(name, 0)
        if error == "TimedOut" and failed:
            return f"{failed} calls of its functions failed, killed or throttled"
        return None

    def all(self) -> Iterator[str]:
        """What is wrong with things that belong to no job, and with what is left in the queues."""
        for name in sorted(self._executions.keys() - self._known):
            yield f"an execution of no attempt: {name}"
        for name in sorted(self._told.keys() - self._known):
            yield f"a notification of no attempt: {name}: {self._told[name][0]['status']}"
        for name in sorted(self._accepted.keys() - self._known):
            yield f"a submit of no attempt: {name!r}"
        listed, taken = len(self._evidence.accepted), self._evidence.accepted_in_all
        if listed != taken:
            yield f"the provider's history has {listed} requests, {taken} were taken"
        if self._evidence.key_leaks:
            yield f"the API key was sent elsewhere {self._evidence.key_leaks} times"
        for queue, letters in self._evidence.letters.items():
            for letter in letters:
                yield f"left in the {queue}: {letter[:300]}"
