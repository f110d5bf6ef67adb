"""`dmpo-explore fetch`, `train` and `record`."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..jobs.progress import ProgressFile
from .options import config_from, config_options
from .output import Bar, clock, epoch_line, percents, print_result, say
from .root import Device, Json, ProgressPath, RunName, app

if TYPE_CHECKING:
    from ..config import Config
    from ..runs.run import Run
    from ..training.loop import EpochResult


DEFAULT_BACKBONE, DEFAULT_DATA = "vit_small_patch14_dinov2", "fashion-mnist"


@app.command()
def fetch(
    backbone: Annotated[list[str] | None, typer.Option(help=f"Backbone, e.g. {DEFAULT_BACKBONE}.")] = None,
    data: Annotated[list[str] | None, typer.Option(help=f"Data set, e.g. {DEFAULT_DATA}.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder for the data; default: the cache.")] = None,
    as_json: Json = False,
) -> None:
    """Download what training needs into the cache: by default the default backbone's weights and Fashion-MNIST."""
    from ..data.images import fetch_data
    from ..pretrained.weights import fetch_weights

    if not backbone and not data:
        backbone, data = [DEFAULT_BACKBONE], [DEFAULT_DATA]
    found: dict[str, dict[str, str]] = {"weights": {}, "data": {}}
    with Bar() as bar:
        for name in backbone or ():
            found["weights"][name] = str(fetch_weights(name, lambda what, done, total: bar.to(done, total, what)))
    for name in data or ():
        found["data"][name] = str(fetch_data(name, data_root))
    print_result(found, as_json, [f"{name}: {path}" for kind in found.values() for name, path in kind.items()])


@app.command()
@config_options
def train(
    name: Annotated[str | None, typer.Option(help="Name of the run; default: data, predictor and the time.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with this run behind its last finished epoch.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Start from this config; options below change it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a run of that name.")] = False,
    device: Device = "auto",
    tracker: Annotated[
        list[str] | None, typer.Option(help="Write a log for e.g. tensorboard. May be repeated.")
    ] = None,
    and_record: Annotated[bool, typer.Option("--record", help="Record val and test behind the last epoch.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Time a few steps, say how long and how much memory it takes, and stop.")
    ] = False,
    progress: ProgressPath = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Train a run. Ctrl-C or a kill loses at most the running epoch; `--resume RUN` goes on."""
    from ..config import Config
    from ..runs.run import read_config
    from ..runs.store import load_run

    _hear_ctrl_c(progress)
    if resume and (name or force or config):
        raise typer.BadParameter("goes on with the run's own name and config", param_hint="--resume")
    base = load_run(resume).config if resume else read_config(config) if config else Config()
    chosen = config_from(base, settings)
    if estimate:
        _estimate(chosen, device, as_json)
        return
    from ..training.train import default_name, train_epochs

    name = resume or name or default_name(chosen)
    main = os.environ.get("RANK", "0") == "0"
    file = ProgressFile(progress if main else None)
    results: list[EpochResult] = []
    first = len(load_run(resume).history()) if resume else 0
    with Bar(hide=not main) as bar:

        def on_step(done: int, steps: int, loss: float) -> None:
            seen = f", val {percents(results[-1].accuracy)}" if results else ""
            epoch, epochs = first + len(results), chosen.training.epochs
            bar.to(epoch * steps + done, epochs * steps, f"epoch {epoch + 1}, loss {loss:.3f}{seen}")
            file.to("training", epoch * steps + done, epochs * steps, epoch=epoch + 1, epochs=epochs, loss=loss)

        try:
            for result in train_epochs(chosen, name, resume=resume is not None, force=force, device=device,
                                       trackers=tracker or (), on_step=on_step):  # fmt: skip
                results.append(result)
                bar.write(epoch_line(results))
        except KeyboardInterrupt:
            bar.clear()
            kept = f"go on with: dmpo-explore train --resume {name}" if results or resume else "no epoch was finished"
            say(f"stopped; {kept}")
            raise typer.Exit(130) from None
    if main:
        history = results[-1].run.history()  # with the epochs before a resumption
        best = history.loc[history["area"].idxmax()]
        answer = {"run": name, "path": str(results[-1].run.path), "best_epoch": int(best["epoch"]),
                  "area": float(best["area"]), "exit_accuracy": best.filter(like="accuracy_").tolist()}  # fmt: skip
        lines = [str(results[-1].run.path), f"next: dmpo-explore record {name}"]
        if and_record:
            splits = ["val", "test"]  # one that is there already is of older weights
            answer["records"] = _record(results[-1].run, splits, file, device=device, force=True)
            lines = [lines[0], *map(_recorded, answer["records"])]
        file.end()
        print_result(answer, as_json, lines)


@app.command()
def record(
    run: RunName,
    split: Annotated[list[str] | None, typer.Option(help="train, val or test; default: val and test.")] = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="no (float32), bf16 or fp16.")] = "no",
    batch_size: Annotated[int, typer.Option(min=1)] = 250,
    logits: Annotated[bool, typer.Option(help="Keep the logits too.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a record.")] = False,
    progress: ProgressPath = None,
    as_json: Json = False,
) -> None:
    """Run every exit of a run over a split and keep the scores; every later question is asked of them."""
    from ..runs.store import load_run

    _hear_ctrl_c(progress)
    opened, splits = load_run(run), split or ["val", "test"]
    for name in splits:
        if name in opened.splits() and not force:
            raise FileExistsError(
                f"run {opened.name!r} has a {name} record; replace it with --force, or choose --split"
            )
    file = ProgressFile(progress)
    answer = _record(
        opened, splits, file, device=device, precision=precision, batch_size=batch_size, keep_logits=logits, force=force
    )
    file.end()
    print_result(answer, as_json, list(map(_recorded, answer)))


def _hear_ctrl_c(progress: Path | None) -> None:
    """A job is stopped with it (`jobs.stop`), also one below a shell's background process, where it is ignored."""
    if progress:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _record(run: Run, splits: list[str], file: ProgressFile, **how: Any) -> list[dict[str, Any]]:
    """Record ``splits`` with a bar; a row for each."""
    from ..inference.torch_recording import record_run

    rows: list[dict[str, Any]] = []
    with Bar() as bar:
        for name in splits:

            def shown(done: int, total: int, name: str = name) -> None:
                bar.to(done, total, name)
                file.to(f"recording {name}", done, total)

            try:
                made = record_run(run, name, progress=shown, **how)
            except KeyboardInterrupt:
                bar.clear()
                left = [f"--split {split}" for split in splits[len(rows) :]] + ["--force"] * how.get("force", False)
                say(f"stopped; go on with: dmpo-explore record {run.name} {' '.join(left)}")
                raise typer.Exit(130) from None
            accuracy = made.correct.mean(axis=0).tolist()
            path = str(run.path / "records" / name)
            rows.append({"split": name, "images": made.n_images, "exit_accuracy": accuracy, "path": path})
    return rows


def _recorded(row: dict[str, Any]) -> str:
    return f"{row['split']}: {row['images']:,} images, exits {percents(row['exit_accuracy'])}"


def _estimate(config: Config, device: str, as_json: bool) -> None:
    """Time a few steps and say what the whole takes."""
    from ..jobs.estimate import estimate_training, measure_rates

    rates = measure_rates(config, device)
    found = estimate_training(config, rates)
    answer = {"seconds": found.seconds, "training_seconds": found.training, "recording_seconds": found.recording,
              "memory_bytes": found.memory, "rates": dataclasses.asdict(rates)}  # fmt: skip
    low, high = map(clock, found.seconds)
    small, large = (size / 2**30 for size in found.memory)
    print_result(
        answer,
        as_json,
        [
            f"{low} to {high} (minutes:seconds), of them {clock(found.recording)} to record val and test",
            f"{small:.1f} to {large:.1f} GiB of memory",
            f"from {len(rates.steps)} steps of {rates.batch_size} images on {rates.device}, as busy as it is now",
        ],
    )
