"""Exit by Rényi entropy of order 2, −ln Σ p²: a score and its policy, as a plug-in.

dmpo-explore --plugin renyi_policy.py evaluate demo --policy renyi --flops 0.3
"""

import math
from typing import Any

from array_api_compat import array_namespace

from dmpo_explore.policies import POLICIES, SCORES, EntropyPolicy, Score


def renyi(probabilities: Any) -> Any:
    """(..., C) → (...,), numpy and torch alike: 0 where one class is certain, ln C where all are equal."""
    xp = array_namespace(probabilities)
    return 0 - xp.log(xp.sum(probabilities**2, axis=-1))


SCORES["renyi"] = Score(
    "renyi", renyi, better="low", needs=("probabilities",), bounds=lambda classes: (0, math.log(classes))
)


class RenyiPolicy(EntropyPolicy):
    """Exit at a Rényi entropy of order 2 ≤ threshold; thresholds are those of an entropy, in nats."""

    name = "renyi"
    reads = ("renyi",)
    rule = "Exit at the first exit with a Rényi entropy of at most **{}** nats, else at the last."
    summary = "the Rényi entropy of order 2, in nats"
    compares = "Rényi entropy"


POLICIES["renyi"] = RenyiPolicy
