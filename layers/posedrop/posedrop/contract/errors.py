"""All errors of posedrop, one tree.

PosedropError
├── JobError                  ends the job; `type` is in the ledger and in the notification
│   ├── InvalidInput          an image or a parameter is invalid; nothing was sent
│   ├── Rejected              the provider refused the request (400, 422, other 4xx), or kept refusing this job
│   ├── InferenceFailed       the provider accepted the job, and it failed there
│   ├── TimedOut              the job did not end within JobTimeoutSeconds
│   ├── ResultExpired         the provider no longer knows the request id
│   ├── OutputInvalid         the provider's output is missing, not an image, or cannot be fetched
│   ├── SubmitOutcomeUnknown  the request may have been accepted and billed; it is not sent again
│   └── InternalError         a fault of posedrop: an unexpected error, or an execution that ended without notifying
├── NotAccepted               the provider did not accept the request: the job stays queued
│   ├── AccountRefused        401, or no usable API key
│   ├── Refused               403, 404, 406: the cause may be this job or the account
│   ├── RateLimited           429
│   └── ProviderUnavailable   no connection: the request did not reach the provider
├── ServerFault               500, 502, 503: the request may have been accepted
├── TransientFault            an AWS service failed for now: try again later, count nothing against the job
├── StatusUnavailable         a GET gave no usable status: poll again later
├── DeliveryFailed            an output could not be fetched or stored for now: deliver again later
├── Deferred                  a job or a message must wait, with a reason and for how long
├── HistoryUnavailable        the provider's history could not be searched
├── HistoryUnfinished         the time for one search of the history is over: it continues later
├── RescueDeferred            the history could not be read for now: rescue the job later
├── BodyTooLarge              the body of a response exceeds its limit
├── UploadChanged             a file was replaced or deleted after it was listed
├── FolderUnsteady            a job's files kept changing while they were read
├── Conflict                  a record is not in the state that a write expects: another function was faster
├── WriteRefused              a condition of a write to another item of the table was false
├── ExecutionNameTaken        the attempt's execution exists for another request
├── RecordMissing             the ledger has no record of an execution's job
├── Superseded                a later attempt of the job has begun
├── EventRejected             the event bus rejected a notification
├── SweepIncomplete           some records could not be resumed
└── SettingsError             the function's environment is incomplete or wrong

What cannot be parsed is a ValueError of its parser, which the parser's caller handles: InvalidUploadKey, BadImage,
BadOutput, UnreadableMessage.
"""

from posedrop.contract.reasons import InputFault, Problem, ReasonCode


class PosedropError(Exception):
    """Base of all errors of posedrop."""


class JobError(PosedropError):
    """Ends a job. The message is for people: it names the reason, and the file and field if there are any.

    `cost_usd` is the cost of the failed request, or None if the provider does not report it.
    """

    cost_usd: float | None = None
    code: str | None = None
    """A more exact code for programs, if the type alone does not say what is wrong."""

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
    """The provider refused the request for its content (400, 422, other 4xx), or kept refusing this job."""


class InferenceFailed(JobError):
    """The provider accepted the job and ended it as FAILED, for example because its content was blocked."""


class TimedOut(JobError):
    """The job did not end within JobTimeoutSeconds after its submission."""


class ResultExpired(JobError):
    """The provider does not know the request id. It keeps results for one hour after submission."""


class OutputInvalid(JobError):
    """The provider's output is missing, is not a whole image, is too large, or cannot be fetched."""


class SubmitOutcomeUnknown(JobError):
    """The request was sent, but no response said whether it was accepted. It may have been billed."""


class InternalError(JobError):
    """A fault of posedrop: an unexpected error, or an execution that ended without notifying."""


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
    """The provider certainly did not accept the request. It may be sent again later."""


class AccountRefused(NotAccepted):
    """The provider refused the API key (`status` 401), or there is no usable key (`status` 0)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Refused(NotAccepted):
    """The provider answered 403, 404 or 406 (`status`). One response does not show whether it refused the job or the
    account: a firewall may answer 403 to one prompt, while an account without credit gets 406 for every job.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(NotAccepted):
    """The provider answered 429. `retry_after` is the wait it asked for, in seconds, or None."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderUnavailable(NotAccepted):
    """The connection failed before the request could reach the provider."""


class ServerFault(PosedropError):
    """The provider answered 500, 502 or 503. The request may still have been accepted and billed.

    `retry_after` is the wait that the provider asked for, in seconds, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TransientFault(PosedropError):
    """An AWS service throttled us, was unreachable or answered 5xx, or a body ended early. A retry may succeed."""


class StatusUnavailable(PosedropError):
    """A GET gave no usable status of the job: no connection, or an unusable response.

    `status` is the HTTP status or None. `retry_after` is the wait that the provider asked for, in seconds, or None.
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def gone(self) -> bool:
        """Whether the provider says that it does not know the request id: 404 or 410."""
        return self.status in (404, 410)


class DeliveryFailed(PosedropError):
    """An output could not be fetched or stored, but a retry may succeed. Step Functions retries it.

    `retry_after` is the wait that the server asked for, in seconds, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Deferred(PosedropError):
    """The job must wait `seconds`. If the gate is closed, it also waits in line for its turn."""

    def __init__(self, code: ReasonCode, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.code = code
        self.seconds = max(1.0, seconds)


class HistoryUnavailable(PosedropError):
    """The history could not be searched. `final`: a later try will fail too."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class HistoryUnfinished(PosedropError):
    """The time for one search is over. The next search should begin at `page`."""

    def __init__(self, page: int) -> None:
        super().__init__("the provider's history is long: the search continues later")
        self.page = page


class RescueDeferred(PosedropError):
    """The history could not be read for now. A later try may find the pictures."""


class BodyTooLarge(PosedropError):
    """A body exceeds its limit."""


class UploadChanged(PosedropError):
    """A file was replaced or deleted after it was listed."""


class FolderUnsteady(PosedropError):
    """The files of a job kept changing while they were being read."""


class Conflict(PosedropError):
    """The record is not in the state that the write expects. Usually another function has changed it."""


class WriteRefused(PosedropError):
    """A condition of a write was false. `item` is the existing item, or empty if there is none."""

    def __init__(self, key: str, item: dict[str, str | int | float]) -> None:
        super().__init__(f"the item {key} is not as the write expects it")
        self.item = item


class ExecutionNameTaken(PosedropError):
    """An execution with this attempt's name exists for another request. A name cannot be reused for 90 days."""


class RecordMissing(PosedropError):
    """The ledger has no record of the job."""


class Superseded(PosedropError):
    """A later attempt of the job has begun, so this one must not end it."""


class EventRejected(PosedropError):
    """The event bus rejected an event."""


class SweepIncomplete(PosedropError):
    """Some records could not be resumed. The others were."""


class SettingsError(PosedropError):
    """An environment variable of the function is missing or has an invalid value."""
