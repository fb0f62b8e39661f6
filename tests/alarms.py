"""Evaluate an alarm as CloudWatch does: metrics, the metric math that the template uses, and the alarm's state.

Source: CloudWatch user guide, "Using math expressions with CloudWatch metrics" and "Alarm evaluation". Simplified: the
periods end at the time of the evaluation, and an operation with a missing value has a missing result.
"""

import ast
import json
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

Key = tuple[str, str, frozenset[tuple[str, str]]]
Value = float | bool | None

STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "Average": mean,
    "SampleCount": len,
}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}


class CloudWatch:
    """Samples of metrics; times are in seconds."""

    def __init__(self) -> None:
        self._samples: dict[Key, list[tuple[float, float]]] = defaultdict(list)

    def put(self, namespace: str, name: str, dimensions: Mapping[str, str], value: float, at: float) -> None:
        """Add one sample."""
        self._samples[_key(namespace, name, dimensions)].append((at, value))

    def collect(self, logs: str, at: float) -> None:
        """Add the metrics that are embedded in log lines, as if they were written at a time."""
        for line in logs.splitlines():
            found = json.loads(line) if line.startswith("{") else {}
            for directive in found.get("_aws", {}).get("CloudWatchMetrics", []):
                for names in directive["Dimensions"]:
                    for metric in directive["Metrics"]:
                        values = found[metric["Name"]]
                        for value in values if isinstance(values, list) else [values]:
                            dimensions = {name: found[name] for name in names}
                            self.put(directive["Namespace"], metric["Name"], dimensions, value, at)

    def state(self, alarm: Mapping[str, Any], now: float) -> str:
        """Return the state at a time of an alarm, given by its properties in a template."""
        periods = alarm["EvaluationPeriods"]
        needed = alarm.get("DatapointsToAlarm", periods)
        compare = COMPARISONS[alarm["ComparisonOperator"]]
        treatment = alarm.get("TreatMissingData", "missing")
        values = [self._value(alarm, now - index * period(alarm)) for index in range(periods)]
        breaching = [
            compare(value, alarm["Threshold"]) if value is not None else treatment == "breaching" for value in values
        ]
        if all(value is None for value in values) and treatment == "missing":
            return "INSUFFICIENT_DATA"
        return "ALARM" if sum(breaching) >= needed else "OK"

    def _value(self, alarm: Mapping[str, Any], end: float) -> Value:
        if "Metrics" not in alarm:
            return self._statistic(alarm, alarm["Statistic"], alarm["Period"], end)
        found = {
            query["Id"]: self._statistic(
                query["MetricStat"]["Metric"], query["MetricStat"]["Stat"], query["MetricStat"]["Period"], end
            )
            for query in alarm["Metrics"]
            if "MetricStat" in query
        }
        (query,) = (query for query in alarm["Metrics"] if query.get("ReturnData", True))
        return calculate(query["Expression"], found)

    def _statistic(self, metric: Mapping[str, Any], statistic: str, seconds: float, end: float) -> float | None:
        dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
        samples = self._samples.get(_key(metric["Namespace"], metric["MetricName"], dimensions), [])
        values = [value for at, value in samples if end - seconds < at <= end]
        return STATISTICS[statistic](values) if values else None


def _key(namespace: str, name: str, dimensions: Mapping[str, str]) -> Key:
    return namespace, name, frozenset(dimensions.items())


def metrics(alarm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the metrics that an alarm reads."""
    if "Metrics" not in alarm:
        return [alarm]
    return [query["MetricStat"]["Metric"] for query in alarm["Metrics"] if "MetricStat" in query]


def period(alarm: Mapping[str, Any]) -> int:
    """Return the length of an alarm's periods in seconds, which is the same for all its metrics."""
    given = {query["MetricStat"]["Period"] for query in alarm.get("Metrics", []) if "MetricStat" in query}
    (seconds,) = given or {alarm["Period"]}
    return int(seconds)


def calculate(expression: str, values: Mapping[str, float | None]) -> Value:
    """Return the value of a metric math expression. Raises KeyError for an unknown id or function."""
    python = re.sub(r"\bAND\b", "and", re.sub(r"\bOR\b", "or", expression))
    return _calculate(ast.parse(python, mode="eval").body, values)


def _calculate(node: ast.expr, values: Mapping[str, float | None]) -> Value:
    match node:
        case ast.Constant(float() | int() as value):
            return value
        case ast.Name(name):
            return values[name]
        case ast.Call(ast.Name("FILL"), [series, filling]):
            found = _calculate(series, values)
            return _calculate(filling, values) if found is None else found
        case ast.Call(ast.Name("IF"), [condition, yes, no]):
            decided = _calculate(condition, values)
            return None if decided is None else _calculate(yes if decided else no, values)
        case ast.BoolOp(kind, parts):
            known = [_calculate(part, values) for part in parts]
            return None if None in known else (all if isinstance(kind, ast.And) else any)(known)
        case ast.BinOp(left, kind, right) | ast.Compare(left, [kind], [right]):
            first, second = _calculate(left, values), _calculate(right, values)
            if first is None or second is None or (isinstance(kind, ast.Div) and second == 0):
                return None  # a division by zero has no value
            result: Value = OPERATORS[type(kind)](first, second)
            return result
    raise KeyError(ast.unparse(node))
