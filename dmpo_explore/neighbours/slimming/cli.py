"""`dmpo-explore slim`: fewer attention heads and MLP neurons in a trained ViT, as a new run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...cli.options import refuse_beside, settings_options
from ...cli.output import Bar, EpochReports, best_epoch, print_result
from ...cli.record import enable_ctrl_c, record_line, record_trained
from ...cli.root import RUN, Device, Json, ProgressPath
from ...cli.train import begun_run, held_for
from ...jobs.progress_file import ProgressFile
from .options import Slimming, SlimSettings

if TYPE_CHECKING:
    from ...runs.run import Run

HELP = """Slim a trained ViT and distil it: the new run has fewer attention heads and MLP neurons in every block.

Heads and neurons are removed step by step, the least important first. Importance is the accumulated |gradient × weight|
of the loss of all exits. Then the new run is distilled from RUN at every exit, first the hidden states, then the
answers too (COST-EFF, arXiv 2210.15523). LoRA and adapters are merged before.

The new run is an ordinary run that holds all its weights; next: `dmpo-explore record OUT`. Ctrl-C or a kill loses at
most the current epoch; the same command continues, and so does `--resume OUT`. Needs `dmpo-explore[slim]`.
"""


@settings_options(SlimSettings)
def slim(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help=RUN, show_default=False)] = None,
    name: Annotated[str | None, typer.Option(metavar="OUT", help="Name of the new run; default: RUN-slim.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="OUT", help="Continue this slimmed run; with --epochs N, to N epochs in all.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run of that name.")] = False,
    device: Device = "auto",
    and_record: Annotated[
        bool, typer.Option("--record", help="Record val, calibration and test after the last epoch.")
    ] = False,
    progress: ProgressPath = None,
    as_json: Json = False,
    **settings: Any,
) -> None:
    """Slim a run, see `HELP`."""
    enable_ctrl_c(progress)
    from ...runs.store import load_run
    from ...training.checkpoint import is_finished
    from .slim import other_settings

    typed = {key: value for key, value in settings.items() if value is not None}
    if resume:
        refuse_beside("--resume", {"RUN": run, "--name": name, "--force": force})
        refuse_beside("--resume", {f"--{key.replace('_', '-')}": key != "epochs" for key in typed})
    elif run is None:
        raise typer.BadParameter("name the run to slim, or continue one with --resume OUT", param_hint="RUN")
    wide = load_run(load_run(resume).config.model.parent or resume) if resume else load_run(run or "")
    name = resume or name or f"{wide.name}-slim"
    others = partial(other_settings, run=wide, settings=typed)
    begun = load_run(resume) if resume else None if force else begun_run(name, others, "slim")
    file = ProgressFile(progress)
    with Bar(lines=True) as bar:
        if begun and (and_record or not resume) and is_finished(begun, typed.get("epochs")):
            bar.write(f"run {name!r} is distilled; it is kept")
            slimmed = begun
        else:
            slimmed = _slim(wide, name, bar, file, resume=begun is not None, force=force, device=device, **typed)
    slimming = slimmed.config.model.part(Slimming)
    answer = best_epoch(slimmed) | {
        "slimmed_from": slimming.run, "heads": list(slimming.heads), "ffn": list(slimming.ffn),
    }  # fmt: skip
    lines = [str(slimmed.path), slimming.described(), f"next: dmpo-explore record {slimmed.name}"]
    if and_record:
        answer["records"] = record_trained(slimmed, file, device)
        lines = [*lines[:-1], *map(record_line, answer["records"])]
    file.end()
    print_result(answer, as_json, lines)


def _slim(run: Run, name: str, bar: Bar, file: ProgressFile, *, resume: bool, **how: Any) -> Run:
    """Slim with a bar, a line per epoch and the progress file; Ctrl-C prints how to continue."""
    from ...runs.run_files import CHECKPOINT, checkpoint_epoch
    from ...runs.store import load_run
    from .slim import slim as slim_run

    saved = load_run(name) if resume else None
    first = (checkpoint_epoch(saved.path / CHECKPOINT) or 0) if saved else 0
    epochs = how.get("epochs") or (saved.config.training.epochs if saved else SlimSettings().epochs)
    reports = EpochReports(bar, file, "distilling", first, epochs)
    hooks: dict[str, Any] = {
        "on_step": reports.on_step,
        "on_check": partial(reports.before, "checking images"),
        "on_prune": partial(reports.before, "removing heads and neurons"),
    }
    try:
        with held_for(name, reports, resume=resume) as on_epoch:
            return slim_run(run, name, resume=resume, progress=on_epoch, **hooks, **how)
    except KeyboardInterrupt:
        reports.stopped(f"dmpo-explore slim --resume {name}")
