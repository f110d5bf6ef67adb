"""The training form: a widget per option of a run's config, with the config's own help, choices and bounds.

In: presets and further configs to begin with; the values in `state.training`. Out: widgets. Every name is one of a
list; numbers, blocks, the name and, on this machine, a folder of images are typed, and checked before a start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.state import training as state

import dmpo_explore as dx

MAIN = (
    "data.name", "data.train_size", "training.epochs", "model.exits", "model.bypass", "model.predictor",
    "training.schedule", "model.tuning", "training.predictor_lr", "training.tuning_lr", "training.batch_size",
    "training.flip",
)  # fmt: skip
ADVANCED = tuple(option for option in dx.OPTIONS if option not in (*MAIN, *state.LEFT_OUT))
SMALLEST, LARGEST, MOST_EPOCHS = 1e-6, 10**6, 10_000  # typed here; the schedule is drawn for every epoch


def presets() -> dict[str, dx.Config]:
    """Configs that the form may begin with: DMPO, plain early exits, a single exit and a toy."""
    data = dx.DataConfig("fashion-mnist", train_size=1000)
    training = dx.TrainingConfig(epochs=3)
    naive = dx.ModelConfig(bypass="none", predictor="linear")
    toy = dx.ModelConfig("test_vit", "random", 32, exits=2, rank=4, bypass_width=8, channels=8)
    quick = dx.TrainingConfig(batch_size=20, precision="no", predictor_lr=1e-2, flip=False)
    return {
        "DMPO": dx.Config(data, dx.ModelConfig(), training),
        "naive exits": dx.Config(data, naive, replace(training, schedule="uniform")),
        "single exit": dx.Config(data, dx.ModelConfig(exits=1), training),
        "toy, in seconds": dx.Config(dx.DataConfig("digits", train_size=200), toy, quick),
    }


def draw(beside: Mapping[str, dx.Config]) -> None:
    """All widgets; ``beside`` are further configs that the form may begin with, name → config."""
    offered = presets() | dict(beside)
    state.begin_with(*next(iter(offered.items())))
    state.propose_name()
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        st.text_input("Name of the run", key=state.NAME, max_chars=100, width=240, persist_state="session")
        st.selectbox(
            "Begin with",
            list(
                dict.fromkeys([*offered, state.preset()])
            ),  # the beginning stays on offer, though another run is shown
            key=state.PRESET,
            width=240,
            on_change=_begin,
            args=(offered,),
            help="Fills the fields below; change what you like.",
            persist_state="session",
        )
    _widgets(MAIN)
    if state.value("data.name") == state.FOLDER:
        st.text_input(
            "Folder or table of images",
            key=state.FOLDER_PATH,
            placeholder="/home/me/images",
            help="One subfolder per class, or train/, val/ and test/ with one per class; or a table (.csv, .parquet) "
            "with columns path, label and perhaps split and group; or timm's hfds/NAME, wds/FOLDER, torch/NAME.",
            persist_state="session",
        )
    with st.expander("Advanced", icon=":material/settings:"):
        for part in ("data.", "model.", "training."):
            _widgets([option for option in ADVANCED if option.startswith(part)])


def warn(error: Exception) -> None:
    """Show what is wrong with the form; the library's errors name the fix."""
    st.warning(messages.with_code(error), icon=":material/edit:")


def choices(option: str) -> tuple[str, ...]:
    """The names that an option's selectbox offers."""
    return (*dx.OPTIONS[option].choices, *([state.FOLDER] if option == "data.name" else []))


def bounds(option: str) -> tuple[float, float | None]:
    """The smallest and the largest number that can be typed for an option; None: unbounded."""
    found = dx.OPTIONS[option]
    whole = int in found.kinds
    if found.lt is not None:
        most: float | None = found.lt - 0.01
    else:
        most = found.le if found.le is not None else LARGEST if whole else None
    if option == "training.epochs":
        most = MOST_EPOCHS
    if found.gt is not None and not found.zero_is_none:
        return found.gt + SMALLEST, most
    return found.ge or 0, most


def _begin(offered: Mapping[str, dx.Config]) -> None:
    if (config := offered.get(state.preset())) is not None:
        state.fill(config)


def _widgets(options: Sequence[str]) -> None:
    with st.grid(4, min_column_width=140, gap="small", vertical_alignment="bottom"):
        for option in options:
            _widget(option)


def _widget(option: str) -> None:
    found, key = dx.OPTIONS[option], state.key(option)
    label = found.label or found.name.replace("_", " ").capitalize()
    shared: dict[str, Any] = {"key": key, "help": found.help, "persist_state": "session"}
    if option == "data.name":
        shared["on_change"] = state.follow_data
    if found.choices:
        now = state.value(option)
        own = () if now in choices(option) or now is None else (now,)  # of the config that the form began with
        st.selectbox(label, (*choices(option), *own), **shared)
    elif bool in found.kinds and found.optional:
        answers = {True: "yes", False: "no"}
        st.selectbox(label, list(answers), None, answers.__getitem__, placeholder="if large enough", **shared)
    elif bool in found.kinds:
        st.checkbox(label, **shared)
    elif tuple in found.kinds:
        st.text_input(label, max_chars=100, **shared)
    else:
        least, most = bounds(option)
        if int not in found.kinds:
            shared |= {"step": 0.0005 if "_lr" in found.name else 0.05, "format": "%g"}
        elif found.optional:
            shared |= {"step": 100, "value": None, "placeholder": "all"}
        kind = int if int in found.kinds else float
        shared |= {"min_value": kind(least), "max_value": None if most is None else kind(most)}
        st.number_input(label, **shared)
