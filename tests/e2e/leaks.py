"""What no log may hold: a key, a signature, credentials, an image; and what no record or result may."""

import base64
from collections.abc import Iterator
from itertools import chain

from local.stack import LOCAL_API_KEY, LocalStack
from tests.support import SAMPLES

NEW_KEY = "SG_fedcba9876543210"
"""The key that the tests put in the first one's place."""
FUNCTIONS = {"intake", "dispatch", "prepare", "submit", "poll", "deliver", "sweep"}
RUN = 64
"""Characters of base64 that are no chance."""


def _runs() -> Iterator[str]:
    """Of each sample, as base64, a part behind the headers that files share, and one from its middle."""
    for path in sorted(chain(SAMPLES.glob("*.png"), SAMPLES.glob("*.jpg"))):
        encoded = base64.b64encode(path.read_bytes()).decode()
        for start in (RUN, len(encoded) // 2):
            yield encoded[start : start + RUN]


FORBIDDEN = (
    *(LOCAL_API_KEY, NEW_KEY),
    *("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token"),
    *("data:image", "base64,", base64.b64encode(b"\x89PNG\r\n\x1a").decode()[:10]),
    *_runs(),
)


def leaks(text: str) -> list[str]:
    """What of it a text holds."""
    return [forbidden for forbidden in FORBIDDEN if forbidden in text]


def check_logs(stack: LocalStack) -> dict[str, str]:
    """Look for it in all that all functions of a stack have logged so far, and return that by function."""
    logs = {path.stem.removeprefix("function-"): path.read_text() for path in stack.save_function_logs()}
    assert set(logs) == FUNCTIONS
    found = {name: leaks(text) for name, text in logs.items()}
    assert not any(found.values()), f"leaked: {found}"
    return logs


def check_stores(stack: LocalStack) -> None:
    """Look for signed links in all records and in each result.json: they are published, and kept nowhere."""
    pages = stack.client("dynamodb").get_paginator("scan").paginate(TableName=stack.outputs["JobsTableName"])
    texts = [str(item) for page in pages for item in page["Items"]]
    s3, bucket = stack.client("s3"), stack.outputs["OutputBucketName"]
    listed = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="outputs/")
    keys = [entry["Key"] for page in listed for entry in page.get("Contents", []) if entry["Key"].endswith(".json")]
    texts += [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys]
    assert not any("X-Amz-" in text for text in texts)
