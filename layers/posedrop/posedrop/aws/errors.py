"""Which errors of AWS pass by themselves."""

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
"""botocore's own lists of throttling and transient codes, what S3, SQS and DynamoDB say of a fault of theirs, and what
S3, SNS, SQS and Step Functions say of a key in KMS that is asked for too often (API references)."""
SHORT_READ = "the file ended early"


def is_transient(exc: BaseException) -> bool:
    """Whether the error is a throttle, a 5xx, a broken connection or a short read: the same call may work later."""
    if isinstance(exc, ClientError):
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return exc.response["Error"]["Code"] in _THROTTLED or status >= 500 or status == 429
    return isinstance(exc, TransientFault | HTTPClientError | AwsConnectionError | IncompleteReadError)
