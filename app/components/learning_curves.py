"""Training curves of a run: loss weights, losses and accuracy of every exit over epochs."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from dmpo_explore_app.components import job_texts, share, widgets
from dmpo_explore_app.messages import escape_markdown
from dmpo_explore_app.services import run_facts
from streamlit.delta_generator import DeltaGenerator

import dmpo_explore as dx


def curves(run: dx.Run, facts: DeltaGenerator, top: DeltaGenerator) -> None:
    """The curves, their legend and numbers; raises as `Run.history`, before anything is drawn."""
    history = run.history()
    figure, text = dx.figures.learning_figure(history), described(run, history)
    facts.markdown(text)
    widgets.panels(figure, "learning", 300, _alternatives(history))
    st.caption(legend(history))
    with st.expander("Numbers", icon=":material/table:"):
        st.dataframe(history, hide_index=True)
    with top:
        code = f"import dmpo_explore as dx\n\nprint(dx.load_run({run.reference!r}).history())"
        share.popover(f"{run.name}-training", {}, {"epochs": lambda: history}, {"curves": lambda: figure}, lambda: code)


def live(name: str) -> None:
    """The curves of a training so far; nothing where they cannot be read at this moment."""
    try:
        history = dx.load_run(name).history()
        figure = dx.figures.history_figure(history)
    except (OSError, ValueError):
        return  # it is being written
    widgets.panels(figure, f"live {name}", 220, _alternatives(history))


def described(run: dx.Run, history: pd.DataFrame) -> str:
    config = run.config
    single = (config.model.exits if isinstance(config.model.exits, int) else len(config.model.exits)) == 1
    model = config.model
    bypass, predictor = model.exit_parts
    images = "all" if config.data.train_size is None else f"{config.data.train_size:,}"
    parts = [
        f"{images} images of **{escape_markdown(run_facts.data(config.data.name))}**",
        escape_markdown(run_facts.backbone(model.backbone)),
        f"bypass **{escape_markdown(bypass)}**",
        f"predictor **{escape_markdown(predictor)}**",
        *([] if single else [f"schedule **{escape_markdown(config.training.schedule)}**"]),
        f"{len(history)} of {job_texts.counted(config.training.epochs, 'epoch')}",
    ]
    if "seconds" in history:
        parts.append(job_texts.duration(float(history["seconds"].sum())))
    return " · ".join(parts)


def legend(history: pd.DataFrame) -> str:
    kept, second = dx.figures.kept_epoch(history), dx.figures.second_phase(history)
    texts = ["λ: weight of each exit's loss in the sum that is minimised. Loss: on training images; accuracy: on val."]
    texts.append(f"Dotted: epoch {kept}, the one that is kept (the largest area under accuracy over compute on val).")
    if second is not None:
        texts.append(f"Shaded: from epoch {second} on, exit 1 weighs at least as much as the last: the second phase.")
    return " ".join(texts)


def _alternatives(history: pd.DataFrame) -> list[str]:
    last, epochs = history.iloc[-1], job_texts.counted(len(history), "epoch")
    n_exits, found = sum(str(column).startswith("accuracy_") for column in history.columns), []
    for what, column, form in (
        ("Loss weight", "lambda", ".2f"),
        ("Loss", "loss", ".3f"),
        ("Accuracy", "accuracy", ".1%"),
    ):
        ends = ", ".join(f"exit {i} {last[f'{column}_{i}']:{form}}" for i in range(1, n_exits + 1))
        found.append(f"{what} of every exit over {epochs}; at the end {ends}.")
    return found
