"""The names of executions. Apart from the job, so that poll imports nothing else."""

EXECUTION_NAME_LIMIT = 80
"""AWS Step Functions takes execution names of 1 to 80 characters (API reference, StartExecution)."""


def execution_name(job_id: str, attempt: int) -> str:
    """The name of an attempt's execution. Names stay taken for 90 days, so one attempt is executed once."""
    return f"{job_id}-{attempt}"


def execution_arn(state_machine_arn: str, name: str) -> str:
    """The ARN of an execution by its name (Step Functions developer guide, resource ARNs)."""
    return f"{state_machine_arn.replace(':stateMachine:', ':execution:')}:{name}"
