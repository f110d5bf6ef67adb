"""Embedding: the features of every exit in two dimensions, for a map of the images.

In: features (B, K, D). Out: (B, K, 2) float16, the first two principal components of each exit. Ours: from the second
exit on, a map is rotated or mirrored onto the one before (orthogonal Procrustes, Schönemann 1966), so that an image
stays near its place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..utils.typing import Array

PIECE = 4096  # images that are read together, as features may be large
EDGE = 100.0  # the largest coordinate of a map


def feature_embedding(features: Array) -> npt.NDArray[np.float16]:
    """First two principal components of the features of each exit (B, K, D), matched from exit to exit: (B, K, 2).

    Each map is scaled as a whole: distances within it can be compared, those of two exits cannot.

    Raises:
        ValueError: not (B, K, D), or no images.

    Example:
        >>> import numpy as np
        >>> line = np.array([0.0, 1.0, 2.0])[:, None, None] * np.ones((1, 2, 4))
        >>> (feature_embedding(line)[:, 0].round() + 0.0).tolist()  # on a line, from end to end
        [[-100.0, 0.0], [0.0, 0.0], [100.0, 0.0]]
    """
    from scipy.linalg import orthogonal_procrustes

    if features.ndim != 3 or not len(features):
        raise ValueError(f"features of shape {features.shape} must be (B, K, D) with at least one image")
    found = np.zeros((*features.shape[:2], 2))
    for k in range(features.shape[1]):
        now = _components(features[:, k])
        found[:, k] = now @ orthogonal_procrustes(now, found[:, k - 1])[0] if k else now
        found[:, k] *= EDGE / max(float(np.abs(found[:, k]).max()), 1e-12)
    return found.astype(np.float16)


def _components(features: Array) -> npt.NDArray[np.float64]:
    """Projections (B, 2) of features (B, D) on the two eigenvectors of their covariance with the largest eigenvalues.

    The sign of a component is free: here the sum of the cubes of its projections is not negative.
    """
    total, width = len(features), features.shape[1]
    pieces = [slice(start, start + PIECE) for start in range(0, total, PIECE)]
    mean = sum((features[piece].astype(np.float64).sum(axis=0) for piece in pieces), np.zeros(width)) / total
    scatter = np.zeros((width, width))
    for piece in pieces:
        centred = features[piece].astype(np.float64) - mean
        scatter += centred.T @ centred
    axes = np.linalg.eigh(scatter)[1][:, ::-1][:, :2]
    found = np.zeros((total, 2))
    for piece in pieces:
        found[piece, : axes.shape[1]] = (features[piece].astype(np.float64) - mean) @ axes
    return found * np.where((found**3).sum(axis=0) < -1e-9, -1.0, 1.0)
