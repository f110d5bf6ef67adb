"""Quality of a heat map: infidelity, max-sensitivity, insertion and deletion.

In: an exit's view, an image, a baseline, a token map, and a function that computes the map again. Out: `Quality`.
All masks are cells of the token grid that show the baseline, so that methods can be compared. Infidelity and
max-sensitivity are Yeh et al. 2019 (arXiv 1901.09392, by Captum). Insertion and deletion are Petsiuk et al. 2018 (RISE,
arXiv 1806.07421) on the target's softmax at the exit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor, nn

from ..utils.torch_tools import seeded
from ..utils.typing import Array, Progress
from .exit_model import cell_index


@dataclass(frozen=True, eq=False)
class Quality:
    """Measures of a heat map's faithfulness and stability, from `Attribution.quality`.

    Args:
        infidelity: mean squared error, in logits², between the change that the map predicts for hidden cells and the
            logit's change. Predicted is the sum of their values, scaled by the best common factor; 0 is best. Every
            measure is NaN where it was left out.
        unexplained: infidelity over the mean squared change: 0 is perfect, 1 is no better than a map of zeros.
        max_sensitivity: largest relative change of the map under noise of ±``radius`` in every input value.
        insertion_area, deletion_area: area under the target's probability while cells are shown, or hidden, in the
            map's order; high insertion and low deletion are good.
        random_insertion_area, random_deletion_area: the same areas of random orders, the reference.
        shares: (n,) share of cells changed. insertion, deletion: (n,) probabilities.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> found = dx.attribute(model, torch.rand(3, 32, 32), exit=1, method="feature_ablation")
        >>> quality = found.quality(samples=8, perturbations=0, orders=2)
        >>> len(quality.shares), 0 <= quality.deletion_area <= 1
        (5, True)
    """

    infidelity: float
    unexplained: float
    max_sensitivity: float
    insertion_area: float
    deletion_area: float
    random_insertion_area: float
    random_deletion_area: float
    shares: Array
    insertion: Array
    deletion: Array


class Masked(nn.Module):
    """The exit as a function of masks over cells: (B,n), 1 shows the image and 0 the baseline → logits (B,C).

    Equal masks of a batch are computed once: Captum has the whole image beside every mask.
    """

    def __init__(self, view: nn.Module, image: Tensor, baseline: Tensor, grid: tuple[int, int]) -> None:
        super().__init__()
        self.view, self.image, self.baseline = view, image, baseline[:1]
        self.index = torch.from_numpy(cell_index(image.shape[-1], grid)).to(image.device)

    def forward(self, masks: Tensor) -> Tensor:
        """(B,n) → (B,C)."""
        different, place = torch.unique(masks, dim=0, return_inverse=True)
        pixels = different[:, self.index][:, None].to(self.image)  # (U,1,S,S)
        logits: Tensor = self.view(self.baseline + pixels * (self.image - self.baseline))
        return logits[place]


def assess(
    masked: Masked,
    tokens: Array,
    target: int,
    explain: Callable[[Tensor], Tensor],
    *,
    samples: int,
    perturbations: int,
    radius: float,
    orders: int,
    seed: int,
    batch: int,
    progress: Progress | None = None,
) -> Quality:
    """All measures of `Quality`.

    Args:
        tokens: (rows, columns) map. explain: image (1,3,S,S) → map (1,S,S), the method again.
        samples: random masks. perturbations: noisy copies of the image. orders: random orders to compare with.
    """
    values = torch.from_numpy(tokens).reshape(1, -1).to(masked.image)
    step = progress or (lambda done, total: None)
    with seeded(seed):
        error, unexplained = _infidelity(masked, values, target, samples, batch, seed) if samples else (math.nan,) * 2
        step(1, 4)
        ranked = values[0].argsort(descending=True, stable=True)
        shares, insertion, deletion = curves(masked, ranked, target, batch)
        step(2, 4)
        generator = torch.Generator().manual_seed(seed)
        mixed = [torch.randperm(values.shape[1], generator=generator) for _ in range(orders)]
        chance = [curves(masked, order, target, batch)[1:] for order in mixed]
        step(3, 4)
        sensitivity = _sensitivity(masked.image, explain, perturbations, radius, seed) if perturbations else math.nan
        step(4, 4)
    random = np.trapezoid(np.array(chance), shares).mean(axis=0) if chance else (math.nan,) * 2  # insertion, deletion
    return Quality(
        infidelity=error,
        unexplained=unexplained,
        max_sensitivity=sensitivity,
        insertion_area=float(np.trapezoid(insertion, shares)),
        deletion_area=float(np.trapezoid(deletion, shares)),
        random_insertion_area=float(random[0]),
        random_deletion_area=float(random[1]),
        shares=shares,
        insertion=insertion,
        deletion=deletion,
    )


@torch.no_grad()
def curves(masked: Masked, ranked: Tensor, target: int, batch: int, most: int = 32) -> tuple[Array, Array, Array]:
    """Insertion and deletion curves: shares of cells, and the probability while the first of ``ranked`` change.

    Args:
        ranked: (n,) cells, most important first. most: steps, evenly spread.
    """
    n = len(ranked)
    counts = np.unique(np.linspace(0, n, min(n, most) + 1).round().astype(int))
    place = torch.empty(n, dtype=torch.long)
    place[ranked.cpu()] = torch.arange(n)
    shown = (place[None] < torch.from_numpy(counts)[:, None]).to(masked.image)  # (steps, n)
    probability = [masked(rows).softmax(-1)[:, target] for rows in torch.split(torch.cat((shown, 1 - shown)), batch)]
    insertion, deletion = torch.cat(probability).double().cpu().numpy().reshape(2, -1)
    return counts / n, insertion, deletion


def _infidelity(
    masked: Masked, values: Tensor, target: int, samples: int, batch: int, seed: int
) -> tuple[float, float]:
    def hide(whole: Tensor) -> tuple[Tensor, Tensor]:
        share = torch.rand(len(whole), 1)  # of cells hidden, from few to all
        hidden = (torch.rand(whole.shape) < share).to(whole)
        return hidden, whole - hidden

    answers: list[Tensor] = []

    def asked(masks: Tensor) -> Tensor:
        answers.append(masked(masks))
        return answers[-1]

    def error(answer: Callable[[Tensor], Tensor], map_: Tensor, normalize: bool) -> float:
        torch.manual_seed(seed)
        found = infidelity(
            answer,
            hide,
            torch.ones_like(map_),
            map_,
            target=target,
            n_perturb_samples=samples,
            max_examples_per_batch=min(batch, samples),
            normalize=normalize,
        )
        return max(float(found), 0.0)

    nothing = error(asked, torch.zeros_like(values), False)
    again = iter(answers)  # the seed draws the same masks
    scaled = error(lambda masks: next(again), values, True) if values.abs().max() > 0 else nothing
    return scaled, scaled / nothing if nothing > 0 else 0.0


def _sensitivity(
    image: Tensor, explain: Callable[[Tensor], Tensor], perturbations: int, radius: float, seed: int
) -> float:
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # Captum builds its noise bounds with a constructor that torch has deprecated
        warnings.filterwarnings("ignore", category=UserWarning, module="captum")
        found = sensitivity_max(
            lambda pixels: (explain(pixels[0] if isinstance(pixels, tuple) else pixels),),  # Captum expects a tuple
            image,
            perturb_radius=radius,
            n_perturb_samples=perturbations,
            max_examples_per_batch=1,
        )
    return float(found)
