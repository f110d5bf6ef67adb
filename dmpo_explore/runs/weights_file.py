"""The weights file of a run: safetensors of the trainable parts."""

from __future__ import annotations
from ..config import ModelConfig
from ..utils.files import atomic_file
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


WEIGHTS = "weights.safetensors"


def save_weights(path: Path, state: Mapping[str, Tensor], config: ModelConfig, class_names: Sequence[str] = ()) -> None:
    """Write a run's trainable weights as safetensors, whole or not at all.

    Args:
        path: the run folder. state: `DMPO.trainable_state`. config: names the backbone, whose hash is noted.
        class_names: noted too if given, so that the run opens without its data.
    """
    from safetensors.torch import save_file

    meta = {"backbone": config.backbone, "backbone_sha256": backbone_sha256(config)}
    if class_names:
        meta["class_names"] = json.dumps(list(class_names))
    with atomic_file(path / WEIGHTS) as temporary:
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, temporary, meta)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The trainable weights of the run in ``path``; FileNotFoundError or ValueError naming the file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_weights_meta(path)  # its errors name the fix
    try:
        return load_file(path / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(
            f"{path / WEIGHTS} is not a readable safetensors file (truncated or foreign): {error}"
        ) from None


def read_weights_meta(path: Path) -> dict[str, str]:
    """Header of the weights: backbone, backbone_sha256 (empty for hub and random), perhaps class_names (JSON)."""
    from safetensors import SafetensorError, safe_open

    file = path / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"run {path.name!r} has no weights yet: no file {file}; train it (--resume goes on)")
    try:
        with safe_open(file, framework="numpy") as stream:
            return dict(stream.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{file} is not a readable safetensors file (truncated or foreign): {error}") from None


def backbone_sha256(config: ModelConfig) -> str:
    """Hash of the backbone file: the published one (`SOURCES`) or one's own; empty for timm's hub and random."""
    from ..pretrained.weights import SOURCES, find_weights

    if config.weights == "auto" and config.backbone in SOURCES:
        return SOURCES[config.backbone].sha256
    file = find_weights(config.backbone, config.weights)
    return file.sha256 if file else ""
