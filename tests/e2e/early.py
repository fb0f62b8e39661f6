"""Folders that the tests' stack gets early: what is refused in them is read again for two minutes first.

So those minutes pass while other tests run.
"""

import io
import json

import pillow_heif
from PIL import Image

from tests.corpus import SECRET, encode, exif
from tests.support import SAMPLES, image

FILM = b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + SECRET


def scene(color: str) -> Image.Image:
    """A picture that lies on its side: its upper left quarter is bright once it is upright."""
    upright = Image.new("RGB", (480, 640), color)
    upright.paste("white", (0, 0, 240, 320))
    return upright.transpose(Image.Transpose.ROTATE_90)


def heic(image: Image.Image) -> bytes:
    """A picture as a phone stores it, with EXIF that turns it."""
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, exif=exif(6), quality=90)
    return out.getvalue()


def _sideways(color: str) -> bytes:
    return encode(scene(color), "JPEG", quality=92, exif=exif(6))


COLORS = {"walk": "red", "run": "green", "sit": "blue"}
PHONE_PROMPT = "a phone's folder"
PHONE = {
    "job.json": json.dumps({"prompt": PHONE_PROMPT}).encode(),
    "Face.HEIC": heic(scene("purple")),
    ".DS_Store": b"\0\0\0\1Bud1",
    "poses/._walk.JPG": b"\0\5\16\7" + SECRET,
    "poses/.DS_Store": b"\0\0\0\1Bud1",
    "poses/walk.MOV": FILM,
    "poses/walk.AAE": b"<?xml version='1.0'?><plist/>",
    "poses/papers.pdf": b"%PDF-1.7\n" + SECRET,
    **{f"poses/{pose}.JPG": _sideways(color) for pose, color in COLORS.items()},
}
"""A phone's folder: a picture for each pose, side files, and a PDF."""

BAD_PROMPT = "never to be sent"
BAD = {
    "text": ({"face.png": b"hello"}, "face.png: this is text: upload a picture"),
    "cut": ({"face.png": image("png")[:-20]}, "face.png: truncated: ends at byte"),
    "empty": ({"pose.png": b""}, "pose.png: this is an empty file"),
    "json": ({"job.json": b"prompt: x"}, "job.json: not JSON"),
    "unknown": ({"job.json": b'{"smaples": 2}'}, "smaples is not a parameter of the model; did you mean samples?"),
    "range": ({"job.json": b'{"custom_width": 10}'}, "job.json: custom_width must be bigger than or equal to 64"),
    "context": ({"job.json": json.dumps({"context": {"x": "y" * 1_000_000}}).encode()}, "job.json: larger than"),
}
"""What is put in the place of a good file, and the reason of its refusal."""


def uploads() -> dict[str, bytes]:
    """All files by their keys."""
    pair = {name: (SAMPLES / sample).read_bytes() for name, sample in SAMPLE_NAMES.items()}
    good = {**pair, "job.json": json.dumps({"prompt": BAD_PROMPT}).encode()}
    folders = {"phone": PHONE, **{f"bad/{name}": {**good, **files} for name, (files, _) in BAD.items()}}
    return {f"incoming/{folder}/{name}": data for folder, files in folders.items() for name, data in files.items()}


SAMPLE_NAMES = {"face.png": "face-astronaut.png", "pose.png": "pose-cameraman.png"}
