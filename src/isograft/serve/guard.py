"""Who may ask, and what every answer carries: the layer around the app.

Each request is counted, checked (host, origin, token), and answered in the end, whatever happens inside. Nothing of a request is logged:
of an error within the server only the place in the program.
"""

from __future__ import annotations

import hmac
import time
import traceback
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isograft import console
from isograft.serve.desk import Desk
from isograft.serve.problems import Problem

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), interest-cohort=()",
}
"""Headers of every answer."""

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_GONE = 499


@dataclass(frozen=True)
class Rules:
    """Who may ask.

    Attributes:
        token: What clients must send; empty where anybody may ask.
        hosts: Names by which the server may be called; empty where any will do.
    """

    token: str = ""
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, host: str, local: bool, token: str = "") -> Rules:
        """The rules of a server that listens on `host`.

        A page elsewhere can have its own name resolve to 127.0.0.1 and so ask a local server in the user's browser (DNS rebinding); the
        name it asks by gives it away.

        Args:
            host: Where it listens.
            local: It is for this machine alone, and answers to its names alone; otherwise any name will do, such as that of a server with
                TLS in front.
            token: What clients must send, if anything.
        """
        return cls(token, _LOCAL_NAMES | {host.lower()} if local else frozenset())

    def check(self, scope: Scope) -> None:
        """Let a request pass.

        Raises:
            Problem: It may not.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts and _name(host) not in self.hosts:
            raise Problem(403, "this server answers only when it is called by a name of this machine, such as localhost")
        if scope["method"] in _CHANGING:
            origin = headers.get("origin")
            if origin is not None and (urlsplit(origin).netloc or origin).lower() != host.lower():
                raise Problem(403, "the request comes from a page of another server (Origin differs from Host)")
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                raise Problem(403, "the request comes from a page of another server")
        if self.token and _needs_token(scope["path"]):
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
                raise Problem(401, "send the token that the server printed when it was started", {"WWW-Authenticate": "Bearer"})


class Guard:
    """The layer around an app.

    Args:
        app: The app.
        service: What it serves.
        rules: Who may ask.
    """

    def __init__(self, app: ASGIApp, service: Desk, rules: Rules) -> None:
        self._app, self._service, self._rules = app, service, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _secure(message, scope["path"])
            await send(message)

        try:
            if self._service.draining and scope["path"] != "/metrics":
                raise Problem(503, "the server is shutting down", {"Retry-After": "5", "Connection": "close"})
            self._rules.check(scope)
            await self._app(scope, receive, sending)
        except Problem as problem:
            await answer(problem)(scope, receive, sending)
        except ClientDisconnect:
            status = _GONE
        except Exception as error:
            _tell(error)
            if not status:
                await answer(Problem(500, "the server failed at this request; others are not concerned"))(scope, receive, sending)
        finally:
            self._service.metrics.answered(_route(scope), status or _GONE, time.monotonic() - began)


def answer(problem: Problem) -> JSONResponse:
    """A problem as the client gets it."""
    return JSONResponse({"detail": problem.detail}, problem.status, problem.headers)


def _needs_token(path: str) -> bool:
    return not (path in ("/", "/health", "/favicon.ico") or path.startswith("/static/"))


def _name(host: str) -> str:
    """The name of a Host header without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _secure(message: Message, path: str) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in SECURITY.items():
        headers[name] = value
    headers["Cache-Control"] = "no-cache" if path == "/" or path.startswith("/static/") else "no-store"


def _route(scope: Scope) -> str:
    """The template of the route that answered."""
    path = getattr(scope.get("route"), "path", None)
    return path if path is not None else "/static" if scope["path"].startswith("/static/") else "other"


def _tell(error: Exception) -> None:
    """Say where the program failed, and not with what: messages of errors may quote what was uploaded."""
    places = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-3:]]
    console.warn(f"a request failed with {type(error).__name__} at {' < '.join(reversed(places))}")
