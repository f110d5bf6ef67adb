"""Where does an exit look? A map of the image for one exit and one class, and how far it can be trusted.

In: a `DMPO`, one preprocessed image, an exit (0-based), a class. Out: `Attribution`, or an `ExitComparison` of exits.
Methods are listed in `attribution_methods.METHODS`, those that mislead here in ``REFUSED`` with the reason. Captum is
known to the rooms named ``attribution…`` only. The model is left as it was: mode, gradients, attention settings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.dmpo import DMPO
from ..utils.progress import Progress
from ..utils.registry import lookup
from . import cache as kept
from .exit_model import ExitView, make_baseline, one_image, rising_exits, undisturbed
from .methods import DELTA_BOUND, FEWEST_STEPS, METHODS, REFUSED, Explained, Question, integrate_exits, within_bound
from .results import Attribution, ExitComparison


def attribute(
    model: DMPO,
    image: Tensor,
    exit: int,
    target: int | None = None,
    method: str = "integrated_gradients",
    *,
    baseline: str | Tensor = "black",
    steps: int = 64,
    layer: int | None = None,
    seed: int = 0,
    batch: int = 32,
    cache: str | Path | bool | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Explain one exit's logit for one class.

    Args:
        image: (3,S,S) or (1,3,S,S), preprocessed (`Run.inputs`).
        exit: 0-based.
        target: class; default: what this exit predicts.
        method: a key of ``METHODS``.
        baseline: what stands for "nothing there": ``black`` (default; blind to what is black), ``mean``, ``blur``, or
            pixels (3,S,S); for `gradient_shap` also a stack (M,3,S,S) to draw from. See `make_baseline`.
        steps: of a path integral, at least 50, and doubled at most twice while the delta is above the bound; samples of
            `gradient_shap`.
        layer: for token methods: block number (from 1; 0 is the embedding), default the deepest under the exit on whose
            patch tokens the logit depends.
        seed: of `gradient_shap`.
        batch: rows that one forward pass may hold.
        cache: True for the user's cache, or a folder; default: nothing is kept.
        progress: called with (rows done, rows expected); the last call has both equal.

    Warns:
        UserWarning: |delta| above 5 % of |difference|, which counts as at least 1 logit here. Covariance predictors
            with the signed square root have steep gradients along the path, so this happens; more steps help slowly.
            Also where an answer could not be kept in the cache.

    Raises:
        ValueError: an unknown or refused method (with the reason), exit, class or layer, too few steps, a wrong image.
    """
    asked, said = _ask(model, image, exit, target, method, baseline, steps, layer, seed, batch)
    weights = kept.fingerprint(model) if kept.cache_folder(cache) else ""
    return _answer(asked, said, method, kept.cache_folder(cache), weights, progress)


def compare_exits(
    model: DMPO,
    image: Tensor,
    target: int | None = None,
    method: str = "integrated_gradients",
    *,
    exits: Sequence[int] | None = None,
    baseline: str | Tensor = "black",
    steps: int = 64,
    layer: int | None = None,
    seed: int = 0,
    batch: int = 32,
    cache: str | Path | bool | None = None,
    progress: Progress | None = None,
) -> ExitComparison:
    """Every exit's map for the same class.

    Args:
        target: class; default: what the last of the compared exits predicts, so that early exits are asked how far they
            already see what the deepest one says.
        exits: 0-based, rising; default: all. No stage behind the last of them runs.
        others: as `attribute`, which it also warns and raises like.

    Raises:
        ValueError: no exit, or exits that do not rise or repeat; else as `attribute`.
    """
    chosen = rising_exits(model, exits)
    first = _ask(model, image, chosen[-1], target, method, baseline, steps, layer, seed, batch)
    target = first[0].target
    folder = kept.cache_folder(cache)
    weights, found = kept.fingerprint(model) if folder else "", []
    progress = _rising(progress)
    begun = _together(first[0], method, chosen, progress) if len(chosen) > 1 else None
    for i, exit in enumerate(chosen):
        asked, said = _ask(model, image, exit, target, method, baseline, steps, layer, seed, batch)
        asked = replace(asked, begun=begun and partial(begun, exit))
        found.append(_answer(asked, said, method, folder, weights, _part(progress, i, len(chosen))))
    return ExitComparison(tuple(found), target, method)


def _ask(
    model: DMPO,
    image: Tensor,
    exit: int,
    target: int | None,
    method: str,
    baseline: str | Tensor,
    steps: int,
    layer: int | None,
    seed: int,
    batch: int,
) -> tuple[Question, Tensor]:
    """Check everything; the question and the exit's logits (2,C) for image and baseline."""
    if method in REFUSED:
        raise ValueError(f"method={method!r} is refused: {REFUSED[method]}")
    lookup(METHODS, method, "method")
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps={steps}: at least {FEWEST_STEPS}, for fewer have given maps of the wrong sign")
    if batch < 1:
        raise ValueError(f"batch={batch} must be at least 1")
    if layer is not None and method not in ("layer_integrated_gradients", "token_grad_cam"):
        raise ValueError(f"layer={layer} is for layer_integrated_gradients and token_grad_cam, not for {method}")
    view, pixels = ExitView(model, exit), one_image(model, image)
    nothing = make_baseline(model, pixels, baseline)
    if len(nothing) > 1 and method != "gradient_shap":
        raise ValueError(f"a stack of {len(nothing)} baselines is for gradient_shap; {method} takes one")
    with undisturbed(model), torch.no_grad():
        said = torch.stack((view(pixels)[0], view(nothing).mean(0)))
    C = said.shape[1]
    if target is not None and not 0 <= target < C:
        raise ValueError(f"target={target}: this model has classes 0 to {C - 1}")
    chosen = int(said[0].argmax()) if target is None else int(target)
    return Question(view, pixels, nothing, chosen, steps, batch, layer, seed), said


def _answer(
    asked: Question, said: Tensor, method: str, folder: Path | None, weights: str, progress: Progress | None
) -> Attribution:
    """From the cache, else from the method; warns where the delta is too large."""
    kind, name, old = METHODS[method], "", None
    if folder is not None:
        arguments = {"method": method, "exit": asked.view.exit, "target": asked.target, "steps": asked.steps}
        arguments |= {"layer": asked.layer, "seed": asked.seed, "batch": asked.batch}
        tensors = {"image": asked.image, "baseline": asked.baseline, "said": said.mul(1000).round()}
        name = kept.key(weights, tensors, arguments)
        old = kept.read(folder, name, asked.side)
    if old is not None:
        arrays, numbers = old
        found = Explained(arrays["heat"], arrays["tokens"], arrays["prefix"], **numbers)
    else:
        found = _explain(asked, method, progress)
        if folder is not None:
            numbers = {"delta": found.delta, "steps": found.steps, "layer": found.layer}
            _keep(folder, name, found, numbers)
    if progress:
        progress(kind.rows(asked), kind.rows(asked))
    logit, nothing = (float(value) for value in said[:, asked.target])
    if found.delta is not None and not within_bound(found.delta, logit - nothing):
        warnings.warn(
            f"{method} at exit {asked.view.exit + 1}: convergence delta {found.delta:+.3g} of a logit difference "
            f"{logit - nothing:.3g} after {found.steps} steps, above the bound of {DELTA_BOUND:.0%}; take more steps",
            UserWarning,
            stacklevel=3,
        )
    return Attribution(
        **vars(found),
        target=asked.target,
        exit=asked.view.exit,
        method=method,
        logit=logit,
        difference=logit - nothing,
        unit=kind.unit,
        additive=kind.additive,
        is_attribution=kind.is_attribution,
        question=replace(asked, begun=None),
    )


def _keep(folder: Path, name: str, found: Explained, numbers: dict[str, Any]) -> None:
    """Write an answer to the cache; where that fails the answer is not lost, and a warning says so."""
    try:
        kept.write(folder, name, {field: getattr(found, field) for field in kept.ARRAYS}, numbers)
    except (OSError, ValueError) as error:  # a full or read-only disk; a number that JSON does not know
        warnings.warn(f"the map could not be kept in {folder}: {error}", UserWarning, stacklevel=4)


def _explain(asked: Question, method: str, progress: Progress | None) -> Explained:
    """Run the method, telling how many rows have gone through the model."""
    total, done = METHODS[method].rows(asked), 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress and done < total:
            progress(done, total)

    asked.view.on_rows = count
    try:
        with undisturbed(asked.view.model):
            return METHODS[method].ask(asked)
    finally:
        asked.view.on_rows = None


def _together(
    asked: Question, method: str, exits: tuple[int, ...], progress: Progress | None
) -> Callable[[int], tuple[Tensor, float]] | None:
    """Integrated gradients of these exits at once, made when the first is wanted; None for other methods."""
    if method != "integrated_gradients":
        return None
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(round(950 * done / asked.steps), 1000)

    @once
    def all_exits() -> list[tuple[Tensor, float]]:
        arguments = (asked.view.model, asked.image, asked.baseline, asked.target, asked.steps, asked.batch)
        return integrate_exits(*arguments, on_rows=count, exits=exits)

    return lambda exit: all_exits()[exits.index(exit)]


def _rising(progress: Progress | None) -> Progress | None:
    """A progress that never goes back, whatever order its parts are done in."""
    if progress is None:
        return None
    best = 0

    def report(done: int, total: int) -> None:
        nonlocal best
        if done > best:
            best = done
            progress(done, total)

    return report


def _part(progress: Progress | None, i: int, n: int) -> Progress | None:
    """Progress of part ``i`` of ``n`` equal parts, in thousandths of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(round(1000 * (i + done / total) / n), 1000)
