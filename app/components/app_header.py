"""The header of every page: what this is, the list of runs, and the network and facts of the run on screen, if any.

The exits are filled with the shares of images that exit there at the operating point on screen. While a threshold is
dragged the slider's script fills them again (threshold_slider/network.js), so they never lag behind the numbers.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.services import class_rows, run_facts
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state import header as state

import dmpo_explore as dx

NAME = "DMPO explore"
LINE = "Early-exit explorer: a network that answers as soon as it is confident enough."
BETWEEN = "\N{NO-BREAK SPACE}· "  # a line ends behind the dot
EXPLORE = "views/explore.py"
SHOWN_EXITS = 12  # more exits have no room for their shares
LISTED = 20  # runs in the list; where there are more, those whose names contain a text
_one_entry = st.components.v2.component(
    "dmpo_explore.one_entry", js=Path(__file__).with_name("one_entry.js").read_text(encoding="utf-8")
)


def begin(names: Sequence[str], of_a_run: bool = True) -> None:
    """Draw what is the same on every page, and keep the place of the rest.

    Args:
        of_a_run: whether the page shows one run: else a run from the list is opened in Explore.
    """
    _one_entry(key=state.ENTRY)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="app_header"):
        st.html(f'<div class="dx-brand"><b>{NAME}</b><p>{LINE}</p></div>', width="stretch")
        state.keep_place(st.empty())
        if names:
            _runs(names, of_a_run)


def finish(names: Sequence[str]) -> None:
    """Fill the header of a page that has no operating point of its own."""
    if not state.filled() and (point := state.usual_point(names)) is not None:
        show(point)


def show(point: OperatingPoint) -> None:
    """Fill the header with an operating point."""
    place = state.place()
    if place is not None:
        place.html(body(point), width="content")


def body(point: OperatingPoint) -> str:
    """The network and the facts of the run, as HTML."""
    shares = point.outcome.summary()["exit_shares"]
    facts = [f"<span>{html.escape(dx.figures.abbreviated(fact, 40))}</span>" for fact in run_facts.facts(point)]
    return f'<div class="dx-run">{network(shares)}<p class="dx-facts">{BETWEEN.join(facts)}</p></div>'


def network(shares: Sequence[float]) -> str:
    """The exits of a network, each filled with its share of the images; below them those still inside, as HTML."""
    colours, inside, cells = dx.figures.exit_colours(len(shares)), 1.0, []
    for k, (share, colour) in enumerate(zip(shares, colours, strict=True), start=1):
        style = f"--exit: {colour}; --share: {share:.4f}; --inside: {max(0.0, inside):.4f}"
        text = f"<small>{_percent(share)}</small>" if len(shares) <= SHOWN_EXITS else ""
        cells.append(f'<span data-exit="{k}" style="{style}">{text}<i></i><b></b></span>')
        inside -= share
    return f'<div class="dx-network" role="img" aria-label="{words(shares)}">{"".join(cells)}</div>'


def words(shares: Sequence[float]) -> str:
    """The network's exits and their shares as a sentence."""
    return "Share of images by exit: " + ", ".join(f"exit {k} {_percent(s)}" for k, s in enumerate(shares, 1))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or not share else f"{share:.1%}"


def _runs(names: Sequence[str], of_a_run: bool) -> None:
    """A popover with all runs: what each is, its two numbers, and a button that shows it."""
    with st.popover("Runs", icon=":material/deployed_code:", key=state.RUNS, on_change="rerun") as box:
        if not box.open:
            return
        st.caption(
            "A run is a trained model and the outputs of its exits. Numbers: accuracy and compute on test, with the "
            "cheapest threshold that is within one point of the best exit on calibration."
        )
        for name in _listed(names):
            _run(run_facts.summary(name), of_a_run)


def _listed(names: Sequence[str]) -> Sequence[str]:
    """The runs of the list: all, or the first of those that are found by name where there are many."""
    if len(names) <= LISTED:
        return names
    text = st.text_input("Find runs", key=state.FIND, placeholder="part of a name") or ""
    found = [names[i] for i in class_rows.found(tuple(names), text)]
    if not found:
        st.caption(f"No run’s name contains “{messages.escape_markdown(text[:60])}”.")
    elif len(found) > LISTED:
        st.caption(f"The first {LISTED} of {len(found):,} runs by name.")
    return found[:LISTED]


def _run(run: run_facts.RunSummary, of_a_run: bool) -> None:
    name, text = messages.escape_markdown(run.name), messages.escape_markdown(run.text)
    result = messages.escape_markdown(run.problem) or f"**{run.accuracy:.2%}** accuracy · **{run.compute:.1%}** compute"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{name}** · {text}  \n{result}" if text else f"**{name}** · {result}", width="stretch")
        if text:
            label, key = "Show" if of_a_run else "Explore", state.runs_key(run.name)
            if st.button(label, key=key, on_click=state.show_run, args=(run.name,)) and not of_a_run:
                st.switch_page(EXPLORE)
