"""What the operator reads instead of a traceback, each with its exit code.

OpsError                 1: AWS, the network or the stack would not do it
├── UnclearTarget        2: it is not said which stack is meant, or not clearly
├── BadManifest          2: a list of jobs has mistakes
├── NotFound             3: no such stack or job
├── Refused              4: a job failed, or the contract or the ledger forbids what was asked for
├── NeedsAttention       5: `status --check` or `reconcile` found something
└── TooLate              6: not finished in the time that was given; it goes on
"""

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from posedrop.contract.errors import PosedropError
from posedrop.segmind.responses import redact

AWS_ERRORS = (ClientError, BotoCoreError, Boto3Error, PosedropError, OSError)
"""What goes wrong between here and AWS."""


class OpsError(Exception):
    """Base of all errors here. The message is one line for people."""

    exit_code = 1


class UnclearTarget(OpsError):
    """It is not said which stack is meant, or said twice."""

    exit_code = 2


class BadManifest(OpsError):
    """A list of jobs has mistakes. `mistakes`: each as a line that names the file, the line and the field."""

    exit_code = 2

    def __init__(self, manifest: str, mistakes: list[str]) -> None:
        count = f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'}"
        super().__init__(f"{count} in {manifest}: nothing was sent")
        self.mistakes = mistakes


class NotFound(OpsError):
    """There is no such stack or job."""

    exit_code = 3


class Refused(OpsError):
    """A job failed, or the contract or the ledger forbids what was asked for."""

    exit_code = 4


class NeedsAttention(OpsError):
    """The stack is not well, or differs from the provider's account."""

    exit_code = 5


class TooLate(OpsError):
    """Something did not end in the time that was given. It goes on."""

    exit_code = 6


def sentence(trouble: Exception) -> str:
    """Return an error as one line, without what nobody else may see."""
    return " ".join(redact(str(trouble) or type(trouble).__name__).split())


def passes(trouble: Exception) -> bool:
    """Whether an error passes by itself: there is no connection, or AWS is busy."""
    if isinstance(trouble, ClientError):
        return int(trouble.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
    return isinstance(trouble, AWS_ERRORS)
