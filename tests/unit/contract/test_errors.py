"""The error tree is as drawn in its module, and every error of a submit is in it."""

import inspect
import re
from http import HTTPStatus
from importlib import import_module
from types import ModuleType
from typing import Any

import httpx
import pytest

from posedrop.contract import errors
from posedrop.contract.errors import (
    JOB_ERRORS,
    AccountRefused,
    InvalidInput,
    JobError,
    PosedropError,
    ProviderUnavailable,
    RateLimited,
    Refused,
    Rejected,
    ServerFault,
    SubmitOutcomeUnknown,
)
from posedrop.contract.reasons import InputFault, Problem
from posedrop.segmind.client import Segmind, Timeouts
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.support import ROOT

PACKAGE = ROOT / "layers" / "posedrop" / "posedrop"

NEVER_SENT = {
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
}


def drawn_tree(text: str) -> set[tuple[str, str]]:
    """The pairs of a class and its parent in a drawing."""
    path: list[str] = []
    pairs = set()
    for line in text.splitlines():
        if found := re.match(r"((?:│   |    )*)[├└]── (\w+)", line):
            del path[len(found[1]) // 4 + 1 :]
            pairs.add((found[2], path[-1]))
            path.append(found[2])
        elif re.fullmatch(r"\w+Error", line):
            path = [line]
    return pairs


def class_tree(module: ModuleType) -> set[tuple[str, str]]:
    classes = [found for _, found in inspect.getmembers(module, inspect.isclass) if found.__module__ == module.__name__]
    return {(found.__name__, found.__bases__[0].__name__) for found in classes if found is not PosedropError}


def test_the_drawing_is_the_tree() -> None:
    assert drawn_tree(errors.__doc__ or "") == class_tree(errors)


def test_every_error_of_the_package_is_in_the_tree() -> None:
    modules = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
    for module in modules:
        import_module(".".join(module.parts).removesuffix(".__init__"))
    found = {error for error in subclasses(PosedropError) if error.__module__.startswith("posedrop")}
    assert {error.__name__ for error in found if error.__module__ != errors.__name__} == set()
    assert len(found) == len(drawn_tree(errors.__doc__ or ""))


def test_the_types_are_those_of_the_contract() -> None:
    assert set(JOB_ERRORS) >= {
        *("InvalidInput", "Rejected", "InferenceFailed", "TimedOut", "ResultExpired"),
        *("OutputInvalid", "SubmitOutcomeUnknown", "InternalError"),
    }
    assert set(JOB_ERRORS.values()) == set(JobError.__subclasses__())
    assert all(cls("text").type == name for name, cls in JOB_ERRORS.items())


def test_several_problems_have_the_code_of_the_gravest() -> None:
    problems = [
        Problem("is blank", InputFault.PARAMETERS, "a.json"),
        Problem("truncated", InputFault.IMAGE, "a.png"),
    ]
    assert str(InvalidInput(*problems)) == "a.json: is blank; a.png: truncated"
    assert InvalidInput(*problems).code is InvalidInput(*reversed(problems)).code is InputFault.IMAGE
    assert InvalidInput("in words alone").code is InputFault.OTHER


def subclasses(cls: type[Exception]) -> list[type[Exception]]:
    return [found for child in cls.__subclasses__() for found in (child, *subclasses(child))]


BASES: list[type[Exception]] = [httpx.HTTPError, httpx.StreamError]
FOREIGN = sorted(
    {*BASES, httpx.InvalidURL, *(cls for base in BASES for cls in subclasses(base))}
    - {httpx.HTTPStatusError},  # raised only by raise_for_status
    key=lambda cls: cls.__name__,
)


def make(cls: type[Exception]) -> Exception:
    """An exception of this class, whatever its arguments are."""
    required = [
        parameter
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return cls(*["cause"] * len(required))


def submit(answer: httpx.Response | Exception) -> str:
    def respond(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = Segmind(
        "http://segmind.test", lambda: "SG_0123456789abcdef", CONSISTENT_CHARACTER, httpx.MockTransport(respond)
    )
    return client.submit({"prompt": "a walk"}, Timeouts.within(6))


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda cls: cls.__name__)
def test_every_exception_of_the_transport_is_translated(foreign: type[Exception]) -> None:
    expected = ProviderUnavailable if foreign in NEVER_SENT else SubmitOutcomeUnknown
    cause = make(foreign)
    with pytest.raises(PosedropError) as caught:
        submit(cause)
    assert type(caught.value) is expected
    assert caught.value.__cause__ is cause
    assert foreign.__name__ in str(caught.value)


def test_the_transport_s_exceptions_are_all_here() -> None:
    """A new one in a later httpx fails here, and has to be placed."""
    assert {cls.__name__ for cls in FOREIGN} == {
        *("CloseError", "ConnectError", "ConnectTimeout", "DecodingError", "HTTPError", "InvalidURL"),
        *("LocalProtocolError", "NetworkError", "PoolTimeout", "ProtocolError", "ProxyError", "ReadError"),
        *("ReadTimeout", "RemoteProtocolError", "RequestError", "RequestNotRead", "ResponseNotRead"),
        *("StreamClosed", "StreamConsumed", "StreamError", "TimeoutException", "TooManyRedirects"),
        *("TransportError", "UnsupportedProtocol", "WriteError", "WriteTimeout"),
    }


def expected_error(status: int) -> type[PosedropError]:
    """design: the table of errors, for a response without a request id."""
    if status == 401:
        return AccountRefused
    if status in (403, 404, 406):
        return Refused
    if status == 429:
        return RateLimited
    if status in (500, 502, 503):
        return ServerFault
    if 400 <= status < 500 and status != 408:
        return Rejected
    return SubmitOutcomeUnknown


@pytest.mark.parametrize("status", range(100, 600))
def test_every_http_status_is_mapped(status: int) -> None:
    with pytest.raises(PosedropError) as caught:
        submit(httpx.Response(status, json={"error": "because"}))
    assert type(caught.value) is expected_error(status)
    assert str(status) in str(caught.value)
    assert not isinstance(caught.value, AccountRefused | Refused) or caught.value.status == status


@pytest.mark.parametrize("status", [HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.BAD_GATEWAY, 504])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"error": "no credits"}', "no credits"),
        (b'{"message": "no credits"}', "no credits"),
        (b'{"detail": [{"loc": ["body", "prompt"], "msg": "missing"}]}', "body.prompt: missing"),
        (b"<html><title>Bad gateway</title><h1>x</h1></html>", "Bad gateway"),
        (b"no credits", "no credits"),
    ],
)
def test_the_provider_s_text_is_reported(status: int, content: bytes, text: str) -> None:
    with pytest.raises(PosedropError, match=re.escape(text)):
        submit(httpx.Response(status, content=content))


def test_an_empty_body_is_judged_by_its_status() -> None:
    with pytest.raises(Rejected, match=r"^the provider answered 400$"):
        submit(httpx.Response(400))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "17"}, 17),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:40 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 40),
    ],
)
@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (503, ServerFault)])
def test_retry_after_is_reported_in_seconds(
    status: int, kind: type[Any], headers: dict[str, str], seconds: float | None
) -> None:
    with pytest.raises(kind) as caught:
        submit(httpx.Response(status, headers=headers))
    assert caught.value.retry_after == seconds
