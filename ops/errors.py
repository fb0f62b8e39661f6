"""The errors that operators see instead of a traceback, each with its exit code.

OpsError                 1: AWS, the network or the stack refused
├── UnclearTarget        2: the stack is not named, or not clearly
├── BadManifest          2: a list of jobs has mistakes
├── NotFound             3: no such stack or job
├── Refused              4: a job failed, or the contract or the ledger does not allow the request
├── NeedsAttention       5: `status --check` or `reconcile` found something
└── TooLate              6: not finished in time; it continues
"""

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.contract.errors import PosedropError
from posedrop.segmind.responses import redact

AWS_ERRORS = (ClientError, BotoCoreError, Boto3Error, PosedropError, OSError)
"""The errors that calls to AWS raise."""


class OpsError(Exception):
    """The base of all errors here. The message is one line for people."""

    exit_code = 1


class UnclearTarget(OpsError):
    """The stack is not named, or named twice."""

    exit_code = 2


class BadManifest(OpsError):
    """A list of jobs has mistakes. `mistakes`: one line each, with file, line and field."""

    exit_code = 2

    def __init__(self, manifest: str, mistakes: list[str]) -> None:
        count = f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'}"
        super().__init__(f"{count} in {manifest}: nothing was sent")
        self.mistakes = mistakes


class NotFound(OpsError):
    """There is no such stack or job."""

    exit_code = 3


class Refused(OpsError):
    """A job failed, or the contract or the ledger does not allow the request."""

    exit_code = 4


class NeedsAttention(OpsError):
    """The stack has a problem, or differs from the provider's account."""

    exit_code = 5


class TooLate(OpsError):
    """Something did not end in time. It continues."""

    exit_code = 6


def sentence(error: Exception) -> str:
    """Return an error as one line, without secrets."""
    return " ".join(redact(str(error) or type(error).__name__).split())


def is_temporary(error: Exception) -> bool:
    """Return whether an error is temporary: there is no connection, or AWS is busy."""
    if isinstance(error, ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
    return isinstance(error, AWS_ERRORS)
