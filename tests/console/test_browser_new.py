"""Dropping pictures onto the page, in a real browser."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pillow_heif
import pytest

from tests.console.browser import data, drop_files, drop_folder
from tests.console.conftest import Console
from tests.corpus import encode, exif, picture
from tests.integration.conftest import BUCKET

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytest_plugins = ["tests.console.browser"]

Visit = Callable[..., "Page"]
POSES = ("at-the-camera", "close-up", "wide")


def pictures() -> dict[str, bytes]:
    """A face and three poses."""
    return {"face-astrid.png": data("face", 0), **{f"{name}.png": data("pose", name) for name in POSES}}


def test_a_face_and_three_poses_go_all_the_way(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    provider = console.pipeline.provider
    provider.submits = [httpx.Response(200, json={"request_id": f"request-{n}", "status": "QUEUED"}) for n in range(4)]
    provider.media = [httpx.Response(200, content=data("output", "astrid", "wide", 7))]
    page = visit(console)
    expect(page.get_by_role("heading", name="Drop a face and a pose here")).to_be_visible()

    drop_files(page, "body", pictures())
    page.get_by_role("textbox", name="Prompt").fill("walking through the rain")
    pairs = page.locator(".pairs li")
    expect(pairs).to_have_count(3)
    expect(pairs.locator("img")).to_have_count(3)
    expect(page.locator(".composer").get_by_role("combobox", name="Character")).to_have_value("astrid")
    expect(pairs.locator(".outcome")).to_have_text([re.compile(r"New · \$0\.029")] * 3)
    send = page.get_by_role("button", name="Send 3 jobs for about $0.088")
    expect(send).to_be_enabled()
    assert not provider.requests
    assert not console.pipeline.s3.list_objects_v2(Bucket=BUCKET).get("Contents")

    with console.held("PutObject"):
        send.click()
        # All of it is there at once, and nothing was uploaded.
        expect(page.locator('.card[data-state="sending"]')).to_have_count(3)
        expect(page.locator('.card[data-state="sending"] .frame img')).to_have_count(6)
        expect(page.locator(".tray h2")).to_have_text("Uploading: 0 of 7 files")
        assert not console.pipeline.s3.list_objects_v2(Bucket=BUCKET).get("Contents")
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    console.handle()
    cards = page.locator(".card")
    expect(cards).to_have_count(3)
    expect(page.locator('.card[data-state="running"] .ring')).to_have_count(3)
    console.finish()
    expect(page.locator('.card[data-state="done"] .result img')).to_have_count(3)

    page.locator(".card .open").first.click()
    expect(page.locator(".viewer .stage img")).to_be_visible()
    assert page.locator(".viewer .stage img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_what_the_contract_refuses_is_said_before_anything_is_sent(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "broken.png": b"no image", "notes.txt": b""})
    page.get_by_role("textbox", name="Prompt").fill("walking through the rain")
    expect(page.locator('.pairs [data-outcome="refused"]')).to_have_count(2)
    expect(page.locator(".pairs .size")).to_have_text(["8 B", "0 B"])
    expect(page.locator(".pairs li", has=page.locator("img, svg")).nth(1).locator(".why")).not_to_be_empty()
    expect(page.locator(".composer .primary")).to_be_disabled()


def test_without_a_prompt_a_pose_will_wait_and_costs_nothing(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    console.stack.parameters["DefaultPrompt"] = ""  # type: ignore[index]
    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    expect(page.locator(".pairs .why")).to_have_text("it will wait for a prompt")
    expect(page.locator(".composer .primary")).to_have_text("Upload, nothing is paid yet")


def test_every_drop_has_a_character_of_its_own(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    character = page.locator(".composer").get_by_role("combobox", name="Character")
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    expect(character).to_have_value("astrid")
    drop_files(page, ".composer", {"face-ulrike.png": data("face", 1)})
    expect(character).to_have_value("ulrike")
    page.get_by_role("textbox", name="Prompt").fill("rain")
    page.get_by_role("button", name="Send 1 job").click()
    expect(page.locator(".composer")).to_be_hidden()
    drop_files(page, "body", {"close-up.png": data("pose", "close-up")})
    expect(page.locator(".in-words")).to_have_text("Give the character a name.")
    character.fill("mine")
    drop_files(page, ".composer", {"face-astrid.png": data("face", 0)})
    expect(character).to_have_value("mine")


@pytest.mark.parametrize("status", [202, 503])
def test_what_is_dropped_while_an_upload_is_announced_is_taken_after_it(
    console: Console, visit: Visit, status: int
) -> None:
    from playwright.sync_api import Route, expect

    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    page.get_by_role("textbox", name="Prompt").fill("rain")
    held: list[Route] = []
    page.route("**/api/uploads", lambda route: held.append(route))
    with page.expect_request("**/api/uploads"):
        page.get_by_role("button", name="Send 1 job").click()
    expect(page.locator(".composer")).to_be_hidden()
    drop_files(page, "body", {"dusk.png": data("pose", "dusk")})
    (route,) = held
    if status == 202:
        route.continue_()
        expect(page.locator(".in-words")).to_have_text("Give the character a name.")
    else:
        route.fulfill(status=status, json={"error": "The stack cannot be reached."})
    poses = page.locator(".pairs li:not(.face)")
    expect(poses).to_have_count(1 if status == 202 else 2)
    prompt = page.get_by_role("textbox", name="Prompt")
    expect(prompt).to_have_value("" if status == 202 else "rain")


def test_files_are_chosen_by_keyboard_alone(console: Console, visit: Visit) -> None:
    from playwright.sync_api import FilePayload, expect

    page = visit(console)
    # With a listener, choosers are intercepted from here on. Without one, interception begins with the key press.
    page.on("filechooser", lambda _: None)
    for _ in range(4):
        page.keyboard.press("Tab")
    expect(page.locator("#new")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".composer").get_by_role("combobox", name="Character")).to_be_focused()
    page.keyboard.type("astrid")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Face", exact=True)).to_be_focused()
    for name in ("face", "wide"):
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        content = data("face", 0) if name == "face" else data("pose", name)
        chooser.value.set_files([FilePayload(name=f"{name}.png", mimeType="image/png", buffer=content)])
        page.keyboard.press("Tab")
    expect(page.locator(".pairs li")).to_have_count(1)
    expect(page.locator(".well.face img")).to_be_visible()


def test_parameters_come_from_the_schema_and_keep_64_bits(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    page.get_by_role("textbox", name="Prompt").fill("rain")
    page.get_by_label("Seed", exact=True).fill("9223372036854775808")
    expect(page.locator("#p-seed-error")).to_contain_text("9223372036854775807")
    expect(page.locator(".composer .primary")).to_be_disabled()
    page.get_by_label("Seed", exact=True).fill("9223372036854775807")
    page.get_by_role("group", name="Pictures").get_by_role("radio", name="4").check()
    page.get_by_label("As large as the pose").uncheck()
    expect(page.get_by_label("Width")).to_be_visible()
    page.get_by_role("button", name="Send 1 job for about $0.029").click()
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    sent = console.pipeline.s3.get_object(Bucket=BUCKET, Key="incoming/astrid/poses/wide.json")["Body"].read()
    expected = {"prompt": "rain", "samples": 4, "seed": 9223372036854775807, "use_input_img_dimension": False}
    assert json.loads(sent) == expected


def test_what_nobody_set_is_shown_and_stays_as_the_files_there_say(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    console.pipeline.put("incoming/astrid/job.json", {"samples": 4, "prompt": "in a hall", "seed": 2**63 - 1})
    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    pictures = page.get_by_role("group", name="Pictures")
    expect(pictures.get_by_role("radio", name="4")).to_be_checked()
    expect(page.locator("#p-samples-there")).to_have_text("As the files that are there say.")
    expect(page.get_by_role("textbox", name="Prompt")).to_have_attribute("placeholder", "in a hall")
    expect(page.locator("#p-seed")).to_have_attribute("placeholder", str(2**63 - 1))
    expect(page.locator("#p-seed-hint")).to_contain_text(f"{-(2**63)} to {2**63 - 1}")
    page.get_by_label("Quality").fill("50")
    pictures.get_by_role("radio", name="1").check()
    expect(page.locator("#p-samples-there")).to_be_hidden()
    page.get_by_role("button", name="Send 1 job").click()
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    sent = console.pipeline.s3.get_object(Bucket=BUCKET, Key="incoming/astrid/poses/wide.json")["Body"].read()
    assert json.loads(sent) == {"quality": 50, "samples": 1}


def test_a_pose_keeps_the_name_that_is_typed_and_files_are_sent_once(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/api/files") else None)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    page.get_by_role("textbox", name="Prompt").fill("rain")
    send = page.get_by_role("button", name="Send 1 job")
    name = page.get_by_role("textbox", name="Name of the pose")
    for typed in ("a/b", "pose-1"):
        expect(send).to_be_enabled()
        name.fill(typed)
        expect(page.locator(".composer .primary")).to_be_disabled()
        if typed == "a/b":
            expect(page.locator(".pairs .why")).to_contain_text("poses/a/b.png")
            name.fill("x")
    send.click()
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    assert len(sent) == 2
    keys = [entry["Key"] for entry in console.pipeline.s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert "incoming/astrid/poses/pose-1.png" in keys


def test_files_that_the_console_does_not_keep_any_more_are_sent_again(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    page.get_by_role("textbox", name="Prompt").fill("rain")
    send = page.get_by_role("button", name="Send 1 job")
    expect(send).to_be_enabled()
    assert console.server
    console.server.console.acting.staging._files.clear()
    send.click()
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")


def test_a_face_alone_that_is_no_image_is_refused(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": b"no image"})
    expect(page.locator(".refusals")).to_contain_text("face-astrid.png is text")
    expect(page.locator(".composer .primary")).to_be_disabled()


def test_what_costs_more_by_now_is_asked_about_again(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    page.get_by_role("textbox", name="Prompt").fill("rain")
    send = page.locator(".composer .primary")
    expect(send).to_have_text("Send 1 job for about $0.029")
    console.pipeline.put("incoming/astrid/poses/dusk.png", data("pose", "dusk"))
    console.pipeline.put("incoming/astrid/poses/dusk.json", {"prompt": "rain"})
    send.click()
    expect(page.locator(".toast")).to_contain_text("check the plan again")
    expect(send).to_have_text("Send 2 jobs for about $0.059")
    expect(page.locator(".refusals")).to_contain_text("dusk")


def test_an_upload_is_seen_in_every_browser(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    other, page = visit(console), visit(console)
    console.pipeline.break_call("s3", "PutObject")
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    page.get_by_role("button", name="Send 1 job").click()
    for each in (page, other):
        expect(each.locator(".tray .upload")).to_have_count(1)
        expect(each.locator(".tray h2")).to_contain_text("Not all was uploaded: 0 of 2 files")


def folder(name: str, poses: tuple[str, ...] = ("wide", "dusk"), number: int = 0) -> dict[str, bytes]:
    """A folder with a face and poses."""
    return {f"{name}/face.png": data("face", number), **{f"{name}/{each}.png": data("pose", each) for each in poses}}


def on_disk(root: Path, files: dict[str, bytes]) -> Path:
    """Write files below a directory, and return it."""
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return root


def test_folders_become_characters_that_are_previewed_before_anything_is_sent(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    files = {
        **folder("shoot/astrid"),
        **folder("shoot/hero", number=1),
        "shoot/hero/poses/._wide.png": b"side",
        "shoot/hero/.DS_Store": b"side",
        "shoot/hero/notes.txt": b"hello",
        "shoot/hero/broken.png": b"no image",
        "shoot/nobody/wide.png": data("pose", "wide"),
        "shoot/nobody/close-up.png": data("pose", "close-up"),
        "shoot/empty/readme.txt": b"hello",
        "shoot/last/face.png": data("face", 2),
        "shoot/last/portrait.png": data("pose", "portrait"),
    }
    drop_folder(page, "body", files)
    page.get_by_role("textbox", name="Prompt").fill("rain")
    groups = page.locator(".group")
    expect(groups.locator("summary strong")).to_have_text(["shoot/astrid", "shoot/hero", "shoot/last", "shoot/nobody"])
    expect(groups.locator(".counts")).to_have_text(["2 jobs, $0.059", "2 jobs, $0.059", "1 job, $0.029", "2 will wait"])
    expect(groups.locator(".wrong")).to_have_text(
        ["", re.compile("^1 refused: broken: this is text"), "", "No face: choose which picture it is"]
    )
    expect(page.locator(".left-out summary")).to_have_text("2 files left out, 2 side files ignored")
    expect(page.locator(".in-words")).to_contain_text("4 characters, 5 new jobs at $0.029 each, 2 will wait, 1 refused")
    assert not console.pipeline.s3.list_objects_v2(Bucket=BUCKET).get("Contents")

    # Any picture can be the face.
    groups.last.locator("summary").click()
    groups.last.get_by_role("button", name="Make close-up the face").click()
    expect(groups.last.locator(".counts")).to_have_text("1 job, $0.029")
    groups.nth(2).locator("summary").click()
    groups.nth(2).get_by_role("button", name="Leave this character out").click()
    page.get_by_role("button", name="Send 5 jobs for about $0.15").click()
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    keys = [entry["Key"] for entry in console.pipeline.s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert [key for key in keys if "nobody" in key or "broken" in key] == [
        "incoming/shoot/nobody/face.png",
        "incoming/shoot/nobody/poses/wide.json",
        "incoming/shoot/nobody/poses/wide.png",
    ]
    console.handle()
    expect(page.locator('.card[data-state="running"]')).to_have_count(5)


def test_a_folder_is_chosen_by_keyboard_and_its_job_files_count(console: Console, visit: Visit, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    files = folder("astrid", ("wide",))
    own = {"astrid/job.json": b'{"samples": 4}', "astrid/wide.json": b'{"prompt": "in a hall"}'}
    root = on_disk(tmp_path, {**files, **own})
    page = visit(console)
    page.on("filechooser", lambda _: None)
    page.keyboard.press("n")
    page.get_by_role("button", name="Choose a folder").focus()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(root / "astrid")
    expect(page.locator(".composer").get_by_role("combobox", name="Character")).to_have_value("astrid")
    expect(page.get_by_role("textbox", name="Prompt")).to_be_focused()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_attribute("placeholder", "in a hall")
    expect(page.get_by_role("group", name="Pictures").get_by_role("radio", name="4")).to_be_checked()


@pytest.mark.parametrize("kind", ["jpg", "heic"])
def test_photographs_are_shown_as_they_will_be_sent(console: Console, visit: Visit, kind: str) -> None:
    from playwright.sync_api import expect

    sideways = picture(size=(640, 480))
    if kind == "heic":
        out = io.BytesIO()
        pillow_heif.from_pillow(sideways).save(out, exif=exif(6))
        photograph = out.getvalue()
    else:
        photograph = encode(sideways, "JPEG", exif=exif(6))
    page = visit(console)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), f"wide.{kind}": photograph})
    shown = page.locator(".pairs li img")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [360, 480]
    words = "sent as JPEG or PNG" if kind == "heic" else "sent turned upright, without metadata"
    expect(page.locator(".pairs .how")).to_have_text(f", {words}")


def test_files_go_on_coming_after_the_console_was_away(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    lost: list[str] = []

    def lose(route: "Route") -> None:
        lost.append(route.request.url)
        if len(lost) <= 2:
            route.abort()
        else:
            route.continue_()

    page.route("**/api/files", lose)
    drop_files(page, "body", {"face-astrid.png": data("face", 0), "wide.png": data("pose", "wide")})
    expect(page.get_by_role("button", name="Send 1 job")).to_be_enabled()
    assert len(lost) == 4


def test_an_upload_that_stopped_goes_on_where_it_stopped(console: Console, visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(console)
    console.pipeline.break_call("s3", "PutObject", times=1)
    drop_files(page, "body", pictures())
    page.get_by_role("button", name="Send 3 jobs").click()
    expect(page.locator(".tray h2")).to_contain_text("Not all was uploaded")
    expect(page.locator('.card[data-state="sending"] .state').first).to_have_text("Not uploaded")
    page.locator(".tray").get_by_role("button", name="Resume").click()
    expect(page.locator(".tray h2")).to_have_text("Uploaded: 4 of 4 files")
    console.handle()
    expect(page.locator('.card[data-state="running"]')).to_have_count(3)


def test_from_the_folder_to_the_results_by_keyboard_alone(console: Console, visit: Visit, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    provider = console.pipeline.provider
    provider.submits = [httpx.Response(200, json={"request_id": f"request-{n}", "status": "QUEUED"}) for n in range(2)]
    provider.media = [httpx.Response(200, content=data("output", "astrid", "wide", 7))]
    root = on_disk(tmp_path, folder("astrid"))
    page = visit(console)
    page.on("filechooser", lambda _: None)
    page.keyboard.press("n")
    expect(page.locator(".composer").get_by_role("combobox", name="Character")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent") == "Choose a folder":
            break
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(root / "astrid")
    expect(page.get_by_role("textbox", name="Prompt")).to_be_focused()
    page.keyboard.type("in the snow")
    expect(page.get_by_role("button", name="Send 2 jobs for about $0.059")).to_be_enabled()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".tray h2")).to_contain_text("Uploaded:")
    console.handle()
    console.finish()
    expect(page.locator('.card[data-state="done"] .result img')).to_have_count(2)
    page.locator("#list").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Control+a")
    bar = page.get_by_role("region", name="Selection")
    expect(bar.locator("strong")).to_have_text("2 selected")
    page.locator(".card .open").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".viewer .stage img")).to_be_visible()
    page.keyboard.press("s")
    expect(page.locator(".stage img")).to_have_count(3)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".position")).to_have_text("2 of 2")
    page.keyboard.press("Escape")
    expect(page.locator(".viewer")).to_be_hidden()
