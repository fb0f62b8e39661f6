"""Folders of this machine as characters."""

from typing import Any

import pytest

from ops.inspect.folders import arrange
from posedrop.contract.upload_layout import UploadLayout


def found(*paths: str) -> dict[str, Any]:
    """What is made of some files: by each character its face and the names of its poses."""
    return {
        each.name: (
            None if each.face is None else paths[each.face],
            {paths[at]: name for at, name in each.poses.items()},
        )
        for each in arrange(paths, UploadLayout()).characters
    }


def left_out(*paths: str) -> dict[str, str]:
    """What makes nothing, and why; side files are left out here, too."""
    return {paths[each.number]: each.why for each in arrange(paths, UploadLayout()).left_out if not each.side}


@pytest.mark.parametrize(
    ("paths", "face", "poses"),
    [
        (["hero/face.jpg", "hero/poses/walk.png"], "hero/face.jpg", {"hero/poses/walk.png": "walk"}),
        (["hero/face.jpg", "hero/walk.png"], "hero/face.jpg", {"hero/walk.png": "walk"}),
        (["hero/my face.jpg", "hero/pose-walk.png"], "hero/my face.jpg", {"hero/pose-walk.png": "walk"}),
        (["hero/IMG_1.jpg", "hero/Poses/pose-walk.png"], "hero/IMG_1.jpg", {"hero/Poses/pose-walk.png": "pose-walk"}),
        (["hero/Face.PNG", "hero/pose.png"], "hero/Face.PNG", {"hero/pose.png": "pose"}),
        (["hero/pose.png", "hero/poses/x.png"], None, {"hero/pose.png": "pose", "hero/poses/x.png": "x"}),
        (["hero/a.jpg", "hero/b.jpg"], None, {"hero/a.jpg": "a", "hero/b.jpg": "b"}),
        (["hero/a.jpg"], None, {"hero/a.jpg": "a"}),
        (["hero/face.jpg"], "hero/face.jpg", {}),
        (["incoming/hero/face.jpg", "incoming/hero/a.jpg"], "incoming/hero/face.jpg", {"incoming/hero/a.jpg": "a"}),
        (["hero/face.jpg", "hero/v1.2", "hero/v1.2.jpg"], "hero/face.jpg", {"hero/v1.2.jpg": "v1.2"}),
    ],
)
def test_a_folder_is_a_character(paths: list[str], face: str | None, poses: dict[str, str]) -> None:
    assert found(*paths) == {"hero": (face, poses)}


def test_nested_folders_are_characters_of_a_client() -> None:
    paths = [f"client/{name}/{file}.jpg" for name in ("b", "a") for file in ("face", "walk")]
    assert list(found(*paths)) == ["client/a", "client/b"]
    assert list(found("client/face.jpg", "client/a/face.jpg", "client/walk.jpg")) == ["client", "client/a"]


@pytest.mark.parametrize(("face", "name"), [("face-anna.png", "anna"), ("anna_face.png", "anna"), ("face.png", "")])
def test_files_without_a_folder_are_named_by_their_face(face: str, name: str) -> None:
    assert found(face, "walk.png") == {name: (face, {"walk.png": "walk"})}


def test_names_are_compared_in_nfc() -> None:
    assert list(found("Zoe\u0308/face.jpg", "Zo\xeb/walk.jpg")) == ["Zo\xeb"]


def test_side_files_are_ignored() -> None:
    paths = ["hero/.DS_Store", "hero/poses/._walk.png", "hero/Thumbs.db", "__MACOSX/hero/face.jpg", ".git/face.jpg"]
    assert found(*paths) == {}
    assert [each.side for each in arrange(paths, UploadLayout()).left_out] == [True] * 5


def test_what_makes_nothing_is_left_out_with_the_reason() -> None:
    files = [
        "hero/face.jpg",
        "hero/walk.heic",
        "hero/walk.jpg",
        "hero/walk.mov",
        "hero/notes.txt",
        "hero/poses/a/b.png",
    ]
    assert left_out(*files) == {
        "hero/walk.heic": "walk.jpg, with the same name, is used",
        "hero/walk.mov": "its name is not that of a picture",
        "hero/notes.txt": "its name is not that of a picture",
        "hero/poses/a/b.png": "below poses/ there may be files only, no folders",
    }


def test_job_files_belong_to_all_poses_or_to_one() -> None:
    files = ["hero/face.jpg", "hero/job.json", "hero/poses/walk.jpg", "hero/poses/walk.json", "hero/poses/run.json"]
    (hero,) = arrange(files, UploadLayout()).characters
    assert hero.parameters == {"": 1, "walk": 3}
    assert left_out(*files) == {"hero/poses/run.json": "there is no pose run here that it belongs to"}


def test_two_pictures_never_share_a_name() -> None:
    assert set(found("hero/walk.jpg", "hero/pose-walk.jpg", "hero/poses/walk.png")["hero"][1].values()) == {
        "walk",
        "walk-2",
        "walk-3",
    }
