"""What several routes share: reading a request's body and numbers, and calling what waits in a thread."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

BODY_BYTES = 4 * 1024 * 1024
"""Of a request in JSON: it may describe thousands of files."""

R = TypeVar("R")


async def in_thread(function: Callable[..., R], *arguments: Any) -> R:
    """Call what waits for AWS or for the disk."""
    return await to_thread.run_sync(partial(function, *arguments))


async def read_body(request: Request) -> dict[str, Any]:
    """The JSON object that a request holds. Raises HTTPException."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_BYTES:
            raise HTTPException(413, f"the body has more than {BODY_BYTES} bytes")
    try:
        body = json.loads(bytes(data) or b"{}")
    except (ValueError, RecursionError) as exc:
        raise HTTPException(400, "the body is not JSON") from exc
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return body


def agreed_price(body: Mapping[str, Any]) -> float:
    """The price in USD that a request agrees to. Raises HTTPException."""
    usd = body.get("usd")
    if not isinstance(usd, int | float) or isinstance(usd, bool):
        raise HTTPException(400, "it is not said at which price")
    return usd


def texts(body: Mapping[str, Any], name: str, most: int) -> list[str]:
    """A list of texts in a body, each once. Raises HTTPException."""
    found = body.get(name)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise HTTPException(400, f"{name} is a list of texts")
    if len(found) > most:
        raise HTTPException(400, f"{name} has more than {most} entries")
    return list(dict.fromkeys(found))


def number_of(text: str, name: str, least: float, most: float) -> float:
    """A number of a query. Raises HTTPException."""
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not least <= found <= most:
        raise HTTPException(400, f"{name} is a number from {least:g} to {most:g}")
    return found
