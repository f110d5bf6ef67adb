"""Cells: sums survive the way between pixels and cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmpo_explore.attribution.exit_model import cell_index, to_cells, to_pixels


@given(side=st.integers(1, 40), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_sums_survive_cells_and_pixels(side: int, rows: int, columns: int) -> None:
    rows, columns = min(rows, side), min(columns, side)
    heat = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    cells = to_cells(heat, (rows, columns))
    assert cells.shape == (rows, columns)
    assert cells.sum() == pytest.approx(heat.sum(), abs=1e-3)
    np.testing.assert_allclose(to_pixels(cells, side, spread=True).sum(), cells.sum(), atol=1e-3)
    np.testing.assert_allclose(to_cells(to_pixels(cells, side), (rows, columns), mean=True), cells, atol=1e-5)
    assert np.unique(cell_index(side, (rows, columns))).size == rows * columns


def test_cells_are_patches_where_sides_divide() -> None:
    heat = np.arange(36, dtype=np.float32).reshape(6, 6)
    np.testing.assert_allclose(to_cells(heat, (3, 2)), heat.reshape(3, 2, 2, 3).sum(axis=(1, 3)))
