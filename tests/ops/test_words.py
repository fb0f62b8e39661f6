"""Numbers and texts as people read them."""

import pytest

from ops.formatting import command, many, printable, span, usd


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (4.04, "4 s"),
        (4.26, "4.3 s"),
        (9.97, "10 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (3 * 86400, "3 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_amounts_and_counts() -> None:
    assert [usd(amount) for amount in (0, 0.0294, 1.47)] == ["0 USD", "0.0294 USD", "1.47 USD"]
    assert [many(count, "job") for count in (0, 1, 2000)] == ["0 jobs", "1 job", "2,000 jobs"]


def test_commands_are_quoted() -> None:
    assert (
        command("explain", "incoming/my hero/face.png") == ".venv/bin/python -m ops explain 'incoming/my hero/face.png'"
    )


def test_texts_of_others_do_not_steer_the_terminal() -> None:
    assert printable("ü\x1b[31m\x07[red]\n") == "ü\\x1b[31m\\x07[red]\n"
