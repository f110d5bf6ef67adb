"""The app as a server: Streamlit's pages behind checks and headers that its options do not offer.

`scripts/app` and `dmpo-explore app` start this file; Streamlit finds ``app`` in it. In: requests. Out: what Streamlit
answers, with security headers; a refusal where the host's name is not one of ``server.allowedHosts``, also for plain
HTTP, or where a token is set and the request does not show it, or where a shared session sends a large upload; no
metrics. To other machines no folder of this one is named: Streamlit's own first message holds main.py's path.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import streamlit as st
from dmpo_explore_app import access, poster, preload
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = Path(__file__).resolve().parent
REFUSED = (
    "This app does not answer to that host name. On its own machine open http://localhost; for others start it with "
    "dmpo-explore app --host ADDRESS, and behind a proxy with dmpo-explore app --allow-host NAME.\n"
)

LOCKED = "This app is opened by the address that was printed where it was started: it ends in ?token=…\n"


def content_policy() -> str:
    """The Content-Security-Policy: scripts of this server alone, framed by no other site, nothing from elsewhere.
    Streamlit needs inline styles, blob: for components, and its page's own scripts, admitted by their hash."""
    page = Path(st.__file__).parent / "static" / "index.html"
    inline = re.findall(r"<script>(.*?)</script>", page.read_text("utf-8"), re.DOTALL) if page.is_file() else []
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline]
    rules = {
        "default-src": "'self'",
        "script-src": " ".join(["'self' blob:", *(f"'sha256-{digest}'" for digest in digests)]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "media-src": "'self' blob:",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'self'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def security_headers() -> list[tuple[bytes, bytes]]:
    headers = {
        "content-security-policy": content_policy(),
        "x-frame-options": "SAMEORIGIN",
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class Guard:
    """ASGI middleware: refuses foreign host names and metrics, adds headers, names no folder to other machines."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.added = app, security_headers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        guarded = self._with_headers(send)
        if not access.is_allowed(headers):
            await _refuse(scope, receive, guarded, REFUSED, 421)
        elif access.token() and not access.shows_token(headers, cookie := _cookie(scope)):
            query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
            if scope["type"] == "http" and access.is_token(dict(query).get("token", "")):
                rest = urlencode([(name, value) for name, value in query if name != "token"])
                place = "/" + scope["path"].lstrip("/")  # "//x" is a host
                answer = RedirectResponse(f"{place}?{rest}" if rest else place, 303)
                answer.set_cookie(
                    cookie, access.cookie_value(), httponly=True, samesite="lax"
                )  # a link elsewhere may lead here
                await answer(scope, receive, guarded)
            else:
                await _refuse(scope, receive, guarded, LOCKED, 403)
        elif scope["path"].rstrip("/").endswith("/_stcore/metrics"):
            await _refuse(scope, receive, guarded, "Not found\n", 404)
        elif access.listens_locally() and access.is_local_request(headers):
            await self.app(scope, receive, guarded)
        elif scope.get("method") == "PUT" and not _is_small(headers):
            await _refuse(scope, receive, guarded, f"At most {access.MOST_MB} MB are taken.\n", 413)
        else:
            await self.app(scope, receive, without_folders(guarded))

    def _with_headers(self, send: Send) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in self.added}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in names]
                message = {**message, "headers": [*kept, *self.added]}
            await send(message)

        return guarded


def _cookie(scope: Scope) -> str:
    """Name of the cookie with the token: a browser keeps one jar for all ports of a machine."""
    return f"dmpo-explore-{(scope.get('server') or ('', ''))[1]}"


def _is_small(headers: access.Headers) -> bool:
    """Whether a request has, and states, at most `access.MOST_MB` beside its form; Streamlit leaves a widget's limit to
    the browser."""
    sizes = [value for name, value in headers if name.lower() in ("content-length", "transfer-encoding")]
    return all(size.isdecimal() and int(size) <= (access.MOST_MB + 1) * 2**20 for size in sizes or ["unknown"])


async def _refuse(scope: Scope, receive: Receive, send: Send, text: str, status: int) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
    else:
        await PlainTextResponse(text, status)(scope, receive, send)


def without_folders(send: Send) -> Send:
    """``send`` that blackens the folders of `access.folders` in messages, without a change of their lengths."""
    folders = [folder.encode() for folder in access.folders()]

    async def masked(message: Message) -> None:
        data = message.get("bytes") if message["type"] == "websocket.send" else None
        if data:
            for folder in folders:
                data = data.replace(folder, b"/" + b"-" * (len(folder) - 1))
            message = {**message, "bytes": data}
        await send(message)

    return masked


app = st.App(
    HERE / "main.py", middleware=[Middleware(Guard), Middleware(poster.Poster)], lifespan=preload.while_starting
)
