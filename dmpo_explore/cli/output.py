"""Output of the command line: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from ..utils.texts import one_line

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..jobs.progress_file import ProgressFile
    from ..runs.run import Run
    from ..training.loop import EpochResult

LONGEST = 4000  # characters of a warning
MINUTE = 60.0  # seconds between two lines of a `Bar` without a terminal


class Bar(AbstractContextManager["Bar"]):
    """A progress bar with the time left, on stderr; hidden if that is not a terminal.

    Args:
        hide: no output. lines: where stderr is no terminal, write a line every minute instead of the bar. file: it
            gets the same.
    """

    def __init__(self, *, hide: bool = False, lines: bool = False, file: ProgressFile | None = None) -> None:
        self.hide, self.lines, self.file = hide, lines and not hide, file
        self.bar: tqdm[Any] | None = None
        self.done = self.total = self.first = 0
        self.began = self.said = 0.0

    def __exit__(self, *_: object) -> None:
        self.clear()

    def to(self, done: int, total: int, text: str) -> None:
        """``done`` of ``total``; a smaller ``done`` or another ``total`` starts a new bar."""
        if self.bar is None or done < self.done or total != self.total:
            self._start(max(done - 1, 0), total)
        assert self.bar is not None
        self.bar.set_description_str(text, refresh=False)
        self.bar.update(done - self.done)
        self.done = done
        if self.lines and self.bar.disable:
            self._say_sometimes(text)
        if self.file:
            self.file.to(text, done, total)

    def write(self, text: str) -> None:
        """A line above the bar, terminal or not."""
        if self.hide:
            return
        if self.bar is None or self.bar.disable:
            say(text)
        else:
            self.bar.write(text, file=sys.stderr)

    def clear(self) -> None:
        """Take the bar off the screen."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _start(self, done: int, total: int) -> None:
        from tqdm import tqdm

        self.clear()
        self.done, self.total, self.first = done, total, done
        self.began = self.said = time.monotonic()
        self.bar = tqdm(
            total=total,
            initial=done,
            disable=self.hide or None,  # None: where stderr is no terminal
            leave=False,
            file=sys.stderr,
            smoothing=0,
            unit_scale=total > 1_000_000,
        )

    def _say_sometimes(self, text: str) -> None:
        now = time.monotonic()
        if now - self.said >= MINUTE and self.done > self.first:
            left = (now - self.began) / (self.done - self.first) * (self.total - self.done)
            say(f"{text}: {self.done:,} of {self.total:,}, {clock(left)} left")
            self.said = now


class EpochReports:
    """Reports of a training as it goes: the bar, a line per epoch, and the progress file.

    Args:
        what: the training does, for the file. first: epochs that were finished before. epochs: in all.
    """

    def __init__(self, bar: Bar, file: ProgressFile, what: str, first: int, epochs: int) -> None:
        self.bar, self.file, self.what, self.first, self.epochs = bar, file, what, first, epochs
        self.results: list[EpochResult] = []

    def on_step(self, done: int, steps: int, loss: float) -> None:
        """After a step of the present epoch."""
        seen = f", val {percents(self.results[-1].accuracy)}" if self.results else ""
        epoch, epochs = self.first + len(self.results), self.epochs
        self.bar.to(epoch * steps + done, epochs * steps, f"epoch {epoch + 1}, loss {loss:.3f}{seen}")
        self.file.to(self.what, epoch * steps + done, epochs * steps, epoch=epoch + 1, epochs=epochs, loss=loss)

    def on_epoch(self, result: EpochResult) -> None:
        """After an epoch that is saved."""
        self.results.append(result)
        self.bar.write(epoch_line(self.results))

    def before(self, what: str, done: int, total: int) -> None:
        """While something else is done, before the first step."""
        self.bar.to(done, total, what)
        if done == total:
            self.bar.clear()
        self.file.to(what, done, total)

    def stopped(self, command: str, before: str = "") -> NoReturn:
        """End after Ctrl-C; ``command`` continues, if an epoch was finished. ``before``: what to say if none was."""
        self.bar.clear()
        kept = f"continue with: {command}" if self.results or self.first else before or "no epoch was finished"
        say(f"stopped; {kept}")
        raise typer.Exit(130) from None


def best_epoch(run: Run) -> dict[str, Any]:
    """A run and its best epoch, those before a resumption included, as JSON values."""
    history = run.history()
    best = history.iloc[int(history["area"].argmax())]
    return {
        "run": run.name,
        "path": str(run.path),
        "best_epoch": int(best["epoch"]),
        "area": float(best["area"]),
        "exit_accuracy": best.filter(like="accuracy_").tolist(),
    }


def epoch_line(results: Sequence[EpochResult]) -> str:
    """The last of ``results`` in words, with the expected time of the remaining epochs."""
    now = results[-1]
    left = sum(result.seconds for result in results) / len(results) * (now.epochs - now.epoch)
    ending = f", {clock(left)} left" if left else ""
    mark = ", the best so far" if now.best else ""
    return (
        f"epoch {now.epoch}/{now.epochs}: loss {now.loss:.4f}, val accuracy {percents(now.accuracy)}, "
        f"area {now.area:.4f}{mark} ({clock(now.seconds)}{ending})"
    )


def percents(values: Iterable[float]) -> str:
    """``71.25 80.40 %``: accuracies, as precise as in the tables of `evaluate`."""
    return " ".join(f"{100 * value:.2f}" for value in values) + " %"


def clock(seconds: float) -> str:
    """``12:03``: minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def print_result(value: Any, as_json: bool, lines: Sequence[str]) -> None:
    """Print ``value`` as JSON, or else ``lines``."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False) if as_json else "\n".join(lines))


@contextmanager
def stopped_writing(place: Path, bar: Bar, verb: str) -> Iterator[None]:
    """Context in which Ctrl-C ends the command and says what is at ``place``, a folder written whole or not at all."""
    try:
        yield
    except KeyboardInterrupt:
        bar.clear()
        earlier = place.is_dir() and any(place.iterdir())
        kept = f"the earlier {verb} is kept" if earlier else f"{place} was not written"
        say(f"stopped; {kept}. Repeat the command to {verb}")
        raise typer.Exit(130) from None


def say(text: str) -> None:
    """A line on stderr."""
    typer.echo(text, err=True)


@contextmanager
def warnings_said() -> Iterator[None]:
    """Context of a command, in which every warning is one line on stderr, at once, and each text is printed once."""
    seen = set[str]()

    def once(message: Warning | str, *_: Any, **__: Any) -> None:
        from tqdm import tqdm

        text = one_line(message, LONGEST)
        if text not in seen and parent_process() is None:  # not those of processes that read images beside a bar
            seen.add(text)
            tqdm.write(f"warning: {text}", file=sys.stderr)  # above a bar

    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning, module=r"dmpo_explore\b")
        warnings.showwarning = once
        yield
