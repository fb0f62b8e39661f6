"""Uploads that are no job yet: what they wait for."""

from typing import Any

from posedrop.aws.record import Record, Status
from posedrop.aws.record_table import INCOMPLETE, MESSAGE_LIMIT, RecordTable
from posedrop.contract.job import waiting_id
from posedrop.contract.times import rfc3339
from posedrop.segmind.responses import cut


class WaitingUploads(RecordTable):
    """The records of uploads that are no job yet, under keys of their own."""

    def wait(
        self, bucket: str, character: str, pose: str, missing: list[str], now: float, reason: str | None = None
    ) -> Record:
        """Write what is missing until these uploads are a job. The pose is empty where there is none at all.

        `reason` says more, as which file may have been meant.
        """
        values: dict[str, Any] = {"bucket": bucket, "character": character, "pose": pose, "missing": missing}
        values |= {"errors": None, "reason": reason and cut(reason, MESSAGE_LIMIT)}
        waiting = {"status": Status.WAITING, "unfinished": INCOMPLETE, "updated_at": now}
        # The sweep's own message leads here, too: when that is due again is left as it is.
        first = {"day": rfc3339(now)[:10], "created_at": now, "unfinished_at": now}
        return self._update(waiting_id(character, pose), None, {**values, **waiting}, first)

    def stop_waiting(self, character: str, pose: str) -> None:
        """Remove the record of uploads that are a job now."""
        self._dynamodb.delete_item(TableName=self._table, Key={"job_id": {"S": waiting_id(character, pose)}})

    def count_unread(self, bucket: str, character: str, pose: str, text: str, now: float) -> Record:
        """Count an unexpected error of uploads that are no job yet, in the record of what they wait for."""
        name = waiting_id(character, pose)
        known = self.get(name)
        errors = known.errors if known else 0
        values = {"bucket": bucket, "character": character, "pose": pose, "missing": []}
        waiting: dict[str, Any] = {"status": Status.WAITING, "unfinished": INCOMPLETE}
        waiting |= {"day": rfc3339(now)[:10], "created_at": now, "unfinished_at": now}
        changes = {"updated_at": now, "reason": text, "errors": errors + 1}
        return self._update(name, {"errors": errors or None}, changes, {**values, **waiting})

    def alerted(self, record: Record, now: float) -> None:
        """Write down that it was notified what uploads wait for."""
        self._update(record.job_id, {"status": Status.WAITING}, {"alerted_at": now})
