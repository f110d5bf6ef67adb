"""Trials that processes and machines share, in optuna's storage: who has which, what each epoch gave, what comes next.

In: a storage's URL. Out: an `optuna.Study` whose silent workers' trials go back to the queue; its trials as
`Trajectory`s; `TrajectorySampler`, which proposes settings from them. Needs optuna (the extra ``search``), in which
``trial.report`` raises where there are several objectives: so what epochs gave is kept in user attributes.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .learning_curves import Trajectory, best_candidate
from .pareto import Goal
from .space import Choice, Params, Range, SearchSpace

try:
    import optuna
except ImportError as error:
    raise ImportError("search needs optuna: pip install 'dmpo-explore[search]'") from error
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

STARTUP = 8  # trials that are drawn from all of the space before any is proposed
DRAWN, NEAR = 192, 64  # candidates of a proposal: from all of the space, and close to settings on the front
LOCKED = 60  # seconds to wait for other workers that write into an SQLite file
EPOCH = "epoch "  # user attributes of a trial: "epoch 1", "epoch 2" …
State = TrialState


def open_storage(url: str, patience: int = 300) -> RDBStorage:
    """A storage in which a trial whose worker gives no sign of life for ``patience`` seconds goes back to the queue.

    Raises:
        ValueError: a URL that no database answers to.
    """
    try:
        try:
            return _connect(url, patience)
        except Exception:  # of two that start at once, both may be making the tables
            time.sleep(0.5)
            return _connect(url, patience)
    except Exception as error:  # whatever the database's driver raises
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ValueError(f"storage {url!r} cannot be opened: {reason}") from None


def _connect(url: str, patience: int) -> RDBStorage:
    with _experimental():
        return RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": LOCKED}} if url.startswith("sqlite") else None,
            heartbeat_interval=min(30, max(1, patience // 5)),
            grace_period=patience,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )


def free_stale_trials(study: optuna.Study) -> None:
    """Give back what silent workers held."""
    with _experimental():
        optuna.storages.fail_stale_trials(study)


def give_back(study: optuna.Study, attempt: int) -> None:
    """Put an interrupted trial back into the queue, as if its worker had fallen silent.

    Nothing happens to one that came to its end, or that was given back already.
    """
    found = study.get_trials()  # copies: optuna writes into them
    trial = found[attempt]
    if trial.state is State.FAIL and latest(found)[identity(trial)].number == attempt:
        with _experimental():
            RetryHeartbeatStaleTrialCallback()(study, trial)


@contextmanager
def _experimental() -> Iterator[None]:
    """Without optuna's warning that heartbeats are experimental, its word for them since 2021."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def identity(trial: FrozenTrial) -> int:
    """A trial's number; that of its first attempt if it was given back."""
    number: int = trial.system_attrs.get("failed_trial", trial.number)
    return number


def suggest(trial: optuna.Trial, space: SearchSpace) -> Params:
    """The trial's settings, ``part.name`` → label, from the study's sampler."""
    params: Params = {}
    for key, domain in space.domains.items():
        if isinstance(domain, Choice):
            params[key] = trial.suggest_categorical(key, domain.labels())
        elif domain.whole:
            params[key] = trial.suggest_int(
                key, int(domain.low), int(domain.high), step=int(domain.step or 1), log=domain.log
            )
        else:
            params[key] = trial.suggest_float(key, domain.low, domain.high, step=domain.step, log=domain.log)
    return params


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space in optuna's words."""
    return {key: _distribution(domain) for key, domain in space.domains.items()}


def _distribution(domain: Choice | Range) -> BaseDistribution:
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.labels())
    if domain.whole:
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def latest(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Trial → its last attempt."""
    return {identity(t): t for t in sorted(trials, key=lambda t: t.number)}


def epochs_of(trial: FrozenTrial) -> dict[int, dict[str, Any]]:
    """Epoch → what was noted of it: ``accuracy``, ``flops_fraction``, ``threshold`` (lists), ``seconds``, …"""
    return {int(key[len(EPOCH) :]): value for key, value in sorted(trial.user_attrs.items()) if key.startswith(EPOCH)}


def points_of(entry: Mapping[str, Any]) -> Any:
    """(P, 3) accuracy, FLOPs fraction and training seconds of one epoch."""
    seconds = [entry["seconds"]] * len(entry["accuracy"])
    return np.array([entry["accuracy"], entry["flops_fraction"], seconds], np.float64).T.reshape(-1, 3)


def trajectories(trials: Sequence[FrozenTrial]) -> list[Trajectory]:
    """Every trial of which an epoch is known, whatever became of it."""
    found = []
    for number, trial in latest(trials).items():
        epochs = {epoch: points_of(entry) for epoch, entry in epochs_of(trial).items()}
        if epochs:
            found.append(Trajectory(number, trial.params, int(trial.user_attrs["planned"]), epochs))
    return found


class TrajectorySampler(BaseSampler):
    """Proposes the settings whose predicted trajectory is expected to extend the front most, per epoch.

    The first `STARTUP` trials are drawn. Later ones are the best of `DRAWN` settings from all of the space and of
    `NEAR` that differ in one or two from settings on the front (`trajectory.best_candidate`).

    Args:
        seed: makes the proposals repeatable, given the trials before; None: they differ between workers.
    """

    def __init__(self, space: SearchSpace, seed: int | None = None) -> None:
        self.space = space
        self.seed = seed if seed is not None else int(np.random.default_rng().integers(2**31))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All of the space: settings are proposed together."""
        return distributions(self.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A trial's settings."""
        rng = np.random.default_rng((self.seed, trial.number))
        known = [t for t in trajectories(study.get_trials(deepcopy=False)) if t.trial != identity(trial)]
        if len(known) < STARTUP:
            return self.space.draw(rng)
        return propose(self.space, known, rng)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One setting that a trial lacks."""
        return self.space.domains[param_name].draw(np.random.default_rng((self.seed, trial.number)))


def propose(space: SearchSpace, known: Sequence[Trajectory], rng: np.random.Generator) -> Params:
    """The most promising of some candidates, given what trials did so far."""
    candidates = [space.draw(rng) for _ in range(DRAWN)]
    candidates += [_near(space, parent.params, rng) for parent in _parents(known, space.goal, rng)]
    planned = [space.epochs(params) for params in candidates]
    before, ahead = (np.stack([space.encode(p) for p in group]) for group in ([t.params for t in known], candidates))
    return candidates[best_candidate(known, before, ahead, planned, space.goal, int(rng.integers(2**31)))]


def _parents(known: Sequence[Trajectory], goal: Goal, rng: np.random.Generator) -> list[Trajectory]:
    """`NEAR` trials with a point on the front, drawn with replacement."""
    sizes = [len(t.points()) for t in known]
    mask = goal.front(np.concatenate([t.points() for t in known]))
    best = [t for t, part in zip(known, np.split(mask, np.cumsum(sizes)[:-1]), strict=True) if part.any()]
    return [best[i] for i in rng.integers(len(best), size=NEAR)] if best else []


def _near(space: SearchSpace, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
    """``params`` with one or two settings drawn anew."""
    changed = rng.choice(list(space.domains), size=min(int(rng.integers(1, 3)), len(space.domains)), replace=False)
    return dict(params) | {key: space.domains[key].draw(rng) for key in changed.tolist()}
