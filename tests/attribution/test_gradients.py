"""Gradient methods equal Captum called by hand; all exits at once equal one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_model import made, pictures

from dmpo_explore.attribution.attribute import attribute, compare_exits
from dmpo_explore.attribution.exit_model import ExitView, Query, make_baseline, one_image
from dmpo_explore.attribution.methods import integrate, integrate_exits

EXIT, TARGET, STEPS = 1, 2, 60


def test_all_exits_at_once_equal_captum_one_by_one() -> None:
    model, x = made(), pictures(1)
    compared = compare_exits(model, x[0], TARGET, baseline="mean", steps=STEPS)
    assert {a.steps for a in compared.attributions} <= {STEPS, 2 * STEPS, 4 * STEPS}
    for found in compared.attributions:
        alone = attribute(model, x[0], found.exit, TARGET, baseline="mean", steps=STEPS)
        np.testing.assert_allclose(found.heat, alone.heat, atol=1e-4)
        assert (found.steps, found.delta) == (alone.steps, pytest.approx(alone.delta, abs=1e-4))
    rows: list[int] = []
    together = integrate_exits(model, x, torch.zeros_like(x), TARGET, STEPS, 25, rows.append)
    alone_by_captum = integrate(Query(ExitView(model, EXIT), x, torch.zeros_like(x), TARGET, steps=STEPS))
    torch.testing.assert_close(together[EXIT][0], alone_by_captum[0], atol=1e-5, rtol=1e-3)
    assert rows == [25, 25, 10]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:gradient_shap at exit 2. convergence delta")
def test_gradient_shap_nears_integrated_gradients_and_repeats() -> None:
    model, x = made(predictor="linear").requires_grad_(False), pictures(1)[0]
    first, second = (attribute(model, x, EXIT, TARGET, "gradient_shap", steps=400, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.heat, second.heat)
    path = attribute(model, x, EXIT, TARGET)
    assert first.tokens.ravel() == pytest.approx(path.tokens.ravel(), abs=0.2 * float(np.abs(path.tokens).max()))
    assert first.delta == pytest.approx(first.heat.sum() - first.difference, abs=1e-3)
    stack = torch.cat((torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)))
    found = attribute(model, x, EXIT, TARGET, "gradient_shap", baseline=stack)  # some are drawn, all are subtracted
    assert found.delta == pytest.approx(found.heat.sum() - found.difference, abs=1e-4)


def test_few_steps_miss_where_many_do_not() -> None:
    model = made()
    view, x = ExitView(model, 0), one_image(model, pictures(1)[0])
    zero = make_baseline(model, x, "mean")
    deltas = {n: abs(integrate(Query(view, x, zero, TARGET, steps=n))[1]) for n in (2, 4, 200)}
    assert deltas[200] < min(deltas[2], deltas[4])
