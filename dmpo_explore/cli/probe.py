"""`dmpo-explore probe`: where exits should stand on some images and what they could save, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import data_options
from .output import Bar, print_result
from .root import DataPlace, Device, Json, PlannedConfig, app
from .train import planned_config


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
