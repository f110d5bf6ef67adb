"""Shape, type and values of a batch of images, checked where it enters, for torch tensors and numpy arrays alike;
imports neither."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

FAR = 10.0  # times what a preprocessed image can hold, from which on values are none of it


def check_images(images: Any, side: int, dtypes: Sequence[str] = ()) -> None:
    """Raise ValueError unless ``images`` is a batch (B, 3, side, side) of floats, B ≥ 1.

    Args:
        images: a batch, preprocessed.
        side: image size in pixels.
        dtypes: names of the types that are accepted, the wanted one first, e.g. ``torch.float32``; default: any float.
    """
    if not hasattr(images, "shape"):
        raise ValueError(f"images are a {type(images).__name__}; this model expects an array (B, 3, {side}, {side})")
    shape, dtype = tuple(images.shape), str(images.dtype)
    if len(shape) != 4 or shape[1:] != (3, side, side) or shape[0] == 0:
        raise ValueError(
            f"images of shape {shape}; this model expects (B, 3, {side}, {side}), B ≥ 1"
            + "; their channels come last: transpose them" * (shape[1:] == (side, side, 3))
        )
    if "float" not in dtype:
        raise ValueError(
            f"images of type {dtype}; this model expects preprocessed floats: use run.inputs(…) or make_transform(…)"
        )
    if dtypes and dtype not in dtypes:
        raise ValueError(f"images of type {dtype}; this model computes in {dtypes[0]}: pass images.to({dtypes[0]})")


def check_values(images: Any, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ValueError for NaN, infinity, and values far beyond those of images that are normalised by mean and std.

    Args:
        images: a batch of floats, on the CPU.

    Warns:
        UserWarning: all values lie in 0 to 1, as before the normalisation.
    """
    least, most = float(images.min()), float(images.max())
    ends = [(end - m) / s for end in (0, 1) for m, s in zip(mean, std, strict=True)]
    low, high = min(ends), max(ends)
    if not max(-least, most) <= FAR * max(-low, high):  # NaN is not either
        raise ValueError(
            f"images with values from {least:.3g} to {most:.3g}; preprocessed ones lie between {low:.2f} and "
            f"{high:.2f}: use engine.prepare(…), run.inputs(…) or make_transform(…)"
        )
    if low < 0 <= least and 0.5 < most <= 1:
        warnings.warn(
            "all values of these images lie in 0 to 1, as if they were not normalised: use engine.prepare(…), "
            "run.inputs(…) or make_transform(…)",
            stacklevel=4,
        )
