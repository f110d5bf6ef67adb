"""Joints: the open registries to which the shelf (`neighbours`) and plug-ins add entries; imports no torch.

A package fills its own joint when it is imported, so an entry of the library may still be missing here; what was added
by others is here from the beginning. Names are looked up with `utils.registry.lookup`. See docs/extending.md.
"""

from __future__ import annotations

from typing import Any

from .utils.registry import Joint

SCORES: Joint[Any] = Joint("score")  # `records.scores.Score`
POLICIES: Joint[Any] = Joint("policy")  # subclasses of `policies.base.Policy`
BYPASSES: Joint[Any] = Joint("bypass")  # subclasses of `models.bypass.Bypass`
PREDICTORS: Joint[Any] = Joint("predictor")  # subclasses of `models.predictors.Predictor`
TUNINGS: Joint[Any] = Joint("tuning")  # (backbone, rank, dropout): makes it tunable, in place
TRUNK_CHANGES: Joint[Any] = Joint("trunk change")  # `models.trunk_changes.TrunkChange`
CUTS: Joint[Any] = Joint("backbone")  # how a family of backbones is cut
SCHEDULES: Joint[Any] = Joint("schedule")  # (epoch, epochs, n_exits, phase_ratio) → weights
TRAINING_PARTS: Joint[Any] = Joint("training part")  # `training.parts.PartKind`
SAMPLERS: Joint[Any] = Joint("sampler")  # of a search
DATASETS: Joint[Any] = Joint("data set")
COMMANDS: Joint[Any] = Joint("command")  # of the command line: name → function that adds it

JOINTS: dict[str, Joint[Any]] = {
    joint.kind: joint
    for joint in (
        SCORES, POLICIES, BYPASSES, PREDICTORS, TUNINGS, TRUNK_CHANGES, CUTS, SCHEDULES, TRAINING_PARTS, SAMPLERS,
        DATASETS, COMMANDS,
    )
}  # fmt: skip
