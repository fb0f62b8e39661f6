"""Read what a stack's template says: its outputs and parameters, and what the parameters mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from ops.errors import OpsError
from posedrop.contract.upload_layout import UploadLayout
from posedrop.gate.budget import Budget
from posedrop.gate.rate_limit import Counting, RateLimit
from posedrop.segmind.model import CONSISTENT_CHARACTER, ModelSpec


@dataclass(frozen=True)
class Template:
    """The template of a deployed stack. `name` is the stack's."""

    name: str
    region: str
    outputs: Mapping[str, str]
    parameters: Mapping[str, str]

    def output(self, name: str) -> str:
        """Return an output of the template. Raises OpsError if the stack has no such output."""
        if name not in self.outputs:
            raise OpsError(f"the stack {self.name} has no output {name}: is it posedrop, and up to date?")
        return self.outputs[name]

    def parameter(self, name: str) -> str:
        """Return a parameter's deployed value. Raises OpsError if the stack has no such parameter."""
        if name not in self.parameters:
            raise OpsError(f"the stack {self.name} has no parameter {name}: is it posedrop, and up to date?")
        return self.parameters[name]

    def seconds(self, parameter: str) -> float:
        """Return a parameter that is a number."""
        return float(self.parameter(parameter))

    @cached_property
    def limit(self) -> RateLimit:
        """Return the rate limit."""
        return RateLimit(self.seconds("SegmindRequestsPerMinute"), cast("Counting", self.parameter("LimitCounts")))

    @cached_property
    def budget(self) -> Budget:
        """Return the budget."""
        return Budget(self.seconds("DailyBudget"), self.seconds("MonthlyBudget"))

    @property
    def prepares(self) -> bool:
        """Return whether pictures are prepared before they are sent."""
        return self.parameter("PrepareImages") == "true"

    @property
    def model(self) -> ModelSpec:
        """Return the provider's model that the stack uses."""
        return CONSISTENT_CHARACTER

    @cached_property
    def layout(self) -> UploadLayout:
        """Return where uploads are in the upload bucket."""
        return UploadLayout(self.parameter("UploadPrefix"))
