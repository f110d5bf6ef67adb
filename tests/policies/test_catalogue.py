"""Every policy of the catalogue against a naive loop; their laws; their JSON; what each tells of itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_laws import check_laws
from synthetic import DEPLOYABLE, make_record, naive_draw, ready_policy, record_from_logits

from dmpo_explore.analysis.sliders import slider_counts
from dmpo_explore.fitting.fit import fit_policy, sweep
from dmpo_explore.policies import base
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.catalogue import POLICIES, load_policy, policy_from_dict, read_policies, write_policies
from dmpo_explore.policies.rules import (
    ConfidencePolicy,
    EntropyPolicy,
    MarginPolicy,
    OraclePolicy,
    PatiencePolicy,
    RandomPolicy,
)
from dmpo_explore.policies.running import hold_budget
from dmpo_explore.records.record import ExitRecord

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
            exits_here = agreed >= threshold
        elif policy.name == "patience+confidence":
            exits_here = 1 - (1 - record.confidence[i, k]) / np.float32(2**agreed) >= np.float32(threshold)
        elif policy.name == "fixed":
            exits_here = k + 1 >= threshold
        elif policy.name == "random":
            exits_here = RandomPolicy.threshold_all >= threshold >= naive_draw(i, k)
        elif policy.name == "entropy":
            exits_here = record.entropy[i, k] <= np.float32(threshold)
        elif policy.name == "budgeted":
            table = np.array(policy.learned).reshape(len(policy.learned), -1)
            exits_here = record.confidence[i, k] >= np.float32(np.interp(threshold, table[:, 0], table[:, k + 1]))
        elif policy.name == "gate":
            exits_here = naive_gate(policy.learned[k], record, i, k, agreed) >= threshold
        else:
            exits_here = record.score(policy.name)[i, k] >= np.float32(threshold)
        if exits_here:
            return k
    return last


def naive_gate(weights: tuple[float, ...], record: ExitRecord, i: int, k: int, agreed: int) -> float:
    """In double precision."""

    def odds(j: int) -> float:
        c = min(max(float(record.confidence[i, j]), 1e-3), 1 - 1e-3)
        return math.log(c / (1 - c))

    before = (odds(k - 1), float(record.margin[i, k - 1])) if k else (0.0, 0.0)
    features = (odds(k), float(record.entropy[i, k]), float(record.margin[i, k]), agreed, *before)
    total = sum(w * f for w, f in zip(weights[:-1], features, strict=True)) + weights[-1]
    return 1 / (1 + math.exp(-total))


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


@given(st.data(), st.integers(0, 999), st.integers(1, 6))
def test_the_size_of_a_block_does_not_matter(data: st.DataObject, seed: int, n_exits: int) -> None:
    record, policy = make_record(30, n_exits, 3, seed), data.draw(policies(n_exits))
    whole = policy.exits(record)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "BLOCK", 7)
        assert np.array_equal(policy.exits(record), whole) and whole.dtype == np.int64


@pytest.mark.slow
@given(st.data(), st.integers(0, 999), st.integers(2, 6))
def test_torch_decides_as_numpy_and_rows_may_exit(data: st.DataObject, seed: int, n_exits: int) -> None:
    """As the live engine does it: the rows that exited are dropped from scores and state."""
    record = make_record(30, n_exits, 3, seed)
    policy = data.draw(policies(n_exits))
    rows = torch.arange(record.n_images)
    exits = torch.zeros(record.n_images, dtype=torch.int64)
    state = policy.start(record.n_images, rows)
    for k in range(n_exits):
        columns = {name: torch.from_numpy(record.score(name)[:, k].copy())[rows] for name in policy.reads}
        exiting, state = policy.decide(k, columns, state)
        assert exiting.dtype == torch.bool
        stay = ~exiting if k < n_exits - 1 else torch.zeros_like(exiting)
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


def test_policies_compare_by_rule() -> None:
    assert ConfidencePolicy((0.5,), {"a": 1}) == ConfidencePolicy((0.5,)) != MarginPolicy((0.5,))
    with pytest.raises(AttributeError):
        ConfidencePolicy((0.5,)).thresholds = (0.6,)  # type: ignore[misc]


def test_files_that_are_no_policies(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"p\.json"):
        load_policy(tmp_path / "p.json")
    (tmp_path / "p.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"p\.json must hold a JSON object"):
        read_policies(tmp_path / "p.json")


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


def test_without_logits_temperatures_change_no_answers() -> None:
    bare = make_record(10, 3, 4, with_logits=False)
    assert PatiencePolicy((1,), temperatures=(1.0, 2.0, 3.0)).exits(bare).shape == (10,)


def test_a_change_of_the_values_leaves_the_policy_as_it_is() -> None:
    policy = ConfidencePolicy((0.5,), {"target": {"flops": 0.3}})
    policy.to_dict()["fitted"]["target"]["flops"] = 0.9
    assert policy.fitted == {"target": {"flops": 0.3}}


def test_what_was_saved_before_there_were_temperatures_still_loads() -> None:
    old = {"policy": "confidence", "thresholds": [0.73], "fitted": {"split": "val"}}
    policy = policy_from_dict(old)
    assert (policy.temperatures, policy.learned) == ((), ()) and policy.to_dict() == old


# -- one list --


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_every_policy_keeps_the_laws(name: str) -> None:
    check_laws(name)


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_explains_itself(name: str) -> None:
    kind = POLICIES[name]
    assert kind.name == name and kind.rule.startswith("Exit ") and kind.rule.endswith(".")
    assert kind.deployable is (name != "oracle") and kind.learns is (name in ("gate", "budgeted"))
    assert kind.rule.count("{}") == 1 and kind.rule.format("0.5") != kind.rule
    assert kind.summary and not kind.summary.endswith(".") and set(kind.reads)
    assert kind.compares and not kind.compares.endswith(".") and kind.unit in ("%", "nats", "")


# -- what is refused --

BAD_THRESHOLDS: list[tuple[str, Any]] = [
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
]
BAD_TEMPERATURES: list[Any] = [0, -1.0, float("nan"), float("inf"), "hot", True]


def of_file(running: object) -> Policy:
    """A policy that keeps its shares, from a file."""
    return policy_from_dict({"policy": "confidence", "thresholds": [0.5], "running": running})


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        *((partial(POLICIES[name], (bad,)), f"threshold={bad!r}") for name, bad in BAD_THRESHOLDS),
        *(
            (partial(ConfidencePolicy, (0.5,), temperatures=(bad,)), "must be a positive number")
            for bad in BAD_TEMPERATURES
        ),
        (
            lambda: ConfidencePolicy((0.5,), temperatures=(1.0,) * 3).exits(make_record(9, 3, with_logits=False)),
            "temperatures, which need logits; .*`dmpo-explore record RUN --force`",
        ),
        (
            lambda: ConfidencePolicy((0.5,), temperatures=(1.0, 2.0)).exits(make_record(9, 3)),
            "has 2 temperatures for 3 exits",
        ),
        (lambda: ConfidencePolicy((0.1, 0.2, 0.3)).exits(make_record(9, 3)), "has 3 thresholds; 3 exits need 1 or 2"),
        (
            lambda: OraclePolicy((2,)).decide(0, {"prediction": np.zeros(2, np.int32)}, ()),
            "'oracle' reads the labels: it is a bound .* use another one, e.g. confidence",
        ),
        *(
            (partial(policy.exits, make_record(9, 4, 3)), f"{name!r} has not been fitted for 4 exits; make it with fit")
            for name in ("gate", "budgeted")
            for policy in (POLICIES[name]((0.5,)), ready_policy(name, 0.5, 3, 3))
        ),
        (
            lambda: sweep(make_record(99, 3), fit_policy(make_record(99, 3), "budgeted", shares=(0.5, 0.3, 0.2))),
            "no single share to move",
        ),
        (lambda: of_file([]), "running must be an object"),
        (lambda: of_file({"shares": [0.5]}), "shares and window"),
        (lambda: of_file({"shares": [2.0], "window": 5}), "must be numbers in"),
        (lambda: of_file({"shares": ["a"], "window": 5}), "a list of numbers"),
        (lambda: of_file({"shares": [0.5], "window": 0}), "at least 1 image"),
        (lambda: of_file({"shares": [0.5], "window": 1.5}), "a whole number"),
        (lambda: hold_budget(PatiencePolicy((1,)), make_record(99)), "'patience' compares no score"),
        (lambda: hold_budget(OraclePolicy((1,)), make_record(99)), "reads the labels"),
        (lambda: hold_budget(ConfidencePolicy((0.5,)), make_record(99)).check(3), "has 3 shares; 3 exits need 2"),
        (
            lambda: slider_counts(make_record(99), hold_budget(ConfidencePolicy((0.5,)), make_record(99))),
            "move the threshold of that",
        ),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
