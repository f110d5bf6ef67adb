"""`dmpo-explore fetch`: weights and data into the cache."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..config import Config
from ..jobs.progress_file import EVERY, ProgressFile
from .output import Bar, print_result, say
from .record import enable_ctrl_c
from .root import Json, ProgressPath, app

USUAL = Config()  # its backbone and data are fetched where nothing is named


@app.command()
def fetch(
    backbone: Annotated[
        list[str] | None, typer.Option(help=f"Backbone, e.g. {USUAL.model.backbone}, or another of timm's hub.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help=f"Data set, e.g. {USUAL.data.name}, or hfds/OWNER/NAME.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder for the data; default: the cache.")] = None,
    web: Annotated[bool, typer.Option("--web", help="onnxruntime-web, by npm, for `publish --model`.")] = False,
    progress: ProgressPath = None,
    as_json: Json = False,
) -> None:
    """Download pre-trained weights and training data into the cache.

    Without options: the default backbone and the default data set. Next: `dmpo-explore train`.
    """
    from ..data.images import fetch_data
    from ..runs.ready import fetch_backbone

    if not backbone and not data and not web:
        backbone, data = [USUAL.model.backbone], [USUAL.data.name]
    enable_ctrl_c(progress)
    file = ProgressFile(progress)

    def on_weights(what: str, done: int, total: int) -> None:
        bar.to(done, total, what)
        file.to(what, done, total)

    found: dict[str, dict[str, str]] = {"weights": {}, "data": {}}
    try:
        with Bar() as bar:
            for name in backbone or ():
                found["weights"][name] = str(fetch_backbone(name, on_weights))
        for name in data or ():
            with _growth(file, name, data_root):
                found["data"][name] = str(fetch_data(name, data_root))
        if web:
            from ..web.runtime import PACKAGE, fetch_runtime

            found["web"] = {PACKAGE: str(fetch_runtime())}
        file.end()
    except KeyboardInterrupt:
        kept = ", ".join(name for kind in found.values() for name in kind) or "nothing yet"
        say(f"stopped; completely fetched: {kept}. Repeat the command to fetch the rest")
        raise typer.Exit(130) from None
    print_result(found, as_json, [f"{name}: {path}" for kind in found.values() for name, path in kind.items()])


@contextmanager
def _growth(file: ProgressFile, name: str, root: Path | None) -> Iterator[None]:
    """Write how much the data's folder has grown, of what is downloaded: torchvision reports nothing itself."""
    from ..data.known import DATASETS
    from ..data.names import data_dir
    from ..pretrained.wheels import size_of

    total = DATASETS[name].download_bytes if name in DATASETS else 0
    if file.path is None or not total:
        yield
        return
    folder, ended = data_dir(root), threading.Event()
    before = size_of(folder)

    def watch() -> None:
        while True:
            file.to(f"download {name}", min(max(0, size_of(folder) - before), total), total)
            if ended.wait(EVERY):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
