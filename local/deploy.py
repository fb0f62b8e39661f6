"""The template, built and deployed with the SAM CLI."""

import fcntl
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.processes import run

ROOT = Path(__file__).resolve().parent.parent
STACK_NAME = "posedrop"

BUILD_TIMEOUT_SECONDS = 300
DEPLOY_TIMEOUT_SECONDS = 120


@contextmanager
def built(name: str, env: Mapping[str, str], log: Path) -> Iterator[Path]:
    """Build the template and yield the built one's path; `name` keeps builds apart that run at the same time.

    Raises LocalError, with the log, if the build fails.
    """
    area = ROOT / ".aws-sam" / "local"  # build.toml and the cache beside it serve all builds of this clone
    area.mkdir(parents=True, exist_ok=True)
    build = area / name
    try:
        with (area / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            run(
                [
                    *_sam("build"),
                    *("--template-file", str(ROOT / "template.yaml")),
                    *("--build-dir", str(build)),
                    *("--cached", "--cache-dir", str(area / "cache")),
                ],
                cwd=ROOT,
                env=env,
                log=log,
                timeout=BUILD_TIMEOUT_SECONDS,
            )
        yield build / "template.yaml"
    finally:
        shutil.rmtree(build, ignore_errors=True)


def deploy(template: Path, parameters: Mapping[str, str], bucket: str, env: Mapping[str, str], log: Path) -> None:
    """Deploy a built template; its artifacts go to `bucket`. On an update, parameters not named keep their values.

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
    # In a file, not as arguments: every user of the machine can list those, and one of the values is the API key.
    config = template.with_name("samconfig.yaml")
    config.touch(mode=0o600)
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


def _sam(command: str) -> list[str]:
    return [str(Path(sys.executable).with_name("sam")), command]


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '\\"') + '"'
