"""Everything that a GPU is asked here, in one command of at most ten minutes. `scripts/bench gpu [--write]`

In: one NVIDIA GPU; nothing has to be fetched before. Out: tables on stdout; with ``--write``
``benchmarks/results/gpu.json``, and from it the part of ``GPU.md`` between its markers, with the card's name.

Parts, each in a process of its own with seconds of its own: tests that need a card; plain model, infer, stream with
refill, CUDA graphs and bf16 at batch 1, 8, 64 and 256, a ViT-S and a ViT-B at 224 px with random weights (time does not
depend on them); the recipe of the bundled run `demo` with its records; Live in the app with a screenshot;
torch.compile. A part that fails or is out of time keeps what it found, and the reason is written down. `--quick` runs
every part small, also on a CPU (`--device cpu`), to try the code.

`--first` comes before all that: the first minutes on a new card, one check after another of what could only be
simulated without one (`_gpu.first`), and one page of what passed and what failed. `--first --device cpu` tries it.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from _common.timing import machine
from _gpu.first import CHECKS, render_page
from _gpu.inference import Keep, measure_inference
from _gpu.report import PICTURE, render_tables, with_tables
from _gpu.work import LeftOut, run_live, run_tests, train_and_record
from dmpo_explore.utils.files import atomic_file, read_json, write_json, write_text

RESULT = Path(__file__).parent / "results" / "gpu.json"
PAGE = Path(__file__).parent / "GPU.md"
SECONDS = 600
SMALL, BASE = "vit_small_patch14_dinov2", "vit_base_patch14_dinov2"
PARTS = {  # name → seconds at most
    "tests": 70, "ViT-S": 90, "training": 150, "ViT-B": 100, "app": 60, "ViT-S, compiled": 80, "ViT-B, compiled": 80,
}  # fmt: skip
QUICK_SECONDS = 1200  # for each part, on a busy CPU


def run_part(name: str, options: argparse.Namespace, seconds: float, keep: Keep) -> None:
    """One part, in this process."""
    how: dict[str, Any] = {"quick": options.quick, "keep": keep}
    if name in CHECKS:
        keep(CHECKS[name][0](options.device, options.folder))
    elif name == "tests":
        run_tests(options.device, **how)
    elif name == "training":
        train_and_record(options.device, seconds, **how)
    elif name == "app":
        run_live(options.device, options.folder / PICTURE, **how)
    else:
        backbone = "test_vit" if options.quick else SMALL if name.startswith("ViT-S") else BASE
        size = 32 if options.quick else 224
        measure_inference(backbone, size, options.device, compiled=name.endswith("compiled"), **how)


def try_first(options: argparse.Namespace, progress: Callable[[str], None]) -> dict[str, Any]:
    """Every check in turn, whatever became of the one before; on a CPU with as much time as it takes."""
    start, parts = time.monotonic(), dict[str, Any]()
    facts = machine(torch.get_num_threads())
    for name, (_, seconds) in CHECKS.items():
        progress(f"{name}: at most {seconds if options.device == 'cuda' else QUICK_SECONDS} s")
        parts[name] = apart(name, options, seconds if options.device == "cuda" else QUICK_SECONDS)
        progress(f"{name}: {parts[name]['state']} {parts[name]['reason']}")
    return {"machine": facts, "parts": parts, "minutes": round((time.monotonic() - start) / 60, 1)}


def measure(options: argparse.Namespace, progress: Callable[[str], None]) -> dict[str, Any]:
    """Every chosen part in turn, within the time that is left."""
    start = time.monotonic()
    result: dict[str, Any] = {"command": "scripts/bench gpu --write", "machine": machine(torch.get_num_threads())}
    result |= {"quick": options.quick, "parts": {}}
    for name in options.parts:
        left = (options.seconds or (math.inf if options.quick else SECONDS)) - (time.monotonic() - start)
        seconds = min(QUICK_SECONDS if options.quick else PARTS[name], left)
        if seconds < 10:
            result["parts"][name] = {"state": "left out", "reason": "no time was left", "seconds": 0, "found": {}}
            continue
        progress(f"{name}: at most {seconds:.0f} s")
        result["parts"][name] = apart(name, options, seconds)
        progress(f"{name}: {result['parts'][name]['state']} {result['parts'][name]['reason']}")
    return result | {"minutes": round((time.monotonic() - start) / 60, 1)}


def apart(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """One part in a process of its own, so that a fault of the card or a compiler's minutes end with it."""
    kept = options.folder / f"{name.replace(', ', '-')}.json"
    command = [sys.executable, __file__, "--part", name, "--folder", str(options.folder), "--device", options.device]
    command += ["--seconds", str(seconds), *(["--quick"] if options.quick else [])]
    environment = os.environ | {"DMPO_EXPLORE_RUNS": str(options.folder / "runs")}
    environment |= {"PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "10"}  # a machine without a network fails soon
    start, reason = time.monotonic(), ""
    process = subprocess.Popen(  # a group of its own: servers and compilers end with it
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=seconds)
        state = {0: "done", 3: "left out"}.get(process.returncode, "failed")
        reason = (errors.strip().splitlines() or [f"status {process.returncode}"])[-1] if process.returncode else ""
    except subprocess.TimeoutExpired:
        state, reason = "stopped", f"its {seconds:.0f} s were over"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    found = read_json(kept) if kept.is_file() else {}
    return {"state": state, "reason": reason, "seconds": round(time.monotonic() - start), "found": found}


def main(arguments: list[str] | None = None) -> int:
    """Measure the parts, print their tables and write them if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="every part small, to try it out; never written")
    parser.add_argument("--seconds", type=float, help=f"for all parts together; default: {SECONDS}")
    parser.add_argument("--write", action="store_true", help="keep the result and renew benchmarks/GPU.md")
    parser.add_argument("--page", action="store_true", help="only renew benchmarks/GPU.md from the kept result")
    parser.add_argument("--first", action="store_true", help="the first minutes on a card: what works, on one page")
    parser.add_argument("--part", choices=(*PARTS, *CHECKS), help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.page:
        write_page(read_json(RESULT) if RESULT.is_file() else None)
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        how = "--first --device cpu" if options.first else "--device cpu --quick"
        parser.error(f"there is no usable NVIDIA GPU; {how} tries everything on the CPU")
    if options.write and (options.first or options.quick or options.device != "cuda"):
        parser.error("--write keeps measurements of a GPU: leave out --quick and --device cpu")
    if options.part:
        return one(options)
    with tempfile.TemporaryDirectory() as folder:
        options.folder = options.folder or Path(folder)
        if options.first:
            result = try_first(options, show)
            print("\n".join(render_page(result)))
            return 0 if all(part["state"] in ("done", "left out") for part in result["parts"].values()) else 1
        result = measure(options, show)
        print("\n".join(render_tables(result)))
        picture = options.folder / PICTURE
        if options.write:
            if picture.is_file():
                with atomic_file(PAGE.parent / PICTURE) as temporary:
                    temporary.write_bytes(picture.read_bytes())
            write_json(RESULT, result)
            write_page(result)
    return 0 if all(part["state"] in ("done", "left out") for part in result["parts"].values()) else 1


def one(options: argparse.Namespace) -> int:
    """The part of ``--part`` in this process: what it finds goes to its file, why it ended to stderr."""
    kept = options.folder / f"{options.part.replace(', ', '-')}.json"
    try:
        run_part(options.part, options, options.seconds, partial(write_json, kept))
    except LeftOut as reason:
        print(reason, file=sys.stderr)
        return 3
    except Exception as error:  # whatever it is, it is written down
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}", file=sys.stderr)
        return 1
    return 0


def show(text: str) -> None:
    """A line on stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def write_page(result: dict[str, Any] | None) -> None:
    """Renew the part of the page between its markers."""
    write_text(PAGE, with_tables(PAGE.read_text(encoding="utf-8"), result))


if __name__ == "__main__":
    sys.exit(main())
