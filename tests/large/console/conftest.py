"""The console and its stack, as tests/console has them."""

from tests.console.conftest import (
    account,
    console,
    environment,
    live,
    notifications,
    pipeline,
    provider,
    stack,
    triggers,
)

__all__ = ["account", "console", "environment", "live", "notifications", "pipeline", "provider", "stack", "triggers"]
