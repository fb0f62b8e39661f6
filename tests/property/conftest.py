"""One profile for all property tests: the same examples each time in CI, new ones elsewhere."""

import os

from hypothesis import HealthCheck, settings

from tests.integration.conftest import environment, pipeline, provider

__all__ = ["environment", "pipeline", "provider"]

settings.register_profile(
    "posedrop",
    deadline=None,
    database=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
settings.load_profile("posedrop")
