"""Who may do what: only a browser on the app's own machine is private, and only to it are paths shown."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest
from dmpo_explore_app import access, messages
from visiting import listen

import dmpo_explore as dx

LOCAL = {"Host": "localhost:8501", "Origin": "http://localhost:8501"}


def test_examples() -> None:
    assert doctest.testmod(access) == (0, 2)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8501", "LOCALHOST.:1", "127.0.0.1:8501", "[::1]:8501", "127.9.9.9"]
)
def test_a_browser_on_this_machine_is_local(host: str) -> None:
    assert access.is_local_request([("hOsT", host)])
    assert access.is_local_request([("Host", host), ("Origin", f"http://{host}"), ("Cookie", "a=b")])


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "evil.example")],
        [("Host", "localhost.evil.example:8501")],
        [("Host", "evil.example#localhost")],
        [("Host", "localhost@evil.example")],
        [("Host", "evil.example@localhost")],
        [("Host", "localhost/x")],
        [("Host", "localhost:99999")],
        [("Host", "192.168.0.7:8501")],
        [("Host", "0.0.0.0:8501")],
        [("Host", "")],
        [("Cookie", "a=b")],
        [("Host", "localhost"), ("Host", "evil.example")],
        [("Host", "localhost:8501"), ("Origin", "http://evil.example")],
        [("Host", "localhost:8501"), ("Origin", "http://localhost:9000")],  # another server of this machine
        [("Host", "localhost:8501"), ("Origin", "null")],
        *([*LOCAL.items(), (name, "1.2.3.4")] for name in sorted(access.FORWARDED)),
    ],
)
def test_anything_else_is_not(headers: list[tuple[str, str]]) -> None:
    assert access.is_local_request(LOCAL.items()) and not access.is_local_request(headers)


@pytest.mark.parametrize(
    ("address", "allowed", "private"),
    [
        ("localhost", [], True),
        ("127.0.1.1", list(access.LOCAL_NAMES), True),
        ("::1", [], True),
        ("localhost", ["localhost", "app.example.org"], False),  # behind a proxy
        ("localhost", ["*"], False),
        ("0.0.0.0", [], False),
        ("::", [], False),
        ("192.168.0.7", ["localhost"], False),
        ("example.org", [], False),
        ("", [], False),
        (None, [], False),
    ],
)
def test_where_the_app_listens_decides_too(
    address: str | None, allowed: list[str], private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(monkeypatch, address, *allowed)
    assert access.listens_locally() is private and access.is_private() is private
    if not private:
        with pytest.raises(ValueError, match="Trainings are started only by a browser on the app's own machine"):
            access.check_private("Trainings are started")
    else:
        access.check_private("Trainings are started")


def test_the_request_decides_too(monkeypatch: pytest.MonkeyPatch) -> None:
    listen(monkeypatch)
    assert access.is_private()
    monkeypatch.setattr(access, "is_local_request", lambda headers: False)
    assert not access.is_private()


@pytest.mark.parametrize(
    ("address", "allowed", "host", "answer"),
    [
        ("localhost", [], "localhost:8501", True),
        ("localhost", [], "[::1]", True),
        ("localhost", [], "evil.example", False),
        ("localhost", [], "", False),
        ("localhost", ["app.example.org"], "APP.example.org.:443", True),
        ("localhost", ["app.example.org"], "localhost", False),
        ("localhost", ["*.example.org"], "a.b.example.org", True),
        ("localhost", ["*.example.org"], "example.org", False),
        ("0.0.0.0", [], "anything.example", True),
        ("0.0.0.0", ["*"], "anything.example", True),
        ("0.0.0.0", ["*"], "user@anything.example", False),
        ("0.0.0.0", ["app.example.org"], "evil.example", False),
    ],
)
def test_host_names_that_are_answered(
    address: str, allowed: list[str], host: str, answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(monkeypatch, address, *allowed)
    assert access.is_allowed([("Host", host)]) is answer
    assert not access.is_allowed([]) and not access.is_allowed([("Host", host), ("host", host)])


def test_paths_are_shown_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "my runs"))
    home, root = Path.home(), tmp_path / "my runs"
    text = (
        f"no file {home}/x, {root}/mine/config.json, '{sys.prefix}/lib/a b.py', {dx.runs.BUNDLED_RUNS}/demo; "
        r"C:\Users\anna\x.csv, ~anna/y, /srv/data/anna/images, wds//srv/data/anna/shards: "
        r"see https://example.org/a/b, 3/4 or val/test"
    )
    listen(monkeypatch)
    assert access.without_paths(text) == text and str(root) in messages.escape_markdown(text, 9999).replace("\\", "")
    listen(monkeypatch, "0.0.0.0", "*")
    for shown in (access.without_paths(text), messages.escape_markdown(text, 9999).replace("\\", "")):
        assert not any(
            word in shown for word in (str(home) + "/", "my runs", sys.prefix, "anna/", "Users", "srv", "demo/")
        )
        assert "config.json" in shown and "x.csv" in shown and "3/4 or val/test" in shown
        assert "https://example.org/a/b" in shown
