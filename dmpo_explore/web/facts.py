"""What a page holds of its run, as JSON values: page.json.

In: a run, the outcome of a policy on its record, the slider. The slider's positions and counts are those of
`dx.analysis.slider_counts`; the page counts nothing itself.
"""

from __future__ import annotations

from typing import Any

from .. import __version__
from ..analysis.metrics import Outcome, accuracy_interval
from ..analysis.sliders import Slider
from ..analysis.tables import origin, percent
from ..figures.style import exit_colours
from ..policies.base import Policy, not_deployable
from ..records.scores import SCORES
from ..runs.run import Run
from .shared import facts_of, rule_of
from .tiles import COMPUTED, drawn_score

FORMAT = "dmpo-explore page"
VERSION = 2
RESIZING = ("bicubic", "bilinear", "box", "hamming", "lanczos")  # of its resize.js


def check_policy(policy: Policy, n_exits: int) -> None:
    """Raise ValueError unless a page can show ``policy``: one threshold on one score of an exit's logits."""
    if n_exits < 2:
        raise ValueError(
            "a run with a single exit has nothing to show: a page is about where images stop; `export --out` writes "
            "its graph"
        )
    if len(policy.thresholds) > 1:
        raise ValueError(f"a page has one slider, but the policy has {len(policy.thresholds)} thresholds: fit one")
    if policy.compared_score() not in COMPUTED or not policy.per_exit_thresholds:
        raise ValueError(
            f"a page computes no policy {policy.name!r}; take one that compares {', '.join(COMPUTED)}, or "
            "publish this one without the model"
        )


def check_resizing(interpolation: str) -> None:
    """Raise ValueError unless a page resizes with ``interpolation``."""
    if interpolation not in RESIZING:
        raise ValueError(f"a page has no interpolation {interpolation!r}; valid: {', '.join(RESIZING)}")


def run_facts(run: Run, policy: Policy, outcome: Outcome, slider: Slider) -> dict[str, Any]:
    """Name, classes, exits, compute and policy of a run, with the slider's positions and the notes of the page."""
    record, meta, score = outcome.record, outcome.record.meta, drawn_score(policy)
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "made_by": f"dmpo-explore {__version__}",
        "name": run.name,
        "split": meta.split,
        "images": record.n_images,
        "class_names": list(meta.class_names),
        "blocks": list(meta.exit_blocks),
        "flops": [float(f) for f in meta.flops],
        "reference_flops": float(meta.reference_flops),
        "colours": exit_colours(record.n_exits),
        "policy": {
            "name": policy.name,
            "score": score,
            "compared": score == policy.compared_score(),
            "falling": policy.falling,
            "threshold_unit": policy.unit,
            "score_falls": SCORES[score].better == "low",
            "unit": policy.unit if score == policy.compared_score() else "%",
            "thresholds": list(policy.thresholds),
            "temperatures": list(policy.temperatures),
            "rule": rule_of(policy, fixed=False),
            "highest": float(SCORES[score].bounds(len(meta.class_names))[1]),
        },
        "slider": {
            "thresholds": [float(threshold) for threshold in slider.thresholds],
            "counts": slider.counts.tolist(),
            "place": slider.position,
        },
        "facts": facts_of(run, record),
        "notes": _notes(policy, outcome, len(slider.thresholds) > 1),
    }


def _notes(policy: Policy, outcome: Outcome, moves: bool) -> list[str]:
    """How the numbers came about, and what limits them."""
    found, (low, high) = float(outcome.correct.mean()), accuracy_interval(outcome.correct)
    how, split = origin(policy) or "its threshold set by hand", outcome.record.meta.split
    begins = f"The slider begins at the policy {policy.name}" if moves else f"The thresholds: policy {policy.name}"
    single = outcome.record.n_exits == 1
    notes = [
        f"{'Every image runs to the last exit' if single else f'{begins}, {how}'}. The accuracy on {split} is "
        f"{percent(found)}, with a 95 % interval from {percent(low)} to {percent(high)}.",
        f"Other positions of the slider are set by hand, looking at {split}: they are no result." if moves else "",
        "Compute is the mean over images of all FLOPs that ran, relative to the plain backbone.",
        "" if policy.deployable else not_deployable(policy.name),
        str(policy.fitted.get("note", "")),
    ]
    return list(filter(None, notes))
