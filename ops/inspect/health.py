"""Is the stack well: what is queued, sent and stuck, how much of the limit is used, what is paused and why."""

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
from ops.stack import Stack
from posedrop.aws.record import Record, Status
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
"""Seconds that a job may wait: OldestJobAlarm's bound."""
STEPS: dict[str, str] = {
    Cause.KEY_REFUSED: "Put a valid API key into the stack's secret",
    Cause.ACCOUNT_REFUSED: (
        "See to the provider's account: give it access to the model (403) or buy credits (406), "
        "or correct SegmindBaseUrl (404)"
    ),
    Cause.OUTCOMES_UNKNOWN: (
        "See whether the provider works, and what its request history has: the last requests got no usable response, "
        "and may be billed"
    ),
    Cause.SERVER_FAULTS: "See whether the provider works: it answers the requests of different jobs with 5xx",
}
"""What to do for each cause of an open breaker."""
SMALL_PLAN = 600.0
"""Requests a minute up to which a second of a function for each is enough; beyond, it takes half as much again."""
INTAKES, OTHERS = 5, 2
"""Functions of intake at most; those of dispatch and sweep."""
CALLS_A_JOB = 3.1
"""A submit, its polls and the result, where all calls count."""
AFTER_SUBMIT_SECONDS = 1.5
"""Seconds of poll and deliver a job, about."""
CONCURRENCY_QUOTA = "L-B99A9384"
"""Lambda's concurrent executions, in Service Quotas."""
LARGER_BUDGET = "Nothing: it goes on by itself, or within two minutes after a deployment with a larger budget."
DEAD_LETTERS, EVENTS = "dead-letters", "events"
"""What can be done from the console: dead letters and undelivered events."""


@dataclass(frozen=True)
class Pause:
    """Submitting waits for all jobs: `reason`, until when (RFC 3339), and what to do.

    `cause` is the breaker's; None where it is closed, and the plan's limit is reached or the budget spent.
    """

    reason: str
    until: str
    next_step: str
    cause: str | None = None


@dataclass(frozen=True)
class Rate:
    """The plan's limit: calls of the coming minute that are taken, and the seconds until the next that is free."""

    requests_per_minute: float
    counting: str
    taken: int
    next_free_seconds: float


@dataclass(frozen=True)
class Spend:
    """What was spent today and in this month (UTC), of which budgets (0: none), and what a job costs. USD."""

    today: float
    month: float
    daily_budget: float
    monthly_budget: float
    price: float


@dataclass(frozen=True)
class CreditsLeft:
    """What is left on the provider's account (USD), since when that is known (RFC 3339), and how many jobs it pays."""

    usd: float
    known_at: str
    jobs: int


@dataclass(frozen=True)
class Health:
    """The state of a whole stack. Times are RFC 3339, durations seconds. `uploads`: messages on uploads to be read.

    `credits` None: the provider has not said what is left. `alarms` are those that are on; None where they cannot be
    read. `version`: what was deployed; None where it is older than that output.
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
            *bucket_problems(stack),
            *deployment_problems(stack),
        ],
    )


def problems(stack: Stack) -> list[Problem]:
    """What somebody must see to, but for jobs and pauses. Errors of AWS pass as botocore's."""
    dead, now = depth(stack, stack.output("DeadLetterQueueUrl")), stack.clock()
    counts_all = stack.gate.read(now).limit.counts_all(stack.limit, now)
    capacity = capacity_problems(stack, counts_all=counts_all)
    return [
        *_problems(stack, None, dead, _undelivered(stack)),
        *capacity,
        *bucket_problems(stack),
        *deployment_problems(stack),
    ]


def _undelivered(stack: Stack) -> int | None:
    """How many events could not be delivered; None where their queue is not known."""
    url = stack.resource("EventDeadLetterQueue")
    return depth(stack, url) if url else None


def breaker_step(breaker: Breaker, now: float) -> str:
    """What to do while the breaker is open, and when the next probe is made. `now` is in seconds since the epoch."""
    if breaker.is_paused(now):
        probe = f"the next probe goes out by itself in {span(breaker.open_until - now)}"
    elif breaker.probe_until > now:
        probe = "a probe is under way"
    else:
        probe = "the next job that is tried is the probe"
    return f"{STEPS.get(breaker.cause, 'See to the provider')}; {probe}, and no job is lost."


def pause_of(breaker: Breaker, opening: Opening, now: float) -> Pause | None:
    """Whether and why submitting waits altogether. Pure."""
    closed = opening.closed
    if closed is None:
        return None
    if breaker.is_open:
        return Pause(breaker.reason, rfc3339(max(breaker.open_until, now)), breaker_step(breaker, now), breaker.cause)
    step = LARGER_BUDGET if closed.code in BUDGETS else "Nothing: it goes on by itself."
    return Pause(closed.reason, rfc3339(closed.until), step)


def rate_of(state: GateState, opening: Opening, limit: RateLimit, now: float) -> Rate:
    """How much of the plan's limit is given out. Pure."""
    reserved = min(max(0.0, state.until - now), MINUTE)
    return Rate(
        requests_per_minute=limit.requests_per_minute,
        counting="calls" if state.limit.counts_all(limit, now) else "submits",
        taken=round(reserved / limit.interval),
        next_free_seconds=max(0.0, round(max(state.until, opening.at) - now, 1)),
    )


def spend_of(state: GateState, budget: Budget) -> Spend:
    """What was spent, of which budgets. Pure."""
    spent = state.spending
    return Spend(round(spent.day, 4), round(spent.month, 4), budget.daily, budget.monthly, spent.price)


def credits_of(found: Credits | None) -> CreditsLeft | None:
    """What is left on the provider's account. Pure."""
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
    """What to do if the oldest job has waited for as long as the alarm on it allows."""
    if waited is None or waited <= LONG_WAIT:
        return []
    step = stack.command("jobs", "--status", "QUEUED")
    return [Problem(f"the oldest job has waited for {span(waited)} to be sent", step)]


def _stuck(stack: Stack, sent: list[Record], now: float) -> list[Problem]:
    """What to do if records have not changed for longer than anything takes: nobody works on those jobs."""
    ages = Ages()
    limits = {
        Status.SUBMITTING: ages.submitting,
        # A job at the provider has its time, and after it the delivery's retries.
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
    """The stack's alarms that are on, each with its description, which says what to do; None if they cannot be read."""
    try:
        pages = stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{stack.name}-")
        found = [alarm for page in pages for alarm in page["MetricAlarms"] if alarm["StateValue"] == "ALARM"]
    except (ClientError, EndpointConnectionError):
        return None
    # Another stack's name may begin with this one's.
    own = [alarm for alarm in found if stack.output("AlarmTopicArn") in alarm.get("AlarmActions", [])]
    return {str(alarm["AlarmName"]): str(alarm.get("AlarmDescription", "")) for alarm in own}


def submits_needed(requests_per_minute: float, *, counts_all: bool) -> int:
    """How many functions of submit a plan's limit needs, by the simulation in docs/performance.md. Pure.

    Where all calls count a submit waits longer for its permit, but there are fewer of them.
    """
    seconds = 1.0 if counts_all or requests_per_minute <= SMALL_PLAN else 1.5
    return max(2, math.ceil(requests_per_minute / 60 * seconds))


def functions_needed(requests_per_minute: float, *, counts_all: bool) -> int:
    """How many functions of the whole stack run at once when the plan's limit is used. Pure."""
    jobs_a_second = requests_per_minute / 60 / (CALLS_A_JOB if counts_all else 1.0)
    after = math.ceil(jobs_a_second * AFTER_SUBMIT_SECONDS)
    return submits_needed(requests_per_minute, counts_all=counts_all) + INTAKES + after + OTHERS


def capacity_problems(stack: Stack, *, counts_all: bool) -> list[Problem]:
    """What is too small for the plan's limit, which then is not used: SubmitConcurrency, or the account's Lambda."""
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
    """How many functions the account may run at once without those that are reserved; None where AWS does not say."""
    if stack.endpoint:  # the local stack has no such limit
        return None
    try:
        limit = stack.client("lambda").get_account_settings()["AccountLimit"]
    except ClientError:
        return None
    return int(limit["UnreservedConcurrentExecutions"])


def depth(stack: Stack, queue_url: str) -> int:
    """How many messages a queue holds, those that are delayed or being handled too, about."""
    names = ("", "NotVisible", "Delayed")
    attributes: dict[str, Any] = stack.client("sqs").get_queue_attributes(
        QueueUrl=queue_url, AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names]
    )["Attributes"]
    return sum(int(attributes.get(f"ApproximateNumberOfMessages{name}", 0)) for name in names)
