"""Where each image exits at every position of the sliders, as the policy itself decides it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import DEPLOYABLE, make_record, policy_of

import dmpo_explore as dx
from dmpo_explore.analysis.sliders import exit_limits, exits_at, slider_counts


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
