"""`costs`: what the provider was paid, the known apart from the estimated."""

import csv
import io
import json
from typing import Any

import httpx
import pytest

from ops.inspect.costs import as_csv, sum_costs
from posedrop.aws.record import Record, Status
from posedrop.contract.times import epoch
from posedrop.segmind.requests import Request, RequestStatus
from tests.integration.conftest import BASE_URL, Pipeline
from tests.ops.conftest import FACE, SIT, WALK, Run

NOON = epoch("2026-11-23T12:00:00Z")
DAY = 86400.0


def record(character: str, *requests: Request) -> Record:
    return Record("job", Status.SUCCEEDED, character, "walk", requests=list(requests))


def request(
    at: float, cost: float | None, *, charged: float = 0.0294, status: RequestStatus = RequestStatus.ACCEPTED
) -> Request:
    return Request(1, at, status, cost_usd=cost, charged_usd=charged)


RECORDS = [
    record("shop/hero", request(NOON, 0.05), request(NOON + DAY, None)),
    record("shop/villain", request(NOON, 0.1)),
    record("hero", request(NOON, 0.0)),
    record("hero", request(NOON, None, charged=0.0, status=RequestStatus.ABSENT)),
    record("hero"),
    record("old", request(NOON - 30 * DAY, 1.0)),
]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("day", {"2026-11-23": (3, 3, 0.15, 0.0), "2026-11-24": (1, 1, 0.0, 0.0294)}),
        ("character", {"hero": (1, 1, 0.0, 0.0), "shop/hero": (1, 2, 0.05, 0.0294), "shop/villain": (1, 1, 0.1, 0.0)}),
        ("client", {"hero": (1, 1, 0.0, 0.0), "shop": (2, 3, 0.15, 0.0294)}),
    ],
)
def test_costs_are_summed_by(by: str, expected: dict[str, tuple[Any, ...]]) -> None:
    found = sum_costs(RECORDS, by, NOON)
    groups = {each.name: (each.jobs, each.requests, each.known_usd, each.estimated_usd) for each in found.groups}
    assert groups == expected
    assert list(groups) == sorted(groups)
    total = found.total
    assert (total.jobs, total.requests, total.known_usd, total.estimated, total.estimated_usd) == (
        3,
        4,
        0.15,
        1,
        0.0294,
    )


def test_cents_add_up() -> None:
    found = sum_costs([record("hero", request(NOON, 0.1)) for _ in range(1000)], "day", NOON)
    assert found.total.known_usd == 100


def test_a_table_for_a_spreadsheet() -> None:
    names = ["=cmd()", 'with "quotes", and commas', "plain"]
    table = as_csv(sum_costs([record(name, request(NOON, 0.05)) for name in names], "character", NOON))
    heading, *rows = csv.reader(io.StringIO(table))
    assert heading == ["character", "jobs", "requests", "known_usd", "estimated", "estimated_usd"]
    assert [row[0] for row in rows] == ["'=cmd()", "plain", 'with "quotes", and commas']
    assert rows[0][1:] == ["1", "1", "0.05", "0", "0.0"]


@pytest.fixture
def paid(pipeline: Pipeline) -> Pipeline:
    """Two jobs, one of which the provider said what it cost."""
    body = {"status": "COMPLETED", "output": f"{BASE_URL}/media/1.png"}
    pipeline.provider.results = [
        httpx.Response(200, json={**body, "metrics": metrics}) for metrics in ({"cost": 0.05}, {})
    ]
    pipeline.put(*FACE)
    pipeline.upload(WALK, SIT)
    pipeline.run_all()
    return pipeline


def test_the_command_says_known_and_estimated_apart(paid: Pipeline, run: Run) -> None:
    shown = run("costs", "--by", "client").output
    assert "0.0500 USD" in shown
    assert "0.0294 USD for 1" in shown
    (group,) = json.loads(run("costs", "--by", "character", "--json").stdout)["groups"]
    assert group == {
        **{"name": "hero", "jobs": 2, "requests": 2, "known_usd": 0.05, "estimated": 1, "estimated_usd": 0.0294}
    }
    assert run("costs", "--csv").stdout.splitlines()[0].startswith("day,jobs,")


def test_since_a_day_or_a_while(paid: Pipeline, run: Run) -> None:
    assert "There were no requests" in run("costs", "--since", "2999-01-01").output
    paid.clock.now += 2 * DAY
    assert "There were no requests" in run("costs", "--since", "1d").output
    assert "hero" in run("costs", "--since", "3d", "--by", "character").output
    assert "neither a duration" in run("costs", "--since", "yesterday", code=2).stderr


def test_show_says_what_a_job_cost_and_never_zero_for_unknown(paid: Pipeline, run: Run) -> None:
    costs = {}
    for job_id, item in paid.records().items():
        found = json.loads(run("show", job_id, "--json").stdout)
        costs[item["pose"]] = found["cost_usd"]
        assert found["notification"]["metrics"]["cost_usd"] == found["cost_usd"]
        line = next(line for line in run("show", job_id).output.splitlines() if line.startswith("  Cost"))
        assert line.split(maxsplit=1)[1] == ("unknown" if found["cost_usd"] is None else "0.0500 USD")
    assert sorted(costs.values(), key=str) == [0.05, None]
