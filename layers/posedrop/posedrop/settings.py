"""The functions' settings. They are read from the environment once, at first use.

A field's environment variable is its name in capitals: `jobs_table` is JOBS_TABLE. template.yaml sets them all.
The dataclasses have no generated __repr__ and __eq__, because generating them slows each cold start.
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
    """The settings that all functions need."""

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
        """The daily and the monthly budget, in USD."""
        return Budget(self.daily_budget, self.monthly_budget)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ProviderSettings(Settings):
    """The settings of functions that call the provider."""

    segmind_base_url: str
    segmind_secret_id: str


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class IntakeSettings(Settings):
    """The settings of `intake`."""

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
    """The settings of `dispatch`. It may read when the secret was changed, but not its value."""

    submit_queue_url: str
    segmind_secret_id: str


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PrepareSettings(Settings):
    """The settings of `prepare`."""

    output_bucket: str


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SubmitSettings(ProviderSettings):
    """The settings of `submit`."""

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
    """The settings of `poll`."""

    job_timeout_seconds: float


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class NotifyingSettings(Settings):
    """The settings of functions that send notifications."""

    notification_topic_arn: str
    event_bus_name: str = ""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class DeliverSettings(ProviderSettings, NotifyingSettings):
    """The settings of `deliver`."""

    output_bucket: str
    result_link_seconds: float = 0.0
    segmind_history_url: str = ""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SweepSettings(NotifyingSettings):
    """The settings of `sweep`."""

    upload_queue_url: str
    submit_queue_url: str
    state_machine_arn: str
    deliver_function: str
    waiting_alert_hours: float


S = TypeVar("S", bound=Settings)


def read(cls: type[S], variables: Mapping[str, str]) -> S:
    """Return the settings of one function from `variables`. Raises SettingsError, which names the variable."""
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
    """Return the settings of this process. They are read at the first call. Raises SettingsError."""
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
