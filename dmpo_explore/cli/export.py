"""`dmpo-explore export`: a run with a fitted policy, as ONNX graphs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .evaluate import caution_all, fit_typed
from .options import refuse_beside, target_options
from .output import Bar, print_result, say, stopped_writing
from .publish import leads_to, write_page
from .root import Json, RunName, app

if TYPE_CHECKING:
    from ..policies.base import Policy
    from ..runs.run import Run

PRECISIONS = ("float32", "int8")
Precision = Annotated[
    str,
    typer.Option(
        help="float32, or int8: faster on a CPU; its ranges and thresholds are measured on images of the run.",
        rich_help_panel="Options of graphs",
    ),
]
Single = Annotated[
    bool,
    typer.Option(
        "--single",
        help="Also single.onnx: all stages in one graph, for batches of any size.",
        rich_help_panel="Options of graphs",
    ),
]
Serve = Annotated[
    bool,
    typer.Option(
        "--serve", help="Also serve.py: a web service (FastAPI) in the folder.", rich_help_panel="Options of graphs"
    ),
]
Hold = Annotated[
    bool,
    typer.Option(
        "--hold",
        help="Keep the exit shares of calibration on whatever images come: a budget, without a bound on the risk.",
        rich_help_panel="Options of graphs",
    ),
]
OLD = "Options that are those of `publish` now"
Vendor = Annotated[bool, typer.Option("--vendor", help="Has no effect any more.", rich_help_panel=OLD)]
Weights = Annotated[str, typer.Option(help="See `publish`.", rich_help_panel=OLD)]
Pictures = Annotated[bool | None, typer.Option("--pictures/--no-pictures", help="See `publish`.", rich_help_panel=OLD)]
Licence = Annotated[str | None, typer.Option(metavar="NAME", help="See `publish`.", rich_help_panel=OLD)]


@app.command()
@target_options
def export(
    run: RunName,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write.")] = None,
    web: Annotated[Path | None, typer.Option(metavar="DIR", help="`publish --model` now.", rich_help_panel=OLD)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    precision: Precision = "float32",
    single: Single = False,
    serve: Serve = False,
    hold: Hold = False,
    vendor: Vendor = False,
    weights: Weights = "auto",
    pictures: Pictures = None,
    licence: Licence = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Export a run for onnxruntime: one ONNX graph per stage, and the policy.

    `dx.OnnxEngine(DIR)` runs them without torch, and the README in DIR describes them for other engines. Without a
    target the policy is the cheapest one within one point of the best exit on calibration. With --precision int8 it is
    fitted to the same target again, on the int8 graphs' answers. With --hold its thresholds follow the images. What
    --web DIR made, `publish --model --out DIR` makes now.

    A whole export of the same weights, policy and options is kept; any other is an error, and --force replaces it.
    """
    if (out is None) == (web is None):
        found = "a folder" if out is None else "one folder, not two"
        raise typer.BadParameter(f"give {found}: --out DIR for ONNX graphs, or --web DIR for a page")
    typed = {"--vendor": vendor, "--weights": weights != "auto", "--licence": licence}
    if web is None:
        refuse_beside("--out", typed | {"--pictures": pictures is not None})
    else:
        refuse_beside(
            "--web", {"--precision": precision != "float32", "--single": single, "--serve": serve, "--hold": hold}
        )
    if precision not in PRECISIONS:
        raise typer.BadParameter(f"precision={precision!r} must be {' or '.join(PRECISIONS)}")
    from ..runs.store import load_run

    opened = load_run(run)
    fitted = fit_typed(opened, settings)
    if hold:
        fitted = _held(opened, fitted)
    if web is not None:
        how: dict[str, Any] = {"weights": weights, "pictures": pictures, "licence": licence}
        _, answer, lines = write_page(opened, web, fitted, model=True, force=force, **how)
        print_result(answer, as_json, lines)
        caution_all([run])
        leads_to("export --web")
        return
    place = out or Path()
    how = {"precision": precision, "single": single, "serve": serve}
    kept = not force and place.exists() and _is_there(opened, place, fitted, how)
    path = place
    if not kept:
        with Bar() as bar, stopped_writing(place, bar, "export"):
            path = _graphs(opened, place, fitted, bar, force=force, **how)
    changes = None
    if precision == "int8":
        from ..inference.onnx_engine import POLICY
        from ..inference.torch_export_int8 import compared
        from ..policies.catalogue import load_policy

        fitted, changes = load_policy(path / POLICY), compared(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    answer = {"run": opened.name, "path": str(path), "bytes": size, "policy": fitted.to_dict()}
    answer["kept"] = kept
    kind = fitted.base.name + " with held shares" * (fitted.base is not fitted)
    lines = [f"{path}: {size / 1e6:.1f} MB, policy {kind}, {_thresholds(fitted.thresholds)}"]
    lines[0] += "; it was there and is kept" * kept
    if changes:
        answer["int8"] = asdict(changes)
        lines.append(changes.described())
    print_result(answer, as_json, lines)
    caution_all([run])


def _is_there(run: Run, place: Path, policy: Policy, how: dict[str, Any]) -> bool:
    """Whether that very export is there, whole."""
    from ..inference.torch_export import is_exported

    return is_exported(run, place, policy, **how)


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
        from ..inference.export_service import check_service

        check_service(policy)
    from ..inference.torch_export import export_run, is_exported

    if not force and place.exists() and is_exported(run, place, policy, precision=precision):
        path = place  # only its single graph or its service is missing
    elif precision == "int8":
        from ..inference.torch_export_int8 import export_int8

        path = export_int8(
            run, place, policy, force=force, progress=lambda what, done, total: bar.to(done, total, what)
        )
    else:
        path = export_run(run, place, policy, force=force, progress=lambda k, stages: bar.to(k, stages, "stages"))
    if single:
        from ..inference.onnx_single import join_stages

        join_stages(path)
    if serve:
        from ..inference.export_service import add_service

        add_service(path)
    return path


def _thresholds(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values)
    return f"threshold {shown}" if len(values) == 1 else f"thresholds {shown}"
