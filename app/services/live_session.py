"""Live runs of this server: with early exit and at full depth the model answers recorded images in turn. A session
holds at most one (state/live_choices); it ends when no page has read it for `dx.inference.IDLE` seconds."""

from __future__ import annotations

import secrets
import threading
import time
import weakref
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec

from dmpo_explore_app import access
from dmpo_explore_app.services import model_queue, models, records

import dmpo_explore as dx

PURPOSE = "a live run"  # in the model queue
MOST_AT_ONCE = 4  # live runs at work on this server
STOP_WAIT = 10.0  # seconds for the current call when a live run is stopped

MOST_KEPT = 8  # live runs that a reloaded page finds again

_ALL: weakref.WeakSet[dx.inference.LiveRun] = weakref.WeakSet()  # of all sessions of this server
_KEPT: OrderedDict[str, LiveSession] = OrderedDict()  # by token, the newest last
_GUARD = threading.Lock()


@dataclass(frozen=True)
class LiveSettings:
    """Settings of a live run: images of a batch and in all (None: until stopped), engine, precision, device."""

    batch_size: int
    n_images: int | None
    engine: str = "infer"
    precision: str = "no"
    device: str = "auto"


@dataclass
class LiveSession:
    """A live run and how it was measured: ``load`` average before it, the most ``others`` at work beside it, ``device``
    in words, ``began`` in seconds since 1970, and the ``token`` under which a reloaded page finds it."""

    live: dx.inference.LiveRun
    record_key: tuple[str, str]
    load: float | None
    settings: LiveSettings
    others: int = 0
    device: str = field(default_factory=dx.inference.describe_device)
    began: float = field(default_factory=time.time)
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def look(self) -> dx.inference.Look:
        """`LiveRun.look`; also updates ``others``."""
        look = self.live.look()
        if look.alive:
            with _GUARD:
                working = sum(live.working for live in _ALL if live is not self.live)
            self.others = max(self.others, working)
        return look

    def stop(self) -> None:
        """Stop the live run and wait for its current call."""
        self.live.stop(STOP_WAIT)


def open_session(run: dx.Run, split: str, policy: dx.Policy, settings: LiveSettings) -> LiveSession:
    """A live run, not started yet; raises as `Run.model` and `dx.inference.open_arms`, or as too many are at work."""
    with _GUARD:
        others = sum(one.working for one in _ALL)
    if others >= MOST_AT_ONCE:
        raise ValueError(f"{others} live runs are at work on this server; try again when one has ended")
    load = dx.inference.load_average()
    engine, precision = settings.engine, settings.precision
    place, cast = ("cpu", "no") if engine == "onnx" else (settings.device, precision)
    model = models.model(run, place, merge=True, precision=cast)
    with model_queue.exclusive_use("a model that is being exported") if engine == "onnx" else nullcontext():
        arms = dx.inference.open_arms(run, split, model, settings.batch_size, engine, precision=precision)
    record, queue = records.record(run, split), lambda: model_queue.exclusive_use(PURPOSE)
    live = dx.inference.LiveRun(arms, record, policy, images=settings.n_images, queue=queue)
    with _GUARD:
        others = sum(one.working for one in _ALL)  # again: loading takes time
        _ALL.add(live)
    described = dx.inference.describe_device(place)
    session = LiveSession(live, record_key(run, split), load, settings, others, described)
    with _GUARD:
        _KEPT[session.token] = session
        while len(_KEPT) > MOST_KEPT:
            _KEPT.popitem(last=False)
    return session


def kept(token: str) -> LiveSession | None:
    """The live run with this token, at work or ended; None if it is gone."""
    with _GUARD:
        return _KEPT.get(token)


def engines() -> list[str]:
    """The engines of `dx.inference.ENGINES` that can be chosen; ONNX, which writes an export, for private sessions."""
    onnx = access.is_private() and has_onnx()
    return [name for name in dx.inference.ENGINES if name != "onnx" or onnx]


def has_onnx() -> bool:
    """Whether the packages of the extra ``onnx`` are installed."""
    return all(map(find_spec, ("onnx", "onnxruntime", "onnxscript")))


def record_key(run: dx.Run, split: str) -> tuple[str, str]:
    """Which record a live run is compared with: `LiveSession.record_key`."""
    return str(run.path), split


def unavailable_reason(run: dx.Run) -> Exception | None:
    """Why the model of ``run`` cannot be loaded, found without loading it; None if it can be."""
    try:
        dx.runs.read_weights_meta(run.path)
        if not run.config.model.whole:
            dx.pretrained.find_weights(run.config.model.backbone, run.config.model.weights)
    except (OSError, ValueError) as error:
        return error
    return None
