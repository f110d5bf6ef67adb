"""Logits → prediction, confidence, entropy, margin; one implementation for numpy and torch.

In: logits (..., C) of any float type, on any device. Out: arrays (...,) of the same library and device.
Confidence (the largest softmax value) is the score of the authors' release; entropy and margin are the usual
alternatives (BranchyNet, Teerapittayanon et al. 2016; best versus second best).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from array_api_compat import array_namespace, device

from ..utils.registry import unknown

SCORES = ("prediction", "confidence", "entropy", "margin")


def scores(logits: Any, reads: Sequence[str] = SCORES) -> dict[str, Any]:
    """Scores of each row of logits.

    Args:
        logits: (..., C), C ≥ 1, numpy or torch; computed in float32.
        reads: which of `SCORES` to compute; ``prediction`` is always included.

    Returns:
        Name → array (...,): int32 ``prediction``; float32 ``confidence`` in [1/C, 1], ``entropy`` in [0, ln C] (nats),
        ``margin`` = best minus second-best probability in [0, 1], 1 if there is a single class.

    Raises:
        ValueError: unknown score (the valid ones are listed) or logits without classes.

    Example:
        >>> import numpy as np
        >>> found = scores(np.log([[0.7, 0.2, 0.1]]))
        >>> found["prediction"].tolist(), [round(float(found[name][0]), 2) for name in ("confidence", "margin")]
        ([0], [0.7, 0.5])
    """
    for name in reads:
        if name not in SCORES:
            raise ValueError(unknown("score", name, SCORES))
    if logits.ndim < 1 or logits.shape[-1] < 1:
        raise ValueError(f"logits of shape {tuple(logits.shape)} have no classes; expected (..., C) with C ≥ 1")
    xp = array_namespace(logits)
    logits = xp.astype(logits, xp.float32)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    weight = xp.exp(shifted)
    total = xp.sum(weight, axis=-1, keepdims=True)  # (..., 1), at least 1
    prediction = xp.argmax(logits, axis=-1)
    result = {"prediction": xp.astype(prediction, xp.int32)}
    if "confidence" in reads:
        result["confidence"] = xp.max(weight / total, axis=-1)
    if "entropy" in reads:
        result["entropy"] = _entropy(xp, shifted, weight, total)
    if "margin" in reads:
        classes = xp.arange(logits.shape[-1], device=device(logits))
        others = xp.where(classes == prediction[..., None], xp.zeros_like(weight), weight)
        result["margin"] = xp.max(weight / total, axis=-1) - xp.max(others / total, axis=-1)
    return {name: result[name] for name in SCORES if name in result}


def tempered(logits: Any, temperature: float) -> Any:
    """Logits divided by a temperature, float32, shape and library as given.

    Ours: they are first rounded to float16, as a record keeps them, so that a live model and its record agree.

    Raises:
        ValueError: a temperature that is not a positive number.

    Example:
        >>> import numpy as np
        >>> tempered(np.array([[4.0, 2.0]]), 2.0).tolist()
        [[2.0, 1.0]]
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature!r} must be a positive number")
    xp = array_namespace(logits)
    return xp.astype(xp.astype(logits, xp.float16), xp.float32) / float(temperature)


def _entropy(xp: Any, shifted: Any, weight: Any, total: Any) -> Any:
    """−Σ p ln p, every term ≥ 0; a class at −inf contributes 0."""
    surprise = xp.log(total) - xp.where(weight > 0, shifted, xp.zeros_like(shifted))
    return xp.sum(weight / total * surprise, axis=-1)
