"""Measure the use of the plan's request limit, against the emulator, which counts submits only or all calls.

All runs take about 30 minutes; python -m bench.limit NAME makes one. The emulator's log of calls shows which calls
count. The stack does not know it (LimitCounts auto), except in the run at 600 a minute with all calls: there this
machine is too slow to provoke the 429 from which the stack would learn it.
"""

import argparse
import io
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from PIL import Image

from bench.plots import COLOURS, plot, save
from bench.stage import MeteredStack, Notifications, Usage, percentile, provider, stage, upload_folder, usage
from bench.tables import table
from local.chaos.evidence import depth
from local.processes import LocalError

LATENCY = "29.5:0.25"
MINUTE = 60.0
ROUTES = ("submit", "status", "result")  # another host serves the history
CALLS_A_JOB = {"submits": 1, "all": 3}
"""The fewest calls of a job: a submit, or with it one poll that finds the end, and the result."""
USE_GOAL, REFUSED_GOAL = 0.90, 0.02
HEAD = (
    *("run", "succeeded", "calls", "use", "most/60 s", "429", "in that time", "share", "drain s", "ideal s", "DLQ"),
    *("receives", "of uploads", "polls", "transitions", "submit s", "billed s"),
)
SECONDS_A_JOB = 1.0
"""The seconds that a slow machine may take for a job, if the limit is higher than it can reach."""
SIZE = 128  # pixels a side; the pictures do not matter here


@dataclass(frozen=True)
class Plan:
    """One run: a number of jobs at once, a limit per minute, and what the provider counts (`submits` or `all`).

    `warm_up`: the number of jobs before, so that a run of half a minute has no cold starts. `functions`:
    SubmitConcurrency, None for the default.
    """

    name: str
    jobs: int
    rpm: int
    counts: str
    limit_counts: str = "auto"
    warm_up: int = 0
    functions: int | None = None


PLANS = (
    Plan("50-submits", 150, 50, "submits"),
    Plan("50-all", 150, 50, "all"),
    Plan("50-all-few", 40, 50, "all"),
    Plan("600-submits", 300, 600, "submits", warm_up=40),
    Plan("600-all", 300, 600, "all", limit_counts="all"),
    Plan("5-submits", 15, 5, "submits"),
    Plan("3000-submits", 3000, 3000, "submits", functions=75),
)


@dataclass(frozen=True)
class Call:
    """A call that got a response, `at` seconds after the first submit."""

    at: float
    route: str
    refused: bool


@dataclass(frozen=True)
class Result:
    """The results of a run. Seconds, except `use` and `refused_share`, which are shares, and counts.

    use: accepted calls that count, divided by limit x minutes, from the second minute to the last submit, or, in a
    shorter run, of the whole time (`whole`). busiest: the most of them in any 60 seconds. refused_late: 429s in that
    time. drain: from the first upload to the last notification.
    """

    plan: Plan
    accepted: int
    use: float
    whole: bool
    busiest: int
    refused: int
    refused_late: int
    refused_share: float
    drain: float
    ideal: float
    dead_letters: int
    succeeded: int
    receives: float
    intake_receives: float
    polls: float
    transitions: float
    submit_seconds: float
    billed_seconds: float
    end_to_end_p50: float


def run(plan: Plan) -> tuple[Result, list[Call]]:
    """Run one plan on its own stack."""
    parameters: dict[str, str | int] = {
        "SegmindRequestsPerMinute": plan.rpm,
        "SettleSeconds": 1,
        "LimitCounts": plan.limit_counts,
        **({"SubmitConcurrency": plan.functions} if plan.functions else {}),
    }
    emulator = ["--latency", LATENCY, "--rpm", str(plan.rpm), "--rpm-counts", plan.counts, "--seed", "1"]
    with stage(f"limit-{plan.name}", parameters, emulator) as stack:
        inbox = Notifications(stack)
        before = _warm_up(stack, inbox, plan.warm_up) if plan.warm_up else Usage()
        began = time.time()
        upload_folder(stack, "hero", [f"{number:03}" for number in range(plan.jobs)], _image(), _image())
        ideal = plan.jobs * CALLS_A_JOB[plan.counts] / plan.rpm * MINUTE
        inbox.wait(plan.warm_up + plan.jobs, timeout=300 + max(3 * ideal, plan.jobs * SECONDS_A_JOB))
        time.sleep(3)  # the last executions end
        calls = [call for call in provider(stack, "calls")["calls"] if call["time"] >= began]
        messages = [message for message in inbox.messages if message["character"] == "hero"]
        ended = [message["metrics"] for message in messages]
        inference = [metrics["inference_seconds"] or 0.0 for metrics in ended]
        used = usage(stack) - before
        letters = sum(
            depth(stack, url) for url in (stack.outputs["DeadLetterQueueUrl"], stack.resource("EventDeadLetterQueue"))
        )
    log = accepted_calls(calls)
    jobs = plan.jobs
    result = Result(
        **limit_use(plan, log),
        plan=plan,
        drain=max(inbox.sent.values()) - began,
        ideal=ideal + sum(inference) / jobs,
        dead_letters=letters,
        succeeded=sum(message["status"] == "SUCCEEDED" for message in messages),
        receives=used.functions["submit"].invocations / jobs,
        intake_receives=used.functions["intake"].invocations / jobs,
        polls=used.functions["poll"].invocations / jobs,
        transitions=used.transitions / jobs,
        submit_seconds=used.functions["submit"].billed_ms / 1000 / jobs,
        billed_seconds=sum(use.billed_ms for use in used.functions.values()) / 1000 / jobs,
        end_to_end_p50=percentile([metrics["total_seconds"] for metrics in ended], 0.5),
    )
    return result, log


def _warm_up(stack: MeteredStack, inbox: Notifications, jobs: int) -> Usage:
    """Run some jobs, wait until they leave the provider's window, and return the usage until then."""
    upload_folder(stack, "warm-up", [f"{number:03}" for number in range(jobs)], _image(), _image())
    inbox.wait(jobs, timeout=300)
    time.sleep(MINUTE)
    return usage(stack)


def accepted_calls(calls: Sequence[dict[str, Any]]) -> list[Call]:
    """Return the emulator's calls of the limited routes, from the first submit on."""
    known = [call for call in calls if call["route"] in ROUTES and call["status"]]
    start = min(call["time"] for call in known if call["route"] == "submit")
    return sorted(
        (Call(call["time"] - start, call["route"], call["status"] == 429) for call in known), key=lambda call: call.at
    )


def limit_use(plan: Plan, calls: Sequence[Call]) -> dict[str, Any]:
    """Return which share of the limit the accepted calls used, and how many calls were refused."""
    counted = [call.at for call in calls if not call.refused and (plan.counts == "all" or call.route == "submit")]
    last = max(call.at for call in calls if call.route == "submit" and not call.refused)
    whole = last < 1.5 * MINUTE
    begin = 0.0 if whole else MINUTE
    used = sum(begin < at <= last for at in counted)
    late = [call for call in calls if call.at > begin]
    refused_late = sum(call.refused for call in late)
    return {
        "accepted": len(counted),
        "use": used / (plan.rpm * (last - begin) / MINUTE),
        "whole": whole,
        "busiest": max(bisect_right(counted, at) - bisect_left(counted, at - MINUTE) for at in counted),
        "refused": sum(call.refused for call in calls),
        "refused_late": refused_late,
        "refused_share": refused_late / len(late) if late else 0.0,
    }


def rows(results: Sequence[Result]) -> list[list[str]]:
    """Return the table's rows."""
    return [
        [
            f"{result.plan.jobs} at {result.plan.rpm}, {result.plan.counts} count",
            f"{result.succeeded}",
            f"{result.accepted}",
            f"{result.use:.1%}" + ("*" if result.whole else ""),
            f"{result.busiest}",
            f"{result.refused}",
            f"{result.refused_late}",
            f"{result.refused_share:.1%}",
            f"{result.drain:.0f}",
            f"{result.ideal:.0f}",
            f"{result.dead_letters}",
            f"{result.receives:.2f}",
            f"{result.intake_receives:.2f}",
            f"{result.polls:.2f}",
            f"{result.transitions:.1f}",
            f"{result.submit_seconds:.2f}",
            f"{result.billed_seconds:.2f}",
        ]
        for result in results
    ]


def _plot(axes: Any, result: Result, calls: Sequence[Call]) -> None:
    counted = [
        call.at for call in calls if not call.refused and (result.plan.counts == "all" or call.route == "submit")
    ]
    times = [step / 2 for step in range(int(2 * (counted[-1] + 1)))]
    in_window = [bisect_right(counted, at) - bisect_left(counted, at - MINUTE) for at in times]
    axes.plot(times, in_window, color=COLOURS[0], linewidth=1.4, label="accepted calls that count, last 60 s")
    axes.axhline(result.plan.rpm, color=COLOURS[1], linewidth=1, label="the plan's limit")
    refused = [call.at for call in calls if call.refused]
    axes.plot(refused, [result.plan.rpm] * len(refused), "x", color=COLOURS[3], label="answered 429")
    title = f"{result.plan.jobs} jobs, {result.plan.rpm} a minute, {result.plan.counts} count"
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_ylim(0, result.plan.rpm * 1.15)


def _image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), "#8090a0").save(buffer, "PNG")
    return buffer.getvalue()


def draw(results: Sequence[tuple[Result, list[Call]]]) -> None:
    """Plot each run: the accepted calls in the last 60 s, and the limit."""
    figure, panels = plot(len(results), 1, height=1.9 * len(results) + 0.4)
    for (result, calls), panel in zip(results, panels, strict=True):
        _plot(panel, result, calls)
    panels[-1].set_xlabel("seconds since the first submit", fontsize=8)
    figure.legend(
        *panels[0].get_legend_handles_labels(), fontsize=8, frameon=False, ncols=3, loc="outside upper center"
    )
    save(figure, "limit")


def main(names: Sequence[str] = (), jobs: int | None = None) -> list[dict[str, Any]]:
    """Run the named plans, or all; print the table, and return the figures of each run."""
    results, failures = [], []
    for plan in PLANS:
        if names and plan.name not in names:
            continue
        print(f"{plan.name} ...", flush=True)
        try:
            results.append(run(replace(plan, jobs=jobs or plan.jobs)))
        except LocalError as exc:  # the other runs' figures must not be lost
            failures.append(f"{plan.name}: {exc}")
    if failures and not results:
        raise LocalError("; ".join(failures))
    draw(results)
    title = f"Use of the request limit (goals: {USE_GOAL:.0%}; 429s {REFUSED_GOAL:.0%}; DLQ empty)"
    print(table(title, HEAD, rows([result for result, _ in results])))
    print("* of the whole time: the run ends before its second minute. receives to billed s: per job.")
    for failure in failures:
        print(f"FAILED {failure}")
    return [{**asdict(result), "calls": [[round(call.at, 3), call.route, call.refused] for call in calls]}
            for result, calls in results]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.limit")
    parser.add_argument("names", nargs="*", help=", ".join(plan.name for plan in PLANS))
    parser.add_argument("--jobs", type=int, help="the number of jobs")
    main(**vars(parser.parse_args()))
