"""Check the upload bucket's settings, without which an upload makes no job, or an unexpected one."""

import json

from botocore.exceptions import ClientError

from ops.inspect.problem import Problem
from ops.stack import Stack

GONE = ("404", "NoSuchBucket")
"""The codes of S3 for a bucket that does not exist."""


def bucket_problems(stack: Stack) -> list[Problem]:
    """Return the problems of the upload bucket, which its owner must fix if the stack did not create it."""
    name, found = stack.output("UploadBucketName"), list[Problem]()
    checks = ((elsewhere, "is in the stack's region"), (no_versions, "keeps versions"), (no_events, "sends events"))
    for check, what in checks:
        try:
            problem = check(stack)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            if code in GONE:
                step = "create it again, in the same account and region, with versioning and events"
                return [Problem(f"there is no upload bucket {name}, so no upload makes a job", step)]
            step = "allow the operators' grants in docs/security.md on it, or ask its owner"
            problem = Problem(f"cannot check whether the upload bucket {name} {what}: {code}", step)
        found += [problem] if problem else []
    return found


def elsewhere(stack: Stack) -> Problem | None:
    """Return the problem if the upload bucket is in another region.

    Its events stay in that region, so no rule of this stack sees them.
    """
    name = stack.output("UploadBucketName")
    region = stack.client("s3").head_bucket(Bucket=name).get("BucketRegion", stack.region)
    if region == stack.region:
        return None
    step = f"deploy the stack in {region}, or use a bucket in {stack.region}"
    return Problem(f"the upload bucket {name} is in {region}, and its events do not reach {stack.region}", step)


def no_versions(stack: Stack) -> Problem | None:
    """Return the problem if the upload bucket has no versioning."""
    name = stack.output("UploadBucketName")
    if stack.client("s3").get_bucket_versioning(Bucket=name).get("Status") == "Enabled":
        return None
    step = stack.aws(
        *("s3api", "put-bucket-versioning", "--bucket", name, "--versioning-configuration", "Status=Enabled")
    )
    return Problem(f"the upload bucket {name} keeps no versions", step)


def no_events(stack: Stack) -> Problem | None:
    """Return the problem if the upload bucket sends no events to EventBridge."""
    name = stack.output("UploadBucketName")
    found = stack.client("s3").get_bucket_notification_configuration(Bucket=name)
    if "EventBridgeConfiguration" in found:
        return None
    # The call replaces the whole configuration, so it must contain the present one.
    kept = {key: value for key, value in found.items() if key != "ResponseMetadata"}
    wanted = json.dumps({**kept, "EventBridgeConfiguration": {}})
    step = stack.aws(
        *("s3api", "put-bucket-notification-configuration", "--bucket", name, "--notification-configuration", wanted)
    )
    return Problem(f"the upload bucket {name} sends no events to EventBridge", step)
