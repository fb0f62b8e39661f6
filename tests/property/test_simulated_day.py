"""A day in seconds: jobs that are refused or answered 500 all day beside sound ones, on the project's own handlers.

The clock is the tests', SQS is played as documented: a delayed message comes when its delay is over, one that is
reported as failed when its visibility ends.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, pairwise
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Provider
from tests.memory import MemoryPipeline
from tests.queues import Queues
from tests.support import Context, image

HISTORY_HOST = "history.test"
DAY = 86_400.0
QUARTER = 900.0
"""Seconds between two sound jobs, and the seconds of AccountPauseSeconds."""
MARGIN = 3600.0
"""Seconds after the day in which the last decisions about it are made."""
FIREWALL = httpx.Response(403, html="<html><body><h1>403 Forbidden</h1></body></html>")
DAYS, REQUESTS = count(), count()

Respond = Callable[[dict[str, Any]], httpx.Response]


@dataclass
class Post:
    """One submit: when it came, what was asked for, and the status of the response."""

    at: float
    body: dict[str, Any]
    status: int
    request_id: str = field(default_factory=lambda: f"request-{next(REQUESTS)}")

    @property
    def prompt(self) -> str:
        """The prompt."""
        return str(self.body["prompt"])


class DayProvider(Provider):
    """Answers submits as `respond` says, and has a history of what it accepted, newest first, unless it is down."""

    def __init__(self) -> None:
        super().__init__()
        self.now: Callable[[], float] = lambda: 0.0
        self.respond: Respond = accept
        self.accepts: Callable[[Post], bool] = lambda post: post.status == 200
        """Whether a request is worked on, whatever its response was."""
        self.history_is_down = False
        self.log: list[Post] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == HISTORY_HOST:
            return self._history(request)
        if request.method == "POST":
            body = json.loads(request.content)
            response = self.respond(body)
            post = Post(self.now(), body, response.status_code)
            self.log.append(post)
            if response.status_code == 200:
                response = httpx.Response(200, json={"request_id": post.request_id, "status": "QUEUED"})
            return response
        return super().__call__(request)

    def posts_of(self, prompt: str) -> list[Post]:
        """The submits of one job."""
        return [post for post in self.log if post.prompt == prompt]

    def _history(self, request: httpx.Request) -> httpx.Response:
        if self.history_is_down:
            return httpx.Response(503, text="down for maintenance")
        query = parse_qs(request.url.query.decode())
        page, size = int(query.get("page", ["1"])[0]), int(query.get("per_page", ["20"])[0])
        rows = [
            {
                "request_id": post.request_id,
                "model_name": "consistent-character-with-pose",
                "model_status": "PENDING",
                "request_body": post.body,
                "generation_url": None,
                "model_created": timestamp(post.at),
                "model_updated": timestamp(post.at),
            }
            for post in reversed(self.log)
            if self.accepts(post)
        ]
        return httpx.Response(200, json={"generations": rows[(page - 1) * size : page * size]})


def accept(_: dict[str, Any]) -> httpx.Response:
    """Accept every job."""
    return httpx.Response(200)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Day:
    """One day, and the uploads that fill it."""

    def __init__(self, pipeline: MemoryPipeline, provider: DayProvider) -> None:
        self.pipeline = pipeline
        self.provider = provider
        self.number = next(DAYS)
        provider.log.clear()
        provider.now = pipeline.clock
        self.start = pipeline.clock.now
        self._queues = Queues(pipeline)
        self._numbers = count()
        self._ran = set(pipeline.executions())

    def upload(self, after: float, prompt: str) -> None:
        """Upload a job so many seconds after the start; its events come then."""
        folder = f"incoming/day{self.number}-{next(self._numbers)}"
        events = [
            self.pipeline.put(f"{folder}/face.png", image()),
            self.pipeline.put(f"{folder}/pose.png", image("png", (9, 9)), Metadata={"prompt": prompt}),
        ]
        for event in events:
            self._queues.send(json.dumps(event), at=self.start + after)

    def run(self, seconds: float = DAY + MARGIN) -> None:
        """Deliver every message that is due within so many seconds, and let dispatch run."""
        queues, clock, end = self._queues, self.pipeline.clock, self.start + seconds
        while (at := min(queues.next_due(), next_run := queues.next_run())) <= end:
            clock.now = max(clock.now, at)
            if next_run <= at:
                queues.dispatch(Context())
            else:
                queues.deliver(queues.take(), Context())

    def ends(self) -> dict[str, tuple[str, str | None]]:
        """Run the day's executions; return status and error type of each notified job by its prompt."""
        for name, execution in self.pipeline.executions().items():
            if name not in self._ran:
                self._ran.add(name)
                self.pipeline.run(execution)
        return {
            message["parameters"]["prompt"]: (message["status"], (message["error"] or {}).get("type"))
            for message in self.pipeline.notifications()
        }


@pytest.fixture
def environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SEGMIND_HISTORY_URL", f"https://{HISTORY_HOST}")
    monkeypatch.setenv("ACCOUNT_PAUSE_SECONDS", str(round(QUARTER)))
    return environment


@pytest.fixture
def provider() -> DayProvider:
    return DayProvider()


@pytest.fixture
def day(in_memory: MemoryPipeline, provider: DayProvider) -> Day:
    return Day(in_memory, provider)


def answering(status: httpx.Response, *prompts: str) -> Respond:
    """A provider that answers these prompts so, and accepts all others."""
    return lambda body: status if body["prompt"] in prompts else httpx.Response(200)


def longest_wait(day: Day, jobs: dict[str, float]) -> float:
    """Seconds that one of the jobs waited at most; `jobs` are prompts with the seconds of their uploads."""
    waits = []
    for prompt, after in jobs.items():
        posts = day.provider.posts_of(prompt)
        assert [post.status for post in posts] == [200], prompt
        waits.append(posts[0].at - day.start - after)
    return max(waits)


@pytest.mark.parametrize(
    ("sound", "ahead"), [(96, 450.0), (8, 1.0), (8, -1.0)], ids=["a day, between others", "before one", "after one"]
)
def test_a_job_that_is_always_refused_delays_no_other(day: Day, sound: int, ahead: float) -> None:
    day.provider.respond = answering(FIREWALL, "DROP TABLE")
    jobs = {f"sound {number}": (number + 1) * QUARTER for number in range(sound)}
    for prompt, after in {**jobs, "DROP TABLE": QUARTER - ahead}.items():
        day.upload(after, prompt)
    day.run((sound + 1) * QUARTER + MARGIN)
    assert longest_wait(day, jobs) <= 60
    assert len(day.provider.posts_of("DROP TABLE")) <= 4
    ends = day.ends()
    assert ends.pop("DROP TABLE") == ("FAILED", "Rejected")
    assert ends == dict.fromkeys(jobs, ("SUCCEEDED", None))


def test_a_lone_job_that_is_always_refused_ends_after_a_day(day: Day) -> None:
    day.provider.respond = answering(FIREWALL, "DROP TABLE")
    day.upload(0, "DROP TABLE")
    day.run(DAY - MARGIN)
    assert len(day.provider.posts_of("DROP TABLE")) > 1
    assert day.ends() == {}
    day.run(DAY + 2 * MARGIN)
    assert day.ends() == {"DROP TABLE": ("FAILED", "Rejected")}


@pytest.mark.parametrize("others", [0, 24])
def test_a_job_that_is_answered_500_all_day_is_sent_eight_times_at_most(day: Day, others: int) -> None:
    day.provider.respond = answering(httpx.Response(500), "cursed")
    jobs = {f"sound {number}": 60 + number * 4 * QUARTER for number in range(others)}
    for prompt, after in {**jobs, "cursed": 0.0}.items():
        day.upload(after, prompt)
    day.run()
    assert 1 < len(day.provider.posts_of("cursed")) <= 8
    assert day.ends() == {**dict.fromkeys(jobs, ("SUCCEEDED", None)), "cursed": ("FAILED", "Rejected")}


def test_a_job_whose_500s_hid_an_accepted_request_is_paid_once(day: Day) -> None:
    day.provider.respond = answering(httpx.Response(500), "hidden")
    day.provider.accepts = lambda post: True
    day.upload(0, "hidden")
    day.run()
    assert len(day.provider.posts_of("hidden")) == 1
    assert day.ends() == {"hidden": ("SUCCEEDED", None)}


def test_without_a_history_a_500_is_sent_again_three_times_at_most(day: Day) -> None:
    day.provider.respond = answering(httpx.Response(500), "cursed")
    day.provider.history_is_down = True
    day.upload(0, "cursed")
    day.run()
    posts = [post.at for post in day.provider.posts_of("cursed")]
    assert 1 <= len(posts) <= 4
    assert all(later - earlier >= 600 for earlier, later in pairwise(posts))
    assert day.ends() == {"cursed": ("FAILED", "SubmitOutcomeUnknown")}


@given(
    statuses=st.lists(st.sampled_from([200, 403, 404, 406, 429, 500, 502, 503]), max_size=12),
    accepted=st.lists(st.booleans(), min_size=12, max_size=12),
)
@settings(max_examples=10)
def test_no_row_of_refusals_makes_a_job_paid_twice_or_lost(
    in_memory: MemoryPipeline, provider: DayProvider, statuses: list[int], accepted: list[bool]
) -> None:
    day = Day(in_memory, provider)
    rest = iter(statuses)
    provider.respond = lambda _: httpx.Response(next(rest, 200))
    provider.accepts = lambda post: (
        post.status == 200 or (post.status >= 500 and accepted[provider.log.index(post) % len(accepted)])
    )
    jobs = [f"day {day.number}, job {number}" for number in range(3)]
    for number, prompt in enumerate(jobs):
        day.upload(number * 60, prompt)
    day.run(2 * DAY)
    ends = day.ends()
    assert ends.keys() == set(jobs)
    for prompt, (status, error) in ends.items():
        paid = sum(map(provider.accepts, provider.posts_of(prompt)))
        assert (status, error, paid) in (("SUCCEEDED", None, 1), ("FAILED", "Rejected", 0))
