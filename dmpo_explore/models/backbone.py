"""A backbone cut into an embedding and K trunks: images (B,3,S,S) → state → … → state.

The state between trunks keeps the backbone's own layout; `LAYOUTS` reads it as tokens (B,N,D), N = prefix + h·w,
the patches row by row. Images are dimension 0 in every layout. Blocks are counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config import Preprocess
from ..utils.registry import lookup
from ..utils.texts import one_line

# In eval mode torch's fused encoder layers read the weights of their parts without calling these: they would be counted
# as nothing, and LoRA, which takes a part's place, would not act.
torch.backends.mha.set_fastpath_enabled(False)


# what a trunk hands on → (B,N,D): tokens as they are, maps row by row
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tokens": lambda state: state,
    "channels_first": lambda state: state.flatten(2).transpose(1, 2),  # (B,C,H,W) → (B,H*W,C)
    "channels_last": lambda state: state.flatten(1, 2),  # (B,H,W,C) → (B,H*W,C)
}


class ExitShape(NamedTuple):
    """Tokens at an exit: (B, N, width), N = prefix + rows · columns.

    Args:
        width: D of the trunk. grid: (rows, columns) of the patch tokens. prefix: tokens before the patches.
        class_token: whether the first of these is a class token.

    Example:
        >>> ExitShape(384, (5, 5), 1, True).grid
        (5, 5)
    """

    width: int
    grid: tuple[int, int]
    prefix: int
    class_token: bool = False


@dataclass
class Backbone:
    """A backbone cut into an embedding and K trunks, also of your own `nn.Module` (docs/backbones.md).

    It shares no module with another object. ``build_model(config, n_classes, backbone=…)`` makes a `DMPO` of it.

    Args:
        embed: images (B,3,S,S) → the first state.
        trunks: K modules, state → state; images are dimension 0.
        widths: D after each trunk.
        grids: (rows, columns) of the patches after each trunk.
        layout: of the state: ``tokens`` (B,N,D), ``channels_first`` (B,D,rows,columns) or ``channels_last``.
        prefix: leading tokens that are no patches (class, register, distillation); 0 for maps.
        class_token: whether the first of them is a class token.
        norms: K initial exit norms over tokens (B,N,D); default: new LayerNorms.
        exits: block number after which each trunk ends; default: one block a trunk.
        preprocess: the input the weights expect; default: the config's image size, mean and deviation 0.5.
        joined: class tokens that join the patches in the last trunk, so that its state alone has them.
        named: whether timm's names of layers say which of them LoRA tunes; else what a layer is does.

    Raises:
        ValueError: no trunk, lists of different lengths, maps with a prefix or class token, or a class token without a
            prefix.

    Example:
        >>> import dmpo_explore as dx
        >>> patches = nn.Conv2d(3, 16, 8, stride=8)
        >>> trunks = [nn.Conv2d(16, 16, 3, padding=1) for _ in range(2)]
        >>> backbone = dx.Backbone(patches, trunks, [16, 16], [(4, 4)] * 2, layout="channels_first")
        >>> model = dx.build_model(dx.ModelConfig(image_size=32, tuning="none", channels=8), 3, backbone=backbone)
        >>> tuple(model(torch.zeros(1, 3, 32, 32)).shape)
        (1, 2, 3)
    """

    embed: nn.Module
    trunks: list[nn.Module]
    widths: list[int]
    grids: list[tuple[int, int]]
    layout: str = "tokens"
    prefix: int = 0
    class_token: bool = False
    norms: list[nn.Module] = field(default_factory=list)
    exits: tuple[int, ...] = ()
    preprocess: Preprocess | None = None
    joined: int = 0
    named: bool = False

    def __post_init__(self) -> None:
        self.norms = self.norms or [nn.LayerNorm(width) for width in self.widths]
        self.exits = self.exits or tuple(range(1, len(self.trunks) + 1))
        sizes = {name: len(getattr(self, name)) for name in ("trunks", "widths", "grids", "norms", "exits")}
        if not self.trunks or len(set(sizes.values())) > 1:
            raise ValueError(f"a backbone of K exits has K of each, K at least 1; this one has {sizes}")
        if self.prefix < 0 or (self.layout != "tokens" and (self.prefix or self.class_token)):
            raise ValueError(
                f"layout={self.layout!r} with prefix={self.prefix}, class_token={self.class_token}: only a state of "
                "layout 'tokens' has a prefix or a class token; give prefix=0 and class_token=False"
            )
        if self.class_token and not self.prefix:
            raise ValueError("class_token=True, but prefix=0: the class token counts among the prefix, give prefix=1")

    def shapes(self) -> list[ExitShape]:
        """The tokens' shape after each trunk."""
        sizes = zip(self.widths, self.grids, strict=True)
        *found, last = (ExitShape(width, grid, self.prefix, self.class_token) for width, grid in sizes)
        joined = last._replace(prefix=self.prefix + self.joined, class_token=self.class_token or self.joined > 0)
        return [*found, joined]


def with_exits(backbone: Backbone, exits: Sequence[int] | int, *, whole: bool = False) -> Backbone:
    """The backbone with some of its exits: those after these blocks, or so many; trunks without one join the next.

    Args:
        whole: with its last exit in any case.

    Raises:
        ValueError: more exits than it has, or others.
    """
    own = backbone.exits
    ends = tuple(own[k - 1] for k in exit_blocks(exits, len(own))) if isinstance(exits, int) else tuple(exits)
    if not {*ends} <= {*own}:
        raise ValueError(f"exits={list(ends)}: this backbone is cut by hand after blocks {list(own)}, and only there")
    kept = [k for k, end in enumerate(own) if end in ends or (whole and end == own[-1])]
    pieces = [backbone.trunks[start:end] for start, end in pairwise((0, *(k + 1 for k in kept)))]
    return replace(
        backbone,
        trunks=[piece[0] if len(piece) == 1 else nn.Sequential(*piece) for piece in pieces],
        widths=[backbone.widths[k] for k in kept],
        grids=[backbone.grids[k] for k in kept],
        norms=[backbone.norms[k] for k in kept],
        exits=tuple(own[k] for k in kept),
        joined=backbone.joined if kept[-1] == len(own) - 1 else 0,
    )


def exit_blocks(exits: Sequence[int] | int, depth: int, costs: Sequence[int] = ()) -> tuple[int, ...]:
    """Block numbers of the exits; a single number K means K equal parts of ``depth`` blocks.

    Args:
        costs: FLOPs up to the end of each block; with them the K parts are those that come nearest to equal FLOPs.

    Raises:
        ValueError: more exits than blocks, block numbers that do not rise, or one outside 1 to ``depth``.
    """
    if isinstance(exits, int):
        if not 1 <= exits <= depth:
            raise ValueError(f"exits={exits}: the backbone has {depth} blocks, so 1 to {depth} exits")
        return _by_cost(exits, costs) if costs else tuple(round((k + 1) * depth / exits) for k in range(exits))
    if exits[0] < 1 or exits[-1] > depth:
        raise ValueError(f"exits={list(exits)}: the backbone has {depth} blocks, counted from 1")
    return tuple(exits)


def _by_cost(exits: int, costs: Sequence[int]) -> tuple[int, ...]:
    """For each exit the block at which its share of the FLOPs is nearest, one block at least for every exit."""
    found: list[int] = []
    for k in range(exits - 1):
        first, last = (found[-1] if found else 0) + 1, len(costs) - (exits - 1 - k)
        wanted = costs[-1] * (k + 1) / exits
        found.append(min(range(first, last + 1), key=lambda block: abs(costs[block - 1] - wanted)))
    return (*found, len(costs))


def check_backbone(backbone: Backbone, image_size: int) -> Backbone:
    """The backbone, frozen and in eval mode, its preprocess filled in.

    Raises:
        ValueError: two black images give other shapes than it declares, or cannot be run through it, or its preprocess
            has another image size.
    """
    side = image_size
    preprocess = backbone.preprocess or Preprocess(side, (0.5,) * 3, (0.5,) * 3)
    if preprocess.image_size != side:
        raise ValueError(f"image_size={side}, but the backbone's preprocess makes {preprocess.image_size} pixels")
    parts = nn.ModuleList([backbone.embed, *backbone.trunks])
    parts.requires_grad_(False).eval()
    lookup(LAYOUTS, backbone.layout, "layout")
    with torch.no_grad():
        state = _run("its embedding", backbone.embed, torch.zeros(2, 3, side, side), side)
        for k, trunk in enumerate(backbone.trunks):
            state = _run(f"trunk {k + 1}", trunk, state, side)
            (rows, columns), width = backbone.grids[k], backbone.widths[k]
            maps = {"channels_first": (2, width, rows, columns), "channels_last": (2, rows, columns, width)}
            wanted = maps.get(backbone.layout, (2, backbone.prefix + rows * columns, width))
            if tuple(state.shape) != wanted:
                raise ValueError(
                    f"trunk {k + 1} hands on {tuple(state.shape)} for 2 images of {side} pixels; by its layout="
                    f"{backbone.layout!r}, width {width}, grid {rows}x{columns}, prefix {backbone.prefix}: {wanted}"
                )
    return replace(backbone, preprocess=preprocess)


def _run(what: str, part: nn.Module, state: Tensor, side: int) -> Tensor:
    try:
        found = part(state)
    except Exception as error:  # whatever it raises
        raise ValueError(
            f"{what} cannot be run on {tuple(state.shape)}, from 2 images of {side} pixels ({type(error).__name__}: "
            f"{one_line(error, 150)}); mend it, or give the image_size that it takes"
        ) from error
    if not isinstance(found, Tensor):
        raise ValueError(f"{what} hands on a {type(found).__name__}; it must give one tensor, the state")
    return found
