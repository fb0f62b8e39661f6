"""Generate small images of every kind that cameras, programs and phones write, and some that no program reads.

`CORPUS` has them by name; tests/unit/contract/test_image_corpus.py says which of them decoders read.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy
import pyvips
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

SIZE = (37, 23)
SECRET = b"48.2082 N, 16.3738 E"
"""Represents the place where a picture was taken: no byte of it may reach the provider."""
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><place>' + SECRET + b"</place></x:xmpmeta>"
JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0" + XMP
IPTC = b"Photoshop 3.0\08BIM\x04\x04\0\0\0\0\0\x1a\x1c\x02\x5a\0\x14" + SECRET


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE, seed: int = 1) -> Image.Image:
    """Return a picture with noise, so that no encoder makes it trivially small."""
    image = Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3))
    return image.convert(mode)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture encoded with Pillow."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int = 1, thumbnail: bytes = b"") -> bytes:
    """Return EXIF as phones write it: the orientation, a maker's note, a place, and a thumbnail."""
    made = Image.Exif()
    made[0x0112] = orientation
    made[0x010F] = "Maker " + SECRET.decode()
    made.get_ifd(0x8769)[0x927C] = b"Apple iOS\0" + SECRET
    made.get_ifd(0x8825)[0x001D] = SECRET.decode()
    made.get_ifd(0x8825)[2] = (48.0, 12.0, 29.5)
    return made.tobytes() + thumbnail


def srgb_profile() -> bytes:
    """Return the sRGB profile of littlecms."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(primaries: dict[bytes, tuple[float, float, float]], gamma: float) -> bytes:
    """Return a colour profile of three primaries (adapted to D50) and one gamma (ICC.1:2022, 7.2, 7.3, 10.6, 10.31)."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"para\0\0\0\0\0\0\0\0" + struct.pack(">i", round(gamma * 65536))
    text = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 8, 28) + "test".encode("utf-16-be")
    tags = {b"desc": text, b"cprt": text, b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    tags |= {name: xyz(values) for name, values in primaries.items()}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", at + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s12s4s", at + len(data), b"test", 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"", b"acsp")
    head += struct.pack(">4sI4s4sQI3i", b"APPL", 0, b"test", b"test", 0, 0, 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


DISPLAY_P3 = profile(
    {b"rXYZ": (0.5151, 0.2412, -0.0011), b"gXYZ": (0.2920, 0.6922, 0.0419), b"bXYZ": (0.1571, 0.0666, 0.7841)}, 2.2
)


# ---- parts of files --------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(depth: int, colour: int, *before: bytes, interlace: int = 0, parts: int = 1, between: bytes = b"") -> bytes:
    """Return a PNG of 8 x 8 pixels in a pixel format, with chunks before its data, which is in so many parts."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    rows = [(8, 8)]
    if interlace:
        rows = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]  # width and height of Adam7's passes
    # Noise that is a valid index for any palette of this depth.
    data = b"".join(
        b"\0" + random.Random(row).randbytes((width * depth * samples + 7) // 8)
        for width, height in rows
        for row in range(height)
    )
    packed = zlib.compress(data)
    step = -(-len(packed) // parts)
    idat = [chunk(b"IDAT", packed[start : start + step]) for start in range(0, len(packed), step)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(before) + between.join(idat) + chunk(b"IEND")


def palette(depth: int) -> bytes:
    """Return a PNG's palette for all values of a depth."""
    return chunk(b"PLTE", random.Random(7).randbytes(3 * 2**depth))


def segment(code: int, body: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return bytes((0xFF, code)) + struct.pack(">H", len(body) + 2) + body


def into_jpeg(data: bytes, what: bytes, before: bytes = b"\xff\xdb") -> bytes:
    """Return a JPEG with additional bytes before the first marker of a kind."""
    at = data.index(before)
    return data[:at] + what + data[at:]


def webp(*chunks: tuple[bytes, bytes], pad_last: bool = True) -> bytes:
    """Return a WebP of these chunks."""
    body = b"WEBP"
    for number, (kind, data) in enumerate(chunks):
        padding = b"\0" if len(data) % 2 and (pad_last or number + 1 < len(chunks)) else b""
        body += kind + struct.pack("<I", len(data)) + data + padding
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a WebP."""
    found, at = [], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return found


def vp8x(flags: int, size: tuple[int, int] = SIZE) -> tuple[bytes, bytes]:
    """Return the first chunk of an extended WebP."""
    width, height = size
    return b"VP8X", bytes((flags, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def lossless_jpeg() -> bytes:
    """Return a lossless JPEG of 16 x 16 grey pixels: predictor 1, a Huffman code of five bits each (T.81, annex H)."""
    values = random.Random(3).randbytes(256)
    bits = ""
    for at, value in enumerate(values):
        row, column = divmod(at, 16)
        before = values[at - 1] if column else values[at - 16] if row else 128
        difference = value - before
        size = abs(difference).bit_length()
        bits += f"{size:05b}"
        bits += f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}" if size else ""
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    table = segment(0xC4, b"\0" + bytes((0, 0, 0, 0, 10)) + bytes(11) + bytes(range(10)))
    frame = segment(0xC3, struct.pack(">BHHBBBB", 8, 16, 16, 1, 1, 0x11, 0))
    return b"\xff\xd8" + frame + table + segment(0xDA, bytes((1, 1, 0, 1, 0, 0))) + scan + b"\xff\xd9"


def with_frame(data: bytes, code: int = 0xC0, precision: int = 8) -> bytes:
    """Return a JPEG whose frame header has another kind or precision."""
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + bytes((code,)) + data[at + 2 : at + 4] + bytes((precision,)) + data[at + 5 :]


# ---- the corpus ------------------------------------------------------------------------------------------------------


def _vips(suffix: str, bands: int = 3, **options: Any) -> bytes:
    pixels = picture("RGBA" if bands == 4 else "L" if bands == 1 else "RGB").tobytes()
    made = pyvips.Image.new_from_memory(pixels, *SIZE, bands, "uchar")
    return bytes(made.copy(interpretation="b-w" if bands == 1 else "srgb").write_to_buffer(suffix, **options))


def _cv(suffix: str, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, numpy.asarray(picture()), list(options))[1])


def _jpegs() -> dict[str, bytes]:
    plain = encode(picture(), "JPEG", quality=90)
    thumbnail = encode(picture(size=(8, 8)), "JPEG")
    jfif = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\4\4" + SECRET + bytes(48 - len(SECRET)))
    made = {
        "plain": plain,
        "grey": encode(picture("L"), "JPEG"),
        "cmyk": encode(picture("CMYK"), "JPEG"),
        "rgb": encode(picture(), "JPEG", keep_rgb=True),
        "progressive": encode(picture(), "JPEG", progressive=True),
        "optimized": encode(picture(), "JPEG", optimize=True),
        "restarts": encode(picture(), "JPEG", restart_marker_blocks=1),
        "exif": encode(picture(), "JPEG", exif=exif(thumbnail=thumbnail)),
        "xmp": encode(picture(), "JPEG", xmp=XMP),
        "iptc": into_jpeg(plain, segment(0xED, IPTC)),
        "comment": encode(picture(), "JPEG", comment=SECRET),
        "srgb": encode(picture(), "JPEG", icc_profile=srgb_profile()),
        "display p3": encode(picture(), "JPEG", icc_profile=DISPLAY_P3),
        "several segments of a profile": encode(picture(), "JPEG", icc_profile=srgb_profile().ljust(90_000, b"\0")),
        "dpi": encode(picture(), "JPEG", dpi=(300, 300)),
        "junk between segments": into_jpeg(plain, SECRET),
        "escaped FF between segments": into_jpeg(plain, b"\xff\0" + SECRET + b"\xff\0"),
        "junk before the scan": into_jpeg(plain, SECRET, b"\xff\xda"),
        "fill bytes": into_jpeg(plain, b"\xff" * 1000),
        "restart marker before the scan": into_jpeg(plain, b"\xff\xd0"),
        "thumbnail in JFIF": plain[:2] + jfif + plain[20:],
        "JFXX": into_jpeg(plain, segment(0xE0, b"JFXX\0\x10" + thumbnail)),
        "without JFIF": plain[:2] + plain[20:],
        "long Adobe marker": into_jpeg(plain, segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + SECRET)),
        "unknown application": into_jpeg(plain, segment(0xEB, SECRET)),
        "multi picture": encode(picture(), "MPO", save_all=True, append_images=[picture(seed=2)]) + SECRET,
        "motion photo": plain + b"\0\0\0\x18ftypmp42" + SECRET,
        "zeros at the end": plain + bytes(100),
        "lossless": lossless_jpeg(),
        "12 bits": with_frame(plain, 0xC1, 12),
        "16 bits": with_frame(plain, 0xC0, 16),
        "two components": b"\xff\xd8" + segment(0xC0, b"\x08\0\x08\0\x08\2\1\x11\0\2\x11\0"),
        "cut": plain[:-200],
        "without its end": plain[:-2],
        "opencv": _cv(".jpg"),
        "opencv progressive": _cv(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "opencv restarts": _cv(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        "vips": _vips(".jpg"),
        "vips grey": _vips(".jpg", bands=1),
        "vips progressive": _vips(".jpg", interlace=True, subsample_mode="off"),
    }
    made["two components"] += plain[plain.index(b"\xff\xdb") :]
    # An arithmetic decoder reads any data: this data is not a picture, but it is decoded.
    made["arithmetic"] = with_frame(plain, 0xC9)
    made["progressive arithmetic"] = made["progressive"].replace(b"\xff\xc2", b"\xff\xca", 1)
    for code in (0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        made[f"frame {code:02X}"] = with_frame(plain, code)
    for subsampling in range(3):
        made[f"subsampling {subsampling}"] = encode(picture(), "JPEG", subsampling=subsampling)
    return {f"jpeg {name}": data for name, data in made.items()}


def _pngs() -> dict[str, bytes]:
    text = PngInfo()
    text.add_text("Comment", SECRET.decode())
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    frames = {"save_all": True, "append_images": [picture(seed=2), picture(seed=3)]}
    grey = chunk(b"tRNS", b"\0\1")
    made = {
        "rgb": encode(picture(), "PNG"),
        "rgba": encode(picture("RGBA"), "PNG"),
        "texts": encode(picture(), "PNG", pnginfo=text),
        "exif": encode(picture(), "PNG", exif=exif()),
        "srgb": encode(picture(), "PNG", icc_profile=srgb_profile()),
        "display p3": encode(picture(), "PNG", icc_profile=DISPLAY_P3),
        "dpi": encode(picture(), "PNG", dpi=(72, 72)),
        "animated": encode(picture(), "PNG", **frames),
        "animated behind a still": encode(picture(), "PNG", default_image=True, **frames),
        "gamma": png(8, 2, chunk(b"gAMA", struct.pack(">I", 45455))),
        "sRGB chunk": png(8, 2, chunk(b"sRGB", b"\0")),
        "time": png(8, 2, chunk(b"tIME", b"\x07\xe8\1\1\0\0\0")),
        "private chunk": png(8, 2, chunk(b"prVt", SECRET)),
        "transparent grey": png(8, 0, grey),
        "suggested palette": png(8, 2, palette(4)),
        "palette of grey": png(8, 0, palette(4)),
        "many parts": png(8, 2, parts=5),
        "apart": png(8, 2, parts=2, between=chunk(b"tEXt", b"a\0b")),
        "empty part": png(8, 2, parts=2, between=chunk(b"IDAT")),
        "without a palette": png(8, 3),
        "palette of four bytes": png(2, 3, chunk(b"PLTE", bytes(4))),
        "data behind its end": encode(picture(), "PNG") + SECRET,
        "cut": encode(picture(), "PNG")[:-300],
        "Apple's own": b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", b"\x50\0\x20\2") + png(8, 6)[8:],
        "opencv": _cv(".png"),
        "vips": _vips(".png"),
        "vips interlaced": _vips(".png", interlace=True),
        "vips palette": _vips(".png", palette=True),
    }
    for colour, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            before = [palette(depth)] if colour == 3 else []
            made[f"colour {colour} in {depth} bits"] = png(depth, colour, *before)
            made[f"colour {colour} in {depth} bits, interlaced"] = png(depth, colour, *before, interlace=1)
    return {f"png {name}": data for name, data in made.items()}


def _webps() -> dict[str, bytes]:
    lossy = webp_chunks(encode(picture(), "WEBP", quality=80))
    tiny = webp_chunks(encode(Image.new("RGB", (1, 1)), "WEBP", lossless=True))
    frames = {"save_all": True, "append_images": [picture(seed=2), picture(seed=3)]}
    made = {
        "lossy": encode(picture(), "WEBP", quality=80),
        "lossless": encode(picture(), "WEBP", lossless=True),
        "alpha": encode(picture("RGBA").rotate(9), "WEBP", quality=80),
        "lossless alpha": encode(picture("RGBA").rotate(9), "WEBP", lossless=True),
        "animated": encode(picture(), "WEBP", **frames),
        "exif": encode(picture(), "WEBP", exif=exif()),
        "xmp": encode(picture(), "WEBP", xmp=XMP),
        "srgb": encode(picture(), "WEBP", icc_profile=srgb_profile()),
        "display p3": encode(picture(), "WEBP", icc_profile=DISPLAY_P3),
        "all metadata": encode(picture(), "WEBP", icc_profile=srgb_profile(), exif=exif(), xmp=XMP),
        "XMP with a zero": webp(vp8x(4), *lossy, (b"XMP\0", XMP)),
        "unknown chunks": webp(vp8x(0), (b"abcd", SECRET), *lossy, (b"\xff\0\1\2", SECRET)),
        "chunks behind a plain one": webp(*lossy, (b"EXIF", exif())),
        "tiny lossless": webp(*tiny),
        "without the last padding": webp(*lossy, (b"EXIF", b"abc"), pad_last=False),
        "data behind its end": webp(*lossy) + SECRET,
        "another canvas": webp(vp8x(0, (5, 5)), *lossy),
        "without an image": webp(vp8x(0), (b"EXIF", exif())),
        "cut": encode(picture(), "WEBP")[:-100],
        "opencv": _cv(".webp"),
        "vips": _vips(".webp"),
        "vips alpha": _vips(".webp", bands=4),
    }
    return {f"webp {name}": data for name, data in made.items()}


@cache
def corpus() -> dict[str, bytes]:
    """Return all images by name; each name begins with png, jpeg or webp."""
    return {**_jpegs(), **_pngs(), **_webps()}


# ---- decoders --------------------------------------------------------------------------------------------------------


def _pillow(data: bytes) -> bool:
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
        image.load()
    return True


def _opencv(data: bytes) -> bool:
    return cv2.imdecode(numpy.frombuffer(data, numpy.uint8), cv2.IMREAD_UNCHANGED) is not None


def _libvips(data: bytes) -> bool:
    pyvips.Image.new_from_buffer(data, "", access="sequential", fail_on="error").copy_memory()
    return True


DECODERS: dict[str, Callable[[bytes], bool]] = {"Pillow": _pillow, "OpenCV": _opencv, "libvips": _libvips}


def readers(data: bytes) -> set[str]:
    """Return the decoders that can read an image."""
    found = set()
    for name, decode in DECODERS.items():
        try:
            if decode(data):
                found.add(name)
        except Exception:  # noqa: BLE001 - decoders raise nearly anything
            continue
    return found
