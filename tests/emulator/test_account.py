"""The account: credits, the limit of the plan, and the settings behind them."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from local.segmind.limits import RateLimiter
from local.segmind.settings import Latency, Settings


def test_credits_run_out(start: Callable[..., Any]) -> None:
    emulator, client = start(credits=2)
    assert client.send_job(samples=9).status_code == 400
    assert [client.send_job().status_code for _ in range(3)] == [200, 200, 406]
    emulator.change(credits=1)
    assert client.send_job().status_code == 200
    assert len(emulator.requests()) == 3


@pytest.mark.parametrize("cost", [None, 0.05])
def test_a_result_says_what_it_cost_if_that_is_asked_for(start: Callable[..., Any], cost: float | None) -> None:
    _, client = start(latency=Latency(0), cost=cost)
    metrics = client.finished(client.submitted())["metrics"]
    assert metrics.get("cost") == cost
    assert ("cost" in metrics) is (cost is not None)


def test_what_is_left_is_reported_in_a_result_and_on_request(start: Callable[..., Any]) -> None:
    emulator, client = start(credits=10, cost=0.05, cost_per="sample")
    metrics = client.finished(client.submitted(samples=2))["metrics"]
    assert (metrics["cost"], metrics["remaining_credits"]) == (0.1, 0.45)
    assert client.get("/v1/get-user-credits").json() == {"credits": 0.45, "free-credits": 0.0}
    emulator.change(cost=None)
    assert set(client.finished(client.submitted())["metrics"]) == {"inference_time"}
    emulator.faults([{"fault": "503", "on": "credits"}])
    assert client.get("/v1/get-user-credits").status_code == 503
    assert emulator.calls()["counts"]["credits"] == {"200": 1, "503": 1}
    client.headers["x-api-key"] = "SG_wrong"
    assert client.get("/v1/get-user-credits").status_code == 401


def test_submits_beyond_the_plan_are_a_429_and_take_no_place(start: Callable[..., Any]) -> None:
    emulator, client = start(rpm=2)
    answers = [client.send_job() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert 59 <= int(answers[2].headers["retry-after"]) <= 60
    assert client.status(answers[0].json()["request_id"]).status_code == 200
    assert emulator.calls()["counts"]["submit"] == {"200": 2, "429": 2}


def test_all_calls_can_count(start: Callable[..., Any]) -> None:
    emulator, client = start(rpm=3, rpm_counts="all")
    request_id = client.submitted()
    client.send_job(samples=0)
    assert [client.status(request_id).status_code for _ in range(2)] == [200, 429]
    assert client.get("/inference-request/request-history").status_code == 200
    emulator.change(rpm=0)
    assert client.result(request_id).status_code == 200


def test_retry_after_is_exact() -> None:
    now = [100.0]
    limiter = RateLimiter(lambda: now[0])
    for now[0] in (100.0, 101.5, 130.2):
        assert limiter.retry_after(3) == 0
        limiter.take()
    now[0] = 130.4
    assert limiter.retry_after(3) == 30
    assert limiter.retry_after(2) == 32, "a limit that was lowered needs more of the calls to pass"
    now[0] = 159.9
    assert limiter.retry_after(3) == 1
    now[0] = 130.4 + 30
    assert limiter.retry_after(3) == 0


def test_settings_change_while_it_runs(start: Callable[..., Any]) -> None:
    emulator, client = start()
    emulator.change(api_key="SG_rotated", latency="50:0.2")
    assert client.send_job().status_code == 401
    client.headers["x-api-key"] = emulator.api_key
    assert client.status(client.submitted()).json()["status"] in ("QUEUED", "PROCESSING")


@pytest.mark.parametrize(
    "change",
    [
        {"rpm": -1},
        {"latency": "x"},
        {"latency": "1:nan"},
        {"rpm_counts": "x"},
        {"history_lag": -1},
        {"media_retention": -1},
        {"cost_per": "pixel"},
        {"history_others": 0.5},
        {"port": 1},
    ],
)
def test_a_setting_that_is_wrong_is_refused(emulator: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        emulator.change(**change)


def test_a_refused_change_changes_nothing() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="rpm"):
        settings.change({"seed": 5, "rpm": "many"})
    assert settings == Settings()


def test_latency_is_lognormal_and_decided_by_the_seed() -> None:
    def draws(seed: int) -> list[float]:
        generator = random.Random(seed)
        return [Latency.parse("30:0.25").draw(generator) for _ in range(1001)]

    assert draws(1) == draws(1) != draws(2)
    assert sorted(draws(1))[500] == pytest.approx(30, rel=0.05)
    assert Latency.parse("3").draw(random.Random(0)) == 3
