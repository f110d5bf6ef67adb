"""Edits of one image: what each does, and that none changes what it was given."""

from __future__ import annotations

import numpy as np
import pytest

from dmpo_explore.data.edits import EDITS, edited

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_nothing_changes_nothing_and_a_large_one_does(name: str) -> None:
    before = IMAGE.copy()
    if name != "cover":  # one pixel at least
        assert (edited(IMAGE, name, 0.0) == IMAGE).all()
    found = edited(IMAGE, name, 0.6)
    assert found.dtype == np.uint8 and found.shape[2] == 3 and (before == IMAGE).all()
    assert found.shape != IMAGE.shape if name == "crop" else (found != IMAGE).any()


def test_grey_is_grey_and_a_half_turn_is_exact() -> None:
    grey = edited(IMAGE, "grey", 1.0)
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 1] == grey[..., 2]).all()
    assert (edited(IMAGE, "rotate", 1.0) == IMAGE[::-1, ::-1]).all()
    assert (edited(IMAGE, "cover", 1.0) == 128).all() and edited(IMAGE, "crop", 1.0).shape == (2, 2, 3)


@pytest.mark.parametrize(("name", "amount"), [("melt", 0.5), ("blur", 1.5), ("blur", -0.1), ("blur", float("nan"))])
def test_other_edits_are_refused(name: str, amount: float) -> None:
    with pytest.raises(ValueError, match=name if name == "melt" else "between 0 and 1"):
        edited(IMAGE, name, amount)
