"""The form of the view Training: widgets → a config and a name for a new run, or what is wrong with them.

In: ``st.session_state``. Out: a `dx.Config` whose every choice is one of a list; only numbers, blocks, the name and, on
this machine, a folder of pictures are typed, and all are checked before anything is started. Nothing imports torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
import typer
from dmpo_explore_app import messages
from dmpo_explore_app.services import record_folder

import dmpo_explore as dx
from dmpo_explore import jobs
from dmpo_explore.cli.options import parse_exits
from dmpo_explore.config import HELP
from dmpo_explore.data.images import DATASETS
from dmpo_explore.training.schedules import SCHEDULES

Field = tuple[str, str]  # section and name, as in the config
FOLDER = "a folder of mine"
CHOICES: dict[Field, tuple[str, ...]] = {  # a test holds them against the library's registries
    ("data", "name"): (*DATASETS, FOLDER),
    ("model", "backbone"): (
        "vit_small_patch14_dinov2", "tf_efficientnet_lite0", "test_vit", "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "resnet10t",
    ),
    ("model", "weights"): ("auto", "timm", "random"),
    ("model", "tuning"): ("lora-all", "lora", "adapter", "none", "full"),
    ("model", "bypass"): ("conv", "mlp", "ladder", "none"),
    ("model", "predictor"): ("covariance", "moment", "linear"),
    ("model", "normalisation"): ("isqrt", "sqrt"),
    ("model", "read"): ("auto", "cls", "mean", "both"),
    ("training", "schedule"): tuple(SCHEDULES),
    ("training", "coupling"): ("none", "sigmoid"),
    ("training", "precision"): ("bf16", "no", "fp16"),
    ("training", "frozen_precision"): ("no", "bf16"),
}  # fmt: skip
MAIN: tuple[Field, ...] = (
    ("data", "name"), ("data", "train_size"), ("training", "epochs"), ("model", "exits"),
    ("model", "bypass"), ("model", "predictor"), ("training", "schedule"), ("model", "tuning"),
    ("training", "predictor_lr"), ("training", "tuning_lr"), ("training", "batch_size"), ("training", "flip"),
)  # fmt: skip
LEFT_OUT = {("data", "root"), ("data", "seed"), ("training", "workers")}  # of no use here: they stay as they are
LABELS: dict[Field, str] = {
    ("data", "name"): "Data",
    ("data", "train_size"): "Training images",
    ("training", "flip"): "Mirror pictures",
    ("training", "predictor_lr"): "Learning rate",
    ("training", "tuning_lr"): "… of the tuning",
    ("model", "equilibrium"): "Gradient equilibrium",
    ("model", "train_norm"): "Train the exit norms",
    ("training", "clip_norm"): "Largest gradient norm",
}
RATES = (("training", "tuning_lr"), ("training", "predictor_lr"))
MOST: dict[Field, float] = {
    ("model", "dropout"): 0.99,
    ("training", "phase_ratio"): 1.0,
    ("training", "distill"): 1.0,
    ("training", "crop_scale"): 1.0,
}
MOST_WHOLE = {"seed": 2**32 - 1, "epochs": 10_000}
MOST_EXITS = 64  # more than any backbone on offer has blocks
UPRIGHT = ("digits",)  # data that no mirror may turn
NAME = "train name"
_BASE, _START = "train base", "train start"


def presets() -> dict[str, dx.Config]:
    """What the form may begin with; all of it is on offer, nothing is hidden in a preset."""
    data = dx.DataConfig("fashion-mnist", train_size=1000)
    training = dx.TrainingConfig(epochs=3)
    naive = {"bypass": "none", "predictor": "linear"}
    toy = dx.ModelConfig("test_vit", "random", 32, exits=2, rank=4, bypass_width=8, channels=8)
    quick = dx.TrainingConfig(batch_size=20, precision="no", predictor_lr=1e-2, flip=False)
    return {
        "DMPO": dx.Config(data, dx.ModelConfig(), training),
        "naive exits": dx.Config(data, dx.ModelConfig(**naive), dataclasses.replace(training, schedule="uniform")),  # type: ignore[arg-type]
        "single exit": dx.Config(data, dx.ModelConfig(exits=1), training),
        "toy, in seconds": dx.Config(dx.DataConfig("digits", train_size=200), toy, quick),
    }


def key(field: Field) -> str:
    """The widget's key."""
    return f"train {field[0]}.{field[1]}"


def fill(config: dx.Config) -> None:
    """Let the widgets show ``config``."""
    st.session_state[_BASE] = config
    for section, values in config.to_dict().items():
        for name, value in values.items():
            if name == "exits":
                value = ",".join(map(str, value)) + "," * (len(value) == 1) if isinstance(value, tuple) else str(value)
            st.session_state[key((section, name))] = 0.0 if name == "clip_norm" and value is None else value
    if config.data.name not in DATASETS:
        st.session_state[key(("data", "name"))] = FOLDER
        st.session_state["train folder"] = config.data.name


def _start_from(offered: Mapping[str, dx.Config]) -> None:
    if (config := offered.get(str(st.session_state.get(_START)))) is not None:
        fill(config)


def draw(beside: Mapping[str, dx.Config]) -> None:
    """All fields; ``beside`` are further configs that one may begin with, name → config."""
    offered = presets() | dict(beside)
    if _BASE not in st.session_state:
        fill(next(iter(offered.values())))
    begun = st.session_state.setdefault(_START, next(iter(offered)))
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        if NAME not in st.session_state:
            st.session_state[NAME] = free_name()
        st.text_input("Name of the run", key=NAME, max_chars=100, width=240, persist_state="session")
        st.selectbox(
            "Begin with",
            list(dict.fromkeys([*offered, begun])),  # what one began with stays, though another run is shown
            key=_START,
            width=240,
            on_change=_start_from,
            args=(offered,),
            help="Fills the fields below; change what you like.",
            persist_state="session",
        )
    _fields(MAIN)
    if st.session_state[key(("data", "name"))] == FOLDER:
        st.text_input(
            "Folder of pictures",
            key="train folder",
            placeholder="/home/me/pictures",
            help="One subfolder per class, or train/, val/ and test/ with one per class.",
            persist_state="session",
        )
    with st.expander("Advanced", icon=":material/settings:"):
        for section in ("model", "training"):
            _fields([(section, name) for name in HELP[section] if (section, name) not in {*MAIN, *LEFT_OUT}])


def _fields(fields: Sequence[Field]) -> None:
    with st.grid(4, min_column_width=140, gap="small", vertical_alignment="bottom"):
        for field in fields:
            _field(field)


def _field(field: Field) -> None:
    section, name = field
    usual = getattr(getattr(dx.Config(), section), name)
    options: dict[str, Any] = {"key": key(field), "help": HELP[section][name], "persist_state": "session"}
    label = LABELS.get(field, name.replace("_", " ").capitalize())
    if field == ("data", "name"):
        options |= {"on_change": _data_changed}
    if field in CHOICES:
        now = st.session_state.get(key(field))
        own = () if now in CHOICES[field] or now is None else (now,)  # of the config that one began with
        st.selectbox(label, (*CHOICES[field], *own), **options)
    elif isinstance(usual, bool):
        st.checkbox(label, **options)
    elif name == "exits":
        st.text_input(label, max_chars=100, **options)
    elif field == ("data", "train_size"):
        st.number_input(label, min_value=1, step=100, value=None, placeholder="all", **options)
    elif isinstance(usual, int):
        most = MOST_WHOLE.get(name, 10**6)
        st.number_input(label, min_value=0 if name == "seed" else 1, max_value=most, step=1, **options)
    else:
        least, step = (1e-6, 0.0005) if field in RATES else (0.0, 0.05)
        st.number_input(label, min_value=least, max_value=MOST.get(field), step=step, format="%g", **options)


def _data_changed() -> None:
    st.session_state[key(("training", "flip"))] = st.session_state[key(("data", "name"))] not in UPRIGHT


def free_name(stem: str = "mine") -> str:
    """``mine``, or with the first number that makes it new."""
    taken = {*dx.list_runs(), *(job.name for job in jobs.list_jobs())}
    return next(name for i in range(1, len(taken) + 2) if (name := stem if i == 1 else f"{stem}-{i}") not in taken)


def read() -> dx.Config:
    """What the widgets say.

    Raises:
        ValueError: what cannot be; the message names the value.
    """
    base: dx.Config = st.session_state[_BASE]
    values = base.to_dict()
    for section, fields in values.items():
        for name in fields:
            if (section, name) not in LEFT_OUT:
                fields[name] = _value((section, name), st.session_state.get(key((section, name)), fields[name]))
    return dx.Config.from_dict(values)


def _value(field: Field, value: Any) -> Any:
    if field == ("model", "exits"):
        try:
            exits = parse_exits(str(value))
        except typer.BadParameter as error:
            raise ValueError(f"Exits: {error.message}") from None
        if (exits if isinstance(exits, int) else len(exits)) > MOST_EXITS:
            raise ValueError(f"Exits: {value} are too many; at most {MOST_EXITS} can be trained here")
        return exits
    if field == ("data", "name") and value == FOLDER:
        text = str(st.session_state.get("train folder") or "")
        if not text.strip():
            raise ValueError("Say where the folder of pictures lies.")
        return str(record_folder.find(text))
    if field == ("training", "clip_norm"):
        return value or None
    return value


def name() -> str:
    """The run's name, as typed, without blanks around it."""
    return str(st.session_state.get(NAME) or "").strip()


def say_wrong(error: Exception) -> None:
    """What is wrong with the form; the library's errors name the fix."""
    st.warning(messages.plain(error, 500), icon=":material/edit:")
