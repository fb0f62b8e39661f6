"""Find a stack, and give access to it. A command only ever acts on the stack that was named."""

import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, NoRegionError

from ops.errors import NotFound, OpsError, UnclearTarget
from ops.formatting import command
from ops.template import Template
from posedrop.aws.jobs_table import JobsTable
from posedrop.aws.record import AnyRecord, Record
from posedrop.aws.upload_bucket import UploadBucket
from posedrop.contract.job import JOB_ID, is_waiting_id
from posedrop.contract.naming import execution_arn
from posedrop.gate.gate import Gate
from posedrop.gate.latency import LatencyStore
from posedrop.gate.poll_schedule import Latency
from posedrop.line.line import Line

ROOT = Path(__file__).resolve().parent.parent
LOCAL_STATE = ROOT / ".local" / "stack.json"
LOCAL_NAME = "posedrop"
STATE_KEYS = {"aws_access_key_id", "aws_secret_access_key", "region", "endpoint_url"}
"""The keys that a local stack's state file must have."""

LONGEST_FUNCTION = 900
"""Seconds that a function may run (AWS Lambda developer guide, quotas)."""

Client = Callable[..., Any]
"""Creates the boto3 client of a service; a `config` overrides the common one."""


@dataclass(frozen=True)
class Target:
    """The stack that the options name. `stack` is a name, or the path of a local stack's state file (.json)."""

    stack: str | None = None
    local: bool = False
    profile: str | None = None
    region: str | None = None

    def named(self) -> str:
        """Return the name or the state file.

        Without a name it is the local stack of this clone, if it runs, and never one on AWS. Raises UnclearTarget.
        """
        if self.local and self.stack:
            raise UnclearTarget("--local and --stack name two stacks: use one of them")
        named = self.stack or (str(LOCAL_STATE) if self.local else os.environ.get("POSEDROP_STACK"))
        if named is None and (self.profile or self.region):
            raise UnclearTarget("--profile and --region need the stack's name: --stack NAME")
        if named is None and LOCAL_STATE.exists():
            named = str(LOCAL_STATE)
        if named is None:
            raise UnclearTarget("no stack is named: use --stack NAME, or start a local one: make up")
        if named.endswith(".json") and (self.profile or self.region):
            raise UnclearTarget("--profile and --region have no meaning for a local stack")
        return named

    def options(self) -> list[str]:
        """Return the options that name the same stack."""
        named = (("--stack", self.stack), ("--profile", self.profile), ("--region", self.region))
        return ["--local"] * self.local + [word for option, value in named if value for word in (option, value)]

    def aws_options(self) -> list[str]:
        """Return the options of the AWS CLI for the same account and region."""
        return replace(self, stack=None, local=False).options()


@dataclass(frozen=True)
class Stack(Template):
    """A deployed stack. `client` returns the boto3 client of a service; `clock` and `sleep` are for tests."""

    client: Client
    account: str = ""
    endpoint: str | None = None  # None: AWS's own
    target: Target = Target()
    created_at: float = 0.0  # seconds since the epoch; no record is older
    clock: Callable[[], float] = field(default=time.time, compare=False)
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False)

    def resource(self, logical_id: str) -> str | None:
        """Return the physical id of a resource that is not an output; None if AWS does not report it."""
        try:
            response = self.client("cloudformation").describe_stack_resource(
                StackName=self.name, LogicalResourceId=logical_id
            )
        except ClientError:
            return None
        physical_id: str = response["StackResourceDetail"]["PhysicalResourceId"]
        return physical_id

    # ---- its state ---------------------------------------------------------------------------------------------------

    @cached_property
    def table(self) -> JobsTable:
        """Return the table of jobs."""
        return JobsTable(self.client("dynamodb"), self.output("JobsTableName"))

    @cached_property
    def gate(self) -> Gate:
        """Return the gate: the rate limit, the breaker and the budget."""
        return Gate(self.table.items, self.limit, self.budget, self.model)

    @cached_property
    def line(self) -> Line:
        """Return the line of queued jobs."""
        return Line(self.table.items)

    def prices(self) -> Callable[[Mapping[str, Any]], float]:
        """Read the learned prices; return a function from a job's parameters to its cost (USD)."""
        return self.gate.budgets.prices()

    @cached_property
    def uploads(self) -> UploadBucket:
        """Return the upload bucket."""
        return UploadBucket(self.client("s3"), self.output("UploadBucketName"), self.layout)

    def record(self, job_id: str) -> AnyRecord | None:
        """Return the record of a job or of waiting uploads; None if there is none with this id."""
        if is_waiting_id(job_id):
            return self.table.ledger.get_waiting(job_id)
        return self.table.ledger.get(job_id) if JOB_ID.fullmatch(job_id) else None

    def latency(self) -> Latency:
        """Return how long the last jobs took."""
        typical = self.seconds("TypicalInferenceSeconds")
        return LatencyStore(self.client("dynamodb"), self.output("JobsTableName"), typical).read()

    def execution_arn(self, record: Record) -> str:
        """Return the ARN of the execution of a record's attempt."""
        return self.execution_named(record.execution_name)

    def execution_named(self, name: str) -> str:
        """Return the ARN of an execution by its name."""
        return execution_arn(self.output("JobStateMachineArn"), name)

    # ---- next steps --------------------------------------------------------------------------------------------------

    def command(self, *words: str) -> str:
        """Return a command line of this program for the same stack, quoted for a shell."""
        return command(*self.target.options(), *words)

    def aws(self, *words: str) -> str:
        """Return a command line of the AWS CLI for the same account and region, quoted for a shell."""
        endpoint = ["--endpoint-url", self.endpoint] if self.endpoint else []
        return shlex.join(["aws", *words, *self.target.aws_options(), *endpoint])

    def __str__(self) -> str:
        """Return the line that operators see first: the stack that a command acts on."""
        return f"{self.name} in {self.region}, account {self.account}" + (
            f", at {self.endpoint}" if self.endpoint else ""
        )


def find(target: Target) -> Stack:
    """Find a stack. Raises UnclearTarget, NotFound and OpsError; other errors of AWS pass as botocore's."""
    named = target.named()
    if named.endswith(".json"):
        return _local(Path(named), target)
    # boto3 reads only AWS_DEFAULT_REGION; for the AWS CLI, AWS_REGION overrides it.
    region = target.region or os.environ.get("AWS_REGION")
    session = boto3.session.Session(profile_name=target.profile, region_name=region)
    client = cache(lambda service, config=None: session.client(service, config=_config(service, config)))
    try:
        found = _describe(client, named)
    except NoRegionError as exc:
        raise OpsError(f"the region of {named} is not known: use --region NAME, or a --profile with a region") from exc
    except NoCredentialsError as exc:
        raise OpsError("there are no AWS credentials: use --profile NAME, or sign in as for the AWS CLI") from exc
    except ClientError as exc:
        if exc.response["Error"]["Code"] == "ValidationError":
            where = client("cloudformation").meta.region_name
            raise NotFound(f"there is no stack {named} in {where}") from exc
        raise
    endpoint: str = client("cloudformation").meta.endpoint_url
    return _stack(named, found, client, None if ".amazonaws.com" in endpoint else endpoint, target)


def _local(state_file: Path, target: Target) -> Stack:
    try:
        state = json.loads(state_file.read_text())
    except FileNotFoundError:
        raise NotFound(f"there is no {_shown(state_file)}: start the local stack with make up") from None
    except ValueError as exc:
        raise OpsError(f"{_shown(state_file)} cannot be read: {exc}") from exc
    if not isinstance(state, dict) or not state.keys() >= STATE_KEYS:
        raise OpsError(f"{_shown(state_file)} is no local stack's state: it must have {', '.join(sorted(STATE_KEYS))}")
    session = boto3.session.Session(
        aws_access_key_id=state["aws_access_key_id"],
        aws_secret_access_key=state["aws_secret_access_key"],
        region_name=state["region"],
    )
    endpoint: str = state["endpoint_url"]
    client = cache(
        lambda service, config=None: session.client(
            service, endpoint_url=endpoint, config=_config(service, config, proxies={})
        )
    )
    try:
        found = _describe(client, LOCAL_NAME)
    except EndpointConnectionError as exc:
        raise OpsError(f"the local stack at {endpoint} does not respond: start it with make up") from exc
    return _stack(LOCAL_NAME, found, client, endpoint, target)


def _describe(client: Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    return found


def _stack(name: str, found: Mapping[str, Any], client: Client, endpoint: str | None, target: Target) -> Stack:
    _, _, _, region, account, _ = found["StackId"].split(":", 5)
    return Stack(
        name=name,
        region=region,
        account=account,
        outputs={output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])},
        parameters={
            parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in found.get("Parameters", [])
        },
        client=client,
        endpoint=endpoint,
        target=target,
        created_at=found["CreationTime"].timestamp() if "CreationTime" in found else 0.0,
    )


def _config(service: str, over: Config | None, **options: Any) -> Config:
    # A wrong endpoint is reported at once, not after a minute of retries. A function is waited for, and invoked once.
    attempts = 1 if service == "lambda" else 3
    read = LONGEST_FUNCTION if service == "lambda" else 60
    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    found = Config(connect_timeout=5, read_timeout=read, retries=retries, **options)
    return found.merge(over) if over else found


def _shown(path: Path) -> str:
    return os.path.relpath(path)
