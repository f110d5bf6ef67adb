"""Measured speed-up of early exit against the speed-up expected from FLOPs. `scripts/bench speed [--write]`

In: a run with calibration (or val) and test records (its backbone is fetched if it is missing). Out: tables on stdout;
with ``--write`` ``benchmarks/results/speed.json``, of another run than `fashion` ``speed-RUN-PIXELS.json``, and the
table of ``EVIDENCE.md`` from all of them. ``--image-size`` gives a run other images than it was trained with: their
answers are worth little, and what they cost is measured. All arms process the same test images, in turn within one run
(`_common.timing`). Thresholds are fitted on calibration so that they use 30, 50, 70 and 100 % of the plain model's
compute.

*Efficiency* is the measured speed-up over the full plain model (in bf16 for arms in bf16, else eager in float32)
divided by the speed-up expected from FLOPs on the same images. At 1, all saved compute is saved time. Close other
programs first: the load average at the start is noted.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import dmpo_explore as dx
from _common.command import parser
from _common.results import PAGE, renew
from _common.timing import machine
from _speed.arms import Bench
from _speed.early_exit import measure_early_exit, measure_exits
from _speed.report import page_table, render_tables
from dmpo_explore.utils.files import read_json, write_json

RESULT, PUBLISHED = Path(__file__).parent / "results" / "speed.json", "fashion"
IMAGES = {1: 48, 8: 80, 64: 192, 256: 256}  # of the test split, by batch size
PARTS = {
    "early-exit": measure_early_exit,
    "exits": measure_exits,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure the parts, print their tables and write them if requested."""
    given = parser(__doc__)
    given.add_argument("--run", default=PUBLISHED, help="a run on a plain ViT")
    given.add_argument("--image-size", type=int, metavar="PIXELS", help="other images than the run was trained with")
    given.add_argument(
        "--random", metavar="BACKBONE", help="another one, of random weights: they do not matter for time"
    )
    given.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given.add_argument("--batch", nargs="+", type=int, choices=IMAGES, default=list(IMAGES))
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--images", type=int, help="at most so many per batch size (to try it out)")
    given.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    given.add_argument("--out", type=Path, metavar="FILE", help="keep the result there, as JSON")
    given.add_argument("--write", action="store_true", help="keep the result and renew benchmarks/EVIDENCE.md")
    options = given.parse_args(arguments)
    if options.list:
        print("\n".join(f"{part}, batch {' '.join(map(str, options.batch))}" for part in options.parts))
        return 0
    result = measure(options, sys.argv[1:] if arguments is None else arguments)
    print("\n".join(render_tables(result)))
    if options.out:
        write_json(options.out, result)
    if options.write:
        own = result["run"] == PUBLISHED and not options.image_size
        write_json(RESULT if own else RESULT.with_name(f"speed-{result['run']}-{result['image_size']}.json"), result)
        renew(PAGE, "speed", "\n".join(page_table(kept())))
    return 0


def kept() -> list[dict[str, Any]]:
    """Every kept result: that of the published run, then by name and image size."""
    others = map(read_json, RESULT.parent.glob("speed-*.json"))
    return [read_json(RESULT), *sorted(others, key=lambda result: (result["run"], result["image_size"]))]


def changed(run: dx.Run, changes: dict[str, Any], folder: Path) -> dx.Run:
    """A copy of the run with images of another size, or on another backbone, with records of it."""
    path, config = folder / run.name, run.config.updated(changes)
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("records", "policies.json"))
    write_json(path / "config.json", config.to_dict())
    if config.model.backbone != run.config.model.backbone:
        model = dx.build_model(config.model, len(run.class_names))
        dx.runs.save_weights(path, model.trainable_state(), config.model, run.class_names)
    copy = dx.load_run(path)
    for split in (run.fitting_split, "test"):
        told(f"recording {split} of {config.model.backbone} at {config.model.image_size} px")
        dx.record_run(copy, split)
    return copy


def measure(options: argparse.Namespace, arguments: list[str]) -> dict[str, Any]:
    """The result: command, machine, settings and the chosen parts."""
    threads, run = torch.get_num_threads(), dx.load_run(options.run)
    changes: dict[str, Any] = {"model.image_size": options.image_size} if options.image_size else {}
    if options.random:
        changes |= {"model.backbone": options.random, "model.weights": "random", "model.exits": 6}
    elif run.config.model.weights == "auto":
        dx.fetch_weights(run.config.model.backbone)
    n_images = {size: min(n, options.images or n) for size, n in IMAGES.items()}
    start = time.perf_counter()
    result: dict[str, Any] = {"command": shlex.join(["scripts/bench", "speed", *arguments]), "run": run.name}
    result |= {"rounds": options.rounds, "machine": machine(threads)}
    with tempfile.TemporaryDirectory() as folder:
        if changes:
            run = changed(run, changes, Path(folder))
        result["image_size"] = run.config.model.image_size
        images = run.inputs("test", range(min(max(256, *n_images.values()), run.record("test").n_images)))
        bench = Bench(run, images, options.device, Path(folder) / "export", threads, n_images, options.batch)
        for part in options.parts:
            result[part] = PARTS[part](bench, options.rounds, told)
    return result | {"minutes": round((time.perf_counter() - start) / 60, 1)}


def told(text: str) -> None:
    """What is running, a line with the time on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
