"""Compute the AWS cost of a simulated stack's jobs at list prices: bench/prices.json has each with its source."""

from bench.cost import load_prices
from bench.simulation.stack import Stack

JOBS = 1000
REST = {
    "step_functions_transition": 11.9,
    "s3_put": 9.15,
    "s3_get": 11.0,
    "sns_publish": 1.0,
    "kms_request": 1.0,
    "secrets_call": 0.06,
    "eventbridge_event": 1.05,
    "logs_gb": 6653e-9,
    "lambda_request": 3.62,
    "lambda_gb_second": 0.095 * 0.25 + 0.163 * 0.5,
}
"""The usage of a job that is not simulated, by the name of its price: as `python -m bench jobs` counts it on the local
stack. Its Lambda usage is that of `poll` and `deliver`."""
SERVICES = {
    "Step Functions": ("step_functions_transition",),
    "Lambda": ("lambda_request", "lambda_gb_second"),
    "DynamoDB": ("dynamodb_write", "dynamodb_read"),
    "S3": ("s3_put", "s3_get"),
    "SQS": ("sqs_request",),
    "all else": ("sns_publish", "kms_request", "secrets_call", "eventbridge_event", "logs_gb"),
}


def cost(stack: Stack) -> dict[str, float]:
    """Return the cost of JOBS such jobs, in USD by service."""
    used = amounts(stack)
    prices = load_prices()
    return {service: JOBS * sum(used[name] * prices[name] for name in names) for service, names in SERVICES.items()}


def amounts(stack: Stack) -> dict[str, float]:
    """Return the usage of a job, by the name of its price."""
    used = {**REST, "dynamodb_write": 0.0, "dynamodb_read": 0.0, "sqs_request": 0.0}
    for name, function in stack.functions.items():
        jobs = stack.jobs_of(name)
        used["lambda_request"] += function.use.invocations / jobs
        used["lambda_gb_second"] += function.use.seconds * function.memory_mb / 1024 / jobs
    for name, meter in stack.meters.items():
        used["dynamodb_write"] += meter.write_units / stack.jobs_of(name)
        used["dynamodb_read"] += meter.read_units / stack.jobs_of(name)
    used["s3_get"] += stack.parts.objects.heads / stack.jobs_of("submit")
    uploads = stack.upload_queue.use
    used["sqs_request"] += (uploads.sent + uploads.calls) / stack.jobs_of("intake")
    used["sqs_request"] += stack.submit_queue.use.calls / stack.jobs_of("submit")
    return used
