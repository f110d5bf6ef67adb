"""What pages with and without the model share: the slider of a policy's threshold, and a run's facts in words."""

from __future__ import annotations

import numpy as np

from ..analysis.metrics import Outcome
from ..analysis.sliders import Slider, exit_limits, exits_at, slider_counts
from ..policies.base import Policy, count_answers
from ..records.record import ExitRecord
from ..runs.run import Run
from ..utils.texts import data_name
from ..utils.typing import Array, Ints


def slider_of(policy: Policy, outcome: Outcome) -> Slider:
    """Positions of a single threshold on the record of ``outcome``, which is ``policy``'s.

    A single exit, or a policy without a single threshold to move, has one position: that of ``outcome``.
    """
    record = outcome.record
    if record.n_exits > 1 and policy.sweeps and len(policy.thresholds) == 1:
        return slider_counts(record, policy).sliders[0]
    counts = count_answers(record, outcome.exits).reshape(1, -1)
    return Slider(policy.thresholds[:1], counts, None)


def exits_of(rows: Ints, policy: Policy, outcome: Outcome, slider: Slider) -> Array:
    """(G, n) 0-based exit of the images at ``rows`` of the record, at every position of `slider_of`'s slider."""
    if len(slider.thresholds) == 1:
        return outcome.exits[None, rows]
    record = outcome.record
    limits = exit_limits(record, policy, [slider.thresholds])
    if limits is None:  # of the whole record: what a policy draws may depend on the row
        return exits_at(record, policy, slider.thresholds)[:, rows]
    return np.asarray((np.arange(len(slider.thresholds))[:, None, None] >= limits[rows]).sum(axis=2))


def rule_of(policy: Policy, fixed: bool) -> str:
    """When an image exits, in words; ``fixed``: with the thresholds' values, else with "the threshold"."""
    rule = policy.rule.replace("**", "")
    return rule.format(", ".join(f"{threshold:.4g}" for threshold in policy.thresholds) if fixed else "the threshold")


def facts_of(run: Run, record: ExitRecord) -> list[str]:
    """What the run is."""
    meta = record.meta
    blocks = ", ".join(map(str, meta.exit_blocks))
    facts = [f"{meta.model or 'a model'} on {data_name(meta.data)}, {record.n_images:,} {meta.split} images, "
             f"{len(meta.class_names):,} classes"]  # fmt: skip
    facts.append(f"{record.n_exits} exits, after blocks {blocks}" if record.n_exits > 1 else "one exit")
    try:
        model, training = run.config.model, run.config.training
    except (OSError, ValueError):  # scores of another model
        return facts
    facts.append(
        f"{model.image_size} px; tuning {model.tuning}, bypass {model.bypass}, predictor {model.predictor}; "
        f"{training.epochs} epochs, schedule {training.schedule}, seed {training.seed}"
    )
    return facts
