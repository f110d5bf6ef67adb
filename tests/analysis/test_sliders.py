"""What the browser draws while the thumb moves is what the library would say at every stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import DEPLOYABLE, make_record, policy_of

import dmpo_explore as dx
from dmpo_explore.analysis import sliders
from dmpo_explore.analysis.sliders import counts_of, exit_limits, exits_at, slider_counts
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.ranking import ScorePolicy

SCORES = [name for name in DEPLOYABLE if issubclass(POLICIES[name], ScorePolicy)]


@pytest.mark.parametrize("name", SCORES)
def test_an_exits_stops_go_from_all_to_none(name: str) -> None:
    record = make_record(300, 4, 5, seed=3, with_logits=False, split="test")
    policy = policy_of(name, record.n_exits)
    found = sliders.positions_of_exits(record, policy)
    assert len(found) == 3
    for stops in found:
        assert (stops[0], stops[-1]) == (policy.threshold_all, policy.threshold_none)
        assert stops == sorted(set(stops), reverse=policy.falling) and len(stops) <= sliders.STOPS + 2  # type: ignore[attr-defined]
    leaving = [(replace(policy, thresholds=(s,)).exits(record) == 0).sum() for s in found[0]]
    assert leaving == sorted(leaving, reverse=True) and (leaving[0], leaving[-1]) == (300, 0)


# -- all of a slider --


@pytest.mark.parametrize("name", DEPLOYABLE)
@given(st.integers(0, 100), st.integers(1, 60), st.integers(2, 6), st.sampled_from([None, 2]))
@settings(max_examples=10)
def test_a_single_slider_counts_what_the_policy_does_at_every_position(
    name: str, seed: int, images: int, n_exits: int, label: int | None
) -> None:
    record = make_record(images, n_exits, 5, seed=seed, with_logits=False, split="test")
    own = POLICIES[name].threshold_all if POLICIES[name].settings(n_exits) else 0.613
    policy = replace(policy_of(name, n_exits), thresholds=(own,))
    found = slider_counts(record, policy, label=label, points=20)
    (slider,) = found.sliders
    assert found.thresholds == policy.thresholds and found.single is slider and found.label == label
    assert slider.counts[slider.position].tolist() == counts_of(record, policy.exits(record)).tolist()
    rows = record.labels == 2
    for g, threshold in enumerate(slider.thresholds):
        other = replace(policy, thresholds=(threshold,))
        assert slider.counts[g].tolist() == counts_of(record, other.exits(record)).tolist()
        if label is not None:
            assert slider.class_counts is not None
            assert slider.class_counts[g].tolist() == counts_of(record.subset(rows), other.exits(record)[rows]).tolist()
    assert (slider.class_counts is None) is (label is None)
    flops, accuracy = slider.curve(record.flops_fraction)
    assert (np.diff(flops) >= -1e-9).all()  # from all images at exit 1 to none early
    summary = dx.apply(policy, record).summary()
    assert flops[slider.position] == pytest.approx(summary["flops_fraction"])
    assert accuracy[slider.position] == pytest.approx(summary["accuracy"])


@pytest.mark.parametrize("name", SCORES)
@given(seed=st.integers(0, 100), images=st.integers(1, 60), n_exits=st.integers(3, 6), data=st.data())
@settings(max_examples=10)
def test_several_sliders_move_one_threshold_each(
    name: str, seed: int, images: int, n_exits: int, data: st.DataObject
) -> None:
    record = make_record(images, n_exits, 5, seed=seed, with_logits=False, split="test")
    stops = sliders.positions_of_exits(record, policy_of(name, n_exits))
    own = tuple(data.draw(st.sampled_from(places)) for places in stops)
    policy = replace(policy_of(name, n_exits), thresholds=own)
    found = slider_counts(record, policy, label=1)
    assert len(found.sliders) == n_exits - 1 and found.thresholds == policy.thresholds and found.single is found.rule
    rows = record.labels == 1
    for k, slider in enumerate(found.sliders):
        assert slider.class_counts is not None and (slider.counts.sum(axis=1) == images).all()
        for g in range(0, len(slider.thresholds), 7):
            other = replace(policy, thresholds=(*own[:k], slider.thresholds[g], *own[k + 1 :]))
            assert slider.counts[g].tolist() == counts_of(record, other.exits(record)).tolist()
            assert slider.class_counts[g].tolist() == counts_of(record.subset(rows), other.exits(record)[rows]).tolist()


def test_positions_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(150, 4, 5, seed=7, with_logits=False, split="test")
    before, after = (policy_of("confidence", 4), replace(policy_of("confidence", 4), thresholds=(0.7, 0.6, 0.55)))
    seen = slider_counts(record, before, label=1)
    fresh = {(one, label): slider_counts(record, one, label=label) for one in (before, after) for label in (None, 1, 3)}
    monkeypatch.setattr(sliders, "trade_off", None)  # nothing is swept again
    for (policy, label), expected in fresh.items():
        again = slider_counts(record, policy, label=label, earlier=seen)
        assert again.label == label and again.thresholds == expected.thresholds
        for mine, theirs in zip((*again.sliders, again.single), (*expected.sliders, expected.single), strict=True):
            assert mine.thresholds == theirs.thresholds and mine.position == theirs.position
            np.testing.assert_array_equal(mine.counts, theirs.counts)
            np.testing.assert_array_equal(mine.class_counts, theirs.class_counts)


def test_a_single_exit_has_no_slider() -> None:
    record = make_record(50, 1, 5, with_logits=False, split="test")
    found = slider_counts(record, dx.fit_policy(record, threshold=0.5))
    assert found.sliders == () and found.thresholds == () and found.single.counts.shape == (1, 2)


def test_thresholds_of_another_record_are_refused() -> None:
    record = make_record(50, 3, 5, with_logits=False, split="test")
    with pytest.raises(ValueError, match="3 thresholds; 3 exits need 1 or 2"):
        slider_counts(record, replace(policy_of("confidence", 4), thresholds=(0.5, 0.5, 0.5)))


@pytest.mark.parametrize("name", DEPLOYABLE)
@pytest.mark.parametrize("n_exits", [1, 2, 5])
def test_a_limit_tells_the_exit_at_every_position(name: str, n_exits: int) -> None:
    record = make_record(80, n_exits, 5, seed=n_exits, with_logits=False, split="test")
    policy = policy_of(name, n_exits)
    stops = slider_counts(record, policy).single.thresholds
    limits, wanted = exit_limits(record, policy, [stops]), exits_at(record, policy, stops)
    if limits is None:
        assert (np.diff(wanted.astype(int), axis=0) < 0).any()
        return
    for place, exits in enumerate(wanted):
        assert (place >= limits).sum(axis=1).tolist() == exits.tolist()


@pytest.mark.parametrize("name", ["confidence", "entropy", "margin"])
def test_limits_of_a_slider_for_every_exit(name: str) -> None:
    record = make_record(80, 4, 5, seed=1, with_logits=False, split="test")
    policy = policy_of(name, 4)
    policy = replace(policy, thresholds=policy.thresholds * 3)
    sliders = slider_counts(record, policy).sliders
    limits = exit_limits(record, policy, [slider.thresholds for slider in sliders])
    assert limits is not None
    rng = np.random.default_rng(0)
    for _ in range(20):
        places = [int(rng.integers(len(slider.thresholds))) for slider in sliders]
        own = replace(policy, thresholds=tuple(s.thresholds[p] for s, p in zip(sliders, places, strict=True)))
        stays = np.asarray(places) >= limits
        exits = np.where(stays.all(axis=1), 3, np.argmin(stays, axis=1))
        assert exits.tolist() == own.exits(record).tolist()


def test_more_exits_than_a_byte_counts() -> None:
    record = make_record(6, 300, 2, with_logits=False, split="test")
    (exits,) = exits_at(record, dx.POLICIES["confidence"]((0.5,)), [1.01])
    assert exits.tolist() == [299] * 6
