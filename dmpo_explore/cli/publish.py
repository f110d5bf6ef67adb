"""`dmpo-explore publish`: a run as a page, with or without its model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .evaluate import caution_all, fit_typed
from .options import refuse_beside, target_options
from .output import Bar, print_result, stopped_writing
from .root import Json, RunName, app

if TYPE_CHECKING:
    from ..policies.base import Policy
    from ..runs.run import Run

PANEL = "Options of the model"
HUB = "Push the page to the Hugging Face Hub as a static Space, made if there is none. Log in with `hf auth login`."
AGAINST = "Another run on the same images, such as one with naive exits: its exits stand beside in the story."
Weights = Annotated[
    str,
    typer.Option(
        help="float32, float16, int8; auto: the smallest with which 99 % of 1,000 images keep exit and label.",
        rich_help_panel=PANEL,
    ),
]
Pictures = Annotated[
    bool | None,
    typer.Option(
        "--pictures/--no-pictures",
        help="Publish images of the record. Default: only those of Fashion-MNIST and of the groceries.",
    ),
]
Licence = Annotated[
    str | None,
    typer.Option(
        "--licence",
        "--license",
        metavar="NAME",
        help="Licence of a backbone that `fetch` does not bring.",
        rich_help_panel=PANEL,
    ),
]


@app.command()
@target_options
def publish(
    run: RunName,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR|FILE.html", help="Folder of the page; without the model also one file.")
    ] = None,
    model: Annotated[
        bool, typer.Option("--model", help="With the model, which classifies pictures in the visitor's browser.")
    ] = False,
    split: Annotated[str, typer.Option(help="Recorded split that the page plays.")] = "test",
    pictures: Pictures = None,
    against: Annotated[str | None, typer.Option(metavar="RUN", help=AGAINST)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier page.")] = False,
    weights: Weights = "auto",
    licence: Licence = None,
    hub: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help=HUB)] = None,
    private: Annotated[bool, typer.Option("--private", help="With --hub: make a new Space private.")] = False,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Make a web page that plays a run and explains early exit with its images and numbers.

    Without the model it is one HTML file that opens from a disk. With --model it is a folder for any web server of
    static files, whose visitors also classify pictures of their own. A page asks no other server for anything. The
    slider begins at the policy for the target; without one at the cheapest within one point of the best exit on
    calibration.

    A whole page of the same weights, policy and options is kept; any other is an error, and --force replaces it.
    """
    if out is None and hub is None:
        raise typer.BadParameter("give a place: --out DIR, or --hub OWNER/NAME")
    refuse_beside("no --hub", {"--private": private and hub is None})
    if not model:
        refuse_beside("no --model", {"--weights": weights != "auto", "--licence": licence})
    from ..runs.hub import check_space_name, push_page
    from ..runs.store import load_run

    if hub is not None:
        check_space_name(hub)  # before the work
    opened = load_run(run)
    fitted = fit_typed(opened, settings)
    how: dict[str, Any] = {"split": split, "pictures": pictures, "against": load_run(against) if against else None}
    if model:
        how |= {"weights": weights, "licence": licence}
    with tempfile.TemporaryDirectory() as temporary:
        path, answer, lines = write_page(
            opened, out or Path(temporary) / "page", fitted, model=model, force=force, **how
        )
        if hub is not None:
            address = push_page(path, hub, opened.name, private=private, license=licence or "")
            answer, lines = answer | {"address": address}, [*(lines if out else []), address]
    if out is None:
        del answer["path"]  # it was a temporary one
    print_result(answer, as_json, lines)
    caution_all([run])


def write_page(
    run: Run, place: Path, policy: Policy, *, model: bool, force: bool, **how: Any
) -> tuple[Path, dict[str, Any], list[str]]:
    """Write a page, or keep the very page that is there; returns where it is, and what to print as JSON and as text."""
    from ..web.export import is_exported
    from ..web.publish import page_file
    from ..web.publish import publish as written

    kept = not force and (place if model else page_file(place)).exists()
    if not model:
        path = written(run, place, policy, force=force, **how)
    elif kept and is_exported(run, place, policy, **how):
        path = place
    else:
        kept = False
        with Bar() as bar, stopped_writing(place, bar, "export"):
            path = written(
                run, place, policy, model=True, force=force, **how,
                progress=lambda what, done, total: bar.to(done, total, what),
            )  # fmt: skip
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    answer = {"run": run.name, "path": str(path), "bytes": size, "policy": policy.to_dict(), "kept": kept}
    server = f"python -m http.server 8000 --directory {path}, then http://localhost:8000"
    return (
        path,
        answer,
        [
            f"{path}: {size / 1e6:.1f} MB, policy {policy.name}{'; it was there and is kept' * kept}",
            f"look at it: {server if model else 'open it in a browser'}",
        ],
    )


# `dmpo-explore push`: a run as a repository of the Hugging Face Hub.

SPLIT = "Recorded split to push; may be repeated. Default: all of them."
LICENSE = "Licence of the weights for the card, e.g. apache-2.0."
BASE_MODEL = "The backbone's repository on the Hub, for the card."
MANIFEST = "Also push the list of the images: their names, hashes and labels."
DRY_RUN = "Write the files that would be pushed into this new folder, and push nothing."


@app.command()
def push(
    run: RunName,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hub; made if there is none.")],
    dry_run: Annotated[Path | None, typer.Option("--dry-run", metavar="DIR", help=DRY_RUN)] = None,
    license: Annotated[str, typer.Option("--license", "--licence", help=LICENSE)] = "",
    base_model: Annotated[str, typer.Option(metavar="OWNER/NAME", help=BASE_MODEL)] = "",
    split: Annotated[list[str] | None, typer.Option(help=SPLIT)] = None,
    manifest: Annotated[bool, typer.Option("--manifest", help=MANIFEST)] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    branch: Annotated[str, typer.Option(help="Branch to push to.")] = "main",
    message: Annotated[str, typer.Option(help="Message of the commit.")] = "",
    as_json: Json = False,
) -> None:
    """Push a run to the Hugging Face Hub: config, weights, records, policies and a card, but no images.

    Log in first: `hf auth login`, or set HF_TOKEN. The printed address opens that very commit, also in other commands:
    `dmpo-explore evaluate hf://OWNER/NAME@COMMIT`.
    """
    from ..runs.hub import HubAddress, push_run, write_hub_folder
    from ..runs.store import load_run

    opened = load_run(run)
    if dry_run is not None:
        address = HubAddress.parse(repo)
        folder = write_hub_folder(
            opened, dry_run, splits=split, with_manifest=manifest, repo=address.repo, license=license,
            base_model=base_model,
        )  # fmt: skip
        files = {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
        answer = {"run": opened.name, "path": str(folder), "files": dict(sorted(files.items()))}
        size = f"{len(files)} files, {sum(files.values()) / 1e6:.1f} MB"
        print_result(answer, as_json, [f"{folder}: {size}; nothing was pushed"])
        return
    pushed = push_run(
        opened, repo, private=private, branch=branch, message=message, splits=split, license=license,
        base_model=base_model, with_manifest=manifest,
    )  # fmt: skip
    print_result({"run": opened.name, "address": pushed}, as_json, [pushed])
