"""The one place where values at exits are picked."""

from __future__ import annotations

import numpy as np
import pytest

from dmpo_explore.utils.typing import at_exits


def test_values_at_exits() -> None:
    rng = np.random.default_rng(0)
    values, exits = rng.normal(size=(7, 4, 3)), rng.integers(4, size=7)
    np.testing.assert_array_equal(at_exits(values, exits), [row[k] for row, k in zip(values, exits, strict=True)])
    several = rng.integers(4, size=(5, 7))
    np.testing.assert_array_equal(at_exits(values, several), [at_exits(values, one) for one in several])
    assert at_exits(values[:0], exits[:0]).shape == (0, 3)
    assert at_exits(values > 0, exits).dtype == bool


def test_exits_that_are_not_there_are_refused() -> None:
    with pytest.raises(IndexError):
        at_exits(np.zeros((3, 4)), [0, 1, 4])
