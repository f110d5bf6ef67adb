"""A policy that keeps its exit shares: exact in random order, whatever the scores are worth, live as on a record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.fitting.fit import fit_again
from dmpo_explore.inference.exit_loop import run_early_exit, stream_early_exit
from dmpo_explore.policies.running import LastValues, RunningPolicy, hold_budget
from dmpo_explore.records.record import ExitRecord

CALIBRATION = make_record(2000, 4, 5, seed=1)


def shifted(record: ExitRecord, factor: float) -> ExitRecord:
    """The same images under other conditions: their logits shrunk, so that nothing is as sure as it was."""
    return record.tempered((1 / factor,) * record.n_exits)


def shares(policy: dx.Policy, record: ExitRecord) -> np.ndarray:
    return np.bincount(policy.exits(record), minlength=record.n_exits) / record.n_images


@pytest.mark.parametrize(
    "name",
    [
        "confidence",
        "entropy",
        "margin",
        pytest.param("gate", marks=pytest.mark.slow),
        "budgeted",
        "patience+confidence",
    ],
)
def test_shares_hold_where_frozen_thresholds_lose_them(name: str) -> None:
    policy = dx.fit_policy(CALIBRATION, name, flops=0.6)
    held = hold_budget(policy, CALIBRATION, window=200)
    test = shifted(make_record(4000, 4, 5, seed=2), 0.4)
    wanted = shares(policy, CALIBRATION)
    assert np.abs(shares(policy, test) - wanted).max() > 0.1
    np.testing.assert_allclose(shares(held, test), wanted, atol=0.035)
    np.testing.assert_allclose(shares(held, CALIBRATION), wanted, atol=0.035)


def test_the_chance_to_leave_is_exact_from_the_first_image_on() -> None:
    rng = np.random.default_rng(0)
    rates = np.mean([LastValues(rng.random(9), 3).leave(rng.random(40)) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(rates, 3 / 10, atol=0.025)  # three of the nine before it, or itself: 3 of 10 places
    assert LastValues(np.zeros(3), 3).leave(np.array([-9.0])).all()
    assert not LastValues(np.zeros(3), 0).leave(np.ones(9)).any()


def test_a_stream_begins_with_the_thresholds_of_the_policy() -> None:
    policy = dx.fit_policy(CALIBRATION, flops=0.6)
    held = hold_budget(policy, CALIBRATION)
    one = CALIBRATION.subset(slice(0, 1))
    assert [int(held.exits(CALIBRATION.subset(slice(i, i + 1)))[0]) for i in range(50)] == [
        int(i) for i in policy.exits(CALIBRATION)[:50]
    ]
    assert held.thresholds == policy.thresholds and held.exits(one) == policy.exits(one)


def test_live_is_as_recorded_whatever_the_batches() -> None:
    test = shifted(make_record(300, 4, 5, seed=3), 0.5)
    held = hold_budget(dx.fit_policy(CALIBRATION, flops=0.6), CALIBRATION, window=20)
    expected = held.exits(test)
    logits = test.logits
    assert logits is not None

    def step(k: int) -> object:
        return lambda x, side: (x, logits[x, k].astype(np.float32) / np.float32(2), None)  # shifted

    steps, rows = [step(k) for k in range(4)], np.arange(300)
    for refill in (False, True):
        for size in (1, 7, 300):
            batches = np.array_split(rows, 300 // size)
            found = stream_early_exit(steps, batches, held, refill=refill, batch_size=size)  # type: ignore[arg-type]
            np.testing.assert_array_equal(found.exit, expected)
    stream = held.begin()  # of several calls
    calls = [run_early_exit(steps, some, stream).exit for some in np.array_split(rows, 9)]  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.concatenate(calls), expected)
    assert stream.begin() is stream and held.begin() is not held


def test_an_image_that_gives_nan_leaves_the_stream_as_it_was() -> None:
    torch = pytest.importorskip("torch")
    held = hold_budget(dx.fit_policy(CALIBRATION, flops=0.6), CALIBRATION, window=20)
    logits = torch.from_numpy(np.asarray(CALIBRATION.logits, np.float32)[:40])

    def exits(stream: dx.Policy, some: object) -> np.ndarray:
        steps = [lambda x, side, k=k: (x, x[:, k], None) for k in range(4)]
        return run_early_exit(steps, some, stream).exit

    spoilt, stream = logits[:3].clone(), held.begin()
    spoilt[1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="exit 1 gave NaN"):
        exits(stream, spoilt)
    np.testing.assert_array_equal(exits(stream, logits), exits(held.begin(), logits))


def test_it_is_kept_as_json_and_fitted_again(tmp_path: Path) -> None:
    policy = dx.fit_policy(CALIBRATION, risk="too_early", epsilon=0.2)
    held = hold_budget(policy, CALIBRATION, window=50)
    assert "certificate" in policy.fitted and "certificate" not in held.fitted  # the risk is not bounded
    held.save(tmp_path / "policy.json")
    again = dx.load_policy(tmp_path / "policy.json")
    assert again == held and isinstance(again, RunningPolicy) and again.window == 50 and not held.sweeps
    other = make_record(2000, 4, 5, seed=5)
    assert fit_again(held, other) == hold_budget(fit_again(policy, other), other, window=50)


def test_what_is_held_is_evaluated_as_any_policy() -> None:
    run = dx.load_run("fashion")
    policy = dx.fit_policy(run.record("calibration"), risk="too_early", epsilon=0.05)
    held = hold_budget(policy, run.record("calibration"))
    (row,) = dx.evaluate_runs(["fashion"], held, against="fashion-naive")
    assert row["policy"] == "running" and "certificate" not in row and "note" not in row
    (base,) = dx.evaluate_runs(["fashion"], policy, against="fashion-naive")
    assert row["against"]["accuracy"] == base["against"]["accuracy"]
    assert held.unavailable_reason(run.record("test")) is None
    assert dx.fit_run_policy(run, held, dx.Target.full_depth()).name == "confidence"
