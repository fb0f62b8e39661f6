"""The control API under /_emulator: read submitted jobs and calls, and change the emulator while it runs.

It needs no key, and accepts calls from the loopback interface only.

    GET  /_emulator/health     {"status": "ok"}
    GET  /_emulator/requests   a list of the jobs that were accepted, oldest first
    GET  /_emulator/calls      calls by route and status, key_leaks, the calls themselves, how often each fault struck
    POST /_emulator/faults     a new fault plan; its clock and counters start again
    POST /_emulator/settings   any of the settings of `settings.py`; the seed counts only at the start
    POST /_emulator/refuse     {"seconds": 20}: refuse connections for so long
"""

import functools
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.segmind.calls import Calls
from local.segmind.faults import Plan
from local.segmind.provider import ApiError, Provider

Endpoint = Callable[[Request], Awaitable[Response]]


def control_routes(provider: Provider, calls: Callable[[], Calls]) -> list[Route]:
    """Return the routes; `calls` returns the record of the calls, which is created later."""

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def requests(request: Request) -> Response:
        now = time.monotonic()
        return JSONResponse([job.summary(now) for job in provider.jobs.values()])

    async def called(request: Request) -> Response:
        return JSONResponse(
            {
                "counts": calls().by_route(),
                "key_leaks": provider.key_leaks,
                "faults": provider.plan.struck(),
                "calls": [asdict(call) for call in calls().latest],
            }
        )

    async def faults(request: Request) -> Response:
        provider.plan = Plan(await _object(request), provider.settings.seed)
        return JSONResponse({"faults": provider.plan.struck()})

    async def settings(request: Request) -> Response:
        provider.settings.change(await _object(request))
        return JSONResponse({"status": "ok"})

    async def refuse(request: Request) -> Response:
        seconds = (await _object(request)).get("seconds")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise ApiError(400, "seconds must be a number")
        await provider.refuse(seconds)
        return JSONResponse({"status": "ok"}, headers={"connection": "close"})

    return [
        Route("/_emulator/health", _local(health), methods=["GET"]),
        Route("/_emulator/requests", _local(requests), methods=["GET"]),
        Route("/_emulator/calls", _local(called), methods=["GET"]),
        Route("/_emulator/faults", _local(faults), methods=["POST"]),
        Route("/_emulator/settings", _local(settings), methods=["POST"]),
        Route("/_emulator/refuse", _local(refuse), methods=["POST"]),
    ]


def _local(endpoint: Endpoint) -> Endpoint:
    @functools.wraps(endpoint)
    async def guarded(request: Request) -> Response:
        if request.client is None or not ipaddress.ip_address(request.client.host).is_loopback:
            raise ApiError(403, "the control API is for this machine only")
        try:
            return await endpoint(request)
        except ValueError as error:
            raise ApiError(400, str(error)) from error

    return guarded


async def _object(request: Request) -> dict[str, object]:
    document = json.loads(await request.body())
    if not isinstance(document, dict):
        raise ApiError(400, "the body must be a JSON object")
    return document
