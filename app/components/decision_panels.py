"""The decision of the page Decide: the budget and what may be lost, the run to take, and the files to take it with."""

from __future__ import annotations

import html
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

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
    "**Points**: accuracy below the best full model of these runs. **Early-exit errors**: images that are incorrect "
    "where they exit although the last exit is correct; the bound holds with 95% confidence (Learn then Test)."
)
NO_TIMES = "No milliseconds are known yet, so the budget is in GFLOPs. Measure them, or open another device's."


# -- the question --


def question(runs: Sequence[dx.Run], split: str) -> Wanted:
    """I have so much compute or time, and may lose so much: two numbers with their units, and a slider."""
    wished, (times, refused) = state.validate_unit(), _usable_times(runs, split)
    unit = wished if times else "GFLOPs"
    first = Wanted(0.0, times=times if unit == "ms" else None)
    low, high = comparison.budget_range(runs, split, first)
    reference = records.record(runs[0], split).meta.reference_flops / 1e9
    usual = comparison.upwards(reference / 2) if unit == "GFLOPs" else high
    budget = state.validate_budget(unit, low, usual, reference)
    lose, risk = state.validate_limit()
    high = max(high, budget)
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="question"):
        st.markdown("I have", width="content")
        _number("Budget", state.BUDGETS[unit], 10.0 ** (len(f"{high:.0f}") - 3), BUDGET_HELP)
        _unit("Unit", state.UNIT, {name: name for name in state.BUDGETS}, 110)
        st.markdown("an image and may lose", width="content")
        _number("Limit", state.LOSE if risk is None else state.RISK, 0.1, LIMIT_HELP)
        _unit("What may be lost", state.LIMIT, state.LIMITS, 200)
        _times(runs)
    st.slider(
        "Budget", low, max(high, 1.01 * low), key=state.SLIDER, step=(high - low) / 200 or low, format="%.3g",
        on_change=state.slid, args=(unit, comparison.upwards(low)), label_visibility="collapsed",
    )  # fmt: skip
    for reason in (refused or ([] if times else [NO_TIMES])) if wished == "ms" else []:
        messages.notice(reason)
    return Wanted(budget, lose, risk, first.times)


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


def _unit(label: str, key: str, options: dict[str, str], width: int) -> None:
    st.selectbox(
        label, list(options), format_func=options.__getitem__, key=key, width=width, label_visibility="collapsed",
        persist_state="session",
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
    """The best run in a sentence, with its interval against the next and what a bound would cost."""
    if found.best is None:
        _answered("No run keeps the budget and the limit", [_nearest(found)])
        if enough := comparison.least_budget(sides, wanted):
            name = messages.escape_markdown(enough.name)
            text = f"Raise the budget to {enough.budget:.3g} {wanted.unit}: then {name} qualifies"
            st.button(text, on_click=state.take_budget, args=(wanted.unit, enough.budget), key=state.ENOUGH)
        return
    best, row = next(side for side in sides if side.name == found.best), found.table.iloc[0]
    name, cost = html.escape(best.name), f"{best.cost(wanted):.3g} {wanted.unit}"
    lost = f"{_points(row['lost'])} {found.reference} at full depth, the best of them. {_lead(found)}"
    verdict = "is the one to take" if _too_close(found) else "is best"
    title = f"{name} <small>{verdict}:</small> {row['accuracy']:.2%} <small>at</small> {cost}"
    _answered(title, [lost, _bound(best, wanted)])


def _answered(title: str, lines: Sequence[str]) -> None:
    texts = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
    st.html(f'<div class="dx-answer"><h2>{title}</h2>{texts}</div>')


def _nearest(found: dx.analysis.RunChoice) -> str:
    """Of the runs that keep the budget, the one that loses least."""
    rows = found.table[found.table["reason"].str.startswith("loses")]
    if rows.empty:
        return "No run fits this budget; the table says why."
    return f"Within the budget {rows['run'].iloc[0]} comes nearest: it loses {100 * rows['lost'].iloc[0]:.2f} points."


def _lead(found: dx.analysis.RunChoice) -> str:
    if found.next is None or found.lead is None:
        return "The only one within the budget and the limit."
    difference, *ends = found.lead
    low, high = (_apart(end) or "0" for end in ends)
    text = f"{_points(-difference)} {found.next}, the next (95%: {low} to {high})"
    return text + (f": too close to tell, and {found.best} costs no more." if _too_close(found) else ".")


def _too_close(found: dx.analysis.RunChoice) -> bool:
    """Whether the best run and the next cannot be told apart: their interval holds 0."""
    return found.lead is not None and found.lead[1] <= 0 <= found.lead[2]


def _points(lost: float) -> str:
    return _apart(-lost, " points") or "Level with"


def _apart(difference: float, unit: str = "") -> str:
    """``0.31 below``; empty where it is none after rounding."""
    points = f"{100 * abs(difference):.2f}"
    return "" if points == "0.00" else f"{points}{unit} {'below' if difference < 0 else 'above'}"


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
    by_time = Wanted(0.0, times=state.times())
    alike = len({side.record.meta.reference_flops for side in sides}) == 1  # else shares are not of the same
    rows = []
    for row in found.table.to_dict("records"):
        side, struck = named[row["run"]], "~~" if row["reason"] else ""
        cells = {
            "run": f"{struck}{messages.escape_markdown(row['run'])}{struck}",
            "accuracy": f"{struck}{row['accuracy']:.2%}{struck}",
            "GFLOPs": f"{row['flops'] / 1e9:.3g}" + f" ({row['flops_fraction']:.0%})" * alike,
            "ms": f"{side.cost(by_time):.3g}".replace("nan", "–"),
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
