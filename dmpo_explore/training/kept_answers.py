"""Answers of a teacher to numbered views of a training's images, computed once and kept in the user's cache.

In: everything that they depend on, as JSON values. Out: an array (n, C) float16 for each view. A view is a file that is
written whole or not at all, so that a stopped computation continues; its name ends with a hash of its answers, which is
verified once, when it is first read. The folder's name is a hash of what they depend on: other weights, images, views
or versions of the libraries have another folder. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inference.torch_recording import Processes
from ..utils.files import atomic_file, cache_dir, require_free, write_json
from ..utils.typing import Progress

FORMAT = 2
Answers = NDArray[np.float16]
Answer = Callable[[int, Callable[[int], None]], Answers]  # view, what to call with the number of images done → (n, C)


class KeptAnswers:
    """The answers to some views of n images.

    Args:
        facts: what they depend on. shape: (n, C). kept: False: in memory only.

    Attributes:
        folder: where they are kept.
    """

    def __init__(self, facts: Mapping[str, Any], shape: tuple[int, int], *, kept: bool = True) -> None:
        self.facts, self.shape, self.kept = {"format": FORMAT, "shape": shape, **facts}, shape, kept
        key = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()
        self.folder: Path = cache_dir() / "teacher-answers" / key[:32]
        self.found: dict[int, Answers] = {}  # those of the files are mapped, not in memory

    def complete(
        self, numbers: Collection[int], answer: Answer, processes: Processes, progress: Progress | None = None
    ) -> None:
        """Compute the views that are missing, each in one of the processes; return once all are there.

        Args:
            progress: called with (answers done, answers in all), of this process.

        Raises:
            OSError: the disk has no space for them.
        """
        missing = [number for number in numbers if self._read(number) is None]
        processes.wait()  # no process writes before all have looked
        self._compute(processes.share(missing) if self.kept else missing, answer, progress)
        processes.wait()
        self._compute([number for number in missing if self._read(number) is None], answer)  # of another machine

    def view(self, number: int) -> Answers:
        """(n, C) of one view that is complete."""
        found = self._read(number)
        if found is None:
            raise FileNotFoundError(
                f"view {number} in {self.folder} was removed or damaged while it was used; resume the training"
            )
        return found

    def _compute(self, numbers: Collection[int], answer: Answer, progress: Progress | None = None) -> None:
        n, C = self.shape
        if self.kept and numbers:
            require_free(self.folder, 2 * n * C * len(numbers), "what a teacher answered")
            write_json(self.folder / "facts.json", self.facts)
        for i, number in enumerate(numbers):

            def report(done: int, before: int = i * n) -> None:
                if progress:
                    progress(before + done, len(numbers) * n)

            found = answer(number, report)
            if not self.kept:
                self.found[number] = found
                continue
            path = self.folder / f"{_stem(number)}{_digest(found)}.npy"
            with atomic_file(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, found, allow_pickle=False)

    def _read(self, number: int) -> Answers | None:
        """A view; None where it is missing or damaged."""
        if number in self.found or not self.kept:
            return self.found.get(number)
        for path in sorted(self.folder.glob(f"{_stem(number)}*.npy")):
            try:
                found = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            if found.dtype == np.float16 and found.shape == self.shape and path.stem == _stem(number) + _digest(found):
                self.found[number] = found
        return self.found.get(number)


def _stem(number: int) -> str:
    return f"view-{number:03d}-"


def _digest(answers: Answers) -> str:
    return hashlib.sha256(np.ascontiguousarray(answers).data).hexdigest()[:32]
