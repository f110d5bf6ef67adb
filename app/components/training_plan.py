"""What a configured training would do: its loss weights, time and memory; the buttons that measure and start it."""

from __future__ import annotations

import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import job_cards, job_texts, widgets
from dmpo_explore_app.state import jobs as state
from dmpo_explore_app.state import training_choices as form_state

import dmpo_explore as dx


def planned(config: dx.Config) -> None:
    """The loss weights of every exit over the planned epochs."""
    training, model = config.training, config.model
    blocks = range(1, model.exits + 1) if isinstance(model.exits, int) else model.exits
    n_exits, depths = len(blocks), [block / blocks[-1] for block in blocks]
    try:
        rows = [
            dx.training.loss_weights(
                training.schedule, epoch, training.epochs, n_exits, phase_ratio=training.phase_ratio, depths=depths
            )
            for epoch in range(training.epochs)
        ]
    except ValueError as error:  # of a schedule that plans no weights
        st.caption(messages.escape_markdown(str(error)))
        return
    schedule = messages.escape_markdown(training.schedule)
    st.caption(f"How much the loss of each exit weighs (λ) as training goes on, by the schedule {schedule}")
    figure = dx.figures.schedule_figure(rows).update_xaxes(dtick=-(-training.epochs // 8))
    if training.epochs == 1:
        figure.update_traces(mode="markers")
    alt = f"Loss weights of {n_exits} exits over {training.epochs} epochs by schedule {training.schedule}."
    widgets.chart(figure, "planned", 210, alt)


def start_controls(config: dx.Config, name: str) -> None:
    """Time and memory if such steps have been measured, and the buttons that measure and start a training."""
    shown, running, beside = st.container(), job_cards.running(), False
    if running:
        names = ", ".join(map(messages.escape_markdown, running))
        are, all_of = ("is", "both") if len(running) == 1 else ("are", "all")
        beside = st.checkbox(f"Start although {names} {are} being trained ({all_of} take longer)", key=state.BESIDE)
    with st.container(horizontal=True, gap="small"):
        begin = st.button(
            "Start training", type="primary", icon=":material/play_arrow:", disabled=bool(running) and not beside
        )
        time_it = st.button("Measure", icon=":material/timer:", help="Trains a few real steps and keeps nothing.")
    if begin:
        start(config, name, beside)
    if time_it:
        measure(config)
    with shown:
        rates = state.rates_of(config)
        if rates is not None:
            show_estimate(dx.jobs.estimate_training(config, rates), rates)
        else:
            st.markdown("**Time and memory** can be measured on a few real steps, which takes some seconds.")


def start(config: dx.Config, name: str, beside: bool) -> None:
    """Start a background training and draw the page again with its card; or report why it was not started."""
    try:
        access.check_private("Trainings are started")
        dx.jobs.start(config, name, beside=beside)
    except (OSError, ValueError) as error:
        messages.problem("The training was not started.", error)
        return
    state.follow_started(name, config)
    form_state.forget_name()
    st.rerun()


def measure(config: dx.Config) -> None:
    try:
        with st.spinner("Timing a few steps …"):
            state.keep_rates(config, dx.jobs.measure(config))
    except (OSError, ValueError) as error:
        messages.problem("Nothing was measured.", error)


def show_estimate(found: dx.jobs.Estimate, rates: dx.jobs.Rates) -> None:
    low, high = map(job_texts.duration, found.seconds)
    small, large = (size / 2**30 for size in found.memory)
    with st.container(horizontal=True, gap="medium"):
        st.metric("Time", low if low == high else f"{low} – {high}")
        st.metric("Memory", f"{small:.1f} – {large:.1f} GiB")
    place = messages.escape_markdown(rates.device)
    gpu = f", {rates.device_memory / 2**30:.1f} GiB of it the GPU's" if rates.device_memory else ""
    st.caption(
        f"From {job_texts.counted(len(rates.steps), 'step')} of {job_texts.counted(rates.batch_size, 'image')} "
        f"({job_texts.step_range(rates.steps)}{' each' if len(rates.steps) > 1 else ''}) and "
        f"one validation on {place}{gpu}, as busy as it was then. "
        f"{job_texts.duration(found.recording)} of the time are for recording its splits. Memory: from the measured "
        "peak to a quarter more."
    )
    st.caption(f"{dx.fitting.certifiable(rates.calibration).capitalize()}.")
