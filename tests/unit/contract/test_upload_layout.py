"""Tests of the upload contract: the meaning of keys, and the names made from them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posedrop.aws.messages import UploadMessage, parse_message
from posedrop.contract.job import JOB_ID, SLUG_LIMIT, Input, job_id, waiting_id
from posedrop.contract.naming import EXECUTION_NAME_LIMIT, execution_name
from posedrop.contract.upload_layout import (
    DEFAULT_PREFIX,
    FileKind,
    InvalidUploadKey,
    SideFile,
    Upload,
    UploadLayout,
    hint,
    slug,
)
from tests.support import ROOT, load_event

ROOMS = ("layers/posedrop/posedrop", "functions", "statemachine", "ops", "local", "bench")
LAYOUT = UploadLayout()
OTHER = "client.b/drop_1/"
KEY_BYTES = 1024
"""The longest key that S3 takes, in bytes of UTF-8."""


@pytest.mark.parametrize(
    ("key", "upload"),
    [
        ("incoming/hero/face.png", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/face.JPEG", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/face.Jpg", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/face.webp", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/pose.png", Upload(FileKind.POSE, "hero", "pose")),
        ("incoming/hero/poses/pose.png", Upload(FileKind.POSE, "hero", "pose")),
        ("incoming/hero/poses/walk.WEBP", Upload(FileKind.POSE, "hero", "walk")),
        ("incoming/hero/poses/a.b.png", Upload(FileKind.POSE, "hero", "a.b")),
        ("incoming/hero/poses/face.png", Upload(FileKind.POSE, "hero", "face")),
        ("incoming/hero/poses/job.png", Upload(FileKind.POSE, "hero", "job")),
        ("incoming/hero/poses/walk.json", Upload(FileKind.POSE_FILE, "hero", "walk")),
        ("incoming/hero/poses/job.json", Upload(FileKind.POSE_FILE, "hero", "job")),
        ("incoming/hero/job.json", Upload(FileKind.JOB_FILE, "hero")),
        ("incoming/client-a/hero/face.png", Upload(FileKind.FACE, "client-a/hero")),
        ("incoming/a/b/c/poses/walk.png", Upload(FileKind.POSE, "a/b/c", "walk")),
        ("incoming/face.png/face.png", Upload(FileKind.FACE, "face.png")),
        ("incoming/incoming/face.png", Upload(FileKind.FACE, "incoming")),
        ("incoming/a+b c/poses/x%20y + z.png", Upload(FileKind.POSE, "a+b c", "x%20y + z")),
        ("incoming/Jürgen Groß/poses/dağ 歩く.png", Upload(FileKind.POSE, "Jürgen Groß", "dağ 歩く")),
        ("incoming/.../face.png", Upload(FileKind.FACE, "...")),
        # The name says the role: in any case, with any ending, and with none.
        ("incoming/hero/Face.PNG", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/FACE.jfif", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/face.heic", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/face.gif", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/face.MOV", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/face.pdf", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/face", Upload(FileKind.FACE, "hero")),
        ("incoming/hero/Pose.AVIF", Upload(FileKind.POSE, "hero", "pose")),
        ("incoming/hero/Poses/walk.png", Upload(FileKind.POSE, "hero", "walk")),
        ("incoming/hero/POSES/Walk.tif", Upload(FileKind.POSE, "hero", "Walk")),
        ("incoming/hero/poses/walk.aae", Upload(FileKind.POSE, "hero", "walk")),
        ("incoming/hero/poses/notes.txt", Upload(FileKind.POSE, "hero", "notes")),
        ("incoming/hero/poses/walk", Upload(FileKind.POSE, "hero", "walk")),
        ("incoming/hero/poses/walk.", Upload(FileKind.POSE, "hero", "walk.")),
        ("incoming/hero/poses/v1.2", Upload(FileKind.POSE, "hero", "v1.2")),
        ("incoming/hero/poses/face.jpeg.jpg", Upload(FileKind.POSE, "hero", "face.jpeg")),
        ("incoming/hero/JOB.json", Upload(FileKind.JOB_FILE, "hero")),
        ("incoming/hero/job.JSON", Upload(FileKind.JOB_FILE, "hero")),
        ("incoming/hero/pose.json", Upload(FileKind.POSE_FILE, "hero", "pose")),
        ("incoming/hero/Pose.JSON", Upload(FileKind.POSE_FILE, "hero", "pose")),
        ("incoming/hero/poses/walk.JSON", Upload(FileKind.POSE_FILE, "hero", "walk")),
        # One name in NFC and in NFD.
        ("incoming/Zo\u00eb/face.png", Upload(FileKind.FACE, "Zo\u00eb")),
        ("incoming/Zoe\u0308/poses/ge\u0301ant.png", Upload(FileKind.POSE, "Zo\u00eb", "g\u00e9ant")),
    ],
)
def test_the_contract_s_keys(key: str, upload: Upload) -> None:
    assert LAYOUT.parse(key) == upload


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "not below incoming/"),
        ("outputs/hero/face.png", "not below incoming/"),
        ("Incoming/hero/face.png", "not below incoming/"),
        ("/incoming/hero/face.png", "not below incoming/"),
        ("incoming/", "a folder"),
        ("incoming//face.png", "empty"),
        ("incoming/hero//face.png", "empty"),
        ("incoming/hero//poses/walk.png", "empty"),
        ("incoming/./face.png", "'.'"),
        ("incoming/../face.png", "'..'"),
        ("incoming/hero/../face.png", "'..'"),
        ("incoming/hero/poses/..", "'..'"),
        ("incoming/hero\n/face.png", "control characters"),
        ("incoming/hero/poses/wa\x00lk.png", "control characters"),
        ("incoming/hero/poses/walk\x7f.png", "control characters"),
        ("incoming/hero/poses/walk\x85.png", "control characters"),
        ("incoming/hero/poses/\ud800.png", "control characters"),
        ("incoming/hero/poses/\uffff.png", "control characters"),
        ("incoming/face.png", "no character"),
        ("incoming/job.json", "no character"),
        ("incoming/poses/walk.png", "no character"),
        ("incoming/hero/poses/deep/walk.png", "'poses' is reserved"),
        ("incoming/hero/poses/poses/walk.png", "'poses' is reserved"),
        ("incoming/poses/hero/face.png", "'poses' is reserved"),
        ("incoming/poses/poses/walk.png", "'poses' is reserved"),
        ("incoming/hero/face.png.txt", "none of face.<ext>"),
        ("incoming/hero/face.json", "none of face.<ext>"),
        ("incoming/hero/face.xyz", "none of face.<ext>"),
        ("incoming/hero/face.jpeg.jpg", "none of face.<ext>"),
        ("incoming/hero/face (1).jpg", "none of face.<ext>"),
        ("incoming/Poses/face.png", "no character"),
        ("incoming/hero/Poses/deep/walk.png", "'poses' is reserved"),
        ("incoming/hero/face2.png", "none of face.<ext>"),
        ("incoming/hero/notes.txt", "none of face.<ext>"),
        ("incoming/hero/walk.png", "none of face.<ext>"),
    ],
)
def test_other_keys_are_refused_with_the_reason(key: str, reason: str) -> None:
    with pytest.raises(InvalidUploadKey, match=re.escape(reason)):
        LAYOUT.parse(key)


@pytest.mark.parametrize(
    ("rest", "upload"),
    [
        ("hero/face.png", Upload(FileKind.FACE, "hero")),
        ("a/hero/Poses/walk.png", Upload(FileKind.POSE, "a/hero", "walk")),
        ("incoming/face.png", Upload(FileKind.FACE, "incoming")),
    ],
)
def test_the_prefix_is_whatever_the_stack_has(rest: str, upload: Upload) -> None:
    layout = UploadLayout(OTHER)
    assert layout.parse(f"{OTHER}{rest}") == upload
    assert layout.below(f"{OTHER}{rest}") == rest
    assert f"{OTHER}{rest}".startswith(tuple(layout.folder(upload.character).spellings(f"{OTHER}{rest}")))
    for key in (rest, f"{DEFAULT_PREFIX}{rest}", OTHER[:-1] + rest):
        with pytest.raises(InvalidUploadKey, match=f"not below {OTHER}"):
            layout.parse(key)


def test_the_default_prefix_is_written_down_in_two_places() -> None:
    """Once in the template, once in the package, which says the same; everything else asks the stack."""
    found = {
        (path.relative_to(ROOT).as_posix(), line.strip())
        for path in [ROOT / "template.yaml", *(path for room in ROOMS for path in (ROOT / room).rglob("*"))]
        if path.suffix in (".py", ".js", ".html", ".json", ".yaml", ".css")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\bincoming\b", line)
    }
    assert found == {
        ("template.yaml", f"Default: {DEFAULT_PREFIX}"),
        ("layers/posedrop/posedrop/contract/upload_layout.py", f'DEFAULT_PREFIX = "{DEFAULT_PREFIX}"'),
    }


@given(st.text(st.sampled_from("aé/. \n+posejn"), max_size=40))
def test_an_accepted_key_is_found_again_in_its_folder(rest: str) -> None:
    key = f"incoming/{rest}"
    try:
        upload = LAYOUT.parse(key)
    except InvalidUploadKey:
        return
    folder = LAYOUT.folder(upload.character)
    assert key.startswith(folder.prefix)
    assert key.startswith(tuple(folder.spellings(key)))
    assert LAYOUT.parse(folder.job_file) == Upload(FileKind.JOB_FILE, upload.character)
    if upload.kind is FileKind.POSE_FILE:
        assert LAYOUT.parse(folder.pose_file(upload.pose)) == upload


@pytest.mark.parametrize(
    "name",
    [
        *("._walk.png", ".DS_Store", "Thumbs.db", "THUMBS.DB", "desktop.ini", "~$notes.docx", ""),
        *("walk.tmp", "walk.jpg.part", "walk.partial", "walk.png.filepart", "walk.crdownload", ".png"),
    ],
)
@pytest.mark.parametrize("folder", ["incoming/hero/", "incoming/hero/poses/"])
def test_side_files_are_distinguished(folder: str, name: str) -> None:
    with pytest.raises(SideFile):
        LAYOUT.parse(folder + name)


@pytest.mark.parametrize(
    ("missing", "unknown_names", "expected"),
    [
        (["face"], ["front.jpg"], "front.jpg is no face: name it face.jpg"),
        (["face"], ["face.jpeg.jpg"], "face.jpeg.jpg is no face: name it face.jpg"),
        (["face"], ["face (1).HEIC"], "face (1).HEIC is no face: name it face.heic"),
        (["face"], ["face.xyz"], "face.xyz is no face: name it face.<ending>"),
        (["pose"], ["walk.png"], "walk.png is no pose: name it pose.png, or put it into poses/"),
        (["pose"], ["pose/"], "pose/ is no folder of poses: name it poses/"),
        (["pose"], ["Posen/"], "Posen/ is no folder of poses: name it poses/"),
        (["face", "pose"], ["a.jpg"], "a.jpg is neither a face nor a pose: name it face.jpg, or put it into poses/"),
        (
            ["face", "pose"],
            ["b.jpg", "pose2.png", "a.jpg"],
            "pose2.png is no pose: name it pose.png, or put it into poses/; "
            "a.jpg is neither a face nor a pose: name it face.jpg, or put it into poses/; "
            "b.jpg is neither a face nor a pose: name it face.jpg, or put it into poses/",
        ),
        (["face"], ["notes.txt", "other/"], None),
        (["prompt"], ["front.jpg"], None),
        ([], ["front.jpg"], None),
        (["face"], [], None),
    ],
)
def test_near_misses_are_named(missing: list[str], unknown_names: list[str], expected: str | None) -> None:
    assert hint(missing, unknown_names) == expected


def test_a_folder_is_searched_in_every_spelling() -> None:
    nfc, nfd, mixed = "Zo\u00eb\u00e9", "Zoe\u0308e\u0301", "Zo\u00ebe\u0301"
    folder = LAYOUT.folder(nfc)
    assert folder.spellings() == [f"incoming/{nfc}/", f"incoming/{nfd}/"]
    assert folder.spellings(f"incoming/{mixed}/Poses/x.png") == [*folder.spellings(), f"incoming/{mixed}/"]
    assert folder.spellings("incoming/other/face.png") == folder.spellings()
    assert LAYOUT.folder("hero").spellings("incoming/hero/face.png") == ["incoming/hero/"]


def test_keys_of_events_are_not_decoded() -> None:
    message = parse_message(load_event("intake-unusual-key.json")["Records"][0]["body"])
    assert isinstance(message, UploadMessage)
    assert LAYOUT.parse(message.upload.key) == Upload(FileKind.POSE, "Kundin Ä/held + heldin", "geh langsam+weit ü")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hero-walk", "hero-walk"),
        ("client-a/hero-walk", "client-a-hero-walk"),
        ("Jürgen Groß", "Jurgen-Gro"),
        ("a  +/  b", "a-b"),
        ("歩く", "job"),
        ("---", "job"),
        ("", "job"),
        ("-a-", "a"),
    ],
)
def test_a_slug_is_ascii_and_can_be_recognised(text: str, expected: str) -> None:
    assert slug(text, SLUG_LIMIT) == expected


@pytest.mark.parametrize("letter", ["a", "ä", "歩", "😀", "ﷺ", "-", "+"])
@pytest.mark.parametrize("attempt", [1, 999_999])
def test_names_fit_the_limits_of_aws_for_the_longest_keys(letter: str, attempt: int) -> None:
    around = len("incoming//poses/x.png")
    character = letter * ((KEY_BYTES - around) // len(letter.encode()))
    upload = LAYOUT.parse(f"incoming/{character}/poses/x.png")
    name = job_id("bucket", upload.character, upload.pose, {})
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,56}-[0-9a-f]{16}", name)
    # StartExecution (API reference): 1 to 80 characters, of A-Z, a-z, 0-9, - and _ so that CloudWatch can log them.
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", execution_name(name, attempt))
    assert EXECUTION_NAME_LIMIT == 80
    # DynamoDB takes partition keys of 2,048 bytes.
    assert len(waiting_id(upload.character, upload.pose).encode()) <= 2048


@given(st.text(max_size=80), st.text(max_size=80))
def test_every_name_gives_a_job_id(character: str, pose: str) -> None:
    assert JOB_ID.fullmatch(job_id("bucket", character, pose, {"text": character}))


CONTENT = {"face": "a", "pose": "b", "parameters": {"prompt": "x", "samples": 1}}


def test_the_same_content_has_the_same_id() -> None:
    reordered = {"parameters": {"samples": 1, "prompt": "x"}, "pose": "b", "face": "a"}
    assert job_id("bucket", "hero", "walk", CONTENT) == job_id("bucket", "hero", "walk", reordered)


@pytest.mark.parametrize(
    "other",
    [
        ("elsewhere", "hero", "walk", CONTENT),
        ("bucket", "hero-walk", "", CONTENT),
        ("bucket", "Hero", "walk", CONTENT),
        ("bucket", "hero", "walk", CONTENT | {"face": "b", "pose": "a"}),
        ("bucket", "hero", "walk", CONTENT | {"parameters": {"prompt": "y", "samples": 1}}),
    ],
)
def test_other_content_has_another_id(other: tuple[str, str, str, object]) -> None:
    assert job_id(*other) != job_id("bucket", "hero", "walk", CONTENT)


def test_an_input_is_reported_as_the_notification_has_it() -> None:
    found = Input("bucket", "key", None, "etag", 3, "ab", "image/png").to_dict()
    assert found == {
        "bucket": "bucket",
        "key": "key",
        "version_id": None,
        "sha256": "ab",
        "etag": "etag",
        "bytes": 3,
        "content_type": "image/png",
        "changes": [],
        "prepared": None,
    }
