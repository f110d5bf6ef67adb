"""Early-exit model: images → embed → stage 1..K, each trunk → bypass → exit norm → predictor → scale.

`DMPO` receives finished parts and wires them. `DMPO.walk` is the only loop over the stages; `forward_features` walks
once for the logits and what each predictor reads of an image.
The trunk never reads the bypass's output (abstract of arXiv 2511.03245), so its features can stay representative.
Trunks pass a *state* in the backbone's own layout (tokens, or a feature map); exits read it as tokens.
In every layout the images are dimension 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.modules.batchnorm import _BatchNorm

from ..config import Preprocess
from .image_check import check_images
from .predictors import read_mean
from .stage import Stage, StageOutput


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
        self.precision = "no"  # of the autocast that its weights were cast for (`predictors.cast_products`)
        self.frozen_sha256 = ""  # `hash_frozen` when it was built, where a function of one's own made its backbone

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
        own = next(self.parameters()).dtype
        there = hasattr(images, "device") and torch.is_autocast_enabled(images.device.type)
        cast = (torch.float32, torch.float16, torch.bfloat16) if there else ()
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
        """All that a run stores: the trainable weights by name, those fitted after each epoch (`EarlierExits`), and the
        buffers of the exits' own parts, such as a batch norm's statistics."""
        fitted = {id(w) for stage in self.stages if stage.earlier is not None for w in stage.earlier.parameters()}
        found = {name: p.detach() for name, p in self.named_parameters() if p.requires_grad or id(p) in fitted}
        for k, stage in enumerate(self.stages):
            for part in ("bypass", "norm", "predictor"):
                module, prefix = getattr(stage, part), f"stages.{k}.{part}."
                weights = dict(module.named_parameters(remove_duplicate=False))
                found |= {prefix + name: v for name, v in module.state_dict().items() if name not in weights}
        return found

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


def hash_frozen(model: DMPO) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights and buffers that a run does not store.

    Layers that peft has put around a weight do not count.
    """
    found, stored = hashlib.sha256(), model.trainable_state()
    for name, value in sorted(model.state_dict().items()):
        if name not in stored:
            found.update(f"{name.replace('.base_layer', '')} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def feature_width(model: DMPO) -> int:
    """D of `forward_features`: the width of the widest stage."""
    return max(stage.width for stage in model.stages)


def forward_features(model: DMPO, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K, C) of all exits and their features (B, K, D), of one walk.

    The features of an exit are the mean of its patch tokens after bypass and exit norm. Beyond the width of a narrower
    stage they are 0.

    Raises:
        ValueError: as `DMPO.walk`.
    """
    width, logits, features = feature_width(model), [], []
    for output in model.walk(images):
        logits.append(output.logits)
        stage = output.stage  # of the tokens that its predictor reads
        pooled = read_mean(stage.norm(stage.once(output.read, output.tokens)), stage.prefix)
        features.append(pad(pooled, (0, width - pooled.shape[1])))
    return torch.stack(logits, dim=1), torch.stack(features, dim=1)
