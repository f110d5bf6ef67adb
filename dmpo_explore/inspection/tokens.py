"""Tokens of every stage: the output of its trunk and the input of its predictor.

In: a `DMPO` and images (B,3,S,S). Out: `StageTokens` (CPU, float32); logits of them with a scaled bypass;
the same trunk cut at other blocks. The model itself does not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..models.bypass import NoBypass
from ..models.dmpo import DMPO, evaluating
from ..models.stage import Stage


@dataclass(frozen=True)
class StageTokens:
    """Tokens of B images at K stages, detached.

    Args:
        trunk: K of (B,N,D), the trunk's output.
        read: K of (B,N,D), the predictor's input before the exit norm; ``read − trunk`` is the bypass's addition.
            The same object as ``trunk`` where there is no bypass.
        grids: K of (h, w), N = prefix + h·w.
        prefix: K numbers of tokens before the patches.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
        >>> tokens = dx.stage_tokens(dx.build_model(config, n_classes=3), torch.rand(2, 3, 32, 32))
        >>> tokens.grids, tuple(tokens.patches(1, "read").shape)
        (((2, 2), (2, 2)), (2, 4, 64))
    """

    trunk: tuple[Tensor, ...]
    read: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    prefix: tuple[int, ...]

    def patches(self, stage: int, source: str = "trunk") -> Tensor:
        """Patch tokens of ``trunk`` or ``read`` at a 0-based stage, (B, h·w, D); ValueError for another source."""
        if source not in ("trunk", "read"):
            raise ValueError(f"source={source!r} must be 'trunk' or 'read'")
        tokens: Tensor = getattr(self, source)[stage]
        return tokens[:, self.prefix[stage] :]


def stage_tokens(model: DMPO, images: Tensor, *, batch_size: int = 64) -> StageTokens:
    """Tokens of every trunk and of every predictor's input, in eval mode; the model's mode is restored.

    Args:
        images: (B,3,S,S) floats, preprocessed (`Run.inputs`). batch_size: images at a time.

    Raises:
        ValueError: no images, another number of axes, or a batch size below 1.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
        >>> tokens = dx.stage_tokens(dx.build_model(config, n_classes=3), torch.rand(2, 3, 32, 32))
        >>> [tuple(trunk.shape) for trunk in tokens.trunk]  # a class token and 2 × 2 patches
        [(2, 5, 64), (2, 5, 64)]
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images of shape {tuple(images.shape)} must be (B, 3, S, S) with B of at least 1")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    trunks: list[list[Tensor]] = [[] for _ in model.stages]
    reads: list[list[Tensor]] = [[] for _ in model.stages]
    with evaluating(model), torch.no_grad():
        for start in range(0, len(images), batch_size):
            for output in model.walk(images[start : start + batch_size].to(model.device)):
                trunks[output.k].append(output.tokens.float().cpu())
                if not isinstance(output.stage.bypass, NoBypass):
                    reads[output.k].append(output.read.float().cpu())
    trunk = tuple(torch.cat(parts) for parts in trunks)
    return StageTokens(
        trunk=trunk,
        read=tuple(torch.cat(parts) if parts else trunk[k] for k, parts in enumerate(reads)),
        grids=tuple(stage.grid for stage in model.stages),
        prefix=tuple(stage.prefix for stage in model.stages),
    )


def block_view(model: DMPO, every: int = 1) -> DMPO:
    """The same embedding and blocks cut into stages of ``every`` blocks, without bypass; weights are shared.

    It serves `stage_tokens` between the exits. Its predictors are identities, so ``forward`` gives no logits.

    Raises:
        ValueError: a trunk that is no sequence of blocks on tokens; blocks that ``every`` does not divide.

    Example:
        >>> import dmpo_explore as dx
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
        >>> dx.inspection.block_view(dx.build_model(config, n_classes=3), every=2).exits
        (2, 4, 6)
    """
    if any(stage.layout != "tokens" or not isinstance(stage.trunk, nn.Sequential) for stage in model.stages):
        raise ValueError("block_view needs trunks that are sequences of blocks on tokens, as a ViT's")
    pairs = [(block, stage) for stage in model.stages for block in cast(nn.Sequential, stage.trunk)]
    if every < 1 or len(pairs) % every:
        raise ValueError(f"every={every} does not divide the {len(pairs)} blocks of this model")
    stages = []
    for end in range(every, len(pairs) + 1, every):
        stage, blocks = pairs[end - 1][1], [block for block, _ in pairs[end - every : end]]
        stages.append(
            Stage(
                nn.Sequential(*blocks),
                NoBypass(stage.width, 1, stage.grid, stage.prefix),
                nn.Identity(),
                nn.Identity(),
                width=stage.width,
                grid=stage.grid,
                prefix=stage.prefix,
                class_token=stage.class_token,
            )
        )
    return DMPO(model.embed, stages, range(every, len(pairs) + 1, every), model.preprocess)


def read_out(model: DMPO, tokens: StageTokens, *, share: float = 1.0) -> Tensor:
    """Logits (B,K,C) of stored tokens with a scaled bypass: predictors read trunk + share · (read − trunk).

    At share 1 these are the model's own logits. At 0 every bypass is ablated at inference. The predictors were trained
    with it, so this is not a model that was trained without bypass.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
        >>> model, images = dx.build_model(config, n_classes=3).eval(), torch.rand(2, 3, 32, 32)
        >>> logits = dx.inspection.read_out(model, dx.stage_tokens(model, images))
        >>> torch.allclose(logits, model(images), atol=1e-4)
        True
    """
    logits: list[Tensor] = []
    said: Tensor | None = None  # by earlier exits, where later ones read them
    with evaluating(model), torch.no_grad():
        for trunk, read, stage in zip(tokens.trunk, tokens.read, model.stages, strict=True):
            mixed = torch.lerp(trunk, read, share).to(model.device)
            own = stage.classify(mixed, trunk.to(model.device))
            said = None if stage.earlier is None else stage.earlier.collect(own, said)
            logits.append((own if stage.earlier is None or said is None else stage.earlier(said)).cpu())
    return torch.stack(logits, dim=1)
