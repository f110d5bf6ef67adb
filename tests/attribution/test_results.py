"""Results: a comparison of exits has one scale, differences and similarities."""

from __future__ import annotations

import numpy as np
import pytest
from small_model import K, made, pictures

from dmpo_explore.attribution.attribute import ExitComparison, compare_exits


def test_a_comparison_has_one_scale_and_differences() -> None:
    compared = compare_exits(made(predictor="linear"), pictures(1)[0], target=1, method="feature_ablation")
    assert isinstance(compared, ExitComparison)
    assert compared.exits == tuple(range(K))
    assert compared.heat.shape == (K, 32, 32)
    assert compared.scale == np.abs(compared.heat).max()
    np.testing.assert_allclose(compared.differences(), compared.heat[1:] - compared.heat[:-1])
    np.testing.assert_allclose(np.abs(compared.shares).sum(axis=(1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(compared.differences(shares=True), np.diff(compared.shares, axis=0))
    likeness = compared.similarity()
    np.testing.assert_allclose(np.diag(likeness), 1)
    flat = compared.heat.reshape(K, -1).astype(float)
    expected = flat[0] @ flat[2] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[2])
    assert likeness[0, 2] == pytest.approx(expected, abs=1e-6)
