"""Catalogue: pixel methods equal Captum called by hand; refused methods do mislead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum import attr
from small_model import pictures, smooth
from torch import Tensor, nn

from dmpo_explore.attribution.attribute import attribute
from dmpo_explore.attribution.exit_model import ExitView, Query, within_bound
from dmpo_explore.attribution.methods import METHODS, integrate

EXIT, TARGET, STEPS = 1, 2, 60


def by_hand(name: str, model: nn.Module, x: Tensor, zero: Tensor) -> Tensor:
    """(1,3,32,32), from Captum alone, over the whole model with a pair as target."""
    target = (EXIT, TARGET)
    cells = torch.arange(4).reshape(2, 2).repeat_interleave(16, 0).repeat_interleave(16, 1).expand(1, 3, 32, 32)
    path = {"baselines": zero, "target": target, "n_steps": STEPS, "internal_batch_size": 32}
    asked: dict[str, Callable[[], Tensor]] = {
        "integrated_gradients": lambda: attr.IntegratedGradients(model).attribute(x, **path),
        "saliency": lambda: attr.Saliency(model).attribute(x, target=target),
        "input_x_gradient": lambda: attr.InputXGradient(model).attribute(x, target=target),
        "feature_ablation": lambda: attr.FeatureAblation(model).attribute(
            x, baselines=zero, target=target, feature_mask=cells
        ),
        "occlusion": lambda: attr.Occlusion(model).attribute(x, (3, 16, 16), (3, 8, 8), baselines=zero, target=target),
    }
    return asked[name]().detach()


@pytest.mark.parametrize(
    "name",
    ["integrated_gradients", "saliency", "input_x_gradient", "feature_ablation", "occlusion"],
)
def test_pixels_equal_captum_by_hand(name: str) -> None:
    model, x = smooth(), pictures(1)
    found = attribute(model, x[0], EXIT, TARGET, name, baseline="mean", steps=STEPS)
    expected = by_hand(name, model, x.clone().requires_grad_(), torch.zeros_like(x))[0]
    reduce = {"saliency": expected.amax(0), "feature_ablation": expected[0], "occlusion": expected[0]}
    np.testing.assert_allclose(found.heat, reduce.get(name, expected.sum(0)), atol=2e-5)
    cells = found.heat.reshape(2, 16, 2, 16)
    mean = name in ("saliency", "feature_ablation", "occlusion")
    np.testing.assert_allclose(found.tokens, cells.mean((1, 3)) if mean else cells.sum((1, 3)), rtol=1e-4, atol=1e-5)


def test_captums_layer_grad_cam_collapses_tokens() -> None:
    model, x = smooth(), pictures(1)
    tokens = attr.LayerActivation(model, model.stages[EXIT].trunk).attribute(x).shape[1]
    found = attr.LayerGradCam(model, model.stages[EXIT].trunk).attribute(
        x.clone().requires_grad_(), target=(EXIT, TARGET)
    )
    assert tokens == 5
    assert found.shape == (1, 1, model.stages[EXIT].width)  # one number a channel, none a token


def test_lrp_stops_and_deep_lift_does_not_add_up() -> None:
    model, x = smooth(), pictures(1)
    view = ExitView(model, EXIT)
    with pytest.raises(TypeError, match="no rule"):
        attr.LRP(view).attribute(x.clone().requires_grad_(), target=TARGET)
    query = Query(view, x, torch.zeros_like(x), TARGET)
    with pytest.warns(UserWarning, match="Setting forward, backward hooks"):
        pixels = x.clone().requires_grad_()
        _, delta = attr.DeepLift(view).attribute(
            pixels, torch.zeros_like(x), target=TARGET, return_convergence_delta=True
        )
    _, own = integrate(query)
    assert abs(float(delta)) > 5 * abs(own)
    assert not within_bound(float(delta), query.difference())


def test_every_method_says_what_its_values_are() -> None:
    assert all(method.unit for method in METHODS.values())
    assert not METHODS["attention_rollout"].is_attribution and METHODS["saliency"].is_attribution
