"""A run's trained model and its preprocessed images, as torch objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..config import Config, ModelConfig, Preprocess
from ..data.image_set import ImageSet
from ..data.torch_loaders import make_transform
from ..models.dmpo import DMPO
from ..models.factory import build_model, build_reference, for_shapes
from ..models.predictors import PRECISIONS, cast_products, prepare
from ..models.tuning import merge as merge_tuning
from ..plugin_needs import naming_changed
from ..utils.registry import lookup, unknown
from ..utils.torch_tools import seeded
from .torch_weights import read_weights, require_same_frozen
from .weights_file import WEIGHTS, backbone_sha256, read_weights_meta

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
            raise ValueError(f"{path / WEIGHTS}: {error}{_changed_moment(state)}") from None
    if merge:
        merge_tuning(model)
        prepare(model)
    if kind is not None:
        cast_products(model, kind)
        model.precision = precision
    return model.to(place).eval()


def _changed_moment(state: Mapping[str, Tensor]) -> str:
    """Why the weights of an early `moment` predictor do not fit; empty for others."""
    old = any(".predictor.project." in name for name in state)
    return (
        "; its predictor is an earlier version's 'moment', which computed other values: train it again" if old else ""
    )


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

    Example:
        >>> find_device("cpu")
        device(type='cpu')
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
