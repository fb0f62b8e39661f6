"""The jobs and outputs that the simulation writes into the ledger."""

from typing import Any, cast

from bench.simulation.dynamodb import Client, Meter, Table
from bench.simulation.engine import Simulation
from bench.simulation.outside import BUCKET
from bench.simulation.template import TABLE
from posedrop.aws.ledger import Ledger
from posedrop.aws.places import in_line
from posedrop.contract.job import Input, Job
from posedrop.contract.upload_layout import UploadLayout

IMAGE_BYTES = 2_000_000
PROMPT = "the same person, looking through a camera on a tripod"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def job_name(character: str, pose: str, number: int) -> str:
    """Return a job's id."""
    return f"{character.replace('/', '-')}-{pose}-{number:016x}"


def sample_job(character: str, pose: str, name: str) -> Job:
    """Return a job of one face and one pose."""
    folder = UploadLayout().folder(character)
    inputs = {
        kind: Input(
            bucket=BUCKET,
            key=f"{key}.png",
            version_id="3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY",
            etag="70ee1738b6b21e2c8a43f3a5ab0eee71",
            size=IMAGE_BYTES,
            sha256=SHA256,
            content_type="image/png",
        )
        for kind, key in (("face", folder.face), ("pose", folder.pose(pose)))
    }
    return Job(name, BUCKET, character, pose, inputs, {"prompt": PROMPT, "samples": 1}, {})


def output(character: str, pose: str) -> dict[str, Any]:
    """Return the ledger's data about a stored image."""
    key = f"outputs/{character}/{pose}/{character}-{pose}-0123456789abcdef/1/1.png"
    stored = {"bucket": "outputs", "key": key, "uri": f"s3://outputs/{key}", "content_type": "image/png"}
    return {**stored, "bytes": IMAGE_BYTES, "sha256": SHA256, "width": 1024, "height": 1024}


def item_in_line(simulation: Simulation, character: str, pose: str, name: str, came: float) -> dict[str, Any]:
    """Write a job in line, with the ledger in its own table, and return its item.

    `came`: when it was queued (seconds since the epoch).
    """
    aside = Table(simulation, "job_id", {})
    ledger = Ledger(cast(Any, Client(simulation, aside, Meter(), timed=False)), TABLE)
    place = {"rank": 1, "dispatch_number": 1, "queued_at": came, **in_line(1, came)}
    ledger.queue(sample_job(character, pose, name), place, came)
    return dict(aside.items[name])
