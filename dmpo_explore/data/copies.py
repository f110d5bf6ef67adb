"""Copies: images that are equal, or nearly, to images of a split that is held out longer.

In: frames with looks. Out: row → the image it is a copy of. A model that is trained on a copy of a test image is tested
on what it was trained on; so of the user's images the copy is left out.

Ours: two images are nearly equal if their 8 x 8 pixel versions differ by at most 4 of 255 grey levels (root mean
square) and by at most a tenth of their contrast (the standard deviation over their pixels). The limits were chosen by
looking at pairs of Caltech-101, groceries, birds and waste: those below them show one picture twice. A photograph stays
nearly equal after JPEG at quality 60, and mostly after it was made half as large; a crop or a mirrored copy does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..utils.typing import Ints
from .splits import SPLITS, UNLABELLED

ORDER = (UNLABELLED, *SPLITS)  # the last one keeps the image
NEAR, SHARE = 4.0, 0.1  # grey levels; of the contrast
AXES, NEIGHBOURS = 16, 8  # principal axes in which candidates are looked for, and candidates of an image


def find_copies(frames: Sequence[pd.DataFrame]) -> list[dict[int, str]]:
    """Of each frame, row → the name of an equal or nearly equal image in a later one of `ORDER`."""
    every = pd.concat(frames, keys=range(len(frames)))
    every = every[every["split"].isin(ORDER) & every["tiny"].notna() & (every["problem"] == "")]
    rank, found = every["split"].map(ORDER.index), [dict[int, str]() for _ in frames]
    for level in sorted({*rank})[:-1]:
        low, high = every[rank == level], every[rank > level]
        names = [image_name(row) for row in high.itertuples()]
        equal = dict(zip(high["sha256"], range(len(high)), strict=True))
        near = _nearest(_pixels(low), _pixels(high))
        for (frame, row), digest, at in zip(low.index, low["sha256"], near.tolist(), strict=True):
            if (at := equal.get(digest, at)) >= 0:
                found[frame][row] = names[at]
    return found


def image_name(row: object) -> str:
    """An image's name, with its split unless that is in the path."""
    path, split, position = (getattr(row, name) for name in ("path", "split", "position"))
    name = path or f"{split} image {position}"
    return name if name.lower().startswith(split) else f"{name} [{split}]"


def _pixels(frame: pd.DataFrame) -> NDArray[np.float32]:
    return np.frombuffer(b"".join(frame["tiny"]), np.uint8).reshape(len(frame), -1).astype(np.float32)


def _nearest(low: NDArray[np.float32], high: NDArray[np.float32]) -> Ints:
    """(n,) row of ``high`` that each image of ``low`` is nearly equal to; -1 where there is none."""
    from scipy.spatial import cKDTree

    side = np.sqrt(low.shape[1])
    axes = np.linalg.svd(high[:: len(high) // 2000 + 1] - high.mean(axis=0), full_matrices=False)[2][:AXES].T
    k = [*range(1, min(NEIGHBOURS, len(high)) + 1)]
    _, places = cKDTree(high @ axes).query(low @ axes, k, distance_upper_bound=NEAR * side)
    there = places < len(high)
    apart = np.linalg.norm(high[np.where(there, places, 0)] - low[:, None], axis=2) / side
    apart[~there] = np.inf
    contrast = low.reshape(len(low), -1, 3).std(axis=1).mean(axis=1)
    best = apart.argmin(axis=1)
    rows = np.arange(len(low))
    return np.where(apart[rows, best] < np.minimum(NEAR, SHARE * contrast), places[rows, best], -1)
