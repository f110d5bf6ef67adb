"""Checks of lessons 1 and 6 and of the extra: plausible wrong rules, loops, tests and maps are refused with a hint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from dmpo_explore.course import rule_checks
from dmpo_explore.course.checks import CHECKS, NotYet

BUILDS = [name for name, check in CHECKS.items() if check.__module__ == rule_checks.__name__]


def above(confidence: Any, threshold: float) -> Any:
    """Above the threshold instead of from it on."""
    passes = confidence > threshold
    passes[:, -1] = True
    return passes.argmax(axis=1)


def without_last(confidence: Any, threshold: float) -> Any:
    return (confidence >= threshold).argmax(axis=1)


def swapped(correct: Any, exits: Any) -> Any:
    here, last = correct[np.arange(len(exits)), exits], correct[:, -1]
    return here & ~last, ~here & last


def computes_all(look: Callable[..., Any], n_images: int, n_exits: int, threshold: float) -> Any:
    """The right exits, but every exit is computed for every image."""
    confidence = np.stack([look(k, np.arange(n_images)) for k in range(n_exits)], axis=1)
    passes = confidence >= threshold
    passes[:, -1] = True
    return passes.argmax(axis=1)


def skips_the_last(look: Callable[..., Any], n_images: int, n_exits: int, threshold: float) -> Any:
    """The right exits, but the last one is never computed."""
    exits, rows = np.full(n_images, n_exits - 1), np.arange(n_images)
    for k in range(n_exits - 1):
        if not len(rows):
            break
        sure = look(k, rows) >= threshold
        exits[rows[sure]] = k
        rows = rows[~sure]
    return exits


def never_ends(look: Callable[..., Any], n_images: int, n_exits: int, threshold: float) -> Any:
    """The right exits, but exits are also computed when no image is left."""
    exits, rows = np.full(n_images, n_exits - 1), np.arange(n_images)
    for k in range(n_exits):
        sure = look(k, rows) >= threshold
        exits[rows[sure]] = k
        rows = rows[~sure]
    return exits


def goes_on(errors: Any, n: int, epsilon: float, delta: float) -> int:
    """All that pass, also behind the first failure."""
    return int((binom.cdf(errors, n, epsilon) <= delta).sum())


def keeps_sign_wrong(model: Any, image: Any, hidden: Any, size: int) -> Any:
    return -np.ones((2, 4))


INCORRECT = [
    ("exits_of", above, "reaching it is enough"),
    ("exits_of", without_last, "the last exit takes what is left"),
    ("mistakes", swapped, "lost: incorrect at its exit"),
    ("loop", computes_all, "computed twice, or for an image that had exited"),
    ("loop", skips_the_last, "it must answer them"),
    ("loop", never_ends, "for no image at all"),
    ("passing", goes_on, "before the first failure"),
    ("drops_of", keeps_sign_wrong, "the logit of the last exit's class"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), INCORRECT, ids=[case[1].__name__ for case in INCORRECT])
def test_a_plausible_build_is_refused_with_a_hint(name: str, answer: Any, hint: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(NotYet, match=hint):
        CHECKS[name](answer)


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("answer", [None, object, lambda *_, **__: None, lambda *_, **__: 0.5])
def test_what_is_no_part_is_refused_in_one_line(name: str, answer: Any) -> None:
    with pytest.raises(NotYet) as refused:
        CHECKS[name](answer)
    (line,) = refused.value._render_traceback_()
    assert line.startswith("✘ Not yet: ") and "\n" not in line
