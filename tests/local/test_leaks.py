"""The search for secrets in the logs of the end-to-end tests finds them."""

import base64

import pytest

from local.stack import LOCAL_API_KEY
from tests.e2e.leaks import FORBIDDEN, NEW_KEY, leaks
from tests.support import SAMPLES, image

FACE = base64.b64encode((SAMPLES / "face-astronaut.png").read_bytes()).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"x-api-key: {LOCAL_API_KEY}",
        f'{{"key": "{NEW_KEY}"}}',
        "https://bucket/key?X-Amz-Signature=0",
        "https://bucket/key?X-Amz-Credential=0",
        "https://bucket/key?X-Amz-Security-Token=0",
        "data:image/png;base64,",
        base64.b64encode(image()).decode(),
        FACE,
        FACE[40:1000],
        FACE[len(FACE) // 2 - 100 :],
    ],
)
def test_what_leaks_is_found(text: str) -> None:
    assert leaks(f'{{"message": "{text}"}}\n')


def test_a_line_as_it_should_be() -> None:
    line = '{"message": "submitted", "job_id": "hero-walk-0123456789abcdef", "reason": "an image"}'
    assert leaks(line) == []
    assert all(len(forbidden) >= 7 for forbidden in FORBIDDEN)
