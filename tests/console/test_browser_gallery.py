"""Looking at results in a real browser."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.console.browser import Studio, data
from tests.console.conftest import Console
from tests.integration.conftest import BUCKET

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]


def test_the_gallery_shows_every_pose_beside_its_outputs_by_character(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    for age, (character, pose) in enumerate((("astrid", "wide"), ("client-a/hero", "dusk"), ("astrid", "portrait"))):
        studio.job("done", character, pose, age=100 + 100 * age)
    studio.job("failed", "astrid", "dusk", age=5)
    page = visit(console, "gallery")
    expect(page.locator(".character h2")).to_have_text(["astrid", "client-a/hero"])
    expect(page.locator(".character").first.locator(".tile .name")).to_have_text(["wide", "portrait"])
    expect(page.locator(".tile img")).to_have_count(9)
    sheet = page.get_by_role("link", name="Contact sheet").nth(1)
    answer = page.request.get(str(sheet.evaluate("link => link.href")))
    assert answer.body().startswith(b"\x89PNG")


def test_pictures_are_large_and_follow_the_arrow_keys(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    jobs = [studio.job("done", "astrid", pose, age=10 + age) for age, pose in enumerate(("wide", "dusk", "portrait"))]
    page = visit(console, "gallery")
    page.locator(".tile .output").first.click()
    title = page.locator(".facts h2")
    for pose in ("wide", "dusk", "portrait", "portrait"):
        expect(title).to_have_text(pose)
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(title).to_have_text("dusk")
    page.get_by_role("button", name="Face", exact=True).click()
    expect(page.locator(".stage img")).to_have_attribute("alt", "Face")
    page.keyboard.press("Escape")
    expect(page.locator(".viewer")).to_be_hidden()
    expect(page.locator(f'[data-job="{jobs[1].job_id}"] button').first).to_be_focused()


def test_a_picture_is_downloaded_and_its_seed_and_parameters_are_copied(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    job = studio.job("done", parameters={"prompt": "rain", "seed": 9223372036854775807, "samples": 1})
    page = visit(console, "gallery", permissions=["clipboard-read", "clipboard-write"])
    page.locator(".tile .output").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    assert download.value.suggested_filename.endswith(".png")
    page.get_by_role("button", name="Copy the seed").click()
    expect(page.locator(".toast")).to_contain_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == str(job.parameters["seed"])
    page.get_by_text("Parameters", exact=True).click()
    page.get_by_role("button", name="Copy as JSON").click()
    page.wait_for_function(
        "navigator.clipboard.readText().then((text) => text.includes('\"seed\":9223372036854775807'))"
    )


def test_another_seed_is_asked_about_before_it_is_paid(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done")
    console.pipeline.s3.put_object(Bucket=BUCKET, Key="incoming/astrid/face.png", Body=data("face", 0))
    page = visit(console, "gallery")
    page.locator(".tile .output").click()
    another = page.get_by_role("button", name="Another seed")
    another.click()
    page.get_by_role("dialog", name="Again with another seed?").get_by_role("button", name="Cancel").click()
    console.handle()
    assert not console.pipeline.provider.posts

    another.click()
    question = page.get_by_role("dialog", name="Again with another seed?")
    expect(question).to_contain_text("0.0294 USD")
    question.get_by_label("Seed").fill("17")
    question.get_by_role("button", name="Make it for $0.029").click()
    expect(page.locator(".toast")).to_contain_text("astrid / portrait-17 is on its way")
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    console.handle()
    assert console.pipeline.provider.posts[-1]["seed"] == 17


def test_filters_by_character_state_time_and_text_stay_in_the_address(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    studio.job("done", "astrid", "wide", age=7200)
    studio.job("done", "client-a/hero", "dusk", age=10)
    studio.job("failed", "astrid", "portrait", age=5, error={"type": "Rejected", "message": "no"})
    page = visit(console)
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    poses = page.locator(".card .pose")
    expect(poses).to_have_text(["portrait", "dusk", "wide"])
    page.get_by_role("button", name="Done").click()
    expect(poses).to_have_text(["dusk", "wide"])
    page.get_by_label("Time").select_option("1")
    expect(poses).to_have_text(["dusk"])
    page.get_by_role("button", name="All", exact=True).click()
    page.locator("#character").select_option("astrid")
    expect(poses).to_have_text(["portrait"])
    page.get_by_label("Time").select_option("")
    page.get_by_label("Search in").fill("wide")
    expect(poses).to_have_text(["wide"])
    expect(page.locator("#total")).to_have_text("1 job found")
    page.reload()
    expect(poses).to_have_text(["wide"])
    page.get_by_label("Search in").fill("nothing like it")
    page.get_by_role("button", name="Show all").click()
    expect(poses).to_have_count(3)


def test_a_result_joins_the_gallery_by_itself(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done", "astrid", "wide", age=60)
    record = studio.job("delivering", "client-a/hero", "dusk")
    page = visit(console, "gallery")
    expect(page.locator(".tile")).to_have_count(1)
    console.change(record, notified_at=record.completed_at)
    expect(page.locator(".character h2")).to_have_text(["client-a/hero", "astrid"])


def test_the_gallery_shows_other_states_when_they_are_asked_for(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done", "astrid", "wide", age=60)
    failed = studio.job("failed", "astrid", "portrait", age=5)
    page = visit(console, "gallery")
    expect(page.get_by_role("button", name="Done")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".tile .name")).to_have_text(["wide"])
    expect(page.locator(".character .number").first).to_have_text("1 of 2 jobs here")
    page.get_by_role("button", name="Failed").click()
    expect(page.locator(".tile .name")).to_have_text(["portrait"])
    page.locator(".tile .output").click()
    expect(page.locator(".explains")).to_contain_text(failed.error["message"])
    page.keyboard.press("Escape")
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.locator(".tile .name")).to_have_text(["portrait", "wide"])
    expect(page.locator(".character .number").first).to_have_text("2 jobs")


def test_what_is_told_over_a_dialog_can_be_reached_there(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done")
    page = visit(console, "gallery")
    page.locator(".tile .output").click()
    page.get_by_role("button", name="Another seed").click()  # the face is not in the bucket any more
    told = page.locator(".viewer .toast")
    expect(told).to_contain_text("another one now")
    expect(page.locator(".viewer > [aria-live]")).to_be_visible()
    told.get_by_role("button", name="Close").click()
    expect(told).to_have_count(0)
    page.get_by_role("button", name="Another seed").click()
    expect(told).to_be_visible()
    page.locator(".viewer").get_by_role("button", name="Close", exact=True).first.click()
    expect(page.locator("body > .toasts .toast")).to_contain_text("another one now")
