"""Report whether the stack is healthy: the queues, stuck jobs, the use of the limit, pauses and their causes."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError

from ops.formatting import many, span
from ops.inspect.bucket import bucket_problems
from ops.inspect.deployment import deployment_problems
from ops.inspect.problem import Problem
from ops.inspect.records import Counts, Records
from ops.inspect.triggers import trigger_problems
from ops.stack import Stack
from posedrop.aws.record import JobStatus, Record, Status
from posedrop.contract.reasons import BUDGETS
from posedrop.contract.times import rfc3339
from posedrop.gate.breaker import Breaker, Cause
from posedrop.gate.budget import Budget
from posedrop.gate.credits import Credits
from posedrop.gate.gate import GateState, Opening
from posedrop.gate.rate_limit import RateLimit
from posedrop.sweep.sweeper import Ages

MINUTE = 60.0
LONG_WAIT = 6 * 3600.0
"""Seconds that a job may wait, as in OldestJobAlarm."""
STEPS: dict[str, str] = {
    Cause.KEY_REFUSED: "Put a valid API key into the stack's secret",
    Cause.ACCOUNT_REFUSED: (
        "Fix the provider's account: give it access to the model (403), buy credits (406), "
        "or correct SegmindBaseUrl (404)"
    ),
    Cause.OUTCOMES_UNKNOWN: (
        "Check the provider's status and its request history: the last requests got no usable response "
        "and may be billed"
    ),
    Cause.SERVER_FAULTS: "Check the provider's status: the requests of different jobs get 5xx responses",
}
"""What to do for each cause of an open breaker."""
SMALL_PLAN = 600.0
"""Requests a minute up to which one second of a function each is enough; above it, 1.5 seconds are needed."""
INTAKES, OTHERS = 5, 2
"""The most concurrent functions of intake, and those of dispatch and sweep."""
CALLS_A_JOB = 3.1
"""Calls of a job if all calls count: a submit, its polls and the result."""
AFTER_SUBMIT_SECONDS = 1.5
"""Seconds of poll and deliver per job, about."""
CONCURRENCY_QUOTA = "L-B99A9384"
"""Lambda's concurrent executions, in Service Quotas."""
LARGER_BUDGET = "Nothing: the job continues by itself, or within two minutes after you deploy a larger budget."
DEAD_LETTERS, EVENTS = "dead-letters", "events"
"""The actions that the console offers: redrive dead letters and undelivered events."""


@dataclass(frozen=True)
class Pause:
    """A pause of submitting for all jobs: its `reason`, its end (RFC 3339), and what to do.

    `cause` is the breaker's. None: the breaker is closed, and the limit is reached or the budget is spent.
    """

    reason: str
    until: str
    next_step: str
    cause: str | None = None


@dataclass(frozen=True)
class Rate:
    """The use of the rate limit: the reserved calls of the next minute, and the seconds until the next free time."""

    requests_per_minute: float
    counting: str
    taken: int
    next_free_seconds: float


@dataclass(frozen=True)
class Spend:
    """What was spent today and this month (UTC), the budgets (0: none), and the price of a job. USD."""

    today: float
    month: float
    daily_budget: float
    monthly_budget: float
    price: float


@dataclass(frozen=True)
class CreditsLeft:
    """The provider's remaining credits (USD), since when they are known (RFC 3339), and the jobs that they pay for."""

    usd: float
    known_at: str
    jobs: int


@dataclass(frozen=True)
class Health:
    """The state of a whole stack. Times are RFC 3339, durations seconds. `uploads`: messages of uploads not read yet.

    credits: None if the provider has not reported them. alarms: the alarms that are on; None if they cannot be read.
    version: the deployed version; None if it is older than that output.
    """

    stack: str
    version: str | None
    at: str
    jobs: Counts
    uploads: int
    oldest_queued_seconds: float | None
    dead_letters: int
    undelivered_events: int | None
    rate: Rate
    pause: Pause | None
    typical_seconds: float
    spend: Spend
    credits: CreditsLeft | None
    alarms: list[str] | None
    problems: list[Problem]


def health(stack: Stack) -> Health:
    """Return the state of a stack. Errors of AWS pass as botocore's."""
    now = stack.clock()
    state = stack.gate.read(now)
    opening = stack.gate.opening(state, now)
    records = Records(stack)
    sent = records.sent()
    first = [entry.queued_at for entry in (*stack.line.head(1), *stack.line.next_due())]
    waited = max(0.0, round(now - min(first), 1)) if first else None
    pause = pause_of(state.breaker, opening, now)
    alarms = alarms_on(stack)
    dead = depth(stack, stack.output("DeadLetterQueueUrl"))
    undelivered = _undelivered(stack)
    tenths = sorted(stack.latency().tenths)
    return Health(
        stack=str(stack),
        version=stack.outputs.get("Version"),
        at=rfc3339(now),
        jobs=records.counts(sent),
        uploads=depth(stack, stack.output("UploadQueueUrl")),
        oldest_queued_seconds=waited,
        dead_letters=dead,
        undelivered_events=undelivered,
        rate=rate_of(state, opening, stack.limit, now),
        pause=pause,
        typical_seconds=tenths[len(tenths) // 2] / 10,
        spend=spend_of(state, stack.budget),
        credits=credits_of(stack.credits.read()),
        alarms=None if alarms is None else sorted(alarms),
        problems=[
            *_problems(stack, pause, dead, undelivered),
            *_late(stack, waited),
            *_stuck(stack, sent, now),
            *(Problem(f"the alarm {name} is on", text) for name, text in sorted((alarms or {}).items())),
            *capacity_problems(stack, counts_all=state.limit.counts_all(stack.limit, now)),
            *trigger_problems(stack),
            *bucket_problems(stack),
            *deployment_problems(stack),
        ],
    )


def problems(stack: Stack) -> list[Problem]:
    """Return the problems that people must fix, except those of jobs and pauses. Errors of AWS pass as botocore's."""
    dead, now = depth(stack, stack.output("DeadLetterQueueUrl")), stack.clock()
    counts_all = stack.gate.read(now).limit.counts_all(stack.limit, now)
    capacity = capacity_problems(stack, counts_all=counts_all)
    return [
        *_problems(stack, None, dead, _undelivered(stack)),
        *capacity,
        *trigger_problems(stack),
        *bucket_problems(stack),
        *deployment_problems(stack),
    ]


def _undelivered(stack: Stack) -> int | None:
    """Return how many events could not be delivered; None if their queue is unknown."""
    url = stack.resource("EventDeadLetterQueue")
    return depth(stack, url) if url else None


def breaker_step(breaker: Breaker, now: float) -> str:
    """Return what to do while the breaker is open, and when the next probe is sent.

    `now` is in seconds since the epoch.
    """
    if breaker.is_paused(now):
        probe = f"the next probe is sent in {span(breaker.open_until - now)}"
    elif breaker.probe_until > now:
        probe = "a probe has been sent"
    else:
        probe = "the next job that is tried is the probe"
    return f"{STEPS.get(breaker.cause, 'Check the provider')}; {probe}, and no job is lost."


def pause_of(breaker: Breaker, opening: Opening, now: float) -> Pause | None:
    """Return the pause of submitting, or None. Pure."""
    closed = opening.closed
    if closed is None:
        return None
    if breaker.is_open:
        return Pause(breaker.reason, rfc3339(max(breaker.open_until, now)), breaker_step(breaker, now), breaker.cause)
    step = LARGER_BUDGET if closed.code in BUDGETS else "Nothing: the jobs continue by themselves."
    return Pause(closed.reason, rfc3339(closed.until), step)


def rate_of(state: GateState, opening: Opening, limit: RateLimit, now: float) -> Rate:
    """Return how much of the rate limit is reserved. Pure."""
    reserved = min(max(0.0, state.until - now), MINUTE)
    return Rate(
        requests_per_minute=limit.requests_per_minute,
        counting="calls" if state.limit.counts_all(limit, now) else "submits",
        taken=round(reserved / limit.interval),
        next_free_seconds=max(0.0, round(max(state.until, opening.at) - now, 1)),
    )


def spend_of(state: GateState, budget: Budget) -> Spend:
    """Return what was spent, and the budgets. Pure."""
    spent = state.spending
    return Spend(round(spent.day, 4), round(spent.month, 4), budget.daily, budget.monthly, spent.price)


def credits_of(found: Credits | None) -> CreditsLeft | None:
    """Return the provider's remaining credits. Pure."""
    return CreditsLeft(found.usd, rfc3339(found.at), found.jobs) if found else None


def _problems(stack: Stack, pause: Pause | None, dead: int, undelivered: int | None) -> list[Problem]:
    found = []
    if pause and pause.cause:
        found.append(Problem(f"submitting is paused for all jobs: {pause.reason}", pause.next_step))
    if dead:
        found.append(
            Problem(f"{many(dead, 'message')} in the dead-letter queue", stack.command("redrive"), DEAD_LETTERS)
        )
    if undelivered:
        found.append(Problem(f"{many(undelivered, 'event')} could not be delivered", stack.command("redrive"), EVENTS))
    return found


def _late(stack: Stack, waited: float | None) -> list[Problem]:
    """Return a problem if the oldest job has waited longer than its alarm allows."""
    if waited is None or waited <= LONG_WAIT:
        return []
    step = stack.command("jobs", "--status", "QUEUED")
    return [Problem(f"the oldest job has waited for {span(waited)} to be sent", step)]


def _stuck(stack: Stack, sent: list[Record], now: float) -> list[Problem]:
    """Return a problem if sent jobs have not changed for longer than any step takes."""
    ages = Ages()
    limits: dict[JobStatus, float] = {
        Status.SUBMITTING: ages.submitting,
        # A job at the provider has its timeout, plus the delivery's retries.
        Status.SUBMITTED: stack.seconds("JobTimeoutSeconds") + ages.ended,
        Status.SUCCEEDED: ages.ended,
        Status.FAILED: ages.ended,
    }
    stuck = Counter(found.status for found in sent if found.updated_at < now - limits.get(found.status, now))
    numbers = ", ".join(f"{stuck[status]:,} {status}" for status in limits if stuck[status])
    if not numbers:
        return []
    return [Problem(f"jobs are stuck, and their ends not notified: {numbers}", stack.command("sweep"))]


def alarms_on(stack: Stack) -> dict[str, str] | None:
    """Return the stack's alarms that are on, with their descriptions, which say what to do.

    None if the alarms cannot be read.
    """
    try:
        pages = stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{stack.name}-")
        found = [alarm for page in pages for alarm in page["MetricAlarms"] if alarm["StateValue"] == "ALARM"]
    except (ClientError, EndpointConnectionError):
        return None
    # Alarms of another stack may begin with this stack's name.
    own = [alarm for alarm in found if stack.output("AlarmTopicArn") in alarm.get("AlarmActions", [])]
    return {str(alarm["AlarmName"]): str(alarm.get("AlarmDescription", "")) for alarm in own}


def submits_needed(requests_per_minute: float, *, counts_all: bool) -> int:
    """Return how many submit functions a rate limit needs, by the simulation in docs/performance.md. Pure.

    If all calls count, a submit waits longer for its permit, but there are fewer submits.
    """
    seconds = 1.0 if counts_all or requests_per_minute <= SMALL_PLAN else 1.5
    return max(2, math.ceil(requests_per_minute / 60 * seconds))


def functions_needed(requests_per_minute: float, *, counts_all: bool) -> int:
    """Return how many functions of the stack run at once when the rate limit is fully used. Pure."""
    jobs_a_second = requests_per_minute / 60 / (CALLS_A_JOB if counts_all else 1.0)
    after = math.ceil(jobs_a_second * AFTER_SUBMIT_SECONDS)
    return submits_needed(requests_per_minute, counts_all=counts_all) + INTAKES + after + OTHERS


def capacity_problems(stack: Stack, *, counts_all: bool) -> list[Problem]:
    """Return the problems of settings that are too small to use the rate limit.

    These are SubmitConcurrency, and the account's Lambda concurrency.
    """
    found = []
    requests = stack.limit.requests_per_minute
    plan = f"{requests:g} requests a minute"
    needed, most = submits_needed(requests, counts_all=counts_all), int(stack.seconds("SubmitConcurrency"))
    if most < needed:
        text = f"SubmitConcurrency ({most}) is too small for {plan}: about {needed} functions are needed"
        found.append(Problem(text, f"sam deploy --parameter-overrides SubmitConcurrency={needed}"))
    needed, account = functions_needed(requests, counts_all=counts_all), _account_concurrency(stack)
    if account is not None and account < needed:
        text = (
            f"the account's Lambda concurrency ({account}) is too small for {plan}: about {needed} functions of this "
            "stack run at once"
        )
        quota = ("--service-code", "lambda", "--quota-code", CONCURRENCY_QUOTA, "--desired-value", "1000")
        found.append(Problem(text, stack.aws("service-quotas", "request-service-quota-increase", *quota)))
    return found


def _account_concurrency(stack: Stack) -> int | None:
    """Return the account's Lambda concurrency without reserved parts; None if AWS does not report it."""
    if stack.endpoint:  # the local stack has no limit
        return None
    try:
        limit = stack.client("lambda").get_account_settings()["AccountLimit"]
    except ClientError:
        return None
    return int(limit["UnreservedConcurrentExecutions"])


def depth(stack: Stack, queue_url: str) -> int:
    """Return about how many messages a queue has, including delayed and in-flight ones."""
    names = ("", "NotVisible", "Delayed")
    attributes: dict[str, Any] = stack.client("sqs").get_queue_attributes(
        QueueUrl=queue_url, AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names]
    )["Attributes"]
    return sum(int(attributes.get(f"ApproximateNumberOfMessages{name}", 0)) for name in names)
