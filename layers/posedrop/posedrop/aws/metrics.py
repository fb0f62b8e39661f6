"""Emit the metrics in CloudWatch's embedded metric format, which is part of the logs and needs no API call.

- intake: Waiting.
- dispatch, each minute, also if zero: OldestJobSeconds (how long the next job has waited), NoSuccessSeconds (how long a
  job has waited without any delivery while the gate is open), Paused and WaitingForBudget (1 or 0). Once the credits
  are known: RemainingCredits (USD), JobsPaidFor (how many jobs they can pay for).
- submit: Submitted, EstimatedSpend (USD), Refused, RateLimited, OutcomeUnknown.
- poll: RateLimited.
- deliver: Succeeded, Failed, EndedBadly (1 or 0 for each job), FailedByType, ExecutionWithoutNotification, RateLimited,
  Rescued (jobs whose images came from the history), Spend (USD, the real cost of requests), Polls (of each job),
  InferenceSeconds (the model's time), DetectionDelaySeconds (from submission to the poll that saw the end, minus
  InferenceSeconds), EndToEndSeconds (from the record's creation to the end, for first attempts), OutputBytes.

The namespace is in POWERTOOLS_METRICS_NAMESPACE, one for each stack.
"""

from aws_lambda_powertools.metrics import Metrics, MetricUnit, single_metric

from posedrop.aws.record import Record


def count(name: str, value: float = 1) -> None:
    """Add a value to a metric of unit Count."""
    Metrics().add_metric(name, MetricUnit.Count, value)


def count_success(record: Record, detected_after: float | None) -> None:
    """Emit the metrics of a succeeded job. `detected_after`: seconds from submission to the poll that saw its end."""
    count("Succeeded")
    count("EndedBadly", 0)
    _count_polls(record)
    if record.attempt == 1:  # total_seconds counts from the first attempt
        seconds("EndToEndSeconds", record.metrics["total_seconds"])
    inference_seconds = record.metrics.get("inference_seconds")
    if inference_seconds is not None:
        seconds("InferenceSeconds", inference_seconds)
        if detected_after is not None:
            seconds("DetectionDelaySeconds", max(0.0, detected_after - inference_seconds))
    Metrics().add_metric("OutputBytes", MetricUnit.Bytes, sum(output["bytes"] for output in record.outputs))


def count_failure(record: Record, error_type: str) -> None:
    """Emit the metrics of a failed job. FailedByType has the error type as a dimension."""
    count("Failed")
    if not record.cancelled:  # a cancelled job should not raise an alarm
        count("EndedBadly", 1)
    _count_polls(record)
    with single_metric("FailedByType", MetricUnit.Count, 1) as metric:
        metric.add_dimension("error_type", error_type)


def _count_polls(record: Record) -> None:
    count("Polls", record.metrics.get("polls") or 0)


def seconds(name: str, value: float) -> None:
    """Add a value to a metric of unit Seconds."""
    Metrics().add_metric(name, MetricUnit.Seconds, value)


def flush() -> None:
    """Write all metrics that were added since the last flush."""
    metrics = Metrics()
    if metrics.metric_set:
        metrics.flush_metrics()
