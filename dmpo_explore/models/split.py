"""The parts of a backbone → embedding and K trunks: where the exits are, and what normalises there."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Preprocess
from .backbone import LAYOUTS, Backbone, exit_blocks
from .counting import counting
from .cut import Parts


def split(parts: Parts, exits: Sequence[int] | int, preprocess: Preprocess, *, whole: bool = False) -> Backbone:
    """A backbone with exits after these blocks, or so many.

    A number K means K parts of equally many blocks, or what was cut by rule K parts of equal FLOPs. The parts are
    consumed. Blocks after the last exit are dropped, or with ``whole`` they get an exit of their own.
    """
    depth = len(parts.blocks)
    by_cost = parts.by_rule and isinstance(exits, int) and exits <= depth
    ends = exit_blocks(exits, depth, block_costs(parts, preprocess.image_size) if by_cost else ())
    ends = (*ends, depth) if whole and ends[-1] < depth else ends
    trunks = [
        nn.Sequential(*(module for block in parts.blocks[start:end] for module in block))
        for start, end in pairwise((0, *ends))
    ]
    if ends[-1] == depth:
        trunks[-1].extend(parts.tail)
    if parts.layout == "channels_first":  # channels last in memory convolves quicker and flattens without a copy
        nn.ModuleList([parts.embed, *trunks]).to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]  # depends on torch
    widths, grids = _sizes(parts, trunks, preprocess.image_size)
    norms = [_exit_norm(parts.norm, width) for width in widths]
    if parts.norm is None and ends[-1] == depth:
        norms[-1] = nn.Identity()  # the last trunk ends in the backbone's own batch norm
    return Backbone(
        embed=parts.embed,
        trunks=list(trunks),
        widths=widths,
        grids=grids,
        layout=parts.layout,
        prefix=parts.prefix,
        class_token=parts.class_token,
        norms=norms,
        exits=ends,
        preprocess=preprocess,
        joined=parts.joined if ends[-1] == depth else 0,
        named=not parts.by_rule,
    )


def block_costs(parts: Parts, image_size: int) -> list[int]:
    """FLOPs of one image up to the end of each block, the embedding counted, the tail with the last."""
    counts = []
    with counting() as counter:
        state = parts.embed(_black(parts, image_size))
        for piece in [*parts.blocks[:-1], [*parts.blocks[-1], *parts.tail]]:
            for module in piece:
                state = module(state)
            counts.append(counter.get_total_flops())
    return counts


def _black(parts: Parts, image_size: int) -> Tensor:
    like = next(weight for module in (parts.embed, *parts.blocks[0]) for weight in module.parameters())
    return torch.zeros(1, 3, image_size, image_size, device=like.device, dtype=like.dtype)


def _exit_norm(final: Any, width: int) -> nn.Module:
    """A copy of the backbone's final norm where the width is its own; elsewhere a new LayerNorm (ours)."""
    fits = final is not None and tuple(final.normalized_shape) == (width,)
    return copy.deepcopy(final) if fits else nn.LayerNorm(width)


@torch.no_grad()
def _sizes(parts: Parts, trunks: Sequence[nn.Module], image_size: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Widths and grids after each trunk; they are measured on a black image where they are not known."""
    if parts.tokens:
        return [parts.tokens[0]] * len(trunks), [parts.tokens[1]] * len(trunks)
    state = parts.embed(_black(parts, image_size))
    widths, grids = list[int](), list[tuple[int, int]]()
    for trunk in trunks:
        state = trunk(state)
        tokens = LAYOUTS[parts.layout](state)
        side = isqrt(tokens.shape[1] - parts.prefix)  # a class token that joins them is no whole row
        rows = {"channels_first": -2, "channels_last": 1}.get(parts.layout)
        widths.append(tokens.shape[-1])
        grids.append((side, side) if rows is None else (state.shape[rows], state.shape[rows + 1]))
    return widths, grids
