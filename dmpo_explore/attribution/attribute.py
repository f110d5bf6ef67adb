"""Attribution of an exit's logit: a heat map over the image, for one exit or for several on one scale.

In: a `DMPO`, one preprocessed image, an exit (0-based), a class. Out: `Attribution`, or an `ExitComparison` of exits.
Methods are listed in `methods.METHODS`, misleading ones in ``REFUSED`` with the reason. The state of the model (mode,
gradients, attention settings) is restored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..models.dmpo import DMPO
from ..utils.registry import lookup
from ..utils.typing import Progress
from .baselines import make_baseline
from .cache import ARRAYS, cache_folder, fingerprint, map_key, read_map, write_map
from .exit_model import ExitView, one_image, rising_exits, undisturbed
from .gradients import integrate_exits
from .methods import METHODS, REFUSED
from .query import DELTA_BOUND, FEWEST_STEPS, HeatMap, Query, within_bound
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
    """Heat map of one exit's logit for one class.

    Args:
        image: (3,S,S) or (1,3,S,S), preprocessed (`Run.inputs`).
        exit: 0-based.
        target: class; default: this exit's prediction.
        method: a key of ``METHODS``.
        baseline: input that stands for the absence of evidence: ``black`` (default; black parts of an image get no
            attribution), ``mean``, ``blur``, or pixels (3,S,S); for `gradient_shap` also a stack (M,3,S,S) to draw
            from. See `make_baseline`.
        steps: of a path integral, at least 50, and doubled at most twice while the delta is above the bound; samples of
            `gradient_shap`.
        layer: for token methods: block number (from 1; 0 is the embedding), default the deepest under the exit on whose
            patch tokens the logit depends.
        seed: of `gradient_shap`.
        batch: largest number of rows of a forward pass.
        cache: True for the user's cache, or a folder; default: no cache.
        progress: called with (rows done, rows expected); the last call has both equal.

    Warns:
        UserWarning: |delta| above 5 % of |difference|, where a difference below 1 logit counts as 1. It occurs with
            covariance predictors with the signed square root, whose gradients are steep along the path; more steps
            reduce it slowly. Also if a map could not be written to the cache.

    Raises:
        ValueError: an unknown or refused method (with the reason), exit, class or layer, too few steps, a wrong image.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> found = dx.attribute(model, torch.rand(3, 32, 32), exit=1, target=0, method="feature_ablation")
        >>> found.heat.shape, found.tokens.shape, found.unit
        ((32, 32), (2, 2), 'drop of the logit')
    """
    query, logits = _check(model, image, exit, target, method, baseline, steps, layer, seed, batch)
    weights = fingerprint(model) if cache_folder(cache) else ""
    return _attribution(query, logits, method, cache_folder(cache), weights, progress)


def compare_exits(
    model: DMPO,
    image: Tensor,
    target: int | Literal["score"] | None = None,
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
    """Heat maps of several exits, for the same class or for what each exit decides by.

    Args:
        target: class; default: the prediction of the last of the compared exits. ``score``: of every exit the logarithm
            of its confidence, so of its own prediction.
        exits: 0-based, rising; default: all. Stages after the last of them do not run.
        others: as `attribute`; so are warnings.

    Raises:
        ValueError: no exit, or exits that do not rise or repeat; else as `attribute`.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> compared = dx.compare_exits(model, torch.rand(3, 32, 32), target=0)
        >>> compared.heat.shape, compared.similarity().shape
        ((2, 32, 32), (2, 2))
    """
    chosen = rising_exits(model, exits)
    score = target == "score"
    asked = None if target == "score" else target
    first, _ = _check(model, image, chosen[-1], asked, method, baseline, steps, layer, seed, batch)
    asked = None if score else first.target
    folder = cache_folder(cache)
    weights, found = fingerprint(model) if folder else "", []
    progress = _rising(progress)
    together = _together(first, method, chosen, progress) if len(chosen) > 1 and not score else None
    for i, exit in enumerate(chosen):
        query, logits = _check(model, image, exit, asked, method, baseline, steps, layer, seed, batch, score)
        query = replace(query, precomputed=together and partial(together, exit))
        found.append(_attribution(query, logits, method, folder, weights, _part(progress, i, len(chosen))))
    return ExitComparison(tuple(found), asked, method)


def _check(
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
    score: bool = False,
) -> tuple[Query, Tensor]:
    """The query of checked arguments, and the exit's logits (2,C) for image and baseline."""
    if method in REFUSED:
        raise ValueError(f"method={method!r} is refused: {REFUSED[method]}")
    lookup(METHODS, method, "method")
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps={steps} must be at least {FEWEST_STEPS}; with fewer, maps of the wrong sign occurred")
    if batch < 1:
        raise ValueError(f"batch={batch} must be at least 1")
    if layer is not None and method not in ("layer_integrated_gradients", "token_grad_cam"):
        raise ValueError(f"layer={layer} is for layer_integrated_gradients and token_grad_cam, not for {method}")
    view, pixels = ExitView(model, exit, score=score), one_image(model, image)
    nothing = make_baseline(model, pixels, baseline)
    if len(nothing) > 1 and method != "gradient_shap":
        raise ValueError(f"a stack of {len(nothing)} baselines fits gradient_shap only; {method} takes one baseline")
    query = Query(view, pixels, nothing, target or 0, steps, batch, layer, seed)
    with undisturbed(model), torch.no_grad():
        logits = torch.stack((query.answers(pixels)[0], query.answers(nothing).mean(0)))
    C = logits.shape[1]
    if target is not None and not 0 <= target < C:
        raise ValueError(f"target={target}: this model has classes 0 to {C - 1}")
    chosen = int(logits[0].argmax()) if target is None else int(target)
    return replace(query, target=chosen), logits


def _attribution(
    query: Query, logits: Tensor, method: str, folder: Path | None, weights: str, progress: Progress | None
) -> Attribution:
    """The heat map from the cache, else from the method; warns where the delta is too large."""
    kind, exit = METHODS[method], query.view.exit
    found = _cached(query, logits, method, folder, weights, progress) if folder else _explain(query, method, progress)
    if progress:
        progress(kind.rows(query), kind.rows(query))
    logit, nothing = (float(value) for value in logits[:, query.target])
    if found.delta is not None and not within_bound(found.delta, logit - nothing):
        warnings.warn(
            f"{method} at exit {exit + 1}: convergence delta {found.delta:+.3g} of a logit difference "
            f"{logit - nothing:.3g} after {found.steps} steps, above the bound of {DELTA_BOUND:.0%}; take more steps",
            UserWarning,
            stacklevel=3,
        )
    return Attribution(
        **vars(found),
        target=query.target,
        exit=exit,
        method=method,
        logit=logit,
        difference=logit - nothing,
        unit=kind.unit.replace("logit", "log-probability") if query.view.score else kind.unit,
        additive=kind.additive,
        is_attribution=kind.is_attribution,
        query=replace(query, precomputed=None),
    )


def _cached(
    query: Query, logits: Tensor, method: str, folder: Path, weights: str, progress: Progress | None
) -> HeatMap:
    """The heat map as the cache has it, else computed and written there; a warning where it cannot be written."""
    arguments = {"method": method, "exit": query.view.exit, "target": query.target, "steps": query.steps}
    arguments |= {"layer": query.layer, "seed": query.seed, "batch": query.batch}
    arguments |= {"score": True} if query.view.score else {}
    tensors = {"image": query.image, "baseline": query.baseline, "said": logits.mul(1000).round()}
    name = map_key(weights, tensors, arguments)
    if old := read_map(folder, name, query.side):
        arrays, numbers = old
        return HeatMap(arrays["heat"], arrays["tokens"], arrays["prefix"], **numbers)
    found = _explain(query, method, progress)
    numbers = {"delta": found.delta, "steps": found.steps, "layer": found.layer}
    try:
        write_map(folder, name, {field: getattr(found, field) for field in ARRAYS}, numbers)
    except (OSError, ValueError) as error:  # a full or read-only disk; a number that JSON does not know
        warnings.warn(f"the map could not be kept in {folder}: {error}", UserWarning, stacklevel=4)
    return found


def _explain(query: Query, method: str, progress: Progress | None) -> HeatMap:
    """Run the method; ``progress`` gets the number of rows that have gone through the model."""
    total, done = METHODS[method].rows(query), 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress and done < total:
            progress(done, total)

    query.view.on_rows = count
    try:
        with undisturbed(query.view.model):
            return METHODS[method].explain(query)
    finally:
        query.view.on_rows = None


def _together(
    query: Query, method: str, exits: tuple[int, ...], progress: Progress | None
) -> Callable[[int], tuple[Tensor, float]] | None:
    """Integrated gradients of these exits at once, computed when the first is read; None for other methods."""
    if method != "integrated_gradients":
        return None
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress(round(950 * done / query.steps), 1000)

    @once
    def all_exits() -> list[tuple[Tensor, float]]:
        arguments = (query.view.model, query.image, query.baseline, query.target, query.steps, query.batch)
        return integrate_exits(*arguments, on_rows=count, exits=exits)

    return lambda exit: all_exits()[exits.index(exit)]


def _rising(progress: Progress | None) -> Progress | None:
    """A progress that never decreases, for any order of its parts."""
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
