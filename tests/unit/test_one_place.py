"""What is one fact is said in one place: a change of it is a change of one line."""

import pytest

from tests.support import ROOT

ROOMS = ("layers/posedrop/posedrop", "functions", "ops")
PACKAGE = "layers/posedrop/posedrop"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("httpx.Client(", f"{PACKAGE}/segmind/http.py"),
        (":execution:", f"{PACKAGE}/contract/naming.py"),
        ("consistent-character-with-pose", f"{PACKAGE}/segmind/model.py"),
        ('"face_image"', f"{PACKAGE}/segmind/model.py"),
        ("86400", f"{PACKAGE}/contract/times.py"),
        ("LONGEST_DELAY = ", f"{PACKAGE}/aws/messages.py"),
        ('self.client("dynamodb")', "ops/stack.py"),
        ('stack.client("dynamodb")', ""),  # the commands read through the ledger's reader
    ],
)
def test_it_is_said_in_one_place(text: str, place: str) -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if text in path.read_text(encoding="utf-8")
    }
    assert found == ({place} if place else set())
