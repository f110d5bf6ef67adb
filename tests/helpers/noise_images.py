"""A few images of noise."""

from __future__ import annotations

import numpy as np

from dmpo_explore.data.image_set import ImageSet


def pictures(n: int = 6) -> ImageSet:
    """``n`` of ten grey images of 16 pixels, from the third on; three classes."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (10, 16, 16), dtype=np.uint8)
    return ImageSet("made-up", "test", np.arange(n) % 3, ("a", "b", "c"), np.arange(2, 2 + n), pixels)
