"""`dmpo-explore data`: counts, findings and the plan of a training for a folder or data set."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import data_options
from .output import Bar, print_result, say
from .root import DataPlace, Device, Json, PlannedConfig, app
from .train import estimate_lines, planned_config

if TYPE_CHECKING:
    from ..data.check import DataCheck

MOST_CLASSES = 30  # more are abbreviated to the largest and the smallest
ENDS = 10
MOST_PLACES = 10


@app.command()
@data_options()
def data(
    path: DataPlace = None,
    config: PlannedConfig = None,
    all_classes: Annotated[
        bool, typer.Option("--all-classes", help="Show every class and every affected file.")
    ] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help="Also time a few training steps.")] = False,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Check images before a training: counts, sizes, broken and duplicate files, leakage, imbalance.

    Every file is read once, no file is changed. `train` makes the same check before its first step. The exit status is
    0 if a training can start, else 1.
    """
    from ..data.check import training_plan
    from ..data.images import open_data
    from ..fitting.risk_control import certifiable
    from ..training.train_data import preflight

    chosen = planned_config(path, config, settings)
    chosen = replace(chosen, data=open_data(chosen.data).config)
    with Bar(lines=True) as bar:
        found = preflight(chosen, on_check=partial(bar.to, text="checking images"), quick=False)
    plan = training_plan(found, chosen) | {"risk control": certifiable(found.n_calibration)}
    answer, lines = found.to_dict() | {"plan": plan}, report(found, plan, all_classes)
    if estimate and found.ready:
        answer["estimate"], timed = estimate_lines(chosen, "auto")
        lines += ["", *timed]
    print_result(answer, as_json, lines)
    if not found.ready:
        say("error: a training cannot start on these images; correct the findings marked STOPS")
        raise typer.Exit(1)


def report(found: DataCheck, plan: dict[str, str], all_classes: bool = False) -> list[str]:
    """A check as lines of text: counts, sizes, findings, and the plan of a training."""
    from ..analysis.tables import markdown

    lines = [f"{found.data.name}: {found.n_images:,} images, {len(found.class_names):,} classes", ""]
    if not found.n_images:
        return [*lines, *_findings(found, all_classes)]
    lines += [*_counts(found, all_classes), ""]
    if found.ledger:
        lines += [*(f"inputs of {place}: {line.described()}" for place, line in found.ledger.items()), ""]
    if sizes := found.sizes():
        cells = [["", "width x height", "aspect"]]
        aspects = (f"{sizes.aspect[0]:.2f} at least", f"{sizes.aspect[1]:.2f}", f"{sizes.aspect[2]:.2f} at most")
        named = zip(("smallest", "median", "largest"), sizes[:3], aspects, strict=True)
        lines += markdown([*cells, *([name, f"{w:,} x {h:,}", aspect] for name, (w, h), aspect in named)])
        formats = ", ".join(f"{count:,} {name}" for name, count in found.formats.items())
        lines += ["", f"formats: {formats}; {max(found.bytes / 1e6, 0.1):,.1f} MB"]
    if found.imbalance is not None:
        ratio = "infinite (a class has no image)" if math.isinf(found.imbalance) else f"{found.imbalance:.1f}"
        lines += [f"largest class / smallest class of train: {ratio}"]
    planned = (f"  {name}: {text}" for name, text in plan.items())
    return [*lines, "", *_findings(found, all_classes), "", "a training:", *planned]


def _counts(found: DataCheck, all_classes: bool) -> list[str]:
    """Images of every class and split; of many classes the largest and the smallest."""
    import numpy as np

    from ..analysis.tables import markdown
    from ..utils.texts import abbreviated

    splits, C = [*found.counts], len(found.class_names)
    total = np.sum([*found.counts.values()], axis=0)
    cells = [["class", *splits, "all"]]
    rows = [
        [abbreviated(name), *(f"{found.counts[split][c]:,}" for split in splits), f"{total[c]:,}"]
        for c, name in enumerate(found.class_names)
    ]
    if C > MOST_CLASSES and not all_classes:
        order = sorted(range(C), key=lambda c: -int(total[c]))
        left = [f"… {C - 2 * ENDS:,} more (--all-classes)", *[""] * (len(splits) + 1)]
        rows = [*(rows[c] for c in order[:ENDS]), left, *(rows[c] for c in order[-ENDS:])]
    sums = (f"{int(found.counts[split].sum()):,}" for split in splits)
    return markdown([*cells, *rows, ["all", *sums, f"{found.n_images:,}"]])


def _findings(found: DataCheck, all_places: bool) -> list[str]:
    if not found.findings:
        return ["findings: none"]
    lines = []
    for finding in found.findings:
        lines.append(f"{'STOPS' if finding.stops else 'note'} ({finding.check}): {finding.text}")
        most = len(finding.places) if all_places else MOST_PLACES
        if len(finding.places) > 1:
            lines += [f"    {place}" for place in finding.places[:most]]
            more = len(finding.places) - most
            lines += [f"    … {more:,} more (--all-classes)"] * (more > 0)
    return lines


# `dmpo-explore probe`: where exits should stand on some images and what they could save, before any training.


@app.command()
@data_options("model.backbone", "model.weights")
def probe(
    path: DataPlace = None,
    config: PlannedConfig = None,
    images: Annotated[int, typer.Option(min=60, help="Training images that are read, at most.")] = 3000,
    drop: Annotated[float, typer.Option(help="Accuracy that may be lost, as a fraction: 0.01 is one point.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the probes' answers as a record, which the app opens.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Forecast in minutes, before any training, where exits should stand and what they could save.

    Ridge probes of the frozen backbone, fitted behind every block on training images alone, tell from which depth on
    your classes come apart. The forecast is rough, so compare probes with each other: a trained model is more accurate
    at every exit.
    """
    from ..analysis.tables import markdown
    from ..training.block_probes import probe as run_probe

    if out is not None and out.exists():
        raise FileExistsError(f"{out} exists; choose another name")
    chosen = planned_config(path, config, settings)
    with Bar(lines=True) as bar:
        found = run_probe(
            chosen.data, chosen.model, images=images, drop=drop, seed=seed, device=device,
            progress=lambda done, total: bar.to(done, total, "reading images"),
        )  # fmt: skip
    rows = [
        [str(row.block), f"{row.share:.0%}", f"{row.mean:.1%}", f"{row.second_order:.1%}"]
        for row in found.probes.itertuples()
    ]
    lines = [*markdown([["block", "compute", "mean", "second order"], *rows]), "", *found.lines()]
    answer = found.to_dict()
    if out is not None:
        found.record.save(out)
        answer["record"] = str(out)
        lines += [f"record: {out}"]
    print_result(answer, as_json, lines)
