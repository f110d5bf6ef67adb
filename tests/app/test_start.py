"""The app starts and answers, also where there is no browser to look at it."""

from __future__ import annotations

import re
import tomllib
import urllib.request
from pathlib import Path

import pytest
from dmpo_explore_app.components import app_header
from visiting import Server

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
