"""Jobs that are sent once more from the console, as they were or changed."""

import json
from typing import Any

import pytest

from posedrop.aws.record import only_jobs
from tests.console.conftest import Console
from tests.console.dropped import FACE, keys, pose
from tests.integration.conftest import BUCKET
from tests.support import image, until


def test_a_retry_asks_first(console: Console) -> None:
    failed = console.seed(3)[2]
    path = f"/api/jobs/{failed.job_id}/retry"
    asked = console.post(path, {})
    assert asked["usd"] == 0.0294
    assert "attempt 2" in asked["asks"]
    assert console.pipeline.receive(console.pipeline.queue_url) == []
    assert console.post(path, {"confirm": True}, status=202) == {"job_id": failed.job_id, "attempt": 2}
    (message,) = console.pipeline.receive(console.pipeline.queue_url)
    assert json.loads(message["Body"]) == {"retry": failed.job_id}


def test_a_retry_in_vain_is_refused(console: Console) -> None:
    seeded = console.seed(3)
    assert "has not failed" in console.post(f"/api/jobs/{seeded[0].job_id}/retry", {}, status=409)["error"]
    assert console.post("/api/jobs/none/retry", {"confirm": True}, status=404)["error"]


def test_a_body_that_is_no_object_is_refused(console: Console) -> None:
    failed = console.seed(3)[2]
    assert console.post(f"/api/jobs/{failed.job_id}/retry", [], status=400)["error"]
    assert console.post(f"/api/jobs/{failed.job_id}/again", {"seed": "7"}, status=400)["error"]
    assert console.post(f"/api/jobs/{failed.job_id}/again", {"seed": 2**63}, status=400)["error"]


def made(console: Console, name: str = "walk") -> dict[str, Any]:
    """A job that was made of an upload, and came to its end."""
    drop = console.drop(FACE, pose("walk"), parameters={"prompt": "a hall", "seed": 5}, usd=1)
    drop["poses"][0]["pose"] = name
    console.post("/api/uploads", drop, status=202)
    until(lambda: len(keys(console)) == 3)
    console.handle()
    console.finish()
    found: dict[str, Any] = until(lambda: console.get("/api/jobs?state=done")["jobs"])[0]
    return found


def again(console: Console, card: dict[str, Any], **values: Any) -> list[dict[str, Any]]:
    """Make a job's pair with other seeds; return the planned jobs."""
    sent = console.post(f"/api/jobs/{card['job_id']}/again", {**values, "confirm": True}, status=202)
    found: list[dict[str, Any]] = sent["jobs"]
    return found


def test_again_with_another_seed_is_a_new_job_of_the_same_pair(console: Console) -> None:
    card = made(console)
    asked = console.post(f"/api/jobs/{card['job_id']}/again", {})
    assert (asked["usd"], len(asked["seeds"])) == (0.0294, 1)
    assert len(keys(console)) == 3
    (job,) = again(console, card, seed=77)
    assert (job["character"], job["pose"]) == ("hero", "walk-77")
    until(lambda: len(keys(console)) == 5)
    console.handle()
    other = until(lambda: console.get("/api/jobs?text=walk-77")["jobs"])[0]
    assert (other["seed"], other["prompt"]) == (77, "a hall")
    records = console.pipeline.records()
    new, old = (records[job_id] for job_id in (other["job_id"], card["job_id"]))
    assert {**new["parameters"], "seed": 5} == old["parameters"]
    assert [new["inputs"][name]["sha256"] for name in ("face", "pose")] == [
        old["inputs"][name]["sha256"] for name in ("face", "pose")
    ]
    assert console.get(f"/api/jobs/{card['job_id']}")["card"]["state"] == "done"


@pytest.mark.parametrize("name", ["pose", "pose-sit", "pose_2"])
def test_again_with_another_seed_of_a_pose_of_any_name(console: Console, name: str) -> None:
    card = made(console, name)
    assert again(console, card, seed=77)[0]["pose"] == f"{name}-77"
    until(lambda: len(keys(console)) == 5)
    console.handle()
    assert until(lambda: console.get(f"/api/jobs?text={name}-77")["jobs"])[0]["seed"] == 77


def test_again_with_another_seed_of_the_single_pose(console: Console) -> None:
    console.pipeline.upload(("incoming/hero/face.png", FACE[1]), ("incoming/hero/pose.png", pose("x")[1]))
    console.finish()
    card = until(lambda: console.get("/api/jobs?state=done")["jobs"])[0]
    assert (card["pose"], again(console, card, seed=77)[0]["pose"]) == ("pose", "pose-77")
    until(lambda: "incoming/hero/poses/pose-77.png" in keys(console))


def test_again_with_the_same_seed_is_known(console: Console) -> None:
    card = made(console)
    again(console, card, seed=77)
    until(lambda: len(keys(console)) == 5)
    console.handle()
    other = until(lambda: console.get("/api/jobs?text=walk-77")["jobs"])[0]
    path = f"/api/jobs/{card['job_id']}/again"
    assert "exists already" in console.post(path, {"seed": 77}, status=409)["error"]
    assert again(console, other, seed=78)[0]["pose"] == "walk-78"


def test_several_seeds_at_once_for_the_price_of_all(console: Console) -> None:
    card = made(console)
    path = f"/api/jobs/{card['job_id']}/again"
    assert console.post(path, {"count": 8})["usd"] == round(8 * 0.0294, 4)
    assert "not 0.0300 USD" in console.post(path, {"count": 3, "confirm": True, "usd": 0.03}, status=409)["error"]
    jobs = again(console, card, count=3, usd=0.0882)
    assert len({job["pose"] for job in jobs}) == 3
    until(lambda: len(keys(console)) == 9)
    for count in (0, 9, True, "2"):
        assert console.post(path, {"count": count}, status=400)["error"]


def test_again_with_another_face_there_is_a_character_of_its_own(console: Console) -> None:
    card = made(console)
    console.pipeline.put("incoming/hero/face.png", image("png", (11, 11), "red"))
    (job,) = again(console, card, seed=77)
    assert (job["character"], job["pose"], job["outcome"]) == ("hero-4ded", "walk-77", "new")
    until(lambda: "incoming/hero-4ded/face.png" in keys(console))
    body = console.pipeline.s3.get_object(Bucket=BUCKET, Key="incoming/hero-4ded/face.png")["Body"]
    assert body.read() == FACE[1]


def test_a_job_is_described_so_that_it_can_be_changed_and_sent_again(console: Console) -> None:
    card = made(console)
    found = console.post("/api/edit", {"jobs": [card["job_id"]]})
    (character,) = found["characters"]
    assert character["character"] == "hero"
    assert [pose["pose"] for pose in character["poses"]] == ["walk-2"]
    assert found["parameters"]["prompt"] == "a hall"
    assert found["notes"] == []
    (job,) = console.post("/api/plan", {**found, "parameters": {"prompt": "a field"}})["jobs"]
    assert (job["outcome"], job["parameters"]["prompt"], job["parameters"]["seed"]) == ("new", "a field", 5)
    assert console.post("/api/edit", {"jobs": ["none"]}, status=404)["error"]
    assert console.post("/api/edit", {"jobs": []}, status=400)["error"]


def test_a_pose_that_waits_can_be_completed(console: Console) -> None:
    console.pipeline.put("incoming/hero/poses/walk.png", pose("walk")[1])
    console.handle()
    (card,) = until(lambda: console.get("/api/jobs?state=waiting")["jobs"])
    found = console.post("/api/edit", {"jobs": [card["job_id"]]})
    (character,) = found["characters"]
    assert character["face"] is None
    assert [each["pose"] for each in character["poses"]] == ["walk"]
    face = console.post("/api/files", FACE[1])["sha256"]
    character["face"] = {"file": "face.png", "sha256": face}
    (job,) = console.post("/api/plan", {"characters": [character]})["jobs"]
    assert job["outcome"] == "new"


def test_all_failed_jobs_among_some_are_tried_again_for_the_price_of_all(console: Console) -> None:
    seeded = console.seed(23)
    failed = [record.job_id for record in only_jobs(seeded) if record.error]
    body = {"jobs": [record.job_id for record in seeded]}
    asked = console.post("/api/retry", body)
    assert (asked["jobs"], asked["usd"]) == (2, 0.0588)
    assert "lacks a face" in asked["refused"][0]  # its files do not exist any more
    assert console.pipeline.receive(console.pipeline.queue_url) == []
    assert console.post("/api/retry", {**body, "confirm": True}, status=202)["jobs"] == 2
    retried = [json.loads(message["Body"])["retry"] for message in console.pipeline.receive(console.pipeline.queue_url)]
    assert sorted(retried) == sorted(failed[:2])
