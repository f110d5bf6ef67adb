"""`dmpo-explore predict`: a run with a fitted policy on images; and `report`, which leads to `publish`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from ..utils.files import atomic_file
from .evaluate import caution_all, fit_typed
from .options import target_options
from .output import Bar, print_result, say
from .publish import leads_to
from .root import Device, Json, RunName, app

if TYPE_CHECKING:
    from ..inference.torch_predict import Prediction


@app.command()
@target_options
def predict(
    run: RunName,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Image files, or folders of images.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file; default: stdout.")] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Batch size.")] = 64,
    **settings: Any,
) -> None:
    """Classify images with early exits; writes CSV: file, label, exit (counted from 1), confidence.

    Without a target the policy is the cheapest one within one point of the best exit on calibration. A file that cannot
    be read is reported, the other files are classified, and the exit status is 1. Rows are written as they are
    computed; Ctrl-C keeps the rows written so far.
    """
    from ..data.image_files import find_images
    from ..runs.store import load_run

    opened, files = load_run(run), find_images(paths)
    if not any(file.exists() for file in files):  # before the model is loaded, which takes seconds
        raise FileNotFoundError(f"no file {', '.join(map(str, files[:3]))}{' …' * (len(files) > 3)}")
    fitted = fit_typed(opened, settings)
    from ..inference.torch_predict import predict_files

    found = predict_files(opened, files, fitted, device=device, batch_size=batch_size)
    if output is None:
        rows, whole = _write(found, len(files), sys.stdout, hide=sys.stdout.isatty())
    else:
        with atomic_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            rows, whole = _write(found, len(files), file)
    failed = [row.error for row in rows if row.error]
    for error in failed:
        say(f"error: {error}")
    if not whole:
        place = f" to {output}" if output else ""
        say(f"stopped; {len(rows):,} of {len(files):,} rows are written{place}. The same command starts again")
        raise typer.Exit(130)
    caution_all([run])
    if failed:
        raise typer.Exit(1)


def _write(
    found: Iterable[Prediction], total: int, file: TextIO, *, hide: bool = False
) -> tuple[list[Prediction], bool]:
    """Write predictions as they are computed; returns those written, and whether they are all (not after Ctrl-C).

    Ctrl-C before the first row is passed on, so that an earlier file stays.
    """
    from ..inference.torch_predict import write_csv

    rows: list[Prediction] = []
    with Bar(hide=hide) as bar:
        try:
            for row in write_csv(found, file):
                rows.append(row)
                bar.to(len(rows), total, "images")
        except KeyboardInterrupt:
            if not rows:
                raise
            return rows, False
    return rows, True


@app.command()
@target_options
def report(
    run: RunName,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="The report; default: RUN-report.html in this folder.")
    ] = None,
    split: Annotated[str, typer.Option(help="Recorded split to report on.")] = "test",
    images: Annotated[int, typer.Option(min=0, max=2000, help="Images to show, as tiles.")] = 1000,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Write a run as one HTML file for yourself, its images included; what others may see is made by `publish`.

    It plays images and a threshold, and shows accuracy over compute, classes, calibration and training. The slider
    begins at the policy for the target; without one that is the cheapest within one point of the best exit on
    calibration.
    """
    from ..runs.store import load_run

    opened = load_run(run)
    path = out or Path(f"{opened.name}-report.html")
    kept = path.exists() and not force
    fitted = fit_typed(opened, settings)
    from ..reports.report import write_report

    path = write_report(opened, path, fitted, split=split, images=images, force=force)
    size = path.stat().st_size
    answer = {"run": opened.name, "path": str(path), "bytes": size, "policy": fitted.to_dict(), "kept": kept}
    print_result(answer, as_json, [f"{path}: {size / 1e6:.1f} MB; {'kept as it is; ' * kept}open it in a browser"])
    caution_all([run])
    leads_to("report")
