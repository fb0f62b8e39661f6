"""The metrics, in CloudWatch's embedded format: written with the logs, without a call.

Of intake: Waiting.
Of dispatch: OldestJobSeconds (how long the next job has waited), NoSuccessSeconds (how long one waits and none was
delivered while the gate is open), Paused, WaitingForBudget (1 or 0); each minute, zeros too; RemainingCredits (USD)
and JobsPaidFor (how many jobs they pay for), each minute once they are known.
Of submit: Submitted, EstimatedSpend (USD), Refused, RateLimited, OutcomeUnknown.
Of poll: RateLimited.
Of deliver: Succeeded, Failed, EndedBadly (1 or 0 for each job), FailedByType, ExecutionWithoutNotification,
RateLimited, Rescued (a result that was gone), Spend (USD: what requests cost, once that is known), Polls (of a job's
whole wait, at its end), InferenceSeconds, DetectionDelaySeconds (with the provider's queue: InferenceSeconds is the
model's time alone), EndToEndSeconds (from the record to the end, of first attempts), OutputBytes. The namespace is
that of POWERTOOLS_METRICS_NAMESPACE: one for each stack.
"""

from aws_lambda_powertools.metrics import Metrics, MetricUnit, single_metric

from posedrop.aws.record import Record


def count(name: str, value: float = 1) -> None:
    """Count something."""
    Metrics().add_metric(name, MetricUnit.Count, value)


def count_success(record: Record, detected_after: float | None) -> None:
    """Count a job that succeeded, and what it took; `detected_after` is when its end was seen, in seconds."""
    count("Succeeded")
    count("EndedBadly", 0)
    _count_polls(record)
    if record.attempt == 1:  # a later one's seconds would be since the first one began
        seconds("EndToEndSeconds", record.metrics["total_seconds"])
    inference_seconds = record.metrics.get("inference_seconds")
    if inference_seconds is not None:
        seconds("InferenceSeconds", inference_seconds)
        if detected_after is not None:
            seconds("DetectionDelaySeconds", max(0.0, detected_after - inference_seconds))
    Metrics().add_metric("OutputBytes", MetricUnit.Bytes, sum(output["bytes"] for output in record.outputs))


def count_failure(record: Record, error_type: str) -> None:
    """Count a failed job, and its error type, which is a dimension of its own."""
    count("Failed")
    if not record.cancelled:  # what a person did is no fault for an alarm
        count("EndedBadly", 1)
    _count_polls(record)
    with single_metric("FailedByType", MetricUnit.Count, 1) as metric:
        metric.add_dimension("error_type", error_type)


def _count_polls(record: Record) -> None:
    count("Polls", record.metrics.get("polls") or 0)


def seconds(name: str, value: float) -> None:
    """Note a duration."""
    Metrics().add_metric(name, MetricUnit.Seconds, value)


def flush() -> None:
    """Write what was noted since the last time."""
    metrics = Metrics()
    if metrics.metric_set:
        metrics.flush_metrics()
