"""Predictors of an exit, and the second-order statistics of tokens on which most of them stand.

Second-order statistics of tokens: covariance, its normalisations, cross moments; float32 also under autocast.
The signed square root is of Lin et al. 2015, the Newton-Schulz square root of iSQRT-COV (Li et al. 2018), the cross
moments of the Moment Probing head (Gao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import joints
from ..config import ModelConfig
from ..utils.registry import Joint, lookup
from .backbone import ExitShape

EPS = 1e-6


def covariance(x: Tensor) -> Tensor:
    """(B, N, d) → (B, d, d): covariance over the N tokens, divided by N.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
        >>> covariance(x).tolist()
        [[[1.0, 0.0], [0.0, 0.0]]]
    """
    N = x.shape[1]
    centred = x - x.mean(dim=1, keepdim=True)
    return centred.transpose(1, 2) @ centred / N


def signed_sqrt(x: Tensor, eps: float = EPS) -> Tensor:
    """sign(x)·√|x| elementwise, smoothed to x/√(|x|+eps) so that its slope at 0 is 1/√eps, not infinite.

    Example:
        >>> signed_sqrt(torch.tensor([-4.0, 9.0])).round(decimals=3).tolist()
        [-2.0, 3.0]
    """
    return x * torch.rsqrt(x.abs() + eps)


def newton_schulz(sigma: Tensor, iterations: int = 5, eps: float = EPS) -> Tensor:
    """Approximate matrix square root of covariances (B, d, d) → (B, d, d), by multiplications only.

    A = Σ/tr Σ; Y ← ½Y(3I−ZY), Z ← ½(3I−ZY)Z from Y = A, Z = I; the answer is √(tr Σ)·Y.
    ``eps`` is added to the trace: Σ = 0 gives 0 with finite gradients.

    Example:
        >>> newton_schulz(4 * torch.eye(2)[None], iterations=8).round(decimals=2).tolist()
        [[[2.0, 0.0], [0.0, 2.0]]]
    """
    trace = sigma.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + eps  # (B, 1, 1)
    three = 3 * torch.eye(sigma.shape[-1], dtype=sigma.dtype, device=sigma.device)
    y = sigma / trace
    z = step = (three - y) / 2  # ½(3I−ZY) with Z = I
    y = y @ step
    for left in range(iterations - 1, 0, -1):
        step = (three - z @ y) / 2
        y = y @ step
        z = step @ z if left > 1 else z  # the last Z is never read
    return y * trace.sqrt()


def root_of_covariance(x: Tensor, iterations: int = 5, eps: float = EPS) -> Tensor:
    """(B, N, d) → (B, d, d): ``newton_schulz(covariance(x))`` in fewer operations, for inference.

    Every step of the iteration is a polynomial of Σ, so with XᵀX = NΣ and G = XXᵀ/N (N×N) the root is
    √(tr)·XᵀZX/(N·tr), Z from the same iteration on G: N instead of d wherever there are fewer tokens than channels.
    Elsewhere it has one product more than `newton_schulz`, and fewer operations all the same.
    """
    N, d = x.shape[1:]
    centred = x - x.mean(dim=1, keepdim=True)
    rows, columns = (centred, centred.transpose(1, 2)) if d > N else (centred.transpose(1, 2), centred)
    few = rows @ columns  # (B, n, n) with n = min(N, d): NG or NΣ
    trace = few.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] + N * eps  # N times `newton_schulz`'s
    three_halves = torch.eye(few.shape[-1], dtype=x.dtype, device=x.device) * 1.5
    y = few / trace
    z = step = torch.sub(three_halves, y, alpha=0.5)
    for _ in range(iterations - 1):
        y = y @ step
        step = torch.baddbmm(three_halves, z, y, alpha=-0.5)  # ½(3I−ZY)
        z = step @ z
    scale = torch.rsqrt(N * trace)
    return columns @ ((z * scale) @ rows) if d > N else few @ (z * scale)


def upper_triangle(x: Tensor) -> Tensor:
    """(B, d, d) → (B, d(d+1)/2): diagonal and above, row by row.

    Example:
        >>> upper_triangle(torch.tensor([[[1.0, 2.0], [2.0, 3.0]]])).tolist()
        [[1.0, 2.0, 3.0]]
    """
    d = x.shape[-1]
    rows, columns = torch.triu_indices(d, d, device=x.device)
    return x.flatten(1).index_select(1, rows * d + columns)  # faster backward than x[:, rows, columns]


def cross_moments(heads: Tensor, eps: float = EPS) -> Tensor:
    """Normalised cross-covariances of neighbouring heads: (B, N, H, w) → (B, H-1, w, w).

    As in the release: from each head its mean over tokens *and* channels is subtracted, one scalar per sample and
    head; C_i = H_iᵀ H_{i+1} / N; each column is divided by its Euclidean length. Ours: the length is smoothed as
    √(‖·‖² + eps²), so that a zero column stays zero with finite gradients.

    Example:
        >>> tuple(cross_moments(torch.randn(2, 9, 4, 16)).shape)  # 4 heads, 16 wide
        (2, 3, 16, 16)
        >>> one = torch.tensor([[1.0, 3.0], [5.0, 7.0]])  # 2 tokens of 2 channels; the scalar is 4
        >>> cross_moments(one[None, :, None].repeat(1, 1, 2, 1))[0, 0].mul(1000).round().tolist()
        [[857.0, 514.0], [514.0, 857.0]]
    """
    N = heads.shape[1]
    centred = (heads - heads.mean(dim=(1, 3), keepdim=True)).transpose(1, 2)  # (B, H, N, w)
    moments = centred[:, :-1].transpose(-1, -2) @ centred[:, 1:] / N  # (B, H-1, w, w)
    return moments * torch.rsqrt(moments.square().sum(dim=-2, keepdim=True) + eps**2)


NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sqrt": signed_sqrt, "isqrt": newton_schulz}


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """A context without autocast on ``x``'s device; a no-op if autocast is off, which helps the export."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or unchanged if its type is wider."""
    return x if x.dtype == torch.float64 else x.float()


# Exit predictors: tokens (B, N, D), normalised and as the trunk gives them, → logits (B, C).
#
# `linear` reads tokens (first order); `moment` and `covariance` add second-order statistics of the patch tokens, the
# "high-order predictor" of DMPO (arXiv 2511.03245, abstract). `moment` follows the Moment Probing head of the authors'
# release (Gao et al. 2023); `covariance` is ours, with the signed square root (Lin et al. 2015) or the Newton-Schulz
# square root of iSQRT-COV (Li et al. 2018). Second-order parts run in float32 also under autocast.
# Tokens are ordered as in timm: ``prefix`` tokens, the class token first, then the patches of ``grid`` = (h, w).


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
        head_width = channels // heads
        if head_width < 16:
            raise ValueError(
                f"moment predictor: heads are {head_width} wide (trunk width {width}, {heads} heads) and need 16; "
                "give at least 64 channels for 4 heads, or use the 'covariance' predictor"
            )
        pairs = heads - 1
        side = _halved(_halved(head_width))
        self.prefix, self.heads = prefix, heads
        self.first = LinearPredictor(width, n_classes, prefix, read)
        self.reduce = nn.Linear(width, channels, bias=False)
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


# Predictors in the form that inference runs fastest: the same logits up to rounding, with fewer operations.
#
# In: a model whose tuning is merged. Out: the same object, changed in place; it can no longer be trained. An exit for
# one image costs the fixed overhead of its operations, not its FLOPs, so fewer and smaller ones count. FLOPs are
# counted without this (`flops`), as the method's own products. That is more than what runs where there are fewer tokens
# than channels, and elsewhere one d × d product less for each such exit.

PRECISIONS: dict[str, torch.dtype | None] = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast


class PreparedCovariance(CovariancePredictor):
    """`CovariancePredictor` with the Newton-Schulz root, its W2 spread over the whole matrix: no triangle is cut out.

    Args:
        trained: whose weights are taken over; ``normalisation="isqrt"``.
    """

    def __init__(self, trained: CovariancePredictor) -> None:
        nn.Module.__init__(self)
        self.normalise, self.prefix = trained.normalise, trained.prefix
        self.first, self.reduce = trained.first, trained.reduce
        d, weight = trained.reduce.out_features, trained.second.weight
        self.second = nn.Linear(d * d, weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
        rows, columns = torch.triu_indices(d, d, device=weight.device)
        with torch.no_grad():
            self.second.weight.zero_()
            self.second.weight[:, rows * d + columns] = weight

    def statistics(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, d²): what W2 reads."""
        reduced = self.reduce(x[:, self.prefix :])  # (B, h*w, d)
        with full_precision(x):
            root = root_of_covariance(at_least_float32(reduced))
        return root.flatten(1).to(reduced.dtype)


def plain_products(model: nn.Module) -> list[nn.Module]:
    """The linear layers and convolutions whose weights autocast would cast as they are.

    One with a forward of its own may compute with its weights in float32 first, as standardised convolutions do.
    """

    def is_plain(part: nn.Module) -> bool:
        forward = type(part).forward
        conv = isinstance(part, nn.Conv2d) and forward is nn.Conv2d.forward
        return conv or (isinstance(part, nn.Linear) and forward is nn.Linear.forward)

    return [part for part in model.modules() if is_plain(part)]


def cast_products(model: nn.Module, kind: torch.dtype) -> int:
    """Cast the weights of `plain_products` once, as autocast casts them at every call; in place.

    Everything else stays in float32. The model then runs under autocast to ``kind`` only. Returns how many layers.
    """
    layers = plain_products(model)
    for layer in layers:
        layer.to(kind)
    return len(layers)


def prepare(model: nn.Module) -> int:
    """Prepare every predictor that has a faster form, in place; returns how many."""
    found = [
        (name, part) for name, part in model.named_modules()
        if type(part) is CovariancePredictor and part.normalise is newton_schulz
    ]  # fmt: skip
    for name, part in found:
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, PreparedCovariance(part).requires_grad_(False))
    return len(found)
