"""``dmpo-explore …``: one command, one library call, one way to show it.

stdout carries the answer (with ``--json`` nothing but JSON), stderr progress and errors. Exit status: 0 done, 1 failed
(one line on stderr), 2 wrong usage, 130 stopped by Ctrl-C. A command imports what it needs when it runs, so that help,
``runs``, ``policies`` and ``evaluate`` are quick and load no torch.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..jobs.progress import ProgressFile
from .options import WISH_PANEL, config_from, config_options, refuse_beside, wish_from, wish_options
from .output import Bar, clock, epoch_line, percents, print_result, say

if TYPE_CHECKING:
    from ..config import Config
    from ..policies.catalogue import Policy
    from ..runs.run import Run
    from ..training.loop import EpochResult

DEFAULT_BACKBONE, DEFAULT_DATA = "vit_small_patch14_dinov2", "fashion-mnist"


class _Group(TyperGroup):
    """Turns the library's errors into one line; --debug shows where they come from."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, typer.Exit, typer.Abort):
            raise
        except (ValueError, OSError, FloatingPointError, ImportError, RuntimeError) as error:
            if ctx.params.get("debug"):
                raise
            say(f"error: {' '.join(str(error).split())}")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Group, no_args_is_help=True, rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")]
ProgressPath = Annotated[
    Path | None, typer.Option("--progress", metavar="FILE.json", help="Keep a file up to date with how far it is.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run (see `dmpo-explore runs`) or its folder.")]
Flops = Annotated[
    list[float] | None,
    typer.Option(
        help="Compute budget as a fraction of the plain backbone's, e.g. 0.3. May be repeated.",
        rich_help_panel=WISH_PANEL,
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dmpo-explore {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="DMPO_EXPLORE_DEBUG", help="Show a traceback when something fails.")
    ] = False,
) -> None:
    """Early-exit vision models by DMPO: train them, record them once, ask many times."""
    del version, debug  # the latter is read by _Group


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
    from ..runs.run import load_run, read_config

    _hear_ctrl_c(progress)
    if resume and (name or force or config):
        raise typer.BadParameter("goes on with the run's own name and config", param_hint="--resume")
    base = load_run(resume).config if resume else read_config(config) if config else Config()
    chosen = config_from(base, settings)
    if estimate:
        _estimate(chosen, device, as_json)
        return
    from ..training.train import default_name
    from ..training.train import train as run_training

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
            for result in run_training(chosen, name, resume=resume is not None, force=force, device=device,
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
    from ..runs.run import load_run

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
    from ..training.train import record_run

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
            rows.append({"split": name, "images": made.images, "exit_accuracy": accuracy, "path": path})
    return rows


def _recorded(row: dict[str, Any]) -> str:
    return f"{row['split']}: {row['images']:,} images, exits {percents(row['exit_accuracy'])}"


def _estimate(config: Config, device: str, as_json: bool) -> None:
    """Time a few steps and say what the whole takes."""
    from ..jobs.estimate import estimate, measure_rates

    rates = measure_rates(config, device)
    found = estimate(config, rates)
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


@app.command()
@wish_options
def evaluate(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs or their folders.")],
    flops: Flops = None,
    all_policies: Annotated[
        bool, typer.Option("--all-policies", help="Every policy at 30, 50, 70 % compute and at most 1 point lost.")
    ] = False,
    protocol: Annotated[
        str | None, typer.Option(help="anytime (a row per exit) or budgeted (a row per share that goes on).")
    ] = None,
    split: Annotated[str, typer.Option(help="Record that is judged.")] = "test",
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Accuracy difference to this run, with a 95 % interval.")
    ] = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Fit a policy on val, apply it to test: accuracy, compute, who leaves where.

    --flops is a ceiling: the threshold with the best accuracy on val among those that cost no more. Without a wish:
    30, 50, 70 and 100 % of the plain backbone's compute (as far as the run can meet them),
    and "full": every image at the last exit. 100 % is a budget like the others: at most what the plain backbone costs.
    A run's full depth may cost more, since tuning, bypasses and predictors count.

    --against compares on the same images, by a paired bootstrap; the other run gets the same wish, fitted on its own
    val (a run with a single exit is taken as it is). With --json one answer is an object, several are an array.

    --risk is a promise: with probability 1 - delta over the validation images, new images like them have at most the
    risk epsilon. Where no threshold can be certified nobody leaves early.
    """
    from ..analysis.evaluation import evaluate_policies, evaluate_protocol, evaluate_runs, policy_table, table

    wish = wish_from(settings)
    if all_policies or protocol:
        given = {"--protocol": all_policies and protocol, "--flops": flops, "--against": against, "other wishes": wish}
        refuse_beside("--all-policies" if all_policies else "--protocol", given)
    if all_policies:
        rows = evaluate_policies(runs, split=split)
        print_result(rows, as_json, policy_table(rows))
        return
    if protocol:
        rows = evaluate_protocol(runs, protocol, split=split)
    else:
        rows = evaluate_runs(runs, settings["policy"], flops=flops, split=split, against=against, **wish)
    print_result(rows[0] if len(rows) == 1 else rows, as_json, table(rows))
    for row in rows:
        if row.get("note"):
            say(f"{row['run']}: {row['note']}")


def _fitted(run: Run, settings: dict[str, Any]) -> Policy:
    """What a run is used with: the wish fulfilled on val, by default the cheapest that loses no accuracy there."""
    from ..analysis.evaluation import fit_wish

    wish = wish_from(settings)
    if not {"flops", "accuracy_drop", "shares", "threshold", "risk"} & wish.keys():
        wish = wish | {"accuracy_drop": 0.0}
    fitted = fit_wish(run, settings["policy"], wish)
    if "note" in fitted.fitted:
        say(fitted.fitted["note"])
    return fitted


@app.command()
@wish_options
def predict(
    run: RunName,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Pictures, or folders of pictures.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file; default: stdout.")] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    **settings: Any,
) -> None:
    """Classify pictures; each really stops at its exit. CSV: file, label, exit (counted from 1), confidence.

    Without a wish the policy is the cheapest that loses no accuracy on val. A file that cannot be read is reported and
    the others go on; the exit status is then 1.
    """
    from ..data.image_files import find_pictures
    from ..runs.run import load_run
    from ..utils.files import write_text

    opened, files = load_run(run), find_pictures(paths)
    fitted = _fitted(opened, settings)
    from ..inference.torch_predict import predict_files, to_csv

    rows = []
    with Bar() as bar:
        for row in predict_files(opened, files, fitted, device=device, batch_size=batch_size):
            rows.append(row)
            bar.to(len(rows), len(files), "pictures")
    text = to_csv(rows)
    write_text(output, text) if output else typer.echo(text, nl=False)
    failed = [row.error for row in rows if row.error]
    for error in failed:
        say(f"error: {error}")
    if failed:
        raise typer.Exit(1)


@app.command()
@wish_options
def export(
    run: RunName,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an export.")] = False,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Write a run as one ONNX graph per stage, with its policy, for engines without torch.

    Without a wish the policy is the cheapest that loses no accuracy on val. `dx.OnnxEngine(DIR)` runs it; the README
    in the folder says how others can.
    """
    from ..runs.run import load_run

    opened = load_run(run)
    fitted = _fitted(opened, settings)
    from ..inference.torch_export import export_run

    with Bar() as bar:
        path = export_run(opened, out, fitted, force=force, progress=lambda k, stages: bar.to(k, stages, "stages"))
    size = sum(file.stat().st_size for file in path.iterdir())
    answer = {"run": opened.name, "path": str(path), "bytes": size, "policy": fitted.to_dict()}
    print_result(answer, as_json, [f"{path}: {size / 1e6:.1f} MB, {fitted.name} {fitted.thresholds}"])


@app.command()
def policies(as_json: Json = False) -> None:
    """What each policy does; T is its threshold."""
    from ..policies.catalogue import POLICIES

    rows = [
        {
            "policy": name,
            "rule": kind.rule.replace("**{}**", "T"),
            "summary": kind.summary,
            "reads": list(kind.reads),
            "deployable": kind.deployable,
        }
        for name, kind in POLICIES.items()
    ]
    print_result(rows, as_json, [f"{row['policy']:<21}{row['rule']}" for row in rows])


@app.command()
@config_options
def search(
    name: Annotated[str | None, typer.Option(help="Name of the study, and of its runs; default: by the time.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="STUDY", help="Go on with it, or join its workers.")] = None,
    front: Annotated[str | None, typer.Option(metavar="STUDY", help="Only show the front of this study.")] = None,
    space: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="What to try; settings below are fixed, not tried.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="End after so many trials, all workers' counted.")] = None,
    minutes: Annotated[float | None, typer.Option(help="End after so many minutes.")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Database that all workers see; default: a file in the runs root.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Draw the front.")] = None,
    search_seed: Annotated[int | None, typer.Option(min=0, help="Makes the proposals repeatable.")] = None,
    stopping: Annotated[bool, typer.Option(help="End trials that cannot extend the front any more.")] = False,
    patience: Annotated[int, typer.Option(min=1, help="Seconds until a silent worker's trial is given away.")] = 300,
    device: Device = "auto",
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Search training settings: high accuracy on val, low compute. The front is a set of runs.

    Every epoch of every trial is a candidate. Several workers may search together: start one, then others with
    --resume STUDY. Ctrl-C or a kill loses at most the running epoch.
    """
    from ..search.run import run_search
    from ..search.study import search_front
    from .search import SearchProgress, draw_front, front_lines, space_from

    if front and (name or resume or space or trials or minutes):
        raise typer.BadParameter("only shows a study; leave out what searches", param_hint="--front")
    if resume and name:
        raise typer.BadParameter("goes on with the study's own name", param_hint="--resume")
    if front:
        found = search_front(front, storage)
    else:
        chosen = space_from(space, settings, resume is not None)
        study = resume or name or f"search-{datetime.now():%Y%m%d-%H%M%S}"
        with Bar() as bar:
            shown = SearchProgress(bar, trials, minutes)
            try:
                found = run_search(study, chosen, resume=resume is not None, trials=trials, minutes=minutes,
                                   storage=storage, device=device, seed=search_seed, stopping=stopping,
                                   patience=patience, progress=shown.step, on_step=shown.tick)  # fmt: skip
            except KeyboardInterrupt:
                bar.clear()
                say(f"stopped; go on with: dmpo-explore search --resume {study}")
                raise typer.Exit(130) from None
    if figure:
        draw_front(found, figure)
    print_result(found.to_dict(), as_json, front_lines(found))


@app.command()
def runs(as_json: Json = False) -> None:
    """The runs there are: bundled ones and those in ./runs (or $DMPO_EXPLORE_RUNS)."""
    from ..runs.run import list_runs
    from .doctor import run_facts

    rows = [run_facts(name) for name in list_runs()]
    print_result(rows, as_json, [f"{row['run']:<20}  {row['facts']}" for row in rows] or ["no runs yet"])


@app.command("app")
def app_command(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: Streamlit's, 8501.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: this machine only.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Start the app."""
    from .doctor import app_file

    options = [f"--server.headless={str(not browser).lower()}", f"--server.address={host or 'localhost'}"]
    options += [f"--server.port={port}"] if port else []
    try:
        status = subprocess.call([sys.executable, "-m", "streamlit", "run", str(app_file()), *options])
    except KeyboardInterrupt:  # the usual way to stop it
        status = 0
    raise typer.Exit(status)


@app.command()
def doctor(as_json: Json = False) -> None:
    """What is installed, which device, and whether weights, data and runs are there."""
    from .doctor import diagnose

    facts = diagnose()
    plain = {key: value for key, value in facts.items() if not isinstance(value, dict)}
    lines = [f"{key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in plain.items()]
    nested = [(key, value) for key, value in facts.items() if isinstance(value, dict)]
    print_result(facts, as_json, lines + [f"{key} {name}: {v}" for key, value in nested for name, v in value.items()])


def main() -> None:
    """Entry point of the command ``dmpo-explore``."""
    app(prog_name="dmpo-explore")


if __name__ == "__main__":  # `python -m torch.distributed.run … -m dmpo_explore.cli train …`
    main()
