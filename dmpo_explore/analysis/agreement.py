"""Agreement of two outcomes on the same images: which images are correct in both, in one or in neither."""

from __future__ import annotations

import numpy as np

from ..utils.typing import Bools
from .outcome import Outcome

Masks = dict[str, Bools]


def parts(a: Outcome, b: Outcome) -> Masks:
    """Kind of disagreement → (B,) mask: correct in ``a`` only, in ``b`` only, incorrect in both and different.

    The kinds do not overlap, and every image with two different predictions has one of them.

    Example:
        >>> import dmpo_explore as dx
        >>> record, val = (dx.load_run("demo").record(split) for split in ("test", "val"))
        >>> a, b = (dx.apply(dx.fit_policy(val, flops=flops), record) for flops in (0.3, 0.6))
        >>> sorted(parts(a, b))
        ['both wrong', 'only a', 'only b']
        >>> bool(parts(a, a)["only a"].any())
        False
    """
    different = np.asarray(a.prediction != b.prediction)
    return {
        "only a": a.correct & ~b.correct,
        "only b": b.correct & ~a.correct,
        "both wrong": ~a.correct & ~b.correct & different,
    }
