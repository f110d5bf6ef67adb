"""Linear probes: ridge regressions from frozen tokens to the image under a patch and to the label.

In: `StageTokens`, the images and labels they come from. Out: R² and accuracy on held-out images.
A linear probe measures which information is linearly decodable, not what the model uses (Alain & Bengio 2016, arXiv
1610.01644). Ours: a patch's grey mean and its pixels as low-level targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from ..utils.typing import Array, Bools, Floats
from .tokens import StageTokens

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
