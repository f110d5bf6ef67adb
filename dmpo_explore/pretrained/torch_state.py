"""Weights files → named torch tensors: safetensors, or a PyTorch checkpoint read as tensors only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..utils.torch_tools import load_tensors


def read_state(path: Path) -> dict[str, Tensor]:
    """Name → tensor on the CPU, as stored; a ``state_dict`` or ``model`` wrapper around the tensors is taken off.

    Raises:
        ValueError: truncated, not a weights file, or a pickle that holds more than tensors.
    """
    if path.suffix == ".safetensors":
        try:
            return _only_tensors(load_file(path), path)
        except (SafetensorError, OSError) as error:
            text = f"{path} is not a whole safetensors file (truncated, or of another kind): {error}"
            raise ValueError(text) from None
    return _only_tensors(load_tensors(path, f"{path} cannot be read as tensors only"), path)


def _only_tensors(values: object, path: Path) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(wrapper), Mapping):
            values = values[wrapper]
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{path} holds no tensors by name but {type(values).__name__}")
    wrong = [key for key, value in values.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if wrong:
        raise ValueError(f"{path} holds something else than tensors under {wrong[0]!r}")
    return dict(values)
