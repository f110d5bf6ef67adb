"""fit_policy with a threshold per exit: which policies have one, and what it gains."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic import make_record

from dmpo_explore.fitting.fit import cross_validated_gain, fit_policy


@pytest.mark.parametrize("target", [{"flops": 0.5}, {"flops": 0.4}, {"accuracy_drop": 0.02}, {"accuracy_drop": 0.0}])
@pytest.mark.parametrize("name", ["confidence", "entropy", "gate"])
def test_a_threshold_per_exit_is_at_least_as_good_here(name: str, target: dict[str, float]) -> None:
    record = make_record(300, 4, 5, seed=2)
    single, vector = fit_policy(record, name, **target), fit_policy(record, name, per_exit=True, **target)  # type: ignore[arg-type]
    assert len(vector.thresholds) == 3 and vector.fitted["target"] == {**target, "per_exit": True}
    (correct, cost), (mine, price) = (
        (record.correct[np.arange(300), e].sum(), record.flops_fraction[e].mean())
        for e in (single.exits(record), vector.exits(record))
    )
    if "flops" in target:
        assert mine > correct and price <= target["flops"] * (1 + 1e-12)
    else:
        assert price < cost and mine >= record.correct[:, -1].sum() - target["accuracy_drop"] * 300 - 1e-9
    assert fit_policy(make_record(20, 1, 3), flops=0.5, per_exit=True).thresholds == (1.01,)


@pytest.mark.parametrize("name", ["patience", "budgeted", "fixed", "oracle"])
def test_some_policies_have_no_threshold_per_exit(name: str) -> None:
    with pytest.raises(ValueError, match=f"one of the policies confidence, .*; got .*{name}"):
        fit_policy(make_record(50, 4, 3), name, flops=0.5, per_exit=True)


def test_the_gain_of_a_vector_is_told_on_other_images() -> None:
    record = make_record(400, 4, 5, seed=2)
    found = cross_validated_gain(record, flops=0.5, folds=4)
    single, vector = (fit_policy(record, flops=0.5, per_exit=one) for one in (False, True))
    seen = [record.correct[np.arange(400), p.exits(record)].mean() for p in (single, vector)]
    assert found["single"] != found["vector"] < seen[1]  # fitting flatters
    assert found["vector"] - found["single"] < seen[1] - seen[0]
    assert abs(found["gain"] - (found["vector"] - found["single"])) < 0.05
    assert 0.3 < found["vector_flops"] < 0.6
