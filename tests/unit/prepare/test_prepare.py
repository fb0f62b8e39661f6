"""How a picture is prepared before it is sent: real files of every kind, decoded in a separate process."""

import io
import json
import struct
import subprocess
import sys
import tempfile
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy
import pillow_heif
import pytest
from PIL import Image, ImageCms

from posedrop.aws.prepared_pictures import response_seconds
from posedrop.contract.container import BadImage, Patch
from posedrop.contract.contents import HEAD_BYTES, Type, content_of
from posedrop.contract.images import Change, ImageChecker, check, cleaned
from posedrop.prepare.decode import FORMATS, METADATA, TRANSPOSED, convert
from tests.corpus import DISPLAY_P3, IPTC, SECRET, XMP, corpus, encode, exif, png, segment

SIZE = (96, 64)
NEAR = 6.0
"""How much the mean of a sample may differ after a JPEG's two encodings."""
pillow_heif.register_heif_opener()


def scene(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture that looks otherwise in each orientation, smooth as a photograph."""
    down, across = numpy.mgrid[0 : size[1], 0 : size[0]]
    red, green = 255 * across / size[0], 255 * down / size[1]
    blue = 255 * ((across < size[0] / 3) & (down < size[1] / 3))
    return Image.fromarray(numpy.stack([red, green, blue], -1).astype(numpy.uint8)).convert(mode)


def laid_down(orientation: int, image: Image.Image | None = None) -> Image.Image:
    """A picture as a camera stores it that was held so: what its orientation makes upright."""
    image = image or scene()
    backwards = {6: 8, 8: 6}.get(orientation, orientation)
    return image.transpose(TRANSPOSED[backwards]) if orientation > 1 else image


def heif(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, quality=95, **options)
    return out.getvalue()


def prepared(data: bytes) -> tuple[bytes, str, list[str]]:
    """What `prepare` sends of an upload, its ending, and what was done: cut if that is enough, else decoded."""
    kind = content_of(data[:HEAD_BYTES]).type
    assert kind
    orientation, changes = 0, set()
    if kind in (Type.PNG, Type.JPEG, Type.WEBP):
        patches: list[Patch] = []
        checker = ImageChecker(patches)
        checker.feed(data)
        info = checker.close()
        if set(info.changes) <= {Change.CLEANED}:
            return cleaned(data, patches), f".{info.extension}", list(info.changes)
        orientation, changes = info.orientation, set(info.changes)
    return decoded(data, kind, orientation, changes)


def decoded(data: bytes, kind: Type, orientation: int, changes: set[Any]) -> tuple[bytes, str, list[str]]:
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "source"), Path(directory, "target")
        source.write_bytes(data)
        found = convert(source, target, kind, orientation, changes)
        return target.read_bytes(), found["ending"], [str(change) for change in found["changes"]]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    assert one.mode == other.mode
    return float(numpy.abs(numpy.asarray(one).astype(int) - numpy.asarray(other).astype(int)).mean())


def is_plain(data: bytes) -> bool:
    """Whether a picture may be sent, and has nothing but its pixels."""
    image = opened(data)
    assert not image.getexif()
    assert not [name for name in METADATA if image.info.get(name)]
    return check(data).changes == () and SECRET not in data


KINDS = {
    "JPEG": lambda image, orientation: encode(image, "JPEG", quality=95, subsampling=0, exif=exif(orientation)),
    "PNG": lambda image, orientation: encode(image, "PNG", exif=exif(orientation)),
    "WEBP": lambda image, orientation: encode(image, "WEBP", quality=95, exif=exif(orientation)),
    "lossless WEBP": lambda image, orientation: encode(image, "WEBP", lossless=True, exif=exif(orientation)),
    "HEIC": lambda image, orientation: heif(image, exif=exif(orientation)),
    "AVIF": lambda image, orientation: encode(image, "AVIF", quality=95, exif=exif(orientation)),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_every_orientation_is_upright_afterwards(kind: str, orientation: int) -> None:
    data, _, changes = prepared(KINDS[kind](laid_down(orientation), orientation))
    assert difference(opened(data).convert("RGB"), scene()) < NEAR
    assert is_plain(data)
    assert ("turned" in changes) is (orientation > 1)
    assert "cleaned" in changes
    assert ("converted" in changes) is (kind in ("HEIC", "AVIF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_upright_afterwards(orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    data, ending, changes = prepared(encode(laid_down(orientation), "TIFF", exif=tags))
    assert ending == ".jpg"
    assert difference(opened(data), scene()) < NEAR
    assert ("turned" in changes) is (orientation > 1)


def full_jpeg(orientation: int) -> bytes:
    thumbnail = encode(scene(size=(16, 12)), "JPEG")
    data = encode(scene(), "JPEG", exif=exif(orientation, thumbnail), xmp=XMP, comment=SECRET)
    return data[:2] + segment(0xED, IPTC) + segment(0xE0, b"JFXX\0\x10" + thumbnail) + data[2:] + SECRET


@pytest.mark.parametrize("orientation", [1, 6])
def test_no_byte_of_any_metadata_is_left(orientation: int) -> None:
    upload = full_jpeg(orientation)
    assert upload.count(SECRET) >= 5
    data, _, _ = prepared(upload)
    assert is_plain(data)
    assert not any(word in data for word in (b"Exif", b"Maker", b"Apple", b"8BIM", b"xmp", b"JFXX", b"ICC_PROFILE"))
    assert data.count(b"\xff\xd8") == data.count(b"\xff\xd9") == 1  # no thumbnail


@pytest.mark.parametrize("kind", ["HEIC", "AVIF", "PNG", "WEBP"])
def test_no_place_is_left_of_other_types(kind: str) -> None:
    upload = KINDS[kind](scene(), 3)
    assert SECRET in upload
    assert is_plain(prepared(upload)[0])


def test_what_is_only_cleaned_keeps_every_pixel() -> None:
    upload = encode(scene(), "JPEG", quality=95, exif=exif(1))
    data, ending, changes = prepared(upload)
    assert (ending, changes) == (".jpg", ["cleaned"])
    assert opened(data).tobytes() == opened(upload).tobytes()


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    made = ImageCms.profileToProfile(image, source, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")))
    assert made
    return made


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIC"])
def test_display_p3_becomes_srgb(kind: str) -> None:
    quality = {"quality": 95} if kind not in ("PNG", "TIFF", "HEIC") else {}
    upload = (
        heif(scene(), icc_profile=DISPLAY_P3)
        if kind == "HEIC"
        else encode(scene(), kind, icc_profile=DISPLAY_P3, **quality)
    )
    data, _, changes = prepared(upload)
    assert difference(opened(data).convert("RGB"), to_srgb(scene(), DISPLAY_P3)) < NEAR
    assert difference(opened(data).convert("RGB"), scene()) > 4  # it is another picture than without the profile
    assert "converted" in changes
    assert is_plain(data)


def transparent() -> Image.Image:
    image = scene("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SIZE))
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIC"])
def test_transparency_stays(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    tags = exif(6) if kind in ("PNG", "WEBP") else b""
    image = laid_down(6, transparent()) if tags else transparent()
    upload = heif(image) if kind == "HEIC" else encode(image, kind, **options, **({"exif": tags} if tags else {}))
    data, ending, _ = prepared(upload)
    assert ending == ".png"
    found = opened(data)
    alpha = numpy.asarray(found.getchannel("A")).astype(int) - numpy.asarray(transparent().getchannel("A")).astype(int)
    assert found.mode == "RGBA"
    assert numpy.abs(alpha).mean() < NEAR


def test_an_alpha_channel_without_transparency_is_left_out() -> None:
    data, ending, _ = prepared(encode(scene("RGBA"), "TIFF"))
    assert (ending, opened(data).mode) == (".jpg", "RGB")


def test_cmyk_becomes_rgb() -> None:
    data, ending, changes = prepared(encode(scene("CMYK"), "JPEG", quality=95))
    assert (ending, changes, opened(data).mode) == (".jpg", ["converted"], "RGB")
    assert difference(opened(data), scene()) < NEAR


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_16_bits_become_8(colour: int) -> None:
    data, ending, changes = prepared(png(16, colour))
    assert (ending, changes) == (".png" if colour in (4, 6) else ".jpg", ["converted"])
    assert check(data).changes == ()


def test_16_bit_greys_keep_their_tones() -> None:
    values = numpy.linspace(0, 65535, 96 * 64).astype(numpy.uint16).reshape(64, 96)
    for kind in ("PNG", "TIFF"):
        data, _, _ = prepared(encode(Image.fromarray(values), kind))
        found = numpy.asarray(opened(data).convert("L")).astype(int)
        assert numpy.abs(found - (values >> 8)).mean() < NEAR


def test_a_floating_point_tiff_is_refused() -> None:
    with pytest.raises(BadImage, match="32 bits a sample"):
        prepared(encode(Image.new("F", (8, 8)), "TIFF"))


def test_of_a_multi_picture_jpeg_the_first_counts() -> None:
    upload = encode(laid_down(6), "MPO", save_all=True, append_images=[scene("L").convert("RGB")], exif=exif(6))
    data, _, changes = prepared(upload)
    assert changes == ["turned", "cleaned"]
    assert difference(opened(data), scene()) < NEAR


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "GIF"])
def test_of_an_animation_the_first_frame_is_sent(kind: str) -> None:
    other = Image.new("RGB", SIZE, "red")
    upload = encode(scene(), kind, save_all=True, append_images=[other, other])
    data, _, _ = prepared(upload)
    assert getattr(opened(data), "n_frames", 1) == 1
    assert difference(opened(data).convert("RGB"), scene()) < (20 if kind == "GIF" else NEAR)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "HEIC", "AVIF"])
def test_other_types_become_jpeg(kind: str) -> None:
    data, ending, changes = prepared(heif(scene()) if kind == "HEIC" else encode(scene(), kind))
    assert (ending, changes) == (".jpg", ["converted"])
    assert difference(opened(data), scene()) < 12


def test_a_multi_page_tiff() -> None:
    data, _, _ = prepared(encode(scene(), "TIFF", save_all=True, append_images=[Image.new("RGB", SIZE)]))
    assert difference(opened(data), scene()) < NEAR


@pytest.mark.parametrize("options", [{"compression": "tiff_lzw"}, {"compression": "jpeg", "quality": 95}])
def test_packed_tiffs(options: dict[str, Any]) -> None:
    data, _, _ = prepared(encode(scene(), "TIFF", **options))
    assert difference(opened(data), scene()) < NEAR


@pytest.mark.parametrize(
    ("mode", "size"), [*product(("L", "RGB"), ((9000, 30), (30, 9000), (8193, 30))), ("L", (8193, 8193))]
)
def test_a_side_that_is_too_long(mode: str, size: tuple[int, int]) -> None:
    upload = encode(Image.linear_gradient("L").resize(size).convert(mode), "PNG", compress_level=1)
    data, _, changes = prepared(upload)
    assert max(opened(data).size) <= 8192
    assert opened(data).width / opened(data).height == pytest.approx(size[0] / size[1], rel=0.05)
    assert changes == ["converted", "reduced"] or changes == ["reduced"]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_large_picture_is_reduced_in_bands_and_looks_the_same(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    for name, value in (("SIDE_LIMIT", 100), ("MANY_PIXELS", 1000), ("BAND", 8)):
        monkeypatch.setattr(f"posedrop.prepare.decode.{name}", value)
    large = scene(mode, (300, 200))
    data, _, changes = prepared(encode(large, "TIFF"))
    assert "reduced" in changes
    assert opened(data).size == (100, 67)
    assert difference(opened(data).convert(mode), large.reduce(3)) < NEAR


def test_what_is_sent_has_20_mib_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posedrop.prepare.decode.IMAGE_LIMIT", 3000)
    data, _, changes = prepared(encode(corpus_noise(), "BMP"))
    assert len(data) <= 3000
    assert "reduced" in changes
    assert max(opened(data).size) < max(corpus_noise().size)


def corpus_noise() -> Image.Image:
    return Image.effect_noise((200, 150), 80).convert("RGB")


def test_the_same_upload_gives_the_same_bytes() -> None:
    for upload in (heif(scene(), exif=exif(6)), encode(transparent(), "TIFF"), encode(scene("CMYK"), "JPEG")):
        assert prepared(upload) == prepared(upload)


# ---- what is hostile or broken ---------------------------------------------------------------------------------------


def bomb(kind: str) -> bytes:
    """A few bytes that say that they are 60,000 x 60,000 pixels."""
    if kind == "GIF":
        return b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + encode(scene("P"), "GIF")[10:]
    if kind == "BMP":
        data = bytearray(encode(scene(), "BMP"))
        data[18:26] = struct.pack("<ii", 60_000, 60_000)
        return bytes(data)
    data = bytearray(encode(scene(), "TIFF"))
    for tag in (256, 257):
        at = data.index(struct.pack("<HHI", tag, 4, 1))
        data[at + 8 : at + 12] = struct.pack("<I", 60_000)
    return bytes(data)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_a_decompression_bomb_is_refused_by_its_size(kind: str) -> None:
    with pytest.raises(BadImage, match="60000 x 60000 pixels, more than 200 million"):
        prepared(bomb(kind))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["HEIC", "AVIF", "TIFF", "GIF", "BMP"])
def test_a_cut_file_is_refused_with_a_reason(kind: str, share: float) -> None:
    data = heif(scene()) if kind == "HEIC" else encode(scene(), kind)
    cut = data[: max(40, int(share * len(data)))]
    with pytest.raises(BadImage, match=r"^the picture (is damaged|cannot be decoded)"):
        decoded(cut, next(found for found, name in FORMATS.items() if name == kind.replace("HEIC", "HEIF")), 0, set())


def test_a_jpeg_named_heic_and_a_heic_named_jpg_are_what_their_bytes_are() -> None:
    assert content_of(encode(scene(), "JPEG"), "face.heic").type is Type.JPEG
    assert content_of(heif(scene()), "face.jpg").type is Type.HEIC


def run_decoder(tmp_path: Path, data: bytes, kind: Type, megabytes: int) -> Any:
    (tmp_path / "source").write_bytes(data)
    asked = {"source": str(tmp_path / "source"), "target": str(tmp_path / "target"), "content_type": kind}
    asked |= {"orientation": 6, "changes": ["turned"], "megabytes": megabytes}  # type: ignore[dict-item]
    environment = {"PYTHONPATH": "layers/posedrop"}
    done = subprocess.run(
        [sys.executable, "-m", "posedrop.prepare.decode"],
        input=json.dumps(asked).encode(),
        capture_output=True,
        env=environment,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    return json.loads(done.stdout)


def test_the_decoder_is_a_program(tmp_path: Path) -> None:
    found = run_decoder(tmp_path, encode(laid_down(6), "JPEG"), Type.JPEG, 500)
    assert found == {"ending": ".jpg", "changes": ["turned"]}
    assert difference(opened((tmp_path / "target").read_bytes()), scene()) < NEAR


def test_the_decoder_has_no_more_memory_than_it_is_given(tmp_path: Path) -> None:
    flat = zlib.compress(bytes(10_001) * 10_000, 9)  # 100 million grey pixels in 100 KB
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in ((b"IHDR", header), (b"IDAT", flat), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    assert run_decoder(tmp_path, data, Type.PNG, 60) == {"problem": "decoding the picture takes more than 60 MB"}
    assert run_decoder(tmp_path, data, Type.PNG, 1500)["ending"] == ".jpg"


def test_how_long_a_response_is_waited_for() -> None:
    assert [response_seconds(seconds) for seconds in (20, 60, 75, 300)] == [15, 55, 70, 70]


def test_every_image_that_is_read_can_be_prepared() -> None:
    for name, data in corpus().items():
        try:
            info = check(data)
        except BadImage:
            continue
        if name == "webp without the last padding":  # Pillow does not read it
            continue
        made, _, _ = prepared(data)
        assert check(made).changes == (), name
        assert info.format
