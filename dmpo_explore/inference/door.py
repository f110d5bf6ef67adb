"""Values of a batch of images, checked where it enters an engine, for torch tensors and numpy arrays alike; imports
neither."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

FAR = 10.0  # times what a preprocessed image can hold, from which on values are none of it
NEAR = 0.05  # beyond what a channel can hold: rounding, or a resizing that overshoots
INSTEAD = "use engine.prepare(…), run.inputs(…) or make_transform(…)"


def check_values(images: Any, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError for NaN, infinity, and values far beyond those of images that are normalised by mean and std.

    Args:
        images: a batch of floats, on the CPU.

    Warns:
        UserWarning: all values lie in 0 to 1, as before the normalisation; or outside what their channel can hold and
            inside what it could if the channels were turned round (BGR).
    """
    least, most = float(images.min()), float(images.max())
    lows, highs = ([(end - m) / s for m, s in zip(mean, std, strict=True)] for end in (0, 1))
    low, high = min(lows), max(highs)
    if not max(-least, most) <= FAR * max(-low, high):  # NaN is not either
        raise ValueError(
            f"images with values from {least:.3g} to {most:.3g}; preprocessed ones lie between {low:.2f} and "
            f"{high:.2f}: {INSTEAD}"
        )
    if low < 0 <= least and 0.5 < most <= 1:
        _warn("all values of these images lie in 0 to 1, as if they were not normalised")
    elif (least < max(lows) or most > min(highs)) and low - NEAR <= least and most <= high + NEAR:
        ends = [(float(images[:, c].min()), float(images[:, c].max())) for c in range(len(mean))]
        ours, turned = (
            all(a - NEAR <= least and most <= b + NEAR for (least, most), a, b in zip(ends, *bounds, strict=True))
            for bounds in ((lows, highs), (lows[::-1], highs[::-1]))
        )
        if turned and not ours:
            _warn("the channels of these images seem to be in the order blue, green, red; the model expects RGB")


def _warn(problem: str) -> None:
    warnings.warn(f"{problem}: {INSTEAD}", stacklevel=5)
