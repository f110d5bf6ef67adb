"""The learned judge: its target by a loop, its weights against scikit-learn, numpy against torch."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from synthetic import make_record, ready_policy

from dmpo_explore.fitting.fit import fit_policy, sweep
from dmpo_explore.policies.catalogue import (
    learned_policy,
    policy_from_dict,
)
from dmpo_explore.policies.learned import (
    CLIP,
    FEATURES,
    BudgetedPolicy,
    GatePolicy,
    gate_probability,
    gate_target,
    learn_gate,
    log_odds,
)


def test_the_target_is_that_going_on_brings_nothing() -> None:
    record = make_record(60, 4, 3)
    found = gate_target(record)
    assert found.shape == (60, 3)
    for i, row in enumerate(record.correct):
        for k in range(3):
            assert found[i, k] == (row[k] or not any(row[k + 1 :]))
    assert 0 < found.mean() < 1


@pytest.mark.parametrize("price", [0.0, 0.05, 0.9])
def test_it_is_jei_dnns_target_for_correct_and_incorrect(price: float) -> None:
    """Exiting costs no more than the best later exit, error and priced compute together, whatever the price below 1."""
    record = make_record(60, 4, 3)
    loss = ~record.correct + price * record.flops_fraction  # costs go from 0.3 to 0.9
    best_later = np.minimum.accumulate(loss[:, ::-1], axis=1)[:, ::-1][:, 1:]
    expected = loss[:, :-1] <= best_later
    assert (gate_target(record) == expected).mean() == 1 or price == 0.0
    if price == 0.0:  # ties between equal losses exit
        assert (gate_target(record) <= expected).all()


def test_weights_are_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 6)) * [1, 5, 0.1, 2, 3, 1] + [0, 3, 1, 0, -2, 0]
    y = rng.random(500) < 1 / (1 + np.exp(-(x[:, 0] - 0.3 * x[:, 1])))
    weights = learn_gate(x, y)
    assert len(weights) == len(FEATURES) + 1
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y).predict_proba(x)[:, 1]
    np.testing.assert_allclose(gate_probability(weights, tuple(x.T)), reference, atol=1e-4)
    tensors = tuple(torch.from_numpy(x.astype(np.float32)).T)
    np.testing.assert_allclose(gate_probability(weights, tensors).numpy(), reference, atol=1e-4)


def test_where_there_is_nothing_to_tell_apart() -> None:
    x = np.ones((10, 2))
    assert gate_probability(learn_gate(x, np.ones(10)), (1.0 * x[:, 0], x[:, 1])).min() > 0.999
    assert gate_probability(learn_gate(x, np.zeros(10)), (1.0 * x[:, 0], x[:, 1])).max() < 0.001
    assert np.isfinite(learn_gate(x, np.arange(10) % 2)).all()  # constant features


def test_log_odds_stay_finite() -> None:
    found = log_odds(np.array([0.0, 0.5, 0.75, 1.0], np.float32))
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(
        [np.log(CLIP / (1 - CLIP)), 0, np.log(3), np.log((1 - CLIP) / CLIP)], rel=1e-4
    )


def test_a_gate_tells_apart_what_it_learned() -> None:
    val, other = make_record(2000, 4, 5, seed=1), make_record(2000, 4, 5, seed=2)
    gate = learned_policy(val, "gate")
    assert isinstance(gate, GatePolicy) and len(gate.learned) == 3
    values, target = gate.values(other), gate_target(other)
    for k in range(3):
        assert values[target[:, k], k].mean() > values[~target[:, k], k].mean() + 0.02
        assert values[:, k].mean() == pytest.approx(target[:, k].mean(), abs=0.03)  # as sure as it is correct


@pytest.mark.parametrize("name", ["gate", "budgeted"])
def test_what_was_learned_is_kept_as_json(name: str) -> None:
    ready = ready_policy(name, 0.5, 3, 3)
    assert policy_from_dict(json.loads(json.dumps(ready.to_dict()))) == ready


def test_budgeted_with_a_share_for_every_exit_cannot_be_swept() -> None:
    val = make_record(400, 3)
    policy = fit_policy(val, "budgeted", shares=(0.5, 0.3, 0.2))
    assert not policy.sweeps and np.bincount(policy.exits(val)).tolist() == [200, 120, 80]


def test_budgeted_with_two_exits_keeps_its_share_movable() -> None:
    val = make_record(400, 2)
    policy = fit_policy(val, "budgeted", shares=(0.613, 0.387))
    assert policy.sweeps and np.bincount(policy.exits(val)).tolist() == [245, 155]
    stays = [np.bincount(replace(policy, thresholds=(share,)).exits(val))[1] for share in (0.1, 0.5, 0.9)]
    assert np.allclose(stays, [40, 200, 360], atol=4)
    assert (np.diff(sweep(val, policy).exit_counts[:, 1]) > 0).all()


def test_budgeted_sends_shares_on() -> None:
    """On the record that it learned from, ties aside, exactly; between learned shares, nearly."""
    record = make_record(1000, 4, 10, seed=1)
    policy = learned_policy(record, "budgeted")
    assert isinstance(policy, BudgetedPolicy)
    for share in (0.2, 0.5, 0.86, 0.33):
        counts = np.bincount(replace(policy, thresholds=(share,)).exits(record), minlength=4)
        there = 1000 - np.append(0, np.cumsum(counts)[:-1])
        assert (1 - counts / there)[:3] == pytest.approx([share] * 3, abs=0.006 if share != 0.33 else 0.03)


def test_budgeted_sends_shares_on_at_temperatures_too() -> None:
    record = make_record(1000, 4, 10, seed=1)
    policy = replace(learned_policy(record, "budgeted", (3.0,) * 4), thresholds=(0.5,))
    assert np.bincount(policy.exits(record))[0] == pytest.approx(500, abs=6)


def test_a_gate_without_weights_for_an_exit_is_undecided() -> None:
    gate = GatePolicy((0.0,))
    values = gate.values(make_record(5, 3, 4))
    assert values.tolist() == [[0.5, 0.5]] * 5
