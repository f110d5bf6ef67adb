"""`dmpo-explore export`: a run with a fitted policy, as ONNX graphs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from ..utils.files import atomic_file, begins_with, require_ours
from .evaluate import caution_all, fit_typed
from .options import target_options
from .output import Bar, print_result, say, stopped_writing
from .root import Device, Json, RunName, app

if TYPE_CHECKING:
    from ..inference.torch_engine import Prediction
    from ..policies.base import Policy
    from ..runs.run import Run

PRECISIONS = ("float32", "int8")
Precision = Annotated[
    str,
    typer.Option(
        help="float32, or int8: faster on a CPU; its ranges and thresholds are measured on images of the run."
    ),
]
Single = Annotated[
    bool, typer.Option("--single", help="Also single.onnx: all stages in one graph, for batches of any size.")
]
Serve = Annotated[bool, typer.Option("--serve", help="Also serve.py: a web service (FastAPI) in the folder.")]
PREDICTIONS = "file,label,exit,confidence"  # the first line of what `predict` writes
HOLD = "Keep the exit shares of calibration on whatever images come: a budget, without a bound on the risk."
Hold = Annotated[bool, typer.Option("--hold", help=HOLD)]


@app.command()
@target_options
def export(
    run: RunName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    precision: Precision = "float32",
    single: Single = False,
    serve: Serve = False,
    hold: Hold = False,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Export a run for onnxruntime: one ONNX graph per stage, and the policy.

    `dx.OnnxEngine(DIR)` runs them without torch, and the README in DIR describes them for other engines. Without a
    target the policy is the cheapest one within one point of the best exit on calibration. With --precision int8 it is
    fitted to the same target again, on the int8 graphs' answers. With --hold its thresholds follow the images.

    A whole export of the same weights, policy and options is kept; any other is an error, and --force replaces it.
    """
    if precision not in PRECISIONS:
        raise typer.BadParameter(f"precision={precision!r} must be {' or '.join(PRECISIONS)}")
    from ..runs.store import load_run

    opened = load_run(run)
    fitted = fit_typed(opened, settings)
    if hold:
        fitted = _held(opened, fitted)
    how: dict[str, Any] = {"precision": precision, "single": single, "serve": serve}
    from ..inference.torch_export import compared, is_exported

    kept = not force and out.exists() and is_exported(opened, out, fitted, **how)
    path = out
    if not kept:
        with Bar() as bar, stopped_writing(out, bar, "export"):
            path = _graphs(opened, out, fitted, bar, force=force, **how)
    changes = None
    if precision == "int8":
        from ..inference.onnx_engine import POLICY
        from ..policies.catalogue import load_policy

        fitted, changes = load_policy(path / POLICY), compared(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    answer = {"run": opened.name, "path": str(path), "bytes": size, "policy": fitted.to_dict(), "kept": kept}
    kind = fitted.base.name + " with held shares" * (fitted.base is not fitted)
    thresholds = ", ".join(f"{value:.4g}" for value in fitted.thresholds)
    thresholds = f"threshold{'s' * (len(fitted.thresholds) > 1)} {thresholds}"
    lines = [f"{path}: {size / 1e6:.1f} MB, policy {kind}, {thresholds}{'; it was there and is kept' * kept}"]
    if changes:
        answer["int8"] = asdict(changes)
        lines.append(changes.described())
    print_result(answer, as_json, lines)
    caution_all([run])


def _held(run: Run, policy: Policy) -> Policy:
    """The policy whose thresholds follow the images; what it gives up for that is said."""
    from ..policies.running import hold_budget

    if "certificate" in policy.fitted:
        say("--hold: the exit shares are kept in place of the bound on the risk, which does not hold any more")
    is_held = policy.base is not policy  # it comes from a file
    return policy if is_held else hold_budget(policy, run.record(run.fitting_split))


def _graphs(
    run: Run, place: Path, policy: Policy, bar: Bar, *, precision: str, single: bool, serve: bool, force: bool
) -> Path:
    if single:  # both before the work
        from ..inference.onnx_single import check_policy

        check_policy(policy)
    if serve:
        from ..inference.export_texts import check_service

        check_service(policy)
    from ..inference.torch_export import export_run, is_exported

    if not force and place.exists() and is_exported(run, place, policy, precision=precision):
        path = place  # only its single graph or its service is missing
    elif precision == "int8":
        from ..inference.torch_export import export_int8

        path = export_int8(
            run, place, policy, force=force, progress=lambda what, done, total: bar.to(done, total, what)
        )
    else:
        path = export_run(run, place, policy, force=force, progress=lambda k, stages: bar.to(k, stages, "stages"))
    if single:
        from ..inference.onnx_single import join_stages

        join_stages(path)
    if serve:
        from ..inference.export_texts import add_service

        add_service(path)
    return path


# `dmpo-explore predict`: a run with a fitted policy on images.


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

    if output is not None:
        require_ours(output, "a table of predictions", begins_with(PREDICTIONS))
    opened, files = load_run(run), find_images(paths)
    if not any(file.exists() for file in files):  # before the model is loaded, which takes seconds
        raise FileNotFoundError(f"no file {', '.join(map(str, files[:3]))}{' …' * (len(files) > 3)}")
    fitted = fit_typed(opened, settings)
    from ..inference.torch_engine import predict_files

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
        say(
            f"stopped; {len(rows):,} of {len(files):,} rows are written{f' to {output}' if output else ''}. "
            "The same command starts again"
        )
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
    from ..inference.torch_engine import write_csv

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
