"""Presigned URLs name a host that serves the bucket from its first minute on."""

from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.loaders
import botocore.session
import pytest

from posedrop.aws.s3 import s3_client
from posedrop.aws.stored_uploads import presigned_url

LOCAL = "http://localhost:4566"
LOADER = botocore.loaders.create_loader()
"""Reads each of botocore's data files once, for all sessions."""
STORED = {"bucket": "", "key": "incoming/hero/face 1.png", "content_type": "image/png", "version_id": "v1"}


def url(monkeypatch: pytest.MonkeyPatch, region: str, bucket: str, endpoint: str = "") -> str:
    core = botocore.session.Session()
    core.register_component("data_loader", LOADER)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.Session(botocore_session=core))
    for name, value in (
        ("AWS_DEFAULT_REGION", region),
        ("AWS_REGION", region),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
    ):
        monkeypatch.setenv(name, value)
    return presigned_url(s3_client(), {**STORED, "bucket": bucket}, "hero-1", 3600)


@pytest.mark.parametrize(
    ("region", "bucket", "host", "path"),
    [
        ("eu-west-1", "uploads", "uploads.s3.eu-west-1.amazonaws.com", ""),
        ("eu-south-1", "uploads", "uploads.s3.eu-south-1.amazonaws.com", ""),
        ("us-east-1", "uploads", "uploads.s3.us-east-1.amazonaws.com", ""),
        ("us-gov-west-1", "uploads", "uploads.s3.us-gov-west-1.amazonaws.com", ""),
        ("cn-north-1", "uploads", "uploads.s3.cn-north-1.amazonaws.com.cn", ""),
        # The certificate for *.s3.<region>.amazonaws.com covers no name with a dot in its first part.
        ("eu-west-1", "uploads.example.com", "s3.eu-west-1.amazonaws.com", "/uploads.example.com"),
        ("us-east-1", "uploads.example.com", "s3.us-east-1.amazonaws.com", "/uploads.example.com"),
    ],
)
def test_the_host_is_the_bucket_s_own_in_its_region(
    monkeypatch: pytest.MonkeyPatch, region: str, bucket: str, host: str, path: str
) -> None:
    found = urlsplit(url(monkeypatch, region, bucket))
    assert (found.scheme, found.netloc, found.path) == ("https", host, f"{path}/incoming/hero/face%201.png")
    query = parse_qs(found.query)
    assert query["versionId"] == ["v1"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Credential"][0].split("/")[2] == region
    assert query["X-Amz-SignedHeaders"] == ["host"]


@pytest.mark.parametrize("endpoint", [LOCAL, "http://127.0.0.1:4566", "http://minio.test:9000"])
@pytest.mark.parametrize("bucket", ["uploads", "uploads.example.com"])
def test_another_endpoint_has_the_bucket_in_its_path(
    monkeypatch: pytest.MonkeyPatch, bucket: str, endpoint: str
) -> None:
    assert url(monkeypatch, "eu-west-1", bucket, endpoint).startswith(
        f"{endpoint}/{bucket}/incoming/hero/face%201.png?"
    )


@pytest.mark.parametrize("region", ["eu-south-1", "us-east-1"])
def test_requests_go_where_the_urls_lead(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    url(monkeypatch, region, "uploads")
    assert s3_client().meta.endpoint_url == f"https://s3.{region}.amazonaws.com"
