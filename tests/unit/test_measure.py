"""Coverage: the code's own notes are the lines that a tracer sees, and change nothing else."""

import sys
from textwrap import dedent
from types import FrameType
from typing import Any

from tests.measure import compiled, notes

PROGRAM = '''
    """A docstring."""

    from __future__ import annotations

    import functools

    NUMBER = 3
    """What it is."""


    @functools.cache
    def double(number: Undefined) -> int:
        """Its docstring."""
        global NUMBER
        NUMBER = number
        if number > 2:
            return (
                2
                * number
            )
        elif number > 1:
            return 2
        else:
            return 0


    class Shape:
        """A class."""

        sides = 4

        def area(self):
            for side in range(self.sides):
                try:
                    [1][side]
                except IndexError:
                    break
                finally:
                    side += 1
            else:
                return 0
            match side:
                case 2:
                    return "two"
                case _:
                    return None


    result = double(NUMBER), double(0), Shape().area(), double.__wrapped__.__doc__, Shape.__doc__, __doc__
'''


def test_the_notes_are_the_lines_that_a_tracer_sees() -> None:
    source = dedent(PROGRAM)
    seen: set[int] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename == "traced.py" and event == "line":
            seen.add(frame.f_lineno)
        return trace

    plain: dict[str, Any] = {"__name__": "plain"}
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        exec(compile(source, "traced.py", "exec", dont_inherit=True), plain)
    finally:
        sys.settrace(before)
    noting: dict[str, Any] = {"__name__": "noting"}
    exec(compiled(source.encode(), "noted.py"), noting)
    noted = set(notes("noted.py"))
    notes("noted.py").clear()
    assert noting["result"] == plain["result"] == (6, 0, "two", "Its docstring.", "A class.", "A docstring.")
    lines = source.splitlines()
    text = {number: lines[number - 1].strip() for number in seen ^ noted}
    assert set(text.values()) <= {'"""A docstring."""', '"""A class."""', "2", "* number", "global NUMBER"}
