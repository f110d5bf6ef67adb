"""Exercises: an answer in, a verdict out. One module per notebook with ``check_1``, ``check_2``, ``check_3``.

A check is a short function from the answer to "" if it is right, else to a hint. It never raises and never tells the
solution: an answer that is still ``...``, or of a kind that the check cannot read, is simply not right yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and what to say; true if it is."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return ("✔ " if self.right else "✘ ") + self.text


def exercise(judge: Callable[[Any], str]) -> Callable[[Any], Verdict]:
    """Make a check of ``judge``: answer → "" (right) or a hint. Its docstring is said where the answer is right."""

    @wraps(judge)
    def check(answer: Any) -> Verdict:
        if answer is ...:
            return Verdict(False, "Not answered yet: replace the three dots above.")
        try:
            hint = judge(answer)
        except Exception as error:  # whatever a student wrote, the notebook goes on
            return Verdict(False, f"Not yet: that answer cannot be checked ({type(error).__name__}: {error}).")
        return Verdict(False, f"Not yet: {hint}") if hint else Verdict(True, f"Right. {judge.__doc__ or ''}".strip())

    return check
