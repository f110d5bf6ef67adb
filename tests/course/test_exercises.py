"""Every check refuses the empty answer, foreign ones and a plausible incorrect one, and accepts the solution."""

from __future__ import annotations

import builtins
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import dmpo_explore as dx
from build import find, read_script
from dmpo_explore.course.exercises import Lines, Verdict, exercise, gives

pytestmark = pytest.mark.slow  # seconds each: scripts/check runs them

CASES = [(script.stem[3:], number) for script in find([]) for number in (1, 2, 3)]
every_exercise = pytest.mark.parametrize(("name", "number"), CASES)


def check_of(name: str, number: int) -> Any:
    return getattr(importlib.import_module(f"dmpo_explore.course.exercises.{name}"), f"check_{number}")


@every_exercise
def test_the_empty_answer_and_foreign_ones_are_not_correct(name: str, number: int) -> None:
    for answer in (..., None, "nonsense"):
        verdict = check_of(name, number)(answer)
        assert isinstance(verdict, Verdict) and not verdict, answer
        assert repr(verdict).startswith("✘ Not "), answer


@every_exercise
def test_a_plausible_answer_is_not_correct(name: str, number: int, fetched_backbone: object) -> None:
    verdict = check_of(name, number)(importlib.import_module(f"references.{name}").INCORRECT[number])
    assert not verdict and "cannot be checked" not in repr(verdict)


def test_every_module_of_exercises_belongs_to_a_notebook() -> None:
    folder = Path(exercise.__code__.co_filename).parent
    assert {path.stem for path in folder.glob("[a-z]*.py")} == {name for name, _ in CASES}


BUILT = ["bypass_decomposition", "phase_schedule", "second_order_heads", "the_conflict", "thresholds_and_compute"]
BUILT += ["where_each_exit_looks", "which_images_exit_early", "your_own_images"]


@pytest.mark.parametrize("name", BUILT)
def test_what_is_built_incorrectly_is_not_accepted(name: str) -> None:
    check = importlib.import_module(f"dmpo_explore.course.exercises.{name}").check_build
    assert [bool(check(answer)) for answer in (..., None, object, nn.Identity)] == [False] * 4
    verdict = check(importlib.import_module(f"references.{name}").BUILD_INCORRECT)
    assert not verdict and "cannot be checked" not in repr(verdict)


@pytest.mark.parametrize("name", BUILT)
def test_the_empty_cell_fails_and_the_solution_passes(name: str) -> None:
    """The cells tagged ``build`` as a student finds them: the one with the dots, then the solution."""
    check = importlib.import_module(f"dmpo_explore.course.exercises.{name}").check_build
    script = next(script for script in find([]) if script.stem[3:] == name)
    cells = [cell.source for cell in read_script(script).cells if "build" in cell.metadata.get("tags", [])]
    given = {"nn": nn, "np": np, "torch": torch, "F": functional, "check_build": check, "__builtins__": builtins}
    space: dict[str, Any] = dict(given)
    exec(cells[0], space)
    (part,) = re.findall(r"^check_build\((\w+)\)$", cells[0], re.MULTILINE)
    assert not check(space[part])
    exec(cells[1], space)
    (solution,) = (value for key, value in space.items() if key not in given and key.lower() == "solution")
    assert check(solution) and space[part] is solution


@pytest.mark.parametrize("name", [*BUILT, "quickstart"])
def test_solutions_shown_in_collapsed_blocks_are_correct(name: str, fetched_backbone: object) -> None:
    script = next(script for script in find([]) if script.stem[3:] == name)
    text = "\n".join(cell.source for cell in read_script(script).cells if cell.cell_type == "markdown")
    reference = importlib.import_module(f"references.{name}")
    blocks = re.findall(r"<summary>Solution (\d)</summary>\n\n```python\n(.*?)```\n\n</details>", text, re.DOTALL)
    assert [number for number, _ in blocks] == ["1", "2", "3"]
    for number, source in blocks:
        space: dict[str, Any] = {"torch": torch, "np": np, "dx": dx, **getattr(reference, "SPACE", {})}
        exec(source, space)
        assert repr(check_of(name, int(number))(space[f"answer_{number}"])).startswith("✔ Correct."), number


@pytest.mark.parametrize(("matrix", "hint"), [("NEGATIVE_ROOT", "to −√λ"), ("SWINGS", "swings for ever")])
def test_what_is_not_the_root_is_not_taken_for_divergence(matrix: str, hint: str) -> None:
    reference = importlib.import_module("references.second_order_heads")
    verdict = check_of("second_order_heads", 3)(getattr(reference, matrix))
    assert not verdict and hint in repr(verdict)


def test_divergence_is_found_however_slowly_it_begins() -> None:
    assert check_of("second_order_heads", 3)(torch.diag(torch.tensor([5.0 + 1e-9, 1.0], dtype=torch.float64)))


def test_a_check_shows_its_verdict() -> None:
    @exercise
    def check(answer: int) -> Lines:
        """So it is."""
        yield answer + 1 == 2, "think again"

    assert repr(check(1)) == "✔ Correct. So it is."
    assert repr(check(3)) == "✘ Not yet: think again"
    assert repr(check(...)) == "✘ Not answered yet: replace the three dots above."
    assert "cannot be checked (TypeError" in repr(check("one"))


@pytest.mark.parametrize(
    ("found", "due", "said"),
    [
        (np.array([1.0, 2.5]), [1, 2], "for 3 it must return whole numbers, not float64: why"),
        (torch.tensor([1.0, 2.5]), [1.0, 2.0], "for 3 it returns 2.5 at [1], and it should be 2.: why"),
        (np.array([True]), [1.0], "for 3 it must return numbers, not bool: why"),
        ([1.0], [1.0, 2.0], "for 3 it must return the shape (2,), not (1,): why"),
        (np.nan, 1.0, "for 3 it returns nan, and it should be 1.: why"),
        (0.5, 1.0, "half of it"),
        (..., 1.0, "for 3 it returns no result yet: why"),
        (1.0, None, "for 3 it returns 1.0: why"),
    ],
)
def test_a_result_is_compared_in_kind_shape_and_value(found: Any, due: Any, said: str) -> None:
    assert gives(lambda _: found, (3,), due, "why", {"half of it": 0.5}) == (False, said)
    assert gives(lambda _: due, (3,), due)[0]


def test_an_answer_cannot_change_what_it_is_given() -> None:
    given = [1, 2]
    assert gives(lambda numbers: numbers.pop(), (given,), 2)[0] and given == [1, 2]


def test_an_exit_that_does_not_train_the_trunk_is_not_accepted() -> None:
    verdict = importlib.import_module("dmpo_explore.course.exercises.the_conflict").check_build(
        importlib.import_module("references.the_conflict").ALSO_INCORRECT
    )
    assert not verdict and "do not detach" in repr(verdict)
