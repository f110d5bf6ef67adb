"""What a test record may be used for in fitting: nothing is learned on it, and fitting thresholds on it warns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import make_record, record_from_logits

from dmpo_explore.fitting.fit import fit_policy, sweep
from dmpo_explore.fitting.target import Target


@pytest.mark.parametrize("name", ["gate", "budgeted"])
def test_nothing_is_learned_on_test(name: str) -> None:
    val, test = make_record(120, 4, 3), make_record(100, 4, 3, seed=1, split="test")
    with pytest.raises(ValueError, match=f"{name!r} must not learn from a test record"):
        fit_policy(test, name, flops=0.5)
    with pytest.raises(ValueError, match="must not learn from a test record"):
        sweep(test, name)
    fitted = fit_policy(val, name, flops=0.5)
    swept = sweep(test, fitted)  # what was learned on val, every threshold of it
    assert (np.diff(swept.flops_fraction) >= -1e-12).all() and len(swept.thresholds) > 10
    shown = sweep(val, fitted)
    best = shown.correct[shown.flops_fraction <= 0.5 * (1 + 1e-12)].max()
    assert fitted.fitted["target"] == {"flops": 0.5}
    assert val.correct[np.arange(120), fitted.exits(val)].sum() == best


@pytest.mark.parametrize("target", [{"flops": 0.5, "temperatures": "fit"}, {"risk": "too_early"}])
def test_nothing_is_fitted_or_certified_on_test(target: dict[str, Any]) -> None:
    logits = np.random.default_rng(0).normal(size=(40, 4, 5))
    with pytest.raises(ValueError, match=r"test.*calibration"):
        fit_policy(record_from_logits(logits, np.arange(40) % 5, split="test"), **target)


@pytest.mark.parametrize("target", [{"flops": 0.5}, {"accuracy_drop": 0.01}, {"shares": (0.5, 0.2, 0.2, 0.1)}])
def test_fitting_on_test_warns(target: dict[str, Any]) -> None:
    record = make_record(200, 4, 5, split="test")
    with pytest.warns(UserWarning, match=r"fitted on a test record.*fit it on calibration") as seen:
        fit_policy(record, **target)
    assert [Path(warning.filename).name for warning in seen] == [Path(__file__).name]  # where it was called


def test_what_fits_nothing_does_not_warn() -> None:
    record = make_record(200, 4, 5, split="test")
    assert fit_policy(record, threshold=0.9).thresholds == (0.9,)
    assert fit_policy(record, target=Target.full_depth()).exits(record).tolist() == [3] * 200
