"""What a live run has counted so far, as numbers, charts, pictures and words.

In: `running.Running`, the record that it is held against. Out: one column of the page, drawn anew while it runs. What
lies beside the numbers (warm-up, others on the machine, disagreements) is said, never left out.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import widgets
from dmpo_explore_app.services import images
from dmpo_explore_app.services.live_session import Running

import dmpo_explore as dx
from dmpo_explore.figures import live, style
from dmpo_explore.inference.live import WARM_UP, Look
from dmpo_explore.inference.live_stats import Answer, Disagreement, Measured

STATES = {
    "ready": "Ready",
    "warming up": "Warming up",
    "running": "Running",
    "paused": "Paused",
    "done": "Done",
    "stopped": "Stopped",
    "failed": "Failed",
    "left": "Ended, for nobody looked for a minute",
}
BUSY = 0.5  # load average from which the machine is not ours alone
ROUNDING = 1e-4  # distance to a threshold up to which rounding may decide


def panel(
    running: Running, record: dx.ExitRecord, picture: Callable[[int], str] | None, link: Callable[[int], str]
) -> Look:
    """Everything about it as it stands now; once it has ended, ``link`` (row → address) is where a picture leads."""
    look = running.look()
    st.html(status(look))
    if look.error is not None:
        messages.problem("The live run failed.", look.error)
    measured = look.count.measured
    if measured is not None:
        st.html(cards(look, measured))
        disagreements(look, record)
        charts(look, measured)
        pictures = answers(record, look.count.last, picture, None if look.alive else link)
        st.html(f"<h3>The last images, newest first</h3>{pictures}")
    notes(running, look)
    return look


def status(look: Look) -> str:
    """State and progress, as HTML."""
    count, total = look.count, look.images
    facts = [f"<b>{STATES[look.state]}</b>", f"{count.images:,} {f'of {total:,} ' if total else ''}images"]
    if count.policy is not None:  # the one that was measured: the slider may have moved on
        facts.append(f"{count.policy.name} {said(count.policy)}")
    if len(count.moves) > 1 and count.measured is not None:
        facts.append(f"{count.measured.early.images:,} since the threshold moved")
    bar = ""
    if total:
        bar = f'<progress max="{total}" value="{count.images}" aria-label="images answered"></progress>'
    return f'<div class="dx-status" data-state="{look.state}"><p>{" · ".join(facts)}</p>{bar}</div>'


def cards(look: Look, m: Measured) -> str:
    """Five numbers, each with what it is held against, as HTML."""
    count, early, full = look.count, m.early, m.full
    shown = {
        "speed-up": (
            "Measured speed-up",
            f"{m.speed_up:.2f}×",
            f"promised {m.promised:.2f}×",
            f"from call to call {m.low:.2f} to {m.high:.2f}×",
        ),
        "rate": ("Images per second", _number(early.rate), f"full model {_number(full.rate)}", "inside calls"),
        "latency": (
            "Latency of a call, p50",
            _time(early.p50),
            f"p95 {_time(early.p95)}",
            f"full model {_time(full.p50)}, p95 {_time(full.p95)}",
        ),
        "agreed": (
            "Left where the record says",
            f"{count.agreed:,} of {count.images:,}",
            f"full model as recorded: {count.full_agreed:,}",
            "since the start",
        ),
        "accuracy": (
            "Accuracy, executed",
            f"{m.accuracy:.1%}",
            f"full model {m.full_accuracy:.1%}",
            f"the same {early.images:,} images",
        ),
    }
    cells = (
        f'<div><dt>{name}</dt><dd class="dx-value" data-live="{key}">{value}</dd><dd>{versus}</dd><dd>{more}</dd></div>'
        for key, (name, value, versus, more) in shown.items()
    )
    return f'<dl class="dx-cards">{"".join(cells)}</dl>'


def charts(look: Look, m: Measured) -> None:
    """Exits as they come, and the speed of every call."""
    timeline, moves = look.count.timeline, [(answered, said(policy)) for answered, policy in look.count.moves]
    with st.container(key="charts"):
        left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Exits taken** under this threshold, as images come")
        alt = "Shares that left: " + ", ".join(f"exit {k} {n:,}" for k, n in enumerate(m.exits, start=1)) + "."
        widgets.chart(live.exit_shares_figure(timeline, moves), "live shares", 240, alt)
    with right:
        st.markdown("**Images per second**, call by call")
        alt = f"Images per second: leaving early {_number(m.early.rate)}, full model {_number(m.full.rate)}."
        widgets.chart(live.speed_figure(timeline, moves), "live speed", 240, alt)


def said(policy: dx.Policy) -> str:
    """A policy's thresholds in a few characters."""
    ends = {policy.threshold_all: "all at exit 1", policy.threshold_none: "none early"}
    if len(policy.thresholds) == 1 and policy.thresholds[0] in ends:
        return ends[policy.thresholds[0]]
    return ", ".join(f"{threshold:.3g}" for threshold in policy.thresholds)


def answers(
    record: dx.ExitRecord,
    last: Sequence[Answer],
    picture: Callable[[int], str] | None,
    link: Callable[[int], str] | None = None,
) -> str:
    """The last images with the exit they took and what was answered there, as HTML."""
    colours = style.exit_colours(record.n_exits)
    items = "".join(_answer(record, one, picture, link, colours[one.exit]) for one in last)
    return f'<ul class="dx-gallery dx-answers">{items}</ul>'


def _answer(
    record: dx.ExitRecord,
    one: Answer,
    picture: Callable[[int], str] | None,
    link: Callable[[int], str] | None,
    colour: str,
) -> str:
    names, truth = record.meta.class_names, int(record.labels[one.row])
    right, is_ = one.label == truth, html.escape(names[truth])
    number = images.number_of(record, one.row)
    shown = f"<span>{number}</span>"
    if picture is not None:
        shown = f'<img src="{html.escape(picture(one.row))}" alt="{is_}" width="72" height="72">'
    if link is not None:
        shown = f'<a href="{html.escape(link(one.row))}" target="_self" title="Open in One image">{shown}</a>'
    title = f"{record.meta.split} image {number}: {names[truth]}; left at exit {one.exit + 1} as {names[one.label]}"
    return (
        f'<li class="{"right" if right else "wrong"}" title="{html.escape(title)}"><figure>{shown}<figcaption>'
        f'<i class="dx-dot" style="--exit: {colour}"></i>exit\N{NO-BREAK SPACE}{one.exit + 1}'
        f"<small><b>{'✓' if right else '✗'}</b> {html.escape(names[one.label])} {one.confidence:.0%}</small>"
        f"{'' if right else f'<small>is {is_}</small>'}</figcaption></figure></li>"
    )


def disagreements(look: Look, record: dx.ExitRecord) -> None:
    """Every image that left elsewhere than its record says, and how close its score lay to the threshold."""
    count = look.count
    if not count.disagreements:
        return
    apart, shown = count.images - count.agreed, count.disagreements
    text = f"**{apart:,} of {count.images:,} images left elsewhere, or with another answer, than the record says.** "
    if all(one.distance is not None and one.distance <= ROUNDING for one in shown):
        text += (
            "Their scores lie so close to the threshold that rounding decides: other batch sizes, folded tuning or "
            "another processor move a score by some millionths."
        )
    else:
        text += (
            "Not all of them lie so close to the threshold that rounding could decide: was the record made of these "
            "weights, in float32?"
        )
    if apart > len(shown):
        text += f" The first {len(shown)}:"
    st.warning(text, icon=":material/compare_arrows:")
    st.table(table(record, shown), hide_index=True, width="content", alt="Images that left elsewhere than recorded.")


def table(record: dx.ExitRecord, shown: Sequence[Disagreement]) -> pd.DataFrame:
    """One row each, as text."""
    names = [messages.plain(name) for name in record.meta.class_names]
    return pd.DataFrame(
        {
            "image": [str(images.number_of(record, one.row)) for one in shown],
            "left at exit": [str(one.exit + 1) for one in shown],
            "recorded exit": [str(one.recorded_exit + 1) for one in shown],
            "answered": [names[one.label] for one in shown],
            "recorded answer": [names[one.recorded_label] for one in shown],
            "score to threshold": ["" if one.distance is None else f"{one.distance:.1e}" for one in shown],
        }
    )


def notes(running: Running, look: Look) -> None:
    """What is not in the numbers, and what may have disturbed them."""
    cores = os.cpu_count() or 1
    if running.others:
        several = f"{running.others} other live runs were" if running.others > 1 else "Another live run was"
        st.info(
            f"{several} at work in this app meanwhile. They take turns, call by call, and no time is counted while one "
            "waits; but they share memory and caches, so calls may take longer than alone.",
            icon=":material/group:",
        )
    if running.load is not None and running.load > BUSY:
        st.info(
            f"The machine was not idle before this began (load average {running.load:.1f} on {cores} cores): other "
            "programs, or an earlier live run. Calls take longer than alone, and the speed-up may be smaller, although "
            "the arms are measured in turn.",
            icon=":material/monitor_heart:",
        )
    st.caption(
        f"Not counted: {WARM_UP} calls of either arm at the start and behind every pause, reading and resizing of "
        "pictures, waiting for others. Drawing this page takes part of the machine too."
    )


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"
