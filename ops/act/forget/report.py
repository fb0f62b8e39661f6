"""Report what was deleted of a character, what stays, and until when."""

from dataclasses import dataclass, field

from ops.act.forget.forgetting import Found, Gone, Left
from ops.formatting import many
from ops.stack import Stack
from posedrop.contract.naming import execution_name
from posedrop.contract.times import DAY, rfc3339
from posedrop.segmind.requests import IMAGES_KEPT as KEPT

FUNCTIONS = ("intake", "dispatch", "prepare", "submit", "poll", "deliver", "sweep")
HISTORY_DAYS = 90
"""Days after its end for which Step Functions keeps an execution's history (developer guide, quotas)."""
RECOVERY_DAYS = 35
"""Days for which the table can be restored as it was (DynamoDB developer guide, point-in-time recovery)."""
MESSAGE_DAYS = 14
"""Days after which SQS drops a message (template.yaml)."""
LOG_DAYS = 30
"""Days for which logs are kept if the stack has no such parameter (template.yaml)."""
PREPARED_DAYS = 30
"""Days after which the bucket drops a prepared image (template.yaml)."""


@dataclass(frozen=True)
class Stay:
    """Something that stays. where: a code. until: when it is deleted automatically (RFC 3339), None if never.

    items: its names, if known: request ids, ARNs, keys, log groups.
    """

    where: str
    what: str
    until: str | None
    items: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What was deleted and what stays. `at` is the time of the report (RFC 3339)."""

    character: str
    at: str
    gone: Gone
    stays: list[Stay]


def report(stack: Stack, found: Found, gone: Gone, left: Left) -> Report:
    """Return the report."""
    now = stack.clock()
    stays = [*_at_the_provider(found, now), *_in_aws(stack, found, left, now), *_of_others(found, left, now)]
    return Report(found.character, rfc3339(now), gone, stays)


def _at_the_provider(found: Found, now: float) -> list[Stay]:
    requests = found.jobs.requests
    if not requests and not found.nothing:
        return []
    text = "the provider keeps the images of a request for seven days, at links that need no key"
    text += "; how long it keeps the pictures and the prompt is in its terms"
    until = (found.jobs.sent_at or now) + KEPT
    return [Stay("provider", text, rfc3339(until), requests)]


def _in_aws(stack: Stack, found: Found, left: Left, now: float) -> list[Stay]:
    """Return what AWS keeps and does not let anybody delete."""
    names = [
        execution_name(job_id, attempt)
        for job_id, highest in found.jobs.attempts.items()
        for attempt in range(1, highest + 1)
    ]
    executions = f"Step Functions keeps the history of an execution for {HISTORY_DAYS} days: names, ids, errors"
    recovery = f"the table can be restored to any time of the last {RECOVERY_DAYS} days"
    days = float(stack.parameters.get("LogRetentionDays", LOG_DAYS))
    logs = [f"/posedrop/{stack.name}/{function}" for function in FUNCTIONS]
    attempts = "the number of each job's last attempt, under a hash of its id, without a name"
    stays = [
        Stay("executions", executions, rfc3339(now + HISTORY_DAYS * DAY), [*map(stack.execution_named, names)]),
        Stay("point-in-time-recovery", recovery, rfc3339(now + RECOVERY_DAYS * DAY)),
        Stay("logs", "log lines name keys, jobs, characters and poses", rfc3339(now + days * DAY), logs),
        Stay("attempts", attempts, None, left.attempts),
    ]
    if left.unseen_messages:
        text = f"{many(left.unseen_messages, 'message')} in the queues, delayed or in flight, may be about it"
        stays.append(Stay("messages", text, rfc3339(now + MESSAGE_DAYS * DAY)))
    return stays


def _of_others(found: Found, left: Left, now: float) -> list[Stay]:
    """Return what other characters or other systems use."""
    stays = [Stay("subscribers", "the notifications that subscribers, mailboxes and event buses received", None)]
    until = rfc3339(now + PREPARED_DAYS * DAY)
    if left.shared_images:
        text = "prepared images of uploads that another character has too, with the same bytes"
        stays.append(Stay("prepared", text, until, left.shared_images))
    if found.unread:
        text = f"images prepared from {many(found.unread, 'upload')} that could not be read, if there are any"
        stays.append(Stay("prepared", text, until))
    if left.client_has_others:
        text = "the client's place in line, under a hash of its name: the client has other characters"
        stays.append(Stay("client-rank", text, None))
    if found.jobs.under_way:
        text = f"{many(len(found.jobs.under_way), 'job')} had not ended: run it again when they have"
        stays.append(Stay("under-way", text, None, sorted(found.jobs.under_way)))
    return stays
