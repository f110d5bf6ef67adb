"""`dmpo-explore predict` and `export`: a run with a fitted policy, on image files or as ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .evaluate import fit_typed
from .options import target_options
from .output import Bar, print_result, say
from .root import Device, Json, RunName, app


@app.command()
@target_options
def predict(
    run: RunName,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Images, or folders of images.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file; default: stdout.")] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a batch.")] = 64,
    **settings: Any,
) -> None:
    """Classify images with early exits. CSV: file, label, exit (counted from 1), confidence.

    Without a target the policy is the cheapest that loses no accuracy on val. A file that cannot be read is reported
    and the others go on; the exit status is then 1.
    """
    from ..data.image_files import find_images
    from ..runs.store import load_run
    from ..utils.files import write_text

    opened, files = load_run(run), find_images(paths)
    fitted = fit_typed(opened, settings)
    from ..inference.torch_predict import predict_files, to_csv

    rows = []
    with Bar() as bar:
        for row in predict_files(opened, files, fitted, device=device, batch_size=batch_size):
            rows.append(row)
            bar.to(len(rows), len(files), "images")
    text = to_csv(rows)
    write_text(output, text) if output else typer.echo(text, nl=False)
    failed = [row.error for row in rows if row.error]
    for error in failed:
        say(f"error: {error}")
    if failed:
        raise typer.Exit(1)


@app.command()
@target_options
def export(
    run: RunName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an export.")] = False,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Write a run as one ONNX graph per stage, with its policy, for engines without torch.

    Without a target the policy is the cheapest that loses no accuracy on val. `dx.OnnxEngine(DIR)` runs it; the README
    in the folder describes the graphs for other engines.
    """
    from ..runs.store import load_run

    opened = load_run(run)
    fitted = fit_typed(opened, settings)
    from ..inference.torch_export import export_run

    with Bar() as bar:
        path = export_run(opened, out, fitted, force=force, progress=lambda k, stages: bar.to(k, stages, "stages"))
    size = sum(file.stat().st_size for file in path.iterdir())
    answer = {"run": opened.name, "path": str(path), "bytes": size, "policy": fitted.to_dict()}
    print_result(answer, as_json, [f"{path}: {size / 1e6:.1f} MB, {fitted.name} {fitted.thresholds}"])
