"""The server: a guard before Streamlit, the outline of the first page, and what is read ahead for it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from calls import result_of
from dmpo_explore_app import access, preload, server
from dmpo_explore_app.components import app_header
from dmpo_explore_app.services import downloads, models
from explore_page import cards, start
from visiting import Server, listen

import dmpo_explore as dx

MESSAGE = f"\x12{Path.home()}/x \xff {server.HERE / 'main.py'}".encode("latin-1")
CASES = [
    ("http", "/", {"type": "http.response.start", "status": 421}),
    ("websocket", "/_stcore/stream", {"code": 1008}),
]


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    """Streamlit, as it were: a header of its own, or a message."""
    if scope["type"] == "http":
        headers = [(b"x-frame-options", b"ALLOWALL"), (b"etag", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"whole"})
    else:
        await send({"type": "websocket.send", "bytes": MESSAGE})
        await send({"type": "websocket.send", "text": "text"})


def answers(
    kind: str,
    path: str = "/",
    host: str = "localhost:8501",
    query: str = "",
    cookie: str = "",
    method: str = "GET",
    more: tuple[tuple[bytes, bytes], ...] = (),
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    headers = [(b"host", host.encode()), (b"cookie", cookie.encode()), *more]
    scope = {"type": kind, "path": path, "headers": headers, "method": method, "query_string": query.encode()}
    scope["server"] = ("localhost", 8501)
    result_of(server.Guard(_inner)(scope, receive, send))  # type: ignore[arg-type]
    return sent


@pytest.mark.parametrize(("kind", "path", "expected"), CASES)
def test_a_foreign_host_never_reaches_streamlit(kind: str, path: str, expected: dict[str, Any]) -> None:
    first = answers(kind, path, "evil.example")[0]
    assert expected.items() <= first.items()


def test_every_answer_carries_the_headers_once() -> None:
    first, body = answers("http")
    names = [name for name, _ in first["headers"]]
    assert len(set(names)) == len(names) and dict(first["headers"])[b"x-frame-options"] == b"SAMEORIGIN"
    assert {b"etag", b"content-security-policy", b"x-content-type-options"} <= set(names) and body["body"] == b"whole"


def test_a_loop_that_runs_already_does_not_matter() -> None:
    async def answers_within() -> list[dict[str, Any]]:
        return answers("http")

    assert result_of(answers_within()) == answers("http")


@pytest.mark.parametrize("path", ["/_stcore/metrics", "/base/_stcore/metrics/"])
def test_there_are_no_metrics(path: str) -> None:
    assert answers("http", path)[0]["status"] == 404


def test_folders_are_blackened_for_other_machines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers("websocket")[0]["bytes"] == MESSAGE
    listen(monkeypatch, "0.0.0.0", "*")
    sent, text = answers("websocket", host="app.example.org")
    assert len(sent["bytes"]) == len(MESSAGE) and sent["bytes"].startswith(b"\x12/-") and b"main.py" in sent["bytes"]
    assert not any(folder.encode() in sent["bytes"] for folder in access.folders()) and text["text"] == "text"


def test_only_private_sessions_send_large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    path, proxied = "/_stcore/upload_file/session/file", (b"x-forwarded-for", b"1.2.3.4")
    most = (access.MOST_MB + 1) * 2**20
    small = (b"content-length", b"%d" % most)
    cases = ((small,), ((b"content-length", b"%d" % (most + 1)),), (), (small, (b"transfer-encoding", b"chunked")))

    def statuses(*more: tuple[bytes, bytes]) -> list[int]:
        return [answers("http", path, method="PUT", more=(*case, *more))[0]["status"] for case in cases]

    assert statuses() == [200] * 4 and statuses(proxied) == [200, 413, 413, 413]
    assert answers("http", path, method="DELETE", more=(proxied,))[0]["status"] == 200
    listen(monkeypatch, "0.0.0.0", "*")
    assert statuses() == [200, 413, 413, 413]


def test_the_policy_admits_only_scripts_of_this_server() -> None:
    rules = dict(rule.split(" ", 1) for rule in server.content_policy().split("; "))
    sources = rules["script-src"].split()
    assert sources[:2] == ["'self'", "blob:"] and all(source.startswith("'sha256-") for source in sources[2:])
    assert rules["frame-ancestors"] == "'self'" and rules["object-src"] == "'none'"


def test_with_a_token_only_who_shows_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(access.TOKEN, "my secret, one")
    shown, kept = "token=my%20secret%2C+one", access.cookie_value()
    for kind, field, refused in (("http", "status", 403), ("websocket", "code", 1008)):
        for query, cookie in (("", ""), ("token=wrong", ""), ("", "dmpo-explore-8501=wrong"), ("", f"other={kept}")):
            assert answers(kind, query=query, cookie=cookie)[0][field] == refused
    assert answers("websocket", query=shown)[0]["code"] == 1008  # a page has the cookie by then
    assert answers("http", host="evil.example", query=shown)[0]["status"] == 421
    first = answers("http", "//evil.example/x", query=shown)[0]
    headers = dict(first["headers"])
    assert first["status"] == 303 and headers[b"location"] == b"/evil.example/x"
    again = dict(answers("http", query=f"run=a%26b&{shown}&split=")[0]["headers"])
    assert again[b"location"] == b"/?run=a%26b&split="
    cookie = headers[b"set-cookie"].decode()
    assert (
        cookie.startswith(f"dmpo-explore-8501={kept};")
        and "HttpOnly" in cookie
        and "SameSite=lax" in cookie
        and "secret" not in cookie
    )
    assert answers("http", cookie=f"a=b; dmpo-explore-8501={kept}")[0]["status"] == 200
    assert answers("websocket", cookie=f"dmpo-explore-8501={kept}")[0]["bytes"] == MESSAGE


APP = Path(__file__).parents[2] / "app"


def test_the_app_answers(server: Server) -> None:
    with urllib.request.urlopen(server.address, timeout=60) as answer:
        assert answer.status == 200 and b"<title>" in answer.read()
    assert "Traceback" not in server.log.read_text(errors="replace")


@pytest.mark.parametrize(("path", "piles"), [("", True), ("decide?run=demo", False)])
def test_streamlits_empty_page_carries_the_outline_of_ours(server: Server, path: str, piles: bool) -> None:
    with urllib.request.urlopen(server.address + path, timeout=60) as answer:
        page, said = answer.read().decode(), answer.headers
    poster = page.partition('<div id="poster"')[2].partition('<div id="root">')[0]
    assert poster and int(said["content-length"]) == len(page.encode()) and said["etag"] is None
    assert re.findall(r"<span>(.+?)</span>", poster) == list(app_header.QUESTIONS)
    assert poster.startswith(' class="explore"') == piles and "<title>DMPO explore<" in page
    assert len(said.get_all("content-length")) == len(said.get_all("content-type")) == 1
    themes = tomllib.loads((APP / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
    colours = [themes[name][key] for name in ("light", "dark") for key in ("backgroundColor", "textColor")]
    assert re.findall(r"--(?:page|ink): (#\w+)", poster) == colours


ALONE = """
import sys
from dmpo_explore_app.components import app_header  # a page's heading waits for neither
assert not {"pandas", "torch"} & {*sys.modules}
from dmpo_explore_app import preload
preload.start()
preload.wait()
assert "pandas" in sys.modules
preload.start().join()
print(sorted(name for name in ("torch", "dmpo_explore_app.components.gallery") if name in sys.modules))
"""


@pytest.mark.slow
def test_without_weights_it_imports_no_torch_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path))
    found = subprocess.run([sys.executable, "-W", "error", "-c", ALONE], capture_output=True, text=True, timeout=300)
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr
    assert "ScriptRunContext" not in found.stderr


def test_the_model_is_loaded_where_its_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = list[str]()
    monkeypatch.setattr(models, "model", lambda run: loaded.append(run.name))
    for missing in ("weights", None):
        monkeypatch.setattr(downloads, "missing_weights_of", lambda run, missing=missing: missing)
        preload._model()
    assert loaded == ["demo"]


@pytest.mark.slow
def test_the_first_page_fits_and_sweeps_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    preload._usual()
    for name in ("trade_off", "fit_policy"):
        monkeypatch.setattr(dx, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called again"))
    assert cards(start())


def test_a_page_does_not_wait_where_nothing_was_begun() -> None:
    preload.wait()


def test_what_is_wrong_with_a_run_is_left_to_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise FileNotFoundError("no record")

    monkeypatch.setattr(preload, "_usual", broken)
    preload._run()
    preload.wait()
