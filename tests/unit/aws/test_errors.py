"""Which errors of AWS are transient, and which are not."""

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from posedrop.aws.errors import is_transient
from posedrop.contract.errors import InvalidInput, PosedropError, TransientFault


def answered(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Call")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    "code",
    [
        *("Throttling", "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"),
        *("SlowDown", "RequestTimeout", "TooManyRequestsException", "InternalError", "ServiceUnavailable"),
        *("InternalServerError", "KMS.ThrottlingException", "RequestThrottled", "TransactionInProgressException"),
        *(
            "KMSThrottling",
            "KmsThrottled",
            "KmsThrottlingException",
            "RequestTimeoutException",
            "PriorRequestNotComplete",
        ),
    ],
)
def test_throttles_and_faults_of_a_service_pass(code: str) -> None:
    assert is_transient(answered(code))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_so_does_any_5xx(status: int) -> None:
    assert is_transient(answered("Unheard", status))


@pytest.mark.parametrize(
    "exc",
    [
        EndpointConnectionError(endpoint_url="https://s3"),
        ConnectTimeoutError(endpoint_url="https://s3"),
        ReadTimeoutError(endpoint_url="https://s3"),
        ConnectionClosedError(endpoint_url="https://s3"),
        ResponseStreamingError(error="broken"),
        IncompleteReadError(actual_bytes=500, expected_bytes=1000),
        TransientFault("the file ended early"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_broken_connections_pass(exc: Exception) -> None:
    assert is_transient(exc)


@pytest.mark.parametrize(
    "exc",
    [
        answered("AccessDenied", 403),
        answered("ConditionalCheckFailedException"),
        answered("ValidationException"),
        answered("NoSuchKey", 404),
        answered("InvalidObjectState", 403),
        answered("KMS.DisabledException"),
        answered("KMSAccessDenied"),
        answered("ResourceNotFoundException"),
        answered("ExecutionLimitExceeded"),
        answered("PreconditionFailed", 412),
        ClientError({"Error": {"Code": "AccessDenied"}}, "Call"),
        NoCredentialsError(),
        ParamValidationError(report="x"),
        InvalidInput("bad"),
        PosedropError("ours"),
        ValueError("ours"),
        KeyError("ours"),
    ],
    ids=repr,
)
def test_what_stays_wrong_does_not(exc: Exception) -> None:
    assert not is_transient(exc)
