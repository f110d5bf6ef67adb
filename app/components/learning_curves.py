"""Training curves of a run: loss weights, losses and accuracy of every exit over epochs."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dmpo_explore_app.components import job_texts, share, widgets
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import code_export
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx


def curves(run: dx.Run, facts: DeltaGenerator, top: DeltaGenerator) -> None:
    """The curves, their legend and their numbers.

    Args:
        facts: place for what was trained. top: place for the share popover.

    Raises:
        OSError, ValueError: as `Run.history`, before anything is drawn.
    """
    history = run.history()
    figure, text = dx.figures.learning_figure(history), described(run, history)
    facts.markdown(text)
    widgets.wide_chart(figure, "learning", 340, _alternative(history))
    st.caption(legend(history))
    with st.expander("Numbers", icon=":material/table:"):
        st.dataframe(history, hide_index=True)
    with top:
        code = f"import dmpo_explore as dx\n\nprint(dx.load_run({code_export.reference(run)!r}).history())"
        share.popover(f"{run.name}-training", {}, {"epochs": lambda: history}, {"curves": lambda: figure}, lambda: code)


def live(name: str) -> None:
    """The curves of a training so far; nothing where they cannot be read at this moment."""
    try:
        history = dx.load_run(name).history()
        figure = dx.figures.history_figure(history)
    except (OSError, ValueError):
        return  # it is being written
    widgets.wide_chart(figure, f"live {name}", 240, _alternative(history))


def described(run: dx.Run, history: pd.DataFrame) -> str:
    """Data, model, schedule and duration of a training, in a line of Markdown."""
    config = run.config
    images = "all" if config.data.train_size is None else f"{config.data.train_size:,}"
    parts = [
        f"{images} images of **{escape_markdown(config.data.name)}**",
        escape_markdown(config.model.backbone),
        f"bypass **{escape_markdown(config.model.bypass)}**",
        f"predictor **{escape_markdown(config.model.predictor)}**",
        f"schedule **{escape_markdown(config.training.schedule)}**",
        f"{len(history)} of {config.training.epochs} epochs",
    ]
    if "seconds" in history:
        parts.append(job_texts.duration(float(history["seconds"].sum())))
    return " · ".join(parts)


def legend(history: pd.DataFrame) -> str:
    """What the dotted line and the shaded part mean."""
    kept, second = dx.figures.kept_epoch(history), dx.figures.second_phase(history)
    texts = ["λ: weight of each exit's loss in the sum that is minimised. Loss: on training images; accuracy: on val."]
    texts.append(f"Dotted: epoch {kept}, the one that is kept (the largest area under accuracy over compute on val).")
    if second is not None:
        texts.append(f"Shaded: from epoch {second} on exit 1 weighs at least as much as the last: the second phase.")
    return " ".join(texts)


def _alternative(history: pd.DataFrame) -> str:
    last = history.iloc[-1]
    n_exits = sum(str(column).startswith("accuracy_") for column in history.columns)
    found = ", ".join(f"exit {i} {last[f'accuracy_{i}']:.1%}" for i in range(1, n_exits + 1))
    return f"Loss weight, loss and accuracy of every exit over {len(history)} epochs; at the end {found}."
