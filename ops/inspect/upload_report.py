"""Report the results of an upload, of each job and in total, for people, programs and spreadsheets."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ops.inspect.batch import Item, Prepared
from ops.inspect.costs import cell
from ops.inspect.plan import Outcome
from posedrop.aws.record import Record, Status

NOT_SENT, SENT, LEFT_OUT = "NOT_SENT", "SENT", "LEFT_OUT"
"""The states without a record: not uploaded, uploaded but not read yet, and not used as a picture."""


@dataclass(frozen=True)
class Result:
    """The result of one job.

    - picture: the local file of the pose, as the user named it.
    - status: the record's status, or NOT_SENT, SENT or LEFT_OUT.
    - known: whether the job existed already, so that it cost nothing again.
    - cost_usd: None if it is unknown.
    - images: paths, or S3 URIs if the images were not downloaded.
    """

    character: str
    pose: str
    picture: str
    job_id: str
    status: str
    known: bool
    cost_usd: float | None
    images: list[str]
    why: str


@dataclass(frozen=True)
class UploadReport:
    """The results of all jobs, and of files that make none. `cost_usd`: the known cost of the upload's own jobs.

    cost_unknown: the number of jobs without a known cost. open: the number of jobs that have not ended.
    """

    jobs: int
    succeeded: int
    failed: int
    not_sent: int
    open: int
    known: int
    cost_usd: float
    cost_unknown: int
    results: list[Result]


def upload_report(
    prepared: Prepared,
    records: Mapping[str, Record],
    images: Mapping[str, Sequence[str]],
    unsent: Mapping[str, str],
) -> UploadReport:
    """Return the report. `images` are those of each job, `unsent` the unsent keys with the reasons. Pure."""
    results = [_result(item, records, images, unsent) for item in prepared.items]
    results += [
        Result("", "", problem.what, "", NOT_SENT, False, None, [], problem.why) for problem in prepared.problems
    ]
    jobs = len(results)
    results += [Result("", "", left.what, "", LEFT_OUT, False, None, [], left.why) for left in prepared.left_out]
    own = [result for result in results if result.status not in (NOT_SENT, SENT, LEFT_OUT) and not result.known]
    states = [result.status for result in results]
    closed = (Status.SUCCEEDED, Status.FAILED, NOT_SENT, LEFT_OUT)
    return UploadReport(
        jobs=jobs,
        succeeded=states.count(Status.SUCCEEDED),
        failed=states.count(Status.FAILED),
        not_sent=states.count(NOT_SENT),
        open=sum(state not in closed for state in states),
        known=sum(result.known for result in results),
        cost_usd=round(sum(result.cost_usd or 0 for result in own), 4),
        cost_unknown=sum(result.cost_usd is None for result in own),
        results=results,
    )


def _result(
    item: Item, records: Mapping[str, Record], images: Mapping[str, Sequence[str]], unsent: Mapping[str, str]
) -> Result:
    job = item.job
    job_id, known = job.job_id or "", job.outcome is Outcome.KNOWN
    here = (job.character, job.pose, item.picture, job_id)
    if job.outcome in (Outcome.REFUSED, Outcome.WAITING):
        return Result(*here, NOT_SENT, False, None, [], item.why or "")
    record = records.get(job_id)
    if record is None:
        why = unsent.get(item.key)
        return Result(*here, NOT_SENT if why else SENT, known, None, [], why or "")
    why = f"{record.error['type']}: {record.error['message']}" if record.error else ""
    return Result(*here, str(record.status), known, record.cost_usd, list(images.get(job_id, [])), why)


def as_json(report: UploadReport) -> str:
    """Write a report as JSON. Pure."""
    return json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n"


def as_csv(report: UploadReport) -> str:
    """Return the report as CSV: a row for each job; several images are in one cell, separated by |. Pure."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(field.name for field in fields(Result))
    writer.writerows(list(_cells(result)) for result in report.results)
    return out.getvalue()


def _cells(result: Result) -> Iterator[Any]:
    for value in vars(result).values():
        if isinstance(value, list):
            yield "|".join(value)
        else:
            yield "" if value is None else str(value).lower() if isinstance(value, bool) else cell(value)
