"""Self-checking exercises: from an answer to a verdict. One module per notebook with ``check_1`` to ``check_3``.

A check is a short function from the answer to "" if it is correct, else to a hint. It never raises and never shows the
solution: an answer that is still ``...``, or that the check cannot read, is not correct yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is correct, and the text to show; true if it is."""

    correct: bool
    text: str

    def __bool__(self) -> bool:
        return self.correct

    def __repr__(self) -> str:
        return ("✔ " if self.correct else "✘ ") + self.text


def exercise(judge: Callable[[Any], str]) -> Callable[[Any], Verdict]:
    """Make a check of ``judge``: answer → "" (correct) or a hint. Its docstring is shown with a correct answer."""

    @wraps(judge)
    def check(answer: Any) -> Verdict:
        if answer is ...:
            return Verdict(False, "Not answered yet: replace the three dots above.")
        try:
            hint = judge(answer)
        except Exception as error:  # any answer may be typed; the notebook continues
            return Verdict(False, f"Not yet: that answer cannot be checked ({type(error).__name__}: {error}).")
        return Verdict(False, f"Not yet: {hint}") if hint else Verdict(True, f"Correct. {judge.__doc__ or ''}".strip())

    return check
