"""How fast a published page appears and moves. `scripts/bench web_page [FOLDER]`

In: a folder of `dmpo-explore publish`; by default the page of `demo` without the model is made. Out, as the median of
some visits with an empty cache, from a local server of static files, in Chromium without a GPU: seconds until the
first paint and until the page plays with the CPU throttled fourfold; frames a second, and milliseconds of script a
frame, while a thousand tiles fall and the threshold sweeps, unthrottled. Other programs on the machine count too.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dmpo_explore as dx
from _app.server import chromium, new_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

THROTTLED = 4
AIMS = {"first paint, s": 1.0, "plays, s": 2.0}
SIZES = {"1280 × 900": (1280, 900), "2560 × 1400": (2560, 1400)}
WATCHED = """window.frames = [];
    const next = requestAnimationFrame;
    window.requestAnimationFrame = act => next(now => {
        const began = performance.now();
        act(now);
        window.frames.push([now, performance.now() - began]);
    });
    new MutationObserver(() => { if (document.documentElement.dataset.plays) window.plays ??= performance.now() })
        .observe(document, {subtree: true, attributes: true})"""
APPEARED = """() => [performance.getEntriesByName("first-contentful-paint")[0].startTime, window.plays]"""


class Quiet(SimpleHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on a server of static files, as long as the block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def appearing(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds of one visit until the first paint, and until the page plays, on a throttled CPU."""
    page = new_page(browser, 1280, 900)
    page.add_init_script(WATCHED)
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": THROTTLED})
    page.goto(address)
    page.wait_for_function("() => window.plays && performance.getEntriesByName('first-contentful-paint').length")
    first, plays = page.evaluate(APPEARED)
    page.context.close()
    return first / 1000, plays / 1000


def moving(browser: Browser, address: str, size: tuple[int, int]) -> tuple[float, float, float]:
    """Frames a second, and milliseconds of script a frame (median, 95 of 100), while the thousand play."""
    page = new_page(browser, *size)
    page.add_init_script(WATCHED)
    page.goto(address)
    page.wait_for_selector("html[data-plays=yes]")
    page.get_by_role("button", name="A thousand").click()
    page.evaluate("window.frames.length = 0")
    page.get_by_role("button", name="Play again").wait_for()
    frames = np.array(page.evaluate("window.frames"))
    page.context.close()
    return 1000 / float(np.diff(frames[:, 0]).mean()), *np.quantile(frames[:, 1], [0.5, 0.95]).tolist()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="a page; by default that of demo without the model")
    parser.add_argument("--visits", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or dx.publish(dx.load_run("demo"), Path(made) / "page")
        with served(folder) as address, chromium() as browser:
            found = np.median([appearing(browser, address) for _ in range(options.visits)], axis=0)
            for (what, aim), value in zip(AIMS.items(), found, strict=True):
                print(f"{what} (CPU throttled {THROTTLED} times): {value:.2f}, aim {aim:g}")
            for name, size in SIZES.items():
                rate, median, late = moving(browser, address, size)
                print(f"{name}: {rate:.0f} frames a second, script {median:.1f} ms a frame, 95 of 100 below {late:.1f}")


if __name__ == "__main__":
    main()
