"""Policies against naive loops written from their definitions; their laws; their JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import DEPLOYABLE, make_record, ready_policy, record_from_logits

from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.catalogue import POLICIES, load_policy, policy_from_dict, read_policies, write_policies
from dmpo_explore.policies.controls import FixedPolicy, OraclePolicy, RandomPolicy
from dmpo_explore.policies.learned import BudgetedPolicy, GatePolicy
from dmpo_explore.policies.rules import ConfidencePolicy, EntropyPolicy, MarginPolicy, PatiencePolicy
from dmpo_explore.records.record import ExitRecord

SCORED = ("confidence", "entropy", "margin")
COUNTED = ("patience", "fixed", "oracle")


@st.composite
def policies(draw: st.DrawFn, n_exits: int) -> Policy:
    """Any deployable policy for ``n_exits`` exits, one threshold or one per exit."""
    name = draw(st.sampled_from(DEPLOYABLE))
    number = 1 if name == "budgeted" else draw(st.sampled_from(sorted({1, max(n_exits - 1, 1)})))
    one = st.integers(1, 5) if name in COUNTED else st.floats(0, 1.5 if name == "entropy" else 1)
    thresholds = tuple(draw(one) for _ in range(number))
    return replace(ready_policy(name, thresholds[0], n_exits, 3), thresholds=thresholds)


def naive_exit(policy: Policy, record: ExitRecord, i: int) -> int:
    """Straight from the definitions, image by image."""
    last = record.n_exits - 1
    for k in range(last):
        threshold = policy.thresholds[k] if len(policy.thresholds) > 1 else policy.thresholds[0]
        agreed = 0  # exits in a row, the last of them k, that repeat the answer before them
        while agreed < k and record.prediction[i, k - agreed] == record.prediction[i, k - agreed - 1]:
            agreed += 1
        if policy.name == "patience":
            leaves = agreed >= threshold
        elif policy.name == "patience+confidence":
            leaves = 1 - (1 - record.confidence[i, k]) / np.float32(2**agreed) >= np.float32(threshold)
        elif policy.name == "fixed":
            leaves = k + 1 >= threshold
        elif policy.name == "random":
            leaves = RandomPolicy.threshold_all >= threshold >= naive_draw(i, k)
        elif policy.name == "entropy":
            leaves = record.entropy[i, k] <= np.float32(threshold)
        elif policy.name == "budgeted":
            table = np.array(policy.learned).reshape(len(policy.learned), -1)
            leaves = record.confidence[i, k] >= np.float32(np.interp(threshold, table[:, 0], table[:, k + 1]))
        elif policy.name == "gate":
            leaves = naive_gate(policy.learned[k], record, i, k, agreed) >= threshold
        else:
            leaves = record.score(policy.name)[i, k] >= np.float32(threshold)
        if leaves:
            return k
    return last


def naive_draw(row: int, exit: int) -> float:
    """In Python's integers."""
    x = (row * 64 + exit + 1) % 2**32
    for _ in range(3):
        x = ((x >> 16) ^ x) * 0x45D9F3B % 2**32
    return ((x >> 9) + 0.5) / 2**23


def naive_gate(weights: tuple[float, ...], record: ExitRecord, i: int, k: int, agreed: int) -> float:
    """In double precision."""

    def odds(j: int) -> float:
        c = min(max(float(record.confidence[i, j]), 1e-3), 1 - 1e-3)
        return math.log(c / (1 - c))

    before = (odds(k - 1), float(record.margin[i, k - 1])) if k else (0.0, 0.0)
    features = (odds(k), float(record.entropy[i, k]), float(record.margin[i, k]), agreed, *before)
    total = sum(w * f for w, f in zip(weights[:-1], features, strict=True)) + weights[-1]
    return 1 / (1 + math.exp(-total))


def pabee_exit(says: list[int], patience: int) -> int:
    """Zhou et al. 2020, algorithm for classification, word for word: a counter that grows or is set back to zero."""
    counter, previous = 0, None
    for layer, prediction in enumerate(says):
        counter = counter + 1 if prediction == previous else 0
        if counter == patience:
            return layer
        previous = prediction
    return len(says) - 1


def first_exits(record: ExitRecord, n_exits: int) -> ExitRecord:
    """The record without its later exits."""
    assert record.logits is not None
    meta = {"exits": record.meta.exit_blocks[:n_exits], "flops": record.meta.flops[:n_exits]}
    return record_from_logits(record.logits[:, :n_exits], record.labels, **meta)


@given(st.data(), st.integers(0, 999), st.integers(1, 6))
def test_all_images_at_once_equal_a_naive_loop(data: st.DataObject, seed: int, n_exits: int) -> None:
    record = make_record(30, n_exits, 3, seed)
    policy = data.draw(policies(n_exits))
    assert policy.exits(record).tolist() == [naive_exit(policy, record, i) for i in range(record.n_images)]


@given(st.data(), st.integers(0, 999), st.integers(2, 6))
def test_torch_decides_as_numpy_and_rows_may_leave(data: st.DataObject, seed: int, n_exits: int) -> None:
    """As the live engine does it: the rows that left are dropped from scores and state."""
    record = make_record(30, n_exits, 3, seed)
    policy = data.draw(policies(n_exits))
    rows = torch.arange(record.n_images)
    exits = torch.zeros(record.n_images, dtype=torch.int64)
    state = policy.start(record.n_images, rows)
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
    """Fitted for one exit more, it decides the same at the exits before: nothing to come takes part."""
    long = first_exits(make_record(40, n_exits + 1, 3, seed), n_exits + 1)  # both from logits as a record keeps them
    longer = data.draw(policies(n_exits + 1))
    thresholds = longer.thresholds if len(longer.thresholds) == 1 else longer.thresholds[:-1]
    learned = tuple(row[:-1] for row in longer.learned) if longer.name == "budgeted" else longer.learned[:-1]
    policy = replace(longer, thresholds=thresholds, learned=learned)
    short_exits, long_exits = policy.exits(first_exits(long, n_exits)), longer.exits(long)
    early = short_exits < n_exits - 1
    np.testing.assert_array_equal(short_exits[early], long_exits[early])
    assert (long_exits[~early] >= n_exits - 1).all()


@given(st.sampled_from(DEPLOYABLE), st.integers(0, 999), st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_threshold_lets_no_image_leave_earlier(name: str, seed: int, a: float, b: float) -> None:
    low, high = sorted((a, b))
    if name == "budgeted":  # levels of later exits may fall as a larger share gets there
        return
    if name in COUNTED:
        low, high = round(low * 4) + 1, round(high * 4) + 1
    record = make_record(40, 5, 3, seed)
    lower, higher = (ready_policy(name, t, 5, 3).exits(record) for t in (low, high))
    assert (lower >= higher).all() if name in ("entropy", "random") else (lower <= higher).all()


@given(st.lists(st.lists(st.integers(0, 2), min_size=5, max_size=5), min_size=1, max_size=20), st.integers(0, 6))
def test_patience_is_pabee(says: list[list[int]], patience: int) -> None:
    record = record_from_logits(np.eye(3)[np.array(says)], [0] * len(says))
    expected = [pabee_exit(row, patience) for row in says]
    assert PatiencePolicy((patience,)).exits(record).tolist() == expected


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
    """For them nothing need be learned."""
    record, policy = make_record(50, 3, 4), POLICIES[name]
    assert (policy((policy.threshold_all,)).exits(record) == 0).all() or name == "oracle"
    assert (policy((policy.threshold_none,)).exits(record) == 2).all()
    assert (OraclePolicy((1,)).exits(record) == 0).all()


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
    again = policy_from_dict(json.loads(json.dumps(policy.to_dict())))
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
    loaded = load_policy(tmp_path / "policy.json")
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
        ("fixed", 0),
        ("oracle", 0),
        ("oracle", 1.5),
        ("random", 1.5),
        ("budgeted", -0.1),
        ("budgeted", "half"),
        ("gate", 2),
        ("patience+confidence", 2),
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
        ({"policy": "confidence", "thresholds": [0.5], "temperatures": 2}, "temperatures must be a list of numbers"),
        ({"policy": "confidence", "thresholds": [0.5], "temperatures": [0.0]}, "temperature 0.0 must be a positive"),
        ({"policy": "gate", "thresholds": [0.5], "learned": [1.0]}, "learned a list of such lists"),
        ({"policy": "gate", "thresholds": [0.5], "learned": [["a"]]}, "learned a list of such lists"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, values: Any, message: str) -> None:
    (tmp_path / "p.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        load_policy(tmp_path / "p.json")
    (tmp_path / "all.json").write_text(json.dumps({"mine": values}))
    with pytest.raises(ValueError, match=message):
        read_policies(tmp_path / "all.json")


def test_files_that_are_no_policies(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"p\.json"):
        load_policy(tmp_path / "p.json")
    (tmp_path / "p.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"p\.json must hold a JSON object"):
        read_policies(tmp_path / "p.json")


# -- controls, bounds, learned rules --


def test_the_oracle_is_the_best_that_can_be() -> None:
    """Against every choice of exits for a few images: none of the same or less cost is right more often."""
    record = make_record(5, 3, 4, seed=3)
    rows, choices = np.arange(5), np.array(np.meshgrid(*[range(3)] * 5)).reshape(5, -1).T
    right = record.correct[rows, choices].sum(axis=1)
    cost = record.flops_fraction[choices].mean(axis=1)
    for threshold in (1, 2, 3):
        exits = OraclePolicy((threshold,)).exits(record)
        mine, price = record.correct[rows, exits].sum(), record.flops_fraction[exits].mean()
        assert mine == right[cost <= price + 1e-12].max()
    assert mine == record.correct.any(axis=1).sum()


def test_the_oracle_cannot_decide_about_images() -> None:
    oracle = OraclePolicy((2,))
    with pytest.raises(
        ValueError, match="'oracle' reads the labels: it is a bound .* use another one, e.g. confidence"
    ):
        oracle.decide(0, {"prediction": np.zeros(2, np.int32)}, ())
    assert [name for name, kind in POLICIES.items() if not kind.deployable] == ["oracle"]


def test_chance_is_even_independent_and_the_same_everywhere() -> None:
    record = make_record(4000, 5, 3)
    exits = RandomPolicy((0.3,)).exits(record)
    counts = np.bincount(exits, minlength=5)
    expected = 4000 * np.array([0.3, 0.21, 0.147, 0.1029, 0.2401])
    assert np.abs(counts - expected).max() < 3 * np.sqrt(4000 * 0.25)
    assert RandomPolicy((0.3,)).exits(record).tolist() == exits.tolist()
    draws = RandomPolicy((0.3,)).values(record)
    assert draws.dtype == np.float32 and draws.min() > 0 and draws.max() < 1
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.06
    assert draws.ravel()[::777].tolist() == [naive_draw(*divmod(i, 4)) for i in range(0, 16000, 777)]


def test_a_fixed_exit_is_the_model_that_ends_there() -> None:
    record = make_record(20, 4, 3)
    assert [set(FixedPolicy((k,)).exits(record)) for k in (1, 2, 4, 9)] == [{0}, {1}, {3}, {3}]


@pytest.mark.parametrize("name", ["gate", "budgeted"])
def test_what_has_to_learn_says_so(name: str) -> None:
    kind = POLICIES[name]
    assert kind.learns and [n for n, k in POLICIES.items() if k.learns] == ["gate", "budgeted"]
    with pytest.raises(
        ValueError, match=f"{name!r} has not learned what it needs for 4 exits; make it with fit_policy"
    ):
        kind((0.5,)).exits(make_record(10, 4, 3))
    ready = ready_policy(name, 0.5, 3, 3)
    with pytest.raises(ValueError, match="has not learned what it needs for 4 exits"):
        ready.exits(make_record(10, 4, 3))
    assert policy_from_dict(json.loads(json.dumps(ready.to_dict()))) == ready


def test_budgeted_sends_shares_on() -> None:
    """On the record that it learned from, ties aside, exactly; between learned shares, nearly."""
    record = make_record(1000, 4, 10, seed=1)
    from dmpo_explore.policies.catalogue import learned_policy

    policy = learned_policy(record, "budgeted")
    assert isinstance(policy, BudgetedPolicy)
    for share in (0.2, 0.5, 0.86, 0.33):
        counts = np.bincount(replace(policy, thresholds=(share,)).exits(record), minlength=4)
        there = 1000 - np.append(0, np.cumsum(counts)[:-1])
        assert (1 - counts / there)[:3] == pytest.approx([share] * 3, abs=0.006 if share != 0.33 else 0.03)


def test_a_gate_without_weights_for_an_exit_is_undecided() -> None:
    gate = GatePolicy((0.0,))
    values = gate.values(make_record(5, 3, 4))
    assert values.tolist() == [[0.5, 0.5]] * 5


# -- temperatures --


@given(st.sampled_from(DEPLOYABLE), st.integers(0, 99))
def test_temperatures_soften_what_is_read(name: str, seed: int) -> None:
    """The same as the policy without them on logits that were divided beforehand."""
    temperatures = (2.0, 0.5, 1.0, 3.0)
    record = make_record(40, 4, 3, seed)
    assert record.logits is not None
    threshold = 2 if name in COUNTED else 0.7
    policy = replace(ready_policy(name, threshold, 4, 3), temperatures=temperatures)
    softened = record.logits.astype(np.float32) / np.array(temperatures, np.float32)[:, None]
    plain = record_from_logits(softened, record.labels)
    plain = replace(plain, prediction=record.prediction)
    assert policy.exits(record).tolist() == replace(policy, temperatures=()).exits(plain).tolist()
    again = policy_from_dict(json.loads(json.dumps(policy.to_dict())))
    assert again == policy != replace(policy, temperatures=())


def test_temperatures_need_logits_and_one_number_per_exit() -> None:
    bare = make_record(10, 3, 4, with_logits=False)
    policy = ConfidencePolicy((0.5,), temperatures=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match=r"temperatures, which need logits; .*record it again"):
        policy.exits(bare)
    assert PatiencePolicy((1,), temperatures=(1.0, 2.0, 3.0)).exits(bare).shape == (10,)  # answers do not change
    with pytest.raises(ValueError, match="has 2 temperatures for 3 exits"):
        ConfidencePolicy((0.5,), temperatures=(1.0, 2.0)).exits(make_record(10, 3, 4))
    for bad in (0, -1.0, float("nan"), float("inf"), "hot", True):
        with pytest.raises(ValueError, match="must be a positive number"):
            ConfidencePolicy((0.5,), temperatures=(bad,))  # type: ignore[arg-type]


def test_what_was_saved_before_there_were_temperatures_still_loads() -> None:
    old = {"policy": "confidence", "thresholds": [0.73], "fitted": {"split": "val"}}
    policy = policy_from_dict(old)
    assert (policy.temperatures, policy.learned) == ((), ()) and policy.to_dict() == old


# -- one list --


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_explains_itself(name: str) -> None:
    kind = POLICIES[name]
    assert kind.name == name and kind.rule.startswith("Exit ") and kind.rule.endswith(".")
    assert kind.rule.count("{}") == 1 and kind.rule.format("0.5") != kind.rule
    assert kind.summary and not kind.summary.endswith(".") and set(kind.reads)
    assert kind.compares and not kind.compares.endswith(".") and kind.unit in ("%", "nats", "")
