"""`dmpo-explore export`: a run with a fitted policy, as ONNX graphs or as a page for browsers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .evaluate import caution_all, fit_typed
from .options import refuse_beside, target_options
from .output import Bar, print_result, say
from .root import Json, RunName, app

if TYPE_CHECKING:
    from ..policies.base import Policy
    from ..runs.run import Run

PANEL = "Options of a page"
PRECISIONS = ("float32", "int8")
Precision = Annotated[
    str,
    typer.Option(
        help="float32, or int8: faster on a CPU; ranges and thresholds are measured on images of calibration.",
        rich_help_panel="Options of graphs",
    ),
]
Single = Annotated[
    bool,
    typer.Option(
        "--single",
        help="Also single.onnx: all stages in one graph, for one image at a time.",
        rich_help_panel="Options of graphs",
    ),
]
Vendor = Annotated[
    bool,
    typer.Option(
        "--vendor",
        help="Put onnxruntime-web into the page's folder, by npm; else a content delivery network serves it.",
        rich_help_panel=PANEL,
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        help="float32, float16, int8; auto: the smallest with which 1,000 images keep exit and label.",
        rich_help_panel=PANEL,
    ),
]
Pictures = Annotated[
    bool | None,
    typer.Option(
        "--pictures/--no-pictures",
        help="Publish images of the record. Default: only those of Fashion-MNIST and of the groceries.",
        rich_help_panel=PANEL,
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Licence of a backbone that `fetch` does not bring.", rich_help_panel=PANEL),
]


@app.command()
@target_options
def export(
    run: RunName,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the graphs.")] = None,
    web: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of a page that runs in the browser.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    precision: Precision = "float32",
    single: Single = False,
    vendor: Vendor = False,
    weights: Weights = "auto",
    pictures: Pictures = None,
    licence: Licence = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Write a run as ONNX graphs (--out) or as a page that runs in the browser (--web).

    --out: one graph per stage with the policy, for engines without torch. `dx.OnnxEngine(DIR)` runs it, and the README
    in DIR describes it for other engines. --web: static files for any web server; a visitor's browser loads the stages
    one by one, when an image needs them. Without a target the policy is the cheapest one within one point of the
    best exit on calibration. With --precision int8 it is fitted to the same target again, on the int8 graphs' answers.

    A whole export of the same weights, policy and options is kept; any other is an error, and --force replaces it.
    """
    if (out is None) == (web is None):
        found = "a folder" if out is None else "one folder, not two"
        raise typer.BadParameter(f"give {found}: --out DIR for ONNX graphs, or --web DIR for a page")
    typed = {"--vendor": vendor, "--weights": weights != "auto", "--licence": licence}
    if web is None:
        refuse_beside("--out", typed | {"--pictures": pictures is not None})
    else:
        refuse_beside("--web", {"--precision": precision != "float32", "--single": single})
    if precision not in PRECISIONS:
        raise typer.BadParameter(f"precision={precision!r} must be {' or '.join(PRECISIONS)}")
    from ..runs.store import load_run

    opened = load_run(run)
    fitted = fit_typed(opened, settings)

    place = out or web or Path()
    how: dict[str, Any] = {"precision": precision, "single": single}
    if web is not None:
        how = {"weights": weights, "pictures": pictures, "licence": licence, "vendor": vendor}
    kept = not force and place.exists() and _is_there(opened, place, fitted, web is not None, how)
    if kept:
        path = place
    elif web is None:
        path = _written(place, lambda bar: _graphs(opened, place, fitted, bar, force=force, **how))
    else:
        path = _written(place, lambda bar: _page(opened, place, fitted, bar, how | {"force": force}))
    changes = None
    if precision == "int8":
        from ..inference.onnx_engine import POLICY
        from ..inference.torch_export_int8 import compared
        from ..policies.catalogue import load_policy

        fitted, changes = load_policy(path / POLICY), compared(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    answer: dict[str, Any] = {"run": opened.name, "path": str(path), "bytes": size, "policy": fitted.to_dict()}
    answer["kept"] = kept
    lines = [f"{path}: {size / 1e6:.1f} MB, policy {fitted.name}, {_thresholds(fitted.thresholds)}"]
    lines[0] += "; it was there and is kept" * kept
    if changes:
        answer["int8"] = asdict(changes)
        lines.append(changes.described())
    if web is not None:
        lines.append(f"look at it: python -m http.server 8000 --directory {path}, then http://localhost:8000")
    print_result(answer, as_json, lines)
    caution_all([run])


def _is_there(run: Run, place: Path, policy: Policy, page: bool, how: dict[str, Any]) -> bool:
    """Whether that very export is there, whole."""
    if page:
        from ..web.export import is_exported as is_page

        return is_page(run, place, policy, **how)
    from ..inference.torch_export import is_exported

    return is_exported(run, place, policy, **how)


def _graphs(run: Run, place: Path, policy: Policy, bar: Bar, *, precision: str, single: bool, force: bool) -> Path:
    if single:
        from ..inference.onnx_single import check_policy

        check_policy(policy)  # before the work
    from ..inference.torch_export import export_run, is_exported

    if not force and place.exists() and is_exported(run, place, policy, precision=precision):
        path = place  # only its single graph is missing
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
    return path


def _page(run: Run, place: Path, policy: Policy, bar: Bar, how: dict[str, Any]) -> Path:
    from ..web.export import export_web

    return export_web(run, place, policy, **how, progress=lambda what, done, total: bar.to(done, total, what))


def _written(place: Path, write: Callable[[Bar], Path]) -> Path:
    """What ``write`` returns; after Ctrl-C, what there is at ``place``."""
    with Bar() as bar:
        try:
            return write(bar)
        except KeyboardInterrupt:
            bar.clear()
            earlier = place.is_dir() and any(place.iterdir())
            kept = "the earlier export is kept" if earlier else f"{place} was not written"
            say(f"stopped; {kept}. Repeat the command to export")
            raise typer.Exit(130) from None


def _thresholds(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values)
    return f"threshold {shown}" if len(values) == 1 else f"thresholds {shown}"
