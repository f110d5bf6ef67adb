"""`dmpo-explore train`: a config from options, a training with its progress, and the run's best epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..jobs.progress_file import ProgressFile
from ..training.part_options import (
    RECIPES,
    TeacherOptions,
    described_recipes,
    has_own_teacher,
    teacher_name,
    with_recipe,
)
from ..utils.processes import is_main_process
from .options import changed, config_options, fitted, refuse_beside, typed_values
from .output import Bar, EpochReports, best_epoch, clock, print_result, say
from .record import enable_ctrl_c, record_line, record_trained
from .root import Device, Json, ProgressPath, app

if TYPE_CHECKING:
    from ..config import Config
    from ..data.manifest import Manifest
    from ..runs.run import Run
    from ..training.loop import EpochResult

TRACKER = "Also write a log for this tracker, e.g. tensorboard. May be repeated."
HELP = """Train a run and keep its best epoch.

Next: `dmpo-explore record RUN`. Ctrl-C or a kill loses at most the current epoch; `--resume RUN` continues, and so does
the same command with `--name`, where the config is the run's. With `--record` both make the records that are missing.

**Train longer.** `--resume RUN --epochs N` trains a run, finished or not, to N epochs in all. The further epochs use
the learning rates and loss weights of a training of N epochs. The learning rate therefore rises again, and a schedule
of two phases may return to its first phase. The best of all epochs is kept. Records of earlier weights are then
refused; `dmpo-explore record RUN --force` replaces them.

**Your own images** (`--data`) are one of these:

- a folder with one subfolder per class;

- a folder with `train`, `test` and optionally `val` and `calibration`, each with one subfolder per class. Upper and
lower case are equal; `training`, `valid`, `validation` and `testing` are accepted too;

- a CSV or Parquet table with the columns path and label, and optionally split and group. Paths are relative to the
table. Images of one group stay in one split;

- timm's name of a data set: `hfds/FOLDER` or `hfds/NAME` (needs `dmpo-explore[hf]`), `wds/FOLDER` of tar shards.

In place of `--data`, name one folder per split: `--train-dir`, `--val-dir`, `--calibration-dir`, `--test-dir`.

**Splits.** Images without splits are divided 60/10/10/20 into train, val, calibration and test: every class alike, by
`--data-seed`. If val is missing, 10 % of train become val; if calibration is missing, another 10 % become calibration.
val chooses the epoch. Thresholds are fitted on calibration, which is used for nothing else. No calibration split is
made with `--no-calibration`, where it would have fewer than 200 images, or where a class has fewer than 7 images; the
division is then 80/10/10. `--calibration` makes one in any case.

**Manifest.** The run keeps a list of all files with their SHA-256. Later commands take the splits from it, and stop
where an image is missing or changed. If the images were moved, name the new place: `--resume RUN --data FOLDER`, or
`--unlabelled FOLDER`.

**A teacher.** `--teacher RUN` lets the exits learn the answers of a finished run to augmented views of the images, and
`--unlabelled FOLDER` adds images that it alone answers. It may have larger images, but must have the same classes and
must not have been trained on images that this run holds out, nor its epoch be chosen on images of calibration or test.
Its answers are computed once, before the first step, and kept in the cache for all trainings on the same images. With
`--teacher own` it is made first, as the run NAME-teacher: the full model, trained on the same images without crops for
`--teacher-epochs`; the same command goes on with it where it was stopped
(with --force where images have changed since).

**Recipes** (`--recipe NAME --data FOLDER`) are options that were chosen together. What you type changes them.

RECIPES

**Several GPUs**, one process each: `torchrun --nproc_per_node 2 -m dmpo_explore.cli train --name RUN …`.
""".replace("RECIPES", described_recipes())
FAR_BEHIND = 0.1  # in accuracy on val, behind the own teacher
ESTIMATE = "Time a few steps, print the expected duration and memory of the training, and stop."


@app.command(help=HELP)
@config_options
def train(
    name: Annotated[str | None, typer.Option(help="Name of the run; default: data, predictor and the time.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Continue this run; with --epochs N, to N epochs in all.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json|RUN",
            help="Start from this config file, or from a run's config; the options below change it.",
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Start from these options; those below change them.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run of that name.")] = False,
    device: Device = "auto",
    tracker: Annotated[list[str] | None, typer.Option(help=TRACKER)] = None,
    and_record: Annotated[
        bool, typer.Option("--record", help="Record val, calibration and test after the last epoch.")
    ] = False,
    estimate: Annotated[bool, typer.Option("--estimate", help=ESTIMATE)] = False,
    progress: ProgressPath = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Train a run, see `HELP`."""
    enable_ctrl_c(progress)
    if resume:  # it keeps its name and config
        beside = {"--name": name, "--force": force, "--config": config, "--recipe": recipe, "--estimate": estimate}
        refuse_beside("--resume", beside)
    from ..data.images import open_data

    base = _resumed(resume, settings) if resume else base_config(config)
    base = with_recipe(recipe, base) if recipe else base
    typed = typed_values(settings)
    chosen = changed(base, typed)
    if not resume and config is None:
        chosen = fitted(chosen, typed, blocks=RECIPES[recipe].blocks if recipe else None)
    chosen = dataclasses.replace(chosen, data=open_data(chosen.data).config)
    if estimate:
        answer, lines = estimate_lines(chosen, device)
        print_result(answer, as_json, lines)
        return
    from ..runs.run import outdated_splits
    from ..runs.run_data import check_images
    from ..runs.store import load_run
    from ..training.checkpoint import is_finished
    from ..training.train import default_name, other_options

    is_main = is_main_process()
    file = ProgressFile(progress if is_main else None)
    name, how = resume or name or default_name(chosen), {"force": force, "device": device, "trackers": tracker or ()}
    others = partial(other_options, chosen, device=device)
    begun = load_run(resume) if resume else None if force else begun_run(name, others)
    with Bar(hide=not is_main, lines=True) as bar:
        if begun and is_finished(begun) and (and_record or not resume) and not others(begun):
            bar.write(f"run {name!r} is trained with this config; it is kept")
            run = begun
            if is_main:
                with suppress(FileNotFoundError):
                    check_images(run, ())  # warns of images that were added since
        else:
            run = _train(chosen, name, bar, file, resume=begun is not None, **how)
    # of the best epoch, those before a resumption included
    answer, again = best_epoch(run), " --force" * bool(outdated_splits(run))
    lines = [str(run.path), f"next: dmpo-explore record {run.name}{again}"]
    if and_record:
        answer["records"] = record_trained(run, file, device)
        lines = [lines[0], *map(record_line, answer["records"])]
    file.end()
    if is_main:
        print_result(answer, as_json, lines)
        if caution := behind_teacher(run, answer["exit_accuracy"][-1]):
            say(caution)


def base_config(place: str | None) -> Config:
    """The config in a file, or of a run by name, folder or address, else the default; an error lists both ways."""
    from ..config import Config
    from ..runs.hub import PREFIX
    from ..runs.run_files import read_config, read_config_file
    from ..runs.store import list_runs, load_run
    from ..utils.registry import unknown

    if place is None:
        return Config()
    if (path := Path(place)).is_file():
        of_a_run = path.name == "config.json" and (path.parent / "history.csv").is_file()
        return read_config(path) if of_a_run else read_config_file(path)
    runs = list_runs()
    if place in runs or place.startswith(PREFIX) or (path / "config.json").is_file():
        return load_run(place).config
    raise FileNotFoundError(f"--config takes a file or a run: no file {place}, and {unknown('run', place, runs)}")


def planned_config(data: str | None, place: str | None, settings: dict[str, Any]) -> Config:
    """The config of a planned training, as `train` would make it; usage error without data.

    Args:
        data: in place of ``--data``. place: of `base_config`.
    """
    typed = typed_values(settings)
    if data is None and place is None and not any(key.endswith("_dir") for key in typed):
        raise typer.BadParameter("give a folder, a table, a known data set, or --train-dir and --test-dir")
    chosen = changed(base_config(place), typed | ({} if data is None else {"data.name": data}))
    return chosen if place else fitted(chosen, typed)


def _resumed(name: str, settings: dict[str, Any]) -> Config:
    """The config of the run to resume; typed ``--data`` and ``--unlabelled`` are new locations of its images."""
    from ..runs.run_data import move_data
    from ..runs.store import load_run

    run, place, more = load_run(name), settings.pop("data"), settings.pop("unlabelled") or None
    if place is None and more is None:
        return run.config
    with Bar() as bar:
        return move_data(run, place, partial(bar.to, text="checking images"), unlabelled=more).config


def begun_run(name: str, others: Callable[[Run], str], command: str = "train") -> Run | None:
    """The run of that name, if it was begun with this very config; None if there is none that could go on.

    Args:
        others: the options in which a run differs, as text. command: that goes on with a run.

    Raises:
        FileExistsError: it has another config.
    """
    from ..runs.run_files import CHECKPOINT, RUN_NAME
    from ..runs.store import load_run, runs_root

    path = runs_root() / name
    if not RUN_NAME.fullmatch(name) or not (path / CHECKPOINT).is_file():
        return None
    if found := others(run := load_run(path)):
        raise FileExistsError(
            f"run {name!r} exists in {runs_root()}, with another config ({found}); choose another --name, replace it "
            f"with --force, or go on with it as it is: dmpo-explore {command} --resume {name} --record"
        )
    return run


@contextmanager
def held_for(name: str, reports: EpochReports, *, resume: bool) -> Iterator[Callable[[EpochResult], None]]:
    """Hold a run for this command: at once where it is there, else after its first epoch; yields what takes epochs."""
    from ..runs.run_files import RUN_NAME
    from ..runs.store import load_run, runs_root
    from ..training.checkpoint import WORKERS_END, held_run

    there = resume or (RUN_NAME.fullmatch(name) and (runs_root() / name / "config.json").is_file())
    with ExitStack() as held:

        def on_epoch(result: EpochResult) -> None:
            if not there and not reports.results:  # the run is there now
                with suppress(BlockingIOError):
                    held.enter_context(held_run(name))
            reports.on_epoch(result)

        if there:
            held.enter_context(held_run(load_run(name).name if resume else name, wait=WORKERS_END))
        yield on_epoch


def _train(config: Config, name: str, bar: Bar, file: ProgressFile, *, resume: bool, **how: Any) -> Run:
    """Train with a bar, a line per epoch and the progress file; Ctrl-C prints how to continue."""
    from ..data.manifest import OWN
    from ..data.splits import UNLABELLED
    from ..fitting.risk_control import certifiable
    from ..runs.run_files import CHECKPOINT, checkpoint_epoch
    from ..runs.store import load_run, runs_root
    from ..training.train import train as train_run

    first = (checkpoint_epoch(load_run(name).path / CHECKPOINT) or 0) if resume else 0
    reports = EpochReports(bar, file, "training", first, config.training.epochs)

    def on_data(manifest: Manifest) -> None:
        bar.clear()
        if first:
            bar.write(f"run {name!r} goes on after epoch {first}")
        if manifest.data == OWN or not manifest.rows(UNLABELLED).empty:
            bar.write(f"data: {manifest.described()}")
        bar.write(certifiable(manifest.counts.get("calibration", 0)))

    hooks: dict[str, Any] = {
        "on_step": reports.on_step,
        "on_check": partial(reports.before, "checking images"),
        "on_teacher": partial(reports.before, "training its teacher"),
        "on_answers": partial(reports.before, "teacher answers"),
    }
    if has_own_teacher(config) and not first and is_main_process():
        bar.write(f"run {name!r}: its teacher, the run {teacher_name(name)!r}, is trained first")
    try:
        with held_for(name, reports, resume=resume) as on_epoch:
            return train_run(config, name, resume=resume, on_data=on_data, progress=on_epoch, **hooks, **how)
    except KeyboardInterrupt:
        taught = has_own_teacher(config) and (runs_root() / teacher_name(name)).exists()
        again = f"its teacher is kept; go on with the same command and --name {name}" if taught else ""
        reports.stopped(f"dmpo-explore train --resume {name}", again)


def behind_teacher(run: Run, last: float) -> str:
    """What to do where the last exit's accuracy on val is far below that of the run's own teacher, or an empty text."""
    from ..runs.store import list_runs, load_run

    teacher = run.config.training.part(TeacherOptions).teacher
    if teacher != teacher_name(run.name) or teacher not in list_runs():
        return ""
    taught = best_epoch(load_run(teacher))["exit_accuracy"][-1]
    if taught - last < FAR_BEHIND:
        return ""
    return (
        f"caution: on val the last exit is correct on {last:.0%} and its teacher {teacher} on {taught:.0%}: the run "
        f"has not learned what its teacher knows. Train it longer (--resume {run.name} --epochs N) or with more images"
    )


def estimate_lines(config: Config, device: str) -> tuple[dict[str, Any], list[str]]:
    """The expected duration and memory of a training from a few timed steps, as JSON values and as lines."""
    from ..data.images import open_data
    from ..fitting.risk_control import certifiable, smallest_risk
    from ..jobs.estimate import estimate_training, measure_rates
    from ..models.factory import build_reference
    from ..models.flops import config_flops
    from ..training.train_data import preflight

    exits = build_reference(config.model, 2).exits  # wrong settings stop here, before any step
    flops = config_flops(config.model, len(open_data(config.data).images("train").class_names))
    shares = [round(part / flops.reference, 3) for part in flops.cumulative]
    with Bar(lines=True) as bar:
        preflight(config, on_check=lambda done, total: bar.to(done, total, "checking images")).require()
        rates = measure_rates(config, device, lambda done, steps: bar.to(done, steps, "timing steps"))
    found = estimate_training(config, rates)
    answer = {"seconds": found.seconds, "training_seconds": found.training, "recording_seconds": found.recording,
              "teaching_seconds": found.teaching, "memory_bytes": found.memory,
              "exits": list(exits[: len(shares)]), "flops_fractions": shares,
              "reference_flops": flops.reference, "rates": dataclasses.asdict(rates),
              "smallest_risk": smallest_risk(rates.calibration)}  # fmt: skip
    low, high, n, timed = *map(clock, found.seconds), config.training.epochs, len(rates.steps)
    small, large = (size / 2**30 for size in found.memory)
    taught = f", {clock(found.teaching)} of it for its teacher" if found.teaching else ""
    at = ", ".join(f"{block} ({share:.0%})" for block, share in zip(exits, shares, strict=False))
    return answer, [
        f"exits after blocks {at} of the plain backbone's {flops.reference / 1e9:.3g} GFLOPs",
        f"{low} to {high} (minutes:seconds) for {n} epoch{'s' * (n > 1)}, {clock(found.recording)} of it to record"
        + taught,
        f"{small:.1f} to {large:.1f} GiB of memory",
        f"measured on {timed} step{'s' * (timed > 1)} of {rates.batch_size} images on {rates.device} under its present "
        "load; beside other work it may take several times as long",
        certifiable(rates.calibration),
    ]
