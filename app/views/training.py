"""Training: how a run learned, epoch by epoch; train one of your own in the background and watch it.

In: runs (bundled and under the runs root), the form's choices. Out: `figures_training.learning_figure` of a run's
history, cards of `jobs`, and a new job. A training is a process of its own: no model runs here, torch is not imported.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pandas as pd
import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.components import job_cards, share, training_form, widgets
from dmpo_explore_app.services import cache, code_export, record_folder
from dmpo_explore_app.state import choices, url
from dmpo_explore_app.state import training as form_state
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx
from dmpo_explore import jobs
from dmpo_explore.figures import method
from dmpo_explore.figures import training as training_module
from dmpo_explore.jobs.estimate import Estimate, Rates, estimate, probe
from dmpo_explore.training.schedules import loss_weights

KEYS = ("run",)
FOLLOWED = "_followed_job"  # a job of this session whose run is shown as soon as it is there
STARTED = "_started_job"  # ... that was started just now


def page() -> None:
    """Title; what runs in the background; a run's curves; the form."""
    top = st.container(horizontal=True, vertical_alignment="center")
    top.title("How does it learn?", anchor=False)
    if name := st.session_state.pop(STARTED, None):
        st.toast(f"{messages.plain(name)} is being trained; its card is on top of this page.", icon=":material/check:")
    job_cards.error()
    job_cards.panel()
    names = dx.list_runs()
    url.follow(KEYS)
    follow_job(names)
    if names:
        curves(names, top)
    form(names)


def follow_job(names: Sequence[str]) -> None:
    """Show the run that this session started once its first epoch is there."""
    if (name := st.session_state.get(FOLLOWED)) in names:
        st.session_state["run"] = name
        del st.session_state[FOLLOWED]


# -- a run's curves --


def curves(names: Sequence[str], top: DeltaGenerator) -> None:
    """Loss weights, losses and accuracy of a chosen run; ``top`` is the title's row, where one may share them."""
    name = choices.settle_run(names)
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="choices"):
        st.selectbox("Run", names, key="run", width=240, help="Any run that was trained.", persist_state="session")
        facts = st.container()
    try:
        run = dx.load_run(name)
        history = run.history()
        figure = training_module.learning_figure(history)
    except (OSError, ValueError) as error:
        messages.problem(f"How {messages.plain(name)} learned cannot be shown.", error)
        return
    with facts:
        st.markdown(described(run, history))
    last = history.iloc[-1]
    k = sum(str(column).startswith("accuracy_") for column in history.columns)
    found = ", ".join(f"exit {i} {last[f'accuracy_{i}']:.1%}" for i in range(1, k + 1))
    alt = f"Loss weight, loss and accuracy of every exit over {len(history)} epochs; at the end {found}."
    widgets.chart(figure, "learning", 340, alt)
    st.caption(legend(history))
    with st.expander("Numbers", icon=":material/table:"):
        st.dataframe(history, hide_index=True)
    with top:
        code = f"import dmpo_explore as dx\n\nprint(dx.load_run({code_export.reference(run)!r}).history())"
        share.popover(f"{run.name}-training", {}, {"epochs": lambda: history}, {"curves": lambda: figure}, lambda: code)
    url.write(run=run.name)


def described(run: dx.Run, history: pd.DataFrame) -> str:
    """What was trained, in a line."""
    config, plain = run.config, messages.plain
    images = "all" if config.data.train_size is None else f"{config.data.train_size:,}"
    parts = [
        f"{images} images of **{plain(config.data.name)}**",
        plain(config.model.backbone),
        f"bypass **{plain(config.model.bypass)}**",
        f"predictor **{plain(config.model.predictor)}**",
        f"schedule **{plain(config.training.schedule)}**",
        f"{len(history)} of {config.training.epochs} epochs",
    ]
    if "seconds" in history:
        parts.append(job_cards.clock(float(history["seconds"].sum())))
    return " · ".join(parts)


def legend(history: pd.DataFrame) -> str:
    """What is marked in the curves."""
    kept, early = training_module.kept_epoch(history), training_module.second_phase(history)
    texts = [f"Dotted: epoch {kept}, the one that is kept (the largest area under accuracy over compute on val)."]
    if early is not None:
        texts.append(f"Shaded: from epoch {early} on exit 1 weighs at least as much as the last: the second phase.")
    return " ".join(texts)


# -- a run of one's own --


def form(names: Sequence[str]) -> None:
    """The form, or why there is none."""
    st.header("Train your own", anchor=False)
    if not record_folder.is_private():
        st.info(
            "This app can be reached from other machines, so trainings are started on its own machine: "
            "`dmpo-explore train --data fashion-mnist --train-size 1000 --epochs 3 --name mine --record`.",
            icon=":material/lock:",
        )
        return
    st.fragment(_form)(tuple(names))


def _form(names: Sequence[str]) -> None:
    shown = str(st.session_state.get("run"))
    with st.container(key="halves"):
        left, right = st.columns([7, 5], gap="medium")
    with left, st.container(border=True):
        training_form.draw(like(shown) if shown in names else {})
    with right:
        try:
            config = form_state.read()
            jobs.check_name(form_state.name())
            cache.ready(config)
            st.caption(f"Planned by schedule {messages.plain(config.training.schedule)}")
            planned(config)
        except (OSError, ValueError) as error:
            training_form.warn(error)
            return
        with st.container(border=True):
            decide(config)
        st.caption("The same in a terminal:")
        st.code(command(config), language="sh", wrap_lines=True)


def like(name: str) -> dict[str, dx.Config]:
    """The config of the run that is shown, as a beginning."""
    try:
        return {f"like {name}": dx.load_run(name).config}
    except (OSError, ValueError):
        return {}  # `curves` has said what is wrong


def planned(config: dx.Config) -> None:
    """The loss weights that the schedule would give."""
    training, model = config.training, config.model
    n_exits = model.exits if isinstance(model.exits, int) else len(model.exits)
    rows = [
        loss_weights(training.schedule, epoch, training.epochs, n_exits, phase_ratio=training.phase_ratio)
        for epoch in range(training.epochs)
    ]
    figure = method.schedule_figure(rows).update_xaxes(dtick=-(-training.epochs // 8))
    if training.epochs == 1:
        figure.update_traces(mode="markers")
    alt = f"Loss weights of {n_exits} exits over {training.epochs} epochs by schedule {training.schedule}."
    widgets.chart(figure, "planned", 210, alt)


def decide(config: dx.Config) -> None:
    """Time and memory, if a few steps of such a training have been timed; the buttons that time them and start it."""
    measured: dict[str, Rates] = st.session_state.setdefault("_rates", {})
    key, shown = probe(config).to_json(), st.container()
    running = job_cards.running()
    beside = False
    if running:
        names = ", ".join(map(messages.plain, running))
        beside = st.checkbox(f"Start although {names} is being trained (both take longer)", key="train beside")
    with st.container(horizontal=True, gap="small"):
        begin = st.button(
            "Start training", type="primary", icon=":material/play_arrow:", disabled=bool(running) and not beside
        )
        time_it = st.button("Measure", icon=":material/timer:", help="Trains a few real steps and keeps nothing.")
    if begin:
        start(config, beside, measured.get(key))
    if time_it:
        try:
            with st.spinner("A few steps are being timed …"):
                measured[key] = jobs.measure(config)
        except (OSError, ValueError) as error:
            messages.problem("Nothing was measured.", error)
    with shown:
        if key in measured:
            show_costs(estimate(config, measured[key]), measured[key])
        else:
            st.markdown("**Time and memory** can be measured on a few real steps, which takes some seconds.")


def start(config: dx.Config, beside: bool, rates: Rates | None) -> None:
    """Start it and show its card; or say why not."""
    name = form_state.name()
    try:
        jobs.start(config, name, beside=beside)
    except (OSError, ValueError) as error:
        messages.problem("The training was not started.", error)
        return
    st.session_state.setdefault("_rates_of", {})[name] = rates
    st.session_state[FOLLOWED] = st.session_state[STARTED] = name
    form_state.forget_name()
    st.rerun()


def show_costs(found: Estimate, rates: Rates) -> None:
    """Ranges, and what they rest on."""
    low, high = map(job_cards.clock, found.seconds)
    small, large = (size / 2**30 for size in found.memory)
    with st.container(horizontal=True, gap="medium"):
        st.metric("Time", low if low == high else f"{low} – {high}")
        st.metric("Memory", f"{small:.1f} – {large:.1f} GiB")
    place = messages.plain(rates.device)
    gpu = f", {rates.device_memory / 2**30:.1f} GiB of it the GPU's" if rates.device_memory else ""
    st.caption(
        f"From {len(rates.steps)} steps of {rates.batch_size} images ({job_cards.span(rates.steps)} each) and one "
        f"validation on {place}{gpu}, as busy as it was then. "
        f"{job_cards.clock(found.recording)} of the time go to recording val and test. Memory: from the peak seen "
        "to a quarter more."
    )


def command(config: dx.Config) -> str:
    """What one types for the same."""
    return shlex.join(["dmpo-explore", "train", *config.to_arguments(), "--name", form_state.name(), "--record"])


page()
