"""Everything that a GPU is asked here, in two commands of at most ten minutes each. `scripts/bench gpu [--write]`

In: one NVIDIA GPU; nothing has to be fetched before. Out: tables on stdout; with ``--write``
``benchmarks/results/gpu.json``, and from it the part of ``EVIDENCE.md`` between its markers, with the card's name.

Parts, each in a process of its own with seconds of its own: `scripts/bench speed` on the card, with memory and energy,
of the parts of `demo` on a ViT-S and a ViT-B at 224 px with random weights (time does not depend on them), by batch
size. Of a part that fails or is out of time the reason is written down. `--quick` runs every part small, also on a CPU
(`--device cpu`), to try the code.

`--first` comes before all that: the first minutes on a new card, one check after another of what could only be
simulated without one (`_gpu.checks`), and one page of what passed and what failed. `--first --device cpu` tries it.
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
from pathlib import Path
from typing import Any

import torch

import dmpo_explore as dx
from _common.command import parser
from _common.results import PAGE, RESULTS, renew
from _common.timing import machine
from _gpu.checks import CHECKS, LeftOut
from _speed.report import render_tables
from dmpo_explore.utils.files import read_json, write_json

RESULT = RESULTS / "gpu.json"
SECONDS, QUICK_SECONDS = 600, 1200  # for all; for each part or check on a busy CPU
SMALL, BASE = "vit_small_patch14_dinov2", "vit_base_patch14_dinov2"
PARTS = {  # name → backbone, batch sizes, seconds at most
    "ViT-S, one image": (SMALL, (1,), 150),
    "ViT-S, batches": (SMALL, (8, 64, 256), 150),
    "ViT-B, one image": (BASE, (1,), 150),
    "ViT-B, batches": (BASE, (8, 64, 256), 150),
}


def main(arguments: list[str] | None = None) -> int:
    """Measure the parts, or run the checks; print their tables and write them if requested."""
    given = parser(__doc__)
    given.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    given.add_argument("--quick", action="store_true", help="every part small, to try it out; never written")
    given.add_argument("--write", action="store_true", help="keep the result and renew benchmarks/EVIDENCE.md")
    given.add_argument("--first", action="store_true", help="the first minutes on a card: what works, on one page")
    given.add_argument("--part", choices=CHECKS, help=argparse.SUPPRESS)  # in a process of its own
    given.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = given.parse_args(arguments)
    parts = {name: PARTS[name][2] for name in options.parts}
    if options.first:
        parts = {name: seconds for name, (_, seconds) in CHECKS.items()}
    if options.list:
        print("\n".join(f"{name}: at most {seconds} s" for name, seconds in parts.items()))
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        how = "--first --device cpu" if options.first else "--device cpu --quick"
        given.error(f"there is no usable NVIDIA GPU; {how} tries everything on the CPU")
    if options.write and (options.first or options.quick or options.device != "cuda"):
        given.error("--write keeps measurements of a GPU: leave out --quick and --device cpu")
    if options.part:
        return one(options)
    with tempfile.TemporaryDirectory() as folder:
        options.folder = options.folder or Path(folder)
        result = measure(parts, options)
    print("\n".join(render(result)))
    if options.write:
        write_json(RESULT, result)
        renew(PAGE, "gpu", "\n".join(render(result)))
    return 0 if all(part["state"] in ("done", "left out") for part in result["parts"].values()) else 1


def measure(parts: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """Every part in turn, whatever became of the one before; on a card within `SECONDS`."""
    start, on_card = time.monotonic(), options.device == "cuda" and not options.quick
    result: dict[str, Any] = {"command": "scripts/bench gpu --write", "machine": machine(torch.get_num_threads())}
    result |= {"quick": options.quick, "first": options.first, "parts": {}}
    for name, most in parts.items():
        left = (SECONDS if on_card else math.inf) - (time.monotonic() - start)
        seconds = min(most if options.device == "cuda" else QUICK_SECONDS, left)
        if seconds < 10:
            found = {"state": "left out", "reason": "no time was left", "seconds": 0, "found": {}}
        else:
            print(f"{time.strftime('%H:%M:%S')} {name}: at most {seconds:.0f} s", file=sys.stderr, flush=True)
            found = apart(name, options, seconds)
        result["parts"][name] = found
    return result | {"minutes": round((time.monotonic() - start) / 60, 1)}


def apart(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """One part in a process of its own, so that a fault of the card or a compiler's minutes end with it."""
    kept = options.folder / f"{name}.json"
    command = [sys.executable, __file__, "--part", name, "--folder", str(options.folder), "--device", options.device]
    if name in PARTS:
        backbone, sizes, _ = PARTS[name]
        command = [sys.executable, str(Path(__file__).with_name("speed.py")), "--run", "demo", "--parts", "early-exit"]
        command += ["--device", options.device, "--out", str(kept), "--batch", *map(str, sizes)]
        small = ("--random", "test_vit", "--image-size", "32", "--images", "16", "--rounds", "1")
        command += small if options.quick else ("--random", backbone, "--image-size", "224")
    environment = os.environ | {"DMPO_EXPLORE_RUNS": str(options.folder / "runs")}
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


def one(options: argparse.Namespace) -> int:
    """The check of ``--part`` in this process: what it finds goes to its file, why it ended to stderr."""
    try:
        write_json(options.folder / f"{options.part}.json", CHECKS[options.part][0](options.device, options.folder))
    except LeftOut as reason:
        print(reason, file=sys.stderr)
        return 3
    except Exception as error:  # whatever it is, it is written down
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}", file=sys.stderr)
        return 1
    return 0


# -- the report --


def render(result: dict[str, Any]) -> list[str]:
    """What became of every part or check, then everything that there are numbers for."""
    facts, parts = result["machine"], result["parts"]
    done = sum(part["state"] == "done" for part in parts.values())
    lines = [
        f"**{facts['device']}** ({facts['cpu']}, threads: {facts['threads']}; torch {facts['torch']}, timm "
        f"{facts['timm']}): {done} of {len(parts)} in {result['minutes']} minutes."
        + " Small models, to try the code: no measurement."
        * result["quick"],
        "",
    ]
    cells = [["check" if result["first"] else "part", "state", "seconds", "note"]]
    for name, part in parts.items():
        figures = "; ".join(f"{key}: {value}" for key, value in part["found"].items()) if result["first"] else ""
        state = (
            {"done": "pass", "failed": "FAIL"}.get(part["state"], part["state"]) if result["first"] else part["state"]
        )
        cells.append([name, state, str(part["seconds"]), (part["reason"] or figures).replace("|", "/")])
    lines += dx.analysis.markdown(cells)
    for name, part in parts.items():
        if "early-exit" in part["found"]:
            facts = f"{part['found']['image_size']} px, random weights"
            lines += ["", f"{name}, {facts}:", "", *render_tables(part["found"])[:-1]]
    return lines


if __name__ == "__main__":
    sys.exit(main())
