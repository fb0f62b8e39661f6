"""Keeps everybody else out: the console acts with the operator's credentials, and any page may send it requests."""

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
READS = ("GET", "HEAD")


class Auth:
    """Lets only those requests through that the operator's own browser makes from this page.

    A page elsewhere that a browser has open may send requests here, under a name of its own that leads to this
    machine too: so the Host and the Origin count, and the token of this start that only the operator has. A
    browser that is opened is given `code` instead, which is good once: everybody here may read its command line.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, code: str = "") -> None:
        self._app = app
        self._token = token.encode()
        self._code = code.encode()
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._cookie = f"posedrop-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._refusal(scope) or self._entrance(scope) or self._app
            await answer(scope, receive, _secured(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, scope: Scope) -> Response | None:
        """The response to what comes from elsewhere; None if nothing speaks against it."""
        headers = Headers(scope=scope)
        if headers.getlist("host") not in ([host] for host in self._hosts):
            return _refuse(scope, "This address is not the console's.")
        origin = headers.getlist("origin")
        if origin and origin != [f"http://{headers['host']}"]:
            return _refuse(scope, "Another page asked for this.")
        if scope["method"] not in READS and not origin and headers.get("sec-fetch-site") != "same-origin":
            return _refuse(scope, "It is not said which page asked for this.")
        return None

    def _entrance(self, scope: Scope) -> Response | None:
        """Take the token, or what is good for it, from the address into a cookie; refuse the others. None: come in."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        atop = scope["path"] == "/" and scope["method"] == "GET"
        if atop and (
            any(map(self._is_token, query.get("token", []))) or any(map(self._is_code, query.get("code", [])))
        ):
            response = RedirectResponse("/", 303)
            response.set_cookie(self._cookie, self._token.decode(), httponly=True, samesite="strict", path="/")
            return response
        if self._is_token(_cookie(Headers(scope=scope), self._cookie)):
            return None
        return _refuse(scope, "Open the address that python -m ops console printed: each start has its own.")

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token)

    def _is_code(self, given: str) -> bool:
        right = bool(self._code) and secrets.compare_digest(given.encode(), self._code)
        if right:
            self._code = b""
        return right


def _cookie(headers: Headers, name: str) -> str:
    for header in headers.getlist("cookie"):
        # One foreign cookie that cannot be read must not hide ours.
        for part in header.split(";"):
            try:
                found = SimpleCookie(part.strip()).get(name)
            except CookieError:
                continue
            if found:
                return found.value
    return ""


def _refuse(scope: Scope, why: str) -> Response:
    if scope["path"].startswith("/api/"):
        return JSONResponse({"error": why}, 403)
    return PlainTextResponse(f"{why}\n", 403)


def _secured(send: Send) -> Send:
    """Every response carries the headers, errors too."""

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return secured
