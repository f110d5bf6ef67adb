"""CutOut (DeVries and Taylor 2017, arXiv 1708.04552) by patches: images with some of their patches hidden.

In: images (B,3,S,S), normalised, and a score for each patch. Out: the images with a quarter of their patches at 0, the
mean colour. ``attentive`` hides the patches that an untuned ViT attends to most in its last block, as OrthSR's
attentive CutOut (Li et al. 2024, arXiv 2407.08374); ``random`` is its control. Ours: patches and not one square, the
share of a quarter, and attention from the class token, from all patches where there is none.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...models.attention import attention_weights, is_attention
from ...models.dmpo import DMPO

SHARE = 4  # one patch in so many is hidden


def hide(images: Tensor, scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """Images (B,3,S,S) with the quarter of their patches at 0 that has the largest scores (B, rows · columns).

    Example:
        >>> cut = hide(torch.ones(1, 3, 4, 4), torch.tensor([[0.1, 0.4, 0.2, 0.3]]), (2, 2))
        >>> cut[0, 0].tolist()
        [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    chosen = scores.topk(scores.shape[1] // SHARE, dim=1).indices
    kept = torch.ones_like(scores).scatter(1, chosen, 0.0).view(-1, 1, *grid)
    return images * interpolate(kept, size=images.shape[-2:], mode="nearest").to(images.dtype)


def check_cutout(kind: str, model: DMPO) -> None:
    """Raise ValueError where this model's images cannot be cut so."""
    last = model.stages[-1]
    if kind == "attentive" and not (last.layout == "tokens" and any(is_attention(m) for m in last.trunk.modules())):
        raise ValueError("cutout='attentive' needs a ViT, whose attention reads all patches; use 'random' or 'none'")
    rows, columns = last.grid
    if kind != "none" and rows * columns < SHARE:
        raise ValueError(
            f"cutout={kind!r} hides one patch in {SHARE}, but an image has {rows}x{columns} at the last exit; "
            "use larger images, or 'none'"
        )


def attended(attention: Tensor, model: DMPO) -> Tensor:
    """Attention (B, heads, N, N) of a ViT's block → how much is paid to each patch, (B, rows · columns)."""
    last = model.stages[-1]
    mean = attention.float().mean(dim=1)
    rows = mean[:, 0] if last.class_token else mean[:, last.prefix :].mean(dim=1)
    return rows[:, last.prefix :]


def scores(kind: str, images: Tensor, model: DMPO) -> tuple[Tensor, Tensor | None]:
    """Scores of the patches for `hide`; for ``attentive`` also the logits (B,K,C) of the model.

    Args:
        model: the untuned one.
    """
    last = model.stages[-1]
    if kind == "attentive":
        with attention_weights([last.trunk]) as seen:
            logits = model(images)
        return attended(seen[-1], model), logits
    rows, columns = last.grid
    return torch.rand(len(images), rows * columns, device=images.device), None
