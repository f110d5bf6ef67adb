"""Checks of 02_bypass_decomposition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dmpo_explore as dx

from . import exercise


@exercise
def check_build(answer: type[Any]) -> str:
    """With the same weights it gives what the library's `ConvBypass` gives, to 1e-6."""
    import torch

    theirs, ours = dx.models.ConvBypass(8, 3, (2, 4), 1).double(), answer(8, 3, (2, 4))
    names = {name: tuple(weight.shape) for name, weight in theirs.named_parameters()}
    found = {name: tuple(getattr(weight, "shape", ())) for name, weight in ours.named_parameters()}
    if foreign := sorted(found.keys() - names.keys()):
        return f"a weight {foreign[0]} is not needed: there are four layers, norm, down, conv and up"
    for name, shape in names.items():
        if found.get(name) != shape:
            has = f"has shape {found[name]}" if name in found else "is missing"
            return f"at width 8 and 3 hidden numbers {name} {has}; it needs {shape}"
    ours = ours.double()
    tokens = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if not torch.equal(ours(tokens), tokens):
        return "at the start it must be the identity: set weight and bias of `up` to zero"
    for i, weight in enumerate(theirs.parameters()):
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(i))
    ours.load_state_dict(theirs.state_dict())
    result, expected = ours(tokens), theirs(tokens)[0]
    if not torch.allclose(result[:, 0], expected[:, 0], atol=1e-6, rtol=0):
        return "the class token differs: it skips the convolution, but not GELU and `up`"
    return "" if torch.allclose(result, expected, atol=1e-6, rtol=0) else "patches differ: token 1 + 4·row + column"


@exercise
def check_1(answer: Callable[[float], int]) -> str:
    """FLOPs grow in proportion to the hidden width, and nearly all are in the two linear layers."""
    import torch

    config = replace(dx.load_run("demo").config.model, bypass="none", weights="random")
    two = dx.models.measure_flops(dx.build_model(config, 10), dx.models.build_reference(config, 10)).trunk[0]
    tokens = torch.zeros(1, 26, 384)
    for share in (0.05, 0.01, 0.2):
        hidden = int(answer(share))
        if hidden < 1 or hidden != answer(share):
            return f"for a share of {share:.0%} give a whole number, not {answer(share)}"
        takes = [
            dx.models.count_flops(dx.models.ConvBypass(384, n, (5, 5), 1), tokens) / two for n in (hidden, hidden + 1)
        ]
        if takes[0] > share:
            return f"with {hidden} hidden channels it takes {takes[0]:.2%} of the two blocks, more than {share:.0%}"
        if takes[1] <= share:
            return f"with {hidden + 1} hidden channels it takes {takes[1]:.2%}, which is within {share:.0%}, too"
    return ""


@exercise
def check_2(answer: Callable[[Any], Any]) -> str:
    """Stretch one direction far enough and it dominates CKA, though nothing was lost."""
    import torch

    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image, identity = answer(rows), answer(torch.eye(8, dtype=torch.float64))
    if not torch.allclose(rows @ identity, image, atol=1e-6 * float(image.abs().max())):
        return "that is not a linear map of each row"
    if torch.linalg.matrix_rank(identity) < 8:
        return "that map cannot be undone: some direction is lost"
    value = dx.linear_cka(rows, image)
    return "" if value < 0.5 else f"CKA is still {value:.2f}; rotations and a common scale leave it at 1"


@exercise
def check_3(answer: Callable[[Any, Any], Any]) -> str:
    """The mean of what the predictors read is kept; what differs between images comes from the trunk alone."""
    import torch

    dice = torch.Generator().manual_seed(0)
    trunk, read = (torch.randn(4, 5, 6, generator=dice, dtype=torch.float64) + shift for shift in (1, 3))
    given = answer(trunk.clone(), read.clone())
    if tuple(given.shape) != (4, 5, 6):
        return f"of tokens (4, 5, 6) it must return tokens (4, 5, 6), not {tuple(given.shape)}"
    added = given - trunk
    if not torch.allclose(added, added[:1].expand_as(added), atol=1e-6):
        return "what is added to the trunk must be the same for every image"
    mean = (read - trunk).mean(dim=0)
    return "" if torch.allclose(added[0], mean, atol=1e-6) else "one mean for each position and channel, over images"
