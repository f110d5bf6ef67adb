"""`dmpo-explore search`: a search space from options and a file, progress, and the front as a table."""

from __future__ import annotations

import dataclasses
import shlex
import signal
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import OPTIONS, Config
from ..search.samplers import SAMPLERS, SamplerConfig
from ..utils.files import begins_with, require_ours, write_text
from ..utils.options import options_of, read_options
from .options import config_options, fitted, refuse_beside, settings_options, typed_values
from .output import Bar, clock, print_result, say
from .root import Device, Json, app

if TYPE_CHECKING:
    from ..search.search_run import SearchStep
    from ..search.space import SearchSpace
    from ..search.study import SearchFront

FIGURE = "<!-- dmpo-explore: the front of a search -->"  # first line of a figure
SHOWN = 6  # points of the front in a line
PATIENCE = 300  # seconds
PREFERRED = SamplerConfig().sampler
Sampler = Annotated[
    str | None, typer.Option(help=f"Proposes settings: {', '.join(SAMPLERS)}. Default: {PREFERRED}, or the study's.")
]


def space_from(file: Path | None, settings: Mapping[str, Any], resume: bool) -> SearchSpace | None:
    """The space of a new study: the file's or the default one, with the typed options fixed; None to resume a study."""
    typed = typed_values(settings)
    if resume:
        if file or typed:
            raise typer.BadParameter("a resumed study keeps its space; leave out --space and settings",
                                     param_hint="--resume")  # fmt: skip
        return None
    from ..search.space import default_space, read_space

    space = read_space(file) if file else default_space()
    space = space.fix(typed) if typed else space
    default = Config()
    in_file = [key for key in OPTIONS if space.base.get(key) != default.get(key)]
    space = dataclasses.replace(space, base=fitted(space.base, [*typed, *space.domains, *in_file]))
    if file or not {"model.backbone", "model.image_size"} & typed.keys():
        return space
    from ..training.train import refusal

    space, left_out = space.without(refusal)  # the default space was made for the default backbone
    for reason in left_out:
        say(f"not tried: {reason}")
    return space


def sampler_from(name: str | None, settings: Mapping[str, Any]) -> SamplerConfig | None:
    """The sampler that was typed, with its options; None if nothing was."""
    spelled = {key: settings.get(found.spelling.replace("-", "_")) for key, found in options_of(SamplerConfig).items()}
    typed = {key: value for key, value in {**spelled, "sampler": name}.items() if value is not None}
    return read_options(SamplerConfig, typed, "sampler") if typed else None


def continued(study: str, sampler: SamplerConfig | None, **typed: Any) -> str:
    """The command that continues a search.

    Args:
        sampler: the one that was typed. typed: option → value, of the other options that were.
    """
    found = options_of(SamplerConfig)
    words = ["dmpo-explore", "search", "--resume", study]
    for name, value in typed.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] * value if isinstance(value, bool) else [] if value is None else [flag, f"{value}"]
    for name, value in (sampler.values() if sampler else {}).items():
        words += ["--sampler", value] if name == "sampler" else found[name].arguments(value)
    return shlex.join(words)


class SearchProgress:
    """Progress of a search: a line per epoch and trial, and a bar."""

    def __init__(self, bar: Bar, trials: int | None, minutes: float | None) -> None:
        self.bar, self.trials, self.minutes = bar, trials, minutes
        self.start, self.done, self.text = time.monotonic(), 0, "first trial"

    def step(self, step: SearchStep) -> None:
        """Write a line for a step of the search."""
        self.done, self.text = step.trials, f"hypervolume {step.hypervolume:.4f}"
        self.bar.write(step_line(step))

    def tick(self, done: int, steps: int, loss: float) -> None:
        """Move the bar by the elapsed time or by the finished trials."""
        if self.minutes is not None:
            seconds = min(int(time.monotonic() - self.start), int(60 * self.minutes))
            self.bar.to(max(seconds, 1), max(int(60 * self.minutes), 1), f"{self.text}, loss {loss:.3f}")
        elif self.trials is not None:
            self.bar.to(min(self.done + 1, self.trials), self.trials, f"{self.text}, step {done}/{steps}")


def step_line(step: SearchStep) -> str:
    """A step of the search as text; after a trial with at most `SHOWN` points of the front."""
    if step.what == "epoch":
        size = f"front of {len(step.front)} points, hypervolume {step.hypervolume:.4f}"
        return f"trial {step.trial}: epoch {step.epoch}/{step.epochs}; {size}"
    if step.what == "failed":
        return f"trial {step.trial}: could not be trained: {' '.join(step.note.split())}"
    chosen = dict.fromkeys(round(i * (len(step.front) - 1) / (SHOWN - 1)) for i in range(SHOWN) if step.front)
    points = ", ".join(f"{step.front[i][0]:.1%} at {step.front[i][1]:.0%}" for i in chosen) or "none yet"
    ending = f"stopped after epoch {step.epoch}/{step.epochs}"
    return f"trial {step.trial}: {ending if step.what == 'stopped' else 'finished'}; front: {points}"


def draw_front(front: SearchFront, path: Path) -> None:
    """Write the front as an HTML page, whole or not at all."""
    from ..figures.study import front_figure

    text = front_figure(front.table, front.epochs, "plotly_white").to_html(include_plotlyjs=True)
    write_text(path, f"{FIGURE}\n{text}")


def front_lines(front: SearchFront) -> list[str]:
    """The front as a table of text, and the next command."""
    from ..search.study import settings_text

    trials = ", ".join(f"{count} {state}" for state, count in front.trials.items() if count) or "none yet"
    seconds = "" if front.goal.max_seconds is None else f", {front.goal.max_seconds:g} s"
    lines = [
        f"study {front.study}: trials: {trials}; {len(front.epochs)} epochs; hypervolume {front.hypervolume:.4f} "
        f"(reference: accuracy 0, compute {front.goal.max_flops:.0%}{seconds})",
        f"{'compute':>8}  {'val':>7}  {'training':>8}  run",
    ]
    for row in front.table.to_dict("records"):
        where = row["run"] if row["here"] else f"{row['run']} (not in this runs root)"
        lines.append(f"{row['flops_fraction']:>8.1%}  {row['accuracy']:>7.2%}  {clock(row['seconds']):>8}  {where}")
    for run in front.runs:
        settings = front.table.loc[front.table["run"] == run, "settings"].iloc[0]
        lines.append(f"{run}: {settings_text(settings)}")
    if front.trials.get("running"):
        lines.append("a running trial has another worker. If that was killed, the trial is continued by "
                     f"--resume {front.study}, --patience seconds after its last sign")  # fmt: skip
    return [*lines, *([f"next: dmpo-explore record {front.runs[-1]} --force"] if front.runs else [])]


@app.command()
@config_options
@settings_options(SamplerConfig)
def search(
    name: Annotated[str | None, typer.Option(help="Name of the study and of its runs; default: the time.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Continue this study, or add a worker to it.")
    ] = None,
    front: Annotated[str | None, typer.Option(metavar="STUDY", help="Only show the front of this study.")] = None,
    space: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Search space; settings given as options are fixed.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="End after this many trials of all workers.")] = None,
    minutes: Annotated[float | None, typer.Option(help="End after this many minutes.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database that all workers share; default: a file in the folder of runs."),
    ] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Draw the front to this file.")] = None,
    sampler: Sampler = None,
    search_seed: Annotated[int | None, typer.Option(min=0, help="Seed of the proposed settings.")] = None,
    stopping: Annotated[bool, typer.Option(help="Stop trials early by the sampler's rule.")] = False,
    patience: Annotated[
        int,
        typer.Option(min=1, help="Seconds without a sign of a worker after which another one may take over its trial."),
    ] = PATIENCE,
    device: Device = "auto",
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Search for training settings with high accuracy on val at low compute.

    The answer is a Pareto front: a set of runs. Every epoch of every trial is a candidate. Without --trials or
    --minutes no search starts. Several workers may search together: start one, then others with --resume STUDY. Ctrl-C
    or a kill loses at most the current epoch: --resume STUDY continues, and so does the same command with --name.
    """
    from ..search.search_run import run_search
    from ..search.study import is_begun, load_front

    if figure:
        require_ours(figure, "a figure of a search", begins_with(FIGURE))
    refuse_beside("--resume", {"--name": resume and name})  # it keeps its name
    if front:
        beside = {"--name": name, "--resume": resume, "--space": space, "--trials": trials, "--minutes": minutes}
        refuse_beside("--front", beside | {"settings": typed_values(settings)})
        found = load_front(front, storage)
    else:
        chosen = space_from(space, settings, resume is not None)
        study = resume or name or f"search-{datetime.now():%Y%m%d-%H%M%S}"
        begun = resume is not None or (name is not None and is_begun(name, storage))
        proposing = sampler_from(sampler, settings)
        for kind in (getattr(signal, end) for end in ("SIGTERM", "SIGHUP") if hasattr(signal, end)):
            if (
                signal.getsignal(kind) is signal.SIG_DFL
            ):  # the end of a terminal or a job gives the trial back as Ctrl-C
                signal.signal(kind, signal.default_int_handler)
        with Bar() as bar:
            shown = SearchProgress(bar, trials, minutes)
            try:
                found = run_search(study, chosen, resume=begun, trials=trials, minutes=minutes,
                                   storage=storage, device=device, sampler=proposing,
                                   seed=search_seed, stopping=stopping, patience=patience, progress=shown.step,
                                   on_step=shown.tick)  # fmt: skip
            except KeyboardInterrupt:
                bar.clear()
                again = continued(study, proposing, trials=trials, minutes=minutes, storage=storage, figure=figure,
                                  search_seed=search_seed, stopping=stopping,
                                  patience=None if patience == PATIENCE else patience,
                                  device=None if device == "auto" else device)  # fmt: skip
                say(f"stopped; continue with: {again}")
                raise typer.Exit(130) from None
    if figure:
        draw_front(found, figure)
    print_result(found.to_dict(), as_json, front_lines(found))
