"""The names of executions. They have a module of their own so that `poll` imports little."""

EXECUTION_NAME_LIMIT = 80
"""AWS Step Functions accepts execution names of 1 to 80 characters (API reference, StartExecution)."""


def execution_name(job_id: str, attempt: int) -> str:
    """Return the name of an attempt's execution. Names cannot be reused for 90 days, so an attempt runs only once."""
    return f"{job_id}-{attempt}"


def execution_arn(state_machine_arn: str, name: str) -> str:
    """Return the ARN of an execution by its name (Step Functions developer guide, resource ARNs)."""
    return f"{state_machine_arn.replace(':stateMachine:', ':execution:')}:{name}"
