"""Perturbation methods: values are drops of the logit."""

from __future__ import annotations

import pytest
import torch
from small_model import made, pictures

from dmpo_explore.attribution.attribute import attribute
from dmpo_explore.attribution.exit_model import ExitView, Query
from dmpo_explore.attribution.methods import occlusion, occlusion_rows

EXIT, TARGET = 1, 2


def test_ablation_is_the_drop_of_the_logit() -> None:
    model, x = made(predictor="linear").requires_grad_(False), pictures(1)
    found = attribute(model, x[0], EXIT, TARGET, "feature_ablation", baseline="mean")
    hidden = x.clone()
    hidden[..., 16:, :16] = 0
    with torch.no_grad():
        drop = model(x)[0, EXIT, TARGET] - model(hidden)[0, EXIT, TARGET]
    assert found.tokens[1, 0] == pytest.approx(float(drop), abs=1e-5)


def test_occlusion_runs_as_many_images_as_its_progress_expects() -> None:
    model, x, rows = made(predictor="linear").requires_grad_(False), pictures(1), list[int]()
    view = ExitView(model, EXIT)
    view.on_rows = rows.append
    query = Query(view, x, torch.zeros_like(x), TARGET)
    assert occlusion(query).tokens.shape == (2, 2)
    assert sum(rows) == occlusion_rows(query)
