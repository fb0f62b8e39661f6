"""The routes of what is asked of a person: dead letters, undelivered events, pauses; and what was paid."""

from dataclasses import asdict
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ops.act import actions
from ops.act.dead_letters import MOST, discard_letters, list_letters, redrive_letters
from ops.console.feed import Feed
from ops.console.requests import in_thread, read_body, texts
from ops.errors import Refused
from ops.inspect.costs import sum_costs
from ops.inspect.health import problems
from ops.stack import Stack
from posedrop.aws.record import only_jobs

GROUPS = ("character", "month")
ACTIONS = {"redrive": redrive_letters, "discard": discard_letters}


class Attending:
    """The routes of one stack's console that say and do what is asked of a person.

    `patient` is the stack by clients that wait long: the sweep takes minutes.
    """

    def __init__(self, stack: Stack, patient: Stack, feed: Feed) -> None:
        self._stack = stack
        self._patient = patient
        self._feed = feed

    def routes(self) -> list[Route]:
        """All of them."""
        post = ["POST"]
        return [
            Route("/api/problems", self.problems),
            Route("/api/dead-letters", self.dead_letters),
            Route("/api/dead-letters/{action:str}", self.act_on_letters, methods=post),
            Route("/api/undelivered/redrive", self.redrive_events, methods=post),
            Route("/api/resume", self.resume, methods=post),
            Route("/api/costs", self.costs),
        ]

    async def problems(self, _request: Request) -> Response:
        """What somebody must see to; a pause is part of the summary."""
        found = await in_thread(problems, self._stack)
        return JSONResponse(
            [{"what": problem.what, "step": problem.next_step, "action": problem.action} for problem in found]
        )

    async def dead_letters(self, _request: Request) -> Response:
        """The dead letters, each with what it is and whether it helps to send it again."""
        return JSONResponse([asdict(letter) for letter in await in_thread(list_letters, self._stack)])

    async def act_on_letters(self, request: Request) -> Response:
        """Send some dead letters again, or discard them."""
        act = ACTIONS.get(request.path_params["action"])
        if act is None:
            raise HTTPException(404, "there is no such action")
        wanted = texts(await read_body(request), "ids", MOST)
        return JSONResponse({"messages": await in_thread(act, self._stack, wanted)})

    async def redrive_events(self, _request: Request) -> Response:
        """See to the events that could not be delivered."""
        return JSONResponse({"events": await in_thread(actions.redrive_events, self._patient)})

    async def resume(self, _request: Request) -> Response:
        """End a pause of the whole account before its time: the next job is the probe."""
        await in_thread(self._resume)
        return JSONResponse({})

    def _resume(self) -> None:
        now = self._stack.clock()
        breaker = self._stack.gate.breaker
        if not breaker.read().is_paused(now):
            raise Refused("submitting is not paused for the account: there is nothing to resume")
        breaker.change(lambda state: (state.resumed(now), None))

    async def costs(self, _request: Request) -> Response:
        """What the jobs that are known cost, by character and by month, the dearest and the newest first."""
        known = await self._feed.known()
        records = list(known.records.values())
        found: dict[str, Any] = {name: sum_costs(only_jobs(records), name, 0.0) for name in GROUPS}
        groups = {name: [asdict(group) for group in each.groups] for name, each in found.items()}
        groups["character"].sort(key=lambda group: -(group["known_usd"] + group["estimated_usd"]))
        groups["month"].reverse()
        total = asdict(found["month"].total)
        return JSONResponse({**groups, "total": total, "cut": len(records) if known.cut else None})
