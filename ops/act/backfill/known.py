"""Find out which uploads have a job already: from the record of a job with their content, or from outputs."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from ops.inspect.records import Records
from posedrop.aws.record import Record
from posedrop.aws.record_reader import BATCH
from posedrop.aws.stored_uploads import UploadChanged
from posedrop.aws.upload_bucket import JobFiles, Listed, UploadBucket
from posedrop.contract.contents import HEAD_BYTES, content_of
from posedrop.contract.errors import InvalidInput
from posedrop.contract.job import JOB_ID, SLUG_LIMIT
from posedrop.contract.parameters import JOB_FILE_LIMIT, check_prompt, merge, metadata_prompt, read_job_file
from posedrop.contract.upload_layout import FileKind, slug

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

IMAGES = (FileKind.FACE, FileKind.POSE)


class Parameters:
    """Reads the parameters in a job's files. Errors of S3 pass as botocore's ClientError."""

    def __init__(self, s3: "S3Client", bucket: UploadBucket, rules: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._rules = rules
        self._read: dict[Listed, dict[str, Any]] = {}

    def of(
        self, files: JobFiles, default_prompt: str, *, whole: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Return the parameters and context of the job that files with both images make, merged as in `intake`.

        The prompt in the pose's metadata is read only if there is no other prompt, or if `whole`. Raises InvalidInput
        and UploadChanged.
        """
        layers = [self._layer(listed) for listed in (files.job_file, files.pose_file) if listed]
        found = merge(default_prompt, *layers, rules=self._rules)
        if files.pose and (whole or "prompt" not in found[0]):
            response = self._s3.head_object(Bucket=self._bucket.name, Key=files.pose.key)
            if prompt := metadata_prompt(response.get("Metadata", {})):
                layers.append({"prompt": check_prompt(files.pose.key, prompt)})
                found = merge(default_prompt, *layers, rules=self._rules)
        return found

    def _layer(self, listed: Listed) -> dict[str, Any]:
        if listed not in self._read:
            data = self._bucket.read(listed, JOB_FILE_LIMIT + 1).data
            self._read[listed] = read_job_file(listed.key, data, self._rules)
        return self._read[listed]


def with_jobs(
    records: Records, bucket: UploadBucket, parameters: Parameters, character: str, poses: Mapping[str, JobFiles]
) -> set[str]:
    """Return those of a character's poses whose present files have made a job.

    Reads the ids of all jobs of the character, the newest first, and the records that may be of these poses. Errors of
    AWS pass as botocore's ClientError.
    """
    left = dict(poses)
    names: dict[str, set[str]] = defaultdict(set)
    for pose in poses:
        names[slug(f"{character}-{pose}", SLUG_LIMIT)].add(pose)

    def of_these(job_ids: Iterator[str]) -> Iterator[str]:
        return (job_id for job_id in job_ids if names.get(job_id.rpartition("-")[0], set()) & left.keys())

    wanted = of_these(records.ids_of(character))
    while left and (batch := list(islice(wanted, BATCH))):
        for record in records.jobs(batch).values():
            files = left.get(record.pose)
            if files and record.character == character and _made_of(record, files, bucket, parameters):
                del left[record.pose]
    return poses.keys() - left.keys()


def _made_of(record: Record, files: JobFiles, bucket: UploadBucket, parameters: Parameters) -> bool:
    """Return whether a record is of the job that these files make, whatever the default prompt was then."""
    made_at = record.created_at
    if not record.inputs:  # the files could not be read, and the job failed
        return all(found.modified.timestamp() <= made_at for found in files.present())
    if not all(_is_of(record.inputs.get(kind), files.candidates(kind), bucket) for kind in IMAGES):
        return False
    prompt, wanted = str(record.parameters.get("prompt", "")), (record.parameters, record.context)
    uploaded_again = files.pose is not None and files.pose.modified.timestamp() > made_at
    try:
        # If everything else is equal, the record's prompt may come from the pose's metadata, which is read only then.
        same = not uploaded_again and parameters.of(files, prompt) == wanted
        return same or parameters.of(files, prompt, whole=True) == wanted
    except InvalidInput:
        return record.failed_unsent
    except UploadChanged:
        return False


def _is_of(stored: Mapping[str, Any] | None, candidates: list[Listed], bucket: UploadBucket) -> bool:
    """Return whether an image of a record is the file in use: the newest picture among these files."""
    if not stored:
        return False
    for listed in candidates:
        if (listed.key, listed.etag.strip('"')) == (stored["key"], stored["etag"]):
            return True
        if _is_picture(listed, bucket):
            return False
    return False


def _is_picture(listed: Listed, bucket: UploadBucket) -> bool:
    try:
        return content_of(bucket.read(listed, HEAD_BYTES).data, listed.key).type is not None
    except (UploadChanged, InvalidInput):
        return True


class Outputs:
    """The outputs of one character in the output bucket. Errors of S3 pass as botocore's ClientError."""

    def __init__(self, s3: "S3Client", bucket: str, character: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._character = character
        self._prefix = f"outputs/{character}/"
        found = s3.list_objects_v2(Bucket=bucket, Prefix=self._prefix, MaxKeys=1)
        self._any = bool(found.get("Contents"))

    def since(self, pose: str, time: float) -> bool:
        """Return whether a pose has outputs that were stored at or after a time (seconds since the epoch)."""
        if not self._any:
            return False
        prefix = f"{self._prefix}{pose}/"
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                job_id, _, rest = entry["Key"][len(prefix) :].partition("/")
                own = JOB_ID.fullmatch(job_id) and job_id.rpartition("-")[0] == slug(
                    f"{self._character}-{pose}", SLUG_LIMIT
                )
                if own and rest and entry["LastModified"].timestamp() >= time:
                    return True
        return False
