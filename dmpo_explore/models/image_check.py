"""Shape and type check of a batch of images, for torch tensors and numpy arrays alike; imports neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class HasShapeAndType(Protocol):
    """A torch tensor or a numpy array."""

    @property
    def shape(self) -> Sequence[int]: ...

    @property
    def dtype(self) -> object: ...


def check_images(images: HasShapeAndType, side: int, dtypes: Sequence[str] = ()) -> None:
    """Raise ValueError unless ``images`` is a batch (B, 3, side, side) of floats, B ≥ 1.

    Args:
        images: a batch, preprocessed.
        side: image size in pixels.
        dtypes: names of the types that are accepted, the wanted one first, e.g. ``torch.float32``; default: any float.
    """
    shape, dtype = tuple(images.shape), str(images.dtype)
    if len(shape) != 4 or shape[1:] != (3, side, side) or shape[0] == 0:
        raise ValueError(f"images of shape {shape}; this model expects (B, 3, {side}, {side}), B ≥ 1")
    if "float" not in dtype:
        raise ValueError(
            f"images of type {dtype}; this model expects preprocessed floats: use run.inputs(…) or make_transform(…)"
        )
    if dtypes and dtype not in dtypes:
        raise ValueError(f"images of type {dtype}; this model computes in {dtypes[0]}: pass images.to({dtypes[0]})")
