"""Viewing results in a real browser."""

import re
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.console.browser import CHARACTERS, POSES, Studio, axe, data
from tests.console.conftest import Console
from tests.integration.conftest import BUCKET
from tests.support import until

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


def test_more_seeds_are_asked_about_before_they_are_paid(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done")
    console.pipeline.s3.put_object(Bucket=BUCKET, Key="incoming/astrid/face.png", Body=data("face", 0))
    page = visit(console, "gallery")
    page.locator(".tile .output").click()
    more = page.get_by_role("button", name="More seeds")
    more.click()
    question = page.get_by_role("dialog", name="More seeds of portrait?")
    question.get_by_role("button", name="Cancel").click()
    console.handle()
    assert not console.pipeline.provider.posts

    more.click()
    question.get_by_role("radio", name="8").check()
    expect(question.get_by_role("button", name="Make 8 for $0.24")).to_be_visible()
    question.get_by_role("radio", name="1").check()
    question.get_by_label("Seed").fill("17")
    question.get_by_role("button", name="Make 1 for $0.029").click()
    expect(page.locator(".toast")).to_contain_text("astrid / portrait-17 is queued")
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    console.handle()
    assert console.pipeline.provider.posts[-1]["seed"] == 17


def test_variants_of_a_pose_lie_in_one_stack_and_are_compared(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    first = studio.job("done", "astrid", "wide", age=300)
    seed = first.parameters["seed"] + 1
    studio.job("done", "astrid", f"wide-{seed}", age=200, parameters={"prompt": "snow", "seed": seed, "samples": 1})
    studio.job("done", "astrid", "dusk", age=100)
    page = visit(console, "gallery")
    expect(page.locator(".tile .name")).to_have_text(["dusk", f"wide-{seed}"])
    expect(page.locator(".tile .variants")).to_have_text("2 variants")
    expect(page.locator(".character .number").first).to_have_text("3 jobs")
    page.locator(".tile .output").nth(1).click()
    page.get_by_role("button", name=f"Variant wide, seed {first.parameters['seed']}").click()
    expect(page.locator(".facts h2")).to_have_text("wide")
    page.get_by_role("button", name="Compare variants").click()
    expect(page.locator(".stage img")).to_have_count(2)
    expect(page.locator(".compared").first).to_contain_text("snow")
    page.keyboard.press("z")
    images = page.locator(".stage img")
    expect(images.first).to_have_attribute("src", re.compile("size=original"))
    sizes = images.first.evaluate(
        "image => image.decode().then(() => [image.getBoundingClientRect().width, image.naturalWidth])"
    )
    assert sizes[0] == sizes[1]


def test_face_and_pose_stand_beside_the_result(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done")
    page = visit(console, "gallery")
    page.locator(".tile .output").click()
    expect(page.locator(".stage img")).to_have_count(1)
    page.keyboard.press("s")
    expect(page.locator(".stage figcaption")).to_have_text(["Face", "Pose", "Output 1"])
    expect(page.get_by_role("button", name="Side by side")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("s")
    expect(page.locator(".stage img")).to_have_count(1)


IN_SIGHT = """figure => {
    const [pane, stage] = [figure, figure.closest(".stage")].map((element) => element.getBoundingClientRect());
    return pane.left >= stage.left - 1 && pane.right <= stage.right + 1;
}"""


def test_on_a_telephone_they_are_swiped_and_each_is_large(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done")
    page = visit(console, "gallery", width=400, height=860)
    page.locator(".tile .output").click()
    page.keyboard.press("s")
    face, _, output = (page.locator(".stage .pane").nth(at) for at in range(3))
    until(lambda: output.evaluate(IN_SIGHT))  # the one that was open
    assert not face.evaluate(IN_SIGHT)
    assert output.bounding_box()["width"] > 290  # type: ignore[index]
    page.get_by_role("button", name="Face", exact=True).click()
    until(lambda: face.evaluate(IN_SIGHT))
    page.get_by_role("region", name="Side by side").focus()
    until(lambda: page.keyboard.press("ArrowRight") or output.evaluate(IN_SIGHT))
    expect(page.locator(".facts h2")).to_have_text("portrait")  # the keys scrolled, and went to no other job
    assert not axe(page)


def test_many_pictures_are_offered_as_several_sheets(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    console.seed(35, states=("done",), characters=1)
    page = visit(console)
    expect(page.locator(".card").first).to_be_visible()
    page.keyboard.press("Control+a")
    page.get_by_role("button", name="Contact sheet").click()
    links = page.get_by_role("dialog").get_by_role("link")
    expect(links).to_have_text(["Pictures 1 to 30", "Pictures 31 to 35"])
    assert not axe(page)
    answer = page.request.get(str(links.last.evaluate("link => link.href")))
    assert answer.headers["content-type"] == "image/png"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")

    page.locator("#view-gallery").click()
    page.get_by_role("link", name="Contact sheet").click()
    expect(links).to_have_text(["Pictures 1 to 30", "Pictures 31 to 35"])


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_job_is_changed_and_sent_again(console: Console, studio: Studio, visit: Visit, state: str) -> None:
    from playwright.sync_api import expect

    job = studio.job(state, "astrid", "portrait")
    console.pipeline.s3.put_object(Bucket=BUCKET, Key="incoming/astrid/face.png", Body=data("face", 0))
    page = visit(console)
    page.locator(".card .open").click()
    page.get_by_role("button", name="Edit and send again").click()
    prompt = page.get_by_role("textbox", name="Prompt")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_value(job.parameters["prompt"])
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(job.parameters["seed"]))
    name = "portrait-2" if state == "done" else "portrait"
    expect(page.get_by_label("Name of the pose")).to_have_value(name)
    expect(page.locator(".pairs img")).to_be_visible()
    prompt.fill("in the snow")
    page.get_by_role("button", name="Send 1 job for about $0.029").click()
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    console.handle()
    sent = console.pipeline.provider.posts[-1]
    assert (sent["prompt"], sent["seed"]) == ("in the snow", job.parameters["seed"])
    expect(page.locator(".card")).to_have_count(2)


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
    assert failed.error
    expect(page.locator(".explains")).to_contain_text(failed.error["message"])
    page.keyboard.press("Escape")
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.locator(".tile .name")).to_have_text(["portrait", "wide"])
    expect(page.locator(".character .number").first).to_have_text("2 jobs")


def test_what_is_reported_over_a_dialog_can_be_reached_there(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    job = studio.job("done")
    page = visit(console, "gallery")
    page.locator(".tile .output").click()
    expect(page.locator(".history li").first).to_be_visible()
    console.pipeline.s3.delete_object(Bucket=BUCKET, Key=job.inputs["face"]["key"])
    page.get_by_role("button", name="More seeds").click()
    toast = page.locator(".viewer .toast")
    expect(toast).to_contain_text("cannot be read any more")
    expect(page.locator(".viewer > [aria-live]")).to_be_visible()
    toast.get_by_role("button", name="Close").click()
    expect(toast).to_have_count(0)
    page.get_by_role("button", name="More seeds").click()
    expect(toast).to_be_visible()
    page.locator(".viewer").get_by_role("button", name="Close", exact=True).first.click()
    expect(page.locator("body > .toasts .toast")).to_contain_text("cannot be read any more")


# ---- many at once ----------------------------------------------------------------------------------------------------


def test_jobs_are_selected_by_mouse_with_shift_and_all_that_failed_are_tried_again(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    for age, state in enumerate(("done", "failed", "done", "failed", "done")):
        error = {"error": {"type": "InferenceFailed", "message": "out of memory"}} if state == "failed" else {}
        studio.job(state, "astrid", list(POSES)[age], age=100 * (age + 1), **error)
    page = visit(console)
    boxes = page.locator(".card .pick")
    boxes.first.click()
    bar = page.get_by_role("region", name="Selection")
    expect(bar.locator("strong")).to_have_text("1 selected")
    boxes.nth(3).click(modifiers=["Shift"])
    expect(bar.locator("strong")).to_have_text("4 selected")
    boxes.nth(2).click()
    expect(bar.locator("strong")).to_have_text("3 selected")
    bar.get_by_role("button", name="Select all").click()
    expect(bar.locator("strong")).to_have_text("5 selected")
    bar.get_by_role("button", name="Retry 2").click()
    page.get_by_role("button", name="Retry for $0.059").click()
    expect(page.locator(".toast")).to_contain_text("2 jobs are retried")
    assert len(console.pipeline.receive(console.pipeline.queue_url)) == 2
    page.keyboard.press("Escape")
    expect(bar).to_be_hidden()


def test_jobs_are_selected_downloaded_and_compared_by_keyboard_alone(
    console: Console, studio: Studio, visit: Visit
) -> None:
    from playwright.sync_api import expect

    for age, name in enumerate(("wide", "dusk", "portrait")):
        studio.job("done", "astrid", name, age=100 * (age + 1))
    page = visit(console)
    expect(page.locator(".card")).to_have_count(3)
    page.locator(".card .open").first.focus()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    bar = page.get_by_role("region", name="Selection")
    expect(bar.locator("strong")).to_have_text("2 selected")
    with page.expect_download() as download:
        bar.get_by_role("button", name="Download ZIP").press("Enter")
    with zipfile.ZipFile(download.value.path()) as found:
        assert found.testzip() is None
        assert found.namelist() == ["astrid/wide.png", "astrid/dusk.png", "jobs.json"]
        assert found.read("astrid/wide.png").startswith(b"\x89PNG")
    with page.context.expect_page() as opened:
        bar.get_by_role("button", name="Contact sheet").press("Enter")
    opened.value.wait_for_url("**/api/selection/*.png")
    opened.value.close()
    bar.get_by_role("button", name="Compare").press("Enter")
    expect(page.locator(".stage img")).to_have_count(2)
    page.keyboard.press("Escape")
    page.locator(".card .open").first.focus()
    page.keyboard.press("Control+a")
    expect(bar.locator("strong")).to_have_text("3 selected")


def test_selected_jobs_are_changed_and_sent_again_as_one(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    for number, character in enumerate(("astrid", "client-a/hero")):
        studio.job("done", character, "wide", age=100 * (number + 1))
        face = data("face", CHARACTERS.index(character))
        console.pipeline.s3.put_object(Bucket=BUCKET, Key=f"incoming/{character}/face.png", Body=face)
    page = visit(console)
    page.locator(".card .open").first.focus()
    page.keyboard.press("Control+a")
    page.get_by_role("region", name="Selection").get_by_role("button", name="Edit and send again").click()
    expect(page.locator(".group summary strong")).to_have_text(["astrid", "client-a/hero"])
    page.get_by_role("textbox", name="Prompt").fill("in the snow")
    page.get_by_role("button", name="Send 2 jobs for about $0.059").click()
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    console.handle()
    assert [post["prompt"] for post in console.pipeline.provider.posts] == ["in the snow"] * 2


def test_back_leads_through_the_filters(console: Console, studio: Studio, visit: Visit) -> None:
    from playwright.sync_api import expect

    studio.job("done", "astrid", "wide", age=100)
    studio.job("failed", "astrid", "portrait", age=50)
    page = visit(console)
    page.get_by_role("button", name="Failed").click()
    expect(page.locator(".card")).to_have_count(1)
    address = page.url
    assert address.endswith("#jobs?state=failed")
    page.locator("#view-gallery").click()
    expect(page.locator(".tile")).to_have_count(1)
    page.go_back()
    expect(page.locator(".card .pose")).to_have_text("portrait")
    page.go_back()
    expect(page.locator(".card")).to_have_count(2)
    other = page.context.new_page()
    other.goto(address)
    expect(other.locator(".card .pose")).to_have_text("portrait")
