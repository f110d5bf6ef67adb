"""FLOPs of what is called, by the convention of `flops`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]


def _of_lstm(tokens: Shape, of_input: Shape, of_state: Shape, *_: object, **__: object) -> int:
    """FLOPs of a layer of an LSTM in one direction, from the shapes of its input and its two matrices."""
    return 2 * prod(tokens[:-1]) * (prod(of_input) + prod(of_state))


# torch's own counter knows no oneDNN operators; without oneDNN a CPU would count convolutions in twice the time
FORMULAS = {torch.ops.aten.mkldnn_rnn_layer: _of_lstm}


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Context that counts the FLOPs of all calls inside, without gradients."""
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
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
