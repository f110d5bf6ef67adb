"""Attribution of an exit: heat maps for one exit or for several on one scale, and their cache.

Cache of heat maps: a folder per query with ``heat.npy``, ``tokens.npy``, ``prefix.npy`` and ``answer.json``.
The key is a SHA-256 over the model's weights, its structure, its logits for the image, the image, the baseline and
every argument. So a changed weight gives another key. An entry that cannot be read counts as absent and is written
again. Entries are never removed; a map of 70 pixels takes about 25 KB.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..models.dmpo import DMPO
from ..utils.files import atomic_folder, cache_dir, read_json, write_json
from ..utils.registry import lookup
from ..utils.typing import Array, Progress
from .exit_model import (
    DELTA_BOUND,
    ExitView,
    HeatMap,
    Query,
    check_steps,
    chosen_class,
    make_baseline,
    one_image,
    rising_exits,
    undisturbed,
    within_bound,
)
from .methods import METHODS, REFUSED, integrate_exits
from .quality import Masked, Quality, assess

FORMAT = 1
ARRAYS = ("heat", "tokens", "prefix")


def cache_folder(cache: str | Path | bool | None) -> Path | None:
    """None or False: no cache. True: ``attributions`` in the user's cache (`files.cache_dir`). Else that folder."""
    if cache is None or cache is False:
        return None
    return cache_dir() / "attributions" if cache is True else Path(cache)


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of a model's weights and buffers (names, types, shapes, bytes) and of its structure as printed."""
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def map_key(weights: str, tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> str:
    """Name of the folder of one heat map.

    Args:
        weights: `fingerprint`. tensors: image, baseline, logits (rounded by the caller). arguments: JSON values.
    """
    text = json.dumps({"format": FORMAT, "weights": weights, **arguments}, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def write_map(folder: Path, name: str, arrays: Mapping[str, Array], numbers: Mapping[str, float | str | None]) -> None:
    """Write arrays and numbers under ``name``, whole or not at all."""
    with atomic_folder(folder / name) as temporary:
        for field in ARRAYS:
            np.save(temporary / f"{field}.npy", arrays[field], allow_pickle=False)
        write_json(temporary / "answer.json", {"format": FORMAT, **numbers})


def read_map(folder: Path, name: str, side: int) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """The arrays and numbers under ``name``; None where there are none or they are broken."""
    try:
        answer = read_json(folder / name / "answer.json")
        arrays = {field: _array(folder / name / f"{field}.npy") for field in ARRAYS}
        shapes = arrays["heat"].shape == (side, side) and arrays["tokens"].ndim == 2 and arrays["prefix"].ndim == 1
        whole = all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays.values())
        if not (shapes and whole and answer.pop("format") == FORMAT):
            return None
        numbers = {field: answer.pop(field) for field in ("delta", "steps", "layer")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None
    return (arrays, numbers) if not answer and _are_numbers(**numbers) else None


def _array(path: Path) -> Array:
    with path.open("rb") as stream:  # .npy only, so no archives and no pickles
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def _are_numbers(delta: Any, steps: Any, layer: Any) -> bool:
    """Whether the numbers have the types of a `HeatMap`."""
    delta_fits = delta is None or (type(delta) in (int, float) and math.isfinite(delta))
    return delta_fits and (steps is None or (type(steps) is int and steps > 0)) and isinstance(layer, str)


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


# Results: the heat map of one exit, and the heat maps of several exits for the same image and class.


@dataclass(frozen=True, eq=False)
class Attribution:
    """Heat map of one exit and one class.

    Args:
        heat: (S,S) float32, one value a pixel, in ``unit``; positive values support the class.
        tokens: (rows, columns) float32 on the token grid: sums over the pixels of a cell (integrated gradients,
            `gradient_shap`, `input_x_gradient`), else their mean. Token methods compute this map, and ``heat`` shows it
            in pixels.
        prefix: (P,) values of class and register tokens (`layer_integrated_gradients`, `token_grad_cam`), else empty.
        target: the class. exit: 0-based. method: its name.
        logit: the target's logit at the exit, for the target ``score`` its log-probability. difference: the same minus
            the baseline's.
        delta: convergence delta, the sum of all values minus ``difference``, where the method defines one.
        steps: number of steps or samples. layer: where tokens were read. unit: of the values.
        additive: whether values (and ``prefix``) add up to ``difference`` within ``delta``.
        is_attribution: False for `attention_rollout`, which depends on neither class nor predictor.
        query: the method's input, with the baseline.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> found = dx.attribute(model, torch.rand(3, 32, 32), exit=0, target=1)
        >>> isinstance(found, dx.Attribution), found.heat.shape
        (True, (32, 32))
        >>> bool(abs(found.heat.sum() - found.difference - found.delta) < 1e-4)  # complete
        True
    """

    heat: Array
    tokens: Array
    prefix: Array
    target: int
    exit: int
    method: str
    logit: float
    difference: float
    delta: float | None
    steps: int | None
    layer: str
    unit: str
    additive: bool
    is_attribution: bool
    query: Query = field(repr=False)

    def quality(
        self,
        *,
        samples: int = 64,
        perturbations: int = 4,
        radius: float = 0.02,
        orders: int = 8,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Quality:
        """Infidelity, max-sensitivity, insertion and deletion of the map; see `Quality`.

        What is hidden shows the baseline, the first of them where the method took a stack.

        Args:
            samples: random masks for infidelity. perturbations: noisy copies for max-sensitivity. Each of them computes
                the map again, which takes most of the time. orders: random orders to compare with. A count of 0 leaves
                out what it is for (NaN).
            radius: of the noise, in preprocessed units.
            progress: called with (parts done, 4).

        Raises:
            ValueError: a count below 0 or a radius that is not above 0.
        """
        if min(samples, perturbations, orders) < 0 or not radius > 0:
            raise ValueError(f"{samples=}, {perturbations=} and {orders=} must be at least 0, {radius=} above 0")
        query = self.query
        with undisturbed(query.view.model):
            return assess(
                Masked(query.view, query.image, query.baseline, self.tokens.shape),
                self.tokens,
                self.target,
                self._again,
                samples=samples,
                perturbations=perturbations,
                radius=radius,
                orders=orders,
                seed=seed,
                batch=query.batch,
                progress=progress,
            )

    def _again(self, image: Tensor) -> Tensor:
        with torch.enable_grad():
            query = replace(self.query, image=image.detach())
            return torch.from_numpy(METHODS[self.method].explain(query).heat)[None]


@dataclass(frozen=True, eq=False)
class ExitComparison:
    """Heat maps of the same image and class at K exits.

    Args:
        attributions: one per exit, in order. target: the class; None: each exit's own prediction. method: its name.

    Example:
        >>> import dmpo_explore as dx, torch
        >>> config = dx.ModelConfig("test_vit", "random", 32, exits=2, predictor="linear", bypass_width=4)
        >>> model = dx.build_model(config, n_classes=3).eval()
        >>> compared = dx.compare_exits(model, torch.rand(3, 32, 32), target=1, method="saliency")
        >>> compared.exits, compared.heat.shape, compared.differences().shape
        ((0, 1), (2, 32, 32), (1, 32, 32))
    """

    attributions: tuple[Attribution, ...]
    target: int | None
    method: str

    @property
    def exits(self) -> tuple[int, ...]:
        """(K,) 0-based."""
        return tuple(a.exit for a in self.attributions)

    @property
    def heat(self) -> Array:
        """(K,S,S), in the method's unit."""
        return np.stack([a.heat for a in self.attributions])

    @property
    def scale(self) -> float:
        """Largest absolute value of all maps: the common end of a colour scale."""
        return float(np.abs(self.heat).max())

    @property
    def shares(self) -> Array:
        """(K,S,S): every map divided by the sum of its absolute values, so that only locations are compared."""
        heat = self.heat.astype(np.float64)
        total = np.abs(heat).sum(axis=(1, 2), keepdims=True)
        shares: Array = np.divide(heat, total, out=np.zeros_like(heat), where=total > 0)
        return shares

    def differences(self, *, shares: bool = False) -> Array:
        """(K-1,S,S): each exit's map minus that of the exit before, of values or of `shares`.

        Logits have another scale at every exit, so compare locations with ``shares``.
        """
        changes: Array = np.diff(self.shares if shares else self.heat, axis=0)
        return changes

    def similarity(self) -> Array:
        """(K,K) cosine similarity of the maps; 1 on the diagonal, 0 for a map of zeros."""
        flat = self.heat.reshape(len(self.attributions), -1).astype(np.float64)
        length = np.linalg.norm(flat, axis=1, keepdims=True)
        unit = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
        product: Array = unit @ unit.T
        return product


# Attribution of an exit's logit: a heat map over the image, for one exit or for several on one scale.
#
# In: a `DMPO`, one preprocessed image, an exit (0-based), a class. Out: `Attribution`, or an `ExitComparison` of exits.
# Methods are listed in `methods.METHODS`, misleading ones in ``REFUSED`` with the reason. The state of the model (mode,
# gradients, attention settings) is restored.


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
    check_steps(steps)
    if layer is not None and method not in ("layer_integrated_gradients", "token_grad_cam"):
        raise ValueError(f"layer={layer} is for layer_integrated_gradients and token_grad_cam, not for {method}")
    view, pixels = ExitView(model, exit, score=score), one_image(model, image)
    nothing = make_baseline(model, pixels, baseline)
    if len(nothing) > 1 and method != "gradient_shap":
        raise ValueError(f"a stack of {len(nothing)} baselines fits gradient_shap only; {method} takes one baseline")
    query = Query(view, pixels, nothing, target or 0, steps, batch, layer, seed)
    with undisturbed(model), torch.no_grad():
        logits = torch.stack((query.answers(pixels)[0], query.answers(nothing).mean(0)))
    return replace(query, target=chosen_class(logits[0], target)), logits


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
