"""`backfill` through a bucket of a million files: what is held of it, the calls, and the seconds."""

import time
import weakref

import pytest

from ops.act.backfill.sending import Spool
from ops.act.backfill.windows import WINDOW
from tests.many_files import PAGE, Watched, many_files

CHARACTERS = 2_000
FILES = CHARACTERS * 502

pytestmark = pytest.mark.large


def test_a_million_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.act.backfill.windows.Listed", Watched)
    Watched.alive, Watched.most = weakref.WeakSet(), 0
    s3, finder = many_files(CHARACTERS)
    begin = time.perf_counter()
    with Spool() as spool:
        for found in finder.find():
            spool.put(found)
        assert finder.seen.keys == FILES > 1_000_000
        assert spool.summary.to_send == CHARACTERS * 500
        assert sum(1 for _ in spool.lines()) == CHARACTERS * 500
    seconds = time.perf_counter() - begin
    print(f"{FILES:,} files: {seconds:.0f} s, {s3.calls:,} lists, {Watched.most:,} files held")
    assert Watched.most < 2 * WINDOW + PAGE
    # The pages of the listing, and one of its own for each character in each window.
    assert s3.calls < 1.1 * (FILES / PAGE + CHARACTERS + FILES / WINDOW)
