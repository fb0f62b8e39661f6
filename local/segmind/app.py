"""Serve the provider's HTTP routes, with the faults of the plan."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.segmind.faults import FIREWALL, STATUSES, Fault
from local.segmind.history import row, rows, visible
from local.segmind.jobs import COMPLETED, FAILED, MODEL, Job
from local.segmind.misbehaviour import Hangup, Reset, bad_media, status_response
from local.segmind.outputs import MISSING, beside
from local.segmind.provider import ApiError, Provider

MAX_BODY_BYTES = 96 * 1024 * 1024

Handler = Callable[[], Awaitable[Response]]


class Api:
    """The routes of a provider."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.routes = [
            Route("/v2/requests/{request_id}/status", self.status, methods=["GET"]),
            Route("/v2/requests/{request_id}", self.result, methods=["GET"]),
            Route("/v1/requests/{request_id}", self.result, methods=["GET"]),
            Route("/v2/{model}", self.submit, methods=["POST"]),
            Route("/v1/{model}", self.submit_and_wait, methods=["POST"]),
            Route("/inference-request/request-history", self.history, methods=["GET"]),
            Route("/inference-request/request-history/{request_id}", self.history_of_one, methods=["GET"]),
            Route("/v1/get-user-credits", self.credits, methods=["GET"]),
            Route("/media/{request_id}/{name}", self.media, methods=["GET"]),
        ]

    async def submit(self, request: Request) -> Response:
        """Accept a job and return its id and URLs."""

        def respond(job: Job, fault: Fault | None) -> Response:
            body = {
                "request_id": job.request_id,
                "status": "QUEUED",
                **self._urls(job),
                "poll_url": self._poll_url(job),
            }
            if fault and fault.fault == "no-request-id":
                del body["request_id"]
            if fault and fault.fault == "foreign-urls":
                body |= dict.fromkeys(("status_url", "response_url", "poll_url"), fault.url)
            return JSONResponse(body)

        async def handle(body: object, fault: Fault | None) -> Response:
            return respond(self._provider.submit(body), fault)

        return await self._submission(request, handle)

    async def submit_and_wait(self, request: Request) -> Response:
        """Handle the blocking form: return the first image when it is ready."""

        async def handle(body: object, fault: Fault | None) -> Response:
            job = self._provider.submit(body)
            await self._provider.finished(job)
            if job.error:
                raise ApiError(422, job.error)
            image = await self._provider.image(job, 1)
            return Response(image, media_type=f"image/{job.parameters.output_format}")

        return await self._submission(request, handle)

    async def status(self, request: Request) -> Response:
        """Return the state of a job, and its metrics if there are some."""

        async def handle() -> Response:
            job = self._provider.job(request.path_params["request_id"])
            state = self._provider.state(job)
            body: dict[str, object] = {"status": state, "request_id": job.request_id, "metrics": {}}
            if self._provider.ended(job):
                body["metrics"] = job.metrics
            else:
                body |= self._urls(job)
            if state == FAILED:
                body["error"] = job.error
            return JSONResponse(body, 422 if state == FAILED else 200)

        return await self._get(request, "status", handle)

    async def result(self, request: Request) -> Response:
        """Return a job with its output; a failed job is a 422 (source: provider's API page, official SDK)."""

        async def handle() -> Response:
            job = self._provider.job(request.path_params["request_id"])
            state = self._provider.state(job)
            ended = self._provider.ended(job)
            body: dict[str, object] = {"status": state, "request_id": job.request_id, "error": None}
            body["metrics"] = self._provider.metrics(job) if ended else {}
            if state == FAILED:
                return JSONResponse({**body, "error": job.error}, 422)
            if state == COMPLETED:
                body["seed"] = job.parameters.seed
                output = await self._provider.output(job)
                if output is not MISSING:
                    body["output"] = output
                body |= beside(job, self._provider.output_urls(job))
            return JSONResponse(body)

        return await self._get(request, "result", handle)

    async def history(self, request: Request) -> Response:
        """Return requests of any age, newest first, in pages."""

        async def handle() -> Response:
            return JSONResponse(rows(self._provider, request.query_params))

        return await self._get(request, "history", handle)

    async def history_of_one(self, request: Request) -> Response:
        """Return one request of any age."""

        async def handle() -> Response:
            job = self._provider.jobs.get(request.path_params["request_id"])
            if job is None or not visible(self._provider, job):
                raise ApiError(404, "Request not found")
            return JSONResponse(row(self._provider, job))

        return await self._get(request, "history", handle)

    async def credits(self, request: Request) -> Response:
        """Return the account's remaining credits (source: provider's documentation, account and billing)."""

        async def handle() -> Response:
            return JSONResponse({"credits": self._provider.remaining_credits(), "free-credits": 0.0})

        return await self._get(request, "credits", handle)

    async def media(self, request: Request) -> Response:
        """Return an output's image. It is public: a key that is sent here has leaked."""
        provider = self._provider
        if _carries_key(request, provider.settings.api_key):
            provider.key_leaks += 1
        job, sample = provider.output_job(request.path_params["request_id"], request.path_params["name"])
        media_type = f"image/{job.parameters.output_format}"

        async def handle() -> Response:
            return Response(await provider.image(job, sample), media_type=media_type)

        fault = provider.plan.draw("media", job.parameters.prompt)
        if fault and fault.fault not in (*STATUSES, FIREWALL, "reset", "hang", "refused"):
            request.scope["state"]["fault"] = fault.fault
            image = await provider.image(job, sample, "png" if fault.fault == "huge" else None)
            return bad_media(fault, image, media_type)
        return await self._respond(request, fault, handle)

    async def _submission(
        self, request: Request, handle: Callable[[object, Fault | None], Awaitable[Response]]
    ) -> Response:
        provider = self._provider
        provider.authenticate(request.headers.get("x-api-key"))
        raw = await _body(request)
        provider.check_limit()
        body = _json(raw)
        prompt = body.get("prompt") if isinstance(body, dict) else None
        fault = provider.plan.draw("submit", prompt if isinstance(prompt, str) else "")
        if not (fault and fault.fault == "429"):
            provider.count_call()
        if request.path_params["model"] != MODEL:
            raise ApiError(404, "Model not found")
        if body is None:
            raise ApiError(400, "the body is not JSON")
        if fault and not fault.accepted:
            return await self._respond(request, fault, None)
        return await self._respond(request, fault, lambda: handle(body, fault))

    async def _get(self, request: Request, point: str, handle: Handler) -> Response:
        provider = self._provider
        provider.authenticate(request.headers.get("x-api-key"))
        # Another host serves the history, so its calls do not count against the limit.
        counts = provider.settings.rpm_counts == "all" and point != "history"
        if counts:
            provider.check_limit()
        job = provider.jobs.get(request.path_params.get("request_id", ""))
        fault = provider.plan.draw(point, job.parameters.prompt if job else "")
        if counts and not (fault and fault.fault == "429"):
            provider.count_call()
        return await self._respond(request, fault, handle)

    async def _respond(self, request: Request, fault: Fault | None, handle: Handler | None) -> Response:
        """Return the response of a fault. `handle` is None for a submit that is not accepted."""
        if fault is None:
            assert handle is not None
            return await handle()
        request.scope["state"]["fault"] = fault.fault
        if fault.fault == "hang" and handle is None:
            await asyncio.sleep(fault.seconds)
            return Hangup()
        response = await handle() if handle else JSONResponse({"status": "QUEUED"})
        if response.status_code >= 400 and request.method == "POST":
            return response
        match fault.fault:
            case "hang":
                await asyncio.sleep(fault.seconds)
            case "refused":
                await self._provider.refuse(fault.seconds)
                response.headers["connection"] = "close"
                return response if handle else Reset()
            case "reset":
                return Reset()
            case name if name in (*STATUSES, FIREWALL):
                return status_response(fault)
        return response

    def _urls(self, job: Job) -> dict[str, str]:
        url = f"{self._provider.base_url}/v2/requests/{job.request_id}"
        return {"status_url": f"{url}/status", "response_url": url}

    def _poll_url(self, job: Job) -> str:
        return f"{self._provider.base_url}/v1/requests/{job.request_id}"


def _carries_key(request: Request, key: str) -> bool:
    values = [*request.headers.values(), request.url.query]
    return "x-api-key" in request.headers or any(key in value for value in values)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(400, f"the body is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _json(raw: bytes) -> object:
    try:
        return cast(object, json.loads(raw))
    except (ValueError, RecursionError):
        return None


async def api_error(request: Request, error: Exception) -> Response:
    """Return the response for an ApiError, or for Starlette's own 404 and 405."""
    if isinstance(error, ApiError):
        return JSONResponse({"error": str(error)}, error.status, error.headers)
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)
