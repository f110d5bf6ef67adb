"""Trainable weights of a run as torch tensors: written to and read from its safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os.path import lexists
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..config import Config, ModelConfig, Preprocess
from ..data.image_set import ImageSet
from ..data.torch_loaders import make_transform
from ..models.dmpo import DMPO
from ..models.factory import build_model, build_reference, for_shapes
from ..models.predictors import PRECISIONS, cast_products, prepare
from ..models.tuning import merge as merge_tuning
from ..plugin_needs import naming_changed
from ..utils.files import atomic_file
from ..utils.registry import lookup, unknown
from ..utils.torch_tools import seeded
from .run_files import WEIGHTS, backbone_sha256, read_weights_meta, with_sorted_header


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

    Runs whose weights name none are taken as they are.
    """
    meta = read_weights_meta(path) if lexists(path / WEIGHTS) else {}
    wanted, found = meta.get("frozen_sha256", ""), model.frozen_sha256
    if wanted and wanted != found:
        raise ValueError(
            f"run {path.name!r} was trained on other weights of {meta.get('backbone')} than it has now (SHA-256 of its "
            f"frozen weights {wanted[:12]}…, now {found[:12]}…); restore what its function loads, or train it again"
        )


# A run's trained model and its preprocessed images, as torch objects.

ACCELERATORS = {"cuda": "NVIDIA GPU", "mps": "Apple GPU", "xpu": "Intel GPU"}  # torch's name → what it is
DEVICES = ("auto", "cpu", *ACCELERATORS)


def load_model(
    path: Path, config: Config, n_classes: int, device: str = "auto", *, merge: bool = False, precision: str = "no"
) -> DMPO:
    """The trained model in the run folder ``path``, in eval mode; see `Run.model`."""
    kind = lookup(PRECISIONS, precision, "precision")
    run = f"run {path.name!r}"
    config = config.require_plugins(run)
    if kind is not None and not merge:
        raise ValueError(f"precision={precision!r} casts weights for inference: pass merge=True, too")
    place = find_device(device)
    state, meta = read_weights(path), read_weights_meta(path)
    wanted, found = meta.get("backbone_sha256", ""), backbone_sha256(config.model)
    if wanted != found:
        raise ValueError(
            f"run {path.name!r} was trained on {meta.get('backbone')} weights with sha256 {wanted or '(none)'}; "
            f"weights={config.model.weights!r} now has {found or '(none)'}"
        )
    with seeded(config.training.seed), naming_changed(config.plugins, run):  # as in training: random backbones return
        model = build_model(config.model, n_classes)
        require_same_frozen(path, model)
    try:
        model.load_trainable(state)
    except ValueError as error:
        with naming_changed(config.plugins, run):
            raise ValueError(f"{path / WEIGHTS}: {error}") from None
    if merge:
        merge_tuning(model)
        prepare(model)
    if kind is not None:
        cast_products(model, kind)
        model.precision = precision
    return model.to(place).eval()


def preprocess_of(config: ModelConfig) -> Preprocess:
    """The input that a model of this configuration expects; see `Run.preprocess`."""
    with for_shapes(config):
        return build_reference(config, 2).preprocess


def stack_inputs(images: ImageSet, preprocess: Preprocess) -> Tensor:
    """(B, 3, S, S) float32: all images, preprocessed; see `Run.inputs`."""
    transform = make_transform(preprocess)
    return torch.stack([transform(images[i]) for i in range(len(images))])


def find_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is an NVIDIA GPU if there is one, else the CPU.

    ``mps`` (Apple) and ``xpu`` (Intel) are used where they are named: nothing here has been measured on them.

    Raises:
        ValueError: no device of this name, or none that can be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(unknown("device", name, DEVICES)) from None
    if device.type in ACCELERATORS and not _is_usable(device.type):
        raise ValueError(f"device={name!r}: there is no usable {ACCELERATORS[device.type]}; use auto or cpu")
    return device


def _is_usable(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found is not None and found.type == kind
