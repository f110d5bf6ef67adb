"""Time and memory of records by number of images and exits. `scripts/bench scale [--write]`

In: nothing; synthetic records of 1,000 to 1,000,000 images at 4 to 24 exits, and of 10,000,000 at 12, are written to a
temporary folder (2.4 GB at most). Out: a table of seconds to open one, to fit a policy, to compute the trade-off, and
to apply one threshold, with the peak resident memory of the fresh process that did it; with ``--write``
``benchmarks/results/scale.json`` and benchmarks/SCALE.md. No torch
where it measures.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dmpo_explore as dx
from _scale.page import STEPS, records, write_page
from dmpo_explore.records.record import RecordMeta
from dmpo_explore.utils.files import write_json

RESULT = Path(__file__).parent / "results" / "scale.json"
IMAGES, EXITS, CLASSES = (1_000, 50_000, 1_000_000), (4, 12, 24), 100
LARGEST = (10_000_000, 12)  # images and exits of one record more
AIMS = {(1_000_000, 12): {"trade_off_s": 0.7, "peak_mib": 300.0, "threshold_s": 0.005}}


def synthetic_record(images: int, exits: int) -> dx.ExitRecord:
    """A synthetic record: scores rise with the exit, and accuracy is about the confidence."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=images)
    ease = rng.beta(2, 1, size=(images, 1)).astype(np.float32)
    mean = np.linspace(0.5, 1, exits, dtype=np.float32) * ease
    confidence = np.clip(mean + 0.1 * rng.random((images, exits), np.float32), 1 / CLASSES, 1).astype(np.float32)
    correct = rng.random((images, exits), np.float32) < confidence
    prediction = np.where(correct, labels[:, None], rng.integers(CLASSES, size=(images, exits))).astype(np.int32)
    rest = (1 - confidence).astype(np.float32)
    meta = RecordMeta(
        data="synthetic",
        split="val",
        class_names=tuple(map(str, range(CLASSES))),
        exit_blocks=tuple(range(1, exits + 1)),
        flops=tuple(float(k) for k in range(1, exits + 1)),
        reference_flops=float(exits),
    )
    return dx.ExitRecord(
        labels, prediction, confidence, rest * np.float32(np.log(CLASSES)), confidence - rest.clip(max=confidence), meta
    )


def seconds(function: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median over the repeats, and the function's result."""
    times, found = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        found = function()
        times.append(time.perf_counter() - start)
    return float(f"{np.median(times):.4g}"), found


def measure(path: Path) -> dict[str, float]:
    """The steps on one record, in this process."""
    small = synthetic_record(200, 3)
    dx.fit_policy(small, flops=0.9)  # imports and caches
    dx.trade_off(small)
    opened, record = seconds(lambda: dx.ExitRecord.load(path))
    fit, _ = seconds(lambda: dx.fit_policy(record, "confidence", flops=0.5), 3)
    curve, _ = seconds(lambda: dx.trade_off(record, "confidence"), 3)

    threshold, _ = seconds(lambda: dx.policies.ConfidencePolicy((0.7,)).exits(record), 11)
    return dict(zip(STEPS, (opened, fit, curve, threshold), strict=True)) | {"peak_mib": round(peak_mib())}


def peak_mib() -> float:
    """Peak resident memory of this program. Linux: VmHWM, which starts anew with a program, where ``ru_maxrss`` would
    go on from the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure_apart(images: int, exits: int) -> dict[str, Any]:
    """`measure` in a fresh process, so that its peak memory is its own; the record is made in another one."""

    def fresh(*arguments: str) -> str:
        command = [sys.executable, __file__, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "record")
        fresh("--make", path, "--images", str(images), "--exits", str(exits))
        found = json.loads(fresh("--record", path))
    return {"images": images, "exits": exits, **found}


def main(arguments: list[str] | None = None) -> int:
    """Measure every size, print the table, and write the result if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", type=int, default=list(IMAGES))
    parser.add_argument("--exits", nargs="+", type=int, default=list(EXITS))
    parser.add_argument("--write", action="store_true", help=f"keep the result as {RESULT.name}")
    for flag in ("--make", "--record"):  # for a fresh process
        parser.add_argument(flag, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.make:
        synthetic_record(options.images[0], options.exits[0]).save(options.make)
        return 0
    if options.record:
        print(json.dumps(measure(options.record)))
        return 0
    sizes = [(images, exits) for images in options.images for exits in options.exits]
    if (options.images, options.exits) == (list(IMAGES), list(EXITS)):
        sizes.append(LARGEST)
    rows = [measure_apart(*size) for size in sizes]
    print("\n".join(records(rows, AIMS)))
    if options.write:
        write_json(RESULT, {"command": "scripts/bench scale --write", "rows": rows})
        write_page(RESULT.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
