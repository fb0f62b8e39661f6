"""The forms of `output`: the usual one, and those of faults."""

import base64
import json
from collections.abc import Awaitable, Callable, Sequence

from local.segmind.jobs import Job

MISSING = object()


async def output(job: Job, urls: Sequence[str], draw: Callable[[int], Awaitable[bytes]]) -> object:
    """Return the value of `output`, or MISSING. `draw` returns the image of a sample, counted from 1."""
    shape = job.effect.fault if job.effect and job.effect.fault.startswith("output-") else None
    if shape in ("output-base64", "output-data-uri") or (job.parameters.base_64 and shape is None):
        prefix = f"data:image/{job.parameters.output_format};base64," if shape == "output-data-uri" else ""
        images = [await draw(sample) for sample in range(1, job.parameters.samples + 1)]
        return _one_or_all([prefix + base64.b64encode(image).decode() for image in images])
    shapes: dict[str | None, object] = {
        None: _one_or_all(list(urls)),
        "output-string": urls[0],
        "output-list": list(urls),
        "output-json-list": json.dumps(list(urls)),
        "output-json-object": json.dumps({"url": urls[0]} if len(urls) == 1 else {"urls": list(urls)}),
        "output-objects": [{"url": url} for url in urls],
        "output-missing": MISSING,
        "output-empty": "",
        "output-null": None,
        "output-images": MISSING,
        "output-foreign": job.effect.url if job.effect else None,
    }
    return shapes[shape]


def beside(job: Job, urls: Sequence[str]) -> dict[str, object]:
    """Return further fields of the result: with some faults, the images under another name."""
    return {"images": list(urls)} if job.effect and job.effect.fault == "output-images" else {}


def _one_or_all(values: list[str]) -> object:
    return values[0] if len(values) == 1 else values
