"""The checker compared with decoders: it accepts what all of them read, and refuses what none reads."""

import io
import time
import tracemalloc

import numpy
import pytest
from PIL import Image, ImageCms

from posedrop.contract.container import BadImage, Patch
from posedrop.contract.exif import read_orientation
from posedrop.contract.icc import is_srgb
from posedrop.contract.images import Change, ImageChecker, ImageInfo, check, cleaned
from tests.corpus import (
    DISPLAY_P3,
    SECRET,
    corpus,
    encode,
    exif,
    into_jpeg,
    picture,
    profile,
    readers,
    srgb_profile,
    webp_chunks,
)

REFUSED_ALTHOUGH_READ: dict[str, str] = {}
"""What all decoders read and is refused all the same, each with its reason. Nothing so far."""
FOUND_BY_DECODING: dict[str, str] = {}
"""What no decoder reads, although its container says that it is whole. None of these files is such a one."""
TURNED = [Change.TURNED, Change.CLEANED]


def examined(data: bytes, size: int = 0) -> tuple[ImageInfo, list[Patch]]:
    """What the checker says of an image, fed in pieces of a size, and what cleans it."""
    patches: list[Patch] = []
    checker = ImageChecker(patches)
    for start in range(0, len(data), size or len(data)):
        checker.feed(data[start : start + (size or len(data))])
    return checker.close(), patches


def is_accepted(data: bytes) -> bool:
    try:
        check(data)
    except BadImage:
        return False
    return True


@pytest.mark.parametrize("name", corpus())
def test_the_checker_agrees_with_the_decoders(name: str) -> None:
    data = corpus()[name]
    read = readers(data)
    if len(read) == 3:
        assert is_accepted(data) is (name not in REFUSED_ALTHOUGH_READ)
    elif not read:
        assert is_accepted(data) is (name in FOUND_BY_DECODING)


@pytest.mark.parametrize("name", [name for name, data in corpus().items() if is_accepted(data)])
def test_a_cleaned_image_is_the_same_picture_and_has_nothing_else(name: str) -> None:
    data = corpus()[name]
    info, patches = examined(data)
    assert (info, patches) == examined(data, 1) == examined(data, 7)
    clean = cleaned(data, patches)
    assert SECRET not in clean
    again = check(clean)
    assert again.metadata_bytes == 0
    assert (again.width, again.height, again.format) == (info.width, info.height, info.format)
    assert again.converts <= info.converts
    assert again.bytes <= info.bytes - info.metadata_bytes
    assert readers(clean) >= readers(data)
    if "Pillow" not in readers(data):
        return
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(clean)) as after:
        assert before.convert("RGBA").tobytes() == after.convert("RGBA").tobytes()
        assert not after.getexif()
        assert not {"exif", "xmp", "icc_profile", "comment", "photoshop", "XML:com.adobe.xmp"} & after.info.keys()


def test_an_image_that_is_clean_stays_as_it_is() -> None:
    for name in ("jpeg plain", "jpeg progressive", "jpeg opencv", "png rgba", "png opencv", "webp lossy", "webp alpha"):
        info, patches = examined(corpus()[name])
        assert (info.changes, patches) == ((), [])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("jpeg exif", [Change.CLEANED]),
        ("jpeg junk between segments", [Change.CLEANED]),
        ("jpeg fill bytes", []),
        ("jpeg cmyk", [Change.CONVERTED]),
        ("jpeg lossless", [Change.CONVERTED]),
        ("jpeg arithmetic", [Change.CONVERTED]),
        ("jpeg srgb", [Change.CLEANED]),
        ("jpeg display p3", [Change.CONVERTED, Change.CLEANED]),
        ("jpeg several segments of a profile", [Change.CONVERTED, Change.CLEANED]),
        ("jpeg multi picture", [Change.CLEANED]),
        ("png srgb", [Change.CLEANED]),
        ("png display p3", [Change.CONVERTED, Change.CLEANED]),
        ("png colour 2 in 16 bits", [Change.CONVERTED]),
        ("png animated", [Change.CLEANED]),
        ("webp animated", [Change.CONVERTED]),
        ("webp srgb", [Change.CLEANED]),
        ("webp display p3", [Change.CONVERTED, Change.CLEANED]),
    ],
)
def test_what_is_to_be_done(name: str, changes: list[Change]) -> None:
    assert list(check(corpus()[name]).changes) == changes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_read(kind: str, orientation: int) -> None:
    info = check(encode(picture(), kind, exif=exif(orientation)))
    assert info.orientation == orientation
    assert list(info.changes) == (TURNED if orientation > 1 else [Change.CLEANED])


def test_the_first_exif_counts() -> None:
    sideways = encode(picture(), "JPEG", exif=exif(6))
    more = b"\xff\xe1" + (len(exif(3)) + 8).to_bytes(2, "big") + b"Exif\0\0" + exif(3).removeprefix(b"Exif\0\0")
    assert check(into_jpeg(sideways, more)).orientation == 6


@pytest.mark.parametrize(
    "tiff",
    [
        b"",
        b"XX\0*",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0\x08\0\0\0\1\0\x12\1\x03\0\1\0\0\0\x09\0\0\0",
        b"II*\0\x08\0\0\0\1\0\x12\1\x02\0\1\0\0\0\x06\0\0\0",
        b"MM\0*\0\0\0\x08\0\1\1\x12\0\x03\0\0\0\1\0\0\0\6",
    ],
)
def test_exif_without_an_orientation_is_upright(tiff: bytes) -> None:
    assert read_orientation(tiff) == 1


def test_the_orientation_in_both_byte_orders() -> None:
    assert read_orientation(b"II*\0\x08\0\0\0\1\0\x12\1\x03\0\1\0\0\0\x06\0\0\0") == 6
    assert read_orientation(b"MM\0*\0\0\0\x08\0\1\1\x12\0\x03\0\0\0\1\0\6\0\0") == 6
    assert read_orientation(b"MM\0*\0\0\0\x08\0\1\1\x12\0\x04\0\0\0\1\0\0\0\6") == 6


def test_an_extended_webp_says_no_more_that_it_has_metadata() -> None:
    data = corpus()["webp all metadata"]
    assert webp_chunks(data)[0][1][0] & 0x2C == 0x2C
    clean = cleaned(data, examined(data)[1])
    assert webp_chunks(clean)[0][1][0] & 0x2C == 0
    assert int.from_bytes(clean[4:8], "little") == len(clean) - 8


SRGB = {b"rXYZ": (0.4361, 0.2225, 0.0139), b"gXYZ": (0.3851, 0.7169, 0.0971), b"bXYZ": (0.1431, 0.0606, 0.7141)}
ADOBE = {b"rXYZ": (0.6097, 0.3111, 0.0195), b"gXYZ": (0.2053, 0.6257, 0.0609), b"bXYZ": (0.1492, 0.0632, 0.7446)}


def test_which_profiles_are_srgb() -> None:
    assert is_srgb(srgb_profile())
    assert is_srgb(profile(SRGB, 2.2))
    for other in (profile(SRGB, 1.8), profile(ADOBE, 2.2), DISPLAY_P3, b"", b"\0" * 200, srgb_profile()[:200]):
        assert not is_srgb(other)


def test_the_profiles_of_the_tests_are_read_by_littlecms() -> None:
    image = picture()
    for found in (profile(SRGB, 2.2), DISPLAY_P3):
        there = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(found)), srgb_profile_object())
        assert there is not None
        difference = numpy.abs(numpy.asarray(there).astype(int) - numpy.asarray(image).astype(int)).max()
        assert bool(difference > 20) is (found is DISPLAY_P3)


def srgb_profile_object() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def test_a_changed_profile_never_breaks_the_checker() -> None:
    whole = srgb_profile()
    for at in range(128, len(whole)):
        for value in (0, 255):
            is_srgb(whole[:at] + bytes([value]) + whole[at + 1 :])


@pytest.mark.parametrize("fill", [b"\xff", b"\0", b"\xff\0"])
def test_fill_bytes_and_junk_take_no_longer_than_other_bytes(fill: bytes) -> None:
    plain = corpus()["jpeg plain"]
    data = into_jpeg(plain, fill * (21_000_000 // len(fill)))

    def seconds(other: bytes) -> float:
        begin = time.process_time()
        check(other)
        return time.process_time() - begin

    scan = plain.index(b"\xff\xda") + 14
    reference = seconds(plain[:scan] + b"\xff\0" * 10_500_000 + plain[scan:])
    assert seconds(data) < 20 * reference + 0.5


def test_junk_needs_no_memory() -> None:
    checker = ImageChecker()
    checker.feed(corpus()["jpeg plain"][:20])
    tracemalloc.start()
    for _ in range(100):
        checker.feed(b"\xff" * 60_000)
        checker.feed(b"\0")
        checker.feed(b"junk" * 10_000)
        checker.feed(b"\xff\0" * 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_a_name_of_a_chunk_is_reported_in_ascii() -> None:
    with pytest.raises(BadImage, match=r"^the first chunk is \\xff\\x00\\x01, not VP8, VP8L or VP8X$"):
        check(b"RIFF\x0c\0\0\0WEBP\xff\0\x01\0\0\0\0\0")
