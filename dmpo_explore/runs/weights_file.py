"""Header of a run's weights file (safetensors of the trainable parts), and the hash of its backbone; no torch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..config import ModelConfig
from ..pretrained.sources import SOURCES
from ..pretrained.weights import find_weights

WEIGHTS = "weights.safetensors"


def read_weights_meta(path: Path) -> dict[str, str]:
    """Header of the weights: backbone, backbone_sha256 (empty for hub and random), perhaps class_names (JSON).

    Raises:
        FileNotFoundError: no weights yet. ValueError: not a safetensors file.

    Example:
        >>> import dmpo_explore as dx
        >>> read_weights_meta(dx.load_run("demo").path)["backbone"]
        'vit_small_patch14_dinov2'
    """
    file = path / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"run {path.name!r} has no weights yet: no file {file}; train it (--resume goes on)")
    try:
        with safe_open(file, framework="numpy") as stream:
            return dict(stream.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{file} is not a readable safetensors file (truncated or foreign): {error}") from None


def backbone_sha256(config: ModelConfig) -> str:
    """SHA-256 of the backbone file: the published one (`SOURCES`) or one's own; empty for timm's hub and random.

    Example:
        >>> import dmpo_explore as dx
        >>> backbone_sha256(dx.ModelConfig("test_vit", "random", 32))
        ''
    """
    if config.weights == "auto" and config.backbone in SOURCES:
        return SOURCES[config.backbone].sha256
    file = find_weights(config.backbone, config.weights)
    return file.sha256 if file else ""
