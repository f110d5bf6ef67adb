"""`dmpo-explore runs`, `doctor` and `app`: the runs, the installation, and the app.

Out: plain JSON values and lines. Nothing is downloaded. Only `diagnose` loads torch.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from os.path import lexists
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..data.images import load_images
from ..data.known import DATASETS
from ..pretrained.weights import cached_weights
from ..pretrained.wheels import SOURCES
from ..runs.run import outdated_splits
from ..runs.store import BUNDLED_RUNS, list_runs, load_run, runs_root
from ..utils.files import cache_dir
from ..utils.lazy import EXTRAS, install_hint, missing_extra
from ..utils.texts import one_line
from .output import print_result, say
from .root import Json, app

PACKAGES = ("torch", "torchvision", "timm", "peft", "accelerate", "numpy", "pandas", "plotly", *EXTRAS)


def run_facts(name: str) -> dict[str, Any]:
    """Facts of a run, with a line of text under ``facts``; of a broken run only ``error`` and ``facts``."""
    try:
        run = load_run(name)
        config, records = run.config, run.splits()
        outdated = outdated_splits(run)
        epochs = len(run.history()) if lexists(run.path / "history.csv") else 0
    except (ValueError, OSError) as error:
        return {"run": name, "error": one_line(error), "facts": f"broken: {one_line(error)}"}
    model, planned = config.model, config.training.epochs
    bundled = run.path.parent == BUNDLED_RUNS.resolve()
    bypass, predictor = model.exit_parts
    shown = [f"{split} (of earlier weights)" if split in outdated else split for split in records]
    parts = [config.data.name, model.backbone, f"{model.image_size} px, {model.resizing}", f"bypass {bypass}"]
    parts += [f"predictor {predictor}", f"epoch {epochs}/{planned}", f"records: {' '.join(shown) or 'none'}"]
    parts += ["bundled"] * bundled
    return {
        "run": name,
        "path": str(run.path),
        "bundled": bundled,
        "data": config.data.name,
        "backbone": model.backbone,
        "image_size": model.image_size,
        "resize": model.resize,
        "bypass": bypass,
        "predictor": predictor,
        "epochs": epochs,
        "epochs_planned": planned,
        "records": records,
        "outdated_records": outdated,
        "facts": one_line(", ".join(parts)),
    }


def diagnose() -> dict[str, Any]:
    """Versions, device, threads, cache, weights, data and runs, as plain JSON values."""
    from ..inference.device import device_facts

    weights = {name: path for name in SOURCES if (path := cached_weights(name)).is_file()}
    unfetched = "not fetched: run `dmpo-explore fetch --backbone {}`"
    versions = {"dmpo-explore": __version__, "python": sys.version.split()[0]}
    return {
        "versions": versions | {package: _installed(package) for package in PACKAGES},
        **device_facts()._asdict(),
        "cache": str(cache_dir()),
        "weights": {name: str(weights.get(name, unfetched.format(name))) for name in SOURCES},
        "data": {name: _present(name) for name in DATASETS},
        "runs_root": str(runs_root().resolve()),
        "runs": list_runs(),
    }


def app_file() -> Path:
    """The app's main.py: beside this package, else the installed one.

    Raises:
        ImportError: Streamlit is not installed.
        FileNotFoundError: there is no app beside this package.
    """
    if find_spec("streamlit") is None:
        raise missing_extra("the app", "streamlit", "app")
    spec = find_spec("dmpo_explore_app")
    folders = [Path(__file__).parents[2] / "app", *map(Path, (spec and spec.submodule_search_locations) or ())]
    for folder in folders:
        if (folder / "dmpo_explore_app.py").is_file():
            return folder / "main.py"
    raise FileNotFoundError(f"no main.py in {' or '.join(map(str, folders))}; install dmpo-explore again")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f"not installed{install_hint(package)}"


def _present(data: str) -> str:
    try:
        return f"{len(load_images(data, 'train')):,} training images"
    except Exception as error:  # of a plug-in of any kind
        plain = isinstance(error, OSError | ValueError | ImportError)
        return f"{'' if plain else f'{type(error).__name__}: '}{one_line(error)}"


@app.command()
def runs(as_json: Json = False) -> None:
    """List runs: bundled ones and those in ./runs (or $DMPO_EXPLORE_RUNS)."""
    rows = [run_facts(name) for name in list_runs()]
    print_result(
        rows,
        as_json,
        [f"{row['run']:<20}  {row['facts']}" for row in rows] or ["no runs yet; make one with `dmpo-explore train`"],
    )


@app.command("app")
def app_command(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; default: Streamlit's, 8501.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: this machine only.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name that browsers may use, e.g. a proxy's; may be repeated."),
    ] = None,
    token: Annotated[bool, typer.Option("--token", help="Answer only browsers that open the printed address.")] = False,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Start the app in a browser; Ctrl-C ends it.

    By default only browsers on this machine can open it. With --host or --allow-host, trainings cannot be started and
    folders cannot be opened in it; see SECURITY.md for a proxy with a login. Wherever the app is reached through
    something else, such as a forwarded port, use --token.
    """
    if token:
        os.environ["DMPO_EXPLORE_TOKEN"] = os.environ.get("DMPO_EXPLORE_TOKEN") or secrets.token_urlsafe(24)
    options = [f"--server.headless={str(token or not browser).lower()}", f"--server.address={host or 'localhost'}"]
    options += [f"--server.port={port}"] if port else []
    if allow_host:
        options += [f"--server.allowedHosts={name}" for name in ("localhost", "127.0.0.1", "::1", *allow_host)]
    elif host and not _is_loopback(host):
        options += ["--server.allowedHosts=*"]
    command = [sys.executable, "-m", "streamlit", "run", str(app_file().with_name("server.py"))]
    raise typer.Exit(_run_app([*command, *options]))


def _run_app(command: list[str]) -> int:
    """Run the server until it ends, and return its exit status; Ctrl-C and signals that end this process end it."""
    # In a process group of its own: Ctrl-C in a terminal reaches only this process, which ends the server quietly.
    process = subprocess.Popen(command, process_group=0) if os.name == "posix" else subprocess.Popen(command)
    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
    before = {kind: signal.signal(kind, lambda number, frame: process.terminate()) for kind in kinds}
    try:
        status = process.wait()
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    return 0 if status == -signal.SIGTERM else status


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show versions, the device, and which weights, data sets and runs are present."""
    facts = diagnose()
    plain = {key: value for key, value in facts.items() if not isinstance(value, dict)}
    lines = [f"{key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in plain.items()]
    nested = [(key, value) for key, value in facts.items() if isinstance(value, dict)]
    print_result(facts, as_json, lines + [f"{key} {name}: {v}" for key, value in nested for name, v in value.items()])


# `dmpo-explore check`: everything that is wrong with a run folder or a record folder.

FOLDER = "A run or record folder, own scores (a file, or a folder); or a run by name or as hf://OWNER/NAME[@REVISION]."


@app.command()
def check(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help=FOLDER)],
    as_json: Json = False,
) -> None:
    """Check the files of a run, a record or own scores; list every problem with its file and value.

    Of own scores it says what was understood, and what looks wrong. No image is read and no file is changed. The
    exit status is 0 if all is valid, else 1. The page *Files* of the documentation has the format.
    """
    from ..runs.check import check_folder
    from ..runs.hub import PREFIX
    from ..runs.store import list_runs, load_run

    by_name = folder.startswith(PREFIX) or (not Path(folder).exists() and folder in list_runs())
    found = check_folder(load_run(folder).path if by_name else folder)
    count = len(found.problems)
    ending = "valid" if found.valid else f"{count} problem{'s' * (count > 1)}"
    facts = f" ({found.facts})" * bool(found.facts)
    lines = [f"{found.kind} {found.path}{facts}: {ending}", *(f"- {problem.text}" for problem in found.problems)]
    print_result(found.to_dict(), as_json, lines)
    if not found.valid:
        say(f"error: {found.path} is not valid; correct {'this' if count == 1 else 'these'} and repeat")
        raise typer.Exit(1)
