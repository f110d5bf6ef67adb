"""Principal components of patch tokens: what differs most between the patches of an image, at every stage.

In: tokens (N,D), or `StageTokens`. Out: scores of every patch on the first components, and their shares of the
variance. Colours of two stages can be compared: components are matched in order and sign to the stage before.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from ..utils.typing import Floats
from .tokens import StageTokens

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
            order, signs = _matched(_resized(found[-1].scores, height, width), scores)
            scores, shares = scores[..., order] * signs, shares[order]
        found.append(PatchComponents(scores, shares))
    return found


def _resized(scores: Floats, height: int, width: int) -> Floats:
    """The nearest cells of another grid."""
    rows, columns = (np.arange(n) * size // n for n, size in ((height, scores.shape[0]), (width, scores.shape[1])))
    resized: Floats = scores[rows][:, columns]
    return resized


def _matched(before: Floats, now: Floats) -> tuple[list[int], Floats]:
    """Order and signs of the components of ``now`` that agree most with those of ``before``."""
    a, b = (array.reshape(-1, COLOURS) for array in (before, now))
    norms = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    alike = np.divide(a.T @ b, norms, out=np.zeros((COLOURS, COLOURS)), where=norms > 0)
    order = max(permutations(range(COLOURS)), key=lambda p: sum(abs(alike[i, c]) for i, c in enumerate(p)))
    return list(order), np.array([-1.0 if alike[i, c] < 0 else 1.0 for i, c in enumerate(order)])
