"""Decide which errors of AWS are transient."""

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as AwsConnectionError

from posedrop.contract.errors import TransientFault

_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "TransactionInProgressException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "PriorRequestNotComplete",
        "KMS.ThrottlingException",
        "KMSThrottling",
        "KmsThrottled",
        "KmsThrottlingException",
        "RequestTimeout",
        "RequestTimeoutException",
        "InternalError",
        "InternalServerError",
        "ServiceUnavailable",
    }
)
"""The throttling and transient codes of botocore, the codes of S3, SQS and DynamoDB for their own faults, and the codes
of S3, SNS, SQS and Step Functions for throttling by KMS (API references)."""
SHORT_READ = "the file ended early"


def is_transient(exc: BaseException) -> bool:
    """Return whether the same call may succeed later: after throttling, a 5xx, a broken connection or a short read."""
    if isinstance(exc, ClientError):
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return exc.response["Error"]["Code"] in _THROTTLED or status >= 500 or status == 429
    return isinstance(exc, TransientFault | HTTPClientError | AwsConnectionError | IncompleteReadError)
