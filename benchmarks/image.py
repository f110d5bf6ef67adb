"""Latency of the page One image on a fresh server: predictions, an uploaded image, integrated gradients.

In: the bundled run `demo` and its fetched backbone. Out: a table, and benchmarks/results/image.json. Drives Chromium.

    scripts/bench image               # three fresh servers, about two minutes
    scripts/bench image --quick       # one

What is measured, from the click or the opening of the address to the frame that shows it:

- recorded: the predictions for an image of the record (without a model); then the model's input (imports torch).
- sent: the predictions for an image uploaded 3 s after the page is drawn; the page loads the model meanwhile.
- maps: integrated gradients of all exits with 64 steps or more, nothing cached, and how often the progress bar moved.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from _app.server import PATIENCE, chromium, new_page, serve
from dmpo_explore.utils.files import cache_dir, write_json

RESULTS = Path(__file__).parent / "results" / "image.json"
LIMITS = {"recorded, answers s": 5.0, "sent, answers s": 5.0, "maps s": 15.0}
BARS = """() => {
    window.moves = new Set();
    new MutationObserver(() => {
        const bar = document.querySelector('[data-testid=stProgress]');
        if (bar) moves.add(bar.innerText);
    }).observe(document, {subtree: true, childList: true, characterData: true});
}"""


def once(row: int) -> dict[str, float]:
    """Measure on one fresh server: seconds, and moves of the progress bar."""
    found: dict[str, float] = {}
    upload = io.BytesIO()
    pixels = np.random.default_rng(row).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(upload, "PNG")
    with serve() as server, chromium() as browser:
        page = new_page(browser)
        start = time.perf_counter()
        page.goto(f"{server.address}image?run=demo&image={row}")
        page.wait_for_selector(".dx-why", timeout=1000 * PATIENCE)
        found["recorded, answers s"] = time.perf_counter() - start
        page.get_by_text("Input of the model").wait_for()
        found["recorded, what the model sees s"] = time.perf_counter() - start
        page.get_by_role("button", name="Explain every exit").wait_for()
        page.evaluate(BARS)
        start = time.perf_counter()
        page.get_by_role("button", name="Explain every exit").click()
        page.wait_for_selector(".dx-quality", timeout=1000 * PATIENCE)
        found["maps s"] = time.perf_counter() - start
        found["maps, moves of the bar"] = float(page.evaluate("() => moves.size"))
    with serve() as server, chromium() as browser:
        page = new_page(browser)
        page.goto(f"{server.address}image?run=demo&source=file")
        page.wait_for_selector("input[type=file]", state="attached", timeout=1000 * PATIENCE)
        time.sleep(3)  # at least the time to choose a file
        start = time.perf_counter()
        file = {"name": "noise.png", "mimeType": "image/png", "buffer": upload.getvalue()}
        page.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
        page.wait_for_selector(".dx-why", timeout=1000 * PATIENCE)
        found["sent, answers s"] = time.perf_counter() - start
    return found


def main() -> None:
    """Measure in several rounds, print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one server, nothing is written")
    options = parser.parse_args()
    weights = cache_dir() / "weights"
    with tempfile.TemporaryDirectory() as folder:  # a cache without maps
        (Path(folder) / "weights").symlink_to(weights)
        os.environ["DMPO_EXPLORE_CACHE"] = folder
        rounds = [once(row) for row in ((21,) if options.quick else (21, 22, 23))]
    worst = {name: max(one[name] for one in rounds) for name in rounds[0]}
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    print(f"| {'':33} | median | worst | at most |\n|-{'-' * 33}-|-------:|------:|--------:|")
    for name in worst:
        print(f"| {name:33} | {middle[name]:6.1f} | {worst[name]:5.1f} | {LIMITS.get(name, ''):>7} |")
    if not options.quick:
        facts = {"cores": os.cpu_count(), "rounds": len(rounds), "median": middle, "worst": worst, "limits": LIMITS}
        write_json(RESULTS, facts)


if __name__ == "__main__":
    main()
