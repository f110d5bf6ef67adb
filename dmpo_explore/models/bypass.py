"""Bypasses: side paths between trunk and predictor, tokens (B, N, D) → tokens (B, N, D).

The trunk never reads a bypass, so it can stay representative while the bypass makes its exit's features
discriminative (DMPO, arXiv 2511.03245: the idea is in the abstract, from which and from the release we worked).
`mlp` follows the authors' release; `conv` (default) and `ladder` are ours. Tokens are ordered as in timm: ``prefix``
tokens (class, distillation, registers), then the patches of ``grid`` = (h, w) row by row, N = prefix + h*w.
Every bypass ends in a zero-initialised layer: training starts from the plain predictor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import joints
from ..config import ModelConfig
from ..utils.registry import Joint
from ..utils.texts import one_line
from .backbone import ExitShape


def convolve_patches(tokens: Tensor, weight: Tensor, bias: Tensor | None, grid: tuple[int, int], prefix: int) -> Tensor:
    """Depthwise 3x3 convolution (zero padding) over the patch tokens; prefix tokens pass unchanged.

    Args:
        tokens: (B, N, d) with N = prefix + h*w.
        weight: (d, 1, 3, 3).
        bias: (d,) or None.
    """
    B, _, d = tokens.shape
    h, w = grid
    patches = tokens[:, prefix:].reshape(B, h, w, d).permute(0, 3, 1, 2)  # (B, d, h, w), a channels-last view
    mixed = F.conv2d(patches, weight, bias, padding=1, groups=d)
    mixed = mixed.permute(0, 2, 3, 1).flatten(1, 2)  # (B, h*w, d)
    return torch.cat((tokens[:, :prefix], mixed), dim=1) if prefix else mixed


class Bypass(nn.Module):
    """Base class of a bypass; on its own it is the identity (``none``).

    A new kind overrides `forward`, sets ``reads_side`` if it uses the previous exit's bypass, and overrides `check` if
    it does not fit every backbone, `at` if it reads more of the config. It gets one line in `BYPASSES`.

    Example:
        >>> tokens = torch.randn(2, 10, 8)  # a class token and 3 x 3 patches
        >>> out, side = Bypass(8, 4, grid=(3, 3), prefix=1)(tokens)
        >>> out is tokens, side is None
        (True, True)

    Args:
        width: D, of the trunk.
        hidden: inner width.
        grid: patches (h, w).
        prefix: tokens before the patches.

    Raises:
        ValueError: a size below 1, or a negative prefix.
    """

    reads_side: ClassVar[bool] = False

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__()
        self.width, self.hidden, self.grid, self.prefix = width, hidden, grid, prefix

    @classmethod
    def at(cls, shape: ExitShape, config: ModelConfig) -> Bypass:
        """A new bypass for tokens of ``shape``; options of its own (``options``) are ``config.part(…)``."""
        return cls(shape.width, config.bypass_width, shape.grid, shape.prefix)

    @classmethod
    def check(cls, exits: Sequence[ExitShape], read: str) -> None:
        """Raise ValueError if this kind does not fit these early exits, whose linear predictors read ``read``."""

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) → (B, N, D) and the side input of the next exit's bypass: None except for ``ladder``."""
        return x, None


class NoBypass(Bypass):
    """The identity: the predictor reads the trunk itself.

    Example:
        >>> sum(weight.numel() for weight in NoBypass(8, 4, grid=(3, 3), prefix=1).parameters())
        0
    """


class MLPBypass(Bypass):
    """x + Up(GELU(Down(LN x))) on the prefix tokens, on all tokens where there are none (release shape).

    Ours: the zero-initialised projection back to D and the residual; in the release the predictor reads the narrow
    vector.

    Example:
        >>> tokens = torch.randn(2, 10, 8)
        >>> out, _ = MLPBypass(8, 4, grid=(3, 3), prefix=1)(tokens)
        >>> torch.equal(out, tokens)  # at the start
        True
    """

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__(width, hidden, grid, prefix)
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, hidden)
        self.up = _zero_linear(hidden, width)

    @classmethod
    def check(cls, exits: Sequence[ExitShape], read: str) -> None:
        """Raise ValueError where the predictors read only the patch mean, which this bypass does not change."""
        for shape in exits:
            if shape.prefix and read == "mean":
                raise ValueError(
                    "bypass='mlp' works on the tokens before the patches, which read='mean' never reads; "
                    + ("use read='both' or 'cls'" if shape.class_token else "use bypass='conv'")
                )

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) → (B, N, D), None."""
        read = x[:, : self.prefix] if self.prefix else x
        read = read + self.up(F.gelu(self.down(self.norm(read))))
        return (torch.cat((read, x[:, self.prefix :]), dim=1) if self.prefix else read), None


class ConvBypass(Bypass):
    """x + Up(GELU(DWConv3x3(Down(LN x)))) on all tokens; prefix tokens skip the convolution. Ours.

    Example:
        >>> bypass = ConvBypass(8, 4, grid=(3, 3), prefix=1)
        >>> tuple(bypass.hidden_map(torch.randn(2, 10, 8)).shape)
        (2, 10, 4)
    """

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__(width, hidden, grid, prefix)
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.up = _zero_linear(hidden, width)

    def hidden_map(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, N, hidden): what Up reads."""
        hidden = self.down(self.norm(x))
        return F.gelu(convolve_patches(hidden, self.conv.weight, self.conv.bias, self.grid, self.prefix))

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) → (B, N, D), None."""
        return x + self.up(self.hidden_map(x)), None


class LadderBypass(ConvBypass):
    """Like `ConvBypass`, but its hidden map also takes gate · the previous bypass's hidden map. Ours.

    The gate is one trainable scalar. It starts at 0.5, so that over many exits the sum of hidden maps stays bounded.

    Example:
        >>> bypass = LadderBypass(8, 4, grid=(3, 3), prefix=1)
        >>> _, side = bypass(torch.randn(2, 10, 8))
        >>> tuple(side.shape)
        (2, 10, 4)
    """

    reads_side = True

    def __init__(self, width: int, hidden: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__(width, hidden, grid, prefix)
        self.gate = nn.Parameter(torch.tensor(0.5))

    @classmethod
    def check(cls, exits: Sequence[ExitShape], read: str) -> None:
        """Raise ValueError unless all early exits have the same grid."""
        grids = [shape.grid for shape in exits]
        if len(set(grids)) > 1:
            raise ValueError(
                f"bypass='ladder' hands its map from exit to exit, but their grids are {grids}; "
                "use bypass='conv', or exits within one stage of the backbone"
            )

    def forward(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, N, D), side (B, N, hidden) or None at the first exit → (B, N, D), side (B, N, hidden)."""
        hidden = self.hidden_map(x)
        if side is None:
            side = torch.zeros_like(
                hidden
            )  # the gate stays in the graph: distributed training needs gradients of all weights
        hidden = hidden + self.gate * side
        return x + self.up(hidden), hidden


BYPASSES: Joint[type[Bypass]] = joints.BYPASSES.fill({
    "conv": ConvBypass,
    "mlp": MLPBypass,
    "ladder": LadderBypass,
    "none": NoBypass,
})  # fmt: skip


def try_bypass(bypass: nn.Module, shape: ExitShape, side: Tensor | None = None) -> Tensor | None:
    """The side output of a bypass for one image of zeros, before anything is trained; no random number is drawn.

    Raises:
        ValueError: it cannot read tokens of ``shape``, or gives tokens of another; its layers and widths are named.

Given normalized_shape=[8], expected input with shape [*, 8], but got input of size[1, 10, 16]. Its layers: norm 8, \
down 8→4, conv 4→4, up 4→8; build them from `width`
    """
    like = next(bypass.parameters(), torch.empty(0))
    x = torch.zeros(1, shape.prefix + math.prod(shape.grid), shape.width, device=like.device, dtype=like.dtype)
    given = side if getattr(bypass, "reads_side", True) else None
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            answer = bypass(x, given)
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise ValueError(f"bypass {type(bypass).__name__}: forward must return (tokens, side), side None if unused")
        problem = "" if answer[0].shape == x.shape else f"it gives {tuple(answer[0].shape)}"
    except RuntimeError as error:  # torch's, of shapes
        problem = f"it stops with: {one_line(error)}"
    if problem:
        layers = ", ".join(found for name, layer in bypass.named_modules() if (found := _widths(name, layer)))
        raise ValueError(
            f"bypass {type(bypass).__name__} must turn tokens {tuple(x.shape)} into tokens of the same width "
            f"{shape.width}; {problem}" + f". Its layers: {layers}; build them from `width`" * bool(layers)
        )
    handed_on: Tensor | None = answer[1]
    return handed_on


def _widths(name: str, layer: nn.Module) -> str:
    """``down 8→4``: a layer's name and what goes in and comes out; empty for one without widths."""
    for ends in (("in_features", "out_features"), ("in_channels", "out_channels"), ("normalized_shape",)):
        if all(hasattr(layer, end) for end in ends):
            return f"{name} " + "→".join(str(getattr(layer, end)).strip("(),") for end in ends)
    return ""


def _zero_linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
