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
from dmpo_explore.analysis.sliders import counts_of, slider_counts
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.ranking import ScorePolicy

SCORES = [name for name in DEPLOYABLE if issubclass(POLICIES[name], ScorePolicy)]


@pytest.mark.parametrize("name", DEPLOYABLE)
@given(seed=st.integers(0, 100), images=st.integers(1, 60), n_exits=st.integers(1, 6))
@settings(max_examples=10)
def test_one_threshold_counts_as_the_policy_does(name: str, seed: int, images: int, n_exits: int) -> None:
    record = make_record(images, n_exits, 5, seed=seed, with_logits=False, split="test")
    policy = policy_of(name, record.n_exits)
    stops = dx.trade_off(record, policy, points=20)["threshold"].tolist()
    for stop, row in zip(stops, sliders.single(record, policy, stops), strict=True):
        exits = replace(policy, thresholds=(stop,)).exits(record)
        right = record.correct[np.arange(images), exits]
        assert row[::2].tolist() == np.bincount(exits[right], minlength=n_exits).tolist()
        assert row[1::2].tolist() == np.bincount(exits[~right], minlength=n_exits).tolist()


@pytest.mark.parametrize("name", SCORES)
@given(seed=st.integers(0, 100), images=st.integers(1, 60), n_exits=st.integers(3, 6), data=st.data())
@settings(max_examples=10)
def test_one_of_several_thresholds_counts_as_the_policy_does(
    name: str, seed: int, images: int, n_exits: int, data: st.DataObject
) -> None:
    record = make_record(images, n_exits, 5, seed=seed, with_logits=False, split="test")
    policy = policy_of(name, record.n_exits)
    stops = sliders.positions_of_exits(record, policy)
    own = tuple(data.draw(st.sampled_from(found)) for found in stops)
    policy = replace(policy, thresholds=own)
    for exit, counts in enumerate(sliders.each(record, policy, stops)):
        assert counts.shape == (len(stops[exit]), 2 * n_exits) and (counts.sum(axis=1) == images).all()
        for stop, row in zip(stops[exit][::7], counts[::7], strict=True):
            other = replace(policy, thresholds=(*own[:exit], stop, *own[exit + 1 :]))
            assert row.tolist() == sliders.counts_of(record, other.exits(record)).tolist()


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
@pytest.mark.parametrize("label", [None, 2])
def test_a_single_slider_counts_what_the_policy_does_at_every_position(name: str, label: int | None) -> None:
    record = make_record(150, 4, 5, seed=7, with_logits=False, split="test")
    own = POLICIES[name].threshold_all if POLICIES[name].settings(4) else 0.613
    policy = replace(policy_of(name, 4), thresholds=(own,))
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
def test_several_sliders_move_one_threshold_each(name: str) -> None:
    record = make_record(150, 4, 5, seed=7, with_logits=False, split="test")
    policy = replace(policy_of(name, 4), thresholds=(0.62, 0.512, POLICIES[name].threshold_none))
    found = slider_counts(record, policy, label=1)
    assert len(found.sliders) == 3 and found.thresholds == policy.thresholds
    assert found.single is found.rule and len(found.single.thresholds) > 10
    rows = record.labels == 1
    for k, slider in enumerate(found.sliders):
        assert slider.class_counts is not None
        for g in range(0, len(slider.thresholds), 9):
            moved = (*policy.thresholds[:k], slider.thresholds[g], *policy.thresholds[k + 1 :])
            other = replace(policy, thresholds=moved)
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
