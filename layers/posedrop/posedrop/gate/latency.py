"""Store the durations of the last jobs in one item of the table."""

from typing import TYPE_CHECKING

from posedrop.gate.poll_schedule import Latency

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ITEM = "latency"


class LatencyStore:
    """The latency in the table. Before the first job it is derived from `typical_seconds`.

    Errors of DynamoDB pass as botocore's ClientError.
    """

    def __init__(self, dynamodb: "DynamoDBClient", table: str, typical_seconds: float) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._typical_seconds = typical_seconds

    def read(self) -> Latency:
        """Return the latency. The read is eventually consistent."""
        item = self._dynamodb.get_item(TableName=self._table, Key={"job_id": {"S": ITEM}}).get("Item", {})
        try:
            return Latency.from_dict({"tenths": [value["N"] for value in item["tenths"]["L"]]})
        except (KeyError, ValueError):
            return Latency.typical(self._typical_seconds)

    def observe(self, seconds: float) -> None:
        """Add the duration of a job. If two functions do this at once, one duration may be lost, which does no harm."""
        latency = self.read().observe(seconds)
        self._dynamodb.update_item(
            TableName=self._table,
            Key={"job_id": {"S": ITEM}},
            UpdateExpression="SET tenths = :tenths",
            ExpressionAttributeValues={":tenths": {"L": [{"N": str(tenth)} for tenth in latency.tenths]}},
        )
