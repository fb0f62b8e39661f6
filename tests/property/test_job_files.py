"""Any bytes as a job file make a valid job, or an InvalidInput that says why; never another error."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from posedrop.aws.ledger import Ledger
from posedrop.aws.notifier import notification
from posedrop.aws.places import in_line
from posedrop.aws.upload_bucket import Blob, JobFiles, Listed
from posedrop.contract.examine import Examined, Examiner
from posedrop.contract.job import JOB_ID
from posedrop.contract.parameters import schema as job_schema
from posedrop.intake.folder import read_candidate
from posedrop.segmind.model import CONSISTENT_CHARACTER
from tests.support import image, schema

NOW = 1_795_000_000.0
PLACE = {"rank": 0, "queued_at": NOW, "dispatch_number": 1, **in_line(0, NOW)}
IMAGE = image()
NOTIFICATION = Draft7Validator(schema("notification"))
PARAMETERS = list(job_schema("job")["properties"])

numbers = st.one_of(
    st.integers(), st.floats(), st.integers(-(10**400), 10**400), st.sampled_from([64, 4096, 1.0, -0.0])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
near_right = st.dictionaries(
    st.one_of(st.sampled_from(PARAMETERS), st.sampled_from(["smaples", "face_image", "Prompt", "\ud800"])),
    values,
    max_size=8,
)
right = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(min_size=1, max_size=30),
        "samples": st.integers(1, 4),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "quality": st.integers(10, 100),
        "output_format": st.sampled_from(["png", "jpeg", "webp"]),
        "context": st.dictionaries(st.text(max_size=8), values, max_size=4),
    },
)


class Bucket:
    """A bucket whose files are what is given."""

    name = "bucket"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def read(self, listed: Listed, limit: int) -> Blob:
        data = self.files[listed.key]
        return Blob(listed.key, "version", "etag", len(data), data[:limit], {})

    def examine(self, listed: Listed) -> Examined:
        data = self.files[listed.key]
        examiner = Examiner(listed.key, len(data))
        examiner.feed(data)
        return examiner.close(version_id="version", etag="etag", metadata={})


class Table:
    """A table that keeps what is put into it."""

    def get_item(self, **_: Any) -> dict[str, Any]:
        return {}

    def put_item(self, **arguments: Any) -> None:
        self.item = arguments["Item"]


def check(data: bytes) -> bool:
    """Make a job of these bytes, and say whether it is valid."""
    files = {"face.png": IMAGE, "walk.png": IMAGE, "job.json": data}
    listed = {name: Listed(name, "etag", len(body), datetime.now(UTC)) for name, body in files.items()}
    found = read_candidate(
        Bucket(files),  # type: ignore[arg-type]
        "hero",
        "walk",
        JobFiles(listed["face.png"], listed["walk.png"], listed["job.json"], None),
        "a default prompt",
        model=CONSISTENT_CHARACTER,
    )
    assert JOB_ID.fullmatch(found.job.job_id)
    table = Table()
    ledger = Ledger(table, "jobs")  # type: ignore[arg-type]
    if found.error:
        assert found.error.type == "InvalidInput"
        assert str(found.error).startswith("job.json: ")
        record = ledger.refuse(found.job, found.error, NOW)
    else:
        # What is sent and kept are the model's parameters, all of them, within their ranges.
        Draft7Validator(job_schema("job")).validate(found.job.parameters)
        assert set(found.job.parameters) == set(PARAMETERS) - {"context"}
        json.dumps(found.job.parameters, allow_nan=False).encode()
        record = ledger.queue(found.job, PLACE, NOW)
    # The ledger and the notification can carry it.
    assert len(json.dumps(table.item, default=str)) < 40_000
    notified = notification(record).to_dict()
    if not found.error:
        notified |= {"status": "FAILED", "error": {}}
    json.dumps(notified, ensure_ascii=False, allow_nan=False).encode()
    if found.error:
        NOTIFICATION.validate(notified)
    return found.error is None


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b"{}" + b" " * 70_000)
@example(b"[" * 10_000)
@example(b'{"context":' * 5_000)
@example(b'{"seed": ' + b"9" * 5_000 + b"}")
@example(b'{"prompt": "\\ud800"}')
@example(b'{"context": {"\\ud800": 1}}')
@example(b'{"seed": NaN}')
@example(b'{"seed": 1e999}')
@example(b'{"samples": 1.0}')
@example(b'{"prompt": "a", "prompt": 2}')
@settings(max_examples=150)
def test_any_bytes(data: bytes) -> None:
    check(data)


@given(st.one_of(values, near_right))
@settings(max_examples=250)
def test_any_json(content: object) -> None:
    check(json.dumps(content).encode())


@given(right)
@settings(max_examples=150)
def test_what_is_right_is_accepted(content: dict[str, Any]) -> None:
    if "context" in content:
        try:
            content["context"] = json.loads(json.dumps(content["context"], allow_nan=False))
            if len(json.dumps(content["context"], ensure_ascii=False).encode()) > 4000:
                return
        except ValueError:
            return
    if not content.get("prompt", "x").strip():
        return
    assert check(json.dumps(content).encode())
