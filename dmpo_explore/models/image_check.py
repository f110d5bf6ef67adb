"""Shape and type of a batch of images, checked where it enters, for torch tensors and numpy arrays alike; imports
neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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
