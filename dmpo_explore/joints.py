"""Joints: the open registries to which the shelf (`neighbours`) and plug-ins add entries; imports no torch.

A package fills its own joint when it is imported, so an entry of the library may still be missing here; what was added
by others is here from the beginning. Names are looked up with `utils.registry.lookup`. See docs/extending.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .utils.registry import Joint


@dataclass(frozen=True)
class TrunkChange:
    """A change of a backbone's trunks, made before they are tuned where its options differ from their defaults.

    Args:
        options: its dataclass of options.
        apply: (`models.backbone.Backbone`, options) → `Backbone`; imports torch when it is called.
        order: of several changes the lower first.
        whole: the run stores all weights of its trunks, so that it needs no pre-trained ones.
        parent: options → the run that its weights started from; empty if it is made from none.
        described: options → in words, for a run's card; empty for nothing to say.
        untrainable: options → why a config with them cannot be trained again, after "this config …"; empty if it can.
        unexportable: options → why a run with them cannot be exported, after "run NAME …"; empty if it can.
    """

    options: type
    apply: Callable[[Any, Any], Any]
    order: int = 0
    whole: bool = False
    parent: Callable[[Any], str] = lambda options: ""
    described: Callable[[Any], str] = str
    untrainable: Callable[[Any], str] = lambda options: ""
    unexportable: Callable[[Any], str] = lambda options: ""


@dataclass(frozen=True)
class SamplerKind:
    """How a search proposes settings, and which trials it stops early where it may.

    Args:
        sampler: (`optuna.Study`, `search.space.SearchSpace`, seed or None, options) → an `optuna.samplers.BaseSampler`.
        can_extend: (`search.goal.LearningCurve` so far, those of other trials, `search.goal.Goal`) → whether
            the trial may still extend the front; asked after every epoch.
        options: its dataclass of options; None: it has none.
        preferred: chosen for a new study where none is named; of several the first.
    """

    sampler: Callable[[Any, Any, int | None, Any], Any]
    can_extend: Callable[[Any, Sequence[Any], Any], bool]
    options: type | None = None
    preferred: bool = False


SCORES: Joint[Any] = Joint("score")  # `records.scores.Score`
POLICIES: Joint[Any] = Joint("policy")  # subclasses of `policies.base.Policy`
BYPASSES: Joint[Any] = Joint("bypass")  # subclasses of `models.bypass.Bypass`
PREDICTORS: Joint[Any] = Joint("predictor")  # subclasses of `models.predictors.Predictor`
TUNINGS: Joint[Any] = Joint("tuning")  # (backbone, rank, dropout): tunable, in place; `merges` False: not into weights
TRUNK_CHANGES: Joint[TrunkChange] = Joint("trunk change")
CUTS: Joint[Any] = Joint("backbone")  # how a family of backbones is cut
SCHEDULES: Joint[Any] = Joint("schedule")  # (epoch, epochs, depths, phase_ratio) → weights
TRAINING_PARTS: Joint[Any] = Joint("training part")  # `training.parts.PartKind`
SAMPLERS: Joint[SamplerKind] = Joint("sampler")  # of a search
DATASETS: Joint[Any] = Joint("data set")  # `data.names.Source`
DATA_KINDS: Joint[Any] = Joint("kind of data")  # subclasses of `data.kinds.Kind`
COMMANDS: Joint[Any] = Joint("command")  # of the command line: name → function that adds it

JOINTS: dict[str, Joint[Any]] = {
    joint.kind: joint
    for joint in (
        SCORES, POLICIES, BYPASSES, PREDICTORS, TUNINGS, TRUNK_CHANGES, CUTS, SCHEDULES, TRAINING_PARTS, SAMPLERS,
        DATASETS, DATA_KINDS, COMMANDS,
    )
}  # fmt: skip
