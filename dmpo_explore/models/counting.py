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


def _of_layers(tokens: Shape, weights: Sequence[Shape], *_: object, **__: object) -> int:
    """FLOPs of all layers of an LSTM, a GRU or an RNN, from the shapes of its input, its matrices and its biases."""
    return 2 * prod(tokens[:-1]) * sum(prod(shape) for shape in weights if len(shape) == 2)


def _of_sums(_: Shape, summed: Shape, *__: object, out_shape: Shape, **___: object) -> int:
    """FLOPs of an output whose every value is a sum of products over the last dimension of the second operand."""
    return 2 * prod(out_shape) * summed[-1]


def _of_bilinear(left: Shape, weights: Shape, *_: object, **__: object) -> int:
    """FLOPs of (b, I) · (O, I, J) · (b, J): the first product, then the second."""
    outputs, width, other = weights
    return 2 * left[0] * outputs * other * (width + 1)


aten = torch.ops.aten
# what torch's own counter does not know; without oneDNN a CPU would count convolutions in twice the time
FORMULAS = {
    aten.mkldnn_rnn_layer: _of_lstm,
    aten._cudnn_rnn: _of_layers,
    aten.miopen_rnn: _of_layers,
    aten._trilinear: _of_bilinear,
} | dict.fromkeys((aten.mv, aten.addmv, aten.dot, aten.vdot, aten._cdist_forward, aten._euclidean_dist), _of_sums)


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
