"""Every check refuses the empty answer, foreign ones and a plausible incorrect one, and accepts the reference."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from build import find
from exercises import Verdict, exercise

CASES = [(script.stem[3:], number) for script in find([]) for number in (1, 2, 3)]
every_exercise = pytest.mark.parametrize(("name", "number"), CASES)


def check_of(name: str, number: int) -> Any:
    return getattr(importlib.import_module(f"exercises.{name}"), f"check_{number}")


@every_exercise
@pytest.mark.parametrize("answer", [..., None, "nonsense", object()], ids=["empty", "None", "text", "object"])
def test_the_empty_answer_and_foreign_ones_are_not_correct(name: str, number: int, answer: Any) -> None:
    verdict = check_of(name, number)(answer)
    assert isinstance(verdict, Verdict) and not verdict
    assert repr(verdict).startswith("✘ Not ")


@every_exercise
def test_the_reference_is_correct_and_a_plausible_answer_is_not(
    name: str, number: int, fetched_backbone: object
) -> None:
    check, reference = check_of(name, number), importlib.import_module(f"references.{name}")
    verdict = check(reference.ANSWERS[number])
    assert verdict, verdict
    assert repr(verdict).startswith("✔ Correct.")
    verdict = check(reference.INCORRECT[number])
    assert not verdict and "cannot be checked" not in repr(verdict)


def test_a_check_shows_its_verdict() -> None:
    @exercise
    def check(answer: int) -> str:
        """So it is."""
        return "" if answer + 1 == 2 else "think again"

    assert repr(check(1)) == "✔ Correct. So it is."
    assert repr(check(3)) == "✘ Not yet: think again"
    assert repr(check(...)) == "✘ Not answered yet: replace the three dots above."
    assert "cannot be checked (TypeError" in repr(check("one"))
