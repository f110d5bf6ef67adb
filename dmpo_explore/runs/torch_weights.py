"""Trainable weights of a run as torch tensors: written to and read from its safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os.path import lexists
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..config import ModelConfig
from ..models.dmpo import DMPO
from ..utils.files import atomic_file
from .weights_file import WEIGHTS, backbone_sha256, read_weights_meta, with_sorted_header


def save_weights(
    path: Path,
    state: Mapping[str, Tensor],
    config: ModelConfig,
    class_names: Sequence[str] = (),
    frozen_sha256: str = "",
) -> None:
    """Write a run's trainable weights as safetensors, whole or not at all; equal weights give equal bytes.

    Args:
        path: the run folder. state: `DMPO.trainable_state`. config: names the backbone, whose hash is stored.
        class_names: stored too if given, so that the run opens without its data. frozen_sha256: of the model.

    Example:
        >>> import tempfile
        >>> import torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_weights(folder, {"scale": torch.ones(2)}, ModelConfig("test_vit", "random", 32))
        >>> read_weights(folder)
        {'scale': tensor([1., 1.])}
    """
    meta = {"backbone": config.backbone, "backbone_sha256": backbone_sha256(config)}
    if frozen_sha256:
        meta["frozen_sha256"] = frozen_sha256
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


def require_same_frozen(path: Path, model: DMPO) -> None:
    """Raise ValueError where the run in ``path`` was trained on other frozen weights than those of ``model``.

    Runs whose weights name none, as those of earlier versions, are taken as they are.
    """
    meta = read_weights_meta(path) if lexists(path / WEIGHTS) else {}
    wanted, found = meta.get("frozen_sha256", ""), model.frozen_sha256
    if wanted and wanted != found:
        raise ValueError(
            f"run {path.name!r} was trained on other weights of {meta.get('backbone')} than it has now (SHA-256 of its "
            f"frozen weights {wanted[:12]}…, now {found[:12]}…); restore what its function loads, or train it again"
        )
