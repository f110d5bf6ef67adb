"""The numbers that a page's story and its tables tell, all of the run's own record.

In: a run and the outcome of the page's policy. Out: JSON values: accuracy of every exit, calibration, classes by depth,
learning curves, and targets fitted on the held-out split.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from .. import __version__
from ..analysis.calibration import reliability_table
from ..analysis.evaluation import evaluate_runs
from ..analysis.metrics import Outcome, accuracy_interval, best_and_worst, class_metrics
from ..analysis.sliders import Slider
from ..analysis.tables import describe, origin, percent
from ..figures.style import exit_colours
from ..policies.base import Policy, not_deployable
from ..records.scores import SCORES
from ..runs.run import Run
from ..runs.run_files import WEIGHTS
from .tiles import COMPUTED, drawn_score, facts_of, rule_of

LEAST = 20  # images of a point of the reliability diagram
CLASSES = 10  # of the earliest, and of the deepest


def story_numbers(
    run: Run, outcome: Outcome, against: Run | None = None, classes: Sequence[int] = ()
) -> dict[str, Any]:
    """What the story and the tables of a page show; a part that the run does not have is left out.

    Args:
        classes: whose weights on second-order statistics are shown.
        against: another run on the same images, such as one with naive exits, whose exits stand beside.

    Raises:
        ValueError: ``against`` has other images, or no record of this split.
    """
    record = outcome.record
    found: dict[str, Any] = {
        "accuracies": record.correct.mean(axis=0).tolist(),
        "calibration": _calibration(outcome),
        "classes": _classes(outcome),
        "too_early": float(outcome.early_exit_error.mean()),
        "rescued": float((outcome.correct & ~record.correct[:, -1]).mean()),
    }
    if against is not None:
        found["against"] = _beside(outcome, against)
    with suppress(OSError, ValueError):  # scores of another model
        found["made"] = _made(run)
        with suppress(OSError, SafetensorError, KeyError):  # no weights, or those of a plug-in
            found["made"] |= _first_exit(run, classes)
    with suppress(OSError, ValueError):
        found["training"] = _training(run, record.n_exits)
    if targets := _targets(run, record.meta.split):
        found["targets"] = {"split": run.fitting_split, "rows": targets}
    return found


def _beside(outcome: Outcome, against: Run) -> dict[str, Any]:
    """Name, and of every exit accuracy and compute, in GFLOPs: backbones may differ."""
    record = against.record(outcome.record.meta.split)
    if not np.array_equal(record.labels, outcome.record.labels):
        raise ValueError(
            f"run {against.name!r} has other images in its {record.meta.split} record; the exits of two runs are "
            "compared on the same ones"
        )
    flops = [float(flops) for flops in record.meta.flops]
    found = {"name": against.name, "accuracies": record.correct.mean(axis=0).tolist(), "flops": flops}
    with suppress(OSError, ValueError):  # scores of another model
        found["made"] = _made(against)
    return found


def _made(run: Run) -> dict[str, Any]:
    """The parts of a run's training that the story names."""
    model, training = run.config.model, run.config.training
    return {
        "bypass": model.bypass, "predictor": model.predictor, "tuning": model.tuning, "schedule": training.schedule,
        "epochs": training.epochs,
    }  # fmt: skip


def _first_exit(run: Run, classes: Sequence[int]) -> dict[str, Any]:
    """Of exit 1's weights: how many its bypass has, and those on second-order statistics that each of ``classes`` has.

    ``pairs``: of each class the weights of a `covariance` predictor, (d(d+1)/2,) int8 in base64, the largest one 127.
    """
    weights, first = load_file(run.path / WEIGHTS), "stages.0."
    bypass = sum(array.size for name, array in weights.items() if name.startswith(f"{first}bypass."))
    if run.config.model.predictor != "covariance":
        return {"bypass_weights": bypass}
    of_pairs = weights[f"{first}predictor.second.weight"][list(classes)].astype(np.float32)
    largest = np.abs(of_pairs).max(axis=1, keepdims=True)
    whole = np.rint(127 * of_pairs / np.where(largest > 0, largest, 1)).astype(np.int8)
    packed = {c: base64.b64encode(row.tobytes()).decode() for c, row in zip(classes, whole, strict=True)}
    singles = weights[f"{first}predictor.first.fc.weight"].shape[1]
    return {"bypass_weights": bypass, "pairs": {"singles": singles, "classes": packed}}


def _calibration(outcome: Outcome) -> list[list[list[float]]]:
    """Exit → bins → confidence, accuracy, images."""
    table = reliability_table(outcome.record, least=LEAST)
    columns = ["confidence", "accuracy", "images"]
    return [rows[columns].to_numpy(float).tolist() for _, rows in table.groupby("exit")]


def _classes(outcome: Outcome) -> list[list[list[float]]]:
    """The classes that exit earliest, and deepest: class, mean exit, accuracy of each."""
    table = class_metrics(outcome)
    deep, early = best_and_worst(table["mean_exit"].to_numpy(), CLASSES)
    if not early:  # few classes: half of them each
        deep, early = deep[: len(deep) // 2], deep[: len(deep) // 2 - 1 : -1]
    return [[[c, float(table["mean_exit"][c]), float(table["accuracy"][c])] for c in rows] for rows in (early, deep)]


def _training(run: Run, n_exits: int) -> dict[str, Any]:
    """Epochs, and for each exit its validation accuracy and the weight of its loss."""
    history = run.history()
    curves = {
        name: [history[f"{column}_{k}"].tolist() for k in range(1, n_exits + 1)]
        for name, column in {"accuracy": "accuracy", "weight": "lambda"}.items()
        if f"{column}_{n_exits}" in history
    }
    return {"epochs": history["epoch"].tolist()} | curves


def _targets(run: Run, split: str) -> list[dict[str, Any]]:
    """Targets fitted on the held-out split and what they give on ``split``; equal results share a line."""
    if run.fitting_split not in run.splits():  # nothing to fit targets on
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # targets that cannot be met are left out
        rows = evaluate_runs([str(run.path)], split=split)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        shares = [float(share) for share in row["exit_shares"]]
        numbers = {
            "accuracy": float(row["accuracy"]), "interval": [float(end) for end in row["interval"]],
            "compute": float(row["flops_fraction"]), "mean": float(row["mean_exit"]), "shares": shares,
            "threshold": row["threshold"],
        }  # fmt: skip
        key = (numbers["accuracy"], numbers["compute"], *shares)
        found.setdefault(key, numbers | {"targets": []})["targets"].append(describe(row["target"]))
    return list(found.values())


# What a page holds of its run, as JSON values: page.json.
#
# In: a run, the outcome of a policy on its record, the slider. The slider's positions and counts are those of
# `dx.analysis.slider_counts`; the page counts nothing itself.

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
