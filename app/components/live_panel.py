"""Live statistics: numbers, charts, images, and what limits them: warm-up, load, disagreements with the record."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import gallery, share, widgets
from dmpo_explore_app.components.race import race
from dmpo_explore_app.services import images, live_export, run_styles
from dmpo_explore_app.services import race_data as live_race
from dmpo_explore_app.services.live_session import LiveSession
from dmpo_explore_app.services.policies import OperatingPoint
from dmpo_explore_app.state.live_choices import PRECISIONS

import dmpo_explore as dx

STATES = {
    "ready": "Ready",
    "warming up": "Warming up",
    "running": "Running",
    "paused": "Paused",
    "done": "Done",
    "stopped": "Stopped",
    "failed": "Failed",
    "left": "Ended: no page has shown it for a minute",
}
GIB = 2**30
FIRST_CALLS = 6  # before which a speed-up is not shown: the first ones are slow, as every size of a batch is new
RANGE_CALLS, P95_CALLS = 10, 20  # from which on one call in ten, or in twenty, lies beyond a quantile
BUSY = 0.5  # load average above which other programs are at work
ROUNDING = 1e-4  # distance to a threshold within which rounding may decide

Link = Callable[[int], str]


def panel(session: LiveSession, record: dx.ExitRecord, image: Link | None, link: Link) -> dx.inference.Look:
    """A live run as it stands now; ``image``: row → data URI; ``link``: row → address, once the run has ended."""
    look = session.look()
    st.html(status(look))
    if look.error is not None:
        messages.problem("The live run failed.", look.error)
    measured = look.count.measured
    if measured is not None:
        headline(
            speed_up(measured, look.alive),
            "Measured speed-up" + f", {measured.calls} calls so far" * (measured.calls < RANGE_CALLS),
            expected(measured, session.settings.batch_size),
            f"from call to call {after(RANGE_CALLS, measured, f'{measured.low:.2f} to {measured.high:.2f}×')}",
            live_race.measured(record, look, measured, image),
        )
        st.html(cards(session, look, measured))
        disagreements(look, record, session.settings.precision)
        charts(Path(session.record_key[0]).name, look, measured)
        if look.state not in ("warming up", "running"):  # else they would change every second
            files(session, measured)
        last = answers(record, look.count.last, image, None if look.alive else link)
        st.html(f"<h3>The last images, newest first</h3>{last}")
    notes(session, look)
    return look


def speed_up(measured: dx.inference.Measured, alive: bool) -> str:
    """The number in the largest type: none before it means something, and rounded while it still moves."""
    if alive and measured.calls < FIRST_CALLS:
        return "measuring"
    return f"{measured.speed_up:.2f}×" if measured.calls >= RANGE_CALLS else f"about {measured.speed_up:.1f}×"


def expected(measured: dx.inference.Measured, batch_size: int) -> str:
    """The speed-up by FLOPs, and what the rest of it is lost in."""
    text = f"expected from FLOPs {measured.expected_speed_up:.2f}×"
    if measured.speed_up >= measured.expected_speed_up:
        return text
    return f"{text}: the exits' small operations {'and batches that shrink ' * (batch_size > 1)}cost the rest"


def preview(point: OperatingPoint, image: Link | None) -> None:
    """The race before anything is measured here: exits as recorded, speeds recorded or expected."""
    try:
        timings = dx.runs.read_timings(point.run.path)
    except (OSError, ValueError) as error:
        messages.notice(f"The recorded timings cannot be read. {messages.escape_markdown(error, 300)}")
        timings = None
    data = live_race.before(point, timings, image)
    expected = f"expected from FLOPs {1 / point.outcome.summary()['flops_fraction']:.2f}×"
    value = f"{data['speed_up']:.2f}×"
    if timings is None:
        headline(value, "Expected from FLOPs", "not measured yet", "exits as recorded", data)
        return
    headline(value, "Recorded speed-up", expected, "on another machine, not measured here yet", data)
    load = "" if timings.load is None else f", load average {timings.load:.1f}"
    machine = f"{messages.escape_markdown(timings.machine, 100)}, {timings.threads} threads{load}"
    batches = f"batches of {timings.batch_size}, {PRECISIONS.get(timings.precision, 'another precision')}"
    st.caption(
        f"Recorded timings: {timings.images} test images in {batches}, on {machine}. Between the timed settings "
        "the time is interpolated over compute."
    )


def headline(value: str, title: str, versus: str, more: str, data: live_race.RaceData) -> None:
    with st.container(key="halves"):
        left, right = st.columns([3, 9], gap="medium", vertical_alignment="center")
    key = "speed-up" if data["origin"] == "measured" else data["origin"]
    left.html(
        f'<dl class="dx-headline"><dt>{title}</dt><dd class="dx-value" data-live="{key}">{value}</dd>'
        f"<dd>{versus}</dd><dd>{more}</dd></dl>"
    )
    with right:
        race(data, "race")


def status(look: dx.inference.Look) -> str:
    count, total = look.count, look.images
    facts = [f"<b>{STATES[look.state]}</b>", f"{count.images:,} {f'of {total:,} ' if total else ''}images"]
    if count.policy is not None:  # the measured one; the slider may have moved since
        facts.append(f"{count.policy.name} {thresholds(count.policy)}")
    if len(count.moves) > 1 and count.measured is not None:
        facts.append(f"{count.measured.early.images:,} since the threshold moved")
    bar = ""
    if total:
        bar = f'<progress max="{total}" value="{count.images}" aria-label="images answered"></progress>'
    return f'<div class="dx-status" data-state="{look.state}"><p>{" · ".join(facts)}</p>{bar}</div>'


def cards(session: LiveSession, look: dx.inference.Look, m: dx.inference.Measured) -> str:
    """Five numbers, each with its reference, as HTML; with a GPU its memory and power too."""
    count, early, full = look.count, m.early, m.full
    shown = {
        "time": (
            "Time per image",
            live_race.per_image(early),
            f"full depth {live_race.per_image(full)}",
            f"batches of {session.settings.batch_size}, {PRECISIONS[session.settings.precision]}",
        ),
        "rate": ("Images per second", _rate(early.rate), f"full depth {_rate(full.rate)}", "inside calls"),
        "latency": (
            "Latency of a call" + ", p50" * (m.calls > 1),
            _time(early.p50),
            f"p95 {after(P95_CALLS, m, _time(early.p95))}",
            f"full depth {_time(full.p50)}" + f", p95 {_time(full.p95)}" * (m.calls >= P95_CALLS),
        ),
        "agreed": (
            "Matches recorded exits",
            f"{count.agreed:,} of {count.images:,}",
            f"full depth as recorded: {count.full_agreed:,}",
            "since the start",
        ),
        "accuracy": (
            "Accuracy, executed",
            f"{m.accuracy:.1%}",
            f"full depth {m.full_accuracy:.1%}",
            f"the same {early.images:,} images",
        ),
    }
    if early.joules and full.joules:
        shown["energy"] = (
            "Energy per image",
            f"{early.joules / early.images:.3g} J",
            f"full depth {full.joules / full.images:.3g} J",
            "whole device" + (f", idle {look.idle_watts:.0f} W included" if look.idle_watts else ""),
        )
    if session.settings.engine != "onnx" and (gpu := dx.inference.gpu_use(session.settings.device)):
        power = "" if gpu.watts is None else f"{gpu.watts:.0f} W now"  # NVML does not tell it everywhere
        memory = f"of {gpu.total / GIB:.0f} GiB, all programs"
        shown["gpu"] = (html.escape(gpu.name), f"{gpu.used / GIB:.1f} GiB", memory, power)
    cells = (
        f'<div><dt>{name}</dt><dd class="dx-value" data-live="{key}">{value}</dd><dd>{versus}</dd><dd>{more}</dd></div>'
        for key, (name, value, versus, more) in shown.items()
    )
    return f'<dl class="dx-cards">{"".join(cells)}</dl>'


def after(calls: int, measured: dx.inference.Measured, text: str) -> str:
    """``text``, a quantile over calls, once there are enough of them to tell it from a single one."""
    return text if measured.calls >= calls else f"after {calls} calls, {measured.calls} so far"


def charts(run: str, look: dx.inference.Look, m: dx.inference.Measured) -> None:
    timeline = look.count.timeline
    moves = [(answered, thresholds(policy)) for answered, policy in look.count.moves]
    with st.container(key="charts"):
        first, left, right = st.columns(3, gap="medium") if m.latency else (None, *st.columns(2, gap="medium"))
    if first is not None:
        with first:
            st.markdown("**Latency by exit**, images")
            means = ", ".join(f"exit {k} {_time(o.mean)}" for k, o in enumerate(m.latency, 1) if o.images)
            alt = f"Mean latency: {means}; a call at full depth {_time(m.full.p50)}."
            figure = dx.figures.latency_figure(m.latency, m.full.p50)
            figure.update_layout(showlegend=False)  # the race names the exits
            widgets.chart(figure, "live latency", 240, alt)
    with left:
        st.markdown("**Exit shares** under this threshold")
        alt = "Exit shares: " + ", ".join(f"exit {k} {n:,}" for k, n in enumerate(m.exits, start=1)) + "."
        widgets.chart(dx.figures.exit_shares_figure(timeline, moves), "live shares", 240, alt)
    with right:
        st.markdown("**Images per second**, call by call")
        alt = f"Images per second: early exits {_rate(m.early.rate)}, full depth {_rate(m.full.rate)}."
        figure = run_styles.beside_reference(dx.figures.speed_figure(timeline, moves), "early exit", run, "full depth")
        widgets.chart(figure, "live speed", 240, alt)


def files(session: LiveSession, m: dx.inference.Measured) -> None:
    name = "-".join(["live", Path(session.record_key[0]).name, session.record_key[1]])
    with st.container(horizontal=True, gap="small"):
        share.button(name, "results", "json", live_export.as_json(session))  # not later: paths depend on the request
        share.button(name, "by exit", "csv", lambda: share.csv(live_export.table(m)))


def thresholds(policy: dx.Policy) -> str:
    ends = {policy.threshold_all: "all at exit 1", policy.threshold_none: "none early"}
    if len(policy.thresholds) == 1 and policy.thresholds[0] in ends:
        return ends[policy.thresholds[0]]
    return ", ".join(f"{threshold:.3g}" for threshold in policy.thresholds)


def notes(session: LiveSession, look: dx.inference.Look) -> None:
    """What is not in the numbers, and what may have disturbed them."""
    cores = os.cpu_count() or 1
    if session.others:
        several = f"{session.others} other live runs were" if session.others > 1 else "Another live run was"
        st.info(
            f"{several} at work in this app at the same time. They alternate, call by call, and waiting is not "
            "counted; but they share memory and caches, so calls may take longer than alone.",
            icon=":material/group:",
        )
    if session.load is not None and session.load > BUSY:
        st.info(
            f"The machine was not idle before the start (load average {session.load:.1f} on {cores} cores): other "
            "programs, or an earlier live run. Calls take longer than alone, and the speed-up may be smaller, although "
            "the two models take turns.",
            icon=":material/monitor_heart:",
        )
    st.caption(
        f"Not counted: {dx.inference.WARM_UP} calls of either arm at the start and after every pause, reading and "
        "resizing of images, waiting for others. Drawing this page uses part of the machine too."
    )


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"


# -- single images: the last answers, and the disagreements with the record --


def answers(
    record: dx.ExitRecord, last: Sequence[dx.inference.Answer], image: Link | None, link: Link | None = None
) -> str:
    """The last images with the exit taken and the prediction there, as HTML."""
    colours = dx.figures.exit_colours(record.n_exits)
    items = "".join(_answer(record, one, image, link, colours[one.exit]) for one in last)
    return f'<ul class="dx-gallery dx-answers">{items}</ul>'


def _answer(record: dx.ExitRecord, one: dx.inference.Answer, image: Link | None, link: Link | None, colour: str) -> str:
    names, label = record.meta.class_names, int(record.labels[one.row])
    correct, is_ = one.label == label, gallery.short(names[label])
    shown = gallery.image(record, one.row, image)
    if link is not None:
        shown = f'<a href="{html.escape(link(one.row))}" target="_self" title="Open in One image">{shown}</a>'
    title = f"{gallery.name(record, one.row)}: {names[label]}; exits at exit {one.exit + 1} as {names[one.label]}"
    return (
        f'<li class="{"correct" if correct else "incorrect"}" title="{html.escape(title)}"><figure>{shown}<figcaption>'
        f'<i class="dx-dot" style="--exit: {colour}"></i>exit\N{NO-BREAK SPACE}{one.exit + 1}'
        f"<small><b>{'✓' if correct else '✗'}</b> {gallery.short(names[one.label])} {one.confidence:.0%}</small>"
        f"{'' if correct else f'<small>is {is_}</small>'}</figcaption></figure></li>"
    )


def disagreements(look: dx.inference.Look, record: dx.ExitRecord, precision: str = "no") -> None:
    """Warning with every image whose exit or prediction is not the recorded one, and its distance to the threshold."""
    count = look.count
    if not count.disagreements:
        return
    differing, shown = count.images - count.agreed, count.disagreements
    text = f"**{differing:,} of {count.images:,} images took another exit, or got another answer, than recorded.** "
    if all(one.distance is not None and one.distance <= ROUNDING for one in shown):
        text += (
            "Their scores are so close to the threshold that rounding decides: other batch sizes, merged tuning or "
            "another processor change a score by some millionths."
        )
    elif precision != "no":
        text += f"The live run computes in {precision}, the record is in float32: such differences are expected."
    else:
        text += (
            "Not all of them are so close to the threshold that rounding could decide: was the record made with these "
            "weights, in float32?"
        )
    if differing > len(shown):
        text += f" The first {len(shown)}:"
    st.warning(text, icon=":material/compare_arrows:")
    st.table(differences(record, shown), hide_index=True, width="content", alt="Images that did not exit as recorded.")


def differences(record: dx.ExitRecord, shown: Sequence[dx.inference.Disagreement]) -> pd.DataFrame:
    names = [messages.escape_markdown(name) for name in record.meta.class_names]
    return pd.DataFrame(
        {
            "image": [str(images.number_of(record, one.row)) for one in shown],
            "exit taken": [str(one.exit + 1) for one in shown],
            "recorded exit": [str(one.recorded_exit + 1) for one in shown],
            "prediction": [names[one.label] for one in shown],
            "recorded prediction": [names[one.recorded_label] for one in shown],
            "score to threshold": ["" if one.distance is None else f"{one.distance:.1e}" for one in shown],
        }
    )
