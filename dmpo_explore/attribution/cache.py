"""Cache of heat maps: a folder per query with ``heat.npy``, ``tokens.npy``, ``prefix.npy`` and ``answer.json``.

The key is a SHA-256 over the model's weights, its structure, its logits for the image, the image, the baseline and
every argument. So a changed weight gives another key. An entry that cannot be read counts as absent and is written
again. Entries are never removed; a map of 70 pixels takes about 25 KB.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..utils.files import atomic_folder, cache_dir, read_json, write_json
from ..utils.typing import Array

FORMAT = 1
ARRAYS = ("heat", "tokens", "prefix")


def cache_folder(cache: str | Path | bool | None) -> Path | None:
    """None or False: no cache. True: ``attributions`` in the user's cache (`files.cache_dir`). Else that folder."""
    if cache is None or cache is False:
        return None
    return cache_dir() / "attributions" if cache is True else Path(cache)


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's weights and buffers (names, types, shapes, bytes) and of its structure as printed."""
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def map_key(weights: str, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> str:
    """Name of the folder of one heat map.

    Args:
        weights: `fingerprint`. tensors: image, baseline, logits (rounded by the caller). arguments: JSON values.
    """
    text = json.dumps({"format": FORMAT, "weights": weights, **arguments}, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def write_map(folder: Path, name: str, arrays: Mapping[str, Array], numbers: Mapping[str, float | str | None]) -> None:
    """Write arrays and numbers under ``name``, whole or not at all."""
    with atomic_folder(folder / name) as temporary:
        for field in ARRAYS:
            np.save(temporary / f"{field}.npy", arrays[field], allow_pickle=False)
        write_json(temporary / "answer.json", {"format": FORMAT, **numbers})


def read_map(folder: Path, name: str, side: int) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """The arrays and numbers under ``name``; None where there are none or they are broken."""
    try:
        answer = read_json(folder / name / "answer.json")
        arrays = {field: _array(folder / name / f"{field}.npy") for field in ARRAYS}
        shapes = arrays["heat"].shape == (side, side) and arrays["tokens"].ndim == 2 and arrays["prefix"].ndim == 1
        whole = all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays.values())
        if not (shapes and whole and answer.pop("format") == FORMAT):
            return None
        numbers = {field: answer.pop(field) for field in ("delta", "steps", "layer")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None
    return (arrays, numbers) if not answer and _are_numbers(**numbers) else None


def _array(path: Path) -> Array:
    with path.open("rb") as stream:  # .npy only, so no archives and no pickles
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _are_numbers(delta: Any, steps: Any, layer: Any) -> bool:
    """Whether the numbers have the types of a `HeatMap`."""
    delta_fits = delta is None or (type(delta) in (int, float) and math.isfinite(delta))
    return delta_fits and (steps is None or (type(steps) is int and steps > 0)) and isinstance(layer, str)


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
