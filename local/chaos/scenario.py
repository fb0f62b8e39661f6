"""All that happens in a run, drawn from its seed: characters, files, when they come, what goes wrong and when."""

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image, ImageOps

from local.chaos.trouble import TROUBLES, Trouble

POSES = 5
PICTURE_SIZE = (64, 48)
FORMATS = {"png": "png", "jpeg": "jpg", "webp": "webp"}

UPLOAD_SECONDS = 30.0
"""In which all folders begin to arrive."""
SPREAD_SECONDS = 3.0
"""The longest time between two files of a folder."""
STORM_SECONDS = 110.0
"""In which functions are killed, since the first upload."""
REFUSED_SECONDS = 20.0
KILLS_PER_JOB = 0.2
KILLED = {"SubmitFunction": 5, "PollFunction": 2, "DeliverFunction": 4}
"""How often each function is aimed at."""

SHARED_SHARE = 0.15
TROUBLED_SHARE, TWICE_SHARE = 0.6, 0.2
REPEATED_EVENTS, REPEATED_UPLOADS = 0.12, 0.04
RETRIED_SHARE, RETRIED_TWICE_SHARE = 0.6, 0.3
BAD_INPUTS = 3
HISTORY_FAULTS: tuple[dict[str, object], ...] = (
    {"fault": "500", "on": "history", "share": 0.1},
    {"fault": "reset", "on": "history", "share": 0.05},
)


@dataclass(frozen=True)
class Upload:
    """One file, `at` so many seconds after the beginning. `event_again`: its event comes again so much later.

    `again_at` is when the same file is uploaded once more. `event_lost`: no event tells of it.
    """

    at: float
    key: str
    body: bytes
    metadata: dict[str, str] = field(default_factory=dict)
    event_again: tuple[int, ...] = ()
    again_at: float | None = None
    event_lost: bool = False


@dataclass(frozen=True)
class PlannedJob:
    """One job that the uploads make. `mark` is in its prompt, and its alone unless the prompt is the character's.

    `retries`: how many new attempts are asked for if it fails.
    """

    character: str
    pose: str
    mark: str
    troubles: tuple[Trouble, ...] = ()
    bad_input: bool = False
    retries: int = 0

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.character}/{self.pose}"


@dataclass(frozen=True)
class Kill:
    """A function's process is killed `at` so many seconds; `draw` (0 to 1) says which, of several that work."""

    at: float
    function: str
    draw: float


@dataclass(frozen=True)
class Scenario:
    """A whole run."""

    seed: int
    jobs: tuple[PlannedJob, ...]
    uploads: tuple[Upload, ...]
    kills: tuple[Kill, ...]
    refusals: tuple[float, ...]

    @property
    def plan(self) -> list[dict[str, object]]:
        """The emulator's fault plan: first the jobs' troubles, in order, then what strikes all."""
        troubles = [{**trouble.fault, "match": job.mark, "times": 1} for job in self.jobs for trouble in job.troubles]
        return [*troubles, *HISTORY_FAULTS]

    def striking(self) -> Iterator[tuple[PlannedJob, Trouble]]:
        """Whom each line of the plan strikes, as long as it strikes one job."""
        for job in self.jobs:
            for trouble in job.troubles:
                yield job, trouble


def draw_scenario(seed: int, jobs: int) -> Scenario:
    """Draw a run of so many jobs, five a character."""
    generator = random.Random(seed)  # nosec B311 # the same each time
    characters = [_character_name(number) for number in range(-(-jobs // POSES))]
    bad = set(generator.sample(range(jobs), min(BAD_INPUTS, jobs // 10)))
    # One character's face comes last and in silence: only a sweep finds it.
    silent = generator.randrange(len(characters))
    planned: list[PlannedJob] = []
    uploads: list[Upload] = []
    for number, character in enumerate(characters):
        indices = range(number * POSES, min(jobs, (number + 1) * POSES))
        shared_prompt = generator.random() < SHARED_SHARE and number != silent and bad.isdisjoint(indices)
        mine = [
            _job(generator, character, index, bad_input=index in bad, shared_mark=shared_prompt) for index in indices
        ]
        planned += mine
        uploads += _folder(generator, character, mine, shared_prompt=shared_prompt, silent=number == silent)
    return Scenario(
        seed=seed,
        jobs=tuple(planned),
        uploads=tuple(sorted(uploads, key=lambda upload: upload.at)),
        kills=tuple(_kills(generator, round(jobs * KILLS_PER_JOB))),
        refusals=(generator.uniform(15, 35),),
    )


def _character_name(number: int) -> str:
    return f"Kundin {number} ü+b/held" if number % 10 == 7 else f"c{number:02}"


def _job(generator: random.Random, character: str, index: int, *, bad_input: bool, shared_mark: bool) -> PlannedJob:
    mark = f"<shared {index // POSES}>" if shared_mark else f"<job {index}>"
    troubles: list[Trouble] = []
    # A prompt that five jobs share cannot tell which of them a fault is for.
    if not shared_mark and not bad_input and generator.random() < TROUBLED_SHARE:
        troubles += _draw_troubles(generator)
    retries = 0
    if generator.random() < RETRIED_SHARE:
        retries = 2 if generator.random() < RETRIED_TWICE_SHARE else 1
    return PlannedJob(character, f"pose {index % POSES}", mark, tuple(troubles), bad_input, retries)


def _draw_troubles(generator: random.Random) -> list[Trouble]:
    weights = [trouble.weight for trouble in TROUBLES]
    first = generator.choices(TROUBLES, weights)[0]
    if generator.random() >= TWICE_SHARE:
        return [first]
    passing = [trouble for trouble in TROUBLES if not trouble.explains and trouble is not first]
    return [first, generator.choice(passing)]


def _folder(
    generator: random.Random, character: str, jobs: list[PlannedJob], *, shared_prompt: bool, silent: bool
) -> Iterator[Upload]:
    """The files of one character, in any order."""
    files: list[tuple[str, bytes, dict[str, str]]] = []
    face, ending = _picture(generator)
    face_key = f"incoming/{character}/face.{ending}"
    if shared_prompt:
        # The prompt comes with the job file, so nothing is a job before it is there.
        text = {"prompt": f"a picture {jobs[0].mark}", "context": {"character": character}}
        files.append((f"incoming/{character}/job.json", json.dumps(text).encode(), {}))
    for job in jobs:
        pose, ending = _picture(generator)
        body = pose[: len(pose) // 2] if job.bad_input else pose
        prompt = f"a picture {job.mark}"
        # The prompt comes with the pose or in a file of its own. What is bad is refused before its prompt is there, so
        # a prompt that came later would make it another job.
        aside = not shared_prompt and not job.bad_input and generator.random() < 0.5
        metadata = {} if shared_prompt or aside else {"prompt": prompt}
        files.append((f"incoming/{character}/poses/{job.pose}.{ending}", body, metadata))
        if aside:
            parameters = {
                "prompt": prompt,
                "samples": generator.choices((1, 2, 3), (6, 2, 1))[0],
                "output_format": generator.choice(list(FORMATS)),
            }
            files.append((f"incoming/{character}/poses/{job.pose}.json", json.dumps(parameters).encode(), {}))
    if not silent:
        files.append((face_key, face, {}))
    generator.shuffle(files)
    at = generator.uniform(0, UPLOAD_SECONDS)
    for key, body, metadata in files:
        yield _upload(generator, at, key, body, metadata)
        at += generator.uniform(0, SPREAD_SECONDS) * (generator.random() < 0.3)
    if silent:
        yield Upload(UPLOAD_SECONDS + 15, face_key, face, event_lost=True)


def _upload(generator: random.Random, at: float, key: str, body: bytes, metadata: dict[str, str]) -> Upload:
    repeated: tuple[int, ...] = ()
    if generator.random() < REPEATED_EVENTS:
        repeated = tuple(generator.randrange(45) for _ in range(generator.choice((1, 1, 2))))
    again = at + generator.uniform(0.1, 40) if generator.random() < REPEATED_UPLOADS else None
    return Upload(at, key, body, metadata, repeated, again)


def _kills(generator: random.Random, number: int) -> Iterator[Kill]:
    for at in sorted(generator.uniform(5, STORM_SECONDS) for _ in range(number)):
        function = generator.choices(list(KILLED), list(KILLED.values()))[0]
        yield Kill(at, function, generator.random())


def _picture(generator: random.Random) -> tuple[bytes, str]:
    """A small gradient of two colours, and the ending of its file name."""
    dark, light = (tuple(generator.randrange(256) for _ in range(3)) for _ in range(2))
    ramp = Image.linear_gradient("L").resize(PICTURE_SIZE)
    kind = generator.choice(list(FORMATS))
    buffer = io.BytesIO()
    ImageOps.colorize(ramp, dark, light).save(buffer, kind)
    return buffer.getvalue(), FORMATS[kind]
