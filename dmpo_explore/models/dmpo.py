"""Early-exit model: images → embed → stage 1..K, each trunk → bypass → exit norm → predictor → scale.

`DMPO` receives finished parts and wires them. `DMPO.walk` is the only loop over the stages.
The trunk never reads the bypass's output (abstract of arXiv 2511.03245), so its features can stay representative.
Trunks pass a *state* in the backbone's own layout (tokens, or a feature map); exits read it as tokens.
In every layout the images are dimension 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config import Preprocess
from ..utils.registry import lookup
from .backbone import LAYOUTS
from .image_check import check_images
from .token_merging import MergedTrunk


def branch(state: Tensor, exits_left: int) -> tuple[Tensor, Tensor]:
    """Gradient equilibrium (Li et al. 2019, arXiv 1908.06294): ``state`` twice, for the exit and for the next stage.

    In the backward pass the exit's gradient is scaled by 1/n and that of the n-1 deeper ones together by (n-1)/n,
    n = ``exits_left``.
    """
    share, still = 1 / exits_left, state.detach()
    return torch.lerp(still, state, share), torch.lerp(still, state, 1 - share)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class Stage(nn.Module):
    """One stage: a part of the trunk and the exit after it.

    Args:
        trunk: state → state: tokens (B,N,D), or a map.
        bypass: (tokens, side) → (tokens, side); its output is read by the predictor only.
        norm: the exit norm, per token.
        predictor: tokens (B,N,D) → logits (B,C); with ``reads_raw`` it also gets the trunk's own output, as tokens.
        width, grid, prefix: D, (rows, columns) of the patch tokens, number of prefix tokens.
        class_token: whether the first of these is a class token.
        layout: of the state: ``tokens``, ``channels_first`` (B,C,H,W) or ``channels_last`` (B,H,W,C).

    Example:
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3)
        >>> model.stages[0].width, model.stages[0].grid
        (64, (2, 2))
    """

    def __init__(
        self,
        trunk: nn.Module,
        bypass: nn.Module,
        norm: nn.Module,
        predictor: nn.Module,
        *,
        width: int,
        grid: tuple[int, int],
        prefix: int,
        class_token: bool = False,
        layout: str = "tokens",
    ) -> None:
        super().__init__()
        self.trunk, self.bypass, self.norm, self.predictor = trunk, bypass, norm, predictor
        self.scale = nn.Parameter(torch.ones(()))  # logit scale, one per exit (release)
        self.width, self.grid, self.prefix, self.layout = width, grid, prefix, layout
        self.class_token = class_token
        self.reads_side: bool = getattr(bypass, "reads_side", True)
        self.reads_raw: bool = getattr(predictor, "reads_raw", False)
        self._to_tokens = lookup(LAYOUTS, layout, "layout")

    def tokens(self, state: Tensor) -> Tensor:
        """This stage's trunk output as tokens (B,N,D); the patches of a map row by row."""
        return self._to_tokens(state)

    def classify(self, read: Tensor, raw: Tensor) -> Tensor:
        """Tokens (B,N,D) after the bypass, and before it → logits (B,C): exit norm, predictor, scale."""
        if isinstance(self.trunk, MergedTrunk):  # every merged token counts once, for any number of patches
            read, raw = self.trunk.once(read, raw), self.trunk.once(raw, raw)
        inputs = (self.norm(read), raw) if self.reads_raw else (self.norm(read),)
        logits: Tensor = self.predictor(*inputs) * self.scale
        return logits

    def predict(self, state: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits of the exit, from the trunk's output.

        Args:
            state: this stage's trunk output.
            side: the side output of the previous stage's bypass, else None.

        Returns:
            logits (B,C) and the side output of this bypass.
        """
        tokens = self.tokens(state)
        read, side = self.bypass(tokens, side)
        return self.classify(read, tokens), side


class StageOutput:
    """Result of one stage for a batch; its exit is computed on first use.

    Attributes:
        k: the stage, counted from 0.
        stage: the module itself.
        state: the trunk's output for the next stage, in the backbone's layout.

    Example:
        >>> import torch
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> first = next(model.walk(torch.zeros(1, 3, 32, 32)))  # the second stage does not run
        >>> first.k, tuple(first.tokens.shape), tuple(first.logits.shape)
        (0, (1, 5, 64), (1, 3))
    """

    def __init__(
        self, k: int, stage: Stage, state: Tensor, here: Tensor, side: StageOutput | Tensor | None = None
    ) -> None:
        self.k, self.stage, self.state = k, stage, state
        self._here, self._given = here, side

    @property
    def tokens(self) -> Tensor:
        """(B,N,D): the trunk's output as tokens, which the bypass reads."""
        return self.stage.tokens(self._here)

    @property
    def read(self) -> Tensor:
        """(B,N,D): the bypass's output, which exit norm and predictor read."""
        return self._bypassed[0]

    @property
    def side(self) -> Tensor | None:
        """The side output of this stage's bypass for the next one; None except for ``ladder``."""
        return self._bypassed[1]

    @cached_property
    def logits(self) -> Tensor:
        """(B,C): this exit's logits."""
        return self.stage.classify(self.read, self.tokens)

    @cached_property
    def _bypassed(self) -> tuple[Tensor, Tensor | None]:
        given, self._given = self._given, None  # a finished stage keeps no earlier one alive
        if not self.stage.reads_side:
            given = None
        read, side = self.stage.bypass(self.tokens, given.side if isinstance(given, StageOutput) else given)
        return read, side


class DMPO(nn.Module):
    """Early-exit model: a backbone with K exits, `forward` gives the logits of all of them.

    Args:
        embed: images (B,3,S,S) → the first state.
        stages: K of them, in order.
        exits: block number that each exit follows.
        preprocess: the input it expects.
        equilibrium: rescale gradients at every exit (`branch`) while training.

    Example:
        >>> import torch
        >>> import dmpo_explore as dx
        >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
        >>> tuple(model(torch.zeros(4, 3, 32, 32)).shape)  # images, exits, classes
        (4, 2, 3)
    """

    stages: Sequence[Stage]

    def __init__(
        self,
        embed: nn.Module,
        stages: Sequence[Stage],
        exits: Sequence[int],
        preprocess: Preprocess,
        *,
        equilibrium: bool = False,
    ) -> None:
        super().__init__()
        self.equilibrium = equilibrium
        self.embed = embed
        self.stages = nn.ModuleList(stages)  # type: ignore[assignment]
        self.exits, self.preprocess = tuple(exits), preprocess

    def forward(self, images: Tensor) -> Tensor:
        """Logits of all exits: images (B,3,S,S) → (B,K,C); ValueError as `walk`."""
        return torch.stack([output.logits for output in self.walk(images)], dim=1)  # (B, K, C)

    def walk(self, images: Tensor) -> Iterator[StageOutput]:
        """Run the stages one after another, from the first; if a caller stops early, the others do not run.

        A stage's trunk runs when the stage is reached. Its exit runs when ``read``, ``side`` or ``logits`` is read.

        Args:
            images: (B,3,S,S), preprocessed, of the weights' type.

        Yields:
            K times the `StageOutput` of a stage.

        Raises:
            ValueError: images of another shape or type (`check_images`).

        Example:
            >>> import torch
            >>> import dmpo_explore as dx
            >>> model = dx.build_model(dx.ModelConfig("test_vit", "random", 32, exits=2), n_classes=3).eval()
            >>> [tuple(output.logits.shape) for output in model.walk(torch.zeros(1, 3, 32, 32))]
            [(1, 3), (1, 3)]
        """
        self.check_images(images)
        x, side = images, None
        for k in range(self.n_exits):
            output = self.step(k, x, side)
            yield output
            x, side = output.state, output

    def step(self, k: int, x: Tensor, side: StageOutput | Tensor | None = None) -> StageOutput:
        """One stage of the walk on its own, for loops that drop images on the way.

        Args:
            k: the stage, counted from 0.
            x: images before the first stage, else the previous stage's ``state``.
            side: the previous stage's ``side``, or its output where ``side`` may not be needed.
        """
        stage = self.stages[k]
        here = state = stage.trunk(x if k else self.embed(x))
        if self.equilibrium and self.training:
            here, state = branch(state, self.n_exits - k)
        return StageOutput(k, stage, state, here, side)

    def check_images(self, images: Tensor) -> None:
        """Raise ValueError unless images are (B,3,S,S) of the weights' type, B ≥ 1; autocast takes every float of at
        most 32 bits."""
        kind = images.device.type
        own = next(self.parameters()).dtype
        cast = (torch.float32, torch.float16, torch.bfloat16) if torch.is_autocast_enabled(kind) else ()
        check_images(images, self.preprocess.image_size, [str(dtype) for dtype in (own, *cast)])

    @property
    def n_exits(self) -> int:
        """K, the number of exits."""
        return len(self.stages)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but the backbone's batch norms stay in eval mode: their statistics are those of the
        pre-training."""
        super().train(mode)
        for part in (self.embed, *(stage.trunk for stage in self.stages)):
            for module in part.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def trainable_state(self) -> dict[str, Tensor]:
        """The trainable weights by name: all that a run stores."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def load_trainable(self, state: Mapping[str, Tensor]) -> None:
        """Load a `trainable_state`.

        Raises:
            ValueError: a name or shape that is not this model's; no weight is loaded then.
        """
        own = self.trainable_state()
        missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        bent = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
        if missing or foreign or bent:
            raise ValueError(
                f"these weights are not this model's: {len(missing)} missing (e.g. {missing[:2]}), "
                f"{len(foreign)} foreign (e.g. {foreign[:2]}), {len(bent)} of another shape (e.g. {bent[:2]})"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])
