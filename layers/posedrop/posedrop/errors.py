"""All errors of posedrop, one tree.

PosedropError
├── JobError                  ends the job; `type` is told in the ledger and in the notification
│   ├── InvalidInput          an image or a parameter is bad; nothing was sent
│   ├── Rejected              the provider refused the request (400, 422)
│   ├── InferenceFailed       the provider took the job, and it failed there
│   ├── TimedOut              no end within JobTimeoutSeconds
│   ├── ResultExpired         the provider knows the request id no more
│   ├── OutputInvalid         the provider's output is missing, not an image, or cannot be fetched
│   ├── SubmitOutcomeUnknown  the request may have been taken and billed; it is not sent again
│   └── InternalError         ours: an unexpected error, or an execution that could not tell its end
├── NotTaken                  the provider did not take the request: the job stays queued
│   ├── AccountRefused        401, 403, 404, 406: the account or the configuration, not the job
│   ├── RateLimited           429
│   └── ProviderUnavailable   500, 502, 503, or no connection
├── StatusUnavailable         a GET told nothing about the job: ask again later
├── DeliveryFailed            an output could not be fetched or stored just now: deliver again later
└── SettingsError             the function's environment is incomplete or wrong
"""


class PosedropError(Exception):
    """Base of all errors of posedrop."""


class JobError(PosedropError):
    """Ends a job. The message is for people: it names the file, the field and the reason where there are such."""

    @property
    def type(self) -> str:
        """The `error.type` of the ledger and of the notification."""
        return type(self).__name__


class InvalidInput(JobError):
    """An image or a parameter breaks the upload contract. Nothing was sent to the provider."""


class Rejected(JobError):
    """The provider refused the request for its content (400, 422)."""


class InferenceFailed(JobError):
    """The provider took the job and ended it as FAILED, for example because its content was blocked."""


class TimedOut(JobError):
    """The job did not end within JobTimeoutSeconds after its submission."""


class ResultExpired(JobError):
    """The provider does not know the request id, or no longer (it keeps results for an hour after submission)."""


class OutputInvalid(JobError):
    """The provider's output is missing, is not a whole image, is too large, or cannot be fetched."""


class SubmitOutcomeUnknown(JobError):
    """The request was sent and no answer told whether it was taken. It may have been billed."""


class InternalError(JobError):
    """Our own fault: an unexpected error, or an execution that ended without telling its job's end."""


JOB_ERRORS: dict[str, type[JobError]] = {
    cls.__name__: cls
    for cls in (
        InvalidInput,
        Rejected,
        InferenceFailed,
        TimedOut,
        ResultExpired,
        OutputInvalid,
        SubmitOutcomeUnknown,
        InternalError,
    )
}
"""Every `error.type` and its class."""


class NotTaken(PosedropError):
    """The provider did not take the request, and said so: it may be sent again, later."""


class AccountRefused(NotTaken):
    """The provider refused the account or the configuration: 401, 403, 404 or 406 (`status`)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(NotTaken):
    """The provider answered 429. `retry_after` is what it asked for, in seconds, or None."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderUnavailable(NotTaken):
    """The provider answered 500, 502 or 503, or the connection failed before the request could land.

    `retry_after` is what it asked for, in seconds, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StatusUnavailable(PosedropError):
    """A GET that told nothing of the job: no connection, or an answer that is none.

    `status` is the HTTP status or None, `retry_after` the seconds the provider asked for or None.
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def gone(self) -> bool:
        """Whether the provider says that it does not know the request id, or no longer: 404 or 410."""
        return self.status in (404, 410)


class DeliveryFailed(PosedropError):
    """Fetching or storing an output failed in a way that may pass. Step Functions retries it.

    `retry_after` is what the other side asked for, in seconds, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SettingsError(PosedropError):
    """An environment variable of the function is missing or has a wrong value."""
