"""Recognise what a file contains by its first bytes: a picture of a supported type, or something else."""

import re
from dataclasses import dataclass
from enum import StrEnum

HEAD_BYTES = 1024
"""The number of first bytes that is enough to recognise a file."""


class Type(StrEnum):
    """The supported types of pictures, as content types."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    WEBP = "image/webp"
    HEIC = "image/heic"
    AVIF = "image/avif"
    TIFF = "image/tiff"
    GIF = "image/gif"
    BMP = "image/bmp"


SENT = (Type.PNG, Type.JPEG, Type.WEBP)
"""The types that may be sent unchanged. Pictures of other types are converted first."""

EXPORT = "save the picture as JPEG or PNG and upload that"
UNPACK = "unpack it and upload the pictures"
PICTURE = "upload a picture: JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF or BMP"


@dataclass(frozen=True)
class Content:
    """What a file contains. If it is not a supported picture, `type` is None and `advice` says what to do."""

    words: str
    type: Type | None = None
    advice: str = PICTURE


EMPTY = Content("an empty file")
UNKNOWN = Content("not a supported picture")
_RAW = Content("a camera's RAW file", advice=EXPORT)
_VIDEO = Content("a video", advice="upload a picture, not the video")
_ZIP = Content("a ZIP archive", advice=UNPACK)
_PAGE = Content("an HTML page", advice="it may have been saved instead of a picture: download the picture itself")
_TIFF = Content("a TIFF", Type.TIFF)

RAW_ENDINGS = frozenset(
    {
        *("3fr", "arw", "cr2", "cr3", "crw", "dng", "erf", "iiq", "kdc", "mef", "mos"),
        *("nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "sr2", "srf", "srw"),
    }
)
"""The extensions of RAW files. Most RAW files begin like a TIFF, so only the name distinguishes them."""

_STARTS: tuple[tuple[bytes, Content], ...] = (
    (b"\x89PNG\r\n\x1a\n", Content("a PNG", Type.PNG)),
    (b"\xff\xd8\xff", Content("a JPEG", Type.JPEG)),
    (b"GIF87a", Content("a GIF", Type.GIF)),
    (b"GIF89a", Content("a GIF", Type.GIF)),
    (b"IIRO", _RAW),
    (b"IIRS", _RAW),
    (b"IIU\0", _RAW),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),
    (b"MM\0+", _TIFF),
    (b"8BPS", Content("a Photoshop file", advice=EXPORT)),
    (b"%PDF-", Content("a PDF", advice=EXPORT)),
    (b"%!PS", Content("a PostScript file", advice=EXPORT)),
    (b"\xc5\xd0\xd3\xc6", Content("a PostScript file", advice=EXPORT)),
    (b"gimp xcf", Content("a GIMP file", advice=EXPORT)),
    (b"\0\0\0\x0cJXL ", Content("a JPEG XL", advice=EXPORT)),
    (b"\xff\x0a", Content("a JPEG XL", advice=EXPORT)),
    (b"\0\0\0\x0cjP", Content("a JPEG 2000", advice=EXPORT)),
    (b"\xff\x4f\xff\x51", Content("a JPEG 2000", advice=EXPORT)),
    (b"\0\0\1\0", Content("an icon", advice=EXPORT)),
    (b"v/1\1", Content("an OpenEXR", advice=EXPORT)),
    (b"PK\3\4", _ZIP),
    (b"PK\5\6", _ZIP),
    (b"Rar!\x1a\7", Content("a RAR archive", advice=UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Content("a 7z archive", advice=UNPACK)),
    (b"\x1f\x8b", Content("a gzip archive", advice=UNPACK)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Content("a Microsoft Office file", advice=EXPORT)),
    (b"\x1aE\xdf\xa3", _VIDEO),
    (b"\0\0\1\xba", _VIDEO),
    (b"\0\0\1\xb3", _VIDEO),
    (b"FLV\1", _VIDEO),
    (b"ID3", Content("an audio file")),
    (b"fLaC", Content("an audio file")),
    (b"OggS", Content("an audio file")),
    (b"\0\5\x16\7", Content("a macOS side file (AppleDouble)")),
    (b"bplist00", Content("an Apple property list")),
    (b"SQLite format 3\0", Content("a database")),
    (b"\x7fELF", Content("a program")),
    (b"MZ", Content("a program")),
)
_RIFF = {b"WEBP": Content("a WebP", Type.WEBP), b"AVI ": _VIDEO, b"WAVE": Content("an audio file")}
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"mif2"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_MARKUP = re.compile(rb"\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(!doctype\s+)?([a-z]+)", re.IGNORECASE | re.DOTALL)
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def content_of(head: bytes, name: str = "") -> Content:
    """Return what a file contains. `head` is its first HEAD_BYTES bytes, or the whole file if it is shorter.

    The file's `name` is needed to distinguish a camera's RAW file from a TIFF.
    """
    if not head:
        return EMPTY
    for start, content in _STARTS:
        if head.startswith(start):
            is_raw = content is _TIFF and name.rpartition(".")[2].lower() in RAW_ENDINGS
            return _RAW if is_raw else content
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], UNKNOWN)
    if head[4:8] == b"ftyp":
        return _media(head)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _VIDEO
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return Content("a BMP", Type.BMP)
    if head[257:262] == b"ustar":
        return Content("a tar archive", advice=UNPACK)
    if head[128:132] == b"DICM":
        return Content("a DICOM file", advice=EXPORT)
    return _text(head)


def _media(head: bytes) -> Content:
    """Recognise a file of boxes (ISO/IEC 14496-12) by its brand and its compatible brands."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head), 256), 4))]
    if brands[0] == b"crx ":
        return _RAW
    if brands[0] in _HEIF_BRANDS | _AVIF_BRANDS:
        is_avif = brands[0] in _AVIF_BRANDS or (not _HEIC_CODED.intersection(brands) and _AVIF_BRANDS & {*brands})
        return Content("an AVIF", Type.AVIF) if is_avif else Content("a HEIC", Type.HEIC)
    return Content("an audio file") if brands[0].startswith(b"M4A") else _VIDEO


_HEIC_CODED = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis"})


def _text(head: bytes) -> Content:
    """Recognise text, and formats that are text."""
    plain = head.removeprefix(b"\xef\xbb\xbf")
    if found := _MARKUP.match(plain):
        name = found[2].lower()
        if name == b"svg":
            return Content("an SVG drawing", advice=EXPORT)
        if name in (b"html", b"head", b"body", b"title", b"script", b"meta"):
            return _PAGE
        return Content("an XML file")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Content("text")
    if plain.lstrip()[:1] in (b"{", b"[") and not _CONTROLS.search(plain):
        return Content("JSON")
    if _CONTROLS.search(plain):
        return UNKNOWN
    # The last character of the head may be cut in its middle.
    return Content("text") if _decodes(plain) else UNKNOWN


def _decodes(data: bytes) -> bool:
    for cut in range(4):
        try:
            data[: len(data) - cut].decode()
        except UnicodeDecodeError:
            continue
        return True
    return False
