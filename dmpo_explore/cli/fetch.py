"""`dmpo-explore fetch`: weights and data into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..config import Config
from .output import Bar, print_result, say
from .root import Json, app

USUAL = Config()  # its backbone and data are fetched where nothing is named


@app.command()
def fetch(
    backbone: Annotated[list[str] | None, typer.Option(help=f"Backbone, e.g. {USUAL.model.backbone}.")] = None,
    data: Annotated[list[str] | None, typer.Option(help=f"Data set, e.g. {USUAL.data.name}.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder for the data; default: the cache.")] = None,
    as_json: Json = False,
) -> None:
    """Download pre-trained weights and training data into the cache.

    Without options: the default backbone and the default data set. Next: `dmpo-explore train`.
    """
    from ..data.images import fetch_data
    from ..pretrained.weights import fetch_weights

    if not backbone and not data:
        backbone, data = [USUAL.model.backbone], [USUAL.data.name]
    found: dict[str, dict[str, str]] = {"weights": {}, "data": {}}
    try:
        with Bar() as bar:
            for name in backbone or ():
                found["weights"][name] = str(fetch_weights(name, lambda what, done, total: bar.to(done, total, what)))
        for name in data or ():
            found["data"][name] = str(fetch_data(name, data_root))
    except KeyboardInterrupt:
        kept = ", ".join(name for kind in found.values() for name in kind) or "nothing yet"
        say(f"stopped; completely fetched: {kept}. Repeat the command to fetch the rest")
        raise typer.Exit(130) from None
    print_result(found, as_json, [f"{name}: {path}" for kind in found.values() for name, path in kind.items()])
