"""Is the stack well: what is queued, sent and stuck, how much of the limit is used, what is paused and why."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from ops.records import Counts, Records
from ops.stack import Stack
from ops.words import command, many
from posedrop.clock import rfc3339
from posedrop.pacing import DAY, Held, Limits, Pacing
from posedrop.telemetry import PRICE

MINUTE = 60.0


@dataclass(frozen=True)
class Problem:
    """Something that somebody must see to, and how."""

    what: str
    next_step: str


@dataclass(frozen=True)
class Pause:
    """Submitting waits: `reason`, and until when (RFC 3339). `account`: refused, not limited."""

    reason: str
    until: str
    account: bool


@dataclass(frozen=True)
class Rate:
    """The plan's limit: calls of the coming minute that are taken, and the seconds until the next that is free."""

    requests_per_minute: float
    counting: str
    taken: int
    next_free_seconds: float
    daily_jobs: float
    jobs_today: int


@dataclass(frozen=True)
class Health:
    """A stack at a glance. Times are RFC 3339, durations seconds, spend USD (an estimate from the jobs sent)."""

    stack: str
    at: str
    jobs: Counts
    queue: int
    oldest_queued_seconds: float | None
    dead_letters: int
    undelivered_events: int | None
    rate: Rate
    pause: Pause | None
    typical_seconds: float
    spend_today: float
    problems: list[Problem]


def health(stack: Stack) -> Health:
    """Look at a stack. Errors of AWS pass as botocore's."""
    now = stack.clock()
    pacing = stack.governor.read()
    records = Records(stack)
    counts = records.counts()
    oldest = records.oldest_queued()
    rate, pause = limit_use(pacing, stack.limits, now)
    dead = depth(stack, stack.output("DeadLetterQueueUrl"))
    undelivered = _undelivered(stack)
    tenths = sorted(stack.latency().tenths)
    return Health(
        stack=str(stack),
        at=rfc3339(now),
        jobs=counts,
        queue=depth(stack, stack.output("UploadQueueUrl")),
        oldest_queued_seconds=None if oldest is None else max(0.0, round(now - oldest, 1)),
        dead_letters=dead,
        undelivered_events=undelivered,
        rate=rate,
        pause=pause,
        typical_seconds=tenths[len(tenths) // 2] / 10,
        spend_today=round(rate.jobs_today * PRICE, 4),
        problems=[*_problems(pause, dead, undelivered), *bucket_problems(stack)],
    )


def problems(stack: Stack) -> list[Problem]:
    """What somebody must see to, without a look at jobs and pauses. Errors of AWS pass as botocore's."""
    dead = depth(stack, stack.output("DeadLetterQueueUrl"))
    return [*_problems(None, dead, _undelivered(stack)), *bucket_problems(stack)]


def _undelivered(stack: Stack) -> int | None:
    """How many events could not be delivered; None where the queue of them cannot be told."""
    url = stack.resource("EventDeadLetterQueue")
    return depth(stack, url) if url else None


def limit_use(pacing: Pacing, limits: Limits, now: float) -> tuple[Rate, Pause | None]:
    """How much of the plan's limit is given out, and whether and why submitting waits altogether. Pure."""
    # The question that submit asks; what it would change is thrown away.
    _, taken = pacing.take(now, limits)
    pause = None
    next_free = now
    if isinstance(taken, Held) and taken.slot is None:
        pause = Pause(taken.reason, rfc3339(taken.until), taken.paused)
        next_free = taken.until
    elif isinstance(taken, Held) and taken.slot:
        next_free = taken.slot.at
    elif not isinstance(taken, Held):
        next_free = taken.at
    rate = Rate(
        requests_per_minute=limits.requests_per_minute,
        counting="calls" if pacing.counts_all(limits, now) else "submits",
        taken=_taken(pacing, now),
        next_free_seconds=max(0.0, round(next_free - now, 1)),
        daily_jobs=limits.daily_jobs,
        jobs_today=pacing.day_jobs if pacing.day == int(now // DAY) else 0,
    )
    return rate, pause


def _taken(pacing: Pacing, now: float) -> int:
    """How many slots from now on, for a minute, are taken."""
    if not pacing.interval:
        return 0
    slots = int(pacing.taken, 16)
    first = max(0, round((now - pacing.base) / pacing.interval))
    minute = round(MINUTE / pacing.interval)
    return ((slots >> first) & ((1 << minute) - 1)).bit_count()


def _problems(pause: Pause | None, dead: int, undelivered: int | None) -> list[Problem]:
    found = []
    if pause and pause.account:
        found.append(
            Problem(f"submitting is paused: {pause.reason}", "see to the provider's account; it resumes by itself")
        )
    if dead:
        found.append(Problem(f"{many(dead, 'message')} in the dead-letter queue", command("redrive")))
    if undelivered:
        found.append(
            Problem(f"{many(undelivered, 'event')} could not be delivered", "look at the queue EventDeadLetterQueue")
        )
    return found


def bucket_problems(stack: Stack) -> list[Problem]:
    """What the upload bucket lacks, which its owner must switch on if the stack did not make it."""
    try:
        return [problem for problem in (no_versions(stack), no_events(stack)) if problem]
    except ClientError as exc:
        text = (
            f"the upload bucket {stack.output('UploadBucketName')} cannot be checked: {exc.response['Error']['Code']}"
        )
        return [Problem(text, "look at it with its owner")]


def no_versions(stack: Stack) -> Problem | None:
    """What to do if the upload bucket keeps no versions."""
    name = stack.output("UploadBucketName")
    if stack.client("s3").get_bucket_versioning(Bucket=name).get("Status") == "Enabled":
        return None
    step = f"aws s3api put-bucket-versioning --bucket {name} --versioning-configuration Status=Enabled"
    return Problem(f"the upload bucket {name} keeps no versions", step)


def no_events(stack: Stack) -> Problem | None:
    """What to do if the upload bucket sends no events to EventBridge."""
    name = stack.output("UploadBucketName")
    if "EventBridgeConfiguration" in stack.client("s3").get_bucket_notification_configuration(Bucket=name):
        return None
    step = (
        f"aws s3api put-bucket-notification-configuration --bucket {name} --notification-configuration "
        "'{\"EventBridgeConfiguration\": {}}' (it replaces the bucket's whole notification configuration)"
    )
    return Problem(f"the upload bucket {name} sends no events to EventBridge", step)


def depth(stack: Stack, queue_url: str) -> int:
    """How many messages a queue holds, those that are delayed or being handled too, about."""
    names = ("", "NotVisible", "Delayed")
    attributes: dict[str, Any] = stack.client("sqs").get_queue_attributes(
        QueueUrl=queue_url, AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names]
    )["Attributes"]
    return sum(int(attributes.get(f"ApproximateNumberOfMessages{name}", 0)) for name in names)
