"""FLOPs and parameters of a model by component, and cumulative FLOPs per exit; `exit_flops` counts any torch model.

Convention: FLOPs as deployed, that is with LoRA, adapters beside an MLP and LayerScale merged into
the weights (`merge`); FLOPs as trained are given too. 1 MAC = 2 FLOPs; matrix products, convolutions and attention are
counted, element-wise work (norms, activations, softmax) is not. An exit's FLOPs include everything that ran before it:
embedding, blocks, tuning that cannot be merged, and *every* bypass and predictor already evaluated. Counted with
torch's FlopCounterMode on the math attention backend (the fused CPU kernel would be counted as nothing).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..config import ModelConfig
from ..utils.torch_tools import seeded
from .counting import count_flops as count_flops
from .counting import counting
from .dmpo import DMPO, evaluating
from .factory import build_model, build_reference
from .tuning import merge, tuned_layers

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
        layers: linear layers and undivided convolutions of the trunks: how many LoRA tunes, and all.

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
    layers: tuple[int, int] = (0, 0)

    @property
    def cumulative(self) -> tuple[int, ...]:
        """(K,) FLOPs up to each exit, everything that ran before it included."""
        stages = zip(self.trunk, self.tuning, self.bypass, self.predictor, strict=True)
        return _sums(self.embed, (sum(parts) for parts in stages))


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
        layers=tuned_layers(stage.trunk for stage in model.stages),
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


class ExitFlops(NamedTuple):
    """FLOPs of one image: ``cumulative`` (K,) up to each exit, ``reference`` of the trunk with the last exit alone.

    Example:
        >>> ExitFlops((50, 110), 100).reference
        100
    """

    cumulative: tuple[int, ...]
    reference: int


def exit_flops(
    call: Callable[..., object], image: Any, exits: Sequence[tuple[nn.Module, nn.Module | None]]
) -> ExitFlops:
    """FLOPs of an image that exits at each exit: trunk up to there, and every predictor evaluated so far.

    Args:
        call: the model, or a function that runs all of it; called once with ``image``, without gradients. Its mode is
            yours to set: `eval`, as a rule.
        image: one image, (1, 3, H, W).
        exits: for each exit, the first one first: the module that ends its part of the trunk, and its predictor. None:
            the first module ends with the predictor, as a whole model does. Each must run once.

    Raises:
        ValueError: a module that did not run, or ran more than once; FLOPs that do not rise.

    Example:
        >>> import torch
        >>> trunk = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        >>> first, last = nn.Linear(8, 3), nn.Linear(8, 3)
        >>> def call(x):  # the trunk first, then both predictors, as models with hidden states do
        ...     middle = trunk[0](x)
        ...     end = trunk[1](middle)
        ...     return first(middle), last(end)
        >>> exit_flops(call, torch.zeros(1, 8), [(trunk[0], first), (trunk[1], last)])
        ExitFlops(cumulative=(176, 352), reference=304)
    """
    ends, heads = [end for end, _ in exits], [head for _, head in exits]
    with counting() as counter, _watched(counter, ends, heads) as seen:
        call(image)
    for k, (end, head) in enumerate(exits, start=1):
        for module in (end, head):
            count = 1 if module is None else seen.runs.get(id(module), 0)
            if count != 1:
                often = "did not run" if not count else f"ran {count} times"
                raise ValueError(f"exit {k}: {type(module).__name__} {often}; name modules that run once in the call")
    predictors = [0 if head is None else seen.own[id(head)] for head in heads]
    trunks = [seen.trunk[id(end)] for end in ends]
    found = tuple(trunk + sum(predictors[: k + 1]) for k, trunk in enumerate(trunks))
    if any(later <= before for before, later in itertools.pairwise(found)):
        raise ValueError(f"FLOPs {list(found)} do not rise from exit to exit; name the exits in the order of the trunk")
    return ExitFlops(found, trunks[-1] + predictors[-1])


class _Seen:
    """What hooks have seen, by the id of a module: how often it ran, its own FLOPs, the trunk's FLOPs at its end."""

    def __init__(self) -> None:
        self.runs: dict[int, int] = {}
        self.own: dict[int, int] = {}
        self.trunk: dict[int, int] = {}
        self.begun: dict[int, int] = {}
        self.of_heads = 0


@contextmanager
def _watched(counter: FlopCounterMode, ends: Sequence[nn.Module], heads: Sequence[nn.Module | None]) -> Iterator[_Seen]:
    seen = _Seen()

    def total() -> int:
        return int(counter.get_total_flops())

    def begin(module: nn.Module, *_: object) -> None:
        seen.begun[id(module)] = total()

    def end_of_head(module: nn.Module, *_: object) -> None:
        seen.runs[id(module)] = seen.runs.get(id(module), 0) + 1
        seen.own[id(module)] = total() - seen.begun[id(module)]
        seen.of_heads += seen.own[id(module)]

    def end_of_trunk(module: nn.Module, *_: object) -> None:
        seen.runs[id(module)] = seen.runs.get(id(module), 0) + 1
        seen.trunk[id(module)] = total() - seen.of_heads

    hooks = []
    for head in heads:
        if head is not None:
            hooks += [head.register_forward_pre_hook(begin), head.register_forward_hook(end_of_head)]
    hooks += [module.register_forward_hook(end_of_trunk) for module in ends]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
