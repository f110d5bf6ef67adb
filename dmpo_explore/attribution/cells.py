"""Pixels and cells of the token grid.

In: a heat map (S,S) or a token map (rows, columns). Out: the other of the two. Sides need not divide: pixel i of S lies
in row ⌊i · rows / S⌋.
"""

from __future__ import annotations

import numpy as np

from ..utils.typing import Array


def cell_index(side: int, grid: tuple[int, int]) -> Array:
    """Number of the cell in which each pixel lies, (side, side) int, counted row by row."""
    rows, columns = (np.arange(side) * n // side for n in grid)
    index: Array = rows[:, None] * grid[1] + columns[None, :]
    return index


def to_cells(heat: Array, grid: tuple[int, int], *, mean: bool = False) -> Array:
    """Sums, or means, of a heat map over the pixels of each cell: (S,S) → (rows, columns) float32.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> dx.attribution.to_cells(np.arange(16.0).reshape(4, 4), (2, 2)).tolist()
        [[10.0, 18.0], [42.0, 50.0]]
    """
    index = cell_index(heat.shape[0], grid).ravel()
    total: Array = np.bincount(index, weights=heat.ravel().astype(np.float64), minlength=grid[0] * grid[1])
    if mean:
        total = total / np.bincount(index, minlength=grid[0] * grid[1])
    return total.reshape(grid).astype(np.float32)


def to_pixels(tokens: Array, side: int, *, spread: bool = False) -> Array:
    """A token map in pixels: (rows, columns) → (side, side) float32, every pixel with its cell's value.

    Args:
        spread: every pixel gets an equal share of its cell's value instead, so that sums stay.
    """
    index = cell_index(side, (tokens.shape[0], tokens.shape[1]))
    values = tokens.ravel().astype(np.float64)
    if spread:
        values = values / np.bincount(index.ravel(), minlength=len(values))
    pixels: Array = values[index].astype(np.float32)
    return pixels
