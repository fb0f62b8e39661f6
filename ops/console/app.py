"""The console's routes."""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from botocore.config import Config
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ops import actions
from ops.console import cards, sending
from ops.console.feed import TROUBLE, Feed, Unreachable, sentence
from ops.console.guard import Guard
from ops.console.pictures import SIZES, NoPicture, Pictures, file_name
from ops.console.sheet import ROWS, sheet
from ops.console.shelf import Lost, Shelf
from ops.errors import NotFound, OpsError, Refused
from ops.health import problems
from ops.plan import Plan
from ops.records import Wanted
from ops.stack import Stack
from ops.timeline import life
from posedrop.clock import rfc3339
from posedrop.images import UPLOAD_LIMIT
from posedrop.ledger import Record, Status
from posedrop.parameters import schema

STATIC = Path(__file__).parent / "static"
PAGE_LIMIT = 200
BODY_BYTES = 256 * 1024
STATUS = {NotFound: 404, Refused: 409, NoPicture: 415, Unreachable: 503}
HASTY = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
"""For what the page waits for, pictures too. A browser has six connections to the console: pictures of a stack that
hangs must not keep them. The times are for one read of the socket: a large picture may take as long as it does."""
IMMUTABLE = "private, max-age=31536000, immutable"

R = TypeVar("R")


class Console:
    """The routes of one stack's console."""

    def __init__(self, stack: Stack) -> None:
        self._patient = stack  # for uploads
        self.stack = replace(stack, client=cache(partial(stack.client, config=HASTY)))
        for service in ("dynamodb", "s3", "sqs", "stepfunctions", "cloudformation"):
            self.stack.client(service)  # boto3 makes clients in one thread only
        self._patient.client("s3")
        self.feed = Feed(self.stack)
        self.pictures = Pictures(self.stack)
        self.shelf = Shelf()
        self._uploads: TaskGroup
        self._decoders = anyio.CapacityLimiter(4)
        self._senders = anyio.CapacityLimiter(2)
        self._planner = anyio.CapacityLimiter(1)

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Watch the stack, and upload, as long as the server runs."""
        async with anyio.create_task_group() as watching, anyio.create_task_group() as self._uploads:
            watching.start_soon(self.feed.run)
            yield
            self._uploads.cancel_scope.cancel()
            watching.cancel_scope.cancel()

    def routes(self) -> list[Route | Mount]:
        """All of them."""
        post = ["POST"]
        return [
            Route("/", self.index),
            Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
            Route("/api/stack", self.about),
            Route("/api/problems", self.problems),
            Route("/api/glance", self.glance),
            Route("/api/events", self.events),
            Route("/api/jobs", self.jobs),
            Route("/api/jobs/{job_id:path}/retry", self.retry, methods=post),
            Route("/api/jobs/{job_id:path}/again", self.again, methods=post),
            Route("/api/jobs/{job_id:path}", self.job),
            Route("/api/pictures/{job_id:path}", self.picture),
            Route("/api/sheet/{character:path}.png", self.sheet),
            Route("/api/files", self.file, methods=post),
            Route("/api/plan", self.plan, methods=post),
            Route("/api/uploads", self.uploads, methods=post),
        ]

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        """The page."""
        if request.url.query:
            return RedirectResponse("/", 303)  # no old token stays in the address
        return FileResponse(STATIC / "index.html")

    async def about(self, _request: Request) -> Response:
        """What the page must know of the stack."""
        stack = self.stack
        return JSONResponse(
            {
                "stack": stack.name,
                "region": stack.region,
                "local": stack.endpoint is not None,
                "command": stack.command(),
                "schema": schema(),
                "price_usd": (await _thread(stack.prices))({}),
                "file_bytes": UPLOAD_LIMIT,
                "default_prompt": stack.parameter("DefaultPrompt"),
            }
        )

    async def problems(self, _request: Request) -> Response:
        """What somebody must see to; a pause is told at a glance."""
        found = await _thread(problems, self.stack)
        return JSONResponse([{"what": problem.what, "step": problem.next_step} for problem in found])

    async def glance(self, _request: Request) -> Response:
        """The stack at a glance."""
        return JSONResponse((await self.feed.known()).glance())

    async def jobs(self, request: Request) -> Response:
        """One page of cards."""
        query = request.query_params
        states = frozenset(name for name in query.get("state", "").split(",") if name)
        if not states <= set(cards.STATES):
            raise HTTPException(400, f"a state is one of {', '.join(cards.STATES)}")
        hours = _number(query.get("hours") or "0", "hours", 0, 1e6)
        limit = int(_number(query.get("limit") or "60", "limit", 1, PAGE_LIMIT))
        times = {"since": rfc3339(self.stack.clock() - hours * 3600)} if hours else {}
        wanted = cards.Filter(query.get("character", ""), states, query.get("text", "").strip(), **times)
        known, begins = await self.feed.known(), query.get("cursor") or None
        back_to, total = None, None
        try:
            # Where not all records are known, the indexes lead from page to page, and nobody counts them all.
            if "/" not in (begins or "/") or (known.cut and begins is None):
                page = await self.feed.page(wanted.wanted(), limit, begins)
                found, cursor, back_to = page.records, page.cursor, page.back_to
            else:
                found, cursor, total = cards.page(known.records.values(), wanted, limit, begins)
        except ValueError as exc:
            raise HTTPException(400, str(exc)) from exc
        return JSONResponse(
            {
                "jobs": [known.card(record) for record in found],
                "next": cursor,
                "total": total,
                "back_to": back_to,
                "cut": known.cut,
                "characters": cards.characters(known.records.values()),
            }
        )

    async def job(self, request: Request) -> Response:
        """One job's life."""
        found = await _thread(life, self.stack, request.path_params["job_id"])
        known = await self.feed.known()
        explanation = found.explanation
        return JSONResponse(
            {
                "card": known.card(found.record),
                "moments": [{"at": each.at, "what": each.what, "detail": each.detail} for each in found.moments],
                "parameters": found.record.parameters,
                "explanation": {
                    "reason": str(explanation.reason),
                    "sentence": explanation.sentence,
                    "step": explanation.next_step,
                },
            }
        )

    async def events(self, request: Request) -> Response:
        """What changes, as it changes."""
        last = re.fullmatch(r"\d{1,15}", request.headers.get("last-event-id", ""))
        return EventSourceResponse(self._events(int(last[0]) if last else None), ping=15)

    async def _events(self, after: int | None) -> AsyncIterator[ServerSentEvent]:
        async for event in self.feed.events.follow(after):
            yield ServerSentEvent(event.data, event=event.name, id=str(event.id), retry=1000)
            if event.name in ("hello", "reset"):
                yield ServerSentEvent(json.dumps(self.feed.state), event="state", id=str(event.id))

    # ---- pictures ----------------------------------------------------------------------------------------------------

    async def picture(self, request: Request) -> Response:
        """One image of a job."""
        query = request.query_params
        what, size = query.get("what", "output"), query.get("size", "thumb")
        if size not in (*SIZES, "original"):
            raise HTTPException(400, f"a size is one of {', '.join(SIZES)}, original")
        number = int(_number(query.get("n") or "1", "n", 1, 100))
        record = await self._record(request.path_params["job_id"])
        if query.get("attempt", str(record.attempt)) != str(record.attempt):
            raise NotFound(f"attempt {query['attempt']} of {record.job_id} is not the last one")
        source = await self._decode(self.pictures.source, record, what, number)
        picture = await self._decode(self.pictures.get, source, size)
        headers = {"Cache-Control": IMMUTABLE if record.inputs and query.get("attempt") else "private, no-cache"}
        if query.get("download"):
            name = file_name(record, what, number, picture)
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return Response(picture.data, media_type=picture.content_type, headers=headers)

    async def sheet(self, request: Request) -> Response:
        """A character's contact sheet."""
        character, known = request.path_params["character"], await self.feed.known()
        records = list(known.records.values())
        if known.cut:
            records = (await self.feed.page(Wanted(character, [Status.SUCCEEDED]), ROWS, None)).records
        data = await self._decode(sheet, self.pictures, records, character)
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, no-cache"})

    # ---- acting ------------------------------------------------------------------------------------------------------

    async def file(self, request: Request) -> Response:
        """Keep a file that was dropped: what is made of it is asked for by its hash."""
        data = await _read(request, UPLOAD_LIMIT)
        return JSONResponse({"sha256": await _thread(self.shelf.put, data), "bytes": len(data)})

    async def plan(self, request: Request) -> Response:
        """What would become of a drop. Nothing is sent."""
        drop = self.shelf.drop(await _body(request))
        planned = await self._plan(drop)
        return JSONResponse({"jobs": sending.told(planned), "usd": planned.usd, "refused": drop.refused})

    async def uploads(self, request: Request) -> Response:
        """Upload a drop for the price that was agreed to; how far it is, the events tell."""
        body = await _body(request)
        drop = self.shelf.drop(body)
        planned = await self._plan(drop)
        files = sending.accepted(drop, planned, _agreed(body))
        upload = self._send(drop.character, files)
        self.shelf.clear(body)
        return JSONResponse({"upload": upload, "files": len(files), "jobs": sending.told(planned)}, 202)

    async def retry(self, request: Request) -> Response:
        """Begin a new attempt of a failed job, once it is confirmed."""
        body = await _body(request)
        wanted, asks = await _thread(sending.ask_retry, self.stack, request.path_params["job_id"])
        if body.get("confirm") is not True:
            return JSONResponse({"asks": asks, "usd": wanted.usd})
        await _thread(actions.retry, self.stack, [wanted])
        return JSONResponse({"job_id": wanted.job_id, "attempt": wanted.attempt}, 202)

    async def again(self, request: Request) -> Response:
        """Make a job's pair with another seed, once it is confirmed."""
        body = await _body(request)
        seed = body.get("seed")
        if not (seed is None or (isinstance(seed, int) and not isinstance(seed, bool) and abs(seed) < 2**63)):
            raise HTTPException(400, "a seed is a whole number of at most 63 bits")
        record = await self._record(request.path_params["job_id"])
        wanted = await _thread(sending.plan_again, self.stack, record, seed)
        if body.get("confirm") is not True:
            return JSONResponse({"usd": wanted.usd, "sentence": wanted.asks, "seed": wanted.seed})
        upload = self._send(wanted.character, wanted.files)
        return JSONResponse({"character": wanted.character, "pose": wanted.pose, "upload": upload}, 202)

    # ---- what several share ------------------------------------------------------------------------------------------

    async def _record(self, job_id: str) -> Record:
        record = (await self.feed.known()).records.get(job_id) or await _thread(self.stack.record, job_id)
        if record is None:
            raise NotFound(f"there is no job {job_id}")
        return record

    async def _decode(self, function: Callable[..., R], *arguments: Any) -> R:
        return await to_thread.run_sync(partial(function, *arguments), limiter=self._decoders)

    async def _plan(self, drop: sending.Drop) -> Plan:
        return await to_thread.run_sync(partial(sending.plan_drop, self.stack, drop), limiter=self._planner)

    def _send(self, character: str, files: Mapping[str, bytes]) -> str:
        """Begin to upload; return its name."""
        upload = sending.upload_id()
        self.feed.watch(character)
        coming = [{"key": key, "bytes": len(data)} for key, data in files.items()]
        self.feed.events.publish("uploads", {"upload": upload, "files": coming})
        self._uploads.start_soon(self._sending, upload, files)
        return upload

    async def _sending(self, upload: str, files: Mapping[str, bytes]) -> None:
        token = anyio.lowlevel.current_token()

        def tell(data: dict[str, Any]) -> None:
            # boto3 calls from threads of its own.
            anyio.from_thread.run_sync(self.feed.events.publish, "upload", data, token=token)

        await to_thread.run_sync(sending.send, self._patient, upload, files, tell, limiter=self._senders)


# ---- requests and errors ---------------------------------------------------------------------------------------------


async def _thread(function: Callable[..., R], *arguments: Any) -> R:
    return await to_thread.run_sync(partial(function, *arguments))


async def _read(request: Request, limit: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise HTTPException(413, f"the body has more than {limit} bytes")
    return bytes(data)


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await _read(request, BODY_BYTES) or b"{}")
    except (ValueError, RecursionError) as exc:
        raise HTTPException(400, "the body is not JSON") from exc
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is no JSON object")
    return body


def _agreed(body: Mapping[str, Any]) -> float:
    usd = body.get("usd")
    if not isinstance(usd, int | float) or isinstance(usd, bool):
        raise HTTPException(400, "it is not said at which price")
    return usd


def _number(text: str, name: str, least: float, most: float) -> float:
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not least <= found <= most:
        raise HTTPException(400, f"{name} is a number from {least:g} to {most:g}")
    return found


def _error(_request: Request, exc: Exception) -> Response:
    """Every error is one clear sentence."""
    if isinstance(exc, HTTPException):
        return JSONResponse({"error": exc.detail}, exc.status_code, headers=exc.headers)
    if isinstance(exc, Lost):
        return JSONResponse({"error": str(exc), "lost": exc.hashes}, 410)
    if isinstance(exc, OpsError):
        return JSONResponse({"error": sentence(exc)}, STATUS.get(type(exc), 502))
    if isinstance(exc, TROUBLE):
        return JSONResponse({"error": sentence(exc)}, 502)
    return JSONResponse({"error": "the console has a fault: its terminal says more"}, 500)


def create_app(console: Console, token: str, port: int, code: str = "") -> ASGIApp:
    """A console on a port of this machine, for whoever has the token; `code` is good for it once."""
    kinds: tuple[type[Exception], ...] = (HTTPException, OpsError, *TROUBLE, Exception)
    app = Starlette(routes=console.routes(), lifespan=console.lifespan, exception_handlers=dict.fromkeys(kinds, _error))
    return Guard(app, token, port, code)
