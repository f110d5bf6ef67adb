"""Self-checking exercises: from an answer to a verdict. One module per notebook with ``check_1`` to ``check_3``.

A check is a table of what must hold of an answer, each line with the hint if it does not. Most lines are calls of a
function with what it must return (`gives`). A check never raises and never shows the solution: an answer that is still
``...``, or that the check cannot read, is not correct yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

Lines = Iterator[tuple[bool, str]]  # whether it holds, and the hint if not
KINDS = {"b": ("b", "true or false"), "i": ("iu", "whole numbers"), "f": ("fiu", "numbers")}  # of numpy's dtypes


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is correct, and the text to show; true if it is."""

    correct: bool
    text: str

    def __bool__(self) -> bool:
        return self.correct

    def __repr__(self) -> str:
        return ("✔ " if self.correct else "✘ ") + self.text


def exercise(lines: Callable[[Any], Lines]) -> Callable[[Any], Verdict]:
    """Make a check of ``lines``: the first that does not hold gives the hint. Its docstring ends a correct answer."""

    @wraps(lines)
    def check(answer: Any) -> Verdict:
        if answer is ...:
            return Verdict(False, "Not answered yet: replace the three dots above.")
        try:
            for holds, hint in lines(answer):
                if not holds:
                    return Verdict(False, f"Not yet: {hint}")
        except Exception as error:  # any answer may be typed; the notebook continues
            return Verdict(False, f"Not yet: that answer cannot be checked ({type(error).__name__}: {error}).")
        return Verdict(True, f"Correct. {lines.__doc__ or ''}".strip())

    return check


def gives(
    answer: Callable[..., Any],
    given: tuple[Any, ...],
    due: Any,
    hint: str = "",
    mistakes: Mapping[str, Any] | None = None,
    tolerance: Any = 1e-6,
) -> tuple[bool, str]:
    """A line of a check: whether ``answer`` of copies of ``given`` is ``due``, in kind, shape and value.

    Args:
        mistakes: hints by which common mistakes are recognised → what these return.
    """
    found = answer(*deepcopy(given))
    call, of = ", ".join(map(str, given)), f": {hint}" if hint else ""
    it = f"for {call} it" if len(call) < 50 and "<" not in call else "it"  # no tensors and functions
    if found is None or found is ... or due is None:
        return found is due, f"{it} returns {'no result yet' if found is ... else found}{of}"
    values, expected = _array(found), _array(due)
    kinds, name = KINDS[expected.dtype.kind]
    if values.dtype.kind not in kinds:
        return False, f"{it} must return {name}, not {values.dtype}{of}"
    for known, wrong in (mistakes or {}).items():
        if values.shape == _array(wrong).shape and not _far(values, _array(wrong), tolerance).any():
            return False, known
    if values.shape != expected.shape:
        return False, f"{it} must return the shape {expected.shape}, not {values.shape}{of}"
    far = np.argwhere(_far(values, expected, tolerance)).tolist()
    if not far:
        return True, ""
    got, should = (np.array2string(array[tuple(far[0])], precision=6) for array in (values, expected))
    return False, f"{it} returns {got}{f' at {far[0]}' if far[0] else ''}, and it should be {should}{of}"


def same_weights(found: Mapping[str, Any], due: Mapping[str, Any]) -> Lines:
    """Lines of a check: a state dict has the names and shapes of another."""
    for name in [*due, *found]:
        yield name in due, f"a weight {name} is not needed: there are {', '.join(due)}"
        yield name in found, f"{name} is missing: it needs the shape {tuple(due[name].shape)}"
        shapes = [tuple(weights[name].shape) for weights in (found, due)]
        yield shapes[0] == shapes[1], f"{name} has the shape {shapes[0]}, and it needs {shapes[1]}"


def _array(value: Any) -> Any:
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)


def _far(values: Any, expected: Any, tolerance: Any) -> Any:
    """Where values of one shape differ; not a number differs from everything."""
    return ~(np.abs(np.subtract(values, expected, dtype=float)) <= tolerance)
