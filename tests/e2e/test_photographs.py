"""A phone's pictures through the deployed stack, one by one; its whole folder is in test_early.py."""

from collections.abc import Callable
from typing import Any

from local.pipeline import records
from local.stack import LocalStack
from tests.corpus import encode
from tests.e2e.early import FILM, heic, scene

Record = dict[str, Any]


def test_a_picture_that_comes_behind_its_film(
    stack: LocalStack, upload: Callable[..., None], wait_for_record: Callable[[str, str, str], Record]
) -> None:
    upload("film", {"face.jpg": encode(scene("red"), "JPEG"), "job.json": b'{"prompt": "x"}', "poses/walk.MOV": FILM})
    waiting = wait_for_record("film", "walk", "WAITING")
    assert "is a video: read again for two minutes" in waiting["reason"]
    upload("film", {"poses/walk.HEIC": heic(scene("blue"))})
    wait_for_record("film", "walk", "SUCCEEDED")
    assert len(records(stack, "film")) == 1


def test_a_damaged_heic_is_notified_by_name(
    stack: LocalStack,
    upload: Callable[..., None],
    wait_for_record: Callable[[str, str, str], Record],
    wait_for_notification: Callable[[str], Record],
) -> None:
    data = heic(scene("red"))
    files = {"face.jpg": encode(scene("red"), "JPEG"), "job.json": b'{"prompt": "x"}'}
    upload("damaged", {**files, "poses/walk.heic": data[: len(data) // 2]})
    record = wait_for_record("damaged", "walk", "FAILED")
    notified = wait_for_notification(record["job_id"])
    assert notified["error"]["type"] == "InvalidInput"
    assert notified["error"]["message"].startswith("incoming/damaged/poses/walk.heic: the picture ")
    assert notified["inputs"]["pose"]["prepared"] is None
