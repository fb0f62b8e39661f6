"""Compute what 1,000 jobs cost on AWS at list prices (bench/prices.json), from a run on the local stack. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.plots import COLOURS, plot, save
from bench.stage import FunctionUse, Usage
from bench.tables import table

JOBS = 1000
GOAL_USD, GOAL_TIMES, GOAL_TRANSITIONS = 0.45, 5.0, 13.0
LOOP_STATES = 3  # of the state machine, entered for each poll: Wait, CheckStatus, Finished?
SDK_INTERVAL = 1.0
"""Seconds between two polls of the official SDK."""
WRITES = ("PUT", "POST", "List")
POLLERS, LONG_POLL = 5, 20.0
"""An idle event source: pollers, and seconds between their requests (AWS Lambda developer guide, SQS)."""
MONTH = 30 * 86400.0
GIGABYTE = 1e9

Lines = dict[str, float]
"""USD by service."""


@dataclass(frozen=True)
class Batch:
    """The usage of some jobs, and the jobs: their number, uploads, the files' bytes, and the model's mean seconds."""

    jobs: int
    uploads: int
    egress_bytes: float
    inference: Sequence[float]
    usage: Usage

    @property
    def polls(self) -> float:
        """Return the polls per job."""
        return self.usage.functions["poll"].invocations / self.jobs


def load_prices() -> dict[str, float]:
    """Return the prices in USD by name."""
    found = json.loads(Path(__file__).with_name("prices.json").read_text())["prices"]
    return {name: entry["usd"] for name, entry in found.items()}


def requests(usage: Usage, caller: str, service: str, *actions: str) -> float:
    """Return how many requests of a service a caller made, with these actions or any."""
    total = 0.0
    for name, number in usage.requests.items():
        of_caller, of_service, action = name.split(" ")
        if of_caller == caller and of_service == service and (not actions or action in actions):
            total += number
    return total


def sqs_requests(batch: Batch) -> float:
    """Return the SQS requests of EventBridge, of the functions, and of the event sources for each message.

    The event sources receive messages one by one, and delete the finished ones; a deferred one was hidden.
    """
    usage = batch.usage
    received = sum(usage.functions[name].invocations for name in ("intake", "submit") if name in usage.functions)
    hidden = requests(usage, "function", "sqs", "ChangeMessageVisibility")
    return batch.uploads + requests(usage, "function", "sqs") + received + (received - hidden)


def variable(batch: Batch, prices: Mapping[str, float]) -> Lines:
    """Return the cost of `JOBS` such jobs, by service."""
    usage = batch.usage
    functions = usage.functions.values()
    writes = sum(number for name, number in usage.units.items() if name.startswith("function write"))
    puts = sum(requests(usage, caller, "s3", *WRITES) for caller in ("function", "user"))
    gets = requests(usage, "function", "s3", "GET", "HEAD") + requests(usage, "url", "s3")
    published = requests(usage, "function", "sns")
    batch_lines = {
        "Step Functions": usage.transitions * prices["step_functions_transition"],
        "Lambda": sum(use.invocations for use in functions) * prices["lambda_request"]
        + sum(gb_seconds(use) for use in functions) * prices["lambda_gb_second"],
        "DynamoDB": writes * prices["dynamodb_write"]
        + usage.units.get("function read", 0) * prices["dynamodb_read"],
        "S3": puts * prices["s3_put"] + gets * prices["s3_get"],
        "CloudWatch Logs": sum(use.log_bytes for use in functions) / GIGABYTE * prices["logs_gb"],
        "SQS": sqs_requests(batch) * prices["sqs_request"],
        "SNS, KMS": published * (prices["sns_publish"] + prices["kms_request"]),  # at most one data key per message
        "Secrets Manager": requests(usage, "function", "secretsmanager") * prices["secrets_call"],
        "EventBridge": batch.uploads * prices["eventbridge_event"],
    }  # fmt: skip
    return {name: usd / batch.jobs * JOBS for name, usd in batch_lines.items()}


def gb_seconds(use: FunctionUse) -> float:
    """Return billed seconds times memory."""
    return use.billed_ms / 1000 * use.memory_mb / 1024


def fixed_loop(batch: Batch, polls: Sequence[float]) -> Batch:
    """Return the same batch in a loop that polls every second; `polls` are the polls of each job.

    Each poll enters the same states and runs the same function. The other usage of that function is not counted.
    """
    usage = batch.usage
    poll = usage.functions["poll"]
    times = sum(polls) / len(polls) / batch.polls
    scaled = FunctionUse(
        round(poll.invocations * times), round(poll.billed_ms * times), poll.memory_mb, round(poll.log_bytes * times)
    )
    more = scaled.invocations - poll.invocations
    return replace(
        batch,
        usage=replace(
            usage,
            functions={**usage.functions, "poll": scaled},
            transitions=usage.transitions + LOOP_STATES * more,
        ),
    )


def waiting_function(batch: Batch) -> Batch:
    """Return the same batch in one function that submits, waits with the official SDK and delivers.

    The function is billed all the time, with the memory of `submit`. After a job has ended, it waits half a polling
    interval on average until it sees the end. There is no state machine.
    """
    usage = batch.usage
    submit = usage.functions["submit"]
    waiting = sum(batch.inference) + SDK_INTERVAL / 2 * batch.jobs
    functions = {
        **{name: use for name, use in usage.functions.items() if name != "poll"},
        "submit": replace(submit, billed_ms=round(submit.billed_ms + waiting * 1000)),
    }
    return replace(batch, usage=replace(usage, functions=functions, transitions=0))


def polls_every_second(inference: Sequence[float], poll_seconds: float) -> list[float]:
    """Return the polls of each job in a loop that waits a second and then polls, which takes `poll_seconds`."""
    return [float(int(seconds / (SDK_INTERVAL + poll_seconds)) + 1) for seconds in inference]


def beside(batch: Batch, prices: Mapping[str, float], alarm_metrics: int, metrics: int) -> dict[str, str]:
    """Return the fixed costs beside the variable cost."""
    invocations = sum(use.invocations for use in batch.usage.functions.values()) / batch.jobs * JOBS
    idle = POLLERS * MONTH / LONG_POLL * prices["sqs_request"]
    egress = batch.egress_bytes / batch.jobs * JOBS / GIGABYTE
    month = {
        "secret": prices["secret_month"],
        "idle polling of the queue": idle,
        f"{alarm_metrics} metrics of alarms": alarm_metrics * prices["alarm_metric_month"],
    }
    fixed = ", ".join(f"{name} {usd:.2f}" for name, usd in month.items())
    return {
        "the provider": f"{prices['segmind_job'] * JOBS:.2f}",
        "egress of the images to the provider": f"{egress * prices['egress_gb']:.2f} ({egress:.2f} GB)",
        "X-Ray, if every invocation were a trace": f"{invocations * prices['xray_trace']:.3f}",
        "a month": f"{sum(month.values()):.2f} ({fixed})",
        "a month in which jobs run in every hour": f"{metrics * prices['metric_month']:.2f} ({metrics} metrics)",
    }


def report(batch: Batch, alarm_metrics: int, metrics: int) -> dict[str, Any]:
    """Print the tables, draw the plot, and return the figures."""
    prices = load_prices()
    poll = batch.usage.functions["poll"]
    poll_seconds = poll.billed_ms / 1000 / max(1, poll.invocations)
    polls = polls_every_second(batch.inference, poll_seconds)
    designs = {
        "posedrop": variable(batch, prices),
        "a loop of 1 s": variable(fixed_loop(batch, polls), prices),
        "one waiting function": variable(waiting_function(batch), prices),
    }
    totals = {name: sum(lines.values()) for name, lines in designs.items()}
    transitions = batch.usage.transitions / batch.jobs
    times = totals["a loop of 1 s"] / totals["posedrop"]
    title = (
        f"USD for {JOBS:,} jobs, variable, from {batch.jobs} jobs of a mean of {mean(batch.inference):.1f} s "
        f"(goals: {GOAL_USD} USD; {GOAL_TIMES:g} times below the loop; {GOAL_TRANSITIONS:g} transitions)"
    )
    rows = [[name, *(f"{lines[name]:.4f}" for lines in designs.values())] for name in designs["posedrop"]]
    rows.append(["total", *(f"{usd:.4f}" for usd in totals.values())])
    print(table(title, ("service", *designs), rows))
    print(f"{transitions:.2f} state transitions a job; {times:.1f} times below the loop, of {mean(polls):.1f} polls")
    aside = beside(batch, prices, alarm_metrics, metrics)
    print()
    print(table("Beside it, USD", ("", ""), list(aside.items())))
    print()
    amounts = quantities(batch)
    print(table("What a job used, on average", ("", ""), [(name, f"{amount:.2f}") for name, amount in amounts.items()]))
    draw(designs)
    return {
        "jobs": batch.jobs,
        "usd": designs,
        "totals": totals,
        "times_below_loop": times,
        "transitions": transitions,
        "beside": aside,
        "a_job": amounts,
        "requests": dict(batch.usage.requests),
        "units": dict(batch.usage.units),
    }


def quantities(batch: Batch) -> dict[str, float]:
    """Return the average usage of a job."""
    usage = batch.usage
    found: dict[str, float] = {"state transitions": usage.transitions}
    for name, use in usage.functions.items():
        if use.invocations:
            found[f"{name}: invocations"] = use.invocations
            found[f"{name}: billed ms at {use.memory_mb} MB"] = use.billed_ms
    found["DynamoDB read units"] = usage.units.get("function read", 0)
    for name, number in sorted(usage.units.items()):
        if name.startswith("function write"):
            found[f"DynamoDB write units, {name.removeprefix('function write ')}"] = number
    found["SQS requests"] = sqs_requests(batch)
    found["S3 PUT and LIST"] = sum(requests(usage, caller, "s3", *WRITES) for caller in ("function", "user"))
    found["S3 GET"] = requests(usage, "function", "s3", "GET", "HEAD") + requests(usage, "url", "s3")
    found["log bytes"] = sum(use.log_bytes for use in usage.functions.values())
    return {name: number / batch.jobs for name, number in found.items()}


def draw(designs: Mapping[str, Lines]) -> None:
    """Plot the designs' costs, by service."""
    figure, (panel,) = plot(width=8, height=2.4)
    left = dict.fromkeys(designs, 0.0)
    for colour, service in zip(COLOURS, designs["posedrop"], strict=False):
        values = [lines[service] for lines in designs.values()]
        panel.barh(list(designs), values, left=list(left.values()), color=colour, label=service, height=0.6)
        left = {name: left[name] + value for name, value in zip(designs, values, strict=True)}
    for name, total in left.items():
        panel.text(total, name, f" {total:.2f}", va="center", fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.1)
    panel.grid(visible=False, axis="y")
    panel.set_xlabel("USD for 1,000 jobs", fontsize=8)
    figure.legend(fontsize=7, frameon=False, loc="outside right upper")
    save(figure, "cost")


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
