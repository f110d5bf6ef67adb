"""Run, split and rule: what every page about one record lets its reader choose first.

In: the runs that there are. Out: a `Chosen`, with the policy as the dial stands; its row of widgets. A run that cannot
be read leaves its choices on the page, so that another one can be taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st
from dmpo_explore_app.components import widgets
from dmpo_explore_app.services import cache
from dmpo_explore_app.state import calibration, operating_point

import dmpo_explore as dx


class Chosen(NamedTuple):
    """What is looked at, and what may be chosen instead."""

    run: dx.Run
    split: str
    record: dx.ExitRecord  # as recorded
    policy: dx.Policy
    names: Sequence[str]
    splits: Sequence[str]
    offered: Sequence[str]

    def row(self, controls: Callable[[], None] | None = None) -> None:
        """The widgets; ``controls``: those of the threshold, by default the dial's."""
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom", key="choices"):
            widgets.choices(self.names, self.splits, self.offered)
            calibration.toggle(self.run, self.split, self.policy.name)
            if controls is None:
                operating_point.controls(self.run, self.split, self.policy.name)
            else:
                controls()


def settle(names: Sequence[str]) -> Chosen | None:
    """What is chosen of the runs ``names``; None, and a word about it, if that run has no record yet.

    Raises:
        OSError, ValueError: it cannot be read; its choices have been drawn.
    """
    name, splits, offered = widgets.settle_run(names), [], []
    try:
        run = dx.load_run(name)
        if splits := run.splits():
            offered = widgets.policies(run)
            split, rule = widgets.settle_split(splits), widgets.settle_policy(offered)
            calibration.settle(run, split, rule)
            policy = operating_point.settle(run, split, rule)
            return Chosen(run, split, cache.record(run, split), policy, names, splits, offered)
    except (OSError, ValueError):
        widgets.choices(names, splits, offered)
        raise
    widgets.choices(names, [], [])
    widgets.notice(f"Run {widgets.plain(run.name)} has no record yet: `dmpo-explore record {run.name}` makes it.")
    return None
