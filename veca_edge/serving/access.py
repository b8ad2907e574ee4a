"""Who is answered: requests to this server's own address, from its own page, by who scanned a code."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "veca_edge"
TOKEN = "token"
MOST_SESSIONS = 100
DEFAULT_PORTS = {"http": 80, "https": 443}
# What a page may do: nothing but talk to where it came from. WebAssembly is compiled, no text is run as code.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
        "connect-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class Admission:
    """Tokens that let one device in each, and the sessions of those that were let in.

    Attributes:
        on_admitted: called when a token was used, with no argument: the next one is then in `token`.
    """

    on_admitted: Callable[[], None] = lambda: None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _sessions: list[str] = field(default_factory=list)

    def redeem(self, token: str) -> str | None:
        """The session of who shows the token, which is worth nothing from then on; None for another one."""
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        self.token = secrets.token_urlsafe(32)
        session = secrets.token_urlsafe(32)
        self._sessions = [*self._sessions[-MOST_SESSIONS + 1 :], session]
        self.on_admitted()
        return session

    def knows(self, session: str) -> bool:
        return any(hmac.compare_digest(session.encode(), known.encode()) for known in self._sessions)


class Guard:
    """Answers nobody else: an ASGI middleware.

    Args:
        origin: the scheme, host and port that the page has; a request for another host is one that somebody's name
            server sent here.
        admission: whom to let in; None is everybody who reaches this address, which on loopback is this machine.
        posts: paths that may be posted to.
    """

    def __init__(self, app: ASGIApp, origin: str, admission: Admission | None, posts: tuple[str, ...] = ()):
        self.app, self.admission, self.posts = app, admission, posts
        scheme, _, host = origin.partition("://")
        self.hosts = [host]
        # Clients leave out a scheme's default port (RFC 9110), and only that one.
        if host.endswith(port := f":{DEFAULT_PORTS[scheme]}"):
            self.hosts.append(host.removesuffix(port))
        self.origins = [f"{scheme}://{host}" for host in self.hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import Request

        if scope["type"] != "http":
            return
        request = Request(scope)
        answer = self._refused(request) or self._admitted(request)
        await (answer or self.app)(scope, receive, _with_headers(send))

    def _refused(self, request: Any) -> Any:
        from starlette.responses import PlainTextResponse

        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return PlainTextResponse("This server has another name.", 421)
        if request.method not in ("GET", "HEAD") and not (request.method == "POST" and request.url.path in self.posts):
            return PlainTextResponse("This can't be done here.", 405)
        if any(origin not in self.origins for origin in request.headers.getlist("origin")):
            return PlainTextResponse("Pages of other origins are not answered.", 403)
        # A link from elsewhere may open the page; nothing else of another site may ask for anything.
        is_foreign = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        opens = request.headers.get("sec-fetch-mode") == "navigate" and request.method == "GET"
        if is_foreign and not opens:
            return PlainTextResponse("Pages of other origins are not answered.", 403)
        return None

    def _admitted(self, request: Any) -> Any:
        from starlette.responses import PlainTextResponse, RedirectResponse

        if self.admission is None or self.admission.knows(request.cookies.get(COOKIE, "")):
            return None
        session = self.admission.redeem(request.query_params.get(TOKEN, ""))
        if session is None:
            return PlainTextResponse("Scan the code that the terminal shows: each lets one device in.", 401)
        answer = RedirectResponse(request.url.path, 303)
        answer.set_cookie(COOKIE, session, secure=True, httponly=True, samesite="strict")
        return answer


def _with_headers(send: Send) -> Send:
    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message.get("headers", [])}
            added = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items() if k.lower().encode() not in known]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sent
