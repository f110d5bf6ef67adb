"""FLOPs of what is called, by the convention of `flops`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Context that counts the FLOPs of all calls inside, without gradients."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def count_flops(function: Callable[..., object], *inputs: object) -> int:
    """FLOPs of one call of ``function(*inputs)``, by the convention of `flops`.

    Example:
        >>> import torch
        >>> count_flops(torch.nn.Linear(4, 10), torch.zeros(1, 4))  # 40 products and sums
        80
    """
    with counting() as counter:
        function(*inputs)
    return int(counter.get_total_flops())
