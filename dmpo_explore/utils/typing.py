"""Types that all packages share: arrays by element type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


# Picking from arrays of every exit's values: the values at the exit of each image.


def at_exits(values: npt.ArrayLike, exits: npt.ArrayLike) -> Array:
    """The values at the exit of each image.

    Args:
        values: (B, K, …) of every image at every exit.
        exits: (B,) or (G, B) 0-based exit of every image, for one policy or for G.

    Returns:
        (B, …) or (G, B, …).

    Raises:
        IndexError: an exit that does not exist.
    """
    found, places = np.asarray(values), np.asarray(exits)
    return np.asarray(found[np.arange(len(found)), places])


# Types of progress callbacks: done and total, of steps, images or bytes; a `Report` names what is done before them.

Progress = Callable[[int, int], None]
Report = Callable[[str, int, int], None]
