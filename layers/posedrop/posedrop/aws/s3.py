"""Make S3 clients. All S3 clients of the functions are made here."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def s3_config(addressing_style: str) -> Config:
    """Return the configuration of an S3 client. `addressing_style` is virtual or path."""
    style: Any = addressing_style
    # S3 serves KMS-encrypted objects only to requests with signature version 4.
    return Config(signature_version="s3v4", s3={"addressing_style": style, "us_east_1_regional_endpoint": "regional"})


def s3_client(make: Callable[..., Any] | None = None) -> "S3Client":
    """Return a client for the environment's region whose presigned URLs use the regional endpoint.

    `make` makes the client of a service. None is boto3's own.

    By default botocore's presigned URLs use the global endpoint. For a new bucket outside us-east-1, that endpoint
    answers 307 or 400 for up to a day, until DNS knows the bucket (S3 user guide, virtual hosting). With the virtual
    style the host is <bucket>.s3.<region>.amazonaws.com. A bucket with a dot in its name is put into the path instead,
    because S3's certificate does not cover such a host. An endpoint that is not AWS's, such as the local stack, gets
    all buckets in the path, because it has no subdomains.
    """
    make = make or boto3.client
    client: S3Client = make("s3", config=s3_config("virtual"))
    return client if ".amazonaws." in client.meta.endpoint_url else make("s3", config=s3_config("path"))
