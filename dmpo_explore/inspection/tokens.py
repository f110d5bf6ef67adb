"""Tokens of every stage: the output of its trunk and the input of its predictor.

In: a `DMPO` and images (B,3,S,S). Out: `StageTokens` (CPU, float32); logits of them with a scaled bypass;
the same trunk cut at other blocks. The model itself does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from ..models.bypass import NoBypass
from ..models.dmpo import DMPO, evaluating
from ..utils.typing import Array, Bools, Floats


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
        ValueError: no images, or another number of axes.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
        >>> tokens = dx.stage_tokens(dx.build_model(config, n_classes=3), torch.rand(2, 3, 32, 32))
        >>> [tuple(trunk.shape) for trunk in tokens.trunk]  # a class token and 2 × 2 patches
        [(2, 5, 64), (2, 5, 64)]
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"images of shape {tuple(images.shape)} must be (B, 3, S, S) with B of at least 1")
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


# Principal components of patch tokens: what differs most between the patches of an image, at every stage.
#
# In: tokens (N,D), or `StageTokens`. Out: scores of every patch on the first components, and their shares of the
# variance. Colours of two stages can be compared: components are matched in order and sign to the stage before.

COLOURS = 3  # components that are shown as red, green and blue


@dataclass(frozen=True)
class PatchComponents:
    """First principal components of the patch tokens of one image at one stage.

    Args:
        scores: (h, w, 3), the projections of the centred tokens. shares: (3,) of the variance.

    Example:
        >>> import numpy as np
        >>> found = PatchComponents(np.zeros((2, 2, 3)), np.array([0.5, 0.3, 0.1]))
        >>> found.rgb()[0, 0].tolist()
        [128, 128, 128]
    """

    scores: Floats
    shares: Floats

    def rgb(self) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8: each component over its largest absolute value; 128 stands for the mean patch."""
        largest = np.abs(self.scores).max(axis=(0, 1))
        scaled = np.divide(self.scores, largest, out=np.zeros_like(self.scores), where=largest > 0)
        shown: npt.NDArray[np.uint8] = np.rint(127.5 + 127.5 * scaled).astype(np.uint8)
        return shown


def principal_components(tokens: npt.ArrayLike, n: int = COLOURS) -> tuple[Floats, Floats]:
    """Scores (N, n) of centred tokens (N,D) on their first principal components, and shares (n,) of the variance.

    The sign of a component is free: here the sum of the cubes of its scores is not negative. Components beyond the rank
    have scores 0.

    Raises:
        ValueError: not (N,D), or no token.

    Example:
        >>> scores, shares = principal_components([[0.0, 1.0], [0.0, 2.0], [0.0, 6.0]], n=1)
        >>> scores[:, 0].round(6).tolist(), shares.tolist()
        ([-2.0, -1.0, 3.0], [1.0])
    """
    values = np.asarray(tokens, np.float64)
    if values.ndim != 2 or not len(values):
        raise ValueError(f"tokens of shape {values.shape} must be (N, D) with at least one token")
    left, sizes, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    scores, variance = np.zeros((len(values), n)), np.zeros(n)
    kept = min(n, len(sizes))
    scores[:, :kept], variance[:kept] = (left * sizes)[:, :kept], sizes[:kept] ** 2
    total = float((sizes**2).sum())
    return scores * np.where((scores**3).sum(axis=0) < 0, -1.0, 1.0), variance / total if total else variance


def patch_components(tokens: StageTokens, image: int = 0, source: str = "read") -> list[PatchComponents]:
    """Principal components of one image's patch tokens at every stage, matched from stage to stage.

    Ours: order and signs at a stage are those whose scores correlate most with the stage before, so that a colour
    means about the same patches. Components themselves are not changed.

    Args:
        image: row of the images. source: as `StageTokens.patches`; ``read``: what the predictor reads.

    Raises:
        ValueError: as `StageTokens.patches`.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
        >>> tokens = dx.stage_tokens(dx.build_model(config, n_classes=3), torch.rand(1, 3, 32, 32))
        >>> [found.scores.shape for found in dx.inspection.patch_components(tokens)]
        [(2, 2, 3), (2, 2, 3)]
    """
    found: list[PatchComponents] = []
    for k, (height, width) in enumerate(tokens.grids):
        scores, shares = principal_components(tokens.patches(k, source)[image].numpy())
        scores = scores.reshape(height, width, COLOURS)
        if found:
            before = found[-1].scores  # at the nearest cells of this grid
            rows, columns = (np.arange(n) * size // n for n, size in zip((height, width), before.shape, strict=False))
            order, signs = _matched(before[rows][:, columns], scores)
            scores, shares = scores[..., order] * signs, shares[order]
        found.append(PatchComponents(scores, shares))
    return found


def _matched(before: Floats, now: Floats) -> tuple[list[int], Floats]:
    """Order and signs of the components of ``now`` that agree most with those of ``before``."""
    a, b = (array.reshape(-1, COLOURS) for array in (before, now))
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    alike = np.divide(a.T @ b, norms, out=np.zeros((COLOURS, COLOURS)), where=norms > 0)
    order = max(permutations(range(COLOURS)), key=lambda p: sum(abs(alike[i, c]) for i, c in enumerate(p)))
    return list(order), np.array([-1.0 if alike[i, c] < 0 else 1.0 for i, c in enumerate(order)])


# Linear probes: ridge regressions from frozen tokens to the image under a patch and to the label.
#
# In: `StageTokens`, the images and labels they come from. Out: R² and accuracy on held-out images.
# A linear probe measures which information is linearly decodable, not what the model uses (Alain & Bengio 2016, arXiv
# 1610.01644). Ours: a patch's grey mean and its pixels as low-level targets.

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 5, 7))  # ridge penalties on standardised features
SOURCES = ("trunk", "read")


def patch_means(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Grey mean of the image under every patch, row by row: (B,3,S,S) → (B, h·w).

    Example:
        >>> import dmpo_explore as dx, torch
        >>> dx.inspection.patch_means(torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4), (2, 2)).tolist()
        [[2.5, 4.5, 10.5, 12.5]]
    """
    return F.adaptive_avg_pool2d(images.float().mean(dim=1, keepdim=True), grid).flatten(1)


def ridge_r2(x: npt.ArrayLike, y: npt.ArrayLike, train: npt.ArrayLike) -> float:
    """R² of a ridge regression on held-out images: 1 is perfect, 0 is no better than the mean.

    Args:
        x: (B,n,p) features. y: (B,n) targets.
        train: (B,) bool, the images to fit on. The penalty comes from `ALPHAS` by leave-one-out among them.

    Raises:
        ValueError: lengths that differ, or a mask with only one kind of image.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> x = np.random.default_rng(0).normal(size=(40, 5, 4))
        >>> round(dx.inspection.ridge_r2(x, x.sum(-1), dx.inspection.half_of(40)), 3)
        1.0
    """
    x, y, train = _split(x, y, train)
    probe = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    probe.fit(x[train].reshape(-1, x.shape[-1]), y[train].ravel())
    return float(probe.score(x[~train].reshape(-1, x.shape[-1]), y[~train].ravel()))


def ridge_accuracy(x: npt.ArrayLike, labels: npt.ArrayLike, train: npt.ArrayLike) -> float:
    """Accuracy of a ridge classifier on held-out images.

    Args:
        x: (B,p) features. labels: (B,). train: (B,) bool, as `ridge_r2`.

    Raises:
        ValueError: as `ridge_r2`.

    Example:
        >>> import dmpo_explore as dx, numpy as np
        >>> labels = np.arange(60) % 3
        >>> dx.inspection.ridge_accuracy(np.eye(3)[labels], labels, dx.inspection.half_of(60))
        1.0
    """
    x, labels, train = _split(x, labels, train)
    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(ALPHAS))
    return float(probe.fit(x[train], labels[train]).score(x[~train], labels[~train]))


def _split(x: npt.ArrayLike, y: npt.ArrayLike, train: npt.ArrayLike) -> tuple[Floats, Array, Bools]:
    features, targets, chosen = np.asarray(x, np.float64), np.asarray(y), np.asarray(train)
    if chosen.dtype != np.bool_ or chosen.ndim != 1 or not len(chosen) == len(features) == len(targets):
        raise ValueError(f"features {features.shape}, targets {targets.shape} and a mask {chosen.shape} must share B")
    if chosen.all() or not chosen.any():
        raise ValueError("a probe needs images to fit on and held-out images; the mask has only one kind")
    return features, targets, chosen


def half_of(n_images: int, seed: int = 0) -> Bools:
    """Mask of a random half of the images, (B,) bool: those that a probe is fitted on.

    Example:
        >>> import dmpo_explore as dx
        >>> mask = dx.inspection.half_of(10)
        >>> mask.dtype, int(mask.sum())
        (dtype('bool'), 5)
    """
    mask = np.zeros(n_images, dtype=bool)
    mask[np.random.default_rng(seed).permutation(n_images)[: n_images // 2]] = True
    return mask


def probe_stages(
    tokens: StageTokens,
    images: Tensor,
    labels: npt.ArrayLike,
    *,
    sources: Sequence[str] = SOURCES,
    seed: int = 0,
) -> pd.DataFrame:
    """Ridge probes at every stage, on trunk tokens and on the predictor's input; half of the images are held out.

    Args:
        tokens: `stage_tokens` of ``images`` (B,3,S,S). labels: (B,).
        sources: of ``trunk`` and ``read``, those to probe. seed: of the choice of the fitted half.

    Returns:
        ``exit`` (from 1), ``source`` (trunk, read), ``low_level`` (R² of a patch's grey mean, from its own token) and
        ``label`` (accuracy, from the mean patch token). Where there is no bypass both sources give the same numbers.

    Raises:
        ValueError: as `ridge_r2`.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, bypass_width=4, channels=8)
        >>> model, images = dx.build_model(config, n_classes=2), torch.rand(12, 3, 32, 32)
        >>> table = dx.probe_stages(dx.stage_tokens(model, images), images, [0, 1] * 6)
        >>> list(table["source"])
        ['trunk', 'read', 'trunk', 'read']
    """
    train, rows = half_of(len(images), seed), []
    for k, grid in enumerate(tokens.grids):
        means = patch_means(images, grid).numpy()
        found: dict[str, float] = {}
        for source in sources:
            if not found or tokens.read[k] is not tokens.trunk[k]:
                x = tokens.patches(k, source).double().numpy()
                found = {
                    "low_level": ridge_r2(x, means, train),
                    "label": ridge_accuracy(x.mean(axis=1), labels, train),
                }
            rows.append({"exit": k + 1, "source": source} | found)
    return pd.DataFrame(rows)
