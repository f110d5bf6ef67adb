"""Who may do what: decided by where the app listens, and by every request.

A private request comes from a browser on the app's own machine. It may start trainings and open any folder, and it is
shown paths. Every other request, and every request to an app that is offered to other machines, may only look at runs.

In: Streamlit's options and a request's headers; both are what anybody can send. Out: decisions, and text without paths.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st

import dmpo_explore as dx

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
FORWARDED = {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"}  # headers of a proxy
MOST_MB = 100  # of an upload; a ZIP file of a private session: server.maxUploadSize
SHORTEST = 5  # characters of a folder that is masked: "/" would mask everything
# An absolute path of two parts or more, or one from a home folder, also behind a reader's name (wds//shards), and not
# the end of a web address.
_PART = r"[^\s/\\'\"<>:;,]+[\\/]+"
_BEFORE = r"(?<![\w:/.~-])(?:[a-z]+/(?=/))?"
_PATH = re.compile(rf"{_BEFORE}(?:~[\w.-]*/(?:{_PART})*|(?:/|[A-Za-z]:[\\/])(?:{_PART})+)([^\s/\\'\"<>:;,]*)")

Headers = Iterable[tuple[str, str]]


def is_private() -> bool:
    """Whether a browser on the app's own machine has this session, and the app is offered to no other machine."""
    return listens_locally() and is_local_request(st.context.headers.items())


def check_private(what: str) -> None:
    """Raise ValueError unless `is_private`; ``what`` begins the sentence: "Trainings are started"."""
    if not is_private():
        raise ValueError(f"{what} only by a browser on the app's own machine")


def listens_locally() -> bool:
    """Whether the app listens on a loopback address and answers to no other name."""
    address = str(st.get_option("server.address") or "")
    return is_loopback(address) and all(map(is_loopback, st.get_option("server.allowedHosts") or []))


def is_local_request(headers: Headers) -> bool:
    """Whether a browser on this machine sent these headers to this app: they name this machine and no other site. True
    without any headers: then there is no browser."""
    pairs = [(name.lower(), value) for name, value in headers]
    if not pairs:
        return True
    hosts = [value for name, value in pairs if name == "host"]
    origins = [urlsplit(value).netloc for name, value in pairs if name == "origin"]
    direct = not FORWARDED & {name for name, _ in pairs}
    return direct and len(hosts) == 1 and is_loopback(host_name(hosts[0])) and origins in ([], hosts)


def is_allowed(headers: Headers) -> bool:
    """Whether the headers' host is one of ``server.allowedHosts``; of a local app, at least a name of this machine."""
    hosts = [value for name, value in headers if name.lower() == "host"]
    allowed = list(st.get_option("server.allowedHosts") or (LOCAL_NAMES if listens_locally() else ["*"]))
    name = host_name(hosts[0]) if len(hosts) == 1 else ""
    return bool(name) and any(_fits(name, pattern.strip().lower().rstrip(".")) for pattern in allowed)


def _fits(name: str, pattern: str) -> bool:
    return pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))


def host_name(host: str) -> str:
    """The name in a ``Host`` header, in lower case, without port and brackets; empty for what is no host.

    >>> host_name("LOCALHOST.:8501"), host_name("[::1]:8501"), host_name("user@localhost"), host_name("localhost:x")
    ('localhost', '::1', '', '')
    """
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is no port
    except ValueError:
        return ""
    return (parts.hostname or "").rstrip(".") if host and parts.netloc == host and "@" not in host else ""


def is_loopback(name: str) -> bool:
    """Whether a host name or an address means this machine.

    >>> [is_loopback(name) for name in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "localhost.example.org", "")]
    [True, True, True, False, False, False]
    """
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


# -- a token --

TOKEN = "DMPO_EXPLORE_TOKEN"  # of the environment; `dmpo-explore app --token` and `scripts/app --token` set it


def token() -> str:
    """What a browser must know to be answered at all; empty: nothing."""
    return os.environ.get(TOKEN, "").strip()


def is_token(text: str) -> bool:
    """Whether this is the token, compared in constant time."""
    return hmac.compare_digest(text.encode(), token().encode())


def cookie_value() -> str:
    """What a browser keeps that has shown the token: its SHA-256, as a cookie cannot hold any text."""
    return hashlib.sha256(token().encode()).hexdigest()


def shows_token(headers: Headers, cookie: str) -> bool:
    """Whether a cookie of this name holds `cookie_value`."""
    pairs = [
        part.strip().partition("=") for name, value in headers if name.lower() == "cookie" for part in value.split(";")
    ]
    return any(
        name == cookie and hmac.compare_digest(value.encode(), cookie_value().encode()) for name, _, value in pairs
    )


# -- paths --


def folders() -> list[str]:
    """Folders of this machine that only private requests may learn, longest first."""
    known = {
        Path.home(),
        Path.cwd(),
        Path(__file__).resolve().parent.parent,
        Path(sys.prefix),
        Path(sys.base_prefix),
        dx.runs.runs_root().resolve(),
        dx.runs.BUNDLED_RUNS.resolve(),
    }
    return sorted((text for text in map(str, known) if len(text) >= SHORTEST), key=len, reverse=True)


def without_paths(text: str) -> str:
    """``text`` where every path is shortened to its last part, unless `is_private`."""
    if not ("/" in text or "\\" in text) or is_private():
        return text
    for folder in folders():
        text = text.replace(f"{folder}/", "…/").replace(folder, "…")
    return _PATH.sub(r"…/\1", text)
