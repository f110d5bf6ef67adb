"""Run, split and rule: what every page about one record lets its reader choose first.

In: the runs that there are. Out: a `Chosen`, with the policy as the dial stands; its row of widgets. A run that cannot
be read leaves its choices on the page, so that another one can be taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import threshold_controls
from dmpo_explore_app.services import cache
from dmpo_explore_app.state import calibration, choices, operating_point
from dmpo_explore_app.state.choices import RULES

import dmpo_explore as dx
from dmpo_explore.policies.catalogue import POLICIES


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
            draw_choices(self.names, self.splits, self.offered)
            threshold_controls.toggle(self.run, self.split, self.policy.name)
            if controls is None:
                threshold_controls.controls(self.run, self.split, self.policy.name)
            else:
                controls()


def settle(names: Sequence[str]) -> Chosen | None:
    """What is chosen of the runs ``names``; None, and a word about it, if that run has no record yet.

    Raises:
        OSError, ValueError: it cannot be read; its choices have been drawn.
    """
    name, splits, offered = choices.settle_run(names), [], []
    try:
        run = dx.load_run(name)
        if splits := run.splits():
            offered = choices.policies(run)
            split, rule = choices.settle_split(splits), choices.settle_policy(offered)
            calibration.settle(run, split, rule)
            policy = operating_point.settle(run, split, rule)
            return Chosen(run, split, cache.record(run, split), policy, names, splits, offered)
    except (OSError, ValueError):
        draw_choices(names, splits, offered)
        raise
    draw_choices(names, [], [])
    messages.notice(f"Run {messages.plain(run.name)} has no record yet: `dmpo-explore record {run.name}` makes it.")
    return None


RUN_HELP = "A trained model and what its exits said about every image."


SPLIT_HELP = "**val** is for choosing thresholds, **test** for reading off what they are worth."


POLICY_HELP = "What decides whether an image leaves.  \n" + "  \n".join(
    f"**{name}**: {POLICIES[name].summary}." for name in RULES
)


def draw_choices(names: Sequence[str], splits: Sequence[str], offered: Sequence[str]) -> None:
    """The settled choices, in the row that is open."""
    st.selectbox("Run", names, key="run", width=150, help=RUN_HELP, persist_state="session")
    if splits:
        split_and_policy(splits, offered)


def split_and_policy(splits: Sequence[str], offered: Sequence[str]) -> None:
    """The two choices that pages share; kept when one goes to another page."""
    st.segmented_control("Split", splits, key="split", required=True, help=SPLIT_HELP, persist_state="session")
    st.selectbox("Leave by", offered, key="policy", width=150, help=POLICY_HELP, persist_state="session")
