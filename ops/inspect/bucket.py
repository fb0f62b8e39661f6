"""What the upload bucket lacks, so that an upload would make no job, or not the one that was meant."""

import json

from botocore.exceptions import ClientError

from ops.inspect.problem import Problem
from ops.stack import Stack

GONE = ("404", "NoSuchBucket")
"""What S3 says of a bucket that is not there."""


def bucket_problems(stack: Stack) -> list[Problem]:
    """What the upload bucket lacks, which its owner must switch on if the stack did not make it."""
    name, found = stack.output("UploadBucketName"), list[Problem]()
    checks = ((elsewhere, "is in the stack's region"), (no_versions, "keeps versions"), (no_events, "sends events"))
    for check, what in checks:
        try:
            problem = check(stack)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            if code in GONE:
                step = "create it again, in the same account and region, with versions and events"
                return [Problem(f"there is no upload bucket {name}, so no upload makes a job", step)]
            step = "allow what docs/security.md names for operators on it, or ask its owner"
            problem = Problem(f"it cannot be checked whether the upload bucket {name} {what}: {code}", step)
        found += [problem] if problem else []
    return found


def elsewhere(stack: Stack) -> Problem | None:
    """What to do if the upload bucket is in another region: its events stay there, and no rule here sees them."""
    name = stack.output("UploadBucketName")
    region = stack.client("s3").head_bucket(Bucket=name).get("BucketRegion", stack.region)
    if region == stack.region:
        return None
    step = f"deploy the stack in {region}, or take a bucket in {stack.region}"
    return Problem(f"the upload bucket {name} is in {region}, and its events do not come to {stack.region}", step)


def no_versions(stack: Stack) -> Problem | None:
    """What to do if the upload bucket keeps no versions."""
    name = stack.output("UploadBucketName")
    if stack.client("s3").get_bucket_versioning(Bucket=name).get("Status") == "Enabled":
        return None
    step = stack.aws(
        *("s3api", "put-bucket-versioning", "--bucket", name, "--versioning-configuration", "Status=Enabled")
    )
    return Problem(f"the upload bucket {name} keeps no versions", step)


def no_events(stack: Stack) -> Problem | None:
    """What to do if the upload bucket sends no events to EventBridge."""
    name = stack.output("UploadBucketName")
    found = stack.client("s3").get_bucket_notification_configuration(Bucket=name)
    if "EventBridgeConfiguration" in found:
        return None
    # The call replaces the whole configuration: what there is stays in it.
    kept = {key: value for key, value in found.items() if key != "ResponseMetadata"}
    wanted = json.dumps({**kept, "EventBridgeConfiguration": {}})
    step = stack.aws(
        *("s3api", "put-bucket-notification-configuration", "--bucket", name, "--notification-configuration", wanted)
    )
    return Problem(f"the upload bucket {name} sends no events to EventBridge", step)
