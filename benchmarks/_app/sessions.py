"""Concurrent sessions of the app, each in a browser page of its own.

In: a browser, a running server, each session's page. Out: figures for the table of benchmarks/app.py, and errors as
texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from _app.page import PATIENCE, SESSION, instrument, visit
from _app.server import Server
from _common.memory import PeakMemory

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ALERTS = "[data-testid=stException], [data-testid=stAlertContentError]"


def sessions(browser: Browser, server: Server, paths: Sequence[str], seconds: float) -> dict[str, Any]:
    """Response times of sessions that move for ``seconds``, after all pages are open.

    Returns:
        quantiles of the moves; errors by kind (no response within `PATIENCE`, errors of a page, error notices that a
        page shows at the end); the server's peak memory; KiB that were sent for a move.
    """
    texts, pages = list[str](), []
    for path in paths:
        page = visit(browser, server.address + path)
        page.on("pageerror", lambda error: texts.append(f"page error: {error}"))
        pages.append(page)
    for page in pages:
        instrument(page)
    for page in pages:
        page.evaluate(f"given => {{ window.session = ({SESSION})(given) }}", [seconds, PATIENCE])
    with PeakMemory(server.process.pid) as memory:
        results = [page.evaluate("() => window.session") for page in pages]
    for page in pages:
        texts += [f"shown: {text}" for text in page.locator(ALERTS).all_inner_texts()]
        page.context.close()
    laps = [lap for result in results for lap in result["laps"]]
    late = sum(result["late"] for result in results)
    moves = max(1, len(laps))
    for text, times in Counter(texts).items():
        print(f"sessions, {times}× {text[:200]}")
    return {
        **quantiles("sessions", [lap["painted"] for lap in laps]),
        **quantiles("sessions, answer there", [lap["heard"] for lap in laps], count=False),
        "sessions, errors": late + len(texts),
        "sessions, moves unanswered": late,
        "sessions, page errors": sum(text.startswith("page error") for text in texts),
        "sessions, errors shown": sum(text.startswith("shown") for text in texts),
        "sessions, server GiB": memory.largest / 2**10,
        "sessions, KiB a move": sum(result["bytes"] for result in results) / 1024 / moves,
    }


def quantiles(name: str, laps: Sequence[float], count: bool = True) -> dict[str, Any]:
    """p50, p95 and how many; infinite where there is none."""
    p50, p95 = np.quantile(laps, [0.5, 0.95]).tolist() if len(laps) else (float("inf"),) * 2
    return {f"{name}, p50 ms": p50, f"{name}, p95 ms": p95} | ({f"{name}, moves": len(laps)} if count else {})
