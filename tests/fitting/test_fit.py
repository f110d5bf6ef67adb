"""Fitted thresholds against brute force, and their bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from synthetic import make_record, record_from_logits

from dmpo_explore.analysis.metrics import apply
from dmpo_explore.fitting.fit import fit_again, fit_policy, made_for, realised_flops, sweep
from dmpo_explore.fitting.target import Target
from dmpo_explore.fitting.temperature import fit_temperatures, tempered_record
from dmpo_explore.policies.catalogue import POLICIES, learned_policy
from dmpo_explore.policies.ranking import TIE
from dmpo_explore.records.record import ExitRecord

names = st.sampled_from(sorted(POLICIES))
direct = st.sampled_from(sorted(name for name, kind in POLICIES.items() if not kind.learns))
scored = st.sampled_from(["confidence", "entropy", "margin"])


def at(record: ExitRecord, name: str, threshold: float) -> Any:
    """Exits of a policy with this threshold, learned on the record where it learns."""
    return fit_policy(record, name, threshold=threshold).exits(record)


def outcome(record: ExitRecord, name: str, threshold: float) -> tuple[int, float]:
    """Correct answers and mean cost of one threshold, the slow way."""
    exits = at(record, name, threshold)
    rows = np.arange(record.n_images)
    return int(record.correct[rows, exits].sum()), float(np.mean(record.flops_fraction[exits]))


def brute_force(record: ExitRecord, name: str) -> list[tuple[int, float]]:
    """Every outcome: a threshold at each score, and beyond all of them. Records with near ties are passed over."""
    policy = POLICIES[name]
    settings = policy.settings(record.n_exits)
    if settings is not None:
        candidates: list[float] = list(map(float, settings))
    else:
        values = np.unique(policy((policy.threshold_none,)).values(record))  # type: ignore[attr-defined]
        assume((np.diff(values) > TIE).all())
        candidates = [policy.threshold_all, policy.threshold_none, *map(float, values)]
    return [outcome(record, name, t) for t in candidates]


@settings(max_examples=60)
@given(names, st.integers(0, 999), st.integers(1, 5), st.integers(1, 25))
def test_the_sweep_tells_what_happens(name: str, seed: int, n_exits: int, n_images: int) -> None:
    record = make_record(n_images, n_exits, 3, seed)
    swept, base = sweep(record, name), learned_policy(record, name)
    for i, threshold in enumerate(swept.thresholds):
        exits = replace(base, thresholds=(float(threshold),)).exits(record)
        assert swept.correct[i] == record.correct[np.arange(n_images), exits].sum()
        assert swept.flops_fraction[i] == pytest.approx(np.mean(record.flops_fraction[exits]), abs=1e-12)
        assert swept.exit_counts[i].tolist() == np.bincount(exits, minlength=n_exits).tolist()
    assert (np.diff(swept.flops_fraction) >= -1e-12).all()
    assert swept.exit_counts[-1, -1] == n_images
    assert swept.exit_counts[0, 0] == n_images or n_exits == 1


@given(scored, st.integers(0, 999), st.integers(2, 5))
def test_the_sweep_leaves_nothing_out(name: str, seed: int, n_exits: int) -> None:
    record = make_record(20, n_exits, 3, seed)
    swept = sweep(record, name)
    found = {(int(c), round(float(f), 9)) for c, f in zip(swept.correct, swept.flops_fraction, strict=True)}
    assert found == {(c, round(f, 9)) for c, f in brute_force(record, name)}


@given(direct, st.integers(0, 999), st.integers(1, 5), st.floats(0.3, 1.0))
def test_a_budget_is_kept_and_used_best(name: str, seed: int, n_exits: int, budget: float) -> None:
    record = make_record(25, n_exits, 3, seed)
    policy = fit_policy(record, name, flops=budget)
    exits = policy.exits(record)
    correct = int(record.correct[np.arange(25), exits].sum())
    cost = float(realised_flops(np.bincount(exits, minlength=n_exits), record))
    assert cost <= budget + 1e-9
    affordable = [(c, -f) for c, f in brute_force(record, name) if f <= budget + 1e-12]
    assert (correct, pytest.approx(-cost)) == max(affordable)


@given(direct, st.integers(0, 999), st.floats(0, 1, exclude_max=True))
def test_a_drop_is_kept_at_the_least_cost(name: str, seed: int, drop: float) -> None:
    record = make_record(25, 4, 3, seed)
    exits = fit_policy(record, name, accuracy_drop=drop).exits(record)
    correct, full = int(record.correct[np.arange(25), exits].sum()), int(record.correct[:, -1].sum())
    assert correct >= full - drop * 25 - 1e-9
    good = [f for c, f in brute_force(record, name) if c >= full - drop * 25 - 1e-9]
    assert record.flops_fraction[exits].mean() == pytest.approx(min(good))


@given(direct, st.integers(0, 999), st.floats(0, 0.3))
def test_the_cheapest_within_reach_of_the_best_exit(name: str, seed: int, below: float) -> None:
    record = make_record(25, 4, 3, seed)
    policy = fit_policy(record, name, near_best=below)
    exits, settings = policy.exits(record), brute_force(record, name)
    least = float(record.correct.sum(axis=0).max() - below * 25)
    if (most := max(c for c, _ in settings)) < least - 1e-9:  # no threshold is as accurate as that exit for all
        assert f"{4 * (least - most):.1f} points too low" in policy.fitted["note"]
    good = [f for c, f in settings if c >= min(least, most) - 1e-9]
    assert record.flops_fraction[exits].mean() == pytest.approx(min(good))


def test_a_threshold_per_exit_within_reach_of_the_best_exit_costs_no_more() -> None:
    record = make_record(200, 4, 3, 5)
    one, each = (fit_policy(record, near_best=0.01, per_exit=per_exit) for per_exit in (False, True))
    found = [apply(policy, record).summary() for policy in (one, each)]
    assert found[1]["flops_fraction"] <= found[0]["flops_fraction"] and len(each.thresholds) == 3
    assert found[1]["accuracy"] >= record.correct.mean(axis=0).max() - 0.01 - 1e-9


def test_no_drop_may_still_be_cheap() -> None:
    logits = np.zeros((4, 3, 2))
    logits[:, :, 0] = [1.0, 2.0, 3.0]
    policy = fit_policy(record_from_logits(logits, [0] * 4), accuracy_drop=0.0)
    assert policy.thresholds == (0.0,)  # correct at once: all images exit at exit 1


@given(scored, st.integers(0, 999), st.floats(0.3, 0.9))
def test_thresholds_keep_away_from_every_score(name: str, seed: int, budget: float) -> None:
    record = make_record(60, 4, 3, seed)
    threshold = np.float32(fit_policy(record, name, flops=budget).thresholds[0])
    best = np.maximum.accumulate(record.score(name)[:, :-1] * (-1 if name == "entropy" else 1), axis=1)
    assert np.abs(np.abs(best) - threshold).min() > TIE / 2 * 0.9


@given(scored, st.integers(0, 99), st.integers(0, 99), st.floats(0.3, 0.9))
def test_float_noise_decides_nothing(name: str, seed: int, noise_seed: int, budget: float) -> None:
    """Another batch size moves scores by up to 4e-7."""
    record = make_record(60, 4, 3, seed)
    policy = fit_policy(record, name, flops=budget)
    noise = np.random.default_rng(noise_seed).uniform(-4e-7, 4e-7, (60, 4)).astype(np.float32)
    moved = ExitRecord(**{**vars(record), name: record.score(name) + noise})
    assert policy.exits(moved).tolist() == policy.exits(record).tolist()


def test_scores_closer_than_the_tie_exit_together() -> None:
    record = make_record(4, 2, 3)
    confidence = np.array([[0.9], [0.9 - 5e-7], [0.9 - 1e-6], [0.5]], np.float32).repeat(2, axis=1)
    tied = ExitRecord(**{**vars(record), "confidence": confidence})
    swept = sweep(tied)
    assert swept.exit_counts[:, 0].tolist() == [4, 3, 0]
    assert swept.thresholds.tolist() == pytest.approx([0, 0.7, 1.01], abs=1e-6)


def test_neighbouring_float32_values_exit_together() -> None:
    record = make_record(3, 2, 3)
    low = np.float32(0.6)
    confidence = np.array([[low], [np.nextafter(low, np.float32(1))], [0.3]], np.float32).repeat(2, axis=1)
    assert sweep(ExitRecord(**{**vars(record), "confidence": confidence})).exit_counts[:, 0].tolist() == [3, 2, 0]


def test_a_given_threshold_is_taken() -> None:
    record = make_record(20, 3, 3)
    assert fit_policy(record, threshold=0.9).thresholds == (0.9,)
    assert fit_policy(record, threshold=[0.9, 0.8]).thresholds == (0.9, 0.8)
    assert fit_policy(record, "patience", threshold=2).thresholds == (2,)
    with pytest.raises(ValueError, match="has 3 thresholds; 3 exits need 1 or 2"):
        fit_policy(record, threshold=[0.9, 0.8, 0.7])


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_one_exit_leaves_no_choice(name: str) -> None:
    record = make_record(20, 1, 3)
    for target in ({"flops": 0.3}, {"accuracy_drop": 0.0}, {"threshold": 1}):
        assert (fit_policy(record, name, **target).exits(record) == 0).all()  # type: ignore[arg-type]


def test_the_policy_says_where_it_comes_from() -> None:
    record = make_record(20, 3, 3)
    assert fit_policy(record, flops=0.5).fitted == {
        "data": "synthetic",
        "split": "val",
        "images": 20,
        "target": {"flops": 0.5},
        "record": record.digest,
    }
    assert fit_policy(record, shares=(0.5, 0.25, 0.25)).fitted["target"] == {"shares": [0.5, 0.25, 0.25]}
    by_hand = fit_policy(record, threshold=(0.5, 0.25)).fitted
    assert by_hand["target"] == {"threshold": [0.5, 0.25]} and "record" not in by_hand


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "exactly one of .*; got none"),
        ({"flops": 0.2}, "flops=0.2 cannot be met: exit 1 alone costs 0.3000"),
        ({"shares": (0.5, 0.5)}, "must be 3 fractions"),
        ({"threshold": 90}, "threshold=90"),
        ({"flops": 0.5, "temperatures": "hot"}, "temperatures='hot' must be 3 numbers or 'fit'"),
        ({"flops": 0.5, "temperatures": (1.0, 2.0)}, "2 temperatures for 3 exits"),
    ],
)
def test_a_bad_target_is_named(target: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_policy(make_record(20, 3, 3), **target)


def test_an_unknown_policy_lists_the_valid_ones() -> None:
    for ask in (lambda r: fit_policy(r, "energy", flops=0.5), lambda r: sweep(r, "energy")):
        with pytest.raises(ValueError, match=r"unknown policy 'energy'.*confidence, entropy, fixed, gate, margin"):
            ask(make_record(20, 3, 3))


def test_temperatures_are_fitted_and_kept() -> None:
    record = make_record(400, 4, 5, seed=2)
    policy = fit_policy(record, flops=0.5, temperatures="fit")
    assert policy.temperatures == fit_temperatures(record)
    plain = fit_policy(tempered_record(record, policy.temperatures), flops=0.5)
    assert policy.thresholds == plain.thresholds != fit_policy(record, flops=0.5).thresholds
    assert policy.exits(record).tolist() == plain.exits(tempered_record(record, policy.temperatures)).tolist()
    given = fit_policy(record, flops=0.5, temperatures=policy.temperatures)
    assert given == policy
    with pytest.raises(ValueError, match="no logits, which temperatures need"):
        fit_policy(make_record(20, 3, 4, with_logits=False), flops=0.5, temperatures="fit")
    with pytest.raises(ValueError, match="has temperatures, which need logits"):
        fit_policy(make_record(20, 3, 4, with_logits=False), threshold=0.9, temperatures=[2.0] * 3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"flops": 0.5, "epsilon": 0.2}, "epsilon and delta belong to risk, not flops"),
        ({"target": Target.flops(0.5), "delta": 0.2}, "give either target= or its short form"),
        ({"target": Target.full_depth(), "temperatures": "fit"}, "temperatures do not fit full_depth"),
        ({"target": Target.full_depth(), "temperatures": [2.0] * 3}, "temperatures do not fit full_depth"),
        ({"target": Target.flops(0.5, calibrate=True), "temperatures": [2.0] * 3}, "not both"),
        (
            {"target": Target.flops(0.5, calibrate=True), "temperatures": "fitt"},
            "temperatures='fitt' must be 3 numbers",
        ),
    ],
)
def test_arguments_that_would_not_be_used_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_policy(make_record(50, 3), **given)


def test_fitting_again_keeps_given_temperatures() -> None:
    record, temperatures = make_record(300, 3), np.array([3.0, 0.5, 2.0])
    policy = fit_policy(record, flops=0.6, temperatures=temperatures)
    assert policy.temperatures == (3.0, 0.5, 2.0) and fit_again(policy, record) == policy
    fitted = fit_policy(record, flops=0.6, temperatures="fit")
    other = make_record(300, 3, seed=1)
    assert fit_again(fitted, other) == fit_policy(other, flops=0.6, temperatures="fit")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gate", {"threshold": 0.8}),
        ("budgeted", {"threshold": [0.5, 0.4, 0.3]}),
        ("confidence", {"threshold": 0.8, "temperatures": "fit"}),
    ],
)
def test_what_was_learned_beside_a_given_threshold_is_learned_again(name: str, given: dict[str, Any]) -> None:
    record, other = make_record(300, 4, 5), make_record(300, 4, 5, seed=1)
    policy, again = (fit_policy(one, name, **given) for one in (record, other))
    assert made_for(policy, record) and not made_for(policy, other)
    assert fit_again(policy, other) == again != policy
    by_hand = fit_policy(record, threshold=0.8, temperatures=[2.0] * 4)
    assert made_for(by_hand, other) and fit_again(by_hand, other) is by_hand


def test_a_target_is_what_its_keywords_are() -> None:
    record = make_record(200, 4, 5)
    assert fit_policy(record, "entropy", Target.flops(0.5)) == fit_policy(record, policy="entropy", flops=0.5)
    assert fit_policy(record, "gate", Target.full_depth()).thresholds == (POLICIES["gate"].threshold_none,)
    assert fit_policy(record, target=Target.full_depth(), temperatures=()).temperatures == ()
    with pytest.raises(ValueError, match="not both"):
        fit_policy(record, "entropy", Target.flops(0.5), flops=0.5)


def test_a_budget_that_leaves_exit_1_alone_is_noted() -> None:
    record = make_record(300, 4, 5)
    first, second = record.flops_fraction[:2]
    between = float(first + second) / 2
    policy = fit_policy(record, "patience", flops=between)
    assert not policy.exits(record).any()
    dearer = float(record.flops_fraction[at(record, "patience", 1.0)].mean())  # the next setting
    assert policy.fitted["note"].startswith(f"every image exits at exit 1: the next setting takes {dearer:.2%} of")
    assert "note" not in fit_policy(record, "confidence", flops=between).fitted
    assert "note" not in fit_policy(record, "patience", accuracy_drop=0.99).fitted


def test_a_budget_for_more_is_not_noted_where_exit_1_is_simply_the_best() -> None:
    record = make_record(300, 4, 5)
    logits = np.asarray(record.logits, np.float32).copy()
    logits[:, 0] = 20 * np.eye(5)[record.labels]  # exit 1 is always correct
    policy = fit_policy(record_from_logits(logits, record.labels), "confidence", flops=1.0)
    assert "note" not in policy.fitted
