"""Check the model's parameters as the provider's API page lists them."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

FORMATS = ("jpeg", "png", "webp")


class ParameterError(ValueError):
    """A parameter is missing, unknown or out of range; the text names it."""


@dataclass(frozen=True)
class Source:
    """The source of an image: a URL, or the bytes themselves."""

    url: str | None = None
    data: bytes | None = None


@dataclass(frozen=True)
class Parameters:
    """All parameters but the images. Sizes in pixels."""

    prompt: str
    base_64: bool = False
    custom_height: int = 1024
    custom_width: int = 1024
    output_format: str = "png"
    quality: int = 95
    samples: int = 1
    seed: int = 2778725438
    use_input_img_dimension: bool = True


@dataclass(frozen=True)
class Submission:
    """A request's body, checked."""

    parameters: Parameters
    face: Source
    pose: Source


def parse(body: object) -> Submission:
    """Check a request's body. Raises ParameterError."""
    if not isinstance(body, dict):
        raise ParameterError("the body must be a JSON object")
    for name in body:
        if name not in CHECKS:
            raise ParameterError(f"unknown parameter: {str(name)[:100]}")
    for name in REQUIRED:
        if name not in body:
            raise ParameterError(f"missing parameter: {name}")
    values: dict[str, Any] = {name: CHECKS[name](name, value) for name, value in body.items()}
    face, pose = values.pop("face_image"), values.pop("pose_image")
    return Submission(Parameters(**values), face, pose)


def _source(name: str, value: object) -> Source:
    if not isinstance(value, str):
        raise ParameterError(f"{name} must be a string")
    if value[:8].lower().startswith(("http://", "https://")):
        try:
            host = urlsplit(value).hostname
        except ValueError:
            host = None
        if not host:
            raise ParameterError(f"{name} is not a valid URL")
        return Source(url=value)
    text = value.partition(",")[2] if value.startswith("data:") else value
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise ParameterError(f"{name} must be an http(s) URL or base64")
    return Source(data=data)


def _prompt(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ParameterError(f"{name} must be a string that is not empty")
    return value


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ParameterError(f"{name} must be a boolean")
    return value


def _format(name: str, value: object) -> str:
    if value not in FORMATS:
        raise ParameterError(f"{name} must be one of {', '.join(FORMATS)}")
    return str(value)


def _integer(low: int, high: int) -> Callable[[str, object], int]:
    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ParameterError(f"{name} must be an integer from {low} to {high}")
        return value

    return check


CHECKS: dict[str, Callable[[str, object], object]] = {
    "face_image": _source,
    "pose_image": _source,
    "prompt": _prompt,
    "base_64": _boolean,
    "custom_height": _integer(64, 4096),
    "custom_width": _integer(64, 4096),
    "output_format": _format,
    "quality": _integer(10, 100),
    "samples": _integer(1, 4),
    "seed": _integer(-(2**63), 2**63 - 1),
    "use_input_img_dimension": _boolean,
}
REQUIRED = ("face_image", "pose_image", "prompt")
IMAGES = ("face_image", "pose_image")
assert set(CHECKS) == {*IMAGES, *(field.name for field in fields(Parameters))}
