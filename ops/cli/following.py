"""Follow jobs to their ends."""

from collections.abc import Mapping
from pathlib import Path

from ops.act import uploading
from ops.cli.shell import Shell
from ops.cli.views import following
from ops.errors import Refused, TooLate
from ops.formatting import many
from ops.inspect.explain_record import explain_record
from ops.inspect.explanation import Explanation
from ops.inspect.situation import Situation
from posedrop.aws.record import Status


def follow_jobs(
    shell: Shell, attempts: Mapping[str, int], names: Mapping[str, str], timeout: float, output: Path | None
) -> None:
    """Follow jobs to their ends and show what came of them. Raises Refused if one failed, TooLate if one goes on."""
    stack = shell.stack
    looks = uploading.follow(stack, attempts, timeout)
    standings = list(looks)[-1] if shell.json else following.follow(shell.err, names, looks)
    explanations: dict[str, Explanation] = {}
    paths: dict[str, list[str]] = {}
    situation = Situation.of(stack)
    for standing in standings:
        record = standing.record
        if record is not None:
            explanations[standing.job_id] = explain_record(record, situation)
            paths[standing.job_id] = (
                [str(path) for path in uploading.download(stack, record, output)]
                if output
                else [str(found["uri"]) for found in record.outputs]
            )
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
    if open_:
        raise TooLate(
            f"{many(len(open_), 'job')} not finished in time; it goes on: {stack.command('explain', open_[0])}"
        )
    if failed:
        raise Refused(f"{len(failed)} of {many(len(standings), 'job')} failed")
