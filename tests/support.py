"""Helpers of several tests: the sample events, sample images, and a Lambda context."""

import copy
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from posedrop.segmind.model import CONSISTENT_CHARACTER

ROOT = Path(__file__).parent.parent
FIRST_PRICE = CONSISTENT_CHARACTER.first_price
EVENTS = ROOT / "events"
SAMPLES = ROOT / "local" / "samples"
HANGS = 300.0
"""Seconds that a test waits at most: what has not come by then will never come, even on a slow machine."""


def load_event(name: str) -> Any:
    """Return a sample event of events/."""
    return copy.deepcopy(_load(name))


@cache
def _load(name: str) -> Any:
    return json.loads((EVENTS / name).read_text(encoding="utf-8"))


def schema(name: str) -> Any:
    """Return a schema of events/schemas/."""
    return json.loads((EVENTS / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))


def image(kind: str = "png", size: tuple[int, int] = (8, 6), color: str = "navy") -> bytes:
    """Return a small picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, kind)
    return buffer.getvalue()


def until(found: Callable[[], Any], seconds: float = HANGS) -> Any:
    """Wait until `found` returns something, and return that."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return result


@dataclass
class Context:
    """The context of an invocation. `seconds` is the remaining time."""

    seconds: float = 60.0
    function_name: str = "function"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:eu-central-1:123456789012:function:function"
    aws_request_id: str = "52fdfc07-2182-454f-963f-5f0f9a621d72"

    def get_remaining_time_in_millis(self) -> int:
        """Return the remaining milliseconds."""
        return int(self.seconds * 1000)
