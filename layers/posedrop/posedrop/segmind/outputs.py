"""Find the images in the `output` of a completed job: as URLs, or as base64.

The provider's documentation says "media URL". Other forms were seen in its SDK and by public users: lists, objects,
either of them as JSON in a string, and base64 with or without a data: prefix. All of these are read, to a limited depth
and number, and each image once.
"""

import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from posedrop.segmind.model import MAX_IMAGES
from posedrop.segmind.responses import cut, load_json, redact

MAX_INLINE_CHARACTERS = 32 * 1024 * 1024
MAX_URL_CHARACTERS = 8192
MAX_DEPTH = 8

# The fields of an object that may hold images. An object may have several of them with the same image.
_KEYS = ("url", "urls", "image_url", "image_urls", "image", "images", "output", "outputs", "data", "result", "results")
# If an object has URLs too, these fields hold the same images again.
_BASE64_KEYS = ("base64", "base_64", "b64_json", "b64")
_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\ud800-\udfff]+", re.IGNORECASE)
_DATA_PREFIX = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)
_ENCODED_IMAGE = re.compile(r"\s*(data:image/|iVBORw0KGgo|/9j/|UklGR)")  # the last three: PNG, JPEG, WebP in base64
_IMAGE_START = re.compile(rb"\x89PNG|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)


class BadOutput(ValueError):
    """The output holds no usable image. The message is one line for people, without query strings or image data."""


@dataclass(frozen=True)
class UrlSource:
    """An image to download, by http or https. The caller decides whether http is allowed."""

    url: str


@dataclass(frozen=True)
class InlineSource:
    """An image that came with the response, decoded but not checked."""

    data: bytes


Source = UrlSource | InlineSource


def parse_output(output: object) -> list[Source]:
    """Return the images of an output (any JSON value): at least one, each once, in the provider's order.

    If the output holds more than MAX_IMAGES, MAX_IMAGES + 1 are returned. Raises BadOutput.
    """
    images = _distinct(_sources(output, MAX_DEPTH))
    if not images:
        raise BadOutput("the output holds neither a URL nor image data" if output else "the output is missing or empty")
    return images


def _distinct(sources: Iterable[Source]) -> list[Source]:
    """Return each image once, in order, and stop reading at MAX_IMAGES + 1.

    An unreadable source raises BadOutput. After MAX_IMAGES good images it is ignored instead, so as not to lose them.
    """
    found: dict[Source, None] = {}
    inline = 0
    try:
        for source in sources:
            if source not in found and isinstance(source, InlineSource):
                inline += len(source.data)
                _check_size(inline * 4 // 3)
            found[source] = None
            if len(found) > MAX_IMAGES:
                break
    except BadOutput:
        if len(found) < MAX_IMAGES:
            raise
    return list(found)


def _sources(value: object, depth: int) -> Iterator[Source]:
    if depth == 0:
        raise BadOutput("the output is nested too deeply")
    if value is None:
        return
    if isinstance(value, str):
        _check_size(len(value))
        text = value.strip()
        if text.startswith(("[", "{", '"')):
            try:
                inner = load_json(text)
            except ValueError:
                raise BadOutput("the output is a string that looks like JSON but is not") from None
            yield from _sources(inner, depth - 1)
        elif text not in ("", "null"):
            yield _url_source(text) if _is_url(text) else _inline_source(text)
    elif isinstance(value, list):
        for item in value:
            yield from _sources(item, depth - 1)
    elif isinstance(value, dict):
        yield from _of_object(value, depth - 1)
    else:
        raise BadOutput(f"the output holds a {'boolean' if isinstance(value, bool) else 'number'}, not an image")


def _of_object(value: dict[str, object], depth: int) -> Iterator[Source]:
    """Yield the images of an object, from all the fields that may hold images."""
    for keys in (_KEYS, _BASE64_KEYS):
        members, faults = [], []
        for member in (value[key] for key in value if key in keys and value[key]):
            try:
                members.append(_distinct(_sources(member, depth)))
            except BadOutput as exc:
                faults.append(exc)
        if any(members):
            yield from _merged(members)
            return
        if faults and not (keys is _KEYS and any(value.get(key) for key in _BASE64_KEYS)):
            raise faults[0]
    if not any(value.get(key) for key in (*_KEYS, *_BASE64_KEYS)):
        # Of unknown fields only certain images count: the rest may be a seed, a content type or a caption.
        items = [item for item in value.values() if isinstance(item, list | dict) or _is_image_text(item)]
        yield from _sources(items, depth)


def _merged(members: list[list[Source]]) -> list[Source]:
    """Merge the images of an object's fields: URLs before base64, because both may be the same images."""
    if any(_is_image(source) for images in members for source in images):
        # A text such as "done" may be valid base64, but it is not an image.
        members = [images for images in members if any(map(_is_image, images))]
    # A single image that is also in a list keeps its position in the list.
    kept = [images for images in members if not any(set(images) < set(others) for others in members)]
    kept.sort(key=lambda images: any(isinstance(source, InlineSource) for source in images))
    return [source for images in kept for source in images]


def _is_image(source: Source) -> bool:
    return isinstance(source, UrlSource) or _IMAGE_START.match(source.data) is not None


def _is_url(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.lstrip()[:8].lower().startswith(("http://", "https://"))


def _is_image_text(value: object) -> bool:
    return _is_url(value) or (isinstance(value, str) and _ENCODED_IMAGE.match(value) is not None)


def _check_size(characters: int) -> None:
    if characters > MAX_INLINE_CHARACTERS:
        raise BadOutput(f"the output holds more than {MAX_INLINE_CHARACTERS // 2**20} MiB of base64 text")


def _url_source(text: str) -> UrlSource:
    if len(text) > MAX_URL_CHARACTERS:
        raise BadOutput(f"the output holds a URL of {len(text)} characters")
    if not _URL.fullmatch(text):
        raise BadOutput("the output holds a URL with spaces or control characters, or without a host")
    return UrlSource(text)


def _inline_source(text: str) -> InlineSource:
    if text[:5].lower() == "data:":
        prefix = _DATA_PREFIX.match(text)
        if prefix is None or not prefix[0].lower().endswith(";base64,"):
            raise BadOutput("the output holds a data: URL that is not base64")
        encoded = text[prefix.end() :]
    else:
        encoded = text
    try:
        data = binascii.a2b_base64("".join(encoded.split()), strict_mode=True)
    except ValueError:
        raise BadOutput(f"the output holds {_describe(text)}, neither a URL nor valid base64") from None
    if not data:
        raise BadOutput("the output holds a data: URL without data")
    return InlineSource(data)


def _describe(text: str) -> str:
    """Describe a text for an error message: quote it if it is short words or a URL, else give only its length."""
    words = text[:200].split()
    if "://" in text[:16] or max(map(len, words), default=0) <= 24:
        return f'"{cut(redact(text[:200]), 80)}"'
    return f"{len(text)} characters of text"
