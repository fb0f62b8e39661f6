"""The whole pipeline on moto, driven as SQS and Step Functions drive it, and a provider that knows what exists."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx

from tests.integration.conftest import BASE_URL, Pipeline, Provider
from tests.support import Context, image

SERVICES = ("dynamodb", "s3", "sqs", "sns", "stepfunctions", "secretsmanager")
HISTORY = "http://history.test"
VISIBILITY = 360.0
"""Seconds after which a message is delivered again whose function died."""


class Death(BaseException):
    """The process ends: nothing in it goes on."""


class Account(Provider):
    """A provider of whose requests the history shows those that exist.

    answers: what the next submits get; then they are accepted. An HTTP status; `taken 500` and `taken` are requests
    that exist though a 500 or no response comes; `lost` is one that never came. ends: how requests end, in their order.
    after: called after each request.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[str] = []
        self.ends: list[str] = []
        self.exist: list[dict[str, Any]] = []
        self.after: Callable[[], None] = lambda: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        response = self._respond(request)
        self.after()
        if isinstance(response, Exception):
            raise response
        # A stream, as one from a network, that can be read in any way but once.
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
        (number,) = [number for number, row in enumerate(self.exist) if row["request_id"] in path]
        if (self.ends[number] if number < len(self.ends) else "COMPLETED") == "FAILED":
            return httpx.Response(422, json={"status": "FAILED", "error": "out of luck", "metrics": {}})
        body = {"status": "COMPLETED", "metrics": {"inference_time": 31.0}, "output": f"{BASE_URL}/media/1.png"}
        return httpx.Response(200, json=body | {"request_id": self.exist[number]["request_id"]})

    def _submit(self, body: dict[str, Any]) -> httpx.Response | Exception:
        answer = self.answers.pop(0) if self.answers else "taken 200"
        request_id = f"request-{len(self.requests)}"
        if answer.startswith("taken"):
            self.exist.append({"request_id": request_id, "request_body": body})
        status = answer.removeprefix("taken").strip()
        if not status.isdigit():
            return httpx.ReadError("reset")
        if status == "200":
            return httpx.Response(200, json={"request_id": request_id, "status": "QUEUED"})
        return httpx.Response(int(status), json={"error": "because"})


@dataclass
class Message:
    """One message of the queue. It is not delivered before `due`, in seconds since the epoch."""

    body: str
    due: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    receives: int = 0


class World:
    """Runs the functions for one character until all is done.

    choose: which of so many messages is delivered next. again: whether one that is done is delivered once more, as SQS
    may do with any.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        account: Account,
        character: str,
        *,
        choose: Callable[[int], int] = lambda _: 0,
        again: Callable[[], bool] = lambda: False,
    ) -> None:
        self.pipeline = pipeline
        self.account = account
        self.character = character
        self.messages: list[Message] = []
        self.told: list[dict[str, Any]] = []
        self.deaths = 0
        self.submits = False
        """Whether submit runs now."""
        self._choose = choose
        self._again = again
        self._state_machine = pipeline.sfn.list_state_machines()["stateMachines"][0]["stateMachineArn"]
        self._executed = set(self.executions())

    def upload(self) -> None:
        """Upload a face and a pose, and put their events on the queue."""
        folder = f"incoming/{self.character}"
        bodies = {"face.png": image("png", (10, 10), "white"), "pose.png": image("png", (12, 8), "black")}
        events = [self.pipeline.put(f"{folder}/{name}", body) for name, body in bodies.items()]
        self.pipeline.clock.now += 60
        for event in events:
            self.send(json.dumps(event))

    def send(self, body: str, message_id: str | None = None) -> None:
        """Put a message on the queue."""
        message = Message(body, self.pipeline.clock.now)
        self.messages.append(Message(body, message.due, message_id or message.id))

    def work(self) -> None:
        """Go on until there is nothing more to do."""
        for _ in range(400):
            if self.messages:
                self.messages.sort(key=lambda message: message.due)
                self._deliver(self.messages.pop(self._choose(len(self.messages))))
            elif not self._run_execution():
                return
        raise AssertionError("it does not come to an end")

    @property
    def record(self) -> dict[str, Any]:
        """The job's record."""
        (record,) = [item for item in self.pipeline.records().values() if item["character"] == self.character]
        return record

    def notifications(self) -> dict[int, dict[str, Any]]:
        """The notification of each attempt, which is the same however often it was published."""
        self.told += self.pipeline.notifications()
        by_attempt: dict[int, dict[str, Any]] = {}
        for message in self.told:
            if message["character"] == self.character:
                assert by_attempt.setdefault(message["attempt"], message) == message
        return by_attempt

    def executions(self) -> dict[str, str]:
        """The names and ARNs of all executions, the oldest first."""
        found = self.pipeline.sfn.list_executions(stateMachineArn=self._state_machine)["executions"]
        return {execution["name"]: execution["executionArn"] for execution in reversed(found)}

    def _deliver(self, message: Message) -> None:
        pipeline, clock = self.pipeline, self.pipeline.clock
        clock.now = max(clock.now, message.due) + 1
        message.receives += 1
        record = {**pipeline.record_of(message.body), "messageId": message.id}
        record["attributes"] = {"ApproximateReceiveCount": str(message.receives)}
        pipeline.later.clear()
        self.submits = True
        answer = self._survive(pipeline.submit.handler, {"Records": [record]})
        self.submits = False
        self.messages += [Message(found["Body"], clock.now) for found in pipeline.receive(pipeline.queue_url)]
        self.messages += [Message(body, clock.now + delay) for body, delay in pipeline.later if body]
        if answer is None:
            self.messages.append(Message(message.body, clock.now + VISIBILITY, message.id, message.receives))
        elif answer["batchItemFailures"]:
            (delay,) = [delay for body, delay in pipeline.later if not body]
            self.messages.append(Message(message.body, clock.now + delay, message.id, message.receives))
        elif self._again():
            self.messages.append(Message(message.body, clock.now, message.id))

    def _run_execution(self) -> bool:
        started = self.executions()
        name = next((name for name in started if name not in self._executed), None)
        if name is None:
            return False
        self._executed.add(name)
        state = json.loads(self.pipeline.sfn.describe_execution(executionArn=started[name])["input"])
        while not state["finished"]:
            self.pipeline.clock.now += state["wait_seconds"]
            state = self._survive(self.pipeline.poll.handler, state) or state
        while self._survive(self.pipeline.deliver.handler, state) is None:
            self.pipeline.clock.now += 5
        return True

    def _survive(self, handler: Any, event: object) -> Any:
        """What a function answers, or None if it died."""
        try:
            return handler(event, Context(60 if self.submits else 300))
        except Death:
            self.deaths += 1
            return None


class DeathAt:
    """Lets submit's process end at the nth point: before a call of AWS, or after one of the provider."""

    def __init__(self, number: int, world: World) -> None:
        self.points = 0
        self._number = number
        self._world = world

    def __enter__(self) -> "DeathAt":
        for events, name in _events("before-call"):
            events.register(name, self)
        self._world.account.after = self
        return self

    def __exit__(self, *_: object) -> None:
        for events, name in _events("before-call"):
            events.unregister(name, self)
        self._world.account.after = lambda: None

    def __call__(self, **_: Any) -> None:
        self.points += self._world.submits
        if self._world.submits and self.points == self._number:
            raise Death


class LostReply:
    """Loses the reply to the nth write of DynamoDB: it is applied, and botocore repeats it."""

    def __init__(self, number: int) -> None:
        self.writes = 0
        self._number = number

    def __enter__(self) -> "LostReply":
        boto3.client("dynamodb").meta.events.register_first("needs-retry.dynamodb", self)
        return self

    def __exit__(self, *_: object) -> None:
        boto3.client("dynamodb").meta.events.unregister("needs-retry.dynamodb", self)

    def __call__(self, operation: Any, **_: Any) -> int | None:
        if operation.name not in ("UpdateItem", "PutItem", "DeleteItem"):
            return None
        self.writes += 1
        return 0 if self.writes == self._number else None


def _events(moment: str) -> list[tuple[Any, str]]:
    return [(boto3.client(service).meta.events, f"{moment}.{service}") for service in SERVICES]  # type: ignore[call-overload]
