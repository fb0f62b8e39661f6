"""The picture: size, format, number, and the same bytes for the same seed."""

import asyncio
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageStat

from local.segmind.cache import BoundedCache
from local.segmind.inputs import Inputs
from local.segmind.parameters import Source
from local.segmind.render import Order, compose, encode

SAMPLES = Path(__file__).parents[2] / "local" / "samples"


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return Image.open(SAMPLES / "face-astronaut.png").convert("RGB")


@pytest.fixture(scope="module")
def pose() -> Image.Image:
    return Image.open(SAMPLES / "pose-cameraman.png").convert("RGB")


def _image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("output_format", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_format_and_size_are_those_asked_for(client: Any, output_format: str, name: str, public: httpx.Client) -> None:
    own = _image(public.get(client.output(output_format=output_format)).content)
    assert (own.format, own.size) == (name, (96, 96))
    size = {"use_input_img_dimension": False, "custom_width": 320, "custom_height": 64}
    custom = _image(public.get(client.output(output_format=output_format, **size)).content)
    assert (custom.format, custom.size) == (name, (320, 64))


def test_quality_decides_the_bytes(client: Any, public: httpx.Client) -> None:
    sizes = [len(public.get(client.output(output_format="jpeg", quality=quality)).content) for quality in (10, 60, 95)]
    assert sizes == sorted(set(sizes))


def test_the_seed_decides_the_picture(client: Any, public: httpx.Client) -> None:
    first, second = (public.get(url).content for url in client.output(seed=5, samples=2))
    assert first != second
    assert public.get(client.output(seed=5)).content == first
    assert public.get(client.output(seed=6)).content == second


def test_both_photographs_are_in_it(face: Image.Image, pose: Image.Image) -> None:
    picture = compose(face, pose, Order(512, 512, "both", 1))
    scene = ImageStat.Stat(
        ImageChops.difference(
            picture.crop((260, 60, 512, 230)).convert("L"), pose.crop((260, 60, 512, 230)).convert("L")
        )
    )
    assert scene.mean[0] < 30, "the pose's photograph is the scene"
    colours: Any = picture.get_flattened_data()
    orange = sum(red > 180 and green < 120 and blue < 90 for red, green, blue in colours)
    assert orange > 2000, "the face's photograph, with its orange suit, is a portrait in it"


@pytest.mark.parametrize("size", [(64, 64), (64, 1024), (1024, 64), (161, 160)])
@pytest.mark.parametrize("prompt", ["", "x" * 9000, "Gr\u00fc\u00dfe \u4f60\u597d \U0001f600\n\ttabs"])
def test_any_size_and_prompt_can_be_drawn(
    face: Image.Image, pose: Image.Image, size: tuple[int, int], prompt: str
) -> None:
    assert compose(face, pose, Order(*size, prompt=prompt, seed=-3)).size == size


def test_drawing_costs_little_more_than_encoding(face: Image.Image, pose: Image.Image) -> None:
    def seconds(draw: Callable[[], Image.Image]) -> float:
        started = time.process_time()
        encode(draw(), "png", 95)
        return time.process_time() - started

    alone = min(seconds(lambda: pose.resize((512, 512))) for _ in range(3))
    assert min(seconds(lambda: compose(face, pose, Order(512, 512, "quick", 1))) for _ in range(3)) < 8 * alone


def test_pictures_with_alpha_or_a_palette_are_drawn(tmp_path: Path) -> None:
    async def take(mode: str) -> tuple[int, int, str]:
        buffer = io.BytesIO()
        Image.new(mode, (70, 80)).save(buffer, "PNG")
        with ThreadPoolExecutor(1) as executor:
            inputs = Inputs(tmp_path, executor)
            picture = await inputs.take("face_image", Source(data=buffer.getvalue()))
            await inputs.close()
            return picture.width, picture.height, inputs.image(picture).mode

    assert {asyncio.run(take(mode)) for mode in ("RGBA", "P", "LA", "1")} == {(70, 80, "RGB")}


def test_the_cache_is_bounded() -> None:
    cache: BoundedCache[str] = BoundedCache(10)
    for key, size in (("a", 4), ("b", 4), ("c", 99)):
        cache.put(key, key, size)
    assert cache.get("a") == "a"
    cache.put("d", "d", 4)
    assert [cache.get(key) for key in "abcd"] == ["a", None, None, "d"]
    assert cache.size == 8
