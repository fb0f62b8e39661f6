"""`LocalStack`: the deployed template on this machine, with a provider."""

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.deploy import ROOT, STACK_NAME, built, deploy
from local.function_logs import log_lines
from local.processes import LocalError, Process, free_port, is_free, responds
from local.segmind.settings import Latency
from posedrop.contract.upload_layout import UploadLayout

REGION = "us-east-1"
ACCESS_KEY_ID = SECRET_ACCESS_KEY = "test"  # nosec B105 # MiniStack's administrator
LOCAL_API_KEY = "SG_0123456789abcdef"  # the emulator's key

ARTIFACT_BUCKET = "artifacts"
LAMBDA_CONCURRENCY = 24  # each concurrent invocation is a process of 30 to 55 MB
START_TIMEOUT_SECONDS = 30
MOST_TYPICAL_SECONDS = 600  # the template's maximum
PORT_ATTEMPTS = 3
DROPPED = (
    *("AWS_", "MINISTACK_", "LOCALSTACK_", "SEGMIND_", "LOCAL_"),
    *("PYTHONDONTWRITEBYTECODE", "PARAMS", "MAKE", "MFLAGS"),
)
"""The prefixes of environment variables that are not passed on."""


class LocalStack:
    """MiniStack with the template deployed on it, and the emulator of the provider.

    Use it as a context manager, or call `start` and later `stop`, from another process too. `directory` contains all
    its state: logs in `logs/`, temporary files in `tmp/`, pid files, and `stack.json` with the access to it. Several
    stacks may run at the same time, each in its own directory.
    """

    gateway = "local.gateway"
    """The module that serves AWS."""

    def __init__(
        self,
        directory: Path,
        *,
        parameters: Mapping[str, str | int] | None = None,
        segmind_base_url: str | None = None,
        emulator: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        state_file: Path | None = None,
    ) -> None:
        """`parameters` are the template's. `segmind_base_url` is the upstream; None starts the emulator with
        the options `emulator`. `environment` is for MiniStack and its functions. `state_file` replaces `stack.json`.
        """
        self.directory = directory.resolve()
        self.parameters = {name: str(value) for name, value in (parameters or {}).items()}
        self.emulator_options = tuple(emulator)
        self.environment = dict(environment or {})
        self.state_file = state_file or self.directory / "stack.json"
        self.logs = self.directory / "logs"
        self.temporary = self.directory / "tmp"
        self.endpoint_url = ""
        self.region = REGION
        self.segmind_base_url = segmind_base_url or ""
        self.outputs: dict[str, str] = {}
        self._clients: dict[str, Any] = {}
        self._own_upstream = segmind_base_url is None
        self._ministack = Process(self.directory / "ministack.pid", self.logs / "ministack.log")
        self._emulator = Process(self.directory / "emulator.pid", self.logs / "emulator.log")

    @property
    def layout(self) -> UploadLayout:
        """Return where uploads are in the upload bucket."""
        return UploadLayout(self.outputs["UploadPrefix"])

    # ---- start and stop ----------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start everything and deploy. Raises LocalError if that fails; then nothing is left running."""
        exit_on_signals()
        try:
            self.stop()  # left by a crashed run
            shutil.rmtree(self.logs, ignore_errors=True)
            self._bring_up(self._start_ministack, self._start_upstream)
        except BaseException:
            self.stop()
            raise
        return self

    def update(self) -> Self:
        """Deploy again on the running stack, with these parameters and this upstream; others keep their values."""
        state = self.state()
        if not self.running() or not state:
            raise LocalError(f"no stack is running in {self.directory}")
        self.endpoint_url = str(state["endpoint_url"])
        self._emulator.stop()
        self._bring_up(self._start_upstream)
        return self

    def set_visibility(self, seconds: int) -> None:
        """Redeliver messages after fewer seconds than the template allows, for tests in which functions die."""
        sqs = self.client("sqs")
        for name in ("UploadQueueUrl", "SubmitQueueUrl"):
            attributes = {"VisibilityTimeout": str(seconds)}
            sqs.set_queue_attributes(QueueUrl=self.outputs[name], Attributes=attributes)

    def stop(self) -> None:
        """Stop everything; do nothing if nothing runs. The logs stay."""
        self._emulator.stop()
        self._ministack.stop()
        self.state_file.unlink(missing_ok=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def running(self) -> bool:
        """Return whether this directory's MiniStack runs."""
        return self._ministack.running()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        with suppress(BotoCoreError, ClientError):
            self.save_function_logs()
        self.stop()

    # ---- use ---------------------------------------------------------------------------------------------------------

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service, with the administrator's credentials."""
        if service not in self._clients:
            session: Any = boto3.session.Session()  # the typed one needs a literal name
            self._clients[service] = session.client(
                service,
                endpoint_url=self.endpoint_url,
                region_name=self.region,
                aws_access_key_id=ACCESS_KEY_ID,
                aws_secret_access_key=SECRET_ACCESS_KEY,
                config=Config(proxies={}, max_pool_connections=50),
            )
        return self._clients[service]

    def state(self) -> dict[str, Any]:
        """Return the state file's content; empty if there is no readable one."""
        try:
            state: dict[str, Any] = json.loads(self.state_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state

    def resource(self, logical_id: str) -> str:
        """Return the physical id of one of the template's resources."""
        detail = self.client("cloudformation").describe_stack_resource(
            StackName=STACK_NAME, LogicalResourceId=logical_id
        )
        physical_id: str = detail["StackResourceDetail"]["PhysicalResourceId"]
        return physical_id

    def worker_pids(self, function: str) -> list[int]:
        """Return the ids of the processes that run a function now; its logical id is like `SubmitFunction`. Linux only.

        MiniStack runs each process from its own temporary directory, named after the function.
        """
        mark = f"{self.temporary}/ministack-lambda-{STACK_NAME}-{function}-".encode()
        pids = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it may have ended meanwhile
                if mark in (entry / "cmdline").read_bytes():
                    pids.append(int(entry.name))
        return pids

    def save_function_logs(self) -> list[Path]:
        """Write the logs of each function to `logs/`, and return the files."""
        logs = self.client("logs")
        paths = []
        for group in logs.describe_log_groups(logGroupNamePrefix=f"/{STACK_NAME}/")["logGroups"]:
            path = self.logs / f"function-{group['logGroupName'].rpartition('/')[2]}.log"
            with path.open("w") as file:
                file.writelines(log_lines(logs, group["logGroupName"]))
            paths.append(path)
        return paths

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _bring_up(self, *services: Callable[[], None]) -> None:
        """Start services and build at the same time; then deploy."""
        env = environment(self.temporary)
        self.temporary.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            starting = [pool.submit(service) for service in services]
            with built(env, self.logs / "sam-build.log") as template:
                for service in starting:
                    service.result()
                self._deploy(template, env)
        self._write_state()

    def _start_ministack(self) -> None:
        settings = {
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",  # in queue URLs
            "MINISTACK_REGION": self.region,
            "LAMBDA_ACCOUNT_CONCURRENCY": str(LAMBDA_CONCURRENCY),
            "LAMBDA_EXECUTOR": "local",
            "IOT_MTLS_ENABLED": "0",  # it would listen on another port
            "DOCKER_HOST": "unix:///nonexistent",  # it would search for containers to remove
        }
        self.endpoint_url = _serve(
            self._ministack,
            "MiniStack",
            "_ministack/health",
            lambda port: [sys.executable, "-m", self.gateway],
            lambda port: {**environment(self.temporary), **settings, **self.environment, "GATEWAY_PORT": str(port)},
        )

    def _start_upstream(self) -> None:
        if not self._own_upstream:
            return
        argv = [sys.executable, "-m", "local.segmind", "--api-key", LOCAL_API_KEY, *self.emulator_options]
        self.segmind_base_url = _serve(
            self._emulator,
            "the emulator",
            "_emulator/health",
            lambda port: [*argv, "--port", str(port)],
            lambda port: environment(self.temporary),
        )

    def _deploy(self, template: Path, env: Mapping[str, str]) -> None:
        with suppress(self.client("s3").exceptions.BucketAlreadyOwnedByYou):
            self.client("s3").create_bucket(Bucket=ARTIFACT_BUCKET)
        parameters = {
            "SegmindApiKey": LOCAL_API_KEY,
            "SegmindBaseUrl": self.segmind_base_url,
            "SegmindHistoryUrl": self.segmind_base_url,
            **({"TypicalInferenceSeconds": typical_seconds(self.emulator_options)} if self._own_upstream else {}),
            **self.parameters,
        }
        access = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        }
        log, config = self.logs / "sam-deploy.log", self.temporary / "samconfig.yaml"
        deploy(template, parameters, ARTIFACT_BUCKET, {**env, **access}, log, config)
        # MiniStack stores a parameter's value as text here, which its poller cannot compare; boto3 sends numbers.
        functions = self.client("lambda")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig=mapping["ScalingConfig"])
        stack = self.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"][0]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def _write_state(self) -> None:
        state = {
            "outputs": self.outputs,
            "endpoint_url": self.endpoint_url,
            "region": self.region,
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SECRET_ACCESS_KEY,
            "segmind_base_url": self.segmind_base_url,
            "logs": str(self.logs),
        }
        partial = self.state_file.with_suffix(".partial")
        partial.write_text(json.dumps(state, indent=2) + "\n")
        partial.replace(self.state_file)


def environment(temporary: Path) -> dict[str, str]:
    """Return the environment for processes: this process's, without variables that lead to an AWS account.

    `temporary` is the folder for temporary files.
    """
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(DROPPED)},
        # The layer's Makefile calls python3, and needs one with pip.
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(temporary / "sam"),
        "TMPDIR": str(temporary),
    }


def typical_seconds(emulator: Sequence[str]) -> str:
    """Return the TypicalInferenceSeconds for an emulator with these options, which must be valid.

    The template's default is for the real model: its first wait would turn a job of 3 seconds into half a minute.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--latency", type=Latency.parse, default=Latency())
    median = parser.parse_known_args(emulator)[0].latency.median
    return str(min(max(1, round(median)), MOST_TYPICAL_SECONDS))


def _serve(
    process: Process,
    what: str,
    health: str,
    argv: Callable[[int], list[str]],
    env: Callable[[int], dict[str, str]],
) -> str:
    """Start a server on a free port and return its URL when it responds."""
    for _ in range(PORT_ATTEMPTS):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        process.start(argv(port), cwd=ROOT, env=env(port))
        try:
            process.wait_until(partial(responds, f"{url}/{health}"), what, START_TIMEOUT_SECONDS)
        except LocalError:
            if process.running() or is_free(port):
                raise
            continue  # another process took the port meanwhile
        return url
    raise LocalError(f"{what} found no free port", process.log)


def exit_on_signals() -> None:
    """Let SIGTERM, and SIGHUP when a terminal closes, raise SystemExit, so that all processes are stopped.

    A signal that is handled or ignored already is left alone.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if current_thread() is main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, leave)
