"""Why a queued job is not sent yet: a code beside the sentence, for programs."""

from enum import StrEnum


class ReasonCode(StrEnum):
    """What a deferred job waits for."""

    RATE_LIMIT = "RATE_LIMIT"
    DAILY_LIMIT = "DAILY_LIMIT"
    PAUSED = "PAUSED"
    """The breaker is open: the account is refused, or responses are not to be trusted."""
    REFUSED = "REFUSED"
    """The provider refused this job (403, 404, 406); others go on."""
    SERVER_FAULT = "SERVER_FAULT"
    """The provider answered 5xx: the request may exist, so its history is asked before the job is sent again."""
    UNAVAILABLE = "UNAVAILABLE"
    """There was no connection to the provider."""
    EARLIER_REQUEST = "EARLIER_REQUEST"
    """An earlier request of the job may exist: it is looked up before another one is paid."""
    AWS = "AWS"
    """An AWS service could not answer just now."""
    BUSY = "BUSY"
    """Another function works on the job, or this one had too little time left."""
