"""One term for one thing: words that were replaced (docs/glossary.md has those that stay) are used nowhere."""

import re
from pathlib import Path

import pytest

from tests.support import ROOT

FOLDERS = ("bench", "docs", "events", "functions", "layers/posedrop/posedrop", "local", "ops", "statemachine", "tests")
ENDINGS = {".py", ".md", ".js", ".html", ".css", ".json", ".yaml"}
RETIRED = {
    r"tells?|told|telling|untold": "notify; of other things say, report, show",
    r"look(s|ed|ing)? (at|after|on)|the looks?": "poll (the provider), check, read",
    r"set aside": "dead-lettered",
    r"set going|goes on with an earlier request": "resume, adopt",
    r"put off|held (back|up)|until it is looked at": "deferred",
    r"on (its|their) way": "queued, being sent",
    r"(go|goes|going|went) on with": "resume, continue",
    r"(come|comes|coming|came) back": "redelivered, reconnects, returned",
    r"suspect(s|ed)?": "outcome unknown",
    r"provider's answers?": "response",
    r"governor|pacing": "rate limit, rate limiter",
    r"arrivals|unsettled|job drafts?": "upload intake, job candidate, settle window",
    r"net under": "fallback message",
    r"outsidecontract|resubmitunknown|dailyjoblimit": "InvalidUploadKey; the other two are gone",
    r"glances?|shelf|moments|guards?": "summary, staging, events, auth",
    r"storm|troubles?d?|verdict": "ChaosRun, faults, invariants",
    r"mend(s|ed|ing)?|bears?|(made|started) anew|who comes meanwhile": "fix, applies, created again, new jobs",
    r"wish(es|ed)?": "request, message",
}
"""A word, in any case, and what is said in its place."""
WORDS = {
    re.compile(rf"(?<![a-z])({word.replace(' ', '[ _]')})(?![a-z])", re.IGNORECASE): plain
    for word, plain in RETIRED.items()
}
OURS_NOT = re.compile(r"self\.tell\(|def tell\(|\.tell\(\)")
"""A file's position, as Python names it."""


def texts() -> list[Path]:
    """All that is read by people, but this file."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    found += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in found if path.suffix in ENDINGS and path != Path(__file__)]


def test_no_retired_word_is_left() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}: say {plain}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for word, plain in WORDS.items()
        for match in word.finditer(OURS_NOT.sub("", line))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line", ["was told of it", "`told = 1`", "def test_it_is_told_once", "Look at the log", "Pacing", "it_is_set_aside"]
)
def test_a_retired_word_is_found_wherever_it_stands(line: str) -> None:
    assert any(word.search(line) for word in WORDS)


@pytest.mark.parametrize("line", ["look up the request", "a storeroom", "the moment after", "recommended", "stormed"])
def test_other_words_are_not(line: str) -> None:
    assert not any(word.search(line) for word in WORDS)
