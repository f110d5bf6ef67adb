"""Answers of earlier exits in an exit's own: a weighted sum of log-probabilities, one number per pair of exits.

In: logits of an exit and log-probabilities of the exits before it. Out: the exit's answer. As the ensembles of Zero
Time Waste (Wolczyk et al. 2021, arXiv 2106.05409): a product of powers of the exits' probabilities. Ours: no bias per
class, and where the weights are fitted (`dmpo_explore.training.fitted_earlier_exits`).
An exit that stops an image has run with all exits before it, so their answers cost no forward pass: 2C FLOPs each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .second_order import at_least_float32, full_precision


class EarlierExits(nn.Module):
    """Exit k's answer: Σ_j w_j log p_j, w_j ≥ 0, over the exits j = 1 … k. At first w is 1 for the exit itself, else 0.

    The weights have no gradient; they are fitted after each epoch of a training. Float32 also under autocast.

    Args:
        n_earlier: k − 1, the number of exits before this one.
    """

    def __init__(self, n_earlier: int) -> None:
        super().__init__()
        own = torch.zeros(n_earlier + 1)
        own[-1] = 1
        self.weights = nn.Parameter(own, requires_grad=False)

    def collect(self, logits: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Own logits (B, C) and log-probabilities (B, k−1, C) of earlier exits (None: none) → all of them, (B, k, C).

        Raises:
            ValueError: another number of earlier exits.
        """
        given = 0 if earlier is None else earlier.shape[1]
        if given != len(self.weights) - 1:
            raise ValueError(f"this exit reads {len(self.weights) - 1} earlier exits, not {given}")
        own = at_least_float32(logits).log_softmax(dim=-1)[:, None]
        return own if earlier is None else torch.cat((earlier, own), dim=1)

    def forward(self, said: Tensor) -> Tensor:
        """Log-probabilities (B, k, C) → logits (B, C)."""
        with full_precision(said):
            return (self.weights.to(said)[None] @ said)[:, 0]  # a product that counts as FLOPs
