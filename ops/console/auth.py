"""Authenticates requests. The console acts with the operator's credentials, and any web page can send it requests."""

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
    """Passes on only requests that the operator's own browser makes from the console's page.

    Other pages in the same browser can send requests to this port, even under a domain that resolves to 127.0.0.1
    (DNS rebinding). Therefore Host and Origin are checked, and a cookie must hold `token`, which is new at each start.
    A browser that the console opens gets `code` instead of the token. It works once, because other users of the machine
    can read the browser's command line.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, code: str = "") -> None:
        self._app = app
        self._token = token.encode()
        self._code = code.encode()
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        self._cookie = f"posedrop-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, redirect or pass on one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            respond = self._refusal(scope) or self._sign_in(scope) or self._app
            await respond(scope, receive, _secured(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, scope: Scope) -> Response | None:
        """Return a refusal if the request comes from another site, or None."""
        headers = Headers(scope=scope)
        if headers.getlist("host") not in ([host] for host in self._hosts):
            return _refuse(scope, "This address is not the console's.")
        origin = headers.getlist("origin")
        if origin and origin != [f"http://{headers['host']}"]:
            return _refuse(scope, "The request comes from another page.")
        if scope["method"] not in READS and not origin and headers.get("sec-fetch-site") != "same-origin":
            return _refuse(scope, "The request does not say which page it comes from.")
        return None

    def _sign_in(self, scope: Scope) -> Response | None:
        """Set the cookie if the URL has the token or the code. Return None if the cookie is valid, or a refusal."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        is_page = scope["path"] == "/" and scope["method"] == "GET"
        if is_page and (
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
        # Each by itself: another site's malformed cookie must not hide ours.
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
    """Return a `send` that adds the security headers to every response, errors included."""

    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return secured
