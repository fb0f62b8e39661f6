"""Draw the picture: the pose's photograph as the scene, the face's as a portrait in it, a caption below.

The same inputs and seed give the same bytes. Another seed gives another tint.
"""

import colorsys
import io
import math
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps, ImageStat

GOLDEN_ANGLE = 137.508  # degrees, so that neighbouring seeds get very different tints
PORTRAIT_SHARE = 0.44  # the portrait's diameter, of the picture's short side
CAPTION_FROM = 160  # pixels; if the short side is smaller, a caption is unreadable
OVERSAMPLING = 4
CAPTION_CHARACTERS = 400


@dataclass(frozen=True)
class Order:
    """What to draw; sizes in pixels."""

    width: int
    height: int
    prompt: str
    seed: int


def compose(face: Image.Image, pose: Image.Image, order: Order) -> Image.Image:
    """Draw the picture from two RGB images."""
    size = (order.width, order.height)
    short = min(size)
    picture = _tinted(ImageOps.fit(pose, size, Image.Resampling.BICUBIC, centering=(0.5, 0.4)), order.seed)
    strip = max(18, round(short * 0.06)) if short >= CAPTION_FROM else 0
    _place_portrait(picture, face, strip)
    if strip:
        _write_caption(picture, strip, order)
    return picture


def encode(picture: Image.Image, output_format: str, quality: int) -> bytes:
    """Encode as png, jpeg or webp; `quality` (10 to 100) is for the latter two."""
    buffer = io.BytesIO()
    if output_format == "png":
        picture.save(buffer, "PNG", compress_level=1)
    elif output_format == "jpeg":
        picture.save(buffer, "JPEG", quality=quality)
    else:
        picture.save(buffer, "WEBP", quality=quality, method=1)
    return buffer.getvalue()


def _tinted(image: Image.Image, seed: int) -> Image.Image:
    hue = math.fmod(seed % 360_000 * GOLDEN_ANGLE, 360) / 360
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.55, 0.8))
    tint = Image.new("RGB", image.size, (red, green, blue))
    return Image.blend(image, ImageChops.soft_light(image, tint), 0.6)


def _place_portrait(picture: Image.Image, face: Image.Image, strip: int) -> None:
    short = min(picture.size)
    diameter = round(short * PORTRAIT_SHARE)
    margin = round(short * 0.045)
    border = max(1, round(diameter * 0.022))
    left, top = _quiet_corner(picture, diameter, margin, strip)

    picture.paste((0, 0, 0), (left - margin, top - margin + margin // 4), _shadow(diameter, margin))
    picture.paste((250, 248, 243), (left, top), _disc(diameter))
    inner = diameter - 2 * border
    picture.paste(_portrait(face, inner), (left + border, top + border), _disc(inner))


def _portrait(face: Image.Image, diameter: int) -> Image.Image:
    """Return the upper middle of the photograph, where the head of a portrait is."""
    side = min(face.width, face.height)
    side = round(side * (0.72 if face.height >= face.width * 0.9 else 0.9))
    left, top = (face.width - side) // 2, round((face.height - side) * 0.04)
    box = (left, top, left + side, top + side)
    return face.resize((diameter, diameter), Image.Resampling.BICUBIC, box=box)


@lru_cache(maxsize=8)
def _shadow(diameter: int, margin: int) -> Image.Image:
    """Return a mask for the portrait's shadow on the scene."""
    shadow = Image.new("L", (diameter + 2 * margin,) * 2)
    ImageDraw.Draw(shadow).ellipse((margin, margin, margin + diameter, margin + diameter), fill=150)
    return shadow.filter(ImageFilter.GaussianBlur(margin * 0.45))


@lru_cache(maxsize=8)
def _disc(diameter: int) -> Image.Image:
    """Return a mask with a soft edge."""
    large = Image.new("L", (diameter * OVERSAMPLING,) * 2)
    ImageDraw.Draw(large).ellipse((0, 0, large.width - 1, large.height - 1), fill=255)
    return large.resize((diameter, diameter), Image.Resampling.BOX)


def _quiet_corner(picture: Image.Image, diameter: int, margin: int, strip: int) -> tuple[int, int]:
    """Return the corner with the least detail, so that the portrait hides little of the pose."""
    right, bottom = picture.width - diameter - margin, picture.height - strip - diameter - margin
    corners = [(right, margin), (margin, margin), (right, bottom), (margin, bottom)]
    scale = 64 / max(picture.size)
    edges = picture.convert("L").resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    edges = edges.filter(ImageFilter.FIND_EDGES)

    def detail(corner: tuple[int, int]) -> float:
        left, top = (round(part * scale) for part in corner)
        span = max(1, round(diameter * scale))
        return ImageStat.Stat(edges.crop((left, top, left + span, top + span))).mean[0]

    return min(corners, key=detail)


def _write_caption(picture: Image.Image, strip: int, order: Order) -> None:
    top = picture.height - strip
    box = (0, top, picture.width, picture.height)
    picture.paste(Image.blend(picture.crop(box), Image.new("RGB", (picture.width, strip), (18, 18, 20)), 0.82), box)
    canvas = ImageDraw.Draw(picture)
    font = ImageFont.load_default(strip * 0.46)
    middle, pad = top + strip / 2, round(strip * 0.5)
    seed = f"seed {order.seed}"
    canvas.text((picture.width - pad, middle), seed, font=font, fill=(186, 184, 178), anchor="rm")
    room = picture.width - 3 * pad - canvas.textlength(seed, font=font)
    prompt = " ".join(order.prompt[:CAPTION_CHARACTERS].split())
    canvas.text((pad, middle), _shortened(canvas, prompt, font, room), font=font, fill=(244, 242, 236), anchor="lm")


def _shortened(
    canvas: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float
) -> str:
    if canvas.textlength(text, font=font) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if canvas.textlength(text[:middle] + "...", font=font) <= room else (low, middle - 1)
    return text[:low].rstrip() + "..." if low else ""
