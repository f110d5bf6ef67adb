"""Fitted thresholds against brute force, their bounds, shares, sweeps, and what a test record may be used for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from synthetic import make_record, outcome_of, record_from_logits

from dmpo_explore.analysis.metrics import apply
from dmpo_explore.fitting.fit import fit_again, fit_policy, made_for, realised_flops, sweep
from dmpo_explore.fitting.target import Target
from dmpo_explore.fitting.temperature import fit_temperatures, tempered_record
from dmpo_explore.inference.exit_loop import run_early_exit
from dmpo_explore.policies.catalogue import POLICIES, learned_policy
from dmpo_explore.policies.learned import SHARES
from dmpo_explore.policies.ranking import TIE
from dmpo_explore.records.record import ExitRecord

names = st.sampled_from(sorted(POLICIES))
direct = st.sampled_from(sorted(name for name, kind in POLICIES.items() if not kind.learns))
scored = st.sampled_from(["confidence", "entropy", "margin"])


RECORD, BARE, TEST = make_record(20, 3, 3), make_record(20, 3, 3, with_logits=False), make_record(40, split="test")
FULL, CALIBRATED = Target.full_depth(), Target.flops(0.5, calibrate=True)


def at(record: ExitRecord, name: str, threshold: float) -> Any:
    """Exits of a policy with this threshold, learned on the record where it learns."""
    return fit_policy(record, name, threshold=threshold).exits(record)


def outcome(record: ExitRecord, name: str, threshold: float) -> tuple[int, float]:
    """Correct answers and mean cost of one threshold, the slow way."""
    return outcome_of(record, at(record, name, threshold))


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
        assert (swept.correct[i], swept.flops_fraction[i]) == pytest.approx(outcome_of(record, exits), abs=1e-12)
        assert swept.exit_counts[i].tolist() == np.bincount(exits, minlength=n_exits).tolist()
    assert (np.diff(swept.flops_fraction) >= -1e-12).all()
    assert swept.exit_counts[-1, -1] == n_images
    assert swept.exit_counts[0, 0] == n_images or n_exits == 1


@pytest.mark.slow
@given(scored, st.integers(0, 999), st.integers(2, 5))
def test_the_sweep_leaves_nothing_out(name: str, seed: int, n_exits: int) -> None:
    record = make_record(20, n_exits, 3, seed)
    swept = sweep(record, name)
    found = {(int(c), round(float(f), 9)) for c, f in zip(swept.correct, swept.flops_fraction, strict=True)}
    assert found == {(c, round(f, 9)) for c, f in brute_force(record, name)}


@given(direct, st.integers(0, 999), st.integers(1, 5), st.floats(0.3, 1.0))
def test_a_budget_is_kept_and_used_best(name: str, seed: int, n_exits: int, budget: float) -> None:
    record = make_record(25, n_exits, 3, seed)
    exits = fit_policy(record, name, flops=budget).exits(record)
    correct, cost = outcome_of(record, exits)
    assert cost == pytest.approx(float(realised_flops(np.bincount(exits, minlength=n_exits), record)))
    assert cost <= budget + 1e-9
    affordable = [(c, -f) for c, f in brute_force(record, name) if f <= budget + 1e-12]
    assert (correct, pytest.approx(-cost)) == max(affordable)


@pytest.mark.slow
@given(direct, st.integers(0, 999), st.floats(0, 1, exclude_max=True))
def test_a_drop_is_kept_at_the_least_cost(name: str, seed: int, drop: float) -> None:
    record = make_record(25, 4, 3, seed)
    exits = fit_policy(record, name, accuracy_drop=drop).exits(record)
    (correct, cost), full = outcome_of(record, exits), int(record.correct[:, -1].sum())
    assert correct >= full - drop * 25 - 1e-9
    assert cost == pytest.approx(min(f for c, f in brute_force(record, name) if c >= full - drop * 25 - 1e-9))


@pytest.mark.slow
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
    moved = replace(record, **{name: record.score(name) + noise})
    assert policy.exits(moved).tolist() == policy.exits(record).tolist()


def test_scores_closer_than_the_tie_exit_together() -> None:
    record = make_record(4, 2, 3)
    confidence = np.array([[0.9], [0.9 - 5e-7], [0.9 - 1e-6], [0.5]], np.float32).repeat(2, axis=1)
    tied = replace(record, confidence=confidence)
    swept = sweep(tied)
    assert swept.exit_counts[:, 0].tolist() == [4, 3, 0]
    assert swept.thresholds.tolist() == pytest.approx([0, 0.7, 1.01], abs=1e-6)


def test_a_given_threshold_is_taken() -> None:
    record = make_record(20, 3, 3)
    assert fit_policy(record, threshold=0.9).thresholds == (0.9,)
    assert fit_policy(record, threshold=[0.9, 0.8]).thresholds == (0.9, 0.8)
    assert fit_policy(record, "patience", threshold=2).thresholds == (2,)


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


def test_temperatures_are_fitted_and_kept() -> None:
    record = make_record(400, 4, 5, seed=2)
    policy = fit_policy(record, flops=0.5, temperatures="fit")
    assert policy.temperatures == fit_temperatures(record)
    plain = fit_policy(tempered_record(record, policy.temperatures), flops=0.5)
    assert policy.thresholds == plain.thresholds != fit_policy(record, flops=0.5).thresholds
    assert policy.exits(record).tolist() == plain.exits(tempered_record(record, policy.temperatures)).tolist()
    given = fit_policy(record, flops=0.5, temperatures=policy.temperatures)
    assert given == policy


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


@given(scored, st.integers(0, 999), st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any))
def test_shares_are_met(name: str, seed: int, weights: list[int]) -> None:
    record = make_record(100, 4, 3, seed)
    shares = [w / sum(weights) for w in weights]
    policy = fit_policy(record, name, shares=shares)
    assert len(policy.thresholds) == 3
    counts = np.bincount(policy.exits(record), minlength=4)
    assert counts[:3].tolist() == [int(100 * share + 1e-9) for share in shares[:3]]


def test_the_released_shares_need_not_sum_to_one_exactly() -> None:
    record = make_record(1000, 4, 10)
    shares = (0.1964, 0.2542, 0.1338, 0.4155)
    counts = np.bincount(fit_policy(record, shares=shares).exits(record), minlength=4)
    assert counts.tolist() == [196, 254, 133, 417]


def test_tied_shares_take_the_whole_group() -> None:
    record = record_from_logits(np.zeros((10, 2, 3)), np.zeros(10))
    assert (fit_policy(record, shares=(0.5, 0.5)).exits(record) == 0).all()
    assert (fit_policy(record, shares=(0.0, 1.0)).exits(record) == 1).all()
    two_of_four = record_from_logits(np.array([3 + 1e-5, 3, 1, 1])[:, None, None] * np.eye(2)[[0, 0]], np.zeros(4))
    assert fit_policy(two_of_four, shares=(0.25, 0.75)).exits(two_of_four).tolist() == [0, 0, 1, 1]


def test_shares_for_budgeted_are_confidence_levels() -> None:
    record, shares = make_record(1000, 4, 5), (0.4, 0.3, 0.2, 0.1)
    budgeted, confidence = fit_policy(record, "budgeted", shares=shares), fit_policy(record, shares=shares)
    assert budgeted.learned[0] == pytest.approx(confidence.thresholds, abs=1e-7)
    assert budgeted.thresholds == pytest.approx((0.6, 0.5, 1 / 3), abs=1e-6)  # those who go on
    assert budgeted.exits(record).tolist() == confidence.exits(record).tolist()
    two = make_record(100, 2, 3)
    assert np.bincount(fit_policy(two, "budgeted", shares=(0.3, 0.7)).exits(two)).tolist() == [30, 70]


@pytest.mark.parametrize("given", [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 0.5, 0.25), (0.3, 1, 0)])
def test_given_shares_per_exit_are_what_goes_on(given: tuple[float, ...]) -> None:
    """From fit_policy to a live decision; a share of 1 keeps all images, 0 no image."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 4, 5)) * 3
    record = record_from_logits(logits, np.arange(400) % 5)
    policy = fit_policy(record, "budgeted", threshold=given)
    exits = policy.exits(record)
    there = 400
    for exit, share in enumerate(given):
        gone = int((exits == exit).sum())
        assert gone == pytest.approx(there * (1 - share), abs=1)
        there -= gone
    steps = [lambda x, side, k=k: (x, x[:, k], side) for k in range(4)]  # type: ignore[misc]
    np.testing.assert_array_equal(run_early_exit(steps, logits.astype(np.float32), policy).exit, exits)
    ends = replace(policy, thresholds=(1.0, 1.0, 1.0), learned=())  # needs nothing learned
    assert set(ends.exits(record)) == {3}


def test_a_sweep_of_budgeted_has_its_shares() -> None:
    record = make_record(500, 4, 5)
    swept = sweep(record, "budgeted")
    assert swept.thresholds.tolist() == SHARES.tolist()
    going_on = 1 - swept.exit_counts[:, 0] / 500
    assert going_on == pytest.approx(SHARES, abs=0.0021)


def test_learning_takes_the_policys_temperatures() -> None:
    record = make_record(300, 3, 4)
    hot, cold = (learned_policy(record, "gate", temperatures=(t,) * 3) for t in (3.0, 0.3))
    assert hot.learned != cold.learned and hot.temperatures == (3.0,) * 3
    assert learned_policy(record, "confidence").learned == ()


@pytest.mark.parametrize("name", ["gate", "budgeted"])
def test_what_was_learned_on_val_is_swept_on_test(name: str) -> None:
    val, test = make_record(120, 4, 3), make_record(100, 4, 3, seed=1, split="test")
    fitted = fit_policy(val, name, flops=0.5)
    swept = sweep(test, fitted)  # what was learned on val, every threshold of it
    assert (np.diff(swept.flops_fraction) >= -1e-12).all() and len(swept.thresholds) > 10
    shown = sweep(val, fitted)
    best = shown.correct[shown.flops_fraction <= 0.5 * (1 + 1e-12)].max()
    assert fitted.fitted["target"] == {"flops": 0.5}
    assert val.correct[np.arange(120), fitted.exits(val)].sum() == best


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


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: fit_policy(RECORD), "exactly one of .*; got none"),
        (lambda: fit_policy(RECORD, flops=0.2), "flops=0.2 cannot be met: exit 1 alone costs 0.3000"),
        (lambda: fit_policy(RECORD, shares=(0.5, 0.5)), "must be 3 fractions"),
        (lambda: fit_policy(RECORD, "patience", shares=(0.5, 0.5, 0.0)), "reads a score"),
        (lambda: fit_policy(RECORD, threshold=90), "threshold=90"),
        (lambda: fit_policy(RECORD, threshold=[0.9, 0.8, 0.7]), "has 3 thresholds; 3 exits need 1 or 2"),
        (
            lambda: fit_policy(make_record(20, 4), "budgeted", threshold=(1, 0.5)),
            "has 2 thresholds; 4 exits need 1 or 3",
        ),
        (lambda: fit_policy(RECORD, flops=0.5, temperatures="hot"), "temperatures='hot' must be 3 numbers or 'fit'"),
        (lambda: fit_policy(RECORD, flops=0.5, temperatures=(1.0, 2.0)), "2 temperatures for 3 exits"),
        (lambda: fit_policy(BARE, flops=0.5, temperatures="fit"), "no logits, which temperatures need"),
        (lambda: fit_policy(BARE, threshold=0.9, temperatures=[2.0] * 3), "has temperatures, which need logits"),
        # -- arguments that would not be used --
        (lambda: fit_policy(RECORD, "entropy", Target.flops(0.5), flops=0.5), "not both"),
        (lambda: fit_policy(RECORD, flops=0.5, epsilon=0.2), "epsilon and delta belong to risk, not flops"),
        (lambda: fit_policy(RECORD, target=Target.flops(0.5), delta=0.2), "give either target= or its short form"),
        (lambda: fit_policy(RECORD, target=FULL, temperatures="fit"), "temperatures do not fit full_depth"),
        (lambda: fit_policy(RECORD, target=FULL, temperatures=[2.0] * 3), "temperatures do not fit full_depth"),
        (lambda: fit_policy(RECORD, target=CALIBRATED, temperatures=[2.0] * 3), "not both"),
        (lambda: fit_policy(RECORD, target=CALIBRATED, temperatures="fitt"), "'fitt' must be 3 numbers"),
        # -- policies --
        (lambda: fit_policy(RECORD, "energy", flops=0.5), "unknown policy 'energy'.*confidence, entropy, fixed, gate"),
        (lambda: sweep(RECORD, "energy"), "unknown policy 'energy'.*confidence, entropy, fixed, gate, margin"),
        *(
            (partial(fit_policy, RECORD, name, flops=0.5, per_exit=True), f"one of the policies confidence, .*{name}")
            for name in ("patience", "budgeted", "fixed", "oracle")
        ),
        (lambda: fit_policy(RECORD, "oracle", risk="too_early"), "'oracle' is a bound that reads the labels"),
        (lambda: fit_policy(make_record(1), "gate", risk="too_early"), "a policy that learns needs at least 2 images"),
        # -- a test record --
        *(
            (partial(ask, TEST, name, **target), f"{name!r} must not learn from a test record")
            for name in ("gate", "budgeted")
            for ask, target in ((fit_policy, {"flops": 0.5}), (sweep, {}))
        ),
        (lambda: fit_policy(TEST, flops=0.5, temperatures="fit"), "test.*calibration"),
        (lambda: fit_policy(TEST, risk="too_early"), "test.*calibration"),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
