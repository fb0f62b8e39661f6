"""Watching jobs in a real browser: everything comes by itself."""

import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from posedrop.aws.places import dispatched
from posedrop.aws.record import Status
from posedrop.contract.reasons import ReasonCode
from posedrop.contract.times import rfc3339
from posedrop.segmind.requests import Request, RequestStatus
from tests.console.browser import FAILURES, POSES, RULES_OF_COLOUR, Studio, axe, data, drop_files, hang_up, scroll_down
from tests.console.conftest import TOKEN, Console
from tests.console.test_server_events import listening

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]
HOSTILE = "<img src=x onerror=document.body.remove()>"


def test_all_states_go_by(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    done = studio.job("done", name="wide", age=60)
    record = studio.job("queued")
    page = visit(console)
    card = page.locator(f'[data-job="{record.job_id}"]')
    expect(card).to_have_attribute("data-state", "queued")
    now = time.time()
    sent = {"request_id": "request-9", "submitted_at": now}
    ended = {"completed_at": now + 30, "outputs": done.outputs, "metrics": done.metrics}
    for state, values in (
        ("submitting", {"status": Status.SUBMITTING, "owner": "somebody", "requests": [Request(1, now)]}),
        ("running", {"status": Status.SUBMITTED, **sent}),
        ("delivering", {"status": Status.SUCCEEDED, **ended}),
        ("done", {"notified_at": now + 31}),
    ):
        record = console.change(record, **values)
        expect(card).to_have_attribute("data-state", state)
    expect(card.locator(".result img")).to_be_visible()


def test_a_queued_card_says_when_its_turn_comes(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    twelve_hours = dispatched(time.time() + 12 * 3600)  # so far away that no machine is too slow for it
    studio.job("queued", **twelve_hours)
    page = visit(console)
    expect(page.locator('.card[data-state="queued"]')).to_contain_text(re.compile("in about 1[12] h"))


def test_a_waiting_card_says_what_is_missing_and_goes_when_it_is_there(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    studio.waiting("night shoot", "dusk")
    page = visit(console)
    card = page.locator('.card[data-state="waiting"]')
    expect(card).to_contain_text("The pose dusk of night shoot waits for a face")
    expect(card.locator(".lacks")).to_have_text("no face")
    console.stack.table.ledger.stop_waiting("night shoot", "dusk")
    expect(card).to_have_count(0)


def test_a_failed_job_says_why_and_is_tried_again_once_the_price_is_agreed_to(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    studio.job("failed")
    page = visit(console)
    card = page.locator(".card")
    expect(card.locator(".why")).to_contain_text(FAILURES[1][1])
    card.get_by_role("button", name="Retry").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("not paid for again")
    question.get_by_role("button", name="Cancel").click()
    assert not console.pipeline.receive(console.pipeline.queue_url)

    card.get_by_role("button", name="Retry").click()
    page.get_by_role("button", name="Retry for $0.029").click()
    expect(page.locator(".toast")).to_contain_text("is retried")
    console.handle()
    expect(card).not_to_have_attribute("data-state", "failed")


def test_a_change_far_down_waits_for_its_page(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    far = console.seed(150, states=("queued",))[-1]
    deferral = {"reason_code": ReasonCode.UNAVAILABLE, "deferred_until": time.time() + 3600}
    console.write([replace(far, reason="there is no connection", **deferral)])
    page = visit(console)
    total, cards = page.locator("#total"), page.locator(".card")
    expect(total).to_have_text("150 jobs")
    newest = cards.first.get_attribute("data-job")
    with listening(console) as other:
        console.pipeline.clock.now += 3601
        other.wait("job", job_id=far.job_id, headline="waits for its turn")
    page.wait_for_timeout(500)
    assert cards.first.get_attribute("data-job") == newest
    expect(page.locator(f'[data-job="{far.job_id}"]')).to_have_count(0)
    expect(total).to_have_text("150 jobs")
    scroll_down(page, 150)
    assert cards.last.get_attribute("data-job") == far.job_id


def test_what_pauses_all_is_on_every_queued_card(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("queued")
    page = visit(console)
    state = page.locator(".card .state")
    expect(state).to_have_text("Waits for its turn")
    console.refuse_account("it answered 406")
    expect(state).to_have_text("Paused")
    expect(page.get_by_text("Submitting is paused")).to_be_visible()
    page.locator(".open").click()
    expect(page.locator(".explains")).to_contain_text("paused for the whole account: it answered 406")


@pytest.mark.parametrize(
    ("age", "state", "left"),
    [(5, "In the model", "left"), (36, "Finishing or being delivered", ""), (500, "In the model", "longer than usual")],
)
def test_a_job_in_the_model_says_how_far_it_probably_is(
    console: Console, studio: Studio, visit: Visit, age: float, state: str, left: str
) -> None:
    from playwright.sync_api import expect

    page = visit(console, at=(studio.job("running", age=age).submitted_at or 0.0) + age)
    expect(page.locator(".card .state")).to_have_text(state)
    expect(page.locator(".card .left")).to_contain_text(left)


def test_two_browsers_see_the_same(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    record = studio.job("queued")
    pages = [visit(console), visit(console)]
    console.change(record, status=Status.SUBMITTED, request_id="request-9", submitted_at=time.time())
    for page in pages:
        expect(page.locator(".card")).to_have_attribute("data-state", "running")


def test_the_stack_may_go_away_and_return(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    record = studio.job("queued")
    page = visit(console)
    console.down = True
    away = page.get_by_text("The stack cannot be reached.")
    expect(away).to_be_visible()
    expect(page.locator(".card")).to_have_count(1)
    console.change(record, status=Status.SUBMITTED, request_id="request-9", submitted_at=time.time())
    console.down = False
    expect(away).to_be_hidden()
    expect(page.get_by_text("The stack is back")).to_be_visible()
    expect(page.locator(".card")).to_have_attribute("data-state", "running")


def test_pictures_that_did_not_come_come_when_the_stack_is_back(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done")
    page = visit(console)
    console.down = True
    expect(page.get_by_text("The stack cannot be reached.")).to_be_visible()
    page.locator(".open").click()
    expect(page.locator(".stage .none")).to_be_visible()
    console.down = False
    expect(page.locator(".stage img")).to_be_visible()


def test_a_lost_connection_catches_up(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    record = studio.job("queued")
    page, watching = visit(console), visit(console)
    page.route("**/api/events", lambda route: route.abort())
    hang_up(console)
    expect(page.locator("#link")).not_to_have_attribute("data-link", "live")
    console.change(record, status=Status.SUBMITTED, request_id="request-9", submitted_at=time.time())
    expect(watching.locator(".card")).to_have_attribute("data-state", "running")
    expect(page.locator(".card")).to_have_attribute("data-state", "queued")
    expect(page.get_by_text("The console does not answer.")).to_be_visible()
    page.unroute("**/api/events")
    expect(page.locator("#link")).to_have_attribute("data-link", "live")
    expect(page.locator(".card")).to_have_attribute("data-state", "running")
    expect(page.get_by_text("The console does not answer.")).to_be_hidden()


def test_names_of_others_stay_text(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done", HOSTILE, "wide", age=50)
    studio.job("failed", HOSTILE, "dusk", error={"type": "Rejected", "message": HOSTILE})
    page = visit(console)
    expect(page.locator(".card .who").first).to_have_text(HOSTILE)
    expect(page.locator(".why")).to_contain_text(HOSTILE)
    page.locator(".open").first.click()
    expect(page.locator(".facts .who")).to_have_text(HOSTILE)
    page.keyboard.press("Escape")
    page.locator("#view-gallery").click()
    # The cards of the other view, with the same name as a heading, may still be there.
    expect(page.locator(".character h2")).to_have_text(HOSTILE)
    assert page.locator('img[src="x"]').count() == 0


def test_a_page_of_an_earlier_start_says_what_to_do(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    page.context.clear_cookies()
    page.locator("#view-gallery").click()
    expect(page.get_by_role("status").filter(has_text="python -m ops console printed")).to_be_visible()
    assert TOKEN not in page.content()


def test_a_page_that_missed_too_much_is_loaded_anew(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    record = studio.job("queued")
    page, watching = visit(console), visit(console)
    assert console.server
    events = console.server.console.feed.events
    events._kept = deque(maxlen=1)
    page.context.set_offline(True)
    hang_up(console)
    expect(page.locator("#link")).not_to_have_attribute("data-link", "live")
    console.change(record, status=Status.SUBMITTED, request_id="request-9", submitted_at=time.time())
    expect(watching.locator(".card")).to_have_attribute("data-state", "running")
    expect(page.locator(".card")).to_have_attribute("data-state", "queued")
    with page.expect_request(lambda request: "/api/jobs?limit=60" in request.url):
        page.context.set_offline(False)
    expect(page.locator(".card")).to_have_attribute("data-state", "running")
    expect(page.locator("#link")).to_have_attribute("data-link", "live")


def test_the_focus_stays_on_a_job_when_the_list_is_read_again(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    record = studio.job("done")
    studio.job("failed")
    page = visit(console)
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".card")).to_have_count(1)
    page.locator(f'[data-job="{record.job_id}"]').get_by_role("button").first.focus()
    page.go_back()
    expect(page.locator(".card")).to_have_count(2)
    expect(page.locator(f'[data-job="{record.job_id}"] :focus')).to_have_count(1)

    page.locator('.card[data-state="failed"]').get_by_role("button").first.focus()
    page.go_forward()
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator("#list")).to_be_focused()


def test_a_stack_that_hangs_is_reported_while_the_page_goes_on(
    console: Console, studio: Studio, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    monkeypatch.setattr("ops.console.feed.READ_DEADLINE", 3.0)
    studio.job("queued")
    studio.job("failed")
    page = visit(console)
    console.answering.clear()
    away = page.get_by_text("The stack cannot be reached.")
    expect(away).to_be_visible()
    expect(page.get_by_text("did not respond within 3 seconds")).to_be_visible()
    page.get_by_role("button", name="Failed").click()
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator("#link")).to_have_attribute("data-link", "live")
    console.answering.set()
    expect(away).to_be_hidden()


def test_a_new_start_is_reported_from_one_that_does_not_respond(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("queued")
    page = visit(console)
    port = int(console.base.rpartition(":")[2])
    console.stop()
    expect(page.get_by_text("The console does not answer.")).to_be_visible()
    console.start(port, "token-of-the-next-start")
    expect(page.get_by_text("This page belongs to an earlier start of the console.")).to_be_visible()
    expect(page.get_by_text("The console does not answer.")).to_be_hidden()
    expect(page.locator("#notices")).to_contain_text("Open the address that python -m ops console printed")
    page.context.new_page().goto(f"{console.base}/?token=token-of-the-next-start")
    expect(page.locator("#link")).to_have_attribute("data-link", "live")
    expect(page.locator("#notices")).to_be_empty()


def test_a_problem_goes_once_it_is_fixed(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("queued")
    page = visit(console)
    sqs, url = console.pipeline.sqs, console.pipeline.dead_letter_url
    for messages, texts in (
        (1, ["1 message in the dead-letter queue.Show and decide"]),
        (0, []),
    ):
        if messages:
            sqs.send_message(QueueUrl=url, MessageBody="?", DelaySeconds=0)
        else:
            sqs.purge_queue(QueueUrl=url)
        page.evaluate("dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator(".notice")).to_contain_text(texts)
        expect(page.locator(".notice")).to_have_count(len(texts))


def axe_in_all_colours(page: "Page") -> str:
    """What axe-core finds wrong with a page: in light by all rules, in dark by those that depend on colours."""
    found = ""
    schemes: dict[Literal["light", "dark"], tuple[str, ...]] = {"light": (), "dark": RULES_OF_COLOUR}
    for scheme, rules in schemes.items():
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found += axe(page, *rules)
    return found


@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_nothing(console: Console, studio: Studio, visit: Visit, width: int) -> None:
    from playwright.sync_api import expect

    states = ("submitting", "running", "delivering", "failed", "queued", "done")
    for number, (state, pose) in enumerate(zip(states, POSES, strict=True)):
        studio.job(state, "astrid", pose, age=number)
    studio.waiting("astrid", "at-the-camera", age=6)
    page = visit(console, width=width, reduced_motion="reduce")
    assert axe_in_all_colours(page) == ""
    page.locator(".open").first.click()
    expect(page.locator(".history li").first).to_be_visible()
    assert axe_in_all_colours(page) == ""
    page.keyboard.press("Escape")
    page.locator(".card").get_by_role("button", name="Retry").first.click()
    expect(page.get_by_role("dialog", name=re.compile("^Retry "))).to_be_visible()
    assert axe_in_all_colours(page) == ""
    page.get_by_role("button", name="Cancel").click()
    page.locator("#view-gallery").click()
    expect(page.locator(".tile").first).to_be_visible()
    assert axe_in_all_colours(page) == ""
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.locator(".tile .none").first).to_be_visible()
    assert axe_in_all_colours(page) == ""
    console.down = True
    expect(page.get_by_text("The stack cannot be reached.")).to_be_visible()
    assert axe_in_all_colours(page) == ""


@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_nothing_while_pictures_are_dropped(console: Console, visit: Visit, width: int) -> None:
    from playwright.sync_api import expect

    console.pipeline.break_call("s3", "PutObject")
    page = visit(console, width=width, reduced_motion="reduce")
    expect(page.locator("#empty")).to_be_visible()
    assert axe_in_all_colours(page) == ""
    files = {"face-astrid.png": data("face", 0), "broken.png": b"no image", "wide.png": data("pose", "wide")}
    drop_files(page, "body", files)
    page.get_by_label("Quality").fill("50")
    page.get_by_text("More", exact=True).click()
    expect(page.locator('.pairs [data-outcome="new"]')).to_be_visible()
    expect(page.locator('.pairs [data-outcome="refused"]')).to_be_visible()
    assert axe_in_all_colours(page) == ""
    page.get_by_role("button", name="Send 1 job").click()
    expect(page.locator(".tray h2")).to_contain_text("Not all was uploaded")
    assert axe_in_all_colours(page) == ""


# ---- what is asked of a person ---------------------------------------------------------------------------------------


def test_dead_letters_are_sent_again_or_discarded_one_by_one(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("queued")
    pipeline = console.pipeline
    sound = '{"job": {"bucket": "b", "character": "astrid", "pose": "walk", "upload": null}}'
    for body in (sound, "no JSON", '{"retry": "hero-walk-0123456789abcdef"}'):
        pipeline.sqs.send_message(QueueUrl=pipeline.dead_letter_url, MessageBody=body, DelaySeconds=0)
    page = visit(console)
    page.evaluate("dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("button", name="Show and decide").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("3 dead letters")
    expect(dialog.locator("li strong")).to_contain_text(
        ["astrid / walk", "cannot be read", "which does not exist. It will fail again"]
    )
    expect(dialog.get_by_role("button", name="Send again")).to_have_count(1)
    assert axe(page) == ""
    dialog.get_by_role("button", name="Send again").click()
    expect(dialog.get_by_role("heading")).to_have_text("2 dead letters")
    assert [message["Body"] for message in pipeline.receive(pipeline.queue_url)] == [sound]
    dialog.get_by_role("button", name="Discard", exact=True).first.click()
    expect(dialog.get_by_role("heading")).to_have_text("1 dead letter")
    dialog.get_by_role("button", name="Discard all").click()
    page.get_by_role("dialog", name="Discard 1 message?").get_by_role("button", name="Discard all").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(".notice")).to_have_count(0)


def test_a_pause_is_ended_from_the_page(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("queued")
    console.refuse_account("it answered 406")
    page = visit(console)
    page.get_by_role("button", name="Resume now").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("the next job is the probe")
    expect(page.get_by_role("button", name="Resume now")).to_have_count(0)
    assert not console.stack.gate.breaker.read().is_paused(time.time())
    assert "nothing to resume" in console.post("/api/resume", {}, status=409)["error"]


def test_each_time_has_one_name_and_one_value(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    at = time.time() - 60
    studio.job("done", age=60, created_at=at - 50, completed_at=at)
    page = visit(console)
    expect(page.locator(".card .state")).to_have_text("Done in 50 s")
    expect(page.locator(".cell.times")).to_contain_text("Upload to result")
    expect(page.locator(".cell.times")).to_contain_text("median 50 s")
    page.locator(".card .open").click()
    expect(page.locator(".numbers div", has_text="Upload to result").locator("dd")).to_have_text("50 s")


def test_costs_are_shown_by_character_and_month(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    for number, character in enumerate(("astrid", "astrid", "client-a/hero")):
        sent_at = time.time() - 100
        paid = Request(1, sent_at, RequestStatus.ACCEPTED, f"request-{number}", cost_usd=0.03, charged_usd=0.03)
        studio.job("done", character, "wide", age=100 * (number + 1), requests=[paid])
    page = visit(console)
    page.get_by_role("button", name="Spent today").click()
    dialog = page.get_by_role("dialog", name="Costs")
    expect(dialog).to_contain_text("$0.090 for 3 jobs")
    rows = dialog.get_by_role("table", name="By character").get_by_role("row")
    expect(rows).to_have_text(["NameJobsPaidOf it estimated", "astrid2$0.060none", "client-a/hero1$0.030none"])
    month = rfc3339(time.time())[:7]
    expect(dialog.get_by_role("table", name="By month")).to_contain_text(f"{month}3$0.090none")
    assert axe(page) == ""
