"""Screenshots of every page of the app: light, dark and 800 pixels wide, on the bundled runs.

In: a folder. Out: PNG files in it, ``PAGE-LOOK.png``. `scripts/screenshots` runs it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from _app.server import chromium, new_page, serve, settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

LOOKS = {"light": (1440, 900, "light"), "dark": (1440, 900, "dark"), "narrow": (800, 1100, "light")}
PAGES = {  # name → path, what must be present, and the name of a button to press first
    "explore": ("?run=demo", ".tabs button", ""),
    "explore-wrong": ("?run=demo&answers=wrong&view=images", ".dx-gallery li", ""),
    "decide": ("decide", ".js-plotly-plot", ""),
    "live": ("live", ".st-key-begin button", ""),
    "live-done": ("live?count=200", ".st-key-begin button", "Start"),
    "training": ("training?run=demo", ".js-plotly-plot", ""),
    "image": ("image?run=demo&image=290", ".dx-near li", ""),
    "own-scores": ("own-scores", "[data-testid=stCode]", ""),
    "own-scores-opened": ("own-scores", "[data-testid=stCode]", "Try it with a bundled record"),
    "share": ("decide", ".js-plotly-plot", "Share"),
    "no-such-run": ("?run=missing", ".tabs button", ""),
}

AFTERWARDS = {
    "live-done": (".dx-status[data-state=done]",)
}  # what must be present after the button, where that takes a while


def draw(page: Page, address: str, name: str) -> None:
    """Open page ``name`` and wait until it is drawn."""
    path, selector, button = PAGES[name]
    page.goto(address + path)
    settle(page, "h1", selector)
    found = page.get_by_role("button", name=button)
    if button and found.count():  # maps that an earlier look computed are shown already
        found.click()
        settle(page, *AFTERWARDS.get(name, ()), quiet=1200)


def main() -> None:
    """Draw the chosen pages in the chosen looks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/screenshots"))
    parser.add_argument("--page", action="append", choices=PAGES, help="only this page; may be repeated")
    parser.add_argument("--look", action="append", choices=LOOKS, help="only this look; may be repeated")
    parser.add_argument("--full", action="store_true", help="the whole page, not only what the window shows")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with serve() as server, chromium() as browser:
        for look in options.look or LOOKS:
            width, height, scheme = LOOKS[look]
            for name in options.page or PAGES:
                page = new_page(browser, width, 2400 if options.full else height, scheme)
                draw(page, server.address, name)
                target = options.folder / f"{name}-{look}.png"
                page.screenshot(path=target)
                page.context.close()
                print(f"{target} ({target.stat().st_size / 1024:.0f} KiB)", flush=True)


if __name__ == "__main__":
    main()
