"""Show what would be sent, and the cost."""

import json
from collections.abc import Sequence

from rich.text import Text

from ops.cli.screen import STYLES, Grid, Part, prose, text, word
from ops.formatting import many, usd
from ops.inspect.explain_record import missing
from ops.inspect.plan import Outcome, Plan, PlannedJob
from posedrop.contract.upload_layout import UploadLayout


def plan(found: Plan, layout: UploadLayout) -> list[Part]:
    """Return what would be sent, and the cost."""
    if not found.jobs:
        return [Text("There are no poses: nothing would be sent.", "dim")]
    table = Grid("Pose", "Outcome", "Cost", "What", right=("Cost",), whole=("Outcome",))
    for job in found.jobs:
        cost = usd(job.usd) if job.usd else "-"
        table.add(text(job.pose), Text(job.outcome, STYLES[job.outcome]), cost, text(_planned(job, layout), "dim"))
    parts: list[Part] = [table]
    for job in found.jobs:
        if job.outcome is Outcome.NEW and job.request:
            request = json.dumps(job.request, indent=2, ensure_ascii=False)
            parts += [Text(), text(f"{job.pose}: POST {found.url}", "dim"), text(request)]
    new = sum(job.outcome is Outcome.NEW for job in found.jobs)
    return [*parts, Text(), prose(f"{many(new, 'new job')}, about {usd(found.usd)}. Nothing was sent.")]


def _planned(job: PlannedJob, layout: UploadLayout) -> str:
    if job.outcome is Outcome.REFUSED:
        return job.error or ""
    if job.outcome is Outcome.WAITING:
        return missing(layout.folder(job.character), job.pose, job.missing).sentence
    if job.outcome is Outcome.KNOWN:
        return f"{job.job_id}: {word(job.status or '')}" + (f": {job.error}" if job.error else "")
    done = "; ".join(f"the {name} is {_listed(what)} first" for name, what in job.changes.items())
    shares = "" if job.asked else " (not named, but it shares the face)"
    return (job.job_id or "") + shares + (f" ({done})" if done else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
