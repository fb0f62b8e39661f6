"""The ledger's records of uploads that are not a job yet."""

from typing import Any

from posedrop.aws.record import Status, WaitingRecord
from posedrop.aws.record_items import waiting_of
from posedrop.aws.record_table import INCOMPLETE, MESSAGE_LIMIT, RecordTable
from posedrop.contract.job import waiting_id
from posedrop.contract.times import rfc3339
from posedrop.segmind.responses import cut


class WaitingUploads(RecordTable):
    """The records of uploads that are not a job yet. Their ids begin with `waiting/`."""

    def get_waiting(self, record_id: str) -> WaitingRecord | None:
        """Return the record of waiting uploads, or None. The read is consistent."""
        item = self._get(record_id)
        return waiting_of(item) if item else None

    def wait(
        self, bucket: str, character: str, pose: str, missing: list[str], now: float, reason: str | None = None
    ) -> WaitingRecord:
        """Record what is missing until these uploads are a job. `pose` is empty if the character has no pose.

        `reason` gives details, such as which file may have been meant.
        """
        values: dict[str, Any] = {"bucket": bucket, "character": character, "pose": pose, "missing": missing}
        values |= {"errors": None, "reason": reason and cut(reason, MESSAGE_LIMIT)}
        waiting = {"status": Status.WAITING, "unfinished": INCOMPLETE, "updated_at": now}
        # Set by the first write only. The sweep's own message also ends here, and must not change when the sweep checks
        # next.
        first = {"day": rfc3339(now)[:10], "created_at": now, "unfinished_at": now}
        return waiting_of(self._write(waiting_id(character, pose), None, {**values, **waiting}, first))

    def stop_waiting(self, character: str, pose: str) -> None:
        """Delete the record of uploads that are a job now."""
        self._dynamodb.delete_item(TableName=self._table, Key={"job_id": {"S": waiting_id(character, pose)}})

    def count_unread(self, bucket: str, character: str, pose: str, text: str, now: float) -> WaitingRecord:
        """Count an unexpected error of uploads that are not a job yet, in their waiting record."""
        name = waiting_id(character, pose)
        known = self.get_waiting(name)
        errors = known.errors if known else 0
        values = {"bucket": bucket, "character": character, "pose": pose, "missing": []}
        waiting: dict[str, Any] = {"status": Status.WAITING, "unfinished": INCOMPLETE}
        waiting |= {"day": rfc3339(now)[:10], "created_at": now, "unfinished_at": now}
        changes = {"updated_at": now, "reason": text, "errors": errors + 1}
        return waiting_of(self._write(name, {"errors": errors or None}, changes, {**values, **waiting}))

    def alert_published(self, waiting: WaitingRecord, channels: list[str]) -> None:
        """Record the channels that have published a notification about waiting uploads, while others have not."""
        self._write(waiting.job_id, {"status": Status.WAITING}, {"published": channels})

    def alerted(self, waiting: WaitingRecord, now: float) -> None:
        """Record that a notification about waiting uploads was sent."""
        self._write(waiting.job_id, {"status": Status.WAITING}, {"alerted_at": now})
