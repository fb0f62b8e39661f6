"""The alarms in the template, and the evaluator that judges them in tests."""

import json
import re
from typing import Any

import pytest

from ops.inspect.health import LONG_WAIT
from tests.alarms import CloudWatch, calculate, metrics, period
from tests.cloudformation import Stack
from tests.support import ROOT

STACK = Stack()
ALARMS = STACK.of_type("AWS::CloudWatch::Alarm")
NOW = 1_800_000_000.0
SUM: dict[str, Any] = {
    "Namespace": "n",
    "MetricName": "m",
    "Dimensions": [{"Name": "d", "Value": "v"}],
    "Statistic": "Sum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "ComparisonOperator": "GreaterThanThreshold",
    "Threshold": 2,
}


# ---- the template --------------------------------------------------------------------------------------------------


def test_there_is_an_alarm_for_each_thing_that_needs_someone() -> None:
    assert set(ALARMS) == {
        "DeadLettersAlarm",
        "UndeliveredEventsAlarm",
        "OldestUploadAlarm",
        "OldestJobAlarm",
        "AccountPausedAlarm",
        "BudgetSpentAlarm",
        "FailureShareAlarm",
        "ExecutionWithoutNotificationAlarm",
        "NoSuccessAlarm",
        "CreditsLowAlarm",
    }


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_to_do_and_where_it_is_written(name: str) -> None:
    found = re.search(r'docs/operations\.md, "([^"]+)"\.$', ALARMS[name]["AlarmDescription"])
    assert found
    assert f"\n## {found[1]}\n" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert len(ALARMS[name]["AlarmDescription"]) <= 1024  # CloudWatch API reference, PutMetricAlarm


IMPERATIVES = r"(Read|Run|Check|Find|Fix)"


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_imperative(name: str) -> None:
    first, *steps = re.split(r"(?<=[.;:]) ", ALARMS[name]["AlarmDescription"])
    assert not re.match(IMPERATIVES, first)  # what there is comes first
    assert any(re.match(rf"{IMPERATIVES} ", step) for step in steps)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_its_topic_and_when_it_is_over(name: str) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:AlarmTopic"
    assert ALARMS[name]["AlarmActions"] == ALARMS[name]["OKActions"] == [topic]
    assert ALARMS[name].get("ActionsEnabled", True)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_within_cloudwatchs_limits(name: str) -> None:
    alarm = ALARMS[name]
    assert period(alarm) % 60 == 0
    assert alarm["EvaluationPeriods"] * period(alarm) <= 86400
    assert alarm.get("DatapointsToAlarm", 1) <= alarm["EvaluationPeriods"]
    assert len(alarm.get("Metrics", [])) <= 10
    queries = alarm.get("Metrics", [])
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9_]*", query["Id"]) for query in queries)
    assert sum(query.get("ReturnData", True) for query in queries) == bool(queries)


def test_status_finds_a_wait_too_long_when_the_alarm_does() -> None:
    assert ALARMS["OldestJobAlarm"]["Threshold"] == LONG_WAIT


@pytest.mark.parametrize("name", ALARMS)
def test_no_alarm_fills_in_what_was_not_written(name: str) -> None:
    """With FILL an alarm on a metric that is written now and then may stay on when nothing is written any more."""
    assert not [query for query in ALARMS[name].get("Metrics", []) if "FILL" in query.get("Expression", "")]


@pytest.mark.parametrize("name", ALARMS)
def test_silence_is_no_alarm(name: str) -> None:
    assert CloudWatch().state(ALARMS[name], NOW) == "OK"


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_an_existing_metric(name: str) -> None:
    telemetry = (ROOT / "layers" / "posedrop" / "posedrop" / "aws" / "metrics.py").read_text(encoding="utf-8")
    for metric in metrics(ALARMS[name]):
        (dimension,) = metric["Dimensions"]
        if metric["Namespace"] == "AWS/SQS":
            assert dimension["Name"] == "QueueName"
            assert dimension["Value"] in STACK.of_type("AWS::SQS::Queue")
        else:
            assert metric["Namespace"] == "posedrop/posedrop"
            assert metric["MetricName"] in telemetry
            assert dimension["Name"] == "service"


def test_the_dashboard_shows_every_alarm() -> None:
    body = json.loads(STACK.properties("Dashboard")["DashboardBody"])
    (widget,) = (widget for widget in body["widgets"] if widget["type"] == "alarm")
    assert {arn.split(":")[-1] for arn in widget["properties"]["alarms"]} == set(ALARMS)


def dashboard() -> dict[str, list[Any]]:
    """The metrics of each of the dashboard's graphs, by its title, each written out."""
    graphs: dict[str, list[Any]] = {}
    for widget in json.loads(STACK.properties("Dashboard")["DashboardBody"])["widgets"]:
        last: list[Any] = []
        if widget["type"] == "metric":
            graphs[widget["properties"]["title"]] = []
            for row in widget["properties"]["metrics"]:
                last = [*last[:4], *row[1:]] if row[0] == "..." else row
                graphs[widget["properties"]["title"]].append(last)
    return graphs


def test_the_dashboard_draws_metrics_that_there_are() -> None:
    telemetry = (ROOT / "layers" / "posedrop" / "posedrop" / "aws" / "metrics.py").read_text(encoding="utf-8")
    functions = re.findall(r"^- (\w+)[^:\n]*: (.+?)(?=^- |^$)", telemetry, re.MULTILINE | re.DOTALL)
    named = {name: re.findall(r"\w+", text) for name, text in functions}
    drawn = [row for rows in dashboard().values() for row in rows if isinstance(row[0], str)]
    assert drawn
    for namespace, metric, dimension, value, *_ in drawn:
        if namespace == "AWS/SQS":
            assert dimension == "QueueName"
            assert value in ("UploadQueue", "SubmitQueue")
        else:
            assert (namespace, dimension) == ("posedrop/posedrop", "service")
            assert metric in named[value], metric


def test_the_dashboard_shows_all_calls_and_every_429() -> None:
    rows = dashboard()["Calls, percent of the plan's limit"]
    expressions = [row[0]["expression"] for row in rows if isinstance(row[0], dict)]
    ids = {row[4]["id"]: row[1] for row in rows if len(row) > 4 and "id" in row[4]}
    assert ids == {"submitted": "Submitted", "polls": "Polls", "results": "Succeeded"}
    per_minute = {"submitted": 20.0, "polls": 15.0, "results": None}
    assert [calculate(expression, per_minute) for expression in expressions] == [40, 70]
    assert {row[3] for row in rows if row[1:2] == ["RateLimited"]} == {"submit", "poll", "deliver"}


def test_the_search_quotes_what_is_no_plain_word() -> None:
    ((search,),) = dashboard()["Failures by type"]
    assert re.match(r"""SEARCH\('\{"posedrop/posedrop","error_type","service"\} """, search["expression"])


# ---- the evaluator -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "values", "expected"),
    [
        ("a + b * 2", {"a": 1, "b": 2}, 5),
        ("a + b", {"a": 1, "b": None}, None),
        ("FILL(a, 0) + FILL(b, 3)", {"a": None, "b": None}, 3),
        ("a / b", {"a": 1, "b": 0}, None),
        ("IF(a > 1 AND b < 1, 1, 0)", {"a": 2, "b": 0}, 1),
        ("IF(a > 1 AND b < 1, 1, 0)", {"a": 2, "b": 1}, 0),
        ("IF(a > 1 OR b < 1, 1, 0)", {"a": 0, "b": 0}, 1),
        ("IF(a >= 5, 100 / a, 0)", {"a": 0}, 0),
        ("IF(a > 1, 1, 0)", {"a": None}, None),
    ],
)
def test_metric_math(expression: str, values: dict[str, float | None], expected: float | None) -> None:
    assert calculate(expression, values) == expected


@pytest.mark.parametrize("expression", ["RATE(a)", "b + 1"])
def test_what_is_not_known_is_not_guessed(expression: str) -> None:
    with pytest.raises(KeyError):
        calculate(expression, {"a": 1.0})


def sampled(*samples: tuple[float, float]) -> CloudWatch:
    """Metrics with these values so many seconds ago."""
    cloudwatch = CloudWatch()
    for ago, value in samples:
        cloudwatch.put("n", "m", {"d": "v"}, value, NOW - ago)
    return cloudwatch


@pytest.mark.parametrize(
    ("changes", "samples", "state"),
    [
        ({}, [(10, 1), (20, 2)], "ALARM"),
        ({}, [(10, 1), (20, 1)], "OK"),
        ({}, [(10, 1), (70, 2)], "OK"),  # of two periods
        ({"Statistic": "Maximum"}, [(10, 1), (20, 2)], "OK"),
        ({"Statistic": "Minimum", "Threshold": 1}, [(10, 2), (20, 3)], "ALARM"),
        ({"EvaluationPeriods": 2}, [(10, 3), (70, 2)], "OK"),
        ({"EvaluationPeriods": 2}, [(10, 3), (70, 3)], "ALARM"),
        ({"EvaluationPeriods": 3, "DatapointsToAlarm": 1}, [(130, 3)], "ALARM"),
        ({"EvaluationPeriods": 3, "DatapointsToAlarm": 1}, [(190, 3)], "INSUFFICIENT_DATA"),
        ({}, [], "INSUFFICIENT_DATA"),
        ({"TreatMissingData": "breaching"}, [], "ALARM"),
        ({"TreatMissingData": "notBreaching"}, [], "OK"),
    ],
)
def test_states(changes: dict[str, Any], samples: list[tuple[float, float]], state: str) -> None:
    assert sampled(*samples).state({**SUM, **changes}, NOW) == state


def test_embedded_metrics_are_read_from_the_logs() -> None:
    line = {
        "_aws": {"CloudWatchMetrics": [{"Namespace": "n", "Dimensions": [["d"]], "Metrics": [{"Name": "m"}]}]},
        "d": "v",
        "m": [1.0, 2.0],
    }
    cloudwatch = CloudWatch()
    cloudwatch.collect(f'plain text\n{{"message": "a log line"}}\n{json.dumps(line)}\n', NOW)
    assert cloudwatch.state(SUM, NOW) == "ALARM"
