"""The request history: its window, its lag, the requests of others, and its faults."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

PATH = "/inference-request/request-history"
PAGE = 100


def page(client: Any, number: int = 1, **query: object) -> dict[str, Any]:
    """A page of the history, of 100 rows unless the query says otherwise."""
    response = client.get(PATH, params={"page": number, "per_page": PAGE, **query})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def day(days_ago: int) -> str:
    """The day, in UTC, so many days ago."""
    return f"{datetime.now(UTC) - timedelta(days=days_ago):%Y-%m-%d}"


def test_a_row_says_the_request_as_it_was_sent_and_what_became_of_it(start: Callable[..., Any], pictures: str) -> None:
    emulator, client = start()
    sent = {
        "face_image": f"{pictures}/face-astronaut.png?X-Amz-Signature=abc&n=1",
        "pose_image": f"{pictures}/pose-cameraman.png",
        "prompt": "a walk",
        "samples": 2,
        "seed": 7,
    }
    request_id = client.submitted(**sent)
    client.finished(request_id)
    first, second = page(client)["generations"]
    assert first.pop("generation_url") == f"{emulator.url}/media/{request_id}/1.png"
    assert second.pop("generation_url") == f"{emulator.url}/media/{request_id}/2.png"
    assert first == second
    assert first["request_body"] == sent
    assert (first["request_id"], first["model_status"], first["credits_deduction"]) == (request_id, "COMPLETED", 0.0294)
    created, updated = (datetime.fromisoformat(first[name]) for name in ("model_created", "model_updated"))
    assert created <= updated <= datetime.now(UTC)


def test_a_busy_account_has_thousands_of_rows_a_day_newest_first(start: Callable[..., Any]) -> None:
    _, client = start(history_others=5000)
    own = client.submitted()
    # Another request of others may have come meanwhile: one does every 17 seconds.
    assert own in [row["request_id"] for row in page(client)["generations"][:5]]
    day_before = {"from_date": day(1), "to_date": day(1)}
    first, second = (page(client, number, **day_before) for number in (1, 2))
    assert (first["total"], first["total_pages"]) == (5000, 50)
    shown = [*first["generations"], *second["generations"]]
    assert len({row["request_id"] for row in shown}) == 2 * PAGE
    times = [datetime.fromisoformat(row["model_created"]) for row in shown]
    assert times == sorted(times, reverse=True)
    assert (times[0] - times[-1]).total_seconds() == pytest.approx(199 * 17.28, abs=0.01)


def test_each_request_of_others_is_the_same_in_each_response(start: Callable[..., Any]) -> None:
    _, client = start(history_others=5000)
    query = {"from_date": day(2), "to_date": day(2)}
    falling = page(client, 50, **query)["generations"]
    rising = page(client, 1, **query, sort_order="asc")["generations"]
    assert falling == rising[::-1]
    assert len(rising) == PAGE
    assert page(client, 51, **query)["generations"] == []


def test_others_have_completed_requests_of_the_same_model(start: Callable[..., Any]) -> None:
    _, client = start(history_others=5000)
    assert page(client, from_date=day(1), to_date=day(1), status="COMPLETED")["total"] == 5000
    assert page(client, status="PENDING")["total"] == page(client, model_name="another-model")["total"] == 0


def test_the_history_takes_a_while_to_show_a_request(start: Callable[..., Any]) -> None:
    emulator, client = start(history_lag=3600)
    request_id = client.submitted()
    assert (page(client)["generations"], client.get(f"{PATH}/{request_id}").status_code) == ([], 404)
    emulator.change(history_lag=0)
    assert [row["request_id"] for row in page(client)["generations"]] == [request_id]
    assert client.get(f"{PATH}/{request_id}").status_code == 200


def test_the_window_is_a_week_and_may_be_a_month(start: Callable[..., Any]) -> None:
    _, client = start(history_others=24)
    assert 6 * 24 < page(client)["total"] <= 7 * 24
    assert 30 * 24 < page(client, from_date=day(30), to_date=day(0))["total"] <= 31 * 24
    for query in ({"from_date": day(31), "to_date": day(0)}, {"from_date": "yesterday"}):
        assert client.get(PATH, params=query).status_code == 400


def test_a_history_that_is_down_for_a_while(start: Callable[..., Any]) -> None:
    emulator, client = start()
    request_id = client.submitted()
    emulator.faults([{"fault": "503", "on": "history", "until": 3600}])
    assert [client.get(path).status_code for path in (PATH, f"{PATH}/{request_id}")] == [503, 503]
    assert client.status(request_id).status_code == 200
    emulator.faults([{"fault": "503", "on": "history", "after": 3600}])
    assert page(client)["total"] == 1


@pytest.mark.parametrize("status", ["500", "502", "503"])
def test_a_5xx_may_hide_a_request_that_was_accepted(start: Callable[..., Any], status: str) -> None:
    _, client = start(
        faults=[
            {"fault": status, "on": "submit", "match": "accepted", "accepted": True},
            {"fault": status, "on": "submit", "match": "lost"},
        ]
    )
    for prompt in ("accepted", "lost"):
        assert client.send_job(prompt=prompt).status_code == int(status)
    assert [row["request_body"]["prompt"] for row in page(client)["generations"]] == ["accepted"]


def test_an_image_outlives_its_result_and_is_removed_later(start: Callable[..., Any], clock: Any) -> None:
    _, client = start(retention=60, media_retention=7 * 24 * 60)  # a minute stands for an hour
    request_id = client.submitted()
    client.finished(request_id)
    clock.now += 60
    assert (client.status(request_id).status_code, client.result(request_id).status_code) == (404, 404)
    (row,) = page(client)["generations"]
    assert client.get(row["generation_url"]).status_code == 200
    clock.now += 7 * 24 * 60 - 61
    assert client.get(f"{PATH}/{request_id}").json() == row
    clock.now += 1
    assert [client.get(path).status_code for path in (row["generation_url"], f"{PATH}/{request_id}")] == [404, 404]
    assert page(client)["generations"] == []
