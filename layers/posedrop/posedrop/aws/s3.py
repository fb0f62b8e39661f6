"""The one place where S3 clients are made."""

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def s3_config(addressing_style: str) -> Config:
    """Return the configuration of a client whose presigned URLs name the bucket in this style: virtual or path."""
    style: Any = addressing_style
    # Without version 4 of the signature S3 serves no object that is encrypted with KMS.
    return Config(signature_version="s3v4", s3={"addressing_style": style, "us_east_1_regional_endpoint": "regional"})


def s3_client() -> "S3Client":
    """Make a client of the environment's region whose presigned URLs name the regional endpoint.

    With botocore's own choice of a style they name the global endpoint, which answers 307 or 400 for a bucket outside
    us-east-1 until DNS knows it, for up to a day (S3 user guide, virtual hosting). With the virtual style the host is
    <bucket>.s3.<region>.amazonaws.com; only a bucket with a dot in its name, which S3's certificate does not cover as a
    host, is in the path, at the regional endpoint. An endpoint that is not AWS's, as of the local stack, gets all
    buckets in the path: there are no names below its host.
    """
    client: S3Client = boto3.client("s3", config=s3_config("virtual"))
    if ".amazonaws." in client.meta.endpoint_url:
        return client
    return boto3.client("s3", config=s3_config("path"))
