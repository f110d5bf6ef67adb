"""`dmpo-explore predict`: a run with a fitted policy on images."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from ..utils.files import atomic_file
from .evaluate import caution_all, fit_typed
from .options import target_options
from .output import Bar, say
from .root import Device, RunName, app

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
    computed; after Ctrl-C or an error those written so far are kept.
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
        rows, stopped = _write(found, len(files), sys.stdout, hide=sys.stdout.isatty())
    else:
        with (
            atomic_file(output) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,  # as stdout
        ):
            rows, stopped = _write(found, len(files), file)
    failed = [row.error for row in rows if row.error]
    for error in failed:
        say(f"error: {error}")
    by_hand = isinstance(stopped, KeyboardInterrupt)
    if by_hand or (stopped and output):
        place = f" to {output}" if output else ""
        say(f"stopped; {len(rows):,} of {len(files):,} rows are written{place}. The same command starts again")
    if stopped:
        raise typer.Exit(130) if by_hand else stopped
    caution_all([run])
    if failed:
        raise typer.Exit(1)


def _write(
    found: Iterable[Prediction], total: int, file: TextIO, *, hide: bool = False
) -> tuple[list[Prediction], BaseException | None]:
    """Write predictions as they are computed; returns those written, and what stopped it: Ctrl-C, an error or None.

    What comes before the first row is passed on, so that an earlier file stays.
    """
    from ..inference.torch_predict import write_csv

    rows: list[Prediction] = []
    with Bar(hide=hide) as bar:
        try:
            for row in write_csv(found, file):
                rows.append(row)
                bar.to(len(rows), total, "images")
        except (KeyboardInterrupt, Exception) as error:
            if not rows:
                raise
            return rows, error
    return rows, None
