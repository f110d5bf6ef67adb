"""`dmpo-explore check`: everything that is wrong with a run folder or a record folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import print_result, say
from .root import Json, app

FOLDER = "A run or record folder; or a run by name or as hf://OWNER/NAME[@REVISION]."


@app.command()
def check(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help=FOLDER)],
    as_json: Json = False,
) -> None:
    """Check the files of a run or record; list every problem with its file and value, and what it must be.

    No image is read and no file is changed. The exit status is 0 if the folder is valid, else 1. The page *Files* of
    the documentation has the format.
    """
    from ..runs.check import check_folder
    from ..runs.hub import PREFIX
    from ..runs.store import list_runs, load_run

    place = Path(folder)
    if folder.startswith(PREFIX) or (not place.exists() and folder in list_runs()):
        place = load_run(folder).path
    found = check_folder(place)
    count = len(found.problems)
    ending = "valid" if found.valid else f"{count} problem{'s' * (count > 1)}"
    facts = f" ({found.facts})" * bool(found.facts)
    lines = [f"{found.kind} {found.path}{facts}: {ending}", *(f"- {problem.text}" for problem in found.problems)]
    print_result(found.to_dict(), as_json, lines)
    if not found.valid:
        say(f"error: {found.path} is not a valid {found.kind}; correct {'this' if count == 1 else 'these'} and repeat")
        raise typer.Exit(1)
