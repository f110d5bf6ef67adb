"""What a ridge probe can read from frozen tokens: the picture under a patch, and the label.

In: `StageTokens`, the images and labels they come from. Out: R² and accuracy on images that the probe has not seen, and
pictures. A linear probe asks what is there to be read, not what the model uses (Alain & Bengio 2016, arXiv 1610.01644).
Ours: a patch's grey mean and its pixels as the low-level targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import Ridge, RidgeClassifierCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from .tokens import StageTokens

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 5, 7))  # ridge penalties on standardised features
SOURCES = ("trunk", "read")
PENALTY = 10.0  # of `reconstruct`
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def patch_means(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B,3,S,S) → (B, h·w): the grey mean of the picture under every patch, row by row."""
    return F.adaptive_avg_pool2d(images.float().mean(dim=1, keepdim=True), grid).flatten(1)


def ridge_r2(x: npt.ArrayLike, y: npt.ArrayLike, train: npt.ArrayLike) -> float:
    """Share of y's variance that a ridge regression explains on images it has not seen: (B,n,p), (B,n) → R².

    Fitted on the images where ``train`` (B,) is true, the penalty chosen from ``ALPHAS`` by leave-one-out among them;
    1 is perfect, 0 is no better than the mean.
    """
    x, y, train = _split(x, y, train)
    probe = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    probe.fit(x[train].reshape(-1, x.shape[-1]), y[train].ravel())
    return float(probe.score(x[~train].reshape(-1, x.shape[-1]), y[~train].ravel()))


def ridge_accuracy(x: npt.ArrayLike, labels: npt.ArrayLike, train: npt.ArrayLike) -> float:
    """Accuracy of a ridge classifier on images it has not seen: (B,p), (B,) → share right; fitted as `ridge_r2`."""
    x, labels, train = _split(x, labels, train)
    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(ALPHAS))
    return float(probe.fit(x[train], labels[train]).score(x[~train], labels[~train]))


def _split(x: npt.ArrayLike, y: npt.ArrayLike, train: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.generic], Mask]:
    features, targets, chosen = np.asarray(x, np.float64), np.asarray(y), np.asarray(train)
    if chosen.dtype != np.bool_ or chosen.ndim != 1 or not len(chosen) == len(features) == len(targets):
        raise ValueError(f"features {features.shape}, targets {targets.shape} and a mask {chosen.shape} must share B")
    if chosen.all() or not chosen.any():
        raise ValueError("a probe needs images to fit on and others to be tried on; the mask has only one kind")
    return features, targets, chosen


def reconstruct(patches: Tensor, images: Tensor, grid: tuple[int, int], train: npt.ArrayLike) -> Floats:
    """What a linear probe still sees: (B,h·w,D) tokens, (B,3,S,S) → (B,S,S) grey pictures. Ours.

    Each patch's pixels are predicted from its own token by one ridge regression on the images in ``train``, with a
    fixed penalty (quick enough for a slider); look at the others.

    Raises:
        ValueError: pictures that the grid does not divide, or as `ridge_r2`.
    """
    grey = images.float().mean(dim=1)
    (B, rows, columns), (h, w) = grey.shape, grid
    if rows % h or columns % w:
        raise ValueError(f"pictures of {rows}x{columns} do not divide into {h}x{w} patches")
    tiles = grey.reshape(B, h, rows // h, w, columns // w).transpose(2, 3).reshape(B, h * w, -1)
    x, y, mask = _split(patches.numpy(), tiles.numpy(), train)
    probe = make_pipeline(StandardScaler(), Ridge(PENALTY))
    probe.fit(x[mask].reshape(-1, x.shape[-1]), y[mask].reshape(-1, y.shape[-1]))
    seen = probe.predict(x.reshape(-1, x.shape[-1])).reshape(B, h, w, rows // h, columns // w)
    return np.asarray(seen.swapaxes(2, 3).reshape(B, rows, columns), np.float64)


def half_of(n_images: int, seed: int = 0) -> Mask:
    """(B,) bool, a random half of the images: those a probe is fitted on."""
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
    """Ridge probes at every stage, on trunk and on what the predictor reads; half the images fit, the others count.

    Args:
        tokens: `stage_tokens` of ``images`` (B,3,S,S). labels: (B,).
        sources: of ``trunk`` and ``read``, those that are wanted. seed: which half fits.

    Returns:
        ``exit`` (from 1), ``source`` (trunk, read), ``low_level`` (R² of a patch's grey mean, from its own token) and
        ``label`` (accuracy, from the mean patch token). Where there is no bypass both sources give the same numbers.
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
