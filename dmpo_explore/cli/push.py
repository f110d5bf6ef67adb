"""`dmpo-explore push`: a run as a repository of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import print_result, warnings_said
from .root import Json, RunName, app

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
    with warnings_said():
        if dry_run is not None:
            address = HubAddress.parse(repo)
            folder = write_hub_folder(
                opened, dry_run, splits=split, with_manifest=manifest, repo=address.repo, license=license,
                base_model=base_model,
            )  # fmt: skip
            files = {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
            answer = {"run": opened.name, "path": str(folder), "files": dict(sorted(files.items()))}
            total = sum(files.values()) / 1e6
            print_result(answer, as_json, [f"{folder}: {len(files)} files, {total:.1f} MB; nothing was pushed"])
            return
        pushed = push_run(
            opened, repo, private=private, branch=branch, message=message, splits=split, license=license,
            base_model=base_model, with_manifest=manifest,
        )  # fmt: skip
    print_result({"run": opened.name, "address": pushed}, as_json, [pushed])
