"""The name of an execution. Apart from the job, so that poll imports nothing else."""

EXECUTION_NAME_LIMIT = 80
"""AWS Step Functions takes execution names of 1 to 80 characters (API reference, StartExecution)."""


def execution_name(job_id: str, attempt: int) -> str:
    """The name of an attempt's execution. Names stay taken for 90 days, so one attempt is executed once."""
    return f"{job_id}-{attempt}"
