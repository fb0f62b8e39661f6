"""A function makes its AWS clients while its process starts, so that its first event does not wait for them."""

from collections.abc import Iterator

import boto3
import pytest

from posedrop import settings
from tests.integration.conftest import QUEUES, load

FUNCTIONS = ("intake", "dispatch", "submit", "poll", "deliver", "sweep")


@pytest.fixture
def made(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The services whose clients were made, in order."""
    services: list[str] = []
    make = boto3.client

    def client(service: str, *arguments: object, **options: object) -> object:
        services.append(service)
        return make(service, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(boto3, "client", client)
    monkeypatch.setenv("DELIVER_FUNCTION", "deliver")
    monkeypatch.setenv("WAITING_ALERT_HOURS", "24")
    for variable in QUEUES:
        monkeypatch.setenv(variable, "https://sqs.eu-central-1.amazonaws.com/123456789012/queue")
    settings.from_environment.cache_clear()
    yield services
    settings.from_environment.cache_clear()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_clients_are_made_at_the_start_in_lambda(
    made: list[str], monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", function)
    load(function)
    assert "dynamodb" in made


@pytest.mark.parametrize("function", FUNCTIONS)
def test_importing_a_function_elsewhere_needs_no_settings(
    made: list[str], monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    monkeypatch.delenv("JOBS_TABLE")
    load(function)
    assert made == []
