"""Draw the events of a run from its seed: characters, files, their times, and the faults with their times."""

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image, ImageOps

from local.chaos.faults import ALONE_REFUSED, ALWAYS_500, ALWAYS_REFUSED, JOB_FAULTS, KEPT_WAITING, JobFault
from posedrop.contract.upload_layout import UploadLayout

POSES = 5
PICTURE_SIZE = (64, 48)
FORMATS = {"png": "png", "jpeg": "jpg", "webp": "webp"}

UPLOAD_SECONDS = 30.0
"""Seconds within which all folders begin to arrive."""
SPREAD_SECONDS = 3.0
"""The most seconds between two files of a folder."""
KILL_SECONDS = 110.0
"""Seconds since the first upload within which functions are killed."""
REFUSED_SECONDS = 20.0
KILLS_PER_JOB = 0.2
KILLED = {"IntakeFunction": 3, "DispatchFunction": 3, "SubmitFunction": 4, "PollFunction": 2, "DeliverFunction": 3}
"""The number of kills of each function."""

SHARED_SHARE = 0.15
FAULTY_SHARE, TWICE_SHARE = 0.6, 0.2
REPEATED_EVENTS, REPEATED_UPLOADS = 0.12, 0.04
RETRIED_SHARE, RETRIED_TWICE_SHARE, RETRY_TWICE_SHARE = 0.6, 0.3, 0.15
BAD_INPUTS = 3
REFUSED_JOBS = 2
"""Jobs that are always refused: of the first characters, so that others are accepted after each refusal."""
EXPIRING_SHARE, FORGOTTEN_SHARE = 0.04, 0.04
EXPIRES_SECONDS = 8.0
"""Seconds after a second upload, when the version that it replaced is deleted, as by a lifecycle rule."""

HISTORY_FAULTS: tuple[dict[str, object], ...] = (
    {"fault": "503", "on": "history", "nth": list(range(5, 20))},  # unavailable for a while
    {"fault": "500", "on": "history", "share": 0.1},
    {"fault": "reset", "on": "history", "share": 0.05},
)
HISTORY_OTHERS, HISTORY_LAG = 5000, 10.0
"""Requests a day by other users of the account, and the seconds after which a request is in the history."""
GATEWAY_FAULTS: dict[str, float] = {"lost_replies": 0.02, "twice": 0.1, "twice_seconds": 25, "late": 0.1}
"""Of AWS itself: see `gateway.py`."""
DEATHS = 0.004
"""The share of AWS calls, until KILL_SECONDS, at which the calling function is killed."""
LAYOUT = UploadLayout()
"""Where uploads are: the stack is deployed with the default."""
UNREADABLE_SECONDS = 40.0
UNREADABLE = {
    "uploads": '{"greeting": "nobody reads this"}',
    "submits": '{"submit": "nobody-knows-me-0123456789abcdef"}',
}
"""The unreadable messages, by the source that their dead letters name."""
RETENTION_SWITCHES: tuple[tuple[float, int], ...] = ((20, 7), (75, 0), (110, 7))
"""When RecordRetentionDays is set, and to which values."""


@dataclass(frozen=True)
class Upload:
    """One file, uploaded `at` seconds after the beginning. `event_again`: after how many seconds its event is repeated.

    `again_at`: when the same file is uploaded again. `expires`: the previous version is deleted soon afterwards.
    `event_lost`: no event is sent for it.
    """

    at: float
    key: str
    body: bytes
    metadata: dict[str, str] = field(default_factory=dict)
    event_again: tuple[int, ...] = ()
    again_at: float | None = None
    expires: bool = False
    event_lost: bool = False


@dataclass(frozen=True)
class PlannedJob:
    """One job that the uploads make. `mark` is in its prompt, and in no other, unless the character's jobs share one.

    `retries`: how many new attempts are requested if it fails. `retried_twice_over`: each of them by two messages.
    `forgotten`: after its end its record expires, and the same content is uploaded again.
    """

    character: str
    pose: str
    mark: str
    faults: tuple[JobFault, ...] = ()
    bad_input: bool = False
    retries: int = 0
    retried_twice_over: bool = False
    forgotten: bool = False

    @property
    def name(self) -> str:
        """Return the job's name for people."""
        return f"{self.character}/{self.pose}"

    @property
    def endless(self) -> bool:
        """Return whether the job takes longer than a run.

        After a 500 the history is searched for a minute before the job is sent again.
        """
        return ALWAYS_500 in self.faults


@dataclass(frozen=True)
class Kill:
    """A function's process is killed `at` a time in seconds; `draw` (0 to 1) chooses among several working ones."""

    at: float
    function: str
    draw: float


@dataclass(frozen=True)
class Scenario:
    """A whole run. `alone` is uploaded, with the files in `alone_uploads`, when no other job will be sent any more."""

    seed: int
    jobs: tuple[PlannedJob, ...]
    uploads: tuple[Upload, ...]
    kills: tuple[Kill, ...]
    refusals: tuple[float, ...]
    alone: PlannedJob | None = None
    alone_uploads: tuple[Upload, ...] = ()

    @property
    def all_jobs(self) -> tuple[PlannedJob, ...]:
        """Return all jobs, the lone one last."""
        return (*self.jobs, self.alone) if self.alone else self.jobs

    @property
    def plan(self) -> list[dict[str, object]]:
        """Return the emulator's fault plan: first the jobs' faults, in order, then the faults for all calls."""
        return [
            *(
                {**fault.entry, "match": job.mark, **({} if fault.times is None else {"times": fault.times})}
                for job, fault in self.striking()
            ),
            *HISTORY_FAULTS,
        ]

    def striking(self) -> Iterator[tuple[PlannedJob, JobFault]]:
        """Yield the job and fault of each line of the plan that strikes a single job."""
        for job in self.all_jobs:
            for fault in job.faults:
                yield job, fault


def draw_scenario(seed: int, jobs: int) -> Scenario:
    """Draw a run with a number of jobs, five per character, and the lone job."""
    generator = random.Random(seed)  # nosec B311 # the same each time
    characters = [_character_name(number) for number in range(-(-jobs // POSES))]
    always = {number * POSES: ALWAYS_REFUSED for number in range(REFUSED_JOBS)} | {1: ALWAYS_500}
    early = {index // POSES for index in always}
    others = [index for index in range(jobs) if index not in always]
    bad = set(generator.sample(others, min(BAD_INPUTS, jobs // 10)))
    # One character's face comes last and without an event: only a sweep finds it.
    silent = generator.choice([number for number in range(len(characters)) if number not in early] or [-1])
    planned: list[PlannedJob] = []
    uploads: list[Upload] = []
    for number, character in enumerate(characters):
        indices = range(number * POSES, min(jobs, (number + 1) * POSES))
        may_share = number not in (*early, silent) and bad.isdisjoint(indices)
        shared_prompt = generator.random() < SHARED_SHARE and may_share
        mine = [
            PlannedJob(character, _pose(index), f"<job {index}>", (always[index],))
            if index in always
            else _job(generator, character, index, bad_input=index in bad, shared_mark=shared_prompt)
            for index in indices
        ]
        planned += mine
        at = generator.uniform(0, UPLOAD_SECONDS) * (0.1 if number in early else 1)
        uploads += _folder(generator, character, mine, at, shared_prompt=shared_prompt, silent=number == silent)
    alone = PlannedJob("alone", _pose(0), "<alone>", (ALONE_REFUSED,))
    return Scenario(
        seed=seed,
        jobs=tuple(planned),
        uploads=tuple(sorted(uploads, key=lambda upload: upload.at)),
        kills=tuple(_kills(generator, round(jobs * KILLS_PER_JOB))),
        refusals=(generator.uniform(15, 35),),
        alone=alone,
        alone_uploads=tuple(_folder(generator, "alone", [alone], 0, shared_prompt=False, silent=False)),
    )


def _character_name(number: int) -> str:
    return f"Kundin {number} ü+b/held" if number % 10 == 7 else f"c{number:02}"


def _pose(index: int) -> str:
    return f"pose {index % POSES}"


def _job(generator: random.Random, character: str, index: int, *, bad_input: bool, shared_mark: bool) -> PlannedJob:
    mark = f"<shared {index // POSES}>" if shared_mark else f"<job {index}>"
    faults: list[JobFault] = []
    forgotten = False
    # A prompt that five jobs share cannot identify one of them for a fault.
    if not shared_mark and not bad_input:
        draw = generator.random()
        forgotten = draw < FORGOTTEN_SHARE
        if FORGOTTEN_SHARE <= draw < FORGOTTEN_SHARE + EXPIRING_SHARE:
            faults = [KEPT_WAITING]
        elif not forgotten and generator.random() < FAULTY_SHARE:
            faults = _draw_faults(generator)
    retries = 0
    if not forgotten and generator.random() < RETRIED_SHARE:
        retries = 2 if generator.random() < RETRIED_TWICE_SHARE else 1
    retried_twice_over = retries == 1 and generator.random() < RETRY_TWICE_SHARE
    return PlannedJob(character, _pose(index), mark, tuple(faults), bad_input, retries, retried_twice_over, forgotten)


def _draw_faults(generator: random.Random) -> list[JobFault]:
    weights = [fault.weight for fault in JOB_FAULTS]
    first = generator.choices(JOB_FAULTS, weights)[0]
    if generator.random() >= TWICE_SHARE:
        return [first]
    passing = [fault for fault in JOB_FAULTS if not fault.explains and fault is not first]
    return [first, generator.choice(passing)]


def _folder(
    generator: random.Random,
    character: str,
    jobs: list[PlannedJob],
    at: float,
    *,
    shared_prompt: bool,
    silent: bool,
) -> Iterator[Upload]:
    """Yield the files of one character in any order, beginning `at` a time."""
    files: list[tuple[str, bytes, dict[str, str]]] = []
    face, ending = picture(generator)
    folder = LAYOUT.folder(character)
    face_key = f"{folder.face}.{ending}"
    if shared_prompt:
        # The prompt is in the job file, so there is no job before the file arrives.
        text = {"prompt": f"a picture {jobs[0].mark}", "context": {"character": character}}
        files.append((folder.job_file, json.dumps(text).encode(), {}))
    for job in jobs:
        pose, ending = picture(generator)
        body = pose[: len(pose) // 2] if job.bad_input else pose
        prompt = f"a picture {job.mark}"
        # The prompt comes with the pose or in its own file. A bad file is refused before the prompt arrives, so a later
        # prompt would make another job.
        aside = not shared_prompt and not job.bad_input and generator.random() < 0.5
        metadata = {} if shared_prompt or aside else {"prompt": prompt}
        files.append((f"{folder.pose(job.pose)}.{ending}", body, metadata))
        if aside:
            parameters = {
                "prompt": prompt,
                "samples": generator.choices((1, 2, 3), (6, 2, 1))[0],
                "output_format": generator.choice(list(FORMATS)),
            }
            files.append((folder.pose_file(job.pose), json.dumps(parameters).encode(), {}))
    if not silent:
        files.append((face_key, face, {}))
    generator.shuffle(files)
    expiring = {folder.pose(job.pose) for job in jobs if KEPT_WAITING in job.faults}
    for key, body, metadata in files:
        expires = key.rpartition(".")[0] in expiring and not key.endswith(".json")
        yield _upload(generator, at, key, body, metadata, expires=expires)
        at += generator.uniform(0, SPREAD_SECONDS) * (generator.random() < 0.3)
    if silent:
        yield Upload(UPLOAD_SECONDS + 15, face_key, face, event_lost=True)


def _upload(
    generator: random.Random, at: float, key: str, body: bytes, metadata: dict[str, str], *, expires: bool
) -> Upload:
    repeated: tuple[int, ...] = ()
    if generator.random() < REPEATED_EVENTS:
        repeated = tuple(generator.randrange(45) for _ in range(generator.choice((1, 1, 2))))
    again = at + generator.uniform(0.1, 40) if generator.random() < REPEATED_UPLOADS else None
    if expires:
        again = at + generator.uniform(15, 35)
    return Upload(at, key, body, metadata, repeated, again, expires)


def _kills(generator: random.Random, number: int) -> Iterator[Kill]:
    for at in sorted(generator.uniform(5, KILL_SECONDS) for _ in range(number)):
        function = generator.choices(list(KILLED), list(KILLED.values()))[0]
        yield Kill(at, function, generator.random())


def picture(generator: random.Random) -> tuple[bytes, str]:
    """Return a small gradient of two colours, and its file extension."""
    dark, light = (tuple(generator.randrange(256) for _ in range(3)) for _ in range(2))
    ramp = Image.linear_gradient("L").resize(PICTURE_SIZE)
    kind = generator.choice(list(FORMATS))
    buffer = io.BytesIO()
    ImageOps.colorize(ramp, dark, light).save(buffer, kind)
    return buffer.getvalue(), FORMATS[kind]
