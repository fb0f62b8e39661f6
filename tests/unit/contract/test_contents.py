"""What is in a file, by its first bytes."""

import io
import zipfile

import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from posedrop.contract.contents import EMPTY, HEAD_BYTES, SENT, Type, content_of
from tests.corpus import corpus, encode, picture


def heic(**options: object) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(picture(size=(64, 64))).save(out, **options)
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("face.png", b"x")
    return out.getvalue()


PICTURES = {
    Type.HEIC: [heic()],
    Type.AVIF: [encode(picture(), "AVIF"), b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"],
    Type.TIFF: [encode(picture(), "TIFF"), encode(picture("I;16"), "TIFF", big_tiff=True), b"MM\0*" + bytes(20)],
    Type.GIF: [encode(picture("P"), "GIF")],
    Type.BMP: [encode(picture(), "BMP")],
    Type.PNG: [data for name, data in corpus().items() if name.startswith("png")],
    Type.JPEG: [data for name, data in corpus().items() if name.startswith("jpeg")],
    Type.WEBP: [data for name, data in corpus().items() if name.startswith("webp")],
}


@pytest.mark.parametrize("kind", Type)
def test_pictures(kind: Type) -> None:
    for data in PICTURES[kind]:
        assert content_of(data[:HEAD_BYTES], "face.jpg").type is kind


@pytest.mark.parametrize(
    ("data", "words", "advice"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF", "save the picture as JPEG"),
        (b"8BPS\0\1" + bytes(20), "a Photoshop file", "save the picture as JPEG"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video", "not the video"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "a video", "not the video"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "a video", "not the video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video", "not the video"),
        (b"\x1aE\xdf\xa3\x01", "a video", "not the video"),
        (b"<!DOCTYPE html>\n<html><body>404", "an HTML page", "saved instead of a picture"),
        (b"\xef\xbb\xbf  <HTML lang=en>", "an HTML page", "saved instead of a picture"),
        (b"<!-- saved --><head>", "an HTML page", "saved instead of a picture"),
        (b"<?xml version='1.0'?>\n<svg xmlns=''>", "an SVG drawing", "save the picture as JPEG"),
        (b"<?xml version='1.0'?><plist>", "an XML file", "upload a picture"),
        (archive(), "a ZIP archive", "unpack it"),
        (b"Rar!\x1a\7\1\0", "a RAR archive", "unpack it"),
        (b"\x1f\x8b\x08\0", "a gzip archive", "unpack it"),
        ("Ein Wörterbuch über Fotos\n".encode(), "text", "upload a picture"),
        (("ö" * 511 + "x").encode() + b"\xc3", "text", "upload a picture"),
        ("Hallo".encode("utf-16"), "text", "upload a picture"),
        (b'{"prompt": "a walk"}', "JSON", "upload a picture"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "a macOS side file (AppleDouble)", "upload a picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL", "save the picture as JPEG"),
        (b"FUJIFILMCCD-RAW 0201", "a camera's RAW file", "save the picture as JPEG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "a camera's RAW file", "save the picture as JPEG"),
        (b"ID3\4\0", "an audio file", "upload a picture"),
        (b"\1\2\3\4\xff\xfe\xfd", "not a supported picture", "upload a picture"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, words: str, advice: str) -> None:
    found = content_of(data, "face.jpg")
    assert (found.type, found.words) == (None, words)
    assert advice in found.advice


def test_a_raw_file_is_a_tiff_with_another_name() -> None:
    data = encode(picture(), "TIFF")
    assert content_of(data, "walk.tif").type is Type.TIFF
    for name in ("walk.DNG", "walk.nef", "walk.arw"):
        assert content_of(data, name).words == "a camera's RAW file"


def test_an_empty_file() -> None:
    assert content_of(b"") is EMPTY


def test_what_is_sent_as_it_is() -> None:
    assert {str(kind) for kind in SENT} == {"image/png", "image/jpeg", "image/webp"}


@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_are_reported_as_something(data: bytes) -> None:
    assert content_of(data).words


def test_heic_is_read_by_the_decoder_of_the_tests() -> None:
    pillow_heif.register_heif_opener()
    with Image.open(io.BytesIO(heic())) as image:
        assert image.size == (64, 64)
