"""Quality measures equal those by hand and rank a faithful map above others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_model import GRID, READS, pictures, reading_model
from torch import Tensor, nn

from dmpo_explore.attribution.attribute import attribute
from dmpo_explore.attribution.quality import Masked, assess, curves

FEW: dict[str, Any] = {"samples": 32, "perturbations": 3, "orders": 6}


class Sum(nn.Module):
    """Logits (sum of all pixels, 0): every cell counts by its own sum."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.flatten(1).sum(1)
        return torch.stack((total, torch.zeros_like(total)), dim=1)


def masked() -> tuple[Masked, np.ndarray]:
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 50
    true = image.sum(1).reshape(4, 2, 4, 2).sum((1, 3)).numpy()
    return Masked(Sum(), image, torch.zeros_like(image), (4, 4)), true


def judge(tokens: np.ndarray, **changes: Any) -> Any:
    asked: dict[str, Any] = {"radius": 0.02, "seed": 0, "batch": 16, **FEW, **changes}
    return assess(masked()[0], tokens.astype(np.float32), 0, lambda x: x.mean(1), **asked)


def test_the_true_map_has_no_infidelity_whatever_its_scale() -> None:
    _, true = masked()
    for factor in (1, -3, 100):
        found = judge(factor * true)
        assert found.infidelity < 1e-6
        assert found.unexplained == pytest.approx(0, abs=1e-4)
    wrong = judge(np.roll(true, 1) - true)
    assert 0.5 < wrong.unexplained <= 1.0001
    assert judge(np.zeros((4, 4))).unexplained == pytest.approx(1, abs=1e-6)


def test_curves_show_and_hide_in_order() -> None:
    model, true = masked()
    order = torch.from_numpy(true.ravel()).argsort(descending=True)
    shares, insertion, deletion = curves(model, order, 0, batch=5)
    np.testing.assert_allclose(shares, np.arange(17) / 16)
    ranked = np.sort(true.ravel())[::-1].astype(float)
    shown = np.concatenate(([0], ranked.cumsum()))
    np.testing.assert_allclose(insertion, 1 / (1 + np.exp(-shown)), atol=1e-6)
    np.testing.assert_allclose(deletion, 1 / (1 + np.exp(-(shown[-1] - shown))), atol=1e-6)
    assert len(curves(model, order, 0, batch=5, most=4)[0]) == 5


def test_max_sensitivity_by_hand() -> None:
    model, true = masked()
    found = judge(true).max_sensitivity
    torch.manual_seed(0)
    x = model.image
    noise = [torch.FloatTensor(x.shape).uniform_(-0.02, 0.02) for _ in range(FEW["perturbations"])]
    changes = [float((n.mean(1)).norm() / x.mean(1).norm()) for n in noise]
    assert found == pytest.approx(max(changes), rel=0.3)  # other draws of the same noise


def test_the_right_patch_beats_random_orders() -> None:
    found = attribute(reading_model(), pictures(1)[0], 0, target=0, method="feature_ablation", baseline="mean")
    assert found.tokens[READS[0]] != 0
    calls: list[tuple[int, int]] = []
    quality = found.quality(**FEW, progress=lambda *call: calls.append(call))
    assert quality.unexplained < 1e-6
    sign = float(np.sign(found.tokens[READS[0]]))
    assert sign * (quality.insertion_area - quality.random_insertion_area) > 0
    assert sign * (quality.random_deletion_area - quality.deletion_area) > 0
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(quality.shares) == GRID * GRID + 1
    again = found.quality(**FEW)
    assert (again.infidelity, again.max_sensitivity) == (quality.infidelity, quality.max_sensitivity)
    bare = found.quality(**FEW | {"perturbations": 0})
    assert np.isnan(bare.max_sensitivity) and bare.infidelity == quality.infidelity


class Counted(Sum):
    """`Sum` that notes how many images each call had."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(len(images))
        return super().forward(images)


def test_no_mask_is_computed_twice() -> None:
    model, true = masked()
    model.view = view = Counted()
    fixed: dict[str, Any] = {"radius": 0.02, "seed": 0, "batch": 16, "samples": 32, "perturbations": 0, "orders": 0}
    found = assess(model, true.astype(np.float32), 0, lambda x: x.mean(1), **fixed)
    # infidelity: two batches of 16 masks, each beside the whole image once; curves: 34 masks in batches of 16
    assert len(view.calls) == 7 and sum(view.calls) <= 2 * (16 + 1) + 34
    assert found.infidelity < 1e-6 and np.isnan([found.random_insertion_area, found.max_sensitivity]).all()
    view.calls.clear()
    bare = assess(model, true.astype(np.float32), 0, lambda x: x.mean(1), **fixed | {"samples": 0})
    assert len(view.calls) == 3 and np.isnan([bare.infidelity, bare.unexplained]).all()
    assert (bare.insertion_area, bare.deletion_area) == (found.insertion_area, found.deletion_area)


@pytest.mark.parametrize("wrong", [{"samples": -1}, {"perturbations": -1}, {"orders": -1}, {"radius": 0.0}])
def test_counts_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least 0"):
        attribute(reading_model(), pictures(1)[0], 0, method="saliency").quality(**wrong)
