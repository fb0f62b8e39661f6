"""The console's routes."""

import json
import mimetypes
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from botocore.config import Config
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ops.console import cards
from ops.console.acting import IMMUTABLE, Acting
from ops.console.attending import Attending
from ops.console.auth import Auth
from ops.console.choosing import MOST, Choosing, filter_of, page_of
from ops.console.feed import Feed, Unreachable
from ops.console.pictures import SIZES, NoPicture, Pictures, file_name
from ops.console.requests import in_thread, number_of
from ops.console.sheet import ROWS, results, sheet
from ops.console.staging import Lost
from ops.console.steps import step_of
from ops.errors import AWS_ERRORS, NotFound, OpsError, Refused, sentence
from ops.inspect.records import Wanted
from ops.inspect.timeline import timeline
from ops.stack import Stack
from posedrop.aws.record import AnyRecord, Record, Status
from posedrop.contract.images import UPLOAD_LIMIT
from posedrop.contract.parameters import schema

RECONNECT_MS = 1000
"""Milliseconds after which a browser connects again."""
STATIC = Path(__file__).parent / "static"
PAGE_LIMIT = 200
STATUS = {NotFound: 404, Refused: 409, NoPicture: 415, Unreachable: 503}
HASTY = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
"""Short timeouts (seconds), for all that the page waits for. A browser opens six connections to the console: if the
stack hangs, requests for pictures must not block all six. A timeout limits one read of the socket, so a large picture
may take longer."""

R = TypeVar("R")


class Console:
    """The routes of one stack's console."""

    def __init__(self, stack: Stack) -> None:
        self._patient = stack  # with boto3's own timeouts, for uploads and the sweep
        self.stack = replace(stack, client=cache(partial(stack.client, config=HASTY)))
        for service in ("dynamodb", "s3", "sqs", "stepfunctions", "cloudformation"):
            self.stack.client(service)  # here, because creating clients in boto3 is not thread-safe
        for service in ("s3", "sqs", "lambda", "cloudformation"):
            self._patient.client(service)
        self.feed = Feed(self.stack)
        self.pictures = Pictures(self.stack)
        self.acting = Acting(self.stack, self._patient, self.feed, self.pictures)
        self.choosing = Choosing(self.stack, self.feed, self.pictures)
        self._decoders = anyio.CapacityLimiter(4)
        # In memory: reading two dozen small files, each in a thread, would delay the page's first card.
        self._files = {file.name: file.read_bytes() for file in STATIC.iterdir()}

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Run the feed and the uploads as long as the server runs."""
        async with anyio.create_task_group() as watching, anyio.create_task_group() as self.acting.tasks:
            watching.start_soon(self.feed.run)
            yield
            self.acting.close()
            self.acting.tasks.cancel_scope.cancel()
            watching.cancel_scope.cancel()

    def routes(self) -> list[Route]:
        """Return all routes."""
        return [
            Route("/", self.index),
            Route("/static/{name:str}", self.static),
            Route("/api/stack", self.about),
            Route("/api/summary", self.summary),
            Route("/api/events", self.events),
            Route("/api/jobs", self.jobs),
            *self.acting.routes(),
            *self.choosing.routes(),
            *Attending(self.stack, self._patient, self.feed).routes(),
            Route("/api/jobs/{job_id:path}", self.job),
            Route("/api/pictures/{job_id:path}", self.picture),
            Route("/api/sheet/{character:path}.png", self.sheet),
            Route("/api/sheet/{character:path}.json", self.sheet_pages),
        ]

    # ---- reading -----------------------------------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        """Return the page."""
        if request.url.query:
            return RedirectResponse("/", 303)  # so that an old token does not stay in the address bar
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        """Return one static file of the page."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self._files:
            raise HTTPException(404, f"there is no {name}")
        return Response(self._files[name], media_type=mimetypes.guess_type(name)[0])

    async def about(self, _request: Request) -> Response:
        """Return what the page needs about the stack: its name, region, parameter schema and price."""
        stack = self.stack
        return JSONResponse(
            {
                "stack": stack.name,
                "region": stack.region,
                "local": stack.endpoint is not None,
                "command": stack.command(),
                "schema": schema(self.stack.model.schema),
                "price_usd": (await in_thread(stack.prices))({}),
                "file_bytes": UPLOAD_LIMIT,
                "sheet_pictures": ROWS,
                "default_prompt": stack.parameter("DefaultPrompt"),
            }
        )

    async def summary(self, _request: Request) -> Response:
        """Return the summary of the whole stack."""
        return JSONResponse((await self.feed.known()).summary())

    async def jobs(self, request: Request) -> Response:
        """Return one page of cards."""
        query = request.query_params
        limit = int(number_of(query.get("limit") or "60", "limit", 1, PAGE_LIMIT))
        wanted = filter_of(request, self.stack.clock())
        known, begins = await self.feed.known(), query.get("cursor") or None
        event = self.feed.events.last  # the cards include the effects of this event
        back_to, total = None, None
        try:
            # If the table has more records than were read, pages come from the indexes, without a total.
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
                "event": event,
                "characters": cards.characters(known.records.values()),
            }
        )

    async def job(self, request: Request) -> Response:
        """Return one job's card, timeline and explanation."""
        found = await in_thread(timeline, self.stack, request.path_params["job_id"])
        known = await self.feed.known()
        explanation = found.explanation
        return JSONResponse(
            {
                "card": known.card(found.record),
                "events": [{"at": each.at, "what": each.what, "detail": each.detail} for each in found.events],
                "parameters": {} if found.record.status is Status.WAITING else found.record.parameters,
                "explanation": {
                    "reason": str(explanation.reason),
                    "sentence": explanation.sentence,
                    "step": step_of(found.record, explanation),
                },
            }
        )

    async def events(self, request: Request) -> Response:
        """Stream changes as server-sent events."""
        last = re.fullmatch(r"\d{1,15}", request.headers.get("last-event-id", ""))
        return EventSourceResponse(self._events(int(last[0]) if last else None), ping=15)

    async def _events(self, after: int | None) -> AsyncIterator[ServerSentEvent]:
        async for event in self.feed.events.follow(after):
            yield ServerSentEvent(event.data, event=event.name, id=str(event.id), retry=RECONNECT_MS)
            if event.name in ("hello", "reset"):
                yield ServerSentEvent(json.dumps(self.feed.state), event="state", id=str(event.id))

    # ---- pictures ----------------------------------------------------------------------------------------------------

    async def picture(self, request: Request) -> Response:
        """Return one image of a job."""
        query = request.query_params
        what, size = query.get("what", "output"), query.get("size", "thumb")
        if size not in (*SIZES, "original"):
            raise HTTPException(400, f"a size is one of {', '.join(SIZES)}, original")
        number = int(number_of(query.get("n") or "1", "n", 1, 100))
        record = await self._record(request.path_params["job_id"])
        if query.get("attempt", str(record.attempt)) != str(record.attempt):
            raise NotFound(f"attempt {query['attempt']} of {record.job_id} is not the last one")
        source = await self._decode(self.pictures.source, record, what, number)
        picture = await self._decode(self.pictures.get, source, size)
        kept = record.status is not Status.WAITING and record.inputs and query.get("attempt")
        headers = {"Cache-Control": IMMUTABLE if kept else "private, no-cache"}
        if query.get("download"):
            name = file_name(record, what, number, picture)
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return Response(picture.data, media_type=picture.content_type, headers=headers)

    async def sheet(self, request: Request) -> Response:
        """Return a page of a character's contact sheet."""
        character = request.path_params["character"]
        records = await self._results(character)
        data = await self._decode(sheet, self.pictures, records, character, page_of(request))
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, no-cache"})

    async def sheet_pages(self, request: Request) -> Response:
        """Return how many pictures a character's contact sheet has on all its pages."""
        records = await self._results(request.path_params["character"])
        return JSONResponse({"pictures": sum(len(record.outputs) for record in records)})

    # ---- helpers -----------------------------------------------------------------------------------------------------

    async def _results(self, character: str) -> list[Record]:
        known = await self.feed.known()
        if known.cut:
            return results(await self.feed.newest(Wanted(character, [Status.SUCCEEDED]), MOST), character)
        return results(known.records.values(), character)

    async def _record(self, job_id: str) -> AnyRecord:
        record = (await self.feed.known()).records.get(job_id) or await in_thread(self.stack.record, job_id)
        if record is None:
            raise NotFound(f"there is no job {job_id}")
        return record

    async def _decode(self, function: Callable[..., R], *arguments: Any) -> R:
        return await to_thread.run_sync(partial(function, *arguments), limiter=self._decoders)


# ---- errors ----------------------------------------------------------------------------------------------------------


def _error(_request: Request, exc: Exception) -> Response:
    """Return the response for an error: a JSON object with one sentence in `error`."""
    if isinstance(exc, HTTPException):
        return JSONResponse({"error": exc.detail}, exc.status_code, headers=exc.headers)
    if isinstance(exc, Lost):
        return JSONResponse({"error": str(exc), "lost": exc.hashes}, 410)
    if isinstance(exc, OpsError):
        return JSONResponse({"error": sentence(exc)}, STATUS.get(type(exc), 502))
    if isinstance(exc, AWS_ERRORS):
        return JSONResponse({"error": sentence(exc)}, 502)
    return JSONResponse({"error": "the console has a fault: its terminal says more"}, 500)


def create_app(console: Console, token: str, port: int, code: str = "") -> ASGIApp:
    """Return the console's ASGI app for a port of this machine. `Auth` explains `token` and `code`."""
    kinds: tuple[type[Exception], ...] = (HTTPException, OpsError, *AWS_ERRORS, Exception)
    app = Starlette(routes=console.routes(), lifespan=console.lifespan, exception_handlers=dict.fromkeys(kinds, _error))
    return Auth(app, token, port, code)
