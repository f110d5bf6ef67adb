"""Latency of the app: dragging and releasing the slider, server start, concurrent sessions: `scripts/bench app`

In: synthetic runs of 10,000 images × 6 exits and 50,000 × 12; Chromium. Out: a table, and benchmarks/results/app.json.

    scripts/bench app                      # everything, about seven minutes
    scripts/bench app --part drag          # one part: drag, release, key, start or sessions; may be repeated
    scripts/bench app --quick              # few moves, few sessions, a few seconds: does it run at all?

What is measured, and where:

- drag: the pointer holds the thumb and moves for four seconds, with 2,000 and with 10,000 tiles in the mosaic. Frames
  that the mosaic draws, messages that the browser sends meanwhile, and tasks of its main thread above 50 ms (the
  performance timeline's long tasks). Headless Chromium draws without a GPU.
- release: the pointer drags the thumb to another place and lets go; from there to the frame after the last change on
  the page, images' HTML included, once everything shows the new threshold.
- key: the same for a key that is pressed and let go at once, so that what the press itself changes is counted, too.
- start: from starting the server's process to the first paint (the page's outline), to its heading, and until
  everything is drawn; the files are in the system's cache (the first of the starts is not counted). Beside it an empty
  page of Streamlit's on the same machine.
- sessions: all pages are opened; then every session moves its slider, waits until all is repainted, pauses half a
  second to a second and a half, and so on. Browser and server share the machine.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dmpo_explore as dx
from _app.page import READY, instrument, opened
from _app.server import PATIENCE, Server, chromium, new_page, serve, settle
from _app.sessions import quantiles, sessions
from _common.command import parser
from dmpo_explore.records.record import RecordMeta
from dmpo_explore.utils.files import read_json, write_json, write_text

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RESULTS = Path(__file__).parent / "results" / "app.json"
SIZES = {"10,000 × 6": (10_000, 6, "test"), "50,000 × 12": (50_000, 12, "train")}  # images, exits, split
PARTS = ("drag", "release", "key", "start", "sessions")
WHOLE, QUICK = (60, 20, 60.0), (6, 3, 5.0)  # moves of release and key, sessions, their seconds
TILES = {2000: 55, 10_000: 30}  # tiles of the mosaic → frames a second at least, without a GPU
LEAST = {f"drag {tiles:,} tiles, frames a second": frames for tiles, frames in TILES.items()}  # figure → at least
PLACES, STEPS = (0.2, 0.5, 0.3, 0.7, 0.4, 0.65), 12  # of the width, to which the thumb is dragged; moves on the way
LIMITS = {  # figure → at most
    **{f"drag {tiles:,} tiles, {what}": 0 for tiles in TILES for what in ("messages", "long tasks")},
    "release 10,000 × 6, p95 ms": 120,
    "release 50,000 × 12, p95 ms": 150,
    "start, first paint s": 2,
    "sessions, errors": 0,
    "sessions, p95 ms": 1000,
    "sessions, server GiB": 1.5,
}


# -- synthetic runs --


def make_run(root: Path, images: int, n_exits: int, split: str) -> str:
    """Write a synthetic run, on Fashion-MNIST's images where they are present, else without images; its name."""
    rng = np.random.default_rng(0)
    name = f"made-up-{images}x{n_exits}"
    try:
        found = dx.load_images("fashion-mnist", split)
        labels, indices, classes = found.labels[:images], found.indices[:images], tuple(found.class_names)
    except (OSError, ValueError):
        labels, indices, classes = rng.integers(10, size=images), np.arange(images), tuple("0123456789")
    for part, truth, where in ((split, labels, indices), ("val", rng.integers(10, size=5000), None)):
        logits = rng.normal(size=(len(truth), n_exits, 10)).astype(np.float32)
        strength = np.linspace(1, 3, n_exits) * rng.gamma(2, 0.7, size=(len(truth), 1))
        logits[np.arange(len(truth)), :, truth] += strength
        flops = tuple(float(k) for k in range(1, n_exits + 1))
        meta = RecordMeta("fashion-mnist", part, classes, tuple(range(1, n_exits + 1)), flops, float(n_exits), where)
        record = dx.ExitRecord(labels=np.asarray(truth, np.int64), **dx.policies.scores(logits), meta=meta)
        record.save(root / name / "records" / part)
    write_text(root / name / "config.json", dx.Config(data=dx.DataConfig("fashion-mnist", calibration=False)).to_json())
    return name


def path_of(size: str) -> str:
    """The start page on the run of that size."""
    images, n_exits, split = SIZES[size]
    return f"?run=made-up-{images}x{n_exits}&split={split}"


# -- the parts --


def drag(browser: Browser, server: Server, tiles: int, seconds: float) -> dict[str, Any]:
    """Drag: hold the slider's thumb and move it, with so many tiles in the mosaic."""
    sent: list[float] = []
    page = new_page(browser)
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: sent.append(time.perf_counter())))
    page.goto(server.address + path_of("10,000 × 6"))
    instrument(page)
    page.get_by_role("combobox", name="Images in the mosaic").select_option(str(tiles))
    mosaic = page.locator(".field > canvas")
    settle(page, *READY, quiet=1500)
    assert mosaic.evaluate("canvas => canvas.mosaic.pictures.rows.length") == tiles, "the tiles did not come"
    thumb = page.get_by_role("slider", name="Threshold")
    box, track = thumb.bounding_box(), page.viewport_size
    assert box and track
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    before, moves = thumb.get_attribute("aria-valuenow"), 0
    state = "canvas => [performance.now(), canvas.mosaic.frames]"
    start, first = mosaic.evaluate(state)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        page.mouse.move(track["width"] * (0.15 + 0.6 * abs(np.sin(moves / 40))), y)
        moves += 1
    ended = time.perf_counter()
    stop, last = mosaic.evaluate(state)
    assert thumb.get_attribute("aria-valuenow") != before, "the thumb did not follow"
    page.mouse.up()
    long = [d for s, d in page.evaluate("() => bench.long") if start <= s <= stop]
    page.context.close()
    figures = {
        "frames a second": 1000 * (last - first) / (stop - start),
        "messages": sum(began < moment < ended for moment in sent),
        "long tasks": len(long),
        "longest task ms": max(long, default=0.0),
    }
    return {f"drag {tiles:,} tiles, {name}": value for name, value in figures.items()}


def release(browser: Browser, server: Server, size: str, moves: int) -> dict[str, Any]:
    """Release: drag the thumb to another place, let go, and wait until everything is repainted."""
    with opened(browser, server, path_of(size)) as page:
        thumb = page.get_by_role("slider", name="Threshold")
        track = page.viewport_size
        assert track

        def move(i: int) -> None:
            box = thumb.bounding_box()
            assert box
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            page.evaluate("() => bench.begin()")
            page.mouse.move(track["width"] * PLACES[i % len(PLACES)], y, steps=STEPS)
            page.mouse.up()

        return waited(page, f"release {size}", move, moves)


def key(browser: Browser, server: Server, size: str, moves: int) -> dict[str, Any]:
    """Key: move the thumb by a key that is let go at once, and wait until everything is repainted."""
    with opened(browser, server, path_of(size)) as page:
        thumb = page.get_by_role("slider", name="Threshold")
        thumb.focus()
        press = "chance => bench.key(chance)"
        return waited(page, f"key {size}", lambda i: thumb.press(page.evaluate(press, i % 4 / 4)), moves)


def waited(page: Page, name: str, move: Callable[[int], None], moves: int) -> dict[str, Any]:
    """Milliseconds until everything is repainted after each of so many moves."""
    laps = []
    for i in range(moves + 2):
        move(i)
        page.wait_for_function("() => bench.done()")
        laps.append(page.evaluate("() => bench.lap().painted"))
    return quantiles(name, laps[2:])  # the first ones fill the caches


def start(browser: Browser, runs: Path, times: int) -> dict[str, Any]:
    """Start the server and open the page at once; in turn with an empty page of Streamlit's, which is the least."""
    laps, least = [], []
    names = ("first paint s", "heading s", "pictures s")
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        write_text(empty, "import streamlit\nstreamlit.title('empty')\n")
        for _ in range(times + 1):
            least.append(_seen(browser, ("h1",), script=empty))
            laps.append(_seen(browser, ("#poster", *READY), runs))
    ours = zip(names, zip(*laps[1:], strict=True), strict=True)
    found = dict(ours) | {"an empty page of Streamlit s": [seconds for (seconds,) in least[1:]]}
    return {f"start, {name}": statistics.median(seconds) for name, seconds in found.items()}


def _seen(browser: Browser, selectors: Sequence[str], *runs: Path, **options: Any) -> list[float]:
    """Seconds from the start of a server's process until each of these stands on its page."""
    page = new_page(browser)
    with serve(*runs, **options) as server:
        page.goto(server.address, wait_until="commit")
        laps = []
        for selector in selectors:
            page.wait_for_selector(selector, timeout=1000 * PATIENCE)
            laps.append(time.perf_counter() - server.started)
    page.context.close()
    return laps


# -- the table --


def table(figures: dict[str, Any]) -> list[str]:
    """Figures, their limits, and whether these are met, as the lines of a Markdown table."""
    rows = [["figure", "measured", "goal", ""]]
    for name, value in figures.items():
        most, least = LIMITS.get(name), LEAST.get(name)
        goal = f"≤ {most:g}" if most is not None else f"≥ {least:g}" if least is not None else ""
        met = (most is None or value <= most) and (least is None or value >= least)
        rows.append([name, f"{value:.4g}", goal, ("met" if met else "NOT MET") if goal else ""])
    return dx.analysis.markdown(rows)


def measure(parts: Sequence[str], moves: int, number: int, seconds: float) -> dict[str, Any]:
    """All figures of ``parts``: so many moves of release and key, so many sessions for so many seconds."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        runs = Path(folder)
        for images, n_exits, split in SIZES.values():
            make_run(runs, images, n_exits, split)
        if "start" in parts:
            figures |= start(browser, runs, 3 if moves > 10 else 1)
        paths = [path_of([*SIZES][i % len(SIZES)]) for i in range(number)]
        if set(parts) - {"start"}:
            with serve(runs) as server:
                steps: dict[str, Callable[[], dict[str, Any]]] = {
                    **{f"drag {n}": lambda n=n: drag(browser, server, n, 4.0) for n in TILES},  # type: ignore[misc]
                    **{f"release {s}": lambda s=s: release(browser, server, s, moves) for s in SIZES},  # type: ignore[misc]
                    **{f"key {s}": lambda s=s: key(browser, server, s, moves) for s in SIZES},  # type: ignore[misc]
                    "sessions": lambda: sessions(browser, server, paths, seconds),
                }
                for name, step in steps.items():
                    if name.split()[0] in parts:
                        figures |= step()
        figures["chromium"] = browser.version
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Measure the parts, print the table and write it."""
    given = parser(__doc__)
    given.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    given.add_argument("--quick", action="store_true", help="little of everything; nothing is written")
    options = given.parse_args(arguments)
    parts = options.part or PARTS
    if options.list:
        print("\n".join(parts))
        return 0
    figures = measure(parts, *(QUICK if options.quick else WHOLE))
    about = {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "streamlit": version("streamlit"),
        "chromium": figures.pop("chromium"),
    }
    print("\n".join(table(figures)))
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    if not options.quick:
        kept = read_json(RESULTS)["figures"] if RESULTS.exists() else {}
        write_json(RESULTS, {"machine": about, "figures": kept | figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
