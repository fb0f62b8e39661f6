"""The settle rule: which event handles a job while the files of its folder still arrive."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from posedrop.aws.messages import SourceUpload
from posedrop.aws.upload_bucket import JobFiles, Listed, UploadBucket
from posedrop.contract.upload_layout import UploadLayout
from posedrop.intake.folder import read_candidate
from posedrop.intake.job_reader import later_upload
from posedrop.segmind.model import CONSISTENT_CHARACTER

NOW = datetime(2026, 11, 23, 10, 15, 30, tzinfo=UTC)
SETTLE = 5.0


def files(**ages: float) -> JobFiles:
    """The files of a job with these ages in seconds."""
    found = {name: Listed(name, f'"{name}-1"', 1, NOW - timedelta(seconds=age)) for name, age in ages.items()}
    return JobFiles(found.get("face"), found.get("pose"), found.get("job_file"), found.get("pose_file"))


def left_to(upload: SourceUpload | None, **ages: float) -> str | None:
    found = later_upload(files(**ages), upload, SETTLE, NOW.timestamp())
    return found.key if found else None


POSE = SourceUpload("pose", "pose-1")
FACE = SourceUpload("face", "face-1")


@pytest.mark.parametrize(
    ("upload", "ages", "expected"),
    [
        (POSE, {"pose": 60, "face": 60}, None),
        (POSE, {"pose": 60, "face": 5}, None),
        (POSE, {"pose": 60, "face": 4.9}, "face"),
        (POSE, {"pose": 4, "face": 1}, "face"),
        (POSE, {"pose": 1, "face": 4}, None),  # the newest never leaves
        (POSE, {"pose": 1, "face": 1}, None),  # S3 gives whole seconds: both go on, and make the same job
        (POSE, {"pose": 1}, None),
        (POSE, {"pose": 3, "face": 2, "job_file": 1}, "job_file"),
        (POSE, {"pose": 3, "face": 60, "pose_file": 1}, "pose_file"),
        (POSE, {"pose": 3, "face": 60, "job_file": 4}, None),
        (POSE, {"pose": 3, "face": -1}, "face"),  # our clock is behind that of S3
        (FACE, {"pose": 2, "face": 3}, "pose"),
        (FACE, {"pose": 60, "face": 3}, None),
        (SourceUpload("pose", "pose-0"), {"pose": 2, "face": 60}, "pose"),  # the own file was overwritten meanwhile
        (SourceUpload("pose", "pose-0"), {"pose": 6, "face": 60}, None),
        (SourceUpload("face", "pose-1"), {"pose": 2, "face": 60}, "pose"),
        (SourceUpload("gone", "gone-1"), {"pose": 60, "face": 60}, None),
        (None, {"pose": 60, "face": 60}, None),
        (None, {"pose": 2, "face": 3}, "pose"),
    ],
)
def test_to_whose_event_a_job_is_left(
    upload: SourceUpload | None, ages: dict[str, float], expected: str | None
) -> None:
    assert left_to(upload, **ages) == expected


@pytest.mark.parametrize("ages", list(product([0, 1, 60], repeat=4)))
def test_one_event_of_a_folder_always_handles_the_job(ages: tuple[float, ...]) -> None:
    folder = dict(zip(("face", "pose", "job_file", "pose_file"), ages, strict=True))
    going_on = [name for name in folder if left_to(SourceUpload(name, f"{name}-1"), **folder) is None]
    assert going_on
    # Who goes on sees nothing newer than itself, unless that is settled.
    assert all(age >= min(folder[name], SETTLE) for name in going_on for age in folder.values())


@pytest.mark.parametrize("missing", [{"pose": 60}, {"face": 60}])
def test_a_candidate_needs_both_images(missing: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="both images"):
        read_candidate(
            UploadBucket(None, "bucket", UploadLayout()),  # type: ignore[arg-type]
            "hero",
            "walk",
            files(**missing),
            "",
            model=CONSISTENT_CHARACTER,
        )
