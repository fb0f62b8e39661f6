"""The AWS resources of a function, each made once, at its first use."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from posedrop.aws.api_key import ApiKey
from posedrop.aws.jobs_table import JobsTable
from posedrop.aws.s3 import s3_client

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client


class TableSettings(Protocol):
    """The settings that name the table."""

    @property
    def jobs_table(self) -> str:
        """The name of the table."""

    @property
    def record_retention_days(self) -> float:
        """The days for which records are kept. 0 keeps them forever."""


class Resources:
    """The resources that several functions use. `make_client` makes the boto3 client of a service."""

    def __init__(self, settings: TableSettings, make_client: Callable[..., Any]) -> None:
        self._settings = settings
        self.make_client = make_client

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        """The client of DynamoDB."""
        made: DynamoDBClient = self.make_client("dynamodb")
        return made

    @cached_property
    def s3(self) -> "S3Client":
        """The client of S3, whose presigned URLs use the regional endpoint."""
        return s3_client(self.make_client)

    @cached_property
    def table(self) -> JobsTable:
        """The table of jobs."""
        return JobsTable(self.dynamodb, self._settings.jobs_table, self._settings.record_retention_days)

    def api_key(self, secret_id: str) -> ApiKey:
        """Return the provider's API key."""
        return ApiKey(secret_id)
