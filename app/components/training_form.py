"""The training form: a widget per option of a run's config, with the config's own help, choices and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st
from dmpo_explore_app import messages
from dmpo_explore_app.state import training_choices as state

import dmpo_explore as dx

MAIN = (
    "data.name", "data.train_size", "training.epochs", "model.exits", "model.bypass", "model.predictor",
)  # fmt: skip
ADVANCED = tuple(option for option in dx.OPTIONS if option not in (*MAIN, *state.LEFT_OUT))
TEACHERS = {state.NO_TEACHER: "none", state.OWN_TEACHER: "a full model, trained first"}  # beside runs
TOY, OWN = "toy, in seconds", "my own images"
ABOUT = {
    TOY: "200 handwritten digits, a tiny untrained ViT and two exits: the whole way to *Explore* in seconds, with low "
    "accuracy. Nothing is fetched.",
    "DMPO on Fashion-MNIST": "The method of this app, on 1,000 images of clothes: minutes on a CPU.",
    OWN: "DMPO on a folder with one subfolder per class, by the recipe for photographs: a full model is trained first "
    "and teaches the exits. The page *Bring your own* checks the folder first.",
    "naive exits": "Early exits without a bypass (a path beside the blocks) and without second-order statistics "
    "(covariances of features): what DMPO is compared with.",
    "single exit": "The plain model: what early exits are compared with.",
}


def presets() -> dict[str, dx.Config]:
    """Configs that the form may begin with: a toy, DMPO, the reader's own images, plain early exits, a single exit."""
    data = dx.DataConfig("fashion-mnist", train_size=1000)
    training = dx.TrainingConfig(epochs=3)
    naive = dx.ModelConfig(bypass="none", predictor="linear")
    toy = dx.ModelConfig("test_vit", "random", 32, exits=2, rank=4, bypass_width=8, channels=8)
    quick = dx.TrainingConfig(batch_size=20, precision="no", predictor_lr=1e-2, flip=False)
    configs = (
        dx.Config(dx.DataConfig("digits", train_size=200), toy, quick),
        dx.Config(data, dx.ModelConfig(), training),
        dx.training.with_recipe("photographs", dx.Config(dx.DataConfig(state.FOLDER))),
        dx.Config(data, naive, replace(training, schedule="uniform")),
        dx.Config(data, dx.ModelConfig(exits=1), training),
    )
    return dict(zip(ABOUT, configs, strict=True))


def draw(beside: Mapping[str, dx.Config]) -> None:
    """All widgets; ``beside`` are further configs that the form may begin with, name → config."""
    offered = presets() | dict(beside)
    state.begin_with(offered)
    state.propose_name()
    st.pills(
        "Start from",
        list(dict.fromkeys([*offered, state.preset()])),  # the start stays on offer, though another run is shown
        key=state.PRESET,
        required=True,
        on_change=_begin,
        args=(offered,),
        persist_state="session",
    )
    st.caption(ABOUT.get(state.preset(), "The settings of that run. Change what you like."))
    if state.value("data.name") == state.FOLDER:
        st.text_input(
            "Folder or table of images",
            key=state.FOLDER_PATH,
            placeholder="/home/me/images",
            help="One subfolder per class, or train/, val/ and test/ with one per class; or a table (.csv, "
            ".jsonl, .parquet) with columns path, label and perhaps split and group; or timm's hfds/NAME, wds/FOLDER.",
            persist_state="session",
        )
    if state.is_table():
        with st.grid(4, min_column_width=140, gap="small"):
            for option in state.TABLE:
                found = dx.OPTIONS[option]
                shared: dict[str, Any] = {"help": found.help, "persist_state": "session"}
                shared |= {"key": state.key(option), "placeholder": _default(found.help)}
                st.text_input(found.title, max_chars=200, **shared)
    _widgets(MAIN, columns=3)
    st.text_input("Name of the run", key=state.NAME, max_chars=100, width=240, persist_state="session")
    with st.expander(f"{len(ADVANCED)} more settings", icon=":material/settings:"):
        for part, title in (("data.", "Data"), ("model.", "Model"), ("training.", "Training")):
            st.subheader(title, anchor=False)
            _widgets([option for option in ADVANCED if option.startswith(part)])


def warn(error: Exception) -> None:
    st.warning(messages.with_code(error), icon=":material/edit:")


def _begin(offered: Mapping[str, dx.Config]) -> None:
    if (config := offered.get(state.preset())) is not None:
        state.fill(config)


def _default(help: str) -> str:
    """What an option's help names for an empty field."""
    return help.partition("default: ")[2].rstrip(".")


def _widgets(options: Sequence[str], columns: int = 3) -> None:
    with st.grid(columns, min_column_width=140, gap="small", vertical_alignment="bottom"):
        for option in options:
            _widget(option)


def _widget(option: str) -> None:
    found, key = dx.OPTIONS[option], state.key(option)
    shared: dict[str, Any] = {"key": key, "help": found.help, "persist_state": "session"}
    if option == "data.name":
        shared["on_change"] = state.follow_data
    if offered := state.choices(option):
        now = state.value(option)
        own = () if now in offered or now is None else (now,)  # of the config that the form began with
        if option == state.TEACHER:
            shared["format_func"] = lambda name: TEACHERS.get(name, name)
        st.selectbox(found.title, (*offered, *own), **shared)
    elif bool in found.kinds and found.optional:
        answers = {True: "yes", False: "no"}
        st.selectbox(found.title, list(answers), None, answers.__getitem__, placeholder="if large enough", **shared)
    elif bool in found.kinds:
        st.checkbox(found.title, **shared)
    elif tuple in found.kinds:
        st.text_input(found.title, max_chars=100, **shared)
    else:
        least, most = state.wider_bounds(option)
        if int not in found.kinds:
            shared |= {"step": 0.0005 if "_lr" in found.name else 0.05, "format": "%g"}
        elif found.optional:
            shared |= {"step": 100, "value": None, "placeholder": _default(found.help)}
        kind = int if int in found.kinds else float
        shared |= {"min_value": kind(least), "max_value": None if most is None else kind(most)}
        st.number_input(found.title, **shared)
