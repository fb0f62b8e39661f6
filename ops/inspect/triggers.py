"""Check that what starts the functions is enabled: the rules, the schedules, and the queues' event source mappings."""

from botocore.exceptions import ClientError

from ops.inspect.problem import Problem
from ops.stack import Stack

RULES = {
    "UploadRule": "no upload makes a job",
    "DispatchFunctionEachMinute": "jobs in line are not sent",
    "SweepFunctionHourly": "stuck jobs are not resumed, and incomplete uploads are not reported",
    "ExecutionEndRule": "only the sweep reports an execution that fails",
}
"""EventBridge rules and schedules by their logical ids, and what follows if one is disabled."""
MAPPINGS = {"IntakeFunctionUploads": "no upload makes a job", "SubmitFunctionJobs": "no job is sent"}
"""The event source mappings of the two queues, likewise."""
STOPPED = ("Disabling", "Disabled")
"""The states of a mapping that starts no function (Lambda API reference, GetEventSourceMapping)."""
DELETED = "ResourceNotFoundException"


def trigger_problems(stack: Stack) -> list[Problem]:
    """Return the rules, schedules and mappings that are disabled, deleted, or may not be read."""
    found = []
    for logical_id, effect in (RULES | MAPPINGS).items():
        physical_id = stack.resource(logical_id)
        if physical_id is None:
            continue
        try:
            next_step = _disabled_rule(stack, physical_id) if logical_id in RULES else _stopped(stack, physical_id)
        except ClientError as exc:
            found.append(_not_read(logical_id, effect, exc.response["Error"]["Code"]))
        else:
            found += [Problem(f"{logical_id} is disabled, so {effect}", next_step)] if next_step else []
    return found


def _disabled_rule(stack: Stack, name: str) -> str | None:
    """Return how to enable a rule, or None if it is enabled."""
    disabled = stack.client("events").describe_rule(Name=name)["State"] == "DISABLED"
    return stack.aws("events", "enable-rule", "--name", name) if disabled else None


def _stopped(stack: Stack, uuid: str) -> str | None:
    """Return how to enable an event source mapping, or None if it is enabled."""
    stopped = stack.client("lambda").get_event_source_mapping(UUID=uuid)["State"] in STOPPED
    return stack.aws("lambda", "update-event-source-mapping", "--uuid", uuid, "--enabled") if stopped else None


def _not_read(logical_id: str, effect: str, code: str) -> Problem:
    if code == DELETED:
        step = f"create it again as {logical_id} in template.yaml describes it, or delete the stack and deploy it again"
        return Problem(f"{logical_id} was deleted, so {effect}", step)
    step = "allow the operators' grants in docs/security.md"
    return Problem(f"cannot check whether {logical_id} is enabled: {code}", step)
