"""Draw docs/app.webp: the threshold of *Explore* is dragged, and numbers, curve, mosaic and histograms follow.

python -m builder.animation [FILE] starts the app on the bundled run `demo` and moves its slider in headless Chromium,
as a reader would. Needs the extra dev and Chromium; PYTHONPATH=docs:benchmarks.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from _app.server import chromium, new_page, serve, settle
from builder.pages import DOCS

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTH, HEIGHT, TOP, SHOWN = 1280, 720, 56, 900  # pixels: of the window, left out above, width of the animation
STOPS = (0.02, 0.9, 0.28)  # places on the track at which the slider is let go
STEPS, STEP_MS, REST_MS = 10, 90, 2200  # frames of a drag, their duration, that of a stop
MOST_BYTES = 3_000_000


def frames(page: Page) -> Iterator[tuple[Image.Image, int]]:
    """Pictures of the page while the slider is dragged from stop to stop, each with its duration in milliseconds."""
    thumb = page.get_by_role("slider").first
    thumb.wait_for()
    track = thumb.locator("xpath=..").bounding_box()
    assert track
    yield picture(page), REST_MS
    for stop in STOPS:
        box = thumb.bounding_box()
        assert box
        y = box["y"] + box["height"] / 2
        start = box["x"] + box["width"] / 2
        end = track["x"] + track["width"] * stop
        page.mouse.move(start, y)
        page.mouse.down()
        for step in range(1, STEPS + 1):
            page.mouse.move(start + (end - start) * step / STEPS, y)
            page.wait_for_timeout(60)
            yield picture(page), STEP_MS
        page.mouse.up()
        page.mouse.move(5, HEIGHT - 5)
        settle(page, ".tabs button")
        yield picture(page), REST_MS


def picture(page: Page) -> Image.Image:
    """The page below its navigation, scaled to the animation's width."""
    clip = {"x": 0, "y": TOP, "width": WIDTH, "height": HEIGHT - TOP}
    image = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")  # type: ignore[arg-type]
    return image.resize((SHOWN, round(SHOWN * (HEIGHT - TOP) / WIDTH)), Image.Resampling.LANCZOS)


def main() -> None:
    """Draw the animation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=DOCS / "app.webp")
    target = parser.parse_args().file
    with serve() as server, chromium() as browser:
        page = new_page(browser, WIDTH, HEIGHT)
        page.goto(server.address + "?run=demo")
        settle(page, "h1", ".tabs button")
        images, durations = zip(*frames(page), strict=True)
    options = {"save_all": True, "append_images": images[1:], "duration": list(durations), "loop": 0, "method": 4}
    images[0].save(target, quality=60, **options)
    if target.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{target} has {target.stat().st_size:,} bytes; at most {MOST_BYTES:,} are allowed")
    print(f"{target} ({target.stat().st_size / 1024:.0f} KiB, {len(images)} frames)")


if __name__ == "__main__":
    main()
