"""What a run folder holds, compared with that of an undisturbed training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dmpo_explore.records.record import ExitRecord
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.run_files import WEIGHTS, finished_epochs

SPLITS = ("val", "test")
ARRAYS = ("labels", "prediction", "confidence", "entropy", "margin", "logits")


def damaged(path: Path, undisturbed: Path, epochs: int, kept: tuple[str, ...] = ()) -> list[str]:
    """Finished files of a run that cannot be read, or hold other values than those of the undisturbed run.

    Args:
        epochs: of the whole training; once they are finished, the weights must be the undisturbed ones.
        kept: splits whose records were there before and must still be.
    """
    if not path.exists():
        return [f"{path.name} is gone"] * bool(kept)
    run, whole, wrong = Run(path), Run(undisturbed), list[str]()

    def check(what: str, holds: Any) -> None:
        try:
            if not holds():
                wrong.append(f"{what} differs")
        except Exception as error:
            wrong.append(f"{what}: {type(error).__name__}: {error}")

    if (path / "config.json").exists():
        check("config.json", lambda: run.config == whole.config)
    if (path / "history.csv").exists():
        check("history.csv", lambda: _begins(run, whole))
    if (path / "policies.json").exists():
        check("policies.json", lambda: run.policies().items() <= whole.policies().items())
    if finished_epochs(path) == epochs:
        check(WEIGHTS, lambda: (path / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes())
    for split in sorted({*run.splits(), *kept}):
        check(f"record {split}", lambda split=split: same_record(run, whole, split))
    return wrong


def different(path: Path, undisturbed: Path, epochs: int) -> list[str]:
    """What of a run that has gone on to its end is not as in the undisturbed one: values, missing and surplus files."""
    wrong = damaged(path, undisturbed, epochs, SPLITS)
    if surplus := files(path) ^ files(undisturbed):
        wrong.append(f"other files: {', '.join(sorted(surplus))}")
    if not wrong and len(Run(path).history()) != epochs:
        wrong.append("history.csv is short")
    return wrong


def files(path: Path) -> set[str]:
    """The files of a folder, hidden ones included."""
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def same_record(run: Run, other: Run, split: str) -> bool:
    """Whether a run has a whole record of a split, equal to the other's up to rounding.

    Some processors round the last bits of a batch of another size differently, and a continued command may use one.
    """
    if found := ExitRecord.problems(run.path / "records" / split):
        raise ValueError(found[0])
    a, b = run.record(split), other.record(split)
    exact = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("labels", "prediction"))
    return exact and all(_close(getattr(a, name), getattr(b, name)) for name in ARRAYS)


def _close(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    step = 2e-3 if a.dtype == np.float16 else 1e-5
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.allclose(a, b, rtol=step, atol=step))


def _begins(run: Run, whole: Run) -> bool:
    a, b = (r.history().drop(columns="seconds") for r in (run, whole))
    return bool(a.equals(b.iloc[: len(a)]))
