"""Build and deploy the template with the SAM CLI."""

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from local.processes import run

ROOT = Path(__file__).resolve().parent.parent
STACK_NAME = "posedrop"
AREA = ROOT / ".aws-sam" / "local"
SOURCES = ("template.yaml", "functions", "layers", "statemachine", "requirements-dev.txt")
"""The sources of a build; the last one pins the SAM CLI."""

BUILD_TIMEOUT_SECONDS = 300
DEPLOY_TIMEOUT_SECONDS = 120


@contextmanager
def built(env: Mapping[str, str], log: Path) -> Iterator[Path]:
    """Build the template, unless the same sources are built already, and yield the path of the built template.

    All stacks of this clone share the build and must not write into it. It stays as long as a stack uses it. Unused
    builds of other sources are deleted. Raises LocalError, with the log, if the build fails.
    """
    AREA.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with (AREA / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            while not (build := AREA / sources_digest()).exists():
                _remove_unused()
                _build(build, env, log)
            used = stack.enter_context(build.with_suffix(".lock").open("w"))
            fcntl.flock(used, fcntl.LOCK_SH)
        yield build / "template.yaml"


def sources_digest(root: Path = ROOT) -> str:
    """Return the SHA-256 of the paths and contents of all sources, in hexadecimal."""
    digest = hashlib.sha256()
    for source in SOURCES:
        path = root / source
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _build(target: Path, env: Mapping[str, str], log: Path) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    run(
        [
            *_sam("build"),
            *("--template-file", str(ROOT / "template.yaml")),
            *("--build-dir", str(partial)),
            *("--cached", "--cache-dir", str(AREA / "cache")),
        ],
        cwd=ROOT,
        # The decoders' wheels are built for Lambda: here the functions use this machine's packages.
        env={**env, "PREPARE_LAYER": "local"},
        log=log,
        timeout=BUILD_TIMEOUT_SECONDS,
    )
    # The SAM CLI parses a template seven times to deploy it; as YAML this takes two seconds longer than as JSON.
    from samcli.yamlhelper import yaml_parse  # imported here because it takes 0.3 s

    template = partial / "template.yaml"
    template.write_text(json.dumps(yaml_parse(template.read_text())))
    if sources_digest() == target.name:  # else a source was edited meanwhile
        partial.rename(target)


def _remove_unused() -> None:
    """Delete the builds that no stack uses; a used build is locked."""
    for lock in AREA.glob("*.lock"):
        with lock.open() as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()


def deploy(
    template: Path, parameters: Mapping[str, str], bucket: str, env: Mapping[str, str], log: Path, config: Path
) -> None:
    """Deploy a built template; its artifacts go to `bucket`. On an update, other parameters keep their values.

    `config` is this stack's own file. It has the parameters, and so the API key, until the deployment ends.
    Raises LocalError, with the log, if the deployment fails.
    """
    options: dict[str, Any] = {
        "stack_name": STACK_NAME,
        "s3_bucket": bucket,
        "capabilities": "CAPABILITY_IAM",
        "confirm_changeset": False,
        "fail_on_empty_changeset": False,
        "parameter_overrides": [f"{name}={_quoted(value)}" for name, value in parameters.items()],
    }
    # In a file, not as arguments: all users of the machine can see those, and one value is the API key.
    config.touch(mode=0o600)
    try:
        config.write_text(json.dumps({"version": 0.1, "default": {"deploy": {"parameters": options}}}))
        run(
            [
                *_sam("deploy"),
                *("--template-file", str(template)),
                *("--config-file", str(config)),
                "--no-progressbar",
            ],
            cwd=ROOT,
            env={**env, "SAM_CLI_POLL_DELAY": "0.2"},
            log=log,
            timeout=DEPLOY_TIMEOUT_SECONDS,
        )
    finally:
        config.unlink()


def _sam(command: str) -> list[str]:
    return [str(Path(sys.executable).with_name("sam")), command]


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '\\"') + '"'
