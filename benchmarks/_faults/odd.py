"""Odd events, such as images that change while they are recorded: each ends as without it, or with a clear error.

In: a kind, a seed and a number. Out: `Trials.trial`, how it ended. A kind is a module with ``make``, what its trials
share, made once in a folder; and ``trial``, which gets that, a folder of its own and a source of chance. It returns
what it did in words if all is right, and raises as `judged` describes.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from .judged import judged

LONGEST = 60.0  # seconds of one trial
KINDS = {
    "images that change": "changed_images",
    "exports tampered with": "tampered",
    "pages and odd files": "odd_pages",
    "clock jumps": "clocks",
    "plug-ins that fail, change or lie": "odd_plugins",
    "labels of hfds/ and torch/": "read_labels",
    "two set-ups at once": "set_ups",
    "twenty sessions, hostile links": "sessions",
    "jobs killed": "killed_jobs",
}


@dataclass
class Trials:
    """Trials of one kind after another, in a folder of their own."""

    place: Path
    made: dict[str, Any] = field(default_factory=dict)

    def trial(self, name: str, seed: int, number: int) -> tuple[str, str]:
        """One trial: how it ended, and what was done, or what was wrong, in words."""
        module, folder = import_module(f"{__package__}.{KINDS[name]}"), self.place / KINDS[name]
        if name not in self.made:
            (folder / "made").mkdir(parents=True)
            self.made[name] = module.make(folder / "made")
        shutil.rmtree(folder / "trial", ignore_errors=True)
        (folder / "trial").mkdir()
        done: list[str] = []
        chance = random.Random(f"{seed} {name} {number}")
        ending, words = judged(lambda: done.append(module.trial(self.made[name], folder / "trial", chance)), LONGEST)
        return ending, words or done[0]
