"""An export in other runtimes: exits and labels compared with the library's. `scripts/bench runtimes [--write]`

In: a run whose images and backbone are here. Out: a row per runtime and form of the export (its stages, the single
graph, the single graph without compaction): how many images have the exit and the label that the library's record has
for them. Nothing is timed. With ``--write`` ``benchmarks/results/runtimes.csv``, and from it the table of
``benchmarks/EVIDENCE.md``. A runtime that is not installed is a row that says so.

``pip install openvino tract`` brings two of them, ``--python`` names the Python that has them;
``npm install onnxruntime-node onnxruntime-web`` in a folder, which ``--node`` names, brings the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import dmpo_explore as dx
from _common.results import with_part, write_table
from _runtimes.answers import FILES, RUNTIMES
from dmpo_explore.utils.files import write_text

HERE = Path(__file__).parent
PAGE = HERE / "EVIDENCE.md"
FORMS = {"stages": "stages", "single": "single graph", "whole": "single graph, `compact=False`"}
NODE = ("onnxruntime-node", "onnxruntime-web")
ROWS = [
    *((name, form) for name in RUNTIMES for form in ("stages", "whole" if name == "tract" else "single")),
    *((name, "single") for name in NODE),
]
MISSING = "not installed"


def main(arguments: list[str] | None = None) -> int:
    """Compare, print the table and write it if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="demo")
    parser.add_argument("--images", type=int, default=500, help="of the test split")
    parser.add_argument("--flops", type=float, default=0.3, help="budget of the policy")
    parser.add_argument("--python", default=sys.executable, help="a Python with the runtimes, numpy and Pillow")
    parser.add_argument("--node", type=Path, default=Path(), help="the folder in which npm installed its packages")
    parser.add_argument("--write", action="store_true", help="keep the result and renew benchmarks/EVIDENCE.md")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        table = pd.DataFrame(compared(options, Path(place)))
    print(as_markdown(table))
    if options.write:
        write_table("runtimes", table)
        write_text(PAGE, with_part(PAGE.read_text(encoding="utf-8"), "runtimes", as_markdown(table)))
    return 0


def compared(options: argparse.Namespace, place: Path) -> Iterator[dict[str, Any]]:
    """A row for each of `ROWS`."""
    run, folder = dx.load_run(options.run), place / "export"
    policy = dx.fit_policy(run.record(run.fitting_split), flops=options.flops)
    rows = np.arange(min(options.images, run.record("test").n_images))
    outcome = dx.apply(policy, run.record("test").subset(rows))
    dx.inference.export_run(run, folder, policy)
    dx.inference.join_stages(folder, compact=False).rename(folder / FILES["whole"])
    dx.inference.join_stages(folder)
    images = np.concatenate([np.asarray(run.inputs("test", some)) for some in np.array_split(rows, 10)])
    np.save(place / "images.npy", images)
    images.astype("<f4").tofile(place / "images.f32")
    for name, form in ROWS:
        found = answers(name, form, options, place, images.shape[-1])
        same = {
            f"same_{what}s": int((np.array(found[what]) == ours).sum()) if what in found else pd.NA
            for what, ours in (("exit", outcome.exits), ("label", outcome.prediction))
        }
        row = {"runtime": name, "version": found.get("version", ""), "form": form, "images": len(rows), **same}
        yield row | {"note": found.get("note", "")}


def answers(name: str, form: str, options: argparse.Namespace, place: Path, side: int) -> dict[str, Any]:
    """What one runtime answers, in a process of its own; a ``note`` in place of answers that there are not."""
    folder = place / "export"
    if name in NODE:
        if not (options.node / "node_modules" / name).is_dir():
            return {"note": MISSING}
        command = ["node", HERE / "_runtimes" / "answers.mjs", name, options.node.resolve()]
        command += [folder / FILES[form], place / "images.f32", side]
    else:
        command = [options.python, HERE / "_runtimes" / "answers.py", name, form, folder, place / "images.npy"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    if f"No module named {RUNTIMES.get(name, [name])[0]!r}" in done.stderr:
        return {"note": MISSING}
    return {"note": (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:200]}


def as_markdown(table: pd.DataFrame) -> str:
    """The table of benchmarks/EVIDENCE.md."""
    lines = ["| runtime | version | form | same exits | same labels |", "|---|---|---|---|---|"]
    for row in table.to_dict("records"):
        same = [f"{row[name]} of {row['images']}" for name in ("same_exits", "same_labels")]
        last = [row["note"], ""] if row["note"] else same
        lines.append(f"| {' | '.join([row['runtime'], row['version'], FORMS[row['form']], *last])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
