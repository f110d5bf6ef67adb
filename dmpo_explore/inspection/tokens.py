"""What every stage knows: the tokens of its trunk and what its predictor reads, kept for questions.

In: a `DMPO` and images (B,3,S,S). Out: `StageTokens` (CPU, float32), logits read out of them with more or less of the
bypass, and the same trunk cut at other blocks. The model runs its own stages; nothing about it changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..models.bypass import NoBypass
from ..models.dmpo import DMPO, Stage, evaluating


@dataclass(frozen=True)
class StageTokens:
    """Tokens of B images at K stages, detached.

    Args:
        trunk: K of (B,N,D), what the trunk hands on.
        read: K of (B,N,D), what the predictor reads, before the exit norm; so ``read − trunk`` is what the bypass adds.
            The same object as ``trunk`` where there is no bypass.
        grids: K of (h, w), N = prefix + h·w.
        prefix: K numbers of tokens before the patches.
    """

    trunk: tuple[Tensor, ...]
    read: tuple[Tensor, ...]
    grids: tuple[tuple[int, int], ...]
    prefix: tuple[int, ...]

    def patches(self, stage: int, source: str = "trunk") -> Tensor:
        """(B, h·w, D): the patch tokens of ``trunk`` or ``read`` at a 0-based stage; ValueError for another source."""
        if source not in ("trunk", "read"):
            raise ValueError(f"source={source!r} must be 'trunk' or 'read'")
        tokens: Tensor = getattr(self, source)[stage]
        return tokens[:, self.prefix[stage] :]

    def bypass_maps(self) -> list[Tensor]:
        """K of (B, h, w): how much the bypass adds to each patch token, as a share of the trunk token's length."""
        maps = []
        for k, grid in enumerate(self.grids):
            trunk, read = self.patches(k), self.patches(k, "read")
            share = (read - trunk).norm(dim=-1) / trunk.norm(dim=-1).clamp_min(1e-12)
            maps.append(share.unflatten(1, grid))
        return maps


def stage_tokens(model: DMPO, images: Tensor, *, batch_size: int = 64) -> StageTokens:
    """Run the model's stages and keep what each trunk hands on and what each predictor reads.

    Args:
        images: (B,3,S,S) floats, preprocessed (`Run.inputs`). No dropout; the model's mode is restored.
        batch_size: images at a time.

    Raises:
        ValueError: no images, or another number of axes.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images of shape {tuple(images.shape)} must be (B, 3, S, S) with B of at least 1")
    trunks: list[list[Tensor]] = [[] for _ in model.stages]
    reads: list[list[Tensor]] = [[] for _ in model.stages]
    with evaluating(model), torch.no_grad():
        for start in range(0, len(images), batch_size):
            state, side = model.embed(images[start : start + batch_size].to(model.device)), None
            for k, stage in enumerate(model.stages):
                state = stage.trunk(state)
                tokens = stage.tokens(state)
                read, side = stage.bypass(tokens, side)
                trunks[k].append(tokens.float().cpu())
                reads[k].append(trunks[k][-1] if read is tokens else read.float().cpu())
    trunk = tuple(torch.cat(parts) for parts in trunks)
    same = [all(a is b for a, b in zip(*parts, strict=True)) for parts in zip(trunks, reads, strict=True)]
    return StageTokens(
        trunk=trunk,
        read=tuple(trunk[k] if same[k] else torch.cat(parts) for k, parts in enumerate(reads)),
        grids=tuple(stage.grid for stage in model.stages),
        prefix=tuple(stage.prefix for stage in model.stages),
    )


def block_view(model: DMPO, every: int = 1) -> DMPO:
    """The same embedding and blocks, cut into stages of ``every`` blocks with nothing beside them; weights are shared.

    For looking between the exits (`stage_tokens`); its predictors are identities, so ``forward`` is of no use.

    Raises:
        ValueError: a trunk that is no sequence of blocks on tokens; blocks that ``every`` does not divide.
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
    """Logits (B,K,C) of kept tokens, the predictors reading trunk + share · (what the bypass adds).

    At share 1 this is the model's own forward; at 0 every bypass is switched off, an ablation at inference: the
    predictors were trained with it, so this is not what a model without bypass would do.
    """
    logits = []
    with evaluating(model), torch.no_grad():
        for trunk, read, stage in zip(tokens.trunk, tokens.read, model.stages, strict=True):
            mixed = torch.lerp(trunk, read, share).to(model.device)
            logits.append((stage.predictor(stage.norm(mixed)) * stage.scale).cpu())
    return torch.stack(logits, dim=1)
