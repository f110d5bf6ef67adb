"""The decision of the page Decide: what may be lost or spent, the run to take, and the files to take it with."""

from __future__ import annotations

import html
import math
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import share
from dmpo_explore_app.components.progress import progress_bar
from dmpo_explore_app.services import (
    code_export,
    comparison,
    downloads,
    live_session,
    model_queries,
    model_queue,
    models,
    own_runs,
    policies,
    records,
)
from dmpo_explore_app.services.comparison import Side, Wanted
from dmpo_explore_app.state import decide_choices as state
from dmpo_explore_app.state import notes

import dmpo_explore as dx

BUDGET_HELP = (
    "Mean cost of an image, everything that runs counted; 1 MAC is 2 FLOPs. Each run gets its most accurate threshold "
    "on **calibration** (**val** where it has none) within this budget."
)
LIMIT_HELP = (
    "**Points**: accuracy below that of the other run at full depth. **Early-exit errors**: images that are incorrect "
    "where they exit although the last exit is correct; the bound holds with 95% confidence (Learn then Test). Each "
    "run gets its cheapest threshold that keeps this on **calibration** (**val** where it has none)."
)
REFERENCE_HELP = "Accuracy lost and cost saved are measured from this run at its full depth."
NO_TIMES = "No milliseconds are known yet, so costs are in GFLOPs. Measure them, or open another device's."


# -- the question --


def question(runs: Sequence[dx.Run], split: str) -> Wanted:
    """I may lose at most so much of a run, or spend at most so much: a number, its unit, and a slider."""
    wished, (times, refused) = state.validate_unit(), _usable_times(runs, split)
    unit = wished if times else "GFLOPs"
    names = [run.name for run in runs]
    compared = state.validate_reference(names, comparison.usual_reference(runs, split))
    wanted = Wanted(reference=runs[names.index(compared)], times=times if unit == "ms" else None)
    losing, row = state.validate_may() == "lose", st.container(horizontal=True, gap="small", key="question")
    with row.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown("I may", width="content")
        st.segmented_control(
            "What is limited", list(state.ASKED), key=state.MAY, required=True, label_visibility="collapsed",
            persist_state="session",
        )  # fmt: skip
        st.markdown("at most", width="content")
        wanted = _loss(wanted) if losing else _budget(wanted, runs, split, unit)
        st.markdown("of" if wanted.lose is not None else "compared with", width="content")
        _unit("Compared with", state.REFERENCE, {name: name for name in names}, 190, REFERENCE_HELP)
        if losing and state.times():
            _unit("Costs in", state.UNIT, {name: name for name in state.BUDGETS}, 110)
        _times(runs)
    if wanted.lose is not None:
        st.slider(
            "Points", 0.0, state.MOST_LOSS, key=state.LOSS_SLIDER, step=0.1, format="%.1f", on_change=state.slid_loss,
            label_visibility="collapsed",
        )  # fmt: skip
    elif wanted.budget is not None:
        low, high = comparison.budget_range(runs, split, wanted)
        high = max(high, wanted.budget)
        st.slider(
            "Budget", low, max(high, 1.01 * low), key=state.SLIDER, step=(high - low) / 200 or low, format="%.3g",
            on_change=state.slid, args=(unit, comparison.upwards(low)), label_visibility="collapsed",
        )  # fmt: skip
    for reason in (refused or ([] if times else [NO_TIMES])) if wished == "ms" else []:
        messages.notice(reason)
    return wanted


def _loss(wanted: Wanted) -> Wanted:
    lose, risk = state.validate_limit()
    _number("Limit", state.LOSE if risk is None else state.RISK, 0.1, LIMIT_HELP)
    _unit("What may be lost", state.LIMIT, state.LIMITS, 200)
    return wanted._replace(lose=lose, risk=risk)


def _budget(wanted: Wanted, runs: Sequence[dx.Run], split: str, unit: str) -> Wanted:
    low, high = comparison.budget_range(runs, split, wanted)
    plain = records.record(runs[0], split).meta.reference_flops / 1e9
    usual = comparison.upwards(plain / 2) if unit == "GFLOPs" else high
    budget = state.validate_budget(unit, low, usual, plain)
    _number("Budget", state.BUDGETS[unit], 10.0 ** (len(f"{max(high, budget):.0f}") - 3), BUDGET_HELP)
    _unit("Unit", state.UNIT, {name: name for name in state.BUDGETS}, 110)
    return wanted._replace(budget=budget)


def _usable_times(runs: Sequence[dx.Run], split: str) -> tuple[dict[str, dx.runs.StageTimes], list[str]]:
    """The known times of these runs; and of those that are of another number of exits, why they cannot be used."""
    found, refused = dict[str, dx.runs.StageTimes](), []
    for run in runs:
        if (times := state.times().get(run.name)) is not None:
            try:
                times.timed(records.record(run, split))
            except ValueError as error:
                refused.append(f"These times cannot be used: {messages.escape_markdown(error, 300)}.")
            else:
                found[run.name] = times
    return found, refused


def _number(label: str, key: str, step: float, text: str) -> None:
    st.number_input(
        label, 0.0, None, step=step, format="%.4g", key=key, width=140, help=text, label_visibility="collapsed",
        persist_state="session",
    )  # fmt: skip


def _unit(label: str, key: str, options: dict[str, str], width: int, text: str | None = None) -> None:
    st.selectbox(
        label, list(options), format_func=options.__getitem__, key=key, width=width, label_visibility="collapsed",
        help=text, persist_state="session",
    )  # fmt: skip


def _times(runs: Sequence[dx.Run]) -> None:
    """Milliseconds of this machine by one click, or of another device from its file."""
    with st.popover("Milliseconds", icon=":material/timer:", key=state.TIMES):
        if st.button("Measure on this machine", icon=":material/speed:", key=state.MEASURE):
            _measure([run for run in runs if not own_runs.is_own(run)])
        st.file_uploader(
            "Another device: the timing.json that an export's time_stages.py writes there",
            ["json"], max_upload_size=1, key=state.TIMING, on_change=state.receive_times,
        )  # fmt: skip
        if reason := notes.read(notes.TIMES):
            messages.notice(messages.with_code(reason))
        for name, found in state.times().items():
            text = f"{name}: {found.exits[-1]:.3g} ms for all stages, one image at a time, on {found.device}."
            st.caption(messages.escape_markdown(text, 300))


def _measure(runs: Sequence[dx.Run]) -> None:
    problems = []
    for run in runs:
        try:
            text = f"Timing {messages.escape_markdown(run.name)}"
            with progress_bar(text) as progress, model_queue.exclusive_use("a measurement"):
                model = models.model(run, merge=True)
                state.keep_times(dx.inference.time_stages(model, run.name, progress=progress))
        except model_queries.UNAVAILABLE as error:
            problems.append(f"{run.name} cannot be timed here: {error}")
    notes.write(notes.TIMES, "; ".join(problems))
    st.rerun()


# -- the answer --


def answer(sides: Sequence[Side], found: dx.analysis.RunChoice, wanted: Wanted) -> None:
    """The run to take in a sentence: what it saves, what it loses, and what a bound would cost."""
    if found.best is None:
        _no_answer(sides, found, wanted)
        return
    best, row = comparison.side_of(sides, found.best), found.table.iloc[0]
    name, saved = html.escape(f"{best.name} {_where(best)}"), _share(best.saved(wanted))
    title = f"{name} <small>saves</small> {saved} <small>of the {_what(wanted)}</small>"
    if wanted.budget is not None:
        title = f"{name} <small>is correct on</small> {row['accuracy']:.2%}"
    _answered(
        title, [_costs(best, wanted), _lost(row, found, wanted, best.point.split), _lead(found), _bound(best, wanted)]
    )


def _what(wanted: Wanted) -> str:
    return "compute" if wanted.times is None else "time"


def _share(saved: float) -> str:
    return "–" if math.isnan(saved) else f"{saved:z.0%}".replace("-", "−")


def _where(best: Side) -> str:
    thresholds = best.point.policy.thresholds
    return f"at {thresholds[0]:.3g}" if best.fitted and len(thresholds) == 1 else ""


def _costs(best: Side, wanted: Wanted) -> str:
    """What an image costs there and with the reference, in every unit that is known."""
    texts = []
    for times in (None, state.times())[: 1 + bool(state.times())]:
        unit = wanted._replace(times=times)
        whole, cost = unit.spent_by_reference(best.point.split), best.cost(unit)
        if not math.isnan(whole - cost):
            texts.append(f"{cost:.3g} {unit.unit} an image instead of {whole:.3g}")
    return f"{' and '.join(texts)}."


def _lost(row: pd.Series[Any], found: dx.analysis.RunChoice, wanted: Wanted, split: str) -> str:
    """What is lost on the images shown, and whether the limit is kept there."""
    text = f"On {split} it {_points(row['lost'], row['low'], row['high'])}"
    text += f" of {found.reference}'s {row['accuracy'] + row['lost']:.1%}"
    if wanted.lose is None or row["lost"] <= wanted.lose:
        return f"{text}."
    return f"{text}: more than {100 * wanted.lose:g}, but within chance."


def _lead(found: dx.analysis.RunChoice) -> str:
    """The next run, and what it loses against the best."""
    if found.next is None or found.lead is None:
        return "No other run keeps the limit and saves anything."
    text = f"The next, {found.next}, {_points(*found.lead)} against it"
    close = found.lead[1] <= 0 <= found.lead[2]
    return f"{text}: too close to tell, and {found.best} costs no more." if close else f"{text}."


def _points(lost: float, low: float, high: float) -> str:
    """``loses 2.23 points (95%: 0.85 to 3.54)``; what is gained has its own ends."""
    verb, sign = ("gains", -1) if lost < 0 else ("loses", 1)
    ends = " to ".join(f"{100 * end:z.2f}" for end in sorted((sign * low, sign * high))).replace("-", "−")
    return f"{verb} {100 * abs(lost):.2f} points (95%: {ends})"


def _no_answer(sides: Sequence[Side], found: dx.analysis.RunChoice, wanted: Wanted) -> None:
    """That nothing keeps what was asked for, and which run comes nearest, with a button that lets it in."""
    if wanted.lose is None:
        bounds = dict.fromkeys(_bound(side, wanted) for side in sides if side.fitted and wanted.risk is not None)
        _answered("No run keeps this limit and saves anything", [*bounds, "The table says what each would need."])
        return
    title = f"Nothing is saved within {_some(100 * wanted.lose)} <small>of</small> {html.escape(found.reference)}"
    near, needed = comparison.nearest(sides, wanted, found)
    if near is None:
        _answered(title, ["The table says why."])
        return
    saved = f"saves {_share(near.saved(wanted))} of the {_what(wanted)}"
    _answered(title, [f"The nearest, {near.name} {_where(near)} with {_some(needed)}, {saved}."])
    label = f"Allow {_some(needed)}: then {messages.escape_markdown(near.name)} qualifies"
    st.button(label, on_click=state.allow, args=(needed,), key=state.ENOUGH)


def _some(points: float) -> str:
    return f"{points:g} point{'s' * (points != 1)}"


def _answered(title: str, lines: Sequence[str]) -> None:
    texts = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
    st.html(f'<div class="dx-answer"><h2>{title}</h2>{texts}</div>')


def _bound(best: Side, wanted: Wanted) -> str:
    if not best.fitted:
        return ""
    target = comparison.bound(wanted.risk)
    words = f"early-exit errors of at most {100 * target.epsilon:g}% (95% confidence)"
    policy = best.point.policy
    if wanted.risk is None:
        try:
            policy = policies.fitted(best.point.run, policy.name, target)
        except (OSError, ValueError):
            return ""
    if note := policy.fitted.get("note"):
        return f"A bound of {words} cannot be certified: {note}."
    if wanted.risk is not None:
        return f"Its thresholds keep {words}."
    cost = best._replace(point=policies.OperatingPoint(best.point.run, best.point.split, policy)).cost(wanted)
    return f"The threshold that keeps {words} uses {cost:.3g} {wanted.unit}."


def table(sides: Sequence[Side], found: dx.analysis.RunChoice, wanted: Wanted) -> None:
    """All runs, the best first; what cannot be taken is struck out, with the reason."""
    named = {side.name: side for side in sides}
    by_time = Wanted(times=state.times())
    rows = []
    for row in found.table.to_dict("records"):
        side, struck = named[row["run"]], "~~" if row["reason"] else ""
        cells = {
            "run": f"{struck}{messages.escape_markdown(row['run'])}{struck}",
            "accuracy": f"{struck}{row['accuracy']:.2%}{struck}",
            "GFLOPs": f"{row['flops'] / 1e9:.3g}",
            "ms": f"{side.cost(by_time):.3g}".replace("nan", "–"),
            "saved": _share(side.saved(wanted)),
            "points lost [95%]": comparison.interval(row["lost"], row["low"], row["high"]).replace("+", ""),
            "why not": messages.escape_markdown(row["reason"], 300),
        }
        rows.append({name: cell for name, cell in cells.items() if name != "ms" or state.times()})
    with st.container(key="decision"):
        st.table(pd.DataFrame(rows), hide_index=True, alt="Every run: accuracy, cost, points lost, why it is refused.")


# -- taking it --


def take(best: Side, split: str) -> None:
    run, policy = best.point.run, best.point.policy
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="take"):
        st.markdown(f"**Take {messages.escape_markdown(run.name)}**", width="content")
        if best.fitted:
            share.button(run.name, "thresholds", "json", share.policy_json(policy))
        if not own_runs.is_own(run):
            with st.popover("Command", icon=":material/terminal:", key=state.COMMAND):
                if evaluation := code_export.command_line(run, split, policy):
                    st.code(evaluation, language="sh", wrap_lines=True)
                st.code(_export_command(run, policy), language="sh", wrap_lines=True)
            if not access.is_private() or not _has_weights(run):  # as with Live in ONNX, others cause no export
                return
            if live_session.has_onnx():
                st.download_button(
                    "Exported folder · ZIP", partial(exported, run, policy), f"{run.name}-onnx.zip", "application/zip",
                    key=state.EXPORT, on_click="ignore", icon=":material/folder_zip:",
                    help="ONNX graphs, one per stage, with the thresholds; run.py runs them without torch, "
                    "time_stages.py times them on a device. Made when pressed, which takes a minute.",
                )  # fmt: skip
            else:
                st.caption('As a folder of ONNX graphs: `pip install "dmpo-explore[onnx]"` first.', width="content")


def _has_weights(run: dx.Run) -> bool:
    return (run.path / dx.runs.WEIGHTS).is_file() and downloads.missing_weights_of(run) is None


def _export_command(run: dx.Run, policy: dx.Policy) -> str:
    options = code_export.target_of(policy) or dx.Target.threshold(policy.thresholds)
    words = ["--policy", policy.name, *options.to_options()]
    return f"dmpo-explore export {run.quoted} --out onnx {shlex.join(words)}"


def exported(run: dx.Run, policy: dx.Policy) -> bytes:
    """The run's export as a ZIP; raises as `dx.inference.export_run`."""
    with tempfile.TemporaryDirectory() as place, model_queue.exclusive_use("an export"):
        folder = dx.inference.export_run(run, Path(place) / f"{run.name}-onnx", policy)
        return Path(shutil.make_archive(str(folder), "zip", place, folder.name)).read_bytes()
