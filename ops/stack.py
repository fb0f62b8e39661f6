"""Which stack is meant, and how to reach it. Nothing ever acts on another stack than the one that was named."""

import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from ops.errors import NotFound, OpsError, UnclearTarget
from ops.formatting import command
from posedrop.aws.items import Items
from posedrop.aws.ledger import Ledger
from posedrop.aws.record import Record
from posedrop.aws.record_reader import RecordReader
from posedrop.aws.upload_bucket import UploadBucket
from posedrop.contract.job import JOB_ID, waiting_id
from posedrop.contract.naming import execution_arn, execution_name
from posedrop.contract.upload_layout import UploadLayout
from posedrop.gate.budget import Budget
from posedrop.gate.credits import CreditsStore
from posedrop.gate.gate import Gate
from posedrop.gate.latency import LatencyStore
from posedrop.gate.poll_schedule import Latency
from posedrop.gate.rate_limit import Counting, RateLimit
from posedrop.line.line import Line
from posedrop.segmind.model import CONSISTENT_CHARACTER, ModelSpec

ROOT = Path(__file__).resolve().parent.parent
LOCAL_STATE = ROOT / ".local" / "stack.json"
LOCAL_NAME = "posedrop"
STATE_KEYS = {"aws_access_key_id", "aws_secret_access_key", "region", "endpoint_url"}
"""What a local stack's state file says at least."""

LONGEST_FUNCTION = 900
"""Seconds that a function may run (AWS Lambda developer guide, quotas)."""

Client = Callable[..., Any]
"""Makes the boto3 client of a service; a `config` goes over what all clients have."""


@dataclass(frozen=True)
class Target:
    """What was said of the stack. `stack` is a name, or the path of a local stack's state file (it ends in .json)."""

    stack: str | None = None
    local: bool = False
    profile: str | None = None
    region: str | None = None

    def named(self, local_state: Path = LOCAL_STATE) -> str:
        """The name or the state file that is meant.

        If nothing is named it is the local stack of this clone, if it is up: never one on AWS. Raises UnclearTarget.
        """
        if self.local and self.stack:
            raise UnclearTarget("--local and --stack name two stacks: say one of them")
        named = self.stack or (str(local_state) if self.local else os.environ.get("POSEDROP_STACK"))
        if named is None and (self.profile or self.region):
            raise UnclearTarget("--profile and --region need the stack's name: --stack NAME")
        if named is None and local_state.exists():
            named = str(local_state)
        if named is None:
            raise UnclearTarget("which stack? Say --stack NAME, or start a local one: make up")
        if named.endswith(".json") and (self.profile or self.region):
            raise UnclearTarget("--profile and --region have no meaning for a local stack")
        return named

    def options(self) -> list[str]:
        """The options that say the same again."""
        named = (("--stack", self.stack), ("--profile", self.profile), ("--region", self.region))
        return ["--local"] * self.local + [word for option, value in named if value for word in (option, value)]

    def aws_options(self) -> list[str]:
        """The options of the AWS CLI that say the same of account and region."""
        return replace(self, stack=None, local=False).options()


@dataclass(frozen=True)
class Stack:
    """A deployed stack. `client` makes (or keeps) the boto3 client of a service, `clock` and `sleep` are for tests."""

    name: str
    region: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]
    client: Client
    account: str = ""
    endpoint: str | None = None  # where it is not AWS's own
    target: Target = Target()
    created_at: float = 0.0  # seconds since the epoch: no record is older
    clock: Callable[[], float] = field(default=time.time, compare=False)
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False)

    # ---- what its template says --------------------------------------------------------------------------------------

    def output(self, name: str) -> str:
        """One of the template's outputs. Raises OpsError if this stack has none of that name."""
        if name not in self.outputs:
            raise OpsError(f"the stack {self.name} has no output {name}: is it posedrop, and up to date?")
        return self.outputs[name]

    def parameter(self, name: str) -> str:
        """One of the template's parameters as it was deployed. Raises OpsError if there is none of that name."""
        if name not in self.parameters:
            raise OpsError(f"the stack {self.name} has no parameter {name}: is it posedrop, and up to date?")
        return self.parameters[name]

    def seconds(self, parameter: str) -> float:
        """A parameter that is a number."""
        return float(self.parameter(parameter))

    @cached_property
    def limit(self) -> RateLimit:
        """The plan's request limit."""
        return RateLimit(self.seconds("SegmindRequestsPerMinute"), cast("Counting", self.parameter("LimitCounts")))

    @cached_property
    def budget(self) -> Budget:
        """What may be spent."""
        return Budget(self.seconds("DailyBudget"), self.seconds("MonthlyBudget"))

    @property
    def prepares(self) -> bool:
        """Whether pictures are prepared before they are sent."""
        return self.parameter("PrepareImages") == "true"

    @property
    def model(self) -> ModelSpec:
        """The provider's model that the stack runs."""
        return CONSISTENT_CHARACTER

    @cached_property
    def layout(self) -> UploadLayout:
        """Where uploads lie in the upload bucket."""
        return UploadLayout(self.parameter("UploadPrefix"))

    def resource(self, logical_id: str) -> str | None:
        """The physical id of a resource that is no output; None where AWS does not say."""
        try:
            answer = self.client("cloudformation").describe_stack_resource(
                StackName=self.name, LogicalResourceId=logical_id
            )
        except ClientError:
            return None
        physical_id: str = answer["StackResourceDetail"]["PhysicalResourceId"]
        return physical_id

    # ---- what it keeps -----------------------------------------------------------------------------------------------

    @cached_property
    def ledger(self) -> Ledger:
        """The records of all jobs."""
        return Ledger(self.client("dynamodb"), self.output("JobsTableName"))

    def reader(self, unreadable: Callable[[str], object] | None = None) -> RecordReader:
        """Many records at once; see RecordReader."""
        return RecordReader(self.client("dynamodb"), self.output("JobsTableName"), unreadable)

    @cached_property
    def gate(self) -> Gate:
        """When the next requests may be made: the plan's limit, the breaker and the budget."""
        return Gate(self.items, self.limit, self.budget, self.model)

    @cached_property
    def credits(self) -> CreditsStore:
        """What is known of the provider's credits."""
        return CreditsStore(self.items, model=self.model)

    @cached_property
    def line(self) -> Line:
        """The line of queued jobs."""
        return Line(self.items)

    @cached_property
    def items(self) -> Items:
        """The single items of the table."""
        return Items(self.client("dynamodb"), self.output("JobsTableName"))

    def prices(self) -> Callable[[Mapping[str, Any]], float]:
        """Read the learned prices; return what gives, for a job's parameters, what it costs (USD)."""
        return self.gate.budgets.prices()

    @cached_property
    def uploads(self) -> UploadBucket:
        """The upload bucket."""
        return UploadBucket(self.client("s3"), self.output("UploadBucketName"), self.layout)

    def record(self, job_id: str) -> Record | None:
        """The record of a job or of waiting uploads; None if that is not the id of one."""
        known = JOB_ID.fullmatch(job_id) or job_id.startswith(waiting_id("", "")[:-1])
        return self.ledger.get(job_id) if known else None

    def latency(self) -> Latency:
        """How long the last jobs took."""
        typical = self.seconds("TypicalInferenceSeconds")
        return LatencyStore(self.client("dynamodb"), self.output("JobsTableName"), typical).read()

    def execution_arn(self, record: Record) -> str:
        """The execution of a record's attempt."""
        return self.execution_named(execution_name(record.job_id, record.attempt))

    def execution_named(self, name: str) -> str:
        """The ARN of an execution by its name."""
        return execution_arn(self.output("JobStateMachineArn"), name)

    # ---- what to do next ---------------------------------------------------------------------------------------------

    def command(self, *words: str) -> str:
        """A command of this program on the same stack, quoted for a shell."""
        return command(*self.target.options(), *words)

    def aws(self, *words: str) -> str:
        """A command of the AWS CLI in the same account and region, quoted for a shell."""
        endpoint = ["--endpoint-url", self.endpoint] if self.endpoint else []
        return shlex.join(["aws", *words, *self.target.aws_options(), *endpoint])

    def __str__(self) -> str:
        """What the operator sees first: on which stack a command acts."""
        return f"{self.name} in {self.region}, account {self.account}" + (
            f", at {self.endpoint}" if self.endpoint else ""
        )


def find(target: Target) -> Stack:
    """Look a stack up. Raises UnclearTarget, NotFound and OpsError; other errors of AWS pass as botocore's."""
    named = target.named()
    if named.endswith(".json"):
        return _local(Path(named), target)
    # boto3 knows AWS_DEFAULT_REGION alone; for the AWS CLI AWS_REGION comes before it.
    region = target.region or os.environ.get("AWS_REGION")
    session = boto3.session.Session(profile_name=target.profile, region_name=region)
    client = cache(lambda service, config=None: session.client(service, config=_config(service, config)))
    try:
        found = _describe(client, named)
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
        raise OpsError(f"the local stack at {endpoint} does not answer: start it with make up") from exc
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
