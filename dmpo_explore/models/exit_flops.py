"""FLOPs up to each exit of any torch model, for a record of it.

In: a call of the model on one image, and for each exit the modules that compute it. Out: cumulative FLOPs, by the
convention of `flops`, whatever the order in which the model's code runs its trunk and its predictors.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .flops import counting


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
