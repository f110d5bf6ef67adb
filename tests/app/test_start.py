"""The app starts and answers, also where there is no browser to look at it."""

from __future__ import annotations

import urllib.request

from visiting import Server


def test_the_app_answers(server: Server) -> None:
    with urllib.request.urlopen(server.address, timeout=60) as answer:
        assert answer.status == 200 and b"<title>" in answer.read()
    assert "Traceback" not in server.log.read_text(errors="replace")
