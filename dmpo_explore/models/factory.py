"""Model factory: a `ModelConfig` and a number of classes → `DMPO`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..pretrained.weights import KEYWORDS, find_weights, is_hub
from ..utils.files import expanded
from ..utils.registry import lookup, python_function
from ..utils.torch_tools import seeded
from .backbone import Backbone, ExitShape, check_backbone, with_exits
from .bypass import BYPASSES, try_bypass
from .cut import split
from .dmpo import DMPO, evaluating, hash_frozen
from .own import own_backbone
from .predictors import PREDICTORS, Predictor
from .stage import EarlierExits, Stage
from .timm_backbones import create_backbone, split_backbone
from .tuning import Tunable, tune

PLAIN: dict[str, Any] = {
    "bypass": "none",
    "predictor": "linear",
    "last_bypass": "none",
    "last_predictor": "linear",
    "earlier_exits": False,
}


DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def with_own_weights(model: ModelConfig) -> ModelConfig:
    """The same model; a weights file of the user's with its absolute path, so that it is found from any folder."""
    path = expanded(model.weights)
    own = model.weights not in KEYWORDS and path.is_file()
    return replace(model, weights=str(path.absolute())) if own else model


def build_model(config: ModelConfig, n_classes: int, *, backbone: Backbone | None = None) -> DMPO:
    """A new model, in train mode, its backbone frozen except for the tuning.

    Args:
        n_classes: C, at least 2.
        backbone: one that you cut yourself, in place of the config's backbone, weights and exits. It is consumed.

    Raises:
        ValueError: an unknown part or a number that does not fit the backbone.
        FileNotFoundError: weights that have to be fetched first.

    Example:
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3)
        >>> model.n_exits, model.training
        (2, True)
    """
    if n_classes < 2:
        raise ValueError(f"n_classes={n_classes}: a classifier needs at least 2 classes")
    if backbone is not None:
        return _tuned(check_backbone(backbone, config.image_size), config, n_classes)
    if config.whole:  # its weights are all the run's own
        return assemble(config, n_classes)
    if python_function(config.backbone):  # it loads its weights itself
        model = assemble(config, n_classes)
        model.frozen_sha256 = hash_frozen(model)
        return model
    file = find_weights(config.backbone, config.weights)
    return assemble(
        config, n_classes, state=file.read() if file else None, pretrained=is_hub(config.backbone, config.weights)
    )


def build_reference(config: ModelConfig, n_classes: int, *, backbone: Backbone | None = None) -> DMPO:
    """The reference model of FLOPs fractions: the plain backbone, every block, linear predictors, no tuning, no bypass.

    It has the exits of ``config`` and one after the last block, random weights, and reads the class token
    (the patch mean where there is none). For a ``backbone`` that you cut yourself it has that backbone's exits; the
    backbone is consumed.

    Example:
        >>> import dmpo_explore as dx
        >>> build_reference(dx.ModelConfig("test_vit", "random", 32, exits=(2, 4)), 3).exits
        (2, 4, 6)
    """
    backbone = _split(config, whole=True) if backbone is None else check_backbone(backbone, config.image_size)
    reads = ["cls" if shape.class_token else "mean" for shape in backbone.shapes()]
    return _wire(backbone, replace(config, **PLAIN), n_classes, reads)


@contextmanager
def for_shapes(config: ModelConfig) -> Iterator[None]:
    """Context in which a model of ``config`` is built for its shapes alone: without memory, and without drawing from
    torch's generator. The code of an own backbone may not run without memory, so that it has some."""
    own = python_function(config.backbone) is not None
    with seeded(0), nullcontext() if own else torch.device("meta"):
        yield


def assemble(
    config: ModelConfig, n_classes: int, *, state: Mapping[str, Tensor] | None = None, pretrained: bool = False
) -> DMPO:
    """`build_model` with given weights: a timm state dict, timm's hub, or neither (random)."""
    return _tuned(_split(config, state=state, pretrained=pretrained), config, n_classes)


def _split(config: ModelConfig, *, whole: bool = False, **weights: Any) -> Backbone:
    """The config's backbone, timm's or one's own, cut at its exits."""
    if python_function(config.backbone) is None:
        model = create_backbone(config.backbone, config.image_size, **weights)
        return split_backbone(model, config.exits, config.image_size, whole=whole)
    made = own_backbone(config)
    if isinstance(made, Backbone):
        return with_exits(made, config.exits, whole=whole)
    assert made.preprocess is not None
    return split(made, config.exits, made.preprocess, whole=whole)


def _tuned(backbone: Backbone, config: ModelConfig, n_classes: int) -> DMPO:
    """The tuning is added before the stages are built, because peft freezes every module it finds."""
    for change, options in config.changes:
        backbone = change.apply(backbone, options)
    parts = Tunable([backbone.embed, *backbone.trunks], named=backbone.named, chosen=config.tune_layers or "")
    if not backbone.named:
        like = next(parts.parameters())
        parts.find_idle(torch.zeros(1, 3, config.image_size, config.image_size, device=like.device, dtype=like.dtype))
    if config.tuning != "full":
        _without_dropout(parts)
    tune(parts, config.tuning, config.rank, config.dropout)
    embed, *trunks = parts
    backbone = replace(backbone, embed=embed, trunks=trunks)  # one that is a single layer has been replaced
    reads = [read_of(config, shape) for shape in backbone.shapes()]
    return _wire(backbone, config, n_classes, reads)


def _without_dropout(trunk: nn.Module) -> None:
    """Switch a trunk's own dropout and stochastic depth off, as timm's are: frozen layers give what they will give."""
    for module in trunk.modules():
        if isinstance(module, DROPOUTS) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0  # type: ignore[assignment]
        elif type(module).__name__.endswith("DropPath"):
            module.drop_prob = 0.0  # type: ignore[assignment]
        elif isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = 0.0


def _wire(backbone: Backbone, config: ModelConfig, n_classes: int, reads: Sequence[str]) -> DMPO:
    """The last exit gets the config's ``last_bypass`` and ``last_predictor``, the others its bypass and predictor."""
    shapes = backbone.shapes()
    n_early = len(shapes) - 1
    bypasses = [lookup(BYPASSES, config.bypass, "bypass")] * n_early
    bypasses += [lookup(BYPASSES, config.last_bypass, "last_bypass")]
    predictors = [lookup(PREDICTORS, config.predictor, "predictor")] * n_early
    predictors += [lookup(PREDICTORS, config.last_predictor, "last_predictor")]
    for kind, read in dict.fromkeys(zip(bypasses, reads, strict=True)):
        exits = zip(shapes, bypasses, reads, strict=True)
        kind.check([shape for shape, own, how in exits if (own, how) == (kind, read)], read)
    for predictor in dict.fromkeys(predictors):
        predictor.check(shapes, config)
    earlier = config.earlier_exits and len(shapes) > 1
    if earlier and any(kind.reads_side for kind in bypasses):
        raise ValueError("earlier_exits needs a bypass that does not read the previous one: 'conv', not 'ladder'")
    stages, side = [], None
    for k, shape in enumerate(shapes):
        bypass = bypasses[k].at(shape, config)
        with _named(k, backbone), evaluating(bypass):
            side = try_bypass(bypass, shape, side)
        stage = Stage(
            backbone.trunks[k],
            bypass,
            backbone.norms[k].requires_grad_(config.train_norm),
            _predictor(predictors[k], backbone, k, config, n_classes, reads[k]),
            width=shape.width,
            grid=shape.grid,
            prefix=shape.prefix,
            class_token=shape.class_token,
            layout=backbone.layout,
            earlier=EarlierExits(k) if earlier else None,
        )
        stages.append(stage)
    preprocess = backbone.preprocess
    assert preprocess is not None
    if config.resize != "squash":  # else as the backbone's config
        preprocess = replace(preprocess, resize=config.resize)
    return DMPO(backbone.embed, stages, backbone.exits, preprocess, equilibrium=config.equilibrium).train()


def _predictor(
    kind: type[Predictor], backbone: Backbone, k: int, config: ModelConfig, n_classes: int, read: str
) -> Predictor:
    with _named(k, backbone):
        return kind.at(backbone.shapes()[k], n_classes, config, read)


@contextmanager
def _named(k: int, backbone: Backbone) -> Iterator[None]:
    """Context in which a ValueError names exit ``k``."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"exit {k + 1}, after block {backbone.exits[k]}: {error}") from None


def read_of(config: ModelConfig, shape: ExitShape) -> str:
    """What the linear predictor of an exit reads: ``config.read``, with ``auto`` resolved."""
    if config.read == "auto":
        return "both" if shape.class_token else "mean"
    if config.read in ("cls", "both") and not shape.class_token:
        raise ValueError(f"read={config.read!r}: {config.backbone} has no class token; use 'mean' (patch tokens)")
    return config.read
