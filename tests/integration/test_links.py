"""ResultLinkSeconds: image URLs are published, and stored nowhere."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from posedrop import settings
from tests.integration.conftest import OUTPUTS, Pipeline
from tests.support import image

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))
SIGNED = "X-Amz-Signature"


@pytest.fixture
def events(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What comes over the stack's bus, which has links for an hour."""
    monkeypatch.setenv("EVENT_BUS_NAME", "images")
    monkeypatch.setenv("RESULT_LINK_SECONDS", "3600")
    settings.from_environment.cache_clear()
    found: list[dict[str, Any]] = []

    def put(params: dict[str, Any], **_: Any) -> Any:
        found.extend(json.loads(entry["Detail"]) for entry in json.loads(params["body"])["Entries"])
        return SimpleNamespace(status_code=200), {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}

    pipeline.hook("events", "PutEvents", put)
    return found


def test_links_are_published_and_kept_nowhere(
    pipeline: Pipeline, events: list[dict[str, Any]], logs: Callable[[], list[dict[str, Any]]]
) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    assert events == [notified]
    (output,) = notified["outputs"]
    url = urlsplit(output["url"])
    assert OUTPUTS in url.netloc + url.path
    assert url.path.endswith(output["key"])
    assert parse_qs(url.query)["X-Amz-Expires"] == ["3600"]
    assert SIGNED in url.query
    result = json.loads(pipeline.outputs()[f"{output['key'].rpartition('/')[0]}/result.json"])
    assert result == {**notified, "outputs": [{**output, "url": None}]}
    assert SIGNED not in str(pipeline.records())
    assert SIGNED not in json.dumps(logs())


def test_without_it_there_is_none(pipeline: Pipeline) -> None:
    pipeline.upload(FACE, WALK)
    pipeline.run_all()
    (notified,) = pipeline.notifications()
    assert [output["url"] for output in notified["outputs"]] == [None]
