"""What the property tests share with those of the pipeline, and the pipeline in memory."""

import logging
import time
from collections.abc import Iterator

import pytest

from tests.integration.conftest import (
    QUEUES,
    Clock,
    Provider,
    environment,
    load,
    pipeline,
    provider,
    use_clients,
    use_provider,
)
from tests.memory import MemoryAws, MemoryPipeline

__all__ = ["environment", "pipeline", "provider"]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing: the thousands of runs would spend a tenth of their time on it. Other tests read the logs."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def in_memory(environment: dict[str, str], provider: Provider, monkeypatch: pytest.MonkeyPatch) -> MemoryPipeline:
    """The handlers, fast enough for thousands of jobs: AWS is in memory."""
    clock = Clock(time.time())
    aws = MemoryAws(clock)
    use_clients(monkeypatch, aws.client)
    for variable, name in QUEUES.items():
        monkeypatch.setenv(variable, aws.queues.get_queue_url(QueueName=name)["QueueUrl"])
    use_provider(monkeypatch, provider)
    pipeline = MemoryPipeline(provider, clock, load, aws)
    pipeline.use_clock(monkeypatch)
    return pipeline
