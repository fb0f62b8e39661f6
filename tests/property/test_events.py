"""A settled folder: any order and multiplicity of its events makes the same jobs, each once."""

import time
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Pipeline
from tests.support import image

NAMES = ("face.png", "face.JPG", "pose.png", "poses/pose.webp", "poses/walk.png", "poses/sit.jpeg", "job.json")
POSE_FILES = ("poses/walk.json", "poses/pose.json")
POSE_OF = {"pose.png": "pose", "poses/pose.webp": "pose", "poses/walk.png": "walk", "poses/sit.jpeg": "sit"}
CHARACTERS = (f"c{number}" for number in count())


def body(name: str) -> bytes:
    """What is in a file: no two images are alike."""
    if name.endswith("json"):
        return b'{"prompt": "from the pose"}' if name in POSE_FILES else b'{"prompt": "from the folder"}'
    kind = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}[name.rpartition(".")[2].lower()]
    return image(kind, (8, 6 + NAMES.index(name)))


def prompt(pose: str, files: set[str]) -> str:
    if f"poses/{pose}.json" in files:
        return "from the pose"
    return "from the folder" if "job.json" in files else "a walk in the rain"


@given(data=st.data())
@settings(max_examples=12)
def test_order_and_number_of_events_do_not_matter(pipeline: Pipeline, data: st.DataObject) -> None:
    files = data.draw(st.sets(st.sampled_from([*NAMES, *POSE_FILES]), min_size=1), label="files")
    character, posts = f"{next(CHARACTERS)}", len(pipeline.provider.posts)
    events = [pipeline.put(f"incoming/{character}/{name}", body(name)) for name in sorted(files)]
    again = data.draw(st.lists(st.sampled_from(events), max_size=4), label="again")
    pipeline.clock.now = time.time() + 60
    for event in data.draw(st.permutations(events + again), label="order"):
        assert pipeline.handle(event)
    found = [record for record in pipeline.records().values() if record["character"] == character]
    jobs = {str(record["pose"]): record for record in found if record["status"] == "SUBMITTED"}
    waiting = [record for record in found if record["status"] == "WAITING"]
    assert len(jobs) + len(waiting) == len(found)
    has_face = bool(files & {"face.png", "face.JPG"})
    poses = {POSE_OF[name] for name in files if name in POSE_OF}
    assert set(jobs) == (poses if has_face else set())
    assert len(pipeline.provider.posts) - posts == len(jobs)
    assert {pose: record["parameters"]["prompt"] for pose, record in jobs.items()} == {
        pose: prompt(pose, files) for pose in jobs
    }
    started = [execution for execution in pipeline.executions() if execution.startswith(f"{character}-")]
    assert sorted(started) == sorted(f"{record['job_id']}-1" for record in jobs.values())
    for record in waiting:
        assert record["missing"]
