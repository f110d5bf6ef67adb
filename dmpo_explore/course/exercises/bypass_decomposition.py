"""Exercises of 02_bypass_decomposition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

import dmpo_explore as dx

from . import Lines, exercise, gives, same_weights


@exercise
def check_build(answer: type[Any]) -> Lines:
    """With the same weights it gives what the library's `ConvBypass` gives, to 1e-6."""
    theirs, ours = dx.models.ConvBypass(8, 3, (2, 4), 1).double(), answer(8, 3, (2, 4))
    yield from same_weights(ours.state_dict(), theirs.state_dict())
    ours = ours.double()
    tokens = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    yield gives(ours, (tokens,), tokens, "at the start it must be the identity: set weight and bias of `up` to zero")
    for i, weight in enumerate(theirs.parameters()):
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(i))
    ours.load_state_dict(theirs.state_dict())
    expected, _ = theirs(tokens)
    cls = "the class token skips the convolution, but not GELU and `up`"
    yield gives(lambda x: ours(x)[:, 0], (tokens,), expected[:, 0], cls)
    yield gives(ours, (tokens,), expected, "token 1 + 4·row + column is the patch at that row and column")


@exercise
def check_1(answer: Callable[[float], int]) -> Lines:
    """FLOPs grow in proportion to the hidden width, and nearly all are in the two linear layers."""
    config = replace(dx.load_run("fashion").config.model, bypass="none", weights="random")
    two = dx.models.measure_flops(dx.build_model(config, 10), dx.models.build_reference(config, 10)).trunk[0]

    def takes(hidden: int) -> float:
        return dx.models.count_flops(dx.models.ConvBypass(384, hidden, (5, 5), 1), torch.zeros(1, 26, 384)) / two

    for share in (0.05, 0.01, 0.2):
        hidden = int(answer(share))
        yield hidden == answer(share) and hidden > 0, f"for a share of {share:.0%} give a whole number from 1"
        used, more = takes(hidden), takes(hidden + 1)
        yield used <= share, f"{hidden} hidden channels take {used:.2%} of the two blocks, more than {share:.0%}"
        yield more > share, f"{hidden + 1} hidden channels take {more:.2%}, which is within {share:.0%}, too"


@exercise
def check_2(answer: Callable[[Any], Any]) -> Lines:
    """Stretch one direction far enough and it dominates CKA, though nothing was lost."""
    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image, identity = answer(rows), answer(torch.eye(8, dtype=torch.float64))
    linear = torch.allclose(rows @ identity, image, atol=1e-6 * float(image.abs().max()))
    yield linear, "that is not a linear map of each row"
    yield bool(torch.linalg.matrix_rank(identity) == 8), "that map cannot be undone: some direction is lost"
    value = dx.linear_cka(rows, image)
    yield value < 0.5, f"CKA is still {value:.2f}; rotations and a common scale leave it at 1"


@exercise
def check_3(answer: Callable[[Any, Any], Any]) -> Lines:
    """The mean of what the predictors read is kept; what differs between images comes from the trunk alone."""
    dice = torch.Generator().manual_seed(0)
    trunk, read = (torch.randn(4, 5, 6, generator=dice, dtype=torch.float64) + shift for shift in (1, 3))
    hint = "add the same to every image: one mean for each position and channel, over images"
    yield gives(answer, (trunk, read), trunk + (read - trunk).mean(dim=0), hint)
