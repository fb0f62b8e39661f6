"""Run the pipeline as SQS, the schedule and Step Functions do, with a provider that knows which requests exist."""

import json
import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Any

import httpx
from aws_lambda_powertools.utilities.parameters.constants import DEFAULT_PROVIDERS

from tests.integration.conftest import BASE_URL, Provider
from tests.memory import MemoryPipeline, nothing
from tests.queues import Message, Queues
from tests.support import Context, image

SENDING = ("intake", "dispatch", "submit")
"""The functions that handle a job until its request is sent."""
HISTORY = "http://history.test"
CHARACTERS = (f"world{number}" for number in count())
PAUSED = "the account is paused"

STORIES: dict[str, list[str]] = {
    "accepted": [],
    "limited": ["429"],
    "500": ["500"],
    "500, accepted": ["accepted 500"],
    "no response": ["accepted"],
    "refused": ["403"],
    "key refused": ["401"],
    PAUSED: [],
}
"""The responses to the submits of a job, in order; later submits are accepted."""


class Death(BaseException):
    """The process ends: none of its code runs any more."""


class Account(Provider):
    """A provider whose history shows the requests that exist.

    responses: the responses to the next submits; later submits are accepted. Each is an HTTP status; with `accepted
    500` and `accepted` the request exists, but gets a 500 or no response. ends: how requests end, in order. watch:
    called before and after each request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watch: Callable[[], object] = nothing
        self.begin([])

    def begin(self, responses: list[str]) -> None:
        """Forget everything; the next submits get these responses."""
        self.responses = [*responses]
        self.ends: list[str] = []
        self.exist: list[dict[str, Any]] = []
        self.submits_made = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.watch()
        response = self._respond(request)
        self.watch()
        if isinstance(response, Exception):
            raise response
        # A stream, as from a network, which can be read only once.
        return httpx.Response(response.status_code, stream=httpx.ByteStream(response.content))

    def _respond(self, request: httpx.Request) -> httpx.Response | Exception:
        self.requests.append(request)
        path = request.url.path
        if request.url.host == "history.test":
            return httpx.Response(200, json={"generations": self.exist[::-1]})
        if request.method == "POST":
            return self._submit(json.loads(request.content))
        if path.startswith("/media/"):
            return httpx.Response(200, content=image("png", (16, 12), "green"))
        (number,) = [number for number, row in enumerate(self.exist) if row["request_id"] in path.split("/")]
        if (self.ends[number] if number < len(self.ends) else "COMPLETED") == "FAILED":
            return httpx.Response(422, json={"status": "FAILED", "error": "out of luck", "metrics": {}})
        body = {"status": "COMPLETED", "metrics": {"inference_time": 31.0}, "output": f"{BASE_URL}/media/1.png"}
        return httpx.Response(200, json=body | {"request_id": self.exist[number]["request_id"]})

    def _submit(self, body: dict[str, Any]) -> httpx.Response | Exception:
        self.submits_made += 1
        response = self.responses.pop(0) if self.responses else "accepted 200"
        request_id = f"request-{len(self.requests)}"
        if response.startswith("accepted"):
            self.exist.append({"request_id": request_id, "request_body": body})
        status = response.removeprefix("accepted").strip()
        if not status.isdigit():
            return httpx.ReadError("reset")
        if status == "200":
            return httpx.Response(200, json={"request_id": request_id, "status": "QUEUED"})
        return httpx.Response(int(status), json={"error": "because"})


def needed(story: str) -> int:
    """Return the number of submits in a story."""
    return len([response for response in STORIES[story] if not response.startswith("accepted")]) + 1


class World:
    """Runs the functions for one character, on an otherwise empty AWS, until nothing is left to do.

    choose: chooses which of so many events happens next, in order of their times; an execution is the last of them.
    again: whether a finished message is delivered once more, as SQS may do, or dispatch runs once more.
    """

    def __init__(
        self,
        pipeline: MemoryPipeline,
        account: Account,
        character: str,
        *,
        choose: Callable[[int], int] = lambda _: 0,
        again: Callable[[], bool] = lambda: False,
    ) -> None:
        pipeline.aws.clear()
        for provider in DEFAULT_PROVIDERS.values():
            provider.clear_cache()  # a new process reads its secret and its parameter
        self.pipeline = pipeline
        self.account = account
        self.character = character
        self.queues = Queues(pipeline)
        self.deaths: list[str] = []
        """The functions whose processes have died."""
        self.running = ""
        """The function that runs now."""
        self.choose = choose
        self.again = again
        self._published: list[dict[str, Any]] = []

    def upload(self) -> None:
        """Upload a face and a pose, and put their events on the queue."""
        folder = f"incoming/{self.character}"
        bodies = {"face.png": image("png", (10, 10), "white"), "pose.png": image("png", (12, 8), "black")}
        events = [self.pipeline.put(f"{folder}/{name}", body) for name, body in bodies.items()]
        self.pipeline.clock.now += 60
        for event in events:
            self.queues.send(json.dumps(event))

    def retry(self, message_id: str) -> None:
        """Request a new attempt."""
        self.queues.send(json.dumps({"retry": self.record["job_id"]}), id=message_id)

    def cancel(self) -> None:
        """Request that the job is cancelled."""
        self.queues.send(json.dumps({"cancel": self.record["job_id"], "attempt": 1}))

    def work(self, until: float = math.inf) -> None:
        """Run until nothing is left to do, or nothing before a time (seconds since the epoch)."""
        queues = self.queues
        for _ in range(400):
            if until < math.inf and min(queues.next_due(), queues.next_run()) > until:
                return
            if not self._next():
                return
        raise AssertionError("it does not end")

    @property
    def record(self) -> dict[str, Any]:
        """Return the job's record."""
        (record,) = [item for item in self.pipeline.records().values() if item["character"] == self.character]
        return record

    def notifications(self) -> dict[int, dict[str, Any]]:
        """Return the notification of each attempt, which must be the same each time it was published."""
        by_attempt: dict[int, dict[str, Any]] = {}
        self._published += self.pipeline.notifications()
        for message in self._published:
            assert by_attempt.setdefault(message["attempt"], message) == message
        return by_attempt

    def unfinished(self) -> list[str]:
        """Return the keys of the items in line, of unfinished ones, and of waiting uploads."""
        items = self.pipeline.aws.table.items
        left = {"stands", "place", "send_at", "unfinished", "unfinished_at", "missing"}
        return [key for key, item in items.items() if left & set(item)]

    def _next(self) -> bool:
        """Run the next event; return whether there was one."""
        queues, clock = self.queues, self.pipeline.clock
        run = queues.next_run()
        before = sum(message.due < run for message in queues.messages)
        dispatches = run < math.inf
        waiting = len(queues.messages) + dispatches
        things = waiting + bool(self.pipeline.aws.executions.running)
        if not things:
            return False
        number = self.choose(things)
        if number == waiting:
            self._run_execution()
        elif dispatches and number == before:
            clock.now = max(clock.now, run)
            self._dispatch()
        else:
            message = queues.take(number - (dispatches and number > before))
            clock.now = max(clock.now, message.due) + 1
            self._deliver(message)
        return True

    def _deliver(self, message: Message) -> None:
        if self._survive(message.function, lambda: self.queues.deliver(message, Context(60))) and self.again():
            self.queues.send(message.body, message.function, id=message.id)

    def _dispatch(self) -> None:
        if self._survive("dispatch", lambda: self.queues.dispatch(Context(60))) and self.again():
            self.queues.is_invoked = True

    def _run_execution(self) -> None:
        executions, clock, pipeline = self.pipeline.aws.executions, self.pipeline.clock, self.pipeline
        state: dict[str, Any] = executions.inputs[executions.running[0]]
        while not state["finished"]:
            clock.now += state["wait_seconds"]
            state = self._survive("poll", partial(pipeline.poll.handler, state, Context(300))) or state
        while self._survive("deliver", partial(pipeline.deliver.handler, state, Context(300))) is None:
            clock.now += 5
        executions.running.pop(0)

    def _survive(self, function: str, run: Callable[[], Any]) -> Any:
        """Return what a function returns, or None if its process died."""
        self.running = function
        try:
            return run()
        except Death:
            self.deaths.append(function)
            return None
        finally:
            self.running = ""


def begin(pipeline: MemoryPipeline, account: Account, story: str) -> World:
    """Return a world at the beginning of a story; in one story the breaker is open already."""
    account.begin(STORIES[story])
    world = World(pipeline, account, next(CHARACTERS))
    if story == PAUSED:
        now = pipeline.clock.now
        pipeline.gate().breaker.change(lambda breaker: (breaker.key_refused(now, "401", 900), None))
    return world


class DeathAt:
    """Ends a function's process at points with these numbers: before an AWS call, before and after the provider's.

    functions: those whose points count. after_calls: whether the time after an AWS call is also a point.
    """

    def __init__(
        self, world: World, numbers: Iterable[int], functions: Iterable[str] = SENDING, *, after_calls: bool = False
    ) -> None:
        self.points = 0
        self._world = world
        self._numbers = set(numbers)
        self._functions = set(functions)
        self._after_calls = after_calls

    def __enter__(self) -> "DeathAt":
        aws = self._world.pipeline.aws
        aws.before = self._point
        if self._after_calls:
            aws.after = self._point
        self._world.account.watch = self._point
        return self

    def __exit__(self, *_: object) -> None:
        self._world.pipeline.aws.watch_nothing()
        self._world.account.watch = nothing

    def _point(self) -> None:
        if self._world.running in self._functions:
            self.points += 1
            if self.points in self._numbers:
                raise Death


def check(world: World, *, paid: int = 1) -> dict[str, Any]:
    """Check that every paid request was delivered and that nothing is left to do; return the job's record.

    paid: the requests that are accepted, or would have been if a process had not died next to the last of them.
    """
    record = check_end(world)
    if record["status"] == "SUCCEEDED":
        assert len(world.account.exist) == paid
    else:
        # The process died next to a request that was never sent.
        assert "submit" in world.deaths
        assert record["error"]["type"] == "SubmitOutcomeUnknown"
        assert len(world.account.exist) == paid - 1
    return record


def check_cancelled(world: World) -> None:
    """Check that the job was cancelled, that nothing was paid, and that nothing is left to do."""
    record = check_end(world)
    assert (record["status"], record["error"]) == (
        "FAILED",
        {"type": "InvalidInput", "message": "cancelled", "code": "CANCELLED"},
    )
    assert world.account.exist == []
    assert not world.deaths or set(world.deaths) == {"intake"}


def check_end(world: World) -> dict[str, Any]:
    """Check that each attempt was notified, by one execution, and nothing is left to do; return the job's record."""
    notified, record = world.notifications(), world.record
    assert record["notified_at"]
    assert list(notified) == list(range(1, int(record["attempt"]) + 1))
    assert notified[int(record["attempt"])]["status"] == record["status"]
    assert list(world.pipeline.executions()) == [f"{record['job_id']}-{attempt}" for attempt in notified]
    assert not world.unfinished()
    return record
