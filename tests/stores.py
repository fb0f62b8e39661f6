"""Read everything in a stack's stores as texts: objects in all versions, items, messages, executions, logs."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from botocore.exceptions import ClientError

Client = Callable[[str], Any]
"""Returns the client of a service."""


def everything(client: Client, queues: Iterable[str], without: str = "") -> Iterator[tuple[str, str]]:
    """Yield each stored thing: where it is, and its full text. Messages stay in the queues.

    `without` is a bucket that is not read.
    """
    yield from _objects(client("s3"), without)
    yield from _items(client("dynamodb"))
    for url in queues:
        yield from _messages(client("sqs"), url)
    yield from _executions(client("stepfunctions"))
    yield from _logs(client("logs"))


def hits(found: Iterable[tuple[str, str]], words: Iterable[str]) -> dict[str, list[str]]:
    """Return where some words occur, in any case."""
    wanted = [word.casefold() for word in words]
    places = ((where, [word for word in wanted if word in f"{where} {text}".casefold()]) for where, text in found)
    return {where: there for where, there in places if there}


def _objects(s3: Any, without: str) -> Iterator[tuple[str, str]]:
    for bucket in (found["Name"] for found in s3.list_buckets()["Buckets"] if found["Name"] != without):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for entry in page.get("DeleteMarkers", []):
                yield f"s3:{bucket}/{entry['Key']}#{entry['VersionId']}", "a delete marker"
            for entry in page.get("Versions", []):
                response = s3.get_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
                body, metadata = response["Body"].read().decode("latin-1"), json.dumps(response.get("Metadata"))
                yield f"s3:{bucket}/{entry['Key']}#{entry['VersionId']}", f"{metadata} {body}"
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for entry in page.get("Uploads", []):
                yield f"s3:{bucket}/{entry['Key']}#{entry['UploadId']}", "an upload that has not ended"


def _items(dynamodb: Any) -> Iterator[tuple[str, str]]:
    for table in dynamodb.list_tables()["TableNames"]:
        for page in dynamodb.get_paginator("scan").paginate(TableName=table):
            for item in page["Items"]:
                yield f"dynamodb:{table}/{item['job_id']['S']}", json.dumps(item, ensure_ascii=False)


def _messages(sqs: Any, url: str) -> Iterator[tuple[str, str]]:
    asked = {"MaxNumberOfMessages": 10, "VisibilityTimeout": 30, "MessageAttributeNames": ["All"]}
    found: list[dict[str, Any]] = []
    while messages := sqs.receive_message(QueueUrl=url, **asked).get("Messages", []):
        found += messages
    for message in found:
        entry = {"Id": "1", "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
        sqs.change_message_visibility_batch(QueueUrl=url, Entries=[entry])
        yield f"sqs:{url}#{message['MessageId']}", message["Body"] + json.dumps(message.get("MessageAttributes"))


def _executions(sfn: Any) -> Iterator[tuple[str, str]]:
    for machine in sfn.list_state_machines()["stateMachines"]:
        for page in sfn.get_paginator("list_executions").paginate(stateMachineArn=machine["stateMachineArn"]):
            for execution in page["executions"]:
                arn = execution["executionArn"]
                try:
                    events = sfn.get_execution_history(executionArn=arn)["events"]
                    history = [{**event, "timestamp": None} for event in events]  # moto's are the present time
                except (ClientError, NotImplementedError):
                    history = []
                described = sfn.describe_execution(executionArn=arn)
                found = {name: described.get(name) for name in ("name", "input", "output", "error", "cause")}
                found["history"] = history
                yield f"states:{arn}", json.dumps(found, default=str, ensure_ascii=False)


def _logs(logs: Any) -> Iterator[tuple[str, str]]:
    for group in logs.describe_log_groups()["logGroups"]:
        name = group["logGroupName"]
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=name):
            for event in page["events"]:
                yield f"logs:{name}", event["message"]
