"""Samplers of a search: optuna's own, and those that others add to the joint. Imports optuna when one is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import joints
from ..joints import SamplerKind
from ..utils.lazy import extra_imports
from ..utils.options import OpenPart, check_options, open_part, option
from ..utils.registry import lookup

if TYPE_CHECKING:
    from .goal import Goal, LearningCurve
    from .space import SearchSpace


def _optuna(name: str, study: Any, space: SearchSpace, seed: int | None, options: None) -> Any:
    """A sampler of optuna, as it comes; a worker that joins later with the same seed does not repeat its draws."""
    with extra_imports("search", "search"):
        from optuna import samplers
    return getattr(samplers, name)(seed=None if seed is None else seed + len(study.get_trials(deepcopy=False)))


def above_median(now: LearningCurve, others: Sequence[LearningCurve], goal: Goal) -> bool:
    """Whether optuna's median pruner lets a trial continue, by the hypervolume of its epochs so far.

    Its pruners refuse studies of several objectives, so it is given one in memory, of finished trials, with that alone.
    """
    with extra_imports("search", "search"):
        import optuna
        from optuna.trial import FrozenTrial, TrialState, create_trial

    def alone(curve: LearningCurve, state: TrialState) -> FrozenTrial:
        volumes = {epoch: goal.hypervolume(curve.points(1, epoch)) for epoch in curve.epochs}
        value = max(volumes.values()) if state is TrialState.COMPLETE else None
        return create_trial(state=state, value=value, intermediate_values=volumes)

    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner())
    study.add_trials([alone(other, TrialState.COMPLETE) for other in others if other.last >= other.planned])
    return not study.pruner.prune(study, alone(now, TrialState.RUNNING))


SAMPLERS = joints.SAMPLERS.fill(
    {
        name: SamplerKind(partial(_optuna, sampler), above_median)
        for name, sampler in (("tpe", "TPESampler"), ("nsga2", "NSGAIISampler"), ("random", "RandomSampler"))
    }
)


@open_part
@dataclass(frozen=True)
class SamplerConfig(OpenPart):
    """The sampler of a search, with the options that it brings along.

    Args:
        sampler: its name in `SAMPLERS`; empty: the preferred one.

    Raises:
        ValueError: unknown name, or an option out of range.

    Example:
        >>> SamplerConfig("tpe").values()
        {'sampler': 'tpe'}
    """

    joints = (SAMPLERS,)
    sampler: str = option("", "Proposes settings.", joint=SAMPLERS)
    more: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        check_options(self)
        first = next((name for name, kind in SAMPLERS.items() if kind.preferred), "tpe")
        object.__setattr__(self, "sampler", self.sampler or first)
        lookup(SAMPLERS, self.sampler, "sampler")

    @property
    def kind(self) -> SamplerKind:
        """The entry of the joint."""
        return SAMPLERS[self.sampler]

    def make(self, study: Any, space: SearchSpace, seed: int | None) -> Any:
        """The sampler, for a worker of this study."""
        return self.kind.sampler(study, space, seed, self.part(self.kind.options) if self.kind.options else None)
