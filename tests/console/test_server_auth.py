"""Nobody but the operator's own page gets a response from the console."""

import pytest

from ops.console.auth import POLICY
from tests.console.conftest import CODE, TOKEN, Console

ELSEWHERE = "http://elsewhere.test"


def test_the_address_of_the_start_leads_in(console: Console) -> None:
    answer = console.request("GET", f"/?token={TOKEN}", headers={"Cookie": None})
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    port = console.base.rpartition(":")[2]
    assert answer.headers["Set-Cookie"] == f"posedrop-{port}={TOKEN}; HttpOnly; Path=/; SameSite=strict"
    assert console.request("GET", "/api/summary").status == 200


def test_the_address_of_the_browser_that_is_opened_leads_in_once(console: Console) -> None:
    path, nobody = f"/?code={CODE}", {"Cookie": None}
    assert console.request("GET", path, headers={**nobody, "Host": "elsewhere.test"}).status == 403
    assert console.request("HEAD", path, headers=nobody).status == 403
    assert console.request("GET", f"/api/jobs?code={CODE}", headers=nobody).status == 403
    answer = console.request("GET", path, headers=nobody)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    assert f"={TOKEN};" in answer.headers["Set-Cookie"]
    assert console.request("GET", path, headers=nobody).status == 403
    assert console.request("GET", "/?code=", headers=nobody).status == 403
    assert console.request("GET", f"/?token={CODE}", headers=nobody).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "elsewhere.test"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Origin": ELSEWHERE},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Cookie": None},
        {"Cookie": "posedrop-1=token-of-this-start"},
    ],
    ids=str,
)
def test_a_foreign_request_is_refused(console: Console, headers: dict[str, str | None]) -> None:
    for path in ("/", "/api/jobs", "/api/events", "/static/app.js", "/nothing"):
        answer = console.request("GET", path, headers=headers)
        assert answer.status == 403, path
        assert TOKEN.encode() not in answer.data, path


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "%C3%A4", "%ff%00"])
def test_a_wrong_token_is_refused(console: Console, token: str) -> None:
    port = console.base.rpartition(":")[2]
    assert console.request("GET", f"/?token={token}", headers={"Cookie": None}).status == 403
    assert console.request("GET", "/api/jobs", headers={"Cookie": f"posedrop-{port}={token}"}).status == 403


def test_the_token_of_the_address_counts_at_the_entrance_only(console: Console) -> None:
    assert console.request("GET", f"/api/jobs?token={TOKEN}", headers={"Cookie": None}).status == 403
    assert console.request("POST", f"/?token={TOKEN}", headers={"Cookie": None}).status == 403


def test_a_cookie_that_cannot_be_read_hides_no_other(console: Console) -> None:
    port = console.base.rpartition(":")[2]
    mixed = f'other={{"a": 1}}; posedrop-{port}={TOKEN}; b@d=[]'
    assert console.request("GET", "/api/summary", headers={"Cookie": mixed}).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": None}, 403),
        ({"Origin": None, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": None, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": ELSEWHERE, "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": None, "Sec-Fetch-Site": "same-origin"}, 404),
        ({}, 404),
    ],
    ids=str,
)
def test_who_acts_says_where_it_comes_from(console: Console, headers: dict[str, str | None], status: int) -> None:
    assert console.request("POST", "/api/jobs/hero-walk-0123456789abcdef/retry", {}, headers=headers).status == status


def test_localhost_is_this_machine_too(console: Console) -> None:
    host = console.base.replace("http://127.0.0.1", "localhost")
    assert console.request("GET", "/api/summary", headers={"Host": host}).status == 200
    mixed = {"Host": host, "Origin": console.base}
    assert console.request("GET", "/api/summary", headers=mixed).status == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/static/index.html", 200),
        ("/static/none.js", 404),
        ("/static/..%2fapp.py", 404),
        ("/api/summary", 200),
        ("/api/jobs/hero-walk-0123456789abcdef", 404),
        ("/api/jobs?limit=x", 400),
        ("/api/plan", 405),
        ("/nothing", 404),
    ],
)
def test_every_response_carries_the_headers(console: Console, path: str, status: int) -> None:
    answers = [console.request("GET", path), console.request("GET", path, headers={"Cookie": None})]
    assert [answer.status for answer in answers] == [status, 403]
    for answer in answers:
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Server" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_fault_of_its_own_is_answered_with_the_headers_and_without_details(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.console.app.schema", lambda: {"a": object()})
    answer = console.request("GET", "/api/stack")
    assert answer.status == 500
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert b"object" not in answer.data


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    directives = dict(directive.split(" ", 1) for directive in POLICY.split("; "))
    assert directives["default-src"] == "'none'"
    assert {directives[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
