"""FLOPs and parameters of a model by component, and cumulative FLOPs per exit.

Convention: FLOPs as deployed, that is with LoRA, adapters beside an MLP and LayerScale merged into
the weights (`merge`); FLOPs as trained are given too. 1 MAC = 2 FLOPs; matrix products, convolutions and attention are
counted, element-wise work (norms, activations, softmax) is not. An exit's FLOPs include everything that ran before it:
embedding, blocks, tuning that cannot be merged, and *every* bypass and predictor already evaluated. Counted with
torch's FlopCounterMode on the math attention backend (the fused CPU kernel would be counted as nothing).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..config import ModelConfig
from ..utils.torch_seeding import seeded
from .dmpo import DMPO, evaluating
from .factory import build_model, build_reference
from .merging import merge

CONVENTION = (
    "as deployed: what merges (LoRA, LayerScale, adapters beside an MLP) is merged; "
    "1 MAC = 2 FLOPs; matrix products, convolutions and attention counted, element-wise work not; "
    "cumulative: embedding, blocks, tuning that does not merge, every bypass and predictor evaluated so far"
)


@dataclass(frozen=True)
class ModelFlops:
    """FLOPs for one image, as deployed, and numbers of parameters, by component.

    Args:
        embed: FLOPs of the embedding.
        trunk, tuning, bypass, predictor: FLOPs of each of the K stages; ``trunk`` without its tuning, ``tuning`` only
            what cannot be merged (0 where merged tokens make the trunk cheaper than the plain one).
        reference: FLOPs of the plain backbone with one linear predictor.
        parameters: of the model as it is given, component → number of parameters; ``embed`` and ``trunk`` count
            frozen ones, ``tuning`` their trainable ones. ``trainable`` counts all trainable ones; the others add up to
            the whole.
        as_trained: (K,) FLOPs up to each exit of the model as it is given: `cumulative` and the tuning that merges.

    Example:
        >>> ModelFlops(10, (40, 40), (1, 1), (5, 0), (4, 4), 94, {}, (62, 109)).cumulative
        (60, 105)
    """

    embed: int
    trunk: tuple[int, ...]
    tuning: tuple[int, ...]
    bypass: tuple[int, ...]
    predictor: tuple[int, ...]
    reference: int
    parameters: dict[str, int]
    as_trained: tuple[int, ...]

    @property
    def cumulative(self) -> tuple[int, ...]:
        """(K,) FLOPs up to each exit, everything that ran before it included."""
        stages = zip(self.trunk, self.tuning, self.bypass, self.predictor, strict=True)
        return _sums(self.embed, (sum(parts) for parts in stages))


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def count_flops(function: Callable[..., object], *inputs: object) -> int:
    """FLOPs of one call of ``function(*inputs)``, by the module's convention.

    Example:
        >>> import torch
        >>> count_flops(torch.nn.Linear(4, 10), torch.zeros(1, 4))  # 40 products and sums
        80
    """
    with counting() as counter:
        function(*inputs)
    return int(counter.get_total_flops())


def measure_flops(model: DMPO, reference: DMPO) -> ModelFlops:
    """FLOPs of every component of a model for one image, in eval mode; model and modes stay as they are.

    Args:
        model: merged or not. A merged copy of it is counted, the model itself for ``as_trained``.
        reference: the plain model of `build_reference`, with the same exits (one more after the last block
            if the model is shorter): its trunks separate the tuning, its full depth is the reference.

    Raises:
        ValueError: the reference has other exits.

    Example:
        >>> import dmpo_explore as dx
        >>> from dmpo_explore.models.factory import build_reference
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2)
        >>> flops = measure_flops(dx.build_model(config, 3), build_reference(config, 3))
        >>> len(flops.cumulative), flops.cumulative[-1] > flops.cumulative[0]
        (2, True)
        >>> flops.as_trained[0] > flops.cumulative[0]  # LoRA is not merged yet
        True
    """
    if reference.exits[: model.n_exits] != model.exits:
        raise ValueError(f"the reference has exits {reference.exits}, the model {model.exits}; see build_reference")
    given_embed, given = _stage_flops(model)
    deployed = copy.deepcopy(model)
    embed, own = _stage_flops(deployed) if merge(deployed) else (given_embed, given)
    plain_embed, plain = _stage_flops(reference)
    trunk = tuple(min(mine.trunk, stage.trunk) for mine, stage in zip(own, plain, strict=False))
    return ModelFlops(
        embed=embed,
        trunk=trunk,
        tuning=tuple(stage.trunk - without for stage, without in zip(own, trunk, strict=True)),
        bypass=tuple(stage.bypass for stage in own),
        predictor=tuple(stage.predictor for stage in own),
        reference=plain_embed + sum(stage.trunk for stage in plain) + plain[-1].predictor,
        parameters=_parameters(model),
        as_trained=_sums(given_embed, map(sum, given)),
    )


@lru_cache(maxsize=32)
def config_flops(config: ModelConfig, n_classes: int) -> ModelFlops:
    """`measure_flops` of the model of a config, counted once a process. Shapes are enough: no weights are read."""
    with seeded(0):
        model = build_model(replace(config, weights="random"), n_classes)
        return measure_flops(model, build_reference(config, n_classes))


class _StageFlops(NamedTuple):
    trunk: int
    bypass: int
    predictor: int


def _stage_flops(model: DMPO) -> tuple[int, list[_StageFlops]]:
    """FLOPs of the embedding and of each stage's parts, one image."""
    size = model.preprocess.image_size
    images = torch.zeros(1, 3, size, size, device=model.device, dtype=next(model.parameters()).dtype)
    stages = []
    with evaluating(model):
        embed = before = count_flops(model.embed, images)
        with counting() as counter:
            for output in model.walk(images):
                trunk = int(counter.get_total_flops())
                _ = output.read
                bypass = int(counter.get_total_flops())
                _ = output.logits
                predictor = int(counter.get_total_flops())
                stages.append(_StageFlops(trunk - before, bypass - trunk, predictor - bypass))
                before = predictor
    return embed, stages


def _sums(first: int, parts: Iterable[int]) -> tuple[int, ...]:
    """Running totals of ``parts``, beginning with ``first``."""
    return tuple(itertools.accumulate(parts, initial=first))[1:]


def _parameters(model: DMPO) -> dict[str, int]:
    def size(modules: Iterable[nn.Module], *, trainable: bool | None = None) -> int:
        weights = [p for m in modules for p in m.parameters() if trainable is None or p.requires_grad is trainable]
        return sum(p.numel() for p in weights)

    stages = list(model.stages)
    backbone = [model.embed, *(stage.trunk for stage in stages)]
    return {
        "embed": size(backbone[:1], trainable=False),
        "trunk": size(backbone[1:], trainable=False),
        "tuning": size(backbone, trainable=True),
        "bypass": size(stage.bypass for stage in stages),
        "norm": size(stage.norm for stage in stages),
        "predictor": size(part for stage in stages for part in (stage.predictor, stage.earlier) if part is not None),
        "scale": model.n_exits,
        "trainable": size([model], trainable=True),
    }
