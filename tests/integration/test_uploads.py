"""The upload contract, from the event of an upload to the request at the provider."""

from itertools import permutations
from typing import Any

import pytest

from tests.integration.conftest import Pipeline
from tests.support import image

FACE = ("incoming/hero/face.png", image("png", (10, 10), "white"))
WALK = ("incoming/hero/poses/walk.png", image("png", (12, 8), "black"))
SIT = ("incoming/hero/poses/sit.JPG", image("jpeg", (9, 9), "gray"))


def statuses(pipeline: Pipeline) -> dict[str, str]:
    return {
        key.split("-")[0] if key.startswith("waiting") else str(item["pose"]): str(item["status"])
        for key, item in pipeline.records().items()
    }


@pytest.mark.parametrize("files", permutations([FACE, WALK, SIT]))
def test_every_order_of_arrival_makes_each_job_once(pipeline: Pipeline, files: tuple[Any, ...]) -> None:
    assert pipeline.upload(*files)
    assert statuses(pipeline) == {"walk": "SUBMITTED", "sit": "SUBMITTED"}
    assert len(pipeline.provider.posts) == 2
    assert len(pipeline.executions()) == 2
