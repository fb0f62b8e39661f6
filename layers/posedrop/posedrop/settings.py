"""The functions' settings, read from the environment once, at first use.

A field's environment variable is its name in capitals: `jobs_table` is JOBS_TABLE. template.yaml sets them all.
They are neither compared nor printed: what is generated for that takes time at each cold start.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, TypeVar, get_args

from posedrop.contract.errors import SettingsError
from posedrop.gate.budget import Budget
from posedrop.gate.rate_limit import Counting, RateLimit
from posedrop.segmind.model import CONSISTENT_CHARACTER, ModelSpec


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Settings:
    """What all functions need."""

    jobs_table: str
    segmind_requests_per_minute: float
    limit_counts: Counting
    daily_budget: float
    monthly_budget: float
    typical_inference_seconds: float
    record_retention_days: float

    @property
    def model(self) -> ModelSpec:
        """The provider's model that the stack runs."""
        return CONSISTENT_CHARACTER

    @property
    def limit(self) -> RateLimit:
        """The plan's request limit."""
        return RateLimit(self.segmind_requests_per_minute, self.limit_counts)

    @property
    def budget(self) -> Budget:
        """The budgets."""
        return Budget(self.daily_budget, self.monthly_budget)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ProviderSettings(Settings):
    """What functions need that call the provider."""

    segmind_base_url: str
    segmind_secret_id: str


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class IntakeSettings(Settings):
    """What `intake` needs."""

    upload_queue_url: str
    submit_queue_url: str
    dead_letter_queue_url: str
    state_machine_arn: str
    upload_prefix: str
    settle_seconds: float
    prepare_images: bool
    default_prompt_parameter: str = ""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class DispatchSettings(Settings):
    """What `dispatch` needs. It may ask when the secret was changed, not what it holds."""

    submit_queue_url: str
    segmind_secret_id: str


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PrepareSettings(Settings):
    """What `prepare` needs."""

    output_bucket: str


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SubmitSettings(ProviderSettings):
    """What `submit` needs."""

    submit_queue_url: str
    dead_letter_queue_url: str
    state_machine_arn: str
    dispatch_function: str
    image_transport: str
    account_pause_seconds: float
    submit_timeout_seconds: float
    prepare_images: bool
    prepare_function: str
    output_bucket: str
    segmind_history_url: str = ""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PollSettings(ProviderSettings):
    """What `poll` needs."""

    job_timeout_seconds: float


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class NotifyingSettings(Settings):
    """What functions need that notify."""

    notification_topic_arn: str
    event_bus_name: str = ""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class DeliverSettings(ProviderSettings, NotifyingSettings):
    """What `deliver` needs."""

    output_bucket: str
    result_link_seconds: float = 0.0
    segmind_history_url: str = ""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SweepSettings(NotifyingSettings):
    """What `sweep` needs."""

    upload_queue_url: str
    submit_queue_url: str
    state_machine_arn: str
    deliver_function: str
    waiting_alert_hours: float


S = TypeVar("S", bound=Settings)


def read(cls: type[S], variables: Mapping[str, str]) -> S:
    """Read the settings of one function from `variables`. Raises SettingsError that names the variable."""
    values: dict[str, Any] = {}
    for field in fields(cls):
        name = field.name.upper()
        text = variables.get(name, "")
        if text:
            values[field.name] = _convert(name, text, field.type)
        elif field.default is MISSING:
            raise SettingsError(f"environment variable {name} is missing or empty")
    return cls(**values)


@cache
def from_environment(cls: type[S]) -> S:
    """The settings of this process, read at the first call. Raises SettingsError."""
    return read(cls, os.environ)


def _convert(name: str, text: str, kind: object) -> str | float | bool:
    if kind is bool:
        if text not in ("true", "false"):
            raise SettingsError(f"environment variable {name} is neither true nor false: {text!r}")
        return text == "true"
    if kind is float:
        try:
            number = float(text)
        except ValueError as exc:
            raise SettingsError(f"environment variable {name} is not a number: {text!r}") from exc
        if not math.isfinite(number) or number < 0:
            raise SettingsError(f"environment variable {name} is not a number of zero or more: {text!r}")
        return number
    if kind is Counting and text not in get_args(Counting):
        raise SettingsError(f"environment variable {name} is none of {', '.join(get_args(Counting))}: {text!r}")
    return text
