"""Trained models, shared between sessions, and a bounded store of what they have computed; imports no torch."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from typing import Any

import streamlit as st
from dmpo_explore_app.services import model_queue

import dmpo_explore as dx

WeightsStamp = tuple[str, int, int, int]  # folder, and which state of its weights


class Kept(OrderedDict[tuple[Any, ...], Any]):
    """A bounded store of model outputs by question; the oldest entries above ``most`` are dropped."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.lock = most, threading.Lock()

    def keep(self, key: tuple[Any, ...], value: Any) -> None:
        with self.lock:
            self[key] = value
            self.move_to_end(key)
            while len(self) > self.most:
                self.popitem(last=False)

    def forget(self) -> None:
        with self.lock:
            self.clear()


def kept(private: bool) -> Kept:
    """The store of all sessions, for images of records; or this session's own, for images that its reader sent."""
    return _of_this_session() if private else _shared()


@st.cache_resource(show_spinner=False)
def _shared() -> Kept:
    return _answers(96)


@st.cache_resource(show_spinner=False, scope="session")
def _of_this_session() -> Kept:
    return _answers(8)


_ANSWERS: weakref.WeakValueDictionary[int, Kept] = weakref.WeakValueDictionary()  # the stores of all sessions, by id


def _answers(most: int) -> Kept:
    kept = Kept(most)
    _ANSWERS[id(kept)] = kept
    return kept


def _forget_answers() -> None:
    for store in _ANSWERS.valuerefs():
        if (kept := store()) is not None:
            kept.forget()


def model(run: dx.Run, device: str = "auto", merge: bool = False, precision: str = "no") -> dx.DMPO:
    """The trained model, not to be changed; used inside `model_queue.exclusive_use`. Raises as `Run.model`."""
    with model_queue.exclusive_use("a model that is being loaded"):
        return _model(weights_stamp(run), device, merge, precision)


def weights_stamp(run: dx.Run) -> WeightsStamp:
    """Which state of a run's weights is on disk; zeros where there are none."""
    try:
        status = os.stat(f"{run.path}/{dx.runs.WEIGHTS}")
    except OSError:
        return str(run.path), 0, 0, 0  # `Run.model` raises and names what is missing
    return str(run.path), status.st_mtime_ns, status.st_ino, status.st_size


# Attribution maps hold their model: kept entries would keep a dropped model in memory.
@st.cache_resource(max_entries=3, show_spinner="Loading the model …", on_release=lambda _: _forget_answers())
def _model(stamp: WeightsStamp, device: str, merge: bool, precision: str) -> dx.DMPO:
    return dx.load_run(stamp[0]).model(device, merge=merge, precision=precision)


def preprocess(run: dx.Run) -> dx.Preprocess:
    """How the run's model expects its images; needs no weights."""
    return _preprocess(repr(run.config.model), run)


@st.cache_resource(max_entries=32, show_spinner=False)
def _preprocess(model: str, _run: dx.Run) -> dx.Preprocess:
    del model  # the key
    return _run.preprocess()


def check_ready(config: dx.Config) -> None:
    """`dx.jobs.check_ready`; what is present is looked up again after some seconds, what is missing at once. ValueError
    for a package that is not installed."""
    _ready(config.data, config.model.backbone, config.model.weights)


@st.cache_data(max_entries=64, ttl=10, show_spinner="Looking for images and weights …")
def _ready(data: dx.DataConfig, backbone: str, weights: str) -> None:
    try:
        dx.jobs.check_ready(dx.Config(data, dx.ModelConfig(backbone, weights)))  # an error is not kept
    except ImportError as error:
        raise ValueError(str(error)) from error
