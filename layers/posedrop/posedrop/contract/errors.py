"""All errors of posedrop, one tree.

PosedropError
├── JobError                  ends the job; `type` is in the ledger and in the notification
│   ├── InvalidInput          an image or a parameter is bad; nothing was sent
│   ├── Rejected              the provider refused the request (400, 422, other 4xx), or refused it again and again
│   ├── InferenceFailed       the provider accepted the job, and it failed there
│   ├── TimedOut              no end within JobTimeoutSeconds
│   ├── ResultExpired         the provider does not know the request id any more
│   ├── OutputInvalid         the provider's output is missing, not an image, or cannot be fetched
│   ├── SubmitOutcomeUnknown  the request may have been accepted and billed; it is not sent again
│   └── InternalError         ours: an unexpected error, or an execution that ended without notifying
├── NotAccepted               the provider did not accept the request: the job stays queued
│   ├── AccountRefused        401, or there is no usable API key
│   ├── Refused               403, 404, 406: it may be this job, or the account
│   ├── RateLimited           429
│   └── ProviderUnavailable   no connection: the request never landed
├── ServerFault               500, 502, 503: the request may have been accepted
├── TransientFault            an AWS service could not answer just now: do it again later, count nothing
├── StatusUnavailable         a GET said nothing about the job: ask again later
├── DeliveryFailed            an output could not be fetched or stored just now: deliver again later
└── SettingsError             the function's environment is incomplete or wrong
"""

from posedrop.contract.reasons import InputFault, Problem


class PosedropError(Exception):
    """Base of all errors of posedrop."""


class JobError(PosedropError):
    """Ends a job. The message is for people: it names the file, the field and the reason where there are such.

    `cost_usd` is what the request cost all the same, where the provider says it.
    """

    cost_usd: float | None = None
    code: str | None = None
    """What exactly is wrong, for programs, where the type does not say it."""

    @property
    def type(self) -> str:
        """The `error.type` of the ledger and of the notification."""
        return type(self).__name__


class InvalidInput(JobError):
    """An image or a parameter breaks the upload contract. Nothing was sent to the provider."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(Problem(each) if isinstance(each, str) else each for each in problems)
        super().__init__("; ".join(map(str, self.problems)))
        found = {problem.code for problem in self.problems}
        self.code = next((code for code in InputFault if code in found), InputFault.OTHER)


class Rejected(JobError):
    """The provider refused the request: for its content (400, 422, other 4xx), or this job again and again."""


class InferenceFailed(JobError):
    """The provider accepted the job and ended it as FAILED, for example because its content was blocked."""


class TimedOut(JobError):
    """The job did not end within JobTimeoutSeconds after its submission."""


class ResultExpired(JobError):
    """The provider does not know the request id, or no longer (it keeps results for an hour after submission)."""


class OutputInvalid(JobError):
    """The provider's output is missing, is not a whole image, is too large, or cannot be fetched."""


class SubmitOutcomeUnknown(JobError):
    """The request was sent and no response says whether it was accepted. It may have been billed."""


class InternalError(JobError):
    """Our own fault: an unexpected error, or an execution that ended without notifying."""


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


class NotAccepted(PosedropError):
    """The provider did not accept the request, and said so: it may be sent again, later."""


class AccountRefused(NotAccepted):
    """The provider refused the API key (`status` 401), or there is none that can be sent (0)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Refused(NotAccepted):
    """The provider answered 403, 404 or 406 (`status`). A single response cannot say whether the account or the job
    is refused: a firewall answers 403 to one prompt, an account without credit gets 406 for every job.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(NotAccepted):
    """The provider answered 429. `retry_after` is what it asked for, in seconds, or None."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderUnavailable(NotAccepted):
    """The connection failed before the request could land."""


class ServerFault(PosedropError):
    """The provider answered 500, 502 or 503. The request may have been accepted and billed all the same.

    `retry_after` is what the provider asked for, in seconds, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TransientFault(PosedropError):
    """An AWS service was throttled, unreachable or answered 5xx, or a body ended early. It may pass by itself."""


class StatusUnavailable(PosedropError):
    """A GET that said nothing about the job: no connection, or an unusable response.

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
