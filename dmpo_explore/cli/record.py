"""`dmpo-explore record`: the scores of every exit on a split, kept for all later evaluations."""

from __future__ import annotations

import inspect
import shlex
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..jobs.progress_file import ProgressFile
from ..utils.processes import is_main_process
from .options import refuse_beside
from .output import Bar, percents, print_result, say
from .root import Device, Json, ProgressPath, RunName, app

if TYPE_CHECKING:
    from ..runs.run import Run

FEATURES = "Also keep the features of every exit; Explore draws a map of the images from them."
SCORE = "A further score, of a plug-in, to store; with the logits all can be computed later. May be repeated."
OTHER_DATA = "Record other images with the run's classes, as NAME-SPLIT; default splits: calibration and test."
OTHER_SPLITS = ("calibration", "test")


@app.command()
def record(
    run: RunName,
    split: Annotated[
        list[str] | None, typer.Option(help="train, val, calibration or test; default: all but train.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="New folder of the run's images, if they were moved; they are checked first.")
    ] = None,
    other_data: Annotated[str | None, typer.Option(metavar="NAME|FOLDER", help=OTHER_DATA)] = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="no (float32), bf16 or fp16.")] = "no",
    batch_size: Annotated[int, typer.Option(min=1, help="Batch size.")] = 250,
    logits: Annotated[
        bool,
        typer.Option(help="Also keep the logits; temperatures, Brier score, likelihood and further scores need them."),
    ] = True,
    features: Annotated[bool, typer.Option("--features", help=FEATURES)] = False,
    score: Annotated[list[str] | None, typer.Option(help=SCORE)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing records.")] = False,
    progress: ProgressPath = None,
    as_json: Json = False,
) -> None:
    """Run a split through every exit of a run, and keep the scores.

    All evaluations read these scores; the model does not run again. Next: `dmpo-explore evaluate RUN`.

    Records of the run's present weights and images are kept; the same command makes those that are missing. Batches are
    written as they are computed: after Ctrl-C or a kill, it continues after the last written one. Records of earlier
    weights, or without what was asked for, are an error; --force replaces all.

    Several processes share the work, one GPU each: `torchrun --nproc_per_node 2 -m dmpo_explore.cli record RUN`.

    The splits are those of the training, from the run's manifest. Images that were added later belong to no split. A
    missing, renamed or changed image is an error that names the file. With --data, existing records are kept.

    **Other images** (`--other-data`), such as those of another camera or shop, are recorded beside the run's own:
    `dmpo-explore evaluate RUN --transfer NAME` then tells what the run's thresholds do there.

    A run on a known data set of arrays, such as CIFAR, that was trained without a calibration split can get one
    afterwards, from the images that --train-size left out: `--split calibration`.
    """
    from ..runs.run_data import default_splits, kept_records, move_data
    from ..runs.store import load_run

    enable_ctrl_c(progress)
    opened, file = load_run(run), ProgressFile(progress if is_main_process() else None)
    refuse_beside("--other-data", {"--data": data and other_data})
    how: dict[str, Any] = {
        "device": device, "precision": precision, "batch_size": batch_size, "keep_logits": logits,
        "keep_features": features, "scores": score or [], "other_data": other_data, "force": force,
    }  # fmt: skip
    splits = list(dict.fromkeys(split or (OTHER_SPLITS if other_data else default_splits(opened.path))))
    if data is not None:
        with Bar() as bar:
            opened = move_data(opened, data, lambda done, total: bar.to(done, total, "checking images"))
        say(f"the images of run {opened.name!r} are read from {opened.config.data.root or opened.config.data.name}")
        splits = [name for name in splits if force or name not in opened.splits()]
    kept = {} if force else kept_records(opened, splits, **how)
    answer = record_splits(opened, splits, file, kept, **how)
    file.end()
    if is_main_process():
        print_result(answer, as_json, list(map(record_line, answer)))


def enable_ctrl_c(progress: Path | None) -> None:
    """Let Ctrl-C stop a job (`jobs.stop`) also below a shell's background process, where it is ignored."""
    if progress:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def record_trained(run: Run, file: ProgressFile, device: str) -> list[dict[str, Any]]:
    """Record the default splits of a trained run; a record of its present weights is kept, any other is replaced."""
    from ..runs.run_data import default_splits, kept_records

    splits = list(default_splits(run.path))
    kept: dict[str, Any] = {}
    for split in splits:
        with suppress(ValueError, OSError):
            kept |= kept_records(run, [split])
    return record_splits(run, splits, file, kept, device=device, force=True)


def record_splits(
    run: Run, splits: list[str], file: ProgressFile, kept: Mapping[str, Any], **how: Any
) -> list[dict[str, Any]]:
    """Record those of ``splits`` that are not ``kept``, with a progress bar; one row for each.

    Args:
        kept: split → its record. how: arguments of `record_run`.
    """
    from ..analysis.metrics import one_answer
    from ..analysis.tables import write_card_results
    from ..fitting.fit import few_images
    from ..inference.torch_recording import record_run
    from ..runs.run_data import fits_policies
    from ..runs.run_files import record_name
    from ..runs.store import clear_runs

    rows: list[dict[str, Any]] = []
    if is_main_process():
        clear_runs(run.path)  # what a kill left beside records that are kept
    with Bar(hide=not is_main_process(), lines=True, file=file) as bar:
        for split in splits:
            name = record_name(how["other_data"], split) if how.get("other_data") else split
            shown, checked = (partial(bar.to, text=f"{what} {name}") for what in ("recording", "checking"))
            try:
                made = kept.get(split) or record_run(run, split, progress=shown, on_check=checked, **how)
            except KeyboardInterrupt:
                bar.clear()
                if is_main_process():
                    say(f"stopped; continue with: {command_of(run.quoted, splits[len(rows) :], **how)}")
                raise typer.Exit(130) from None
            if fits_policies(run, name) and (text := few_images(made.n_images, name)):
                bar.write(f"caution: {text}")
            for text in one_answer(made):
                bar.write(f"caution: {text}")
            row = {"split": name, "images": made.n_images, "exit_accuracy": made.correct.mean(axis=0).tolist()}
            rows.append(row | {"path": str(run.path / "records" / name), "kept": split in kept})
            if is_main_process():
                write_card_results(run)
    return rows


def command_of(
    run: str,
    splits: list[str],
    *,
    force: bool = False,
    keep_logits: bool = True,
    keep_features: bool = False,
    scores: Sequence[str] = (),
    **how: Any,
) -> str:
    """The command that records ``splits`` with these arguments of `record_run`; defaults are left out."""
    from ..inference.torch_recording import record_run

    usual = inspect.signature(record_run).parameters
    options = [f"--split {name}" for name in splits]
    given = {name: str(value) for name, value in how.items() if value != usual[name].default}
    options += [f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in given.items()]
    options += [f"--score {shlex.quote(name)}" for name in scores]
    options += ["--no-logits"] * (not keep_logits) + ["--features"] * keep_features + ["--force"] * force
    return f"dmpo-explore record {run} {' '.join(options)}"


def record_line(row: dict[str, Any]) -> str:
    """A row of `record_splits` as text."""
    return (
        f"{row['split']}: {row['images']:,} images, exits {percents(row['exit_accuracy'])}"
        f"{'; this record was there and is kept' * row['kept']}"
    )
