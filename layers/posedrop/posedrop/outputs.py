"""What the `output` of a completed answer holds: URLs of images, or the images themselves in base64.

The provider's documentation says "media URL"; its SDK and public users know more: lists, objects, both as JSON in a
string, base64 with and without a data: prefix. All are read, to a bounded depth and number.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeGuard

from posedrop.answers import cut, load_json, redact

MAX_SOURCES = 16  # the provider documents at most 4 samples
MAX_INLINE_CHARACTERS = 32 * 1024 * 1024
MAX_URL_CHARACTERS = 8192
MAX_DEPTH = 8

# Where an object holds its image, the best first: several may name the same image.
_KEYS = ("url", "urls", "image_url", "image_urls", "image", "images", "output", "outputs", "data", "result", "results")
_BASE64_KEYS = ("base64", "base_64", "b64_json", "b64")
_URL = re.compile(r"https?://[^\s\x00-\x1f\x7f\ud800-\udfff]+", re.IGNORECASE)
_DATA_PREFIX = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)


class BadOutput(ValueError):
    """The output holds no usable image; the message is one line for a person, without query strings or image data."""


@dataclass(frozen=True)
class UrlSource:
    """An image to fetch; http or https, which of them is allowed is the caller's decision."""

    url: str


@dataclass(frozen=True)
class InlineSource:
    """An image that came with the answer, decoded but not checked."""

    data: bytes


Source = UrlSource | InlineSource


def parse_output(output: object) -> list[Source]:
    """The images of an output (any JSON value), at least one, in the provider's order. Raises BadOutput."""
    sources: list[Source] = []
    inline = 0
    for text in _texts(output, MAX_DEPTH):
        if len(sources) == MAX_SOURCES:
            raise BadOutput(f"the output holds more than {MAX_SOURCES} images")
        if _is_url(text):
            sources.append(_url_source(text))
            continue
        inline += len(text)
        _check_size(inline)
        sources.append(_inline_source(text))
    if not sources:
        raise BadOutput("the output holds neither a URL nor image data" if output else "the output is missing or empty")
    return sources


def _texts(value: object, depth: int) -> Iterator[str]:
    """The strings that are URLs or base64, without surrounding white space."""
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
                raise BadOutput("the output is a string that looks like JSON and is not") from None
            yield from _texts(inner, depth - 1)
        elif text not in ("", "null"):
            yield text
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, depth - 1)
    elif isinstance(value, dict):
        yield from _texts(_member(value), depth - 1)
    else:
        raise BadOutput(f"the output holds a {'boolean' if isinstance(value, bool) else 'number'}, not an image")


def _member(value: dict[object, object]) -> object:
    """The part of an object in which its images are."""
    for key in (*_KEYS, *_BASE64_KEYS):
        if value.get(key):
            return value[key]
    # Under unknown names only what is surely meant: the rest may be a seed, a content type, a caption.
    return [item for item in value.values() if isinstance(item, list | dict) or _is_url(item)]


def _is_url(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.lstrip()[:8].lower().startswith(("http://", "https://"))


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
    """The text itself where it is a few words or another kind of URL, its length where it may be an image."""
    words = text[:200].split()
    if "://" in text[:16] or max(map(len, words), default=0) <= 24:
        return f'"{cut(redact(text[:200]), 80)}"'
    return f"{len(text)} characters of text"
