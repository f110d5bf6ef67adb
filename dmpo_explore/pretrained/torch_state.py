"""Weights files → named torch tensors: safetensors, or a PyTorch checkpoint read as tensors only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_state(path: Path) -> dict[str, Tensor]:
    """Name → tensor on the CPU, as stored; a ``state_dict`` or ``model`` wrapper around the tensors is taken off.

    Raises:
        ValueError: truncated, not a weights file, or a pickle that holds more than tensors.
    """
    values = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return _only_tensors(values, path)


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file (truncated, or of another kind): {error}") from None


def _read_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of foreign files; the error below names the cause
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes can trip the restricted unpickler anywhere
        reason = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as tensors only (truncated, of another kind, or a pickle with code in it): {reason}"
        ) from None


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
