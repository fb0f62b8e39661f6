"""Keep the findings in a file, and send them to `intake` as S3 events."""

import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any, Self

from botocore.config import Config

from ops.act.backfill.finding import Found, Outcome
from ops.errors import OpsError
from ops.formatting import many
from ops.stack import Stack

MESSAGES = 10
"""Messages in one SQS call (API reference, SendMessageBatch)."""
SENDERS = 8
"""Batches that are sent at the same time."""


@dataclass
class Summary:
    """The number of uploads with each outcome, and the maximum cost of those to be sent (USD)."""

    counts: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0

    @property
    def to_send(self) -> int:
        """Return how many uploads are to be sent."""
        return self.counts[Outcome.TO_SEND]


class Spool:
    """The findings as JSON lines in a temporary file. Use it as a context manager."""

    def __init__(self) -> None:
        self.summary = Summary()
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 # closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def put(self, found: Found) -> None:
        """Add one upload."""
        self.summary.counts[found.outcome] += 1
        self.summary.usd = round(self.summary.usd + found.usd, 6)
        self._file.write(json.dumps(vars(found), ensure_ascii=False) + "\n")

    def lines(self) -> Iterator[str]:
        """Yield all uploads as JSON texts."""
        self._file.seek(0)
        for line in self._file:
            yield line.rstrip("\n")

    def __iter__(self) -> Iterator[Found]:
        """Yield all uploads."""
        for line in self.lines():
            values = json.loads(line)
            yield Found(**{**values, "outcome": Outcome(values["outcome"])})


def event_of(stack: Stack, found: Found) -> str:
    """Return the message that EventBridge would have sent for an upload, with the fields that `intake` reads."""
    bucket = stack.output("UploadBucketName")
    upload = {"key": found.key, "size": found.size, "etag": found.etag}
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": stack.account,
        "time": found.uploaded_at,
        "region": stack.region,
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {"version": "0", "bucket": {"name": bucket}, "object": upload, "reason": "backfill"},
    }
    return json.dumps(event, ensure_ascii=False)


def send(stack: Stack, uploads: Iterable[Found]) -> int:
    """Send the uploads with the outcome TO_SEND to the upload queue, and return their number.

    An upload that is sent twice makes one job, so this can be repeated. Raises OpsError if SQS refused some messages;
    other errors of AWS pass as botocore's.
    """
    url, sqs = stack.output("UploadQueueUrl"), stack.client("sqs", config=Config(max_pool_connections=SENDERS))

    def send_batch(batch: list[str]) -> int:
        entries: Any = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)]
        return len(sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed", []))

    bodies = (event_of(stack, found) for found in uploads if found.outcome is Outcome.TO_SEND)
    sent = refused = 0
    with ThreadPoolExecutor(SENDERS) as pool:
        while batches := [batch for _ in range(SENDERS) if (batch := list(islice(bodies, MESSAGES)))]:
            refused += sum(pool.map(send_batch, batches))
            sent += sum(map(len, batches))
    if refused:
        raise OpsError(f"the queue refused {many(refused, 'message')} of {sent:,}: run it again")
    return sent
