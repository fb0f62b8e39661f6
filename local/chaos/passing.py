"""Make time pass in the ledger of a running stack: apply at once what takes minutes or days."""

from contextlib import suppress

from local.stack import LocalStack

LONG_AGO = "2000-01-01T00:00:00.000Z"
RETENTION = "RECORD_RETENTION_DAYS"


def retain(stack: LocalStack, days: int) -> None:
    """Set RecordRetentionDays as a deployment would, in the functions' environments."""
    functions = stack.client("lambda")
    for page in functions.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            variables = function.get("Environment", {}).get("Variables", {})
            if RETENTION in variables:
                functions.update_function_configuration(
                    FunctionName=function["FunctionName"],
                    Environment={"Variables": {**variables, RETENTION: str(days)}},
                )


def expire(stack: LocalStack, job_id: str) -> None:
    """Delete a record, as after its time to live."""
    stack.client("dynamodb").delete_item(TableName=stack.outputs["JobsTableName"], Key={"job_id": {"S": job_id}})


def let_be_due(stack: LocalStack, job_id: str, place: str) -> bool:
    """Make a dispatched job due whose message is lost, as it is ten minutes after its time.

    Returns whether it was still at its `place`.
    """
    dynamodb = stack.client("dynamodb")
    with suppress(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.update_item(
            TableName=stack.outputs["JobsTableName"],
            Key={"job_id": {"S": job_id}},
            UpdateExpression="SET place = :now",
            ConditionExpression="place = :place",
            ExpressionAttributeValues={":now": {"S": LONG_AGO}, ":place": {"S": place}},
        )
        return True
    return False
