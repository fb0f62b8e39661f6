"""The routes of a selection of jobs: its cards, its results as a ZIP file, and its contact sheet."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ops.console import cards
from ops.console.archive import archive
from ops.console.feed import Feed
from ops.console.pictures import Pictures
from ops.console.requests import in_thread, number_of, read_body, texts
from ops.console.sheet import sheet_of
from ops.errors import NotFound
from ops.formatting import many
from ops.inspect.records import Records
from ops.stack import Stack
from posedrop.aws.record import AnyRecord, only_jobs

MOST = 1000
"""The most jobs of a selection."""
KEPT = 50
"""How many selections are remembered."""


def filter_of(request: Request, now: float) -> cards.Filter:
    """Return the filter that a request's query describes. Raises HTTPException."""
    query = request.query_params
    states = frozenset(name for name in query.get("state", "").split(",") if name)
    if not states <= set(cards.STATES):
        raise HTTPException(400, f"a state is one of {', '.join(cards.STATES)}")
    hours = number_of(query.get("hours") or "0", "hours", 0, 1e6)
    times = {"since": now - hours * 3600} if hours else {}
    return cards.Filter(query.get("character", ""), states, query.get("text", "").strip(), **times)


def page_of(request: Request) -> int:
    """Return which page of a sheet a query asks for, from 1. Raises HTTPException."""
    return int(number_of(request.query_params.get("page") or "1", "page", 1, MOST))


class Choosing:
    """The routes of one stack's console that read many jobs at once."""

    def __init__(self, stack: Stack, feed: Feed, pictures: Pictures) -> None:
        self._stack = stack
        self._feed = feed
        self._pictures = pictures
        self._selections: OrderedDict[str, list[str]] = OrderedDict()
        self._decoders = anyio.CapacityLimiter(2)

    def routes(self) -> list[Route]:
        """Return all of these routes."""
        return [
            Route("/api/ids", self.ids),
            Route("/api/selection", self.select, methods=["POST"]),
            Route("/api/selection/{selection:str}.zip", self.zip),
            Route("/api/selection/{selection:str}.png", self.sheet),
        ]

    async def ids(self, request: Request) -> Response:
        """Return the cards of the jobs that pass the filter, the newest MOST of them."""
        wanted, known = filter_of(request, self._stack.clock()), await self._feed.known()
        if known.cut:
            return JSONResponse([known.card(record) for record in await self._feed.newest(wanted.wanted(), MOST)])
        found, _, _ = cards.page(known.records.values(), wanted, MOST)
        return JSONResponse([known.card(record) for record in found])

    async def select(self, request: Request) -> Response:
        """Store a selection and return its id, because a URL cannot hold hundreds of job ids."""
        selection = uuid4().hex
        self._selections[selection] = texts(await read_body(request), "jobs", MOST)
        while len(self._selections) > KEPT:
            self._selections.popitem(last=False)
        return JSONResponse({"selection": selection})

    async def _records(self, request: Request) -> Sequence[AnyRecord]:
        chosen = self._selections.get(request.path_params["selection"])
        if chosen is None:
            raise NotFound("this selection was forgotten: select the jobs again")
        found = await in_thread(Records(self._stack).get, chosen)
        return [found[job_id] for job_id in chosen if job_id in found]

    async def zip(self, request: Request) -> Response:
        """Stream the results as a ZIP file."""
        records = await self._records(request)
        if not any(record.outputs for record in only_jobs(records)):
            raise NotFound("none of these jobs has a result")
        headers = {"Content-Disposition": 'attachment; filename="posedrop.zip"'}
        return StreamingResponse(archive(self._stack, records), media_type="application/zip", headers=headers)

    async def sheet(self, request: Request) -> Response:
        """Return a page of the selection's contact sheet."""
        records = await self._records(request)
        title = many(len(records), "job")
        make: Any = partial(sheet_of, self._pictures, records, title, page_of(request))
        data = await to_thread.run_sync(make, limiter=self._decoders)
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, no-cache"})
