"""Follow jobs to their ends."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ops.act import uploading
from ops.act.uploading import Standing
from ops.cli.shell import Shell
from ops.cli.views import following
from ops.errors import Refused, TooLate
from ops.formatting import many
from ops.inspect.explain_record import explain_record
from ops.inspect.explanation import Explanation
from ops.inspect.situation import Situation
from ops.stack import Stack
from posedrop.aws.record import Record, Status


def follow_jobs(
    shell: Shell, attempts: Mapping[str, int], names: Mapping[str, str], timeout: float, output: Path | None
) -> None:
    """Follow jobs to their ends and show the results. Raises Refused if one failed, TooLate if one has not ended."""
    stack = shell.stack
    standings = _follow(shell, attempts, names, timeout)
    explanations: dict[str, Explanation] = {}
    paths: dict[str, list[str]] = {}
    situation = Situation.of(stack)
    for standing in standings:
        record = standing.record
        if record is not None:
            explanations[standing.job_id] = explain_record(record, situation)
            paths[standing.job_id] = images_of(stack, record, output)
    data = [
        {
            "job_id": standing.job_id,
            "status": str(standing.record.status) if standing.record else None,
            "images": paths.get(standing.job_id, []),
            "explanation": explanations.get(standing.job_id),
        }
        for standing in standings
    ]
    shell.show(data, lambda: following.results(standings, explanations, paths))
    open_ = [standing.job_id for standing in standings if not standing.ended]
    failed = [standing.job_id for standing in standings if standing.record and standing.record.status is Status.FAILED]
    refuse_open(stack, open_)
    if failed:
        raise Refused(f"{len(failed)} of {many(len(standings), 'job')} failed")


def watch_jobs(
    shell: Shell, attempts: Mapping[str, int], names: Mapping[str, str], timeout: float, records: dict[str, Record]
) -> None:
    """Follow jobs to their ends, and add their records to `records`, if they exist."""
    _follow(shell, attempts, names, timeout, lambda standings: records.update(_records(standings)))


def images_of(stack: Stack, record: Record, output: Path | None) -> list[str]:
    """Download a job's images into a directory, and return their paths. Without a directory, return their S3 URIs."""
    if output:
        return [str(path) for path in uploading.download(stack, record, output)]
    return [str(found["uri"]) for found in record.outputs]


def refuse_open(stack: Stack, job_ids: Sequence[str]) -> None:
    """Raise TooLate if some jobs have not ended."""
    if job_ids:
        explain = stack.command("explain", job_ids[0])
        raise TooLate(f"{many(len(job_ids), 'job')} not finished in time and still running: {explain}")


def _records(standings: Sequence[Standing]) -> dict[str, Record]:
    return {standing.job_id: standing.record for standing in standings if standing.record}


def _follow(
    shell: Shell,
    attempts: Mapping[str, int],
    names: Mapping[str, str],
    timeout: float,
    seen: Callable[[Sequence[Standing]], object] = lambda standings: None,
) -> list[Standing]:
    """Follow jobs to their ends; `seen` is called with their states after each read."""
    last: list[Standing] = []

    def reads() -> Iterator[list[Standing]]:
        for standings in uploading.follow(shell.stack, attempts, timeout, lambda said: shell.say(said, "yellow")):
            seen(standings)
            yield standings

    if not shell.json:
        return following.follow(shell.err, names, reads())
    for standings in reads():
        last = standings
    return last
