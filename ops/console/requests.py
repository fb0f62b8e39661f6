"""Helpers of several routes: they read a request's body and query, and call blocking functions in a thread."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

BODY_BYTES = 4 * 1024 * 1024
"""The most bytes of a request's JSON. It may describe thousands of files."""

R = TypeVar("R")


async def in_thread(function: Callable[..., R], *arguments: Any) -> R:
    """Call a function that blocks (AWS, disk) in a thread, and return its result."""
    return await to_thread.run_sync(partial(function, *arguments))


async def read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body. Raises HTTPException."""
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
    """Return the price in USD that a request agrees to. Raises HTTPException."""
    usd = body.get("usd")
    if not isinstance(usd, int | float) or isinstance(usd, bool):
        raise HTTPException(400, "usd is the price that was agreed to, a number")
    return usd


def texts(body: Mapping[str, Any], name: str, most: int) -> list[str]:
    """Return a list of texts in a body, without duplicates. Raises HTTPException."""
    found = body.get(name)
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise HTTPException(400, f"{name} is a list of texts")
    if len(found) > most:
        raise HTTPException(400, f"{name} has more than {most} entries")
    return list(dict.fromkeys(found))


def number_of(text: str, name: str, least: float, most: float) -> float:
    """Return a number of a query. Raises HTTPException if it is out of range or not a number."""
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not least <= found <= most:
        raise HTTPException(400, f"{name} is a number from {least:g} to {most:g}")
    return found
