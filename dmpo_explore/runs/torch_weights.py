"""Trainable weights of a run as torch tensors: written to and read from its safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..config import ModelConfig
from ..utils.files import atomic_file
from .weights_file import WEIGHTS, backbone_sha256, read_weights_meta, with_sorted_header


def save_weights(path: Path, state: Mapping[str, Tensor], config: ModelConfig, class_names: Sequence[str] = ()) -> None:
    """Write a run's trainable weights as safetensors, whole or not at all; equal weights give equal bytes.

    Args:
        path: the run folder. state: `DMPO.trainable_state`. config: names the backbone, whose hash is stored.
        class_names: stored too if given, so that the run opens without its data.

    Example:
        >>> import tempfile
        >>> import torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_weights(folder, {"scale": torch.ones(2)}, ModelConfig("test_vit", "random", 32))
        >>> read_weights(folder)
        {'scale': tensor([1., 1.])}
    """
    meta = {"backbone": config.backbone, "backbone_sha256": backbone_sha256(config)}
    if class_names:
        meta["class_names"] = json.dumps(list(class_names))
    data = save({name: value.cpu().contiguous() for name, value in state.items()}, meta)
    with atomic_file(path / WEIGHTS) as temporary:
        temporary.write_bytes(with_sorted_header(data))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The trainable weights of the run in ``path``, on the CPU; FileNotFoundError or ValueError naming the file.

    Example:
        >>> import dmpo_explore as dx
        >>> float(read_weights(dx.load_run("demo").path)["stages.0.scale"]) > 0
        True
    """
    read_weights_meta(path)  # its errors name the fix
    try:
        return load_file(path / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(
            f"{path / WEIGHTS} is not a readable safetensors file (truncated or foreign): {error}"
        ) from None
