"""p-values against MAPIE, fixed-sequence testing by a loop, that the bound is kept, and certificates in a policy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from synthetic import DEPLOYABLE, make_record, ready_policy, record_from_logits

from dmpo_explore.analysis.metrics import summarise
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.risk_control import (
    RISKS,
    certifiable,
    certify,
    disagreement,
    fixed_sequence,
    hoeffding_bentkus,
    images_needed,
    smallest_risk,
    too_early,
)
from dmpo_explore.fitting.temperature import fit_temperatures
from dmpo_explore.policies.base import count_answers
from dmpo_explore.policies.catalogue import POLICIES, learned_policy
from dmpo_explore.policies.rules import ConfidencePolicy, OraclePolicy, PatiencePolicy
from dmpo_explore.records.record import ExitRecord

RECORD, SURE = make_record(20), ConfidencePolicy((0.5,))


@pytest.mark.parametrize("n", [1, 50, 5000])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5])
def test_p_values_are_mapies(n: int, epsilon: float) -> None:
    counts = np.unique(np.round(np.linspace(0, 1, 40) * n))
    risks = (counts / n)[np.ceil(n * (counts / n)) == counts]  # elsewhere MAPIE's ceiling makes one loss more of noise
    assert len(risks) >= min(n + 1, 35)
    reference = compute_hoeffding_bentkus_p_value(risks, n, epsilon, binary=True)[:, 0]
    np.testing.assert_allclose(hoeffding_bentkus(risks, n, epsilon), reference, rtol=1e-9, atol=1e-300)


def test_a_p_value_is_small_only_where_the_risk_is_kept() -> None:
    """Under the null (the true risk is ε) it is at most α with chance at most α."""
    rng = np.random.default_rng(0)
    p = hoeffding_bentkus(rng.binomial(500, 0.05, size=20_000) / 500, 500, 0.05)
    for alpha in (0.01, 0.05, 0.2):
        assert (p <= alpha).mean() <= alpha
    assert (hoeffding_bentkus(rng.binomial(500, 0.02, size=2000) / 500, 500, 0.05) <= 0.05).mean() > 0.9


@pytest.mark.parametrize("delta", [0.01, 0.05, 0.2, 0.95])
@pytest.mark.parametrize("epsilon", [0.001, 0.01, 0.05, 0.1, 0.5, 0.95])
def test_the_images_needed_are_the_fewest_that_pass_without_an_error(epsilon: float, delta: float) -> None:
    n = images_needed(epsilon, delta)
    assert hoeffding_bentkus(0.0, n, epsilon) <= delta
    assert n == 1 or hoeffding_bentkus(0.0, n - 1, epsilon) > delta


def test_with_errors_the_images_needed_are_certified_in_nine_of_ten_draws() -> None:
    n = images_needed(0.05, rate=0.01)
    rng = np.random.default_rng(0)

    def certified(n: int) -> float:
        return float((hoeffding_bentkus(rng.binomial(n, 0.01, size=20_000) / n, n, 0.05) <= 0.05).mean())

    assert certified(n) >= 0.9 and max(certified(fewer) for fewer in range(59, n, 5)) < 0.9


@pytest.mark.parametrize("n", [1, 53, 59, 651])
def test_the_smallest_risk_is_where_that_many_images_are_just_enough(n: int) -> None:
    smallest = smallest_risk(n)
    assert images_needed(smallest * 1.001) <= n < images_needed(smallest * 0.98 if n > 1 else 0.7)


@pytest.mark.parametrize("name", ["confidence", "entropy", "gate", "budgeted", "patience"])
def test_logits_are_tempered_once_and_the_numbers_are_those_of_every_threshold(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_record(120, 4, 5)
    policy = learned_policy(record, name, (2.0, 0.5, 3.0, 1.5))
    thresholds = policy.grid(4, 5)
    exits = [replace(policy, thresholds=(threshold,)).exits(record) for threshold in thresholds]
    calls, scores_at = list[object](), ExitRecord.scores_at

    def counted(*given: Any) -> Any:
        calls.append(given)
        return scores_at(*given)

    monkeypatch.setattr(ExitRecord, "scores_at", counted)
    assert fixed_sequence(record, policy)["errors"].tolist() == [int(too_early(record, each).sum()) for each in exits]
    assert len(calls) <= 1
    counts = policy.counts(record, thresholds)
    np.testing.assert_array_equal(counts, [count_answers(record, each) for each in exits])
    assert len(calls) <= 2


def test_what_images_can_certify_is_said_in_words() -> None:
    assert "risk of 5.5 % at best" in certifiable(53) and "5 % takes at least 59, about 150" in certifiable(53)
    assert "1 % takes at least 299" in certifiable(651) and "takes" not in certifiable(773)
    assert "a certificate would hold less strictly than it says" in certifiable(0)


def test_a_certificate_needs_that_many_images_even_without_an_error() -> None:
    policy = ConfidencePolicy((0.5,))
    for n, certified in ((58, False), (59, True)):
        record = record_from_logits(np.broadcast_to(5 * np.eye(3)[[0]], (n, 2, 3)), np.zeros(n, int))
        assert certify(record, policy, epsilon=0.05).certified is certified


def test_risks_are_those_of_the_summary() -> None:
    record = make_record(200, 4, 5)
    exits = ConfidencePolicy((0.6,)).exits(record)
    found = summarise(record, exits)
    assert too_early(record, exits).mean() == pytest.approx(found["too_early"])
    assert disagreement(record, exits).mean() == pytest.approx(found["changed"])
    assert sorted(RISKS) == ["disagreement", "too_early"]


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_the_grid_goes_from_no_image_to_all_images(name: str) -> None:
    """It depends on no image, its thresholds are valid, and what it lets exit grows."""
    record, policy = make_record(300, 4, 5), ready_policy(name, POLICIES[name].threshold_all)
    grid = policy.grid(4, 5)
    exits = [replace(policy, thresholds=(t,)).exits(record) for t in grid]
    assert (exits[0] == 3).all() and (exits[-1] == 0).all()
    costs = [record.flops_fraction[e].mean() for e in exits]
    assert all(b <= a + 0.01 for a, b in itertools.pairwise(costs))
    assert len(grid) == len(set(grid)) and (len(grid) > 40 or policy.settings(4))


@pytest.mark.parametrize("risk", sorted(RISKS))
def test_a_certificate_by_a_loop(risk: str) -> None:
    record, policy = make_record(1500, 4, 5, seed=2), ConfidencePolicy((0.5,))
    found = certify(record, policy, risk, 0.06, 0.05)
    last = None
    for threshold in policy.grid(4, 5)[1:]:
        exits = ConfidencePolicy((threshold,)).exits(record)
        p = hoeffding_bentkus(RISKS[risk](record, exits).mean(), 1500, 0.06)
        if p > 0.05:
            break
        last = threshold
    assert found.certified and found.threshold == last and found.p_value <= 0.05 and found.images == 1500
    stricter = certify(record, policy, risk, 0.06, 0.001)
    assert stricter.threshold >= found.threshold
    assert found.tested > stricter.tested - 1 > 1


def test_nothing_may_be_certified() -> None:
    few = certify(make_record(200, 4, 5), ConfidencePolicy((0.5,)))  # 0.99^200 is 0.13: no 200 images show 1 %
    assert (few.certified, few.threshold, few.risk, few.tested) == (False, ConfidencePolicy.threshold_none, 0.0, 1)
    hard = certify(make_record(2000, 4, 5), PatiencePolicy((1,)), "disagreement", 0.01)
    assert (hard.certified, hard.threshold) == (False, 3.0)  # patience 3 of 4 exits: no image exits early


def test_what_no_calibration_image_has_tested_is_not_taken() -> None:
    """The surest image is an early-exit error: above it every test passes, and none has seen an image exit."""
    record = make_record(400, 2, 5)
    prediction, confidence = record.prediction.copy(), np.full_like(record.confidence, 0.5)
    prediction[:, 1], confidence[0, 0] = record.labels, 0.99
    prediction[0, 0] = (record.labels[0] + 1) % 5
    found = certify(replace(record, prediction=prediction, confidence=confidence), ConfidencePolicy((0.5,)))
    assert (found.certified, found.threshold, found.risk) == (False, ConfidencePolicy.threshold_none, 0.0)
    assert found.tested > 1


@pytest.mark.slow
@pytest.mark.parametrize("risk", sorted(RISKS))
def test_the_bound_is_kept(risk: str) -> None:
    """The made-up population is 4,000 images, so that true risks are known; 60 calibration sets are drawn from it."""
    population, epsilon, delta = make_record(4000, 3, 4, seed=5), 0.06, 0.1
    policy, rng, broken, early = ConfidencePolicy((0.5,)), np.random.default_rng(1), [], []
    for _ in range(60):
        found = certify(population.subset(rng.integers(4000, size=400)), policy, risk, epsilon, delta)
        exits = ConfidencePolicy((found.threshold,)).exits(population)
        broken.append(RISKS[risk](population, exits).mean() > epsilon)
        early.append((exits < 2).mean())
    assert np.mean(broken) <= delta + 2 * np.sqrt(delta * (1 - delta) / 60)
    assert np.mean(early) > 0.1  # it is not kept by letting no image exit early


@pytest.mark.parametrize("epsilon", [0.06, 0.2])
def test_the_table_of_all_tests_ends_where_the_certificate_does(epsilon: float) -> None:
    record, policy = make_record(1500, 4, 5, seed=2), ConfidencePolicy((0.5,))
    table, found = fixed_sequence(record, policy, epsilon=epsilon), certify(record, policy, epsilon=epsilon)
    assert table["threshold"].tolist() == list(policy.grid(4, 5))
    taken = table[table["passed"]].iloc[-1]
    assert (taken["threshold"], taken["p_value"]) == (found.threshold, found.p_value)
    assert taken["errors"] / 1500 == found.risk
    assert not table["passed"].iloc[table["passed"].argmin() :].any()


@pytest.mark.parametrize("risk", sorted(RISKS))
def test_a_guarantee_is_a_certificate_in_a_policy(risk: str) -> None:
    record = make_record(2000, 4, 5, seed=2)
    policy = fit_policy(record, risk=risk, epsilon=0.05, delta=0.1)
    expected = certify(record, ConfidencePolicy((0.5,)), risk, 0.05, 0.1)
    assert expected.certified and policy.thresholds == (ConfidencePolicy((expected.threshold,)).thresholds)
    assert policy.fitted["target"] == {"risk": risk, "epsilon": 0.05, "delta": 0.1}
    assert policy.fitted["certificate"]["p_value"] <= 0.1 and "note" not in policy.fitted
    loss = RISKS[risk](record, policy.exits(record)).mean()
    assert policy.fitted["certificate"]["risk"] == pytest.approx(loss) and loss < 0.05


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_where_nothing_can_be_certified_no_image_exits_early(name: str) -> None:
    record = make_record(100, 4, 5)
    policy = fit_policy(record, name, risk="too_early")  # 100 images cannot show 1 %
    assert (policy.exits(record) == 3).all()
    half = "50 images (the other half is learned on)" if policy.learns else "100 images"
    none, few = policy.fitted["note"].split("; ")
    assert "no threshold can be certified" in none
    assert few.startswith(f"{half} cannot") and "1 %" in few and "299" in few
    assert policy.fitted["certificate"]["certified"] is False


def test_with_enough_images_the_note_names_no_number() -> None:
    logits = np.broadcast_to(20.0 * np.eye(2)[[1, 0]], (299, 2, 2))  # exit 1 is certain and incorrect
    policy = fit_policy(record_from_logits(logits, np.zeros(299, int)), risk="too_early")
    assert "no threshold can be certified" in policy.fitted["note"] and "needed" not in policy.fitted["note"]


def test_what_is_learned_is_certified_on_other_images() -> None:
    record, target = make_record(600, 4, 5, seed=2), {"risk": "too_early", "epsilon": 0.1}
    half = fit_policy(record, temperatures="fit", **target)  # type: ignore[arg-type]
    for policy in (fit_policy(record, "gate", **target), half):  # type: ignore[arg-type]
        assert policy.fitted["certificate"]["images"] == 300 and policy.fitted["images"] == 600
        assert policy.fitted["certificate"]["certified"]
    assert fit_policy(record, **target).fitted["certificate"]["images"] == 600  # type: ignore[arg-type]
    assert half.temperatures != fit_temperatures(record)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: images_needed(0, 0.05), "epsilon=0 must lie between 0 and 1"),
        (lambda: images_needed(0.05, rate=0.05), "rate=0.05 must be at least 0 and below epsilon"),
        *((partial(smallest_risk, 53, delta=bad), f"delta={bad} must lie between 0 and 1") for bad in (0, 1, 5)),
        (lambda: fixed_sequence(RECORD, SURE, delta=2), "delta=2 must lie between 0 and 1"),
        (lambda: certify(RECORD.subset([]), SURE), "nothing can be certified on a record without images"),
        (lambda: fixed_sequence(RECORD.subset([]), SURE), "nothing can be certified on a record without images"),
        (lambda: fit_temperatures(RECORD.subset([])), "temperatures cannot be fitted on a record without images"),
        (lambda: certify(RECORD, SURE, "harm"), "unknown risk 'harm'"),
        (lambda: certify(RECORD, OraclePolicy((1,))), "'oracle' is a bound"),
        (
            lambda: certify(make_record(20, split="test"), SURE),
            r"certified on calibration and only applied to test; use certify\(run.record\('calibration'\)",
        ),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
