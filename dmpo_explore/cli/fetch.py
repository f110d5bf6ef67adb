"""`dmpo-explore fetch`: weights and data into the cache."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..config import Config
from ..jobs.progress_file import EVERY, ProgressFile
from ..utils.registry import python_function
from ..utils.texts import one_line
from .doctor import run_facts
from .output import Bar, print_result, say
from .record import enable_ctrl_c
from .root import Json, ProgressPath, app

USUAL = Config()  # what a training without options takes
FIRST = "demo"  # the run that is completed where nothing is named
UNFETCHED = (OSError, ValueError, RuntimeError, ImportError)


@app.command()
def fetch(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help=f"Fetch what this run needs; default: {FIRST}.")
    ] = None,
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
    """Download pre-trained weights and training data into the cache; what is here is kept.

    Without options first what the bundled run `demo` needs, which is the default backbone, then the default data set.
    The exit status is 0 if what was named, or `demo`, is complete. Next: `dmpo-explore train`.
    """
    from ..data.images import open_data
    from ..runs.store import list_runs, load_run

    enable_ctrl_c(progress)
    file, began, lines = ProgressFile(progress), time.time(), list[str]()
    wanted = [*(("weights", name) for name in backbone or ()), *(("data", name) for name in data or ())]
    wanted += [("web", "onnxruntime-web")] * web
    further = [] if run or wanted else [("data", USUAL.data.name)]
    if run or further:
        model, images = (config := load_run(run or FIRST).config).model, config.data
        fetched = model.weights in ("auto", "timm") and not model.whole and python_function(model.backbone) is None
        needs = [("weights", model.backbone)] * fetched + [("data", images.name)] * (not open_data(images).own)
        lines.append(f"run {run or FIRST} needs {' and '.join(name for _, name in needs) or 'nothing'}")
        wanted = [*needs, *wanted]
    found: dict[str, dict[str, str]] = {"weights": {}, "data": {}}
    try:
        for kind, name in (*wanted, *further):
            try:
                path = _fetched(kind, name, data_root, file)
            except UNFETCHED as error:
                if (kind, name) in wanted:
                    if lines:
                        say("\n".join(lines))
                    raise
                users = [row["run"] for row in map(run_facts, list_runs()) if row.get("data") == name]
                say(f"{name} is missing; {', '.join(users)} and a training without --data need it: {one_line(error)}")
                continue
            here = all(file.stat().st_mtime < began for file in (path, *path.rglob("*")) if file.is_file())
            found.setdefault(kind, {})[name] = str(path)
            lines.append(f"{name}: {path}{'; it was here' * here}")
        file.end()
    except KeyboardInterrupt:
        kept = ", ".join(name for kind in found.values() for name in kind) or "nothing yet"
        say(f"stopped; completely fetched: {kept}. Repeat the command to fetch the rest")
        raise typer.Exit(130) from None
    print_result(found, as_json, lines)


def _fetched(kind: str, name: str, data_root: Path | None, file: ProgressFile) -> Path:
    """The place of weights, data or the browser's runtime, which are fetched where they are not here."""
    if kind == "web":
        from ..web.runtime import fetch_runtime

        return fetch_runtime()
    if kind == "data":
        from ..data.images import fetch_data

        with _growth(file, name, data_root):
            return fetch_data(name, data_root)
    from ..runs.ready import fetch_backbone

    with Bar(file=file) as bar:
        return fetch_backbone(name, lambda what, done, total: bar.to(done, total, what))


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
        while not ended.wait(EVERY):
            file.to(f"download {name}", min(max(0, size_of(folder) - before), total), total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
