"""From uploads to a job: which files belong together, whether they are settled and sound, and what the job is."""

from dataclasses import dataclass

from posedrop import images
from posedrop.errors import InvalidInput, JobError
from posedrop.job import Input, Job, job_id, output_folder
from posedrop.messages import Origin
from posedrop.parameters import JOB_FILE_LIMIT, check_prompt, merge, metadata_prompt, read_job_file
from posedrop.read_images import ReadImages
from posedrop.uploads import IMAGE_LIMIT, Blob, JobFiles, Listed, UploadBucket

SIDE_LIMIT = 8192
"""Pixels a side of an input image."""
KEY_LIMIT = 1024
"""Bytes of a key (Amazon S3 user guide, object keys)."""


@dataclass(frozen=True)
class Draft:
    """A job as its files make it. `error` says why it cannot be sent; without a prompt it is no job yet."""

    job: Job
    error: JobError | None

    @property
    def lacks_prompt(self) -> bool:
        """Whether no prompt came from anywhere."""
        return self.error is None and "prompt" not in self.job.parameters


def unsettled(files: JobFiles, origin: Origin | None, settle_seconds: float, now: float) -> Listed | None:
    """The input whose own event the job is left to, or None if the job can be handled now.

    That is one younger than `settle_seconds` at `now` (seconds since the epoch), and newer than the upload that this
    event is about: the newest never waits for another, so one event of a folder always goes on.
    """
    own = next((f for f in files.present() if origin and (f.key, f.etag.strip('"')) == (origin.key, origin.etag)), None)
    younger = [
        found
        for found in files.present()
        if found is not own
        and now - found.modified.timestamp() < settle_seconds
        and (own is None or found.modified > own.modified)
    ]
    return max(younger, key=lambda found: found.modified, default=None)


def draft(
    bucket: UploadBucket,
    character: str,
    pose: str,
    files: JobFiles,
    default_prompt: str,
    known: ReadImages | None = None,
) -> Draft:
    """Read and check the files of a job that has both images. A face that is `known` is not read.

    Raises UploadChanged if a file is not as it was listed. What is wrong with the files is in the draft's error.
    """
    if files.face is None or files.pose is None:
        raise ValueError("a draft needs both images")
    problems: list[str] = []
    inputs: dict[str, Input] = {}
    content: dict[str, object] = {}
    prompt = ""
    for name, listed in (("face", files.face), ("pose", files.pose)):
        inputs[name], content[name], metadata, problem = _read_image(bucket, listed, known if name == "face" else None)
        problems += [problem] if problem else []
        prompt = metadata_prompt(metadata)  # the pose's: it is read last
    layers: list[dict[str, object]] = []
    unreadable: list[str] = []
    for found in (files.job_file, files.pose_file):
        if found is None:
            continue
        digest = found.etag
        try:
            blob = bucket.read(found, JOB_FILE_LIMIT + 1)
            digest = blob.digest if blob.whole else f"{blob.digest} {blob.size}"
            layers.append(read_job_file(found.key, blob.data))
        except InvalidInput as exc:
            problems.append(str(exc))
            unreadable.append(digest)
    if prompt:
        try:
            layers.append({"prompt": check_prompt(f"{files.pose.key}: metadata", prompt)})
        except InvalidInput as exc:
            problems.append(str(exc))
            unreadable.append(prompt)
    parameters, context = merge(default_prompt, *layers)
    content |= {"parameters": parameters, "context": context, "unreadable": unreadable}
    name = job_id(bucket.name, character, pose, content)
    longest = len(f"{output_folder(character, pose, name, 999)}/result.json".encode())
    if longest > KEY_LIMIT:
        too_long = f"{longest - KEY_LIMIT} bytes too long: the outputs' keys would have more than {KEY_LIMIT}"
        problems.insert(0, f"the names of character and pose are {too_long}")
    job = Job(name, bucket.name, character, pose, inputs, parameters, context)
    return Draft(job, InvalidInput("; ".join(problems)) if problems else None)


def _read_image(
    bucket: UploadBucket, listed: Listed, known: ReadImages | None
) -> tuple[Input, object, dict[str, str], str | None]:
    """One image: the input, what of it counts for the job's id, its metadata, and what is wrong with it.

    The metadata of a `known` image is left out.
    """
    content_type, problem, etag = None, None, listed.etag.strip('"')
    try:
        version = bucket.version(listed) if known else None
        read = known.get(bucket.name, listed.key, version, etag) if known and version else None
        if read:
            return read, read.sha256, {}, None
        blob = bucket.read(listed, IMAGE_LIMIT)
    except InvalidInput as exc:  # its content is not known: what the listing says stands for it
        unread = Input(bucket.name, listed.key, None, etag, listed.size, None, None)
        return unread, ["unreadable", listed.etag], {}, str(exc)
    try:
        content_type = _check_image(blob)
    except InvalidInput as exc:
        problem = str(exc)
    digest = blob.digest if blob.whole else None
    made = Input(bucket.name, blob.key, blob.version_id, blob.etag, blob.size, digest, content_type)
    if known:
        known.put(made)
    return made, digest or [blob.digest, blob.size], blob.metadata, problem


def _check_image(blob: Blob) -> str:
    if blob.size == 0:
        raise InvalidInput(f"{blob.key}: the file is empty")
    if not blob.whole:
        raise InvalidInput(f"{blob.key}: the file has {blob.size} bytes, more than {IMAGE_LIMIT}")
    try:
        info = images.check(blob.data)
    except images.BadImage as exc:
        raise InvalidInput(f"{blob.key}: {exc}") from exc
    if max(info.width, info.height) > SIDE_LIMIT:
        raise InvalidInput(
            f"{blob.key}: the image has {info.width} x {info.height} pixels, more than {SIDE_LIMIT} a side"
        )
    return info.content_type
