"""Baselines: no light, the mean colour, a blur, given pixels."""

from __future__ import annotations

import pytest
import torch
from small_model import made, pictures

from dmpo_explore.attribution.exit_model import BASELINES, make_baseline, one_image


def test_baselines() -> None:
    model = made()
    x = one_image(model, pictures(1)[0])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    torch.testing.assert_close(make_baseline(model, x, "black") * std + mean, torch.zeros_like(x), atol=1e-6, rtol=0)
    assert not make_baseline(model, x, "mean").any()
    blurred = make_baseline(model, x, "blur")
    assert blurred.std() < 0.3 * x.std()
    constant = torch.full_like(x, 0.7)
    torch.testing.assert_close(make_baseline(model, constant, "blur"), constant)
    assert make_baseline(model, x, torch.ones(2, 3, 32, 32)).shape == (2, 3, 32, 32)
    assert {make_baseline(model, x, name).shape for name in BASELINES} == {x.shape}
    with pytest.raises(ValueError, match=r"baseline of shape \(3, 8, 8\)"):
        make_baseline(model, x, torch.ones(3, 8, 8))
    with pytest.raises(ValueError, match="not finite"):
        make_baseline(model, x, torch.full((3, 32, 32), torch.nan))
