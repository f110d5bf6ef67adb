"""Losses: logits (B, K, C) and labels (B,) in, one loss per exit (K,) and their weighted sum out.

L = Σ_k λ_k ℓ_k. ℓ_k is cross-entropy, of smoothed labels where wanted (Szegedy et al. 2016), or the release's coupled
form (DMPO, arXiv 2511.03245), in which images that the previous exit classifies correctly count less at the next one.
Either may be blended with distillation from the last exit (Zhang et al. 2019, "Be Your Own Teacher"). Other terms are
those of training parts (`parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.predictors import at_least_float32
from ..utils.registry import lookup

if TYPE_CHECKING:
    from ..config import TrainingConfig
    from .parts import Batch


def cross_entropies(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of every image at every exit: (B, K, C), (B,) → (B, K), in float32 (nats).

    Args:
        labels: (B,) int64, or (B, C) probabilities.
        smoothing: share of the target that is spread evenly over all classes.

    Example:
        >>> cross_entropies(torch.zeros(1, 2, 10), torch.tensor([3])).tolist()  # log(10), at both exits
        [[2.3025851249694824, 2.3025851249694824]]
    """
    B, K, _C = logits.shape
    wide = at_least_float32(logits)
    targets = labels.repeat_interleave(K, dim=0)
    return F.cross_entropy(wide.flatten(0, 1), targets, reduction="none", label_smoothing=smoothing).view(B, K)


def uncoupled(losses: Tensor) -> Tensor:
    """(B, K) → (B, K) unchanged: the exits are independent."""
    return losses


def sigmoid_coupled(losses: Tensor) -> Tensor:
    """(B, K) → (B, K): sigmoid(CE_{k-1}) · CE_k per image for k ≥ 2; not detached, exit 1 unchanged (release)."""
    return torch.cat((losses[:, :1], losses[:, :-1].sigmoid() * losses[:, 1:]), dim=1)


COUPLINGS: dict[str, Callable[[Tensor], Tensor]] = {"none": uncoupled, "sigmoid": sigmoid_coupled}


def distillation(logits: Tensor) -> Tensor:
    """Self-distillation loss: cross-entropy of every early exit against the last exit's probabilities.

    (B, K, C) → (B, K-1). No gradient reaches the last exit.

    Example:
        >>> distillation(torch.zeros(1, 3, 2)).shape
        torch.Size([1, 2])
    """
    wide = at_least_float32(logits)
    teacher = wide[:, -1:].detach().softmax(dim=-1)  # (B, 1, C)
    return -(teacher * wide[:, :-1].log_softmax(dim=-1)).sum(dim=-1)


def divergence(logits: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence T² · KL(wanted ‖ own) at every exit: (B, K, C), (B, K, C) → (B, K), float32 (nats).

    Args:
        temperature: T, which divides both logits; with the factor T² gradients keep their size (Hinton et al. 2015).

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> divergence(torch.zeros(1, 1, 2), torch.tensor([[[0.75, 0.25]]]).log())
        tensor([[0.1308]])
    """
    if logits.shape != wanted.shape:
        raise ValueError(f"wanted {tuple(wanted.shape)} must have the logits' shape {tuple(logits.shape)}")
    own, other = (at_least_float32(x) / temperature for x in (logits, wanted))
    losses = F.kl_div(own.log_softmax(dim=-1), other.log_softmax(dim=-1), reduction="none", log_target=True)
    return temperature**2 * losses.sum(dim=-1)


def image_losses(
    logits: Tensor,
    labels: Tensor,
    coupling: str = "none",
    distill: float = 0.0,
    label_smoothing: float = 0.0,
    *,
    labelled: Tensor | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """Loss of every image at every exit: logits (B, K, C), labels (B,) int64 → (B, K).

    Args:
        distill: share α in [0, 1] of an early exit's loss that is `distillation`, the rest is ℓ_k.
        label_smoothing: share in [0, 1] of every target that is spread evenly over the classes; coupling reads the
            smoothed losses.
        labelled: (B,) bool; the losses of the others are 0, whatever their labels. targets: (B, C) probabilities that
            take the place of the labels.

    Raises:
        ValueError: unknown coupling; a share outside [0, 1]; shapes that do not fit; an empty batch; labels on the CPU
            outside 0..C-1.
    """
    couple = lookup(COUPLINGS, coupling, "coupling")
    for name, share in (("distill", distill), ("label_smoothing", label_smoothing)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}={share!r} must lie in [0, 1]")
    known = labels if labelled is None else labels.where(labelled, 0)
    _check_batch(logits, known)
    losses = couple(cross_entropies(logits, known if targets is None else targets, label_smoothing))
    if distill:
        early = torch.lerp(losses[:, :-1], distillation(logits), distill)
        losses = torch.cat((early, losses[:, -1:]), dim=1)
    return losses if labelled is None else losses.where(labelled[:, None], 0.0)


def label_losses(outputs: Tensor, batch: Batch, config: TrainingConfig) -> Tensor:
    """(b, K) what a training's config makes of the labels of a batch, see `image_losses`."""
    return image_losses(
        outputs, batch.labels, config.coupling, config.distill, config.label_smoothing, labelled=batch.labelled,
        targets=batch.targets,
    )  # fmt: skip


def exit_losses(
    logits: Tensor,
    labels: Tensor,
    coupling: str = "none",
    distill: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean loss of every exit: logits (B, K, C), labels (B,) int64 → (K,).

    Args:
        coupling, distill, label_smoothing: as a config's; coupling reads the smoothed losses, distillation is blended
            in afterwards.

    Raises:
        ValueError: unknown coupling; a share outside [0, 1]; shapes that do not fit; an empty batch; labels on the CPU
            outside 0..C-1.

    Example:
        >>> [round(loss, 4) for loss in exit_losses(torch.zeros(4, 2, 10), torch.arange(4)).tolist()]
        [2.3026, 2.3026]
    """
    return image_losses(logits, labels, coupling, distill, label_smoothing).mean(dim=0)


def weighted_sum(losses: Tensor, weights: Sequence[float] | Tensor) -> Tensor:
    """Σ_k λ_k ℓ_k of (K,) losses; ValueError unless there is one weight for each."""
    if len(weights) != len(losses):
        raise ValueError(f"{len(weights)} weights for {len(losses)} exits")
    return (losses * torch.as_tensor(weights, dtype=losses.dtype, device=losses.device)).sum()


def _check_batch(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError for shapes that do not fit, an empty batch, and labels on the CPU outside the classes."""
    if logits.ndim != 3 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"logits must be (B, K, C) and labels (B,), not {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if 0 in logits.shape:
        raise ValueError(f"logits of shape {tuple(logits.shape)} hold no image, exit or class")
    if _is_checked(labels):
        low, high = (int(bound) for bound in torch.stack(torch.aminmax(labels)).tolist())
        if low < 0 or high >= logits.shape[2]:
            wrong = low if low < 0 else high
            raise ValueError(f"label {wrong} lies outside the {logits.shape[2]} classes 0..{logits.shape[2] - 1}")


def _is_checked(labels: Tensor) -> bool:
    """Whether labels are looked at: on a GPU that would wait for it, and its own kernels refuse other classes."""
    return labels.device.type == "cpu"


def weighted_loss(
    logits: Tensor,
    labels: Tensor,
    weights: Sequence[float] | Tensor,
    coupling: str = "none",
    distill: float = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Σ_k λ_k ℓ_k and its parts: logits (B, K, C), labels (B,), weights (K,) → scalar, (K,) losses without λ.

    Raises:
        ValueError: as `exit_losses`; not one weight per exit.

    Example:
        >>> loss, parts = weighted_loss(torch.zeros(4, 2, 10), torch.arange(4), [0.5, 1.5])
        >>> round(loss.item(), 4), parts.shape
        (4.6052, torch.Size([2]))
    """
    parts = exit_losses(logits, labels, coupling, distill, label_smoothing)
    return weighted_sum(parts, weights), parts
