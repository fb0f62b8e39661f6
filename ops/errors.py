"""What the operator reads instead of a traceback, each with its exit code.

OpsError                 1: AWS, the network or the stack would not do it
├── UnclearTarget        2: it is not said which stack is meant, or not clearly
├── NotFound             3: no such stack or job
├── Refused              4: a job failed, or the contract or the ledger forbids what was asked for
├── NeedsAttention       5: `status --check` or `reconcile` found something
└── TooLate              6: not finished in the time that was given; it goes on
"""


class OpsError(Exception):
    """Base of all errors here. The message is one line for people."""

    exit_code = 1


class UnclearTarget(OpsError):
    """It is not said which stack is meant, or said twice."""

    exit_code = 2


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
