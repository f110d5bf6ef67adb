"""`dmpo-explore record`: the scores of every exit on a split, kept for all later evaluations."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..jobs.progress import ProgressFile
from .output import Bar, percents, print_result, say
from .root import Device, Json, ProgressPath, RunName, app

if TYPE_CHECKING:
    from ..runs.run import Run


@app.command()
def record(
    run: RunName,
    split: Annotated[list[str] | None, typer.Option(help="train, val or test; default: val and test.")] = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="no (float32), bf16 or fp16.")] = "no",
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a batch.")] = 250,
    logits: Annotated[bool, typer.Option(help="Keep the logits too.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a record.")] = False,
    progress: ProgressPath = None,
    as_json: Json = False,
) -> None:
    """Run every exit of a run over a split and keep the scores, which all evaluations read."""
    from ..runs.store import load_run

    enable_ctrl_c(progress)
    opened, splits = load_run(run), split or ["val", "test"]
    for name in splits:
        if name in opened.splits() and not force:
            raise FileExistsError(
                f"run {opened.name!r} has a {name} record; replace it with --force, or choose --split"
            )
    file = ProgressFile(progress)
    answer = record_splits(
        opened, splits, file, device=device, precision=precision, batch_size=batch_size, keep_logits=logits, force=force
    )
    file.end()
    print_result(answer, as_json, list(map(record_line, answer)))


def enable_ctrl_c(progress: Path | None) -> None:
    """Let Ctrl-C stop a job (`jobs.stop`) also below a shell's background process, where it is ignored."""
    if progress:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def record_splits(run: Run, splits: list[str], file: ProgressFile, **how: Any) -> list[dict[str, Any]]:
    """Record ``splits`` with a progress bar; one row for each. ``how``: arguments of `record_run`."""
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


def record_line(row: dict[str, Any]) -> str:
    """A row of `record_splits` as text."""
    return f"{row['split']}: {row['images']:,} images, exits {percents(row['exit_accuracy'])}"
