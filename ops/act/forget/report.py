"""Say what is gone of a character that was forgotten, and what is beyond reach and until when."""

from dataclasses import dataclass, field

from ops.act.forget.forgetting import Found, Gone, Left
from ops.formatting import many
from ops.stack import Stack
from posedrop.aws.record_table import DAY
from posedrop.contract.naming import execution_name
from posedrop.contract.times import rfc3339
from posedrop.segmind.requests import IMAGES_KEPT as KEPT

FUNCTIONS = ("intake", "dispatch", "prepare", "submit", "poll", "deliver", "sweep")
HISTORY_DAYS = 90
"""Days after its end for which Step Functions keeps an execution's history (developer guide, quotas)."""
RECOVERY_DAYS = 35
"""Days for which the table can be restored as it was (DynamoDB developer guide, point-in-time recovery)."""
MESSAGE_DAYS = 14
"""Days after which a queue drops a message (template.yaml)."""
LOG_DAYS = 30
"""Days for which logs are kept where the stack does not say it (template.yaml)."""
PREPARED_DAYS = 30
"""Days after which the bucket drops a prepared image (template.yaml)."""


@dataclass(frozen=True)
class Stay:
    """What is not gone. where: a code. until: when it goes by itself (RFC 3339), None where it does not.

    items: its names where they are known: request ids, ARNs, keys, log groups.
    """

    where: str
    what: str
    until: str | None
    items: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What is gone, and what stays. `at` is when (RFC 3339)."""

    character: str
    at: str
    gone: Gone
    stays: list[Stay]


def report(stack: Stack, found: Found, gone: Gone, left: Left) -> Report:
    """Put the report together."""
    now = stack.clock()
    stays = [*_at_the_provider(found, now), *_in_aws(stack, found, left, now), *_of_others(found, left, now)]
    return Report(found.character, rfc3339(now), gone, stays)


def _at_the_provider(found: Found, now: float) -> list[Stay]:
    requests = found.jobs.requests
    if not requests and not found.nothing:
        return []
    text = "the provider keeps the images of a request for seven days, at links that need no key"
    text += "; how long it keeps the pictures and the prompt that it got, its terms say"
    until = (found.jobs.sent_at or now) + KEPT
    return [Stay("provider", text, rfc3339(until), requests)]


def _in_aws(stack: Stack, found: Found, left: Left, now: float) -> list[Stay]:
    """What AWS keeps, and lets nobody remove."""
    names = [
        execution_name(job_id, attempt)
        for job_id, highest in found.jobs.attempts.items()
        for attempt in range(1, highest + 1)
    ]
    executions = f"Step Functions keeps the history of an execution for {HISTORY_DAYS} days: names, ids, errors"
    recovery = f"the table can be restored as it was within the last {RECOVERY_DAYS} days"
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
        text = f"{many(left.unseen_messages, 'message')} in the queues, delayed or being handled, may be about it"
        stays.append(Stay("messages", text, rfc3339(now + MESSAGE_DAYS * DAY)))
    return stays


def _of_others(found: Found, left: Left, now: float) -> list[Stay]:
    """What is of use to others, or with them."""
    stays = [Stay("subscribers", "what subscribers, mailboxes and event buses were notified of", None)]
    until = rfc3339(now + PREPARED_DAYS * DAY)
    if left.shared_images:
        text = "prepared images of uploads that another character has as well, with the same bytes"
        stays.append(Stay("prepared", text, until, left.shared_images))
    if found.unread:
        text = f"what was prepared of {many(found.unread, 'upload')} that could not be read, if anything was"
        stays.append(Stay("prepared", text, until))
    if left.client_has_others:
        text = "the client's place in line, under a hash of its name: the client has other characters"
        stays.append(Stay("client-rank", text, None))
    if found.jobs.under_way:
        text = f"{many(len(found.jobs.under_way), 'job')} had not ended: run it again when they have"
        stays.append(Stay("under-way", text, None, sorted(found.jobs.under_way)))
    return stays
