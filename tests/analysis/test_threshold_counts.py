"""What the browser draws while the thumb moves is what the library would say at every stop."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.analysis import threshold_counts
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.scalar import ScorePolicy

DEPLOYABLE = [name for name, kind in POLICIES.items() if kind.deployable]
SCORES = [name for name in DEPLOYABLE if issubclass(POLICIES[name], ScorePolicy)]


@cache
def policy_of(name: str, n_exits: int) -> dx.Policy:
    val = make_record(200, n_exits, 5, seed=99, with_logits=False, split="val")
    return dx.fit_policy(val, name, threshold=POLICIES[name].threshold_all)


@pytest.mark.parametrize("name", DEPLOYABLE)
@given(seed=st.integers(0, 100), images=st.integers(1, 60), n_exits=st.integers(1, 6))
@settings(max_examples=10)
def test_one_threshold_counts_as_the_policy_does(name: str, seed: int, images: int, n_exits: int) -> None:
    record = make_record(images, n_exits, 5, seed=seed, with_logits=False, split="test")
    policy = policy_of(name, record.n_exits)
    stops = dx.trade_off(record, policy, points=20)["threshold"].tolist()
    for stop, row in zip(stops, threshold_counts.single(record, policy, stops), strict=True):
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
    stops = [threshold_counts.stops_of_exit(record, policy, exit) for exit in range(n_exits - 1)]
    own = tuple(data.draw(st.sampled_from(found)) for found in stops)
    policy = replace(policy, thresholds=own)
    for exit, counts in enumerate(threshold_counts.each(record, policy, stops)):
        assert counts.shape == (len(stops[exit]), 2 * n_exits) and (counts.sum(axis=1) == images).all()
        for stop, row in zip(stops[exit][::7], counts[::7], strict=True):
            other = replace(policy, thresholds=(*own[:exit], stop, *own[exit + 1 :]))
            assert row.tolist() == threshold_counts.counts_of(record, other.exits(record)).tolist()


@pytest.mark.parametrize("name", SCORES)
def test_an_exits_stops_go_from_all_to_none(name: str) -> None:
    record = make_record(300, 4, 5, seed=3, with_logits=False, split="test")
    policy = policy_of(name, record.n_exits)
    for exit in range(3):
        stops = threshold_counts.stops_of_exit(record, policy, exit)
        assert (
            stops[0] == policy.threshold_all
            and stops[-1] == policy.threshold_none
            and len(stops) <= threshold_counts.STOPS + 2
        )
        assert stops == sorted(set(stops), reverse=policy.falling)  # type: ignore[attr-defined]
        leaving = [(replace(policy, thresholds=(s,)).exits(record) == 0).sum() for s in stops] if exit == 0 else []
        assert leaving == sorted(leaving, reverse=True)
