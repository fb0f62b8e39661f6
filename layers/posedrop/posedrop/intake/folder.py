"""Make a job from a folder: which files belong together, whether they are valid, and what the job is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from posedrop.aws.read_images import ReadImages
from posedrop.aws.upload_bucket import JobFiles, Listed, UploadBucket
from posedrop.contract.contents import EMPTY, Content
from posedrop.contract.errors import InvalidInput
from posedrop.contract.examine import Examined, refusal
from posedrop.contract.job import Input, Job, job_id, output_folder
from posedrop.contract.parameters import JOB_FILE_LIMIT, check_prompt, merge, metadata_prompt, read_job_file
from posedrop.contract.reasons import InputFault, Problem
from posedrop.contract.upload_layout import FileKind
from posedrop.segmind.model import ModelSpec

KEY_LIMIT = 1024
"""The most bytes of a key (Amazon S3 user guide, object keys)."""


@dataclass(frozen=True)
class JobCandidate:
    """A job made from its files. `error` says why it cannot be sent, or is None. Without a prompt it is not a job yet.

    pending: by "face" and "pose", a file in whose place a picture may still arrive, and its content. It is an empty
    file, or the newest file of a stem that has no picture.
    """

    job: Job
    error: InvalidInput | None
    pending: dict[str, tuple[Listed, Content]] = field(default_factory=dict)

    @property
    def lacks_prompt(self) -> bool:
        """Whether the job has no prompt, so that it is not a job yet."""
        return self.error is None and "prompt" not in self.job.parameters


def read_candidate(
    bucket: UploadBucket,
    character: str,
    pose: str,
    files: JobFiles,
    default_prompt: str,
    known: ReadImages | None = None,
    *,
    prepares: bool = True,
    model: ModelSpec,
) -> JobCandidate:
    """Read and check the files of a job that has both images. Faults of the files are in the candidate's `error`.

    A face remembered in `known` is not read again. `prepares`: pictures are prepared before they are sent
    (PrepareImages). Raises UploadChanged if a file has changed since it was listed.
    """
    if files.face is None or files.pose is None:
        raise ValueError("a candidate needs both images")
    problems: list[Problem] = []
    inputs: dict[str, Input] = {}
    content: dict[str, object] = {}
    pending: dict[str, tuple[Listed, Content]] = {}
    prompt = ""
    for kind in (FileKind.FACE, FileKind.POSE):
        found = _read_image(bucket, files.candidates(kind), known if kind is FileKind.FACE else None, prepares)
        inputs[kind], content[kind] = found.input, found.identity
        problems += found.problems
        pending |= {str(kind): found.pending} if found.pending else {}
        prompt = metadata_prompt(found.metadata)  # the pose is read last, so the prompt is from the pose
    layers, unreadable = _read_job_files(bucket, files, problems, model.schema)
    if prompt:
        try:
            layers.append({"prompt": check_prompt(inputs["pose"].key, prompt)})
        except InvalidInput as exc:
            problems += exc.problems
            unreadable.append(prompt)
    parameters, context = merge(default_prompt, *layers, rules=model.schema)
    content |= {"parameters": parameters, "context": context, "unreadable": unreadable}
    name = job_id(bucket.name, character, pose, content)
    longest = len(f"{output_folder(character, pose, name, 999)}/result.json".encode())
    if longest > KEY_LIMIT:
        too_long = f"{longest - KEY_LIMIT} bytes too long: the outputs' keys would have more than {KEY_LIMIT}"
        problems.insert(0, Problem(f"the names of character and pose are {too_long}", InputFault.NAME))
    job = Job(name, bucket.name, character, pose, inputs, parameters, context)
    return JobCandidate(job, InvalidInput(*problems) if problems else None, pending)


def _read_job_files(
    bucket: UploadBucket, files: JobFiles, problems: list[Problem], rules: str
) -> tuple[list[dict[str, object]], list[str]]:
    """Return the contents of the job files, and the digests of invalid ones. Their faults are added to `problems`."""
    layers: list[dict[str, object]] = []
    unreadable: list[str] = []
    for listed in (files.job_file, files.pose_file):
        if listed is None:
            continue
        digest = listed.etag
        try:
            blob = bucket.read(listed, JOB_FILE_LIMIT + 1)
            digest = blob.digest if blob.whole else f"{blob.digest} {blob.size}"
            layers.append(read_job_file(listed.key, blob.data, rules))
        except InvalidInput as exc:
            problems += exc.problems
            unreadable.append(digest)
    return layers, unreadable


@dataclass(frozen=True)
class _Image:
    """One image of a job. `identity` is its part of the job's id. The metadata of a remembered image is unknown."""

    input: Input
    identity: object
    metadata: dict[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    pending: tuple[Listed, Content] | None = None


def _read_image(bucket: UploadBucket, candidates: Sequence[Listed], known: ReadImages | None, prepares: bool) -> _Image:
    """Read the newest of several files with one stem that is a picture, by its first bytes."""
    others: list[tuple[Listed, Content]] = []
    for listed in candidates:
        if listed.size == 0:
            others.append((listed, EMPTY))
            continue
        try:
            found = _known(bucket, listed, known) or bucket.examine(listed)
        except InvalidInput as exc:  # its content is unknown, so the ETag in the listing identifies it
            return _Image(_unread(bucket, listed), ["unreadable", listed.etag], problems=exc.problems)
        if isinstance(found, Examined) and not found.type:
            others.append((listed, found.content))
            continue
        image = _picture(bucket, found, known, prepares)
        empty = next(((other, content) for other, content in others if content is EMPTY), None)
        return _Image(image.input, image.identity, image.metadata, image.problems, empty)
    newest = candidates[0]
    problems = [Problem(f"this is {content.words}", InputFault.IMAGE, other.key) for other, content in others]
    problems[-1] = replace(problems[-1], text=f"{problems[-1].text}: {others[0][1].advice}")
    etags = [listed.etag for listed in candidates]
    return _Image(_unread(bucket, newest), ["no picture", *etags], problems=tuple(problems), pending=others[0])


def _known(bucket: UploadBucket, listed: Listed, known: ReadImages | None) -> Input | None:
    """Return what was read from this version of the image before, or None if it is not remembered."""
    version = bucket.version(listed) if known else None
    return known.get(bucket.name, listed.key, version, listed.etag.strip('"')) if known and version else None


def _picture(bucket: UploadBucket, found: Examined | Input, known: ReadImages | None, prepares: bool) -> _Image:
    """Return a picture that was read now (Examined) or is remembered (Input)."""
    if isinstance(found, Input):
        made, metadata, problem = found, {}, None
    else:
        made = Input(
            bucket.name,
            found.key,
            found.version_id,
            found.etag,
            found.size,
            found.digest,
            None if found.problem else found.type,
            found.changes,
        )
        metadata, problem = found.metadata, found.problem
        if known and not problem:
            known.put(made)
    if problem is None and not prepares:
        problem = refusal(made.content_type, made.size, made.changes)
    identity = made.sha256 or ["too large", made.etag, made.size]
    problems = (Problem(problem, InputFault.IMAGE, made.key),) if problem else ()
    return _Image(made, identity, metadata, problems)


def _unread(bucket: UploadBucket, listed: Listed) -> Input:
    return Input(bucket.name, listed.key, None, listed.etag.strip('"'), listed.size, None, None)
