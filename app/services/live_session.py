"""Live runs of this server: the early-exit model and the full model answer recorded images in turn.

A session holds at most one (state/live). A live run ends by itself when no page has read it for `dx.inference.IDLE`
seconds.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass

from dmpo_explore_app.services import model_queue, models, records

import dmpo_explore as dx

PURPOSE = "a live run"  # in the model queue
MOST_AT_ONCE = 4  # live runs at work on this server
STOP_WAIT = 10.0  # seconds for the current call when a live run is stopped

_ALL: weakref.WeakSet[dx.inference.LiveRun] = weakref.WeakSet()  # of all sessions of this server
_GUARD = threading.Lock()


@dataclass
class LiveSession:
    """A live run and the conditions under which it was measured.

    Args:
        record_key: folder of the run, and split. load: load average before the start, None where unknown.
        others: largest number of live runs of other sessions at work at the same time.
    """

    live: dx.inference.LiveRun
    record_key: tuple[str, str]
    load: float | None
    others: int = 0

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


def open_session(
    run: dx.Run, split: str, policy: dx.Policy, *, batch_size: int, n_images: int | None, engine: str
) -> LiveSession:
    """A live run that is not started yet.

    Args:
        n_images: None runs until it is stopped.

    Raises:
        OSError, ValueError, RuntimeError: as `Run.model` and `dx.inference.open_arms`; or too many are at work.
    """
    with _GUARD:
        others = sum(one.working for one in _ALL)
    if others >= MOST_AT_ONCE:
        raise ValueError(f"{others} live runs are at work on this server; try again when one has ended")
    load = dx.inference.load_average()
    model = models.model(run, merge=True)
    arms = dx.inference.open_arms(run, split, model, batch_size, engine)
    record, queue = records.record(run, split), lambda: model_queue.exclusive_use(PURPOSE)
    live = dx.inference.LiveRun(arms, record, policy, images=n_images, queue=queue)
    with _GUARD:
        others = sum(one.working for one in _ALL)  # again: loading takes time
        _ALL.add(live)
    return LiveSession(live, record_key(run, split), load, others)


def record_key(run: dx.Run, split: str) -> tuple[str, str]:
    """Which record a live run is compared with: `LiveSession.record_key`."""
    return str(run.path), split


def unavailable_reason(run: dx.Run) -> Exception | None:
    """Why the model of ``run`` cannot be loaded, found without loading it; None if it can be."""
    try:
        dx.runs.read_weights_meta(run.path)
        dx.pretrained.find_weights(run.config.model.backbone, run.config.model.weights)
    except (OSError, ValueError) as error:
        return error
    return None
