"""Policies against a naive loop; their laws; their JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_record, record_from_logits

from dmpo_explore.policy import (
    POLICIES,
    ConfidencePolicy,
    EntropyPolicy,
    MarginPolicy,
    PatiencePolicy,
    Policy,
    read_policies,
    write_policies,
)
from dmpo_explore.record import ExitRecord

SCORED = ("confidence", "entropy", "margin")


@st.composite
def policies(draw: st.DrawFn, n_exits: int) -> Policy:
    """Any policy for ``n_exits`` exits, one threshold or one per exit."""
    name = draw(st.sampled_from(sorted(POLICIES)))
    number = draw(st.sampled_from(sorted({1, max(n_exits - 1, 1)})))
    one = st.integers(0, 5) if name == "patience" else st.floats(0, 1.5 if name == "entropy" else 1)
    return POLICIES[name](tuple(draw(one) for _ in range(number)))


def naive_exit(policy: Policy, record: ExitRecord, i: int) -> int:
    """Straight from the definitions, image by image."""
    last = record.n_exits - 1
    for k in range(last):
        threshold = policy.thresholds[k] if len(policy.thresholds) > 1 else policy.thresholds[0]
        if policy.name == "patience":
            agreed = 0
            while agreed < k and record.prediction[i, k - agreed] == record.prediction[i, k - agreed - 1]:
                agreed += 1
            leaves = agreed >= threshold
        elif policy.name == "entropy":
            leaves = record.entropy[i, k] <= np.float32(threshold)
        else:
            leaves = record.score(policy.name)[i, k] >= np.float32(threshold)
        if leaves:
            return k
    return last


def first_exits(record: ExitRecord, n_exits: int) -> ExitRecord:
    """The record without its later exits."""
    assert record.logits is not None
    meta = {"exits": record.meta.exits[:n_exits], "flops": record.meta.flops[:n_exits]}
    return record_from_logits(record.logits[:, :n_exits], record.labels, **meta)


@given(st.data(), st.integers(0, 999), st.integers(1, 6))
def test_all_images_at_once_equal_a_naive_loop(data: st.DataObject, seed: int, n_exits: int) -> None:
    record = make_record(30, n_exits, 3, seed)
    policy = data.draw(policies(n_exits))
    assert policy.exits(record).tolist() == [naive_exit(policy, record, i) for i in range(record.images)]


@given(st.data(), st.integers(0, 999), st.integers(2, 6))
def test_torch_decides_as_numpy_and_rows_may_leave(data: st.DataObject, seed: int, n_exits: int) -> None:
    """As the live engine does it: the rows that left are dropped from scores and state."""
    record = make_record(30, n_exits, 3, seed)
    policy = data.draw(policies(n_exits))
    rows = torch.arange(record.images)
    exits = torch.zeros(record.images, dtype=torch.int64)
    state = policy.start(record.images, rows)
    for k in range(n_exits):
        columns = {name: torch.from_numpy(record.score(name)[:, k].copy())[rows] for name in policy.reads}
        leave, state = policy.decide(k, columns, state)
        assert leave.dtype == torch.bool
        stay = ~leave if k < n_exits - 1 else torch.zeros_like(leave)
        exits[rows[~stay]] = k
        rows, state = rows[stay], tuple(s[stay] for s in state)
    assert exits.tolist() == policy.exits(record).tolist()


@given(st.data(), st.integers(0, 999), st.integers(2, 5))
def test_a_policy_reads_only_the_prefix(data: st.DataObject, seed: int, n_exits: int) -> None:
    long = make_record(40, n_exits + 1, 3, seed)
    policy = data.draw(policies(n_exits))
    one = len(policy.thresholds) == 1
    longer = policy if one else type(policy)((*policy.thresholds, policy.thresholds[0]))
    short_exits, long_exits = policy.exits(first_exits(long, n_exits)), longer.exits(long)
    early = short_exits < n_exits - 1
    np.testing.assert_array_equal(short_exits[early], long_exits[early])
    assert (long_exits[~early] >= n_exits - 1).all()


@given(st.sampled_from([*SCORED, "patience"]), st.integers(0, 999), st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_threshold_lets_no_image_leave_earlier(name: str, seed: int, a: float, b: float) -> None:
    low, high = sorted((a, b))
    if name == "patience":
        low, high = round(low * 5), round(high * 5)
    record = make_record(40, 5, 3, seed)
    lower, higher = (POLICIES[name]((t,)).exits(record) for t in (low, high))
    assert (lower >= higher).all() if name == "entropy" else (lower <= higher).all()


def test_patience_t_needs_t_plus_1_agreeing_exits() -> None:
    says = [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1], [0, 1, 0, 0, 0, 1], [0, 1, 0, 1, 0, 1]]
    record = record_from_logits(np.eye(2)[np.array(says)], [0] * 4)
    found = {t: PatiencePolicy((t,)).exits(record).tolist() for t in range(7)}
    assert found[0] == [0, 0, 0, 0]
    assert found[1] == [1, 2, 3, 5]
    assert found[2] == [2, 3, 4, 5]
    assert found[3] == [3, 4, 5, 5]
    assert found[6] == [5, 5, 5, 5]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_ends_of_a_threshold(name: str) -> None:
    record, policy = make_record(50, 3, 4), POLICIES[name]
    assert (policy((policy.everybody,)).exits(record) == 0).all()
    assert (policy((policy.nobody,)).exits(record) == 2).all()


def test_a_score_on_the_threshold_leaves() -> None:
    record = record_from_logits(np.log([[[0.75, 0.25]] * 2]), [0])
    for policy, score in (
        (ConfidencePolicy, record.confidence),
        (MarginPolicy, record.margin),
        (EntropyPolicy, record.entropy),
    ):
        at = float(score[0, 0])
        beyond = np.nextafter(score[0, 0], np.float32(0 if policy is EntropyPolicy else 1))
        assert policy((at,)).exits(record).tolist() == [0]
        assert policy((float(beyond),)).exits(record).tolist() == [1]


@given(st.floats(0, 1), st.integers(-2, 2))
def test_thresholds_are_decided_in_float32_alike(threshold: float, steps: int) -> None:
    """However close score and threshold are, numpy and torch agree, before and after a save."""
    score = np.float32(threshold)
    for _ in range(abs(steps)):
        score = np.nextafter(score, np.float32(np.sign(steps)))
    policy = ConfidencePolicy((threshold,))
    expected = score >= np.float32(threshold)
    again = Policy.from_dict(json.loads(json.dumps(policy.to_dict())))
    for p in (policy, again):
        assert p.decide(0, {"confidence": np.array([score])}, ())[0].tolist() == [expected]
        assert p.decide(0, {"confidence": torch.tensor([score])}, ())[0].tolist() == [expected]


def test_thresholds_stay_short() -> None:
    assert ConfidencePolicy((0.9,)).thresholds == (0.9,)
    assert ConfidencePolicy((np.float32(0.9),)).thresholds == (0.9,)
    assert PatiencePolicy((2.0,)).thresholds == (2,)


def test_one_threshold_per_exit_but_the_last() -> None:
    record = make_record(60, 3, 4)
    exits = ConfidencePolicy((1.01, 0.0)).exits(record)
    assert (exits == 1).all()
    assert ConfidencePolicy((0.4, 0.6)).threshold(1) == 0.6
    assert ConfidencePolicy((0.4, 0.6)).threshold(2) == 0.0  # the last exit takes all
    with pytest.raises(ValueError, match="has 3 thresholds; 3 exits need 1 or 2"):
        ConfidencePolicy((0.1, 0.2, 0.3)).exits(record)


def test_json_round_trip(tmp_path: Path) -> None:
    policy = EntropyPolicy((0.3, 0.7), {"split": "val", "target": {"flops": 0.3}})
    policy.save(tmp_path / "policy.json")
    loaded = Policy.load(tmp_path / "policy.json")
    assert loaded == policy
    assert isinstance(loaded, EntropyPolicy)
    assert loaded.fitted == policy.fitted
    named = {"a": policy, "b": PatiencePolicy((2,))}
    write_policies(tmp_path / "policies.json", named)
    assert read_policies(tmp_path / "policies.json") == named


def test_policies_compare_by_rule() -> None:
    assert ConfidencePolicy((0.5,), {"a": 1}) == ConfidencePolicy((0.5,))
    assert ConfidencePolicy((0.5,)) != MarginPolicy((0.5,))
    with pytest.raises(AttributeError):
        ConfidencePolicy((0.5,)).thresholds = (0.6,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "threshold"),
    [
        ("confidence", 90),
        ("confidence", -0.1),
        ("confidence", float("nan")),
        ("confidence", "high"),
        ("confidence", True),
        ("margin", 1.5),
        ("entropy", -1),
        ("entropy", float("inf")),
        ("patience", -1),
        ("patience", 1.5),
        ("patience", True),
        ("patience", float("inf")),
        ("patience", float("nan")),
    ],
)
def test_a_bad_threshold_is_named(name: str, threshold: Any) -> None:
    with pytest.raises(ValueError, match=f"threshold={threshold!r}"):
        POLICIES[name]((threshold,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "must be a JSON object, not list"),
        ({}, "needs policy"),
        ({"policy": "confidence"}, "needs policy .* thresholds"),
        ({"policy": "confidence", "thresholds": 0.5}, "needs policy"),
        ({"policy": "confidence", "thresholds": []}, "at least one threshold"),
        ({"policy": "confidence", "thresholds": ["a"]}, "threshold='a'"),
        (
            {"policy": "confidance", "thresholds": [0.5]},
            "unknown policy 'confidance'. Did you mean 'confidence'.*patience",
        ),
        ({"policy": "confidence", "thresholds": [0.5], "fitted": 3}, "fitted"),
        ({"policy": "confidence", "thresholds": [0.5], "extra": 3}, "unknown key in .*extra"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, values: Any, message: str) -> None:
    (tmp_path / "p.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        Policy.load(tmp_path / "p.json")
    (tmp_path / "all.json").write_text(json.dumps({"mine": values}))
    with pytest.raises(ValueError, match=message):
        read_policies(tmp_path / "all.json")


def test_files_that_are_no_policies(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"p\.json"):
        Policy.load(tmp_path / "p.json")
    (tmp_path / "p.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"p\.json must hold a JSON object"):
        read_policies(tmp_path / "p.json")
