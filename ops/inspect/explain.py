"""Explain why an upload made no result, in one sentence with the next step, from the contract and the ledger."""

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from botocore.exceptions import ClientError

from ops.errors import NotFound
from ops.formatting import DAY, many, span
from ops.inspect.bucket import elsewhere, no_events
from ops.inspect.explain_record import ago, bad_input, clause, explain_record, missing
from ops.inspect.explanation import Explanation, Reason
from ops.inspect.health import depth
from ops.inspect.records import Records
from ops.inspect.situation import Situation
from ops.inspect.suggestions import no_job
from ops.stack import Stack
from posedrop.aws.messages import SourceUpload
from posedrop.aws.record import Record
from posedrop.aws.stored_uploads import GONE, UploadChanged
from posedrop.aws.upload_bucket import JobFiles, Listed, UploadBucket
from posedrop.contract.job import is_waiting_id, waiting_id
from posedrop.contract.upload_layout import (
    JOB_FILE,
    SINGLE_POSE,
    FileKind,
    InvalidUploadKey,
    SideFile,
    Upload,
    UploadLayout,
    hint,
)
from posedrop.intake.folder import JobCandidate, later_upload, read_candidate

PROBABLY_LOST = 60.0
"""Seconds after settling within which an upload's event is normally handled, if the queue is empty."""
NEIGHBOURS = 200


class Explainer:
    """Explains keys and jobs of one stack. Errors of AWS pass as botocore's ClientError."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._bucket: UploadBucket = stack.uploads
        self._layout = stack.layout
        self._records = Records(stack)
        self._situation = Situation.of(stack)

    def explain(self, name: str) -> Explanation:
        """Explain a key of the upload bucket (with or without s3://bucket/) or a job id. Raises NotFound."""
        if name.startswith("s3://"):
            bucket, _, key = name.removeprefix("s3://").partition("/")
            if bucket != self._bucket.name:
                sentence = f"{name} is in another bucket: this stack reads uploads from {self._bucket.name}."
                where = f"{self._layout.folder('CHARACTER').prefix}{PurePosixPath(key).name}"
                step = self._stack.aws("s3", "cp", name, f"s3://{self._bucket.name}/{where}")
                return Explanation(Reason.WRONG_BUCKET, sentence, step, key)
            return self.explain_key(key)
        if not self._layout.covers(name):
            record = self._stack.record(name)
            if record:
                return explain_record(record, self._situation)
            if is_waiting_id(name):
                raise NotFound(f"no uploads wait as {name}: they may be a job now")
            if "." not in name and "/" not in name:
                raise no_job(self._stack, name)
        return self.explain_key(name)

    def explain_key(self, key: str) -> Explanation:
        """Explain a key of the upload bucket."""
        try:
            upload = self._layout.parse(key)
        except SideFile as why:
            sentence = f"{key} is ignored: it is {why}."
            return Explanation(Reason.SIDE_FILE, sentence, "Nothing: side files are never used.", key)
        except InvalidUploadKey as why:
            return replace(_outside(key, str(why), self._layout), key=key)
        if upload.kind in (FileKind.FACE, FileKind.JOB_FILE):
            found = self._of_all_poses(key, upload)
        else:
            found = self._of_pose(key, upload, upload.pose)
        return replace(found, key=key)

    def _of_all_poses(self, key: str, upload: Upload) -> Explanation:
        """Explain a face or a job file, which all poses of its character share."""
        poses = list(self._bucket.poses(upload.character))
        if len(poses) == 1:
            return self._of_pose(key, upload, poses[0])
        files = self._bucket.files(upload.character, "", key)
        own = _entry(files, key)
        if own is None:
            return self._not_chosen(key, upload, "", files)
        if not poses:
            return self._missing(upload.character, "", files)
        parts = tuple(self._of_pose(key, upload, pose) for pose in poses)
        reasons = Counter(part.reason for part in parts)
        explained = ", ".join(f"{count} {reason.replace('-', ' ')}" for reason, count in reasons.most_common())
        sentence = f"{key} serves {many(len(parts), 'pose')} of {upload.character}: {explained}."
        worst = next((part for part in parts if part.reason not in (Reason.DONE, Reason.DUPLICATE)), parts[0])
        reason = parts[0].reason if len(reasons) == 1 else Reason.SEVERAL
        return Explanation(reason, sentence, worst.next_step, parts=parts)

    def _of_pose(self, key: str, upload: Upload, pose: str) -> Explanation:
        files = self._bucket.files(upload.character, pose, key)
        own = _entry(files, key)
        if own is None:
            return self._not_chosen(key, upload, pose, files)
        if files.missing:
            # An image may have been deleted after its job was made.
            made = self._made_of(upload, pose, key, self._version(key))
            if made:
                return explain_record(made, self._situation)
            return self._missing(upload.character, pose, files)
        stack, prompt = self._stack, self._stack.parameter("DefaultPrompt")
        how: Any = {"prepares": stack.prepares, "model": stack.model}
        try:
            found = read_candidate(self._bucket, upload.character, pose, files, prompt, **how)
        except UploadChanged as exc:
            return Explanation(Reason.SETTLING, f"{exc} is being replaced right now.", "Wait a moment and ask again.")
        if upload.kind in (FileKind.FACE, FileKind.POSE) and found.job.inputs[upload.kind].key != key:
            return self._not_chosen(key, upload, pose, files, found.job.inputs[upload.kind].key)
        record = self._stack.ledger.get(found.job.job_id)
        if record:
            return self._of_record(record, found, own, upload.kind)
        earlier = self._earlier(upload.character, pose, files, found)
        if earlier:
            return self._of_earlier(earlier, key)
        if found.lacks_prompt:
            return missing(self._layout.folder(upload.character), pose, ["prompt"])
        return self._without_record(key, own, upload, pose, files, found)

    def _missing(self, character: str, pose: str, files: JobFiles) -> Explanation:
        return missing(self._layout.folder(character), pose, files.missing, hint(files.missing, files.unknown_names))

    def _of_record(self, record: Record, found: JobCandidate, own: Listed, kind: FileKind) -> Explanation:
        """Explain a file whose content is a known job; it may have been uploaded again since."""
        explained = explain_record(record, self._situation)
        if kind in (FileKind.FACE, FileKind.POSE):
            again = found.job.inputs[kind].version_id != record.inputs[kind]["version_id"]
        else:
            again = own.modified.timestamp() > record.created_at + 1
        if not again:
            return explained
        if explained.reason is Reason.DONE:
            ended = ago(record.completed_at, self._situation.now)
            sentence = (
                f"{own.key} has the same content as job {record.job_id}, which succeeded{ended}: "
                "it is not paid for again."
            )
            step = f"{explained.next_step}; for another picture change the prompt or the seed."
            return replace(explained, reason=Reason.DUPLICATE, sentence=sentence, next_step=step)
        tried_again_by_itself = not record.requests  # no request was accepted: the upload makes a new attempt
        failed = (Reason.FAILED_AT_PROVIDER, Reason.NO_RESULT, Reason.OUTCOME_UNKNOWN, Reason.INTERNAL)
        if explained.reason in failed and not tried_again_by_itself:
            sentence = (
                f"{explained.sentence.removesuffix('.')}; uploading the same content again does not retry the job."
            )
            return replace(explained, sentence=sentence)
        return explained

    def _earlier(self, character: str, pose: str, files: JobFiles, found: JobCandidate) -> Record | None:
        """Return the newest job with the same images if no file is newer: then no further event comes. Else None."""
        read = {kind: image.sha256 for kind, image in found.job.inputs.items()}
        newest = max(listed.modified.timestamp() for listed in files.present())
        for record in self._records.of_pose(character, pose):
            same = read == {kind: image.get("sha256") for kind, image in record.inputs.items()}
            if same and newest <= record.created_at:
                return record
        return None

    def _of_earlier(self, record: Record, key: str) -> Explanation:
        """Explain images of a known job that had other parameters.

        DefaultPrompt has changed since, or a job file was deleted.
        """
        explained = explain_record(record, self._situation)
        sentence = (
            f"{key} became a job before the parameters changed (DefaultPrompt, or a job file that was deleted), "
            f"and such a change makes no job: {explained.sentence}"
        )
        step = f"{explained.next_step.removesuffix('.')}; upload it again to make a new job, which is paid for."
        return replace(explained, reason=Reason.OTHER_PARAMETERS, sentence=sentence, next_step=step)

    def _without_record(
        self, key: str, own: Listed, upload: Upload, pose: str, files: JobFiles, found: JobCandidate
    ) -> Explanation:
        """Explain complete files without a job: the job is not made yet, or never will be."""
        settle, now = self._stack.seconds("SettleSeconds"), self._situation.now
        younger = later_upload(files, SourceUpload(key, own.etag.strip('"')), settle, now) or own
        left = younger.modified.timestamp() + settle - now
        if left > 0:
            sentence = (
                f"{younger.key} was uploaded {span(settle - left)} ago; the stack waits {span(settle)} after an "
                "upload, so that the other files of the folder can arrive."
            )
            return Explanation(Reason.SETTLING, sentence, f"Wait {span(left)} and ask again.")
        if found.error:
            sentence = f"The upload will be refused when it is handled: {clause(str(found.error))}."
            return Explanation(
                bad_input(found.error.code), sentence, "Upload the corrected file: that makes a new job."
            )
        waiting = self._stack.ledger.get_waiting(waiting_id(upload.character, pose))
        if waiting and waiting.errors:
            return explain_record(waiting, self._situation)
        problem = elsewhere(self._stack) or no_events(self._stack)
        if problem:
            return Explanation(Reason.NO_EVENTS, f"There was no event of {key}: {problem.what}.", problem.next_step)
        ahead = depth(self._stack, self._stack.output("UploadQueueUrl"))
        if ahead or left > -PROBABLY_LOST:
            sentence = f"{key} is complete and in the upload queue, which has {many(ahead, 'message')} now."
            return Explanation(Reason.QUEUED, sentence, "Wait a moment and ask again.")
        dead = depth(self._stack, self._stack.output("DeadLetterQueueUrl"))
        if dead:
            sentence = f"{key} made no job, and {many(dead, 'message')} in the dead-letter queue may be about it."
            return Explanation(Reason.NOT_SEEN, sentence, self._stack.command("redrive"))
        days = self._stack.seconds("RecordRetentionDays")
        if days and -left > days * DAY:
            results = f"s3://{self._stack.output('OutputBucketName')}/outputs/{upload.character}/{pose}/"
            sentence = (
                f"{key} is complete, but no job of it is known: its record may have expired (RecordRetentionDays is "
                f"{days:g}), or there was no event of it."
            )
            command = self._stack.aws("s3", "ls", "--recursive", results)
            step = f"Search for its result first, because a new upload is paid for: {command}"
            return Explanation(Reason.EXPIRED, sentence, step)
        sentence = f"{key} is complete, but there was no event of it: it may be older than the stack."
        return Explanation(Reason.NOT_SEEN, sentence, "Upload it again.")

    """Explain a key that its job does not use: another `picture` is used, or the key does not exist (any more)."""

    def _not_chosen(self, key: str, upload: Upload, pose: str, files: JobFiles, picture: str = "") -> Explanation:
        """Explain a key that its job does not use.

        Another `picture` is used, or the key was deleted, or never uploaded.
        """
        version = self._version(key)
        made = self._made_of(upload, pose, key, version)
        if made:
            return explain_record(made, self._situation)
        if version is not None and picture:
            sentence = f"{key} is not used: {picture} is the newest picture of that name."
            step = f"Nothing, if it belongs to the picture. To use {key} instead, delete {picture}."
            return Explanation(Reason.SUPERSEDED, sentence, step)
        if version is not None and upload.kind in (FileKind.JOB_FILE, FileKind.POSE_FILE):
            chosen = files.job_file if upload.kind is FileKind.JOB_FILE else files.pose_file
            if chosen:
                sentence = f"{key} is not used: {chosen.key} is the same name in another spelling, and newer."
                return Explanation(Reason.SUPERSEDED, sentence, "Delete the one that you do not want.")
        deleted = self._deleted_at(key)
        if deleted is not None:
            when = span(self._situation.now - deleted)
            sentence = f"{key} was deleted {when} ago, before it made a job."
            return Explanation(Reason.DELETED, sentence, "Upload it again if you did not want that.")
        near = difflib.get_close_matches(key, self._neighbours(upload), n=1)
        sentence = f"{key} was never uploaded to {self._bucket.name}, and made no job."
        copy = self._stack.aws("s3", "cp", "FILE", f"s3://{self._bucket.name}/{key}")
        step = f"Did you mean {near[0]}?" if near else copy
        return Explanation(Reason.NOT_UPLOADED, sentence, step)

    def _version(self, key: str) -> str | None:
        """Return the present version of a key, "null" without versioning; None if the key does not exist."""
        try:
            response = self._stack.client("s3").head_object(Bucket=self._bucket.name, Key=key)
        except ClientError as exc:
            if exc.response["Error"]["Code"] in GONE:
                return None
            raise
        return str(response.get("VersionId") or "null")

    def _made_of(self, upload: Upload, pose: str, key: str, version: str | None) -> Record | None:
        """Return the newest job that used an image; if the file exists, that used its present version."""
        if upload.kind not in (FileKind.FACE, FileKind.POSE):
            return None
        for record in self._records.of_pose(upload.character, pose):
            read = record.inputs.get(upload.kind, {})
            if read.get("key") == key and version in (None, read.get("version_id") or "null"):
                return record
        return None

    def _deleted_at(self, key: str) -> float | None:
        response = self._stack.client("s3").list_object_versions(Bucket=self._bucket.name, Prefix=key, MaxKeys=100)
        marks: list[Mapping[str, Any]] = [mark for mark in response.get("DeleteMarkers", []) if mark["Key"] == key]
        return max((mark["LastModified"].timestamp() for mark in marks), default=None)

    def _neighbours(self, upload: Upload) -> list[str]:
        prefix = f"{self._layout.prefix}{upload.character[:1]}"
        response = self._stack.client("s3").list_objects_v2(Bucket=self._bucket.name, Prefix=prefix, MaxKeys=NEIGHBOURS)
        return [str(entry["Key"]) for entry in response.get("Contents", [])]


def _outside(key: str, why: str, layout: UploadLayout) -> Explanation:
    prefix = layout.prefix
    if not layout.covers(key):
        sentence = f"{key} is ignored: it is {why}."
        step = f"Upload it below {prefix}, as {prefix}<character>/face.png or {prefix}<character>/poses/<pose>.png."
        return Explanation(Reason.WRONG_PREFIX, sentence, step)
    names = f"face.png, {SINGLE_POSE}.png, poses/<pose>.png, {JOB_FILE} or poses/<pose>.json"
    return Explanation(Reason.WRONG_NAME, f"{key} is ignored: {why}.", f"Name it {names}, below {prefix}<character>/.")


def _entry(files: JobFiles, key: str) -> Listed | None:
    return next((found for found in files.present() if found.key == key), None)
