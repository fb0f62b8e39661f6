"""The checker against real images of every kind, whole, cut, damaged and hostile."""

import io
import random
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from posedrop.contract import container
from posedrop.contract.container import BadImage
from posedrop.contract.images import ImageChecker, ImageInfo, check

SAMPLES = sorted((Path(__file__).parents[3] / "local" / "samples").glob("*.png"))


def picture(mode: str = "RGB", size: tuple[int, int] = (37, 23), seed: int = 1) -> Image.Image:
    """A small picture with noise in it, so that no encoder makes it trivial."""
    image = Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3))
    return image.convert(mode)


def encode(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, **options)  # type: ignore[arg-type]
    return out.getvalue()


def exif_with_thumbnail() -> bytes:
    """EXIF whose thumbnail is a JPEG of its own, with SOI and EOI inside APP1."""
    thumbnail = encode(picture(size=(8, 8)), format="JPEG")
    ifd0 = struct.pack("<H", 0) + struct.pack("<I", 14)
    ifd1 = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 44, 0x0202, 4, 1, len(thumbnail), 0)
    return b"Exif\0\0II*\0\x08\0\0\0" + ifd0 + ifd1 + thumbnail


def interlaced_png() -> bytes:
    """A 1x1 grey PNG in Adam7 order: Pillow does not write these."""
    return png(chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1)), IDAT, IEND)


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int = 1, height: int = 1, tail: bytes = b"\x08\0\0\0\0") -> bytes:
    return chunk(b"IHDR", struct.pack(">II", width, height) + tail)


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def feed(data: bytes, sizes: int) -> ImageInfo:
    checker = ImageChecker()
    for start in range(0, len(data), sizes):
        checker.feed(data[start : start + sizes])
    return checker.close()


IDAT = chunk(b"IDAT", zlib.compress(b"\0\0"))
IEND = chunk(b"IEND")
SOF = b"\xff\xc0\x00\x0b\x08\x00\x10\x00\x20\x01\x01\x11\x00"  # 32x16, grey
SOS = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
VP8X = b"VP8X" + struct.pack("<I", 10) + bytes(10)
FRAMES = [picture(seed=n) for n in range(3)]

IMAGES: dict[str, tuple[str, bytes]] = {
    "png": ("png", encode(picture(), format="PNG")),
    "png alpha": ("png", encode(picture("RGBA"), format="PNG")),
    "png palette": ("png", encode(picture("P"), format="PNG")),
    "png 16 bit": ("png", encode(Image.new("I;16", (37, 23), 7), format="PNG")),
    "png one bit": ("png", encode(picture("1"), format="PNG")),
    "png interlaced": ("png", interlaced_png()),
    "png animated": ("png", encode(FRAMES[0], format="PNG", save_all=True, append_images=FRAMES[1:])),
    "jpeg": ("jpeg", encode(picture(), format="JPEG")),
    "jpeg grey": ("jpeg", encode(picture("L"), format="JPEG")),
    "jpeg cmyk": ("jpeg", encode(picture("CMYK"), format="JPEG")),
    "jpeg progressive": ("jpeg", encode(picture(), format="JPEG", progressive=True, quality=95)),
    "jpeg restarts": ("jpeg", encode(picture(), format="JPEG", restart_marker_blocks=1)),
    "jpeg thumbnail": ("jpeg", encode(picture(), format="JPEG", exif=exif_with_thumbnail())),
    "webp lossy": ("webp", encode(picture(), format="WEBP", quality=80)),
    "webp lossless": ("webp", encode(picture(), format="WEBP", lossless=True)),
    "webp alpha": ("webp", encode(picture("RGBA").rotate(9), format="WEBP", quality=80)),
    "webp exif": ("webp", encode(picture(), format="WEBP", exif=exif_with_thumbnail())),
    "webp animated": ("webp", encode(FRAMES[0], format="WEBP", save_all=True, append_images=FRAMES[1:])),
}
every_image = pytest.mark.parametrize(("kind", "data"), IMAGES.values(), ids=IMAGES)


@every_image
def test_agrees_with_pillow(kind: str, data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as opened:
        size = opened.size
    info = check(data)
    assert (info.format, info.content_type, (info.width, info.height)) == (kind, f"image/{kind}", size)
    assert info.bytes == len(data)
    assert info.extension == {"png": "png", "jpeg": "jpg", "webp": "webp"}[kind]


@every_image
def test_chunk_sizes_do_not_matter(kind: str, data: bytes) -> None:
    assert feed(data, 1) == feed(data, 7) == feed(data, 1000) == check(data)


@every_image
def test_cut_anywhere_is_not_whole(kind: str, data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises(BadImage, match=r"^(empty|not a PNG|truncated: ends at byte).*$"):
            check(data[:end])


@every_image
def test_data_after_the_end_is_accepted_and_counted(kind: str, data: bytes) -> None:
    for trailer in (b"\0", b"\xff", b"\n", IMAGES["jpeg"][1], b"MotionPhoto_Data" + bytes(1000)):
        info = feed(data + trailer, 13)
        assert info.bytes == len(data) + len(trailer)
        assert (info.width, info.height) == (check(data).width, check(data).height)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_sample_photographs(path: Path) -> None:
    with Image.open(path) as opened:
        size = opened.size
    info = check(path.read_bytes())
    assert (info.width, info.height, info.bytes) == (*size, path.stat().st_size)


def test_any_changed_byte_of_a_png_is_found() -> None:
    data = IMAGES["png"][1]
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(BadImage):
            check(bytes(damaged))


def test_says_where_a_png_is_damaged_before_its_end() -> None:
    data = bytearray(IMAGES["png"][1])
    at = data.index(b"IDAT") - 4
    data[at + 20] ^= 1
    checker = ImageChecker()
    with pytest.raises(BadImage, match=f"^chunk IDAT at byte {at} has a wrong CRC$"):
        checker.feed(bytes(data))
    with pytest.raises(BadImage, match="wrong CRC"):  # and it stays so
        checker.feed(b"more")
    with pytest.raises(BadImage, match="wrong CRC"):
        checker.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty: 0 bytes"),
        (b"\x89P", "not a PNG, JPEG or WebP image"),
        (b"this is a text file named face.png", "not a PNG, JPEG or WebP image"),
        (b"GIF89a" + bytes(20), "not a PNG"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not a PNG"),
        (b"\x89PNG\n\x1a\n" + bytes(20), "not a PNG"),  # damaged by a transfer as text
        (png(), "truncated: ends at byte 8, before IEND"),
        (png(IDAT, IEND), "IHDR must come first"),
        (png(ihdr(), ihdr(), IDAT, IEND), "IHDR must come first and once"),
        (png(ihdr(), IEND), "no image data"),
        (png(ihdr(), chunk(b"IDAT"), IEND), "no image data"),
        (png(ihdr(0, 1), IDAT, IEND), "0x1 pixels"),
        (png(ihdr(1, 2**31), IDAT, IEND), "1x2147483648 pixels"),
        (png(ihdr(tail=b"\x03\0\0\0\0"), IDAT, IEND), "pixel format"),
        (png(ihdr(tail=b"\x08\0\0\0\2"), IDAT, IEND), "pixel format"),
        (png(chunk(b"IHDR", bytes(14)), IDAT, IEND), "IHDR has 14 bytes"),
        (png(ihdr(), IDAT, b"\0\0\0\0I\0ND"), "no PNG chunk at byte"),
        (png(ihdr(), b"\x80\0\0\0IDAT"), "no PNG chunk at byte 33"),
        (b"\xff\xd8\xff\xd9", "no image data: EOI"),
        (b"\xff\xd8\xff\xe1\x00\x01", "segment FFE1 at byte 2 has length 1"),
        (b"\xff\xd8\xff\xd8\xff", "marker FFD8 at byte 2"),
        (b"\xff\xd8" + SOF.replace(b"\x00\x10", b"\0\0") + SOS, "DNL"),
        (b"\xff\xd8" + SOF.replace(b"\x00\x20", b"\0\0") + SOS, "width of 0"),
        (b"\xff\xd8" + SOF + SOF, "second frame header at byte 15"),
        (b"\xff\xd8" + SOF.replace(b"\x20\x01", b"\x20\x03"), "3 components in 11 bytes"),
        (b"\xff\xd8" + SOS + b"\x12\xff\xd9", "before any frame header"),
        (b"\xff\xd8" + SOF + SOS + b"\xff\xd9", "has no data"),
        (b"\xff\xd8" + SOF + SOS + b"\x12\xff\x00\xff\xd0\x34\xff", "truncated: .*before EOI"),
        (webp(), "no image data"),
        (webp(b"EXIF\0\0\0\0"), "the first chunk is EXIF"),
        (webp(VP8X), "no image data"),
        (webp(VP8X) + b"VP8 ", "no image data"),
        (webp(b"VP8 \x09\0\0\0" + bytes(10)), "fewer than its header"),
        (webp(b"VP8 \x0a\0\0\0" + bytes(10)), "key frame"),
        (webp(b"VP8L\x0a\0\0\0" + bytes(10)), "VP8L data has no signature"),
        (webp(b"VP8L\xff\0\0\0" + bytes(10)), "longer than the RIFF length"),
        (webp(VP8X, b"ABC"), "do not fill the RIFF length"),
        (webp(VP8X, b"\0\0\0\0\0\0\0\0"), "no image data"),
        (webp(VP8X, b"VP8L\x0a\0\0\0\x2f\x01\0\0\0" + bytes(5)), "2x1, unlike its canvas"),
    ],
)
def test_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        feed(data, 3)
    with pytest.raises(BadImage, match=reason):
        check(data)


def test_last_webp_chunk_may_lack_its_padding() -> None:
    data = webp(b"VP8L\x0b\0\0\0\x2f" + bytes(10))
    assert (check(data).width, check(data).height) == (1, 1)


@pytest.mark.parametrize(
    ("start", "block"),
    [
        (png(ihdr(), b"\x7f\xff\xff\xffIDAT"), bytes(2**16)),
        (b"\xff\xd8" + SOF + SOS, random.Random(1).randbytes(2**15).replace(b"\xff", b"\xff\x00")),
        (b"\xff\xd8" + SOF + SOS, b"\xff" * 2**16),
        (b"RIFF\xfe\xff\xff\xffWEBPVP8L\xf0\xff\xff\xff\x2f" + bytes(9), bytes(2**16)),
    ],
    ids=["png", "jpeg", "jpeg fill bytes", "webp"],
)
def test_memory_stays_small(start: bytes, block: bytes) -> None:
    checker = ImageChecker()
    checker.feed(start)
    tracemalloc.start()
    for byte in block[:5000]:
        checker.feed(bytes([byte]))
    for _ in range(200):
        checker.feed(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024


class Counting(bytes):
    """Counts the bytes that are copied out of it, or counted in it."""

    work = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        Counting.work += len(found) if isinstance(found, bytes) else 1
        return found

    def count(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        Counting.work += len(range(*slice(start, end).indices(len(self))))
        return super().count(sub, start, end)


def lines_run(function: Callable[[], object]) -> int:
    """How many lines of the package a function runs."""
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        lines += event == "line" and "/posedrop/" in frame.f_code.co_filename
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize(
    ("start", "block"),
    [
        (png(ihdr()), chunk(b"tEXt") * 1000),
        (b"\xff\xd8" + SOF + SOS, b"\xff\x00" * 50_000),
        (b"\xff\xd8" + SOF, b"\xff\xfe\x00\x02" * 1000),
        (b"RIFF\xfe\xff\xff\xffWEBP" + VP8X, b"ABCD\0\0\0\0" * 1000),
    ],
    ids=["png chunks", "jpeg stuffing", "jpeg segments", "webp chunks"],
)
def test_the_work_stays_small_on_hostile_bytes(start: bytes, block: bytes) -> None:
    checker = ImageChecker()
    checker.feed(start)
    work = []
    for _ in range(10):
        Counting.work = 0
        lines = lines_run(lambda: checker.feed(Counting(block)))
        work.append(lines + Counting.work)
    assert max(work) <= 1.1 * work[0]  # a block costs what the first one did, however many came before it
    assert work[0] <= 20 * len(block)


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (png(ihdr()), chunk(b"tEXt")),
        (b"\xff\xd8" + SOF, b"\xff\xfe\x00\x02"),
        (b"RIFF\xfe\xff\xff\xffWEBP" + VP8X, b"ABCD\0\0\0\0"),
    ],
    ids=["png", "jpeg", "webp"],
)
def test_an_image_of_too_many_parts_is_refused(start: bytes, part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_PARTS", 50)
    checker = ImageChecker()
    checker.feed(start)
    checker.feed(part * 40)
    with pytest.raises(BadImage, match="more than 50"):
        checker.feed(part * 20)


BEGINNINGS = st.sampled_from([data[:60] for _, data in IMAGES.values()])


@given(st.binary(max_size=200) | st.builds(bytes.__add__, BEGINNINGS, st.binary()))
def test_any_bytes_give_information_or_bad_image(data: bytes) -> None:
    def outcome(size: int) -> ImageInfo | str:
        try:
            return feed(data, size)
        except BadImage as error:
            return str(error)

    assert outcome(2) == outcome(max(1, len(data)))


@given(st.sampled_from(sorted(IMAGES)), st.data())
def test_damaged_images_give_information_or_bad_image(name: str, draw: st.DataObject) -> None:
    data = bytearray(IMAGES[name][1])
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        info = check(bytes(data))
    except BadImage:
        return
    assert info.bytes == len(data)
    assert info.width > 0
    assert info.height > 0


def test_pillow_here_writes_all_kinds() -> None:
    assert features.check("webp")
    assert b"\xff\xc2" in IMAGES["jpeg progressive"][1]
    assert b"\xff\xd0" in IMAGES["jpeg restarts"][1]
    assert IMAGES["jpeg thumbnail"][1].count(b"\xff\xd9") > 1
    assert b"ANMF" in IMAGES["webp animated"][1]
    assert b"fcTL" in IMAGES["png animated"][1]
    assert b"ALPH" in IMAGES["webp alpha"][1]
