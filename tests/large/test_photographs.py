"""Two hundred photographs through the deployed stack: none is lost, and each function keeps within its memory."""

import io
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image

from bench.prepare import measured
from local.chaos.memory import Sampling, family, memory
from local.pipeline import Inbox, drop, records, wait_for
from local.stack import LocalStack
from posedrop.contract.images import UPLOAD_LIMIT, Change
from tests.corpus import SECRET, encode, exif
from tests.unit.template.test_template import function

pytestmark = pytest.mark.large
POSES = 200
SECONDS = 900.0
"""Within which all of them are sent, at 600 a minute."""


class Functions(Sampling):
    """Watches the memory of each function's processes, the decoder's among those of `prepare`; bytes by its name."""

    def __init__(self) -> None:
        super().__init__(0.3)
        self.peak: dict[str, int] = defaultdict(int)

    def sample(self) -> None:
        for pid in family(os.getpid()):
            if name := _function(pid):
                self.peak[name] = max(self.peak[name], sum(map(memory, family(pid))))


def _function(pid: int) -> str:
    """The name of the function that a process runs, empty for other processes."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    names = [found.partition(b"=")[2].decode() for found in variables if found.startswith(b"POWERTOOLS_SERVICE_NAME=")]
    return names[0] if names else ""


def photograph(number: int) -> Image.Image:
    """A picture that lies on its side, another one for each number."""
    noise = Image.effect_noise((512, 512), 20 + number % 7)
    image = Image.blend(noise.resize((1600, 1200)), Image.new("L", (1600, 1200), number), 0.6)
    return Image.merge("RGB", (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image))


def heic(image: Image.Image) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, exif=exif(6), quality=60)
    return out.getvalue()


def test_two_hundred_photographs(tmp_path: Path) -> None:
    parameters = {"SettleSeconds": 1, "SegmindRequestsPerMinute": 600}
    with LocalStack(tmp_path, parameters=parameters, emulator=["--latency", "1"]) as stack, Functions() as functions:
        inbox = Inbox(stack)
        drop(stack, "incoming/phone/job.json", b'{"prompt": "x"}')
        for number in range(POSES):
            image = photograph(number)
            data = heic(image) if number % 10 == 0 else encode(image, "JPEG", quality=90, exif=exif(6))
            drop(stack, f"incoming/phone/poses/{number}.{'heic' if number % 10 == 0 else 'jpg'}", data)
        drop(stack, "incoming/phone/face.HEIC", heic(photograph(255)))
        wait_for(lambda: len(ended(stack)) == POSES or None, "the end of all jobs", SECONDS)
        found = ended(stack)
        assert {record["status"] for record in found} == {"SUCCEEDED"}
        ids = {record["job_id"] for record in found}
        wait_for(lambda: {message["job_id"] for message in inbox.receive()} >= ids or None, "all notifications", 120)
        for record in found:
            for name in ("face", "pose"):
                assert "turned" in record["inputs"][name]["prepared"]["what"]
        sqs = stack.client("sqs")
        dead = sqs.get_queue_attributes(
            QueueUrl=stack.outputs["DeadLetterQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
        )
        assert dead["Attributes"]["ApproximateNumberOfMessages"] == "0"
        bucket = stack.outputs["OutputBucketName"]
        listed = stack.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="prepared/")
        keys = [entry["Key"] for page in listed for entry in page.get("Contents", [])]
        assert len(keys) == POSES + 1  # each upload once, the face too
        body = stack.client("s3").get_object(Bucket=bucket, Key=keys[0])["Body"].read()
        assert SECRET not in body
    assert {"intake", "submit", "prepare"} <= functions.peak.keys()
    for name, peak in functions.peak.items():
        assert peak < function(name)["MemorySize"] * 2**20, name
    print({name: f"{peak / 2**20:.0f} MB" for name, peak in sorted(functions.peak.items())})


def ended(stack: LocalStack) -> list[dict[str, Any]]:
    """The records of the jobs that have ended and were notified."""
    return [record for record in records(stack, "phone") if record.get("notified_at")]


def tiff_of_100_mib() -> bytes:
    return encode(Image.effect_noise((6200, 5630), 30).convert("RGB"), "TIFF")


def progressive_of_200_megapixels() -> bytes:
    image = Image.linear_gradient("L").resize((16_000, 12_500)).convert("RGB")
    return encode(image, "JPEG", quality=85, subsampling=0, progressive=True, exif=exif(6))


def transparent_of_200_megapixels() -> bytes:
    image = Image.linear_gradient("L").resize((16_000, 12_500))
    return encode(Image.merge("RGBA", (image, image, image, image)), "PNG", compress_level=1)


@pytest.mark.parametrize(
    "make",
    [tiff_of_100_mib, progressive_of_200_megapixels, transparent_of_200_megapixels],
    ids=lambda make: make.__name__,
)
def test_the_largest_uploads_are_prepared_within_the_function_s_memory(make: Callable[[], bytes]) -> None:
    data = make()
    assert len(data) <= UPLOAD_LIMIT
    found = measured(data, runs=1)
    assert {*found["what"].split(", ")} <= {str(change) for change in Change}
    assert found["megabytes"] * 1e6 < function("prepare")["MemorySize"] * 2**20
