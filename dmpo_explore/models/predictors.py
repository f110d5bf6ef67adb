"""Exit predictors: tokens (B, N, D), normalised and as the trunk gives them, → logits (B, C).

`linear` reads tokens (first order); `moment` and `covariance` add second-order statistics of the patch tokens, the
"high-order predictor" of DMPO (arXiv 2511.03245, abstract). `moment` follows the Moment Probing head of the authors'
release (Gao et al. 2023); `covariance` is ours, with the signed square root (Lin et al. 2015) or the Newton-Schulz
square root of iSQRT-COV (Li et al. 2018). Second-order parts run in float32 also under autocast.
Tokens are ordered as in timm: ``prefix`` tokens, the class token first, then the patches of ``grid`` = (h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import joints
from ..config import ModelConfig
from ..utils.registry import Joint, lookup
from .backbone import ExitShape
from .second_order import NORMALISATIONS, at_least_float32, covariance, cross_moments, full_precision, upper_triangle


def read_cls(x: Tensor, prefix: int) -> Tensor:
    """(B, N, D) → (B, D): the class token."""
    return x[:, 0]


def read_mean(x: Tensor, prefix: int) -> Tensor:
    """(B, N, D) → (B, D): the mean of the patch tokens."""
    return x[:, prefix:].mean(dim=1)


def read_both(x: Tensor, prefix: int) -> Tensor:
    """(B, N, D) → (B, 2D): class token, then mean of the patch tokens."""
    return torch.cat((read_cls(x, prefix), read_mean(x, prefix)), dim=1)


READS: dict[str, Callable[[Tensor, int], Tensor]] = {"cls": read_cls, "mean": read_mean, "both": read_both}


class Predictor(nn.Module):
    """Base class of a predictor: normalised tokens (B, N, D) → logits (B, C).

    A new kind takes ``width, n_classes, grid, prefix, read`` and overrides `forward`. It overrides `at` if it reads
    more of the config, and `check` if the config may not fit the backbone. It gets one line in `PREDICTORS`. With
    ``reads_raw`` its `forward` gets the trunk's tokens as a second argument: before bypass and exit norm.

    Example:
        >>> predictor = PREDICTORS["linear"].at(ExitShape(8, (3, 3), 1, True), 5, ModelConfig(), "both")
        >>> tuple(predictor(torch.zeros(2, 10, 8)).shape)
        (2, 5)
    """

    reads_raw: ClassVar[bool] = False

    @classmethod
    def at(cls, shape: ExitShape, n_classes: int, config: ModelConfig, read: str) -> Predictor:
        """A new predictor for tokens of ``shape``; ``read`` is ``cls``, ``mean`` or ``both``."""
        make: Callable[..., Predictor] = cls
        return make(shape.width, n_classes, shape.grid, shape.prefix, read=read)

    @classmethod
    def check(cls, exits: Sequence[ExitShape], config: ModelConfig) -> None:
        """Raise ValueError if the config's numbers fit none of the exits."""


class LinearPredictor(Predictor):
    """One linear layer on the class token, the mean patch token, or both side by side.

    Raises:
        ValueError: unknown ``read``; ``cls`` or ``both`` where there is no class token (prefix 0); sizes below 1.

    Example:
        >>> tuple(LinearPredictor(8, 5, prefix=1, read="mean")(torch.zeros(2, 10, 8)).shape)
        (2, 5)
    """

    def __init__(self, width: int, n_classes: int, prefix: int, read: str = "cls") -> None:
        super().__init__()
        self.reader = lookup(READS, read, "read")
        if read != "mean" and prefix < 1:
            raise ValueError(f"read={read!r} needs a class token, this backbone has none; use read='mean'")
        if width < 1 or n_classes < 1:
            raise ValueError(f"width={width} and n_classes={n_classes} must be at least 1")
        self.prefix = prefix
        self.fc = nn.Linear(2 * width if read == "both" else width, n_classes)

    @classmethod
    def at(cls, shape: ExitShape, n_classes: int, config: ModelConfig, read: str) -> LinearPredictor:
        """A new predictor for tokens of ``shape``."""
        return cls(shape.width, n_classes, shape.prefix, read)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        logits: Tensor = self.fc(self.reader(x, self.prefix))
        return logits


class CovariancePredictor(Predictor):
    """logits = W1·read + W2·triu(normalised covariance of the patch tokens reduced to ``channels``).  Ours.

    The reduction has no bias (a covariance does not depend on it), nor has W2 (W1 has one).

    Raises:
        ValueError: as `LinearPredictor`; unknown ``normalisation``; channels below 1 or above D; fewer than 2 patches.

    Example:
        >>> predictor = CovariancePredictor(8, 5, grid=(3, 3), prefix=1, channels=4)
        >>> tuple(predictor.statistics(torch.randn(2, 10, 8)).shape)  # 4 · 5 / 2
        (2, 10)
    """

    def __init__(
        self,
        width: int,
        n_classes: int,
        grid: tuple[int, int],
        prefix: int,
        read: str = "both",
        channels: int = 48,
        normalisation: str = "isqrt",
    ) -> None:
        super().__init__()
        _check_patches("covariance", grid)
        if not 1 <= channels <= width:
            raise ValueError(f"channels={channels} must lie between 1 and the trunk's width {width}")
        self.normalise = lookup(NORMALISATIONS, normalisation, "normalisation")
        self.prefix = prefix
        self.first = LinearPredictor(width, n_classes, prefix, read)
        self.reduce = nn.Linear(width, channels, bias=False)
        self.second = nn.Linear(channels * (channels + 1) // 2, n_classes, bias=False)

    @classmethod
    def at(cls, shape: ExitShape, n_classes: int, config: ModelConfig, read: str) -> CovariancePredictor:
        """A new predictor; where an exit is narrower than ``channels``, its covariance keeps that width (ours)."""
        channels, kind = min(config.channels, shape.width), config.normalisation
        return cls(
            shape.width, n_classes, shape.grid, shape.prefix, read=read, channels=channels, normalisation=kind
        )  # fmt: skip

    @classmethod
    def check(cls, exits: Sequence[ExitShape], config: ModelConfig) -> None:
        """Raise ValueError if ``channels`` is more than the widest trunk has."""
        widest = max(shape.width for shape in exits)
        if config.channels > widest:
            raise ValueError(f"channels={config.channels} must lie between 1 and the trunk's width {widest}")

    def statistics(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, d(d+1)/2): what W2 reads."""
        reduced = self.reduce(x[:, self.prefix :])  # (B, h*w, d)
        with full_precision(x):
            vector = upper_triangle(self.normalise(covariance(at_least_float32(reduced))))
        return vector.to(reduced.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        logits: Tensor = self.first(x) + self.second(self.statistics(x))
        return logits


class MomentPredictor(Predictor):
    """The release's Moment Probing head: logits = (W1·read + W2·vec)/2.

    As in the release: vec is made of the trunk's own output, before bypass and exit norm (``raw``). It
    is projected to ``channels``, split into ``heads`` of equal width, layer-normalised by one shared norm;
    `cross_moments` of neighbouring heads pass Conv3x3 s2, GELU, Conv3x3 s2 (no bias, no padding) and are flattened
    (2,883 numbers at D=768, which has 512 channels). W1 reads the normalised class token.
    Ours: ``channels`` defaults to the same share of D (two thirds); moments are taken over patch tokens only; W1 may
    read the patch mean too (``read``), and reads the bypass's output; only W1 has a bias.

    Raises:
        ValueError: as `LinearPredictor`; fewer than 2 heads; channels that the heads do not divide; heads narrower
            than 16 (our choice, D of at least 96 with 4 heads; the convolutions need 7); fewer than 2 patches.

    Example:
        >>> MomentPredictor.reads_raw
        True
        >>> tuple(MomentPredictor(96, 5, grid=(3, 3), prefix=1)(torch.randn(2, 10, 96)).shape)
        (2, 5)
    """

    reads_raw = True

    def __init__(
        self,
        width: int,
        n_classes: int,
        grid: tuple[int, int],
        prefix: int,
        read: str = "cls",
        heads: int = 4,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        _check_patches("moment", grid)
        if heads < 2:
            raise ValueError(f"heads={heads} must be at least 2: moments are taken between neighbouring heads")
        if channels is None:
            channels = heads * (2 * width // (3 * heads))
        head_width, rest = divmod(channels, heads)
        if rest:
            raise ValueError(f"channels={channels} must be a multiple of heads={heads}")
        if head_width < 16:
            raise ValueError(
                f"moment predictor: heads are {head_width} wide (trunk width {width}, {heads} heads) and need 16; "
                "give at least 64 channels for 4 heads, or use the 'covariance' predictor"
            )
        pairs = heads - 1
        side = _halved(_halved(head_width))
        self.prefix, self.heads = prefix, heads
        self.first = LinearPredictor(width, n_classes, prefix, read)
        self.reduce = nn.Linear(width, channels, bias=False)  # `project` in runs of versions with another `moment`
        self.norm = nn.LayerNorm(head_width)
        self.convs = nn.Sequential(
            nn.Conv2d(pairs, pairs, 3, stride=2, bias=False),
            nn.GELU(),
            nn.Conv2d(pairs, pairs, 3, stride=2, bias=False),
        )
        self.second = nn.Linear(pairs * side**2, n_classes, bias=False)

    def statistics(self, raw: Tensor) -> Tensor:
        """(B, N, D) → (B, pairs · side²): what W2 reads, of the trunk's output."""
        reduced = self.reduce(raw[:, self.prefix :])
        heads = self.norm(reduced.reshape(*reduced.shape[:2], self.heads, -1))  # (B, h*w, heads, w)
        with full_precision(raw):
            moments = cross_moments(at_least_float32(heads))  # (B, pairs, w, w)
        vector: Tensor = self.convs(moments.to(reduced.dtype)).flatten(1)
        return vector

    def forward(self, x: Tensor, raw: Tensor | None = None) -> Tensor:
        """(B, N, D) normalised and (B, N, D) as the trunk gives them, by default the same, → (B, C)."""
        logits: Tensor = (self.first(x) + self.second(self.statistics(x if raw is None else raw))) / 2
        return logits


PREDICTORS: Joint[type[Predictor]] = joints.PREDICTORS.fill({
    "linear": LinearPredictor,
    "moment": MomentPredictor,
    "covariance": CovariancePredictor,
})  # fmt: skip


def _halved(side: int) -> int:
    """Side left by a 3x3 convolution of stride 2 without padding."""
    return (side - 3) // 2 + 1


def _check_patches(name: str, grid: tuple[int, int]) -> None:
    if grid[0] * grid[1] < 2:
        raise ValueError(f"{name} predictor: a grid of {grid} has fewer than 2 patches, so no second-order statistics")
