"""The parts that the lessons build, as the library has them, and the network on images that any of them make.

In: sizes. Out: modules with the arguments and weights of those that a student writes (`PARTS`). `on_images` puts a
trained network behind the frozen backbone, as an ordinary `dx.DMPO`. A narrow trunk beside a frozen one is the idea
of Ladder Side-Tuning (arXiv 2206.06522); its shape is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import dmpo_explore as dx

from .camera import GRID, WIDTH, Camera

NARROW = 32  # numbers of a token's state in the narrow trunk
READ = WIDTH + NARROW  # numbers of a token that an exit reads


class SideStage(nn.Module):
    """One stage of the narrow trunk: new state = MLP(Down(tokens) + state); the exit reads tokens and state."""

    def __init__(self, width: int = WIDTH, narrow: int = NARROW) -> None:
        super().__init__()
        self.down = nn.Linear(width, narrow)
        self.mlp = nn.Sequential(
            nn.LayerNorm(narrow), nn.Linear(narrow, 2 * narrow), nn.GELU(), nn.Linear(2 * narrow, narrow)
        )

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, N, width), (B, N, narrow) or None at the first stage → (B, N, narrow), (B, N, width + narrow)."""
        state = self.mlp(self.down(tokens) + (0 if state is None else state))
        return state, torch.cat((tokens, state), dim=-1)


class PatchBypass(dx.models.ConvBypass):
    """`dx.models.ConvBypass` with tokens alone as its result."""

    def __init__(self, width: int = READ, hidden: int = 32, grid: tuple[int, int] = GRID) -> None:
        super().__init__(width, hidden, grid, 1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, D) → (B, N, D)."""
        return super().forward(x)[0]


class MeanPredictor(nn.Module):
    """One linear layer on the mean of the patch tokens; with ``hidden`` two, GELU between them: a control."""

    def __init__(self, width: int = READ, n_classes: int = 81, hidden: int = 0) -> None:
        super().__init__()
        before = [nn.Linear(width, hidden), nn.GELU()] if hidden else []
        self.first = nn.Sequential(*before, nn.Linear(hidden or width, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        return self.first(x[:, 1:].mean(dim=1))  # type: ignore[no-any-return]


class SecondOrderPredictor(nn.Module):
    """Mean plus root of the covariance, as `dx.models.CovariancePredictor` with ``isqrt``."""

    def __init__(self, width: int = READ, channels: int = 24, n_classes: int = 81) -> None:
        super().__init__()
        self.first = nn.Linear(width, n_classes)
        self.reduce = nn.Linear(width, channels, bias=False)
        self.second = nn.Linear(channels * (channels + 1) // 2, n_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, C)."""
        root = dx.models.newton_schulz(dx.models.covariance(self.reduce(x[:, 1:])))
        return self.first(x[:, 1:].mean(dim=1)) + self.second(dx.models.upper_triangle(root))  # type: ignore[no-any-return]


def weights(epoch: int, epochs: int) -> tuple[float, ...]:
    """λ of the four exits in an epoch (0-based): the release's cross-over, the schedule ``linear``.

    Example:
        >>> weights(0, 5), weights(4, 5)
        ((0.01, 0.01, 1.0, 2.0), (1.5, 1.0, 0.2475, 0.2675))
    """
    return dx.training.loss_weights("linear", epoch, epochs, 4)


class EarlyExitNet(nn.Module):
    """Stages, and behind each bypass, exit norm and predictor; naive exits where no bypasses and predictors are given.

    Args:
        only: the one stage (0-based) that has an exit, instead of all.

    Example:
        >>> net = EarlyExitNet([SideStage(), SideStage()])
        >>> tuple(net(torch.zeros(2, 5, 26, WIDTH)).shape)
        (5, 2, 81)
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        bypasses: Sequence[nn.Module] = (),
        predictors: Sequence[nn.Module] = (),
        width: int = READ,
        only: int | None = None,
    ) -> None:
        super().__init__()
        self.only = only
        self.stages = nn.ModuleList(stages)
        self.bypasses = nn.ModuleList(bypasses or [nn.Identity() for _ in self.stages])
        self.predictors = nn.ModuleList(predictors or [MeanPredictor() for _ in self.stages])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.stages)

    def forward(self, tokens: Tensor) -> Tensor:
        """(K, B, N, D) → (B, K, C), or (B, 1, C)."""
        state, logits = None, []
        for k, stage in enumerate(self.stages):
            state, read = stage(tokens[k], state)
            if self.only in (None, k):
                logits.append(self.predictors[k](self.norms[k](self.bypasses[k](read))))
        return torch.stack(logits, dim=1)


PARTS: dict[str, Any] = {  # by the name that a student gives them
    "Stage": SideStage,
    "Bypass": PatchBypass,
    "Predictor": SecondOrderPredictor,
    "weights": weights,
    "DMPO": EarlyExitNet,
}


class _Joined(nn.Module):
    """A frozen trunk and a stage beside it; its state is tokens, narrow state and what the exit reads, side by side."""

    def __init__(self, trunk: nn.Module, reduce: nn.Module, stage: nn.Module, width: int | None) -> None:
        super().__init__()
        self.trunk, self.reduce, self.stage, self.width = trunk, reduce, stage, width

    def forward(self, x: Tensor) -> Tensor:
        width = self.width  # of the tokens before; None at the first stage
        tokens = self.trunk(x if width is None else x[..., :width])
        state, read = self.stage(self.reduce(tokens), None if width is None else x[..., width:-READ])
        return torch.cat((tokens, state, read), dim=-1)


class _Aside(nn.Module):
    reads_side = False

    def __init__(self, bypass: nn.Module) -> None:
        super().__init__()
        self.bypass = bypass

    def forward(self, x: Tensor, side: Any = None) -> tuple[Tensor, None]:
        return self.bypass(x), None


class _BesideBackbone(dx.models.Stage):
    def tokens(self, state: Tensor) -> Tensor:
        return state[..., -READ:]


def on_images(net: Any, camera: Camera) -> dx.DMPO:
    """A network on tokens, with the parts of `EarlyExitNet`, behind the frozen backbone: the same answers to images."""
    stages, old = [], camera.backbone.stages
    for k, (stage, *behind) in enumerate(zip(net.stages, net.bypasses, net.norms, net.predictors, strict=True)):
        trunk = _Joined(old[k].trunk, camera.reduce[k], stage, old[k].width if k else None)
        shape: dict[str, Any] = {"width": READ, "grid": old[k].grid, "prefix": old[k].prefix, "class_token": True}
        stages.append(_BesideBackbone(trunk, _Aside(behind[0]), *behind[1:], **shape))
    blocks = camera.backbone.exits[: len(stages)]
    return dx.DMPO(camera.backbone.embed, stages, blocks, camera.backbone.preprocess).eval()
