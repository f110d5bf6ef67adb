"""Token methods equal Captum called by hand, and read a layer on which the logit depends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from small_model import pictures, smooth
from torch import Tensor

from dmpo_explore.attribution.attribute import attribute
from dmpo_explore.attribution.exit_model import ExitView, Query, readable_layer
from dmpo_explore.attribution.methods import token_grad_cam

EXIT, TARGET, STEPS = 1, 2, 60


def test_tokens_equal_captum_by_hand() -> None:
    model, x = smooth(), pictures(1)
    found = attribute(model, x[0], EXIT, TARGET, "layer_integrated_gradients", baseline="mean", steps=STEPS)
    path: dict[str, Any] = {"target": (EXIT, TARGET), "n_steps": STEPS, "internal_batch_size": 32}
    by_captum = attr.LayerIntegratedGradients(model, model.stages[EXIT].trunk)
    expected = by_captum.attribute(x, baselines=torch.zeros_like(x), **path)[0].sum(-1).detach()
    np.testing.assert_allclose(found.tokens.ravel(), expected[1:], atol=1e-5)
    np.testing.assert_allclose(found.prefix, expected[:1], atol=1e-5)
    assert found.layer == "after block 4"


def test_token_grad_cam_is_gradient_times_activation_per_token() -> None:
    model, x = smooth(), pictures(1)
    kept: list[Tensor] = []
    handle = model.stages[EXIT].trunk.register_forward_hook(lambda m, i, out: kept.append(out))
    logit = model(x.clone().requires_grad_())[0, EXIT, TARGET]
    handle.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    expected = (gradient * kept[0]).sum(-1)[0].detach()
    found = attribute(model, x[0], EXIT, TARGET, "token_grad_cam")
    np.testing.assert_allclose(found.tokens.ravel(), expected[1:], atol=1e-5)


def test_patches_under_a_class_token_predictor_have_no_gradient_so_an_earlier_block_is_read() -> None:
    model, x = smooth(read="cls", bypass="none"), pictures(1)
    assert readable_layer(ExitView(model, EXIT), x, TARGET).block == 3
    for name in ("token_grad_cam", "layer_integrated_gradients"):
        found = attribute(model, x[0], EXIT, TARGET, name)
        assert found.layer == "after block 3"
        assert np.abs(found.tokens).min() > 0
        with pytest.raises(ValueError, match="reads no patch token after block 4: the gradient there is exactly 0"):
            attribute(model, x[0], EXIT, TARGET, name, layer=4)


def test_a_layer_behind_the_exit_would_give_zeros_silently() -> None:
    model, x = smooth(), pictures(1)
    silent = attr.LayerActivation(model, model.stages[2].trunk).attribute(x)
    assert silent.abs().max() > 0
    found = attr.LayerGradientXActivation(model, model.stages[2].trunk).attribute(
        x.clone().requires_grad_(), target=(0, TARGET)
    )
    assert not found.abs().any()
    with pytest.raises(ValueError, match="layer=5 is after exit 1"):
        attribute(model, x[0], 0, TARGET, "layer_integrated_gradients", layer=5)


def test_an_earlier_layer_has_its_own_map() -> None:
    x = pictures(1)
    maps = [token_grad_cam(Query(ExitView(smooth(), EXIT), x, x * 0, TARGET, layer=block)) for block in (2, 4)]
    assert [found.layer for found in maps] == ["after block 2", "after block 4"]
    assert not np.allclose(maps[0].tokens, maps[1].tokens)
