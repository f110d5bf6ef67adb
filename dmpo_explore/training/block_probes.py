"""Probes of a frozen backbone: what an exit behind every block would know, in minutes and before any training.

In: data and a model's config. Out: a `Forecast`. A ridge classifier is fitted behind every block twice: on class token
and mean patch token, and on the square root of the patch tokens' covariance (as DMPO's second-order predictor reads
it, with principal components of 50 images in place of its learned reduction). An exit is given the better probe of
its block and of those before it, by their errors on images left out. Only training images are read: two thirds to fit
on. Ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..analysis.saving_forecast import Forecast, check_drop, forecast
from ..config import DataConfig, ModelConfig
from ..data.check import one_class
from ..data.images import open_data
from ..data.splits import stratified_rows
from ..data.torch_loaders import make_loader
from ..models.dmpo import DMPO, evaluating
from ..models.factory import build_model
from ..models.flops import config_flops
from ..models.predictors import CovariancePredictor
from ..runs.score_files import record_of, values_of
from ..runs.torch_model import find_device
from ..utils.torch_tools import seeded
from ..utils.typing import Array, Floats, Ints, Progress
from .loop import spread
from .train_data import groups_of, rows_to_hold

IMAGES = 3000  # that are read by default
BLOCKS = 12  # that are probed at most
BATCH = 50
ALPHAS = tuple(float(alpha) for alpha in np.logspace(-1, 5, 7))
KINDS = ("mean", "second_order")


class BlockProbe(NamedTuple):
    """A probe behind one block: its scores (n, C) of held-out images, and its squared error on the others, each left
    out once."""

    scores: Floats
    error: float


def probe(
    data: DataConfig,
    model: ModelConfig | None = None,
    *,
    images: int = IMAGES,
    drop: float = 0.01,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Forecast:
    """Where exits should stand on some data, and what they could save, from a frozen backbone.

    Args:
        data: whose training split is read, and nothing else unless ``skip_broken`` is set. model: backbone, weights and
            image size, and the exits' parts, whose compute is counted; default: DMPO on the default backbone.
        images: training images that are read at most, in proportion to the classes. drop: accuracy that may be lost,
            0.01 is a point. seed: of the images and of the division. progress: called with (images read, images).

    Raises:
        ValueError: fewer than 60 images, fewer than two classes, a class with a single image, or a drop outside [0, 1).
        FileNotFoundError: data or weights are missing.

    Example:
        >>> import dmpo_explore as dx
        >>> tiny = dx.ModelConfig("test_vit", "random", 32, channels=8, bypass_width=8)
        >>> found = dx.probe(dx.DataConfig("digits"), tiny, images=300, drop=0.05)
        >>> found.probes.columns.tolist(), found.record.n_images, found.exits[-1]
        (['block', 'share', 'mean', 'second_order'], 100, 6)
    """
    check_drop(drop)
    opened, model = open_data(data), model or ModelConfig()
    if data.skip_broken:
        opened = opened.looked(progress, quick=True)[0]
    chosen = opened.images("train")
    if images < len(chosen):
        chosen = chosen.subset(stratified_rows(chosen.labels, images, seed=seed))
    if len(chosen) < 60:
        raise ValueError(f"{len(chosen)} training images are too few to probe; at least 60 are needed")
    if len(labelled := np.unique(chosen.labels)) < 2:
        raise ValueError(one_class(chosen.class_names[labelled[0]]))
    held, names = rows_to_hold(chosen, len(chosen) // 3, seed, groups_of(chosen, opened)), chosen.class_names
    plain = replace(model.untuned(), bypass="none", predictor="covariance", last_predictor="covariance")
    depth = build_model(replace(plain, weights="random", exits=1), len(names)).exits[-1]
    with seeded(seed):  # of random weights
        frozen = build_model(replace(plain, exits=min(depth, BLOCKS)), len(names)).to(find_device(device))
    fitted = chosen.subset(np.setdiff1d(np.arange(len(chosen)), held))
    _use_components(frozen, make_loader(spread(fitted, BATCH), frozen.preprocess, batch_size=BATCH))
    features = _features(frozen, make_loader(chosen, frozen.preprocess, batch_size=BATCH), len(chosen), progress)
    given = chosen.labels, held, len(names)
    probes = {kind: [_fit(block[kind], *given) for block in features] for kind in KINDS}
    labels, cost = chosen.labels[held], config_flops(replace(model, exits=frozen.exits), len(names))
    trunk = cost.embed + np.cumsum(np.add(cost.trunk, cost.tuning))
    table: dict[str, Any] = {"block": frozen.exits, "share": trunk / cost.reference}
    table |= {kind: [(found.scores.argmax(1) == labels).mean() for found in probes[kind]] for kind in KINDS}
    best = [min(pair, key=lambda found: found.error) for pair in zip(*probes.values(), strict=True)]
    so_far = accumulate(best, lambda a, b: min(a, b, key=lambda found: found.error))  # a deeper exit knows no less
    scores = np.stack([found.scores for found in so_far], axis=1)
    facts: dict[str, Any] = {
        "labels": labels, "class_names": names, "exit_blocks": np.asarray(frozen.exits), "data": np.asarray(data.name),
        "reference_flops": np.asarray(cost.reference), "model": np.asarray(f"probes of {model.backbone}"),
    }  # fmt: skip
    record = record_of(facts, values_of(scores, "probes"), "probes", trunk.tolist(), "val")
    heads = np.add(cost.bypass, cost.predictor)
    return forecast(record, pd.DataFrame(table), heads.tolist(), len(chosen) - len(held), drop=drop, seed=seed)


def _use_components(model: DMPO, loader: Iterable[Any]) -> None:
    """Let every predictor reduce its patch tokens to their principal components over the loader's first images."""
    with evaluating(model), torch.inference_mode():
        images, *_ = next(iter(loader))
        for k, tokens in enumerate(_tokens(model, images.to(model.device))):
            predictor = _predictor(model, k)
            reduction = predictor.reduce.weight
            reduction.copy_(_components(tokens[:, predictor.prefix :], len(reduction)))


def _features(model: DMPO, loader: Iterable[Any], total: int, progress: Progress | None) -> list[dict[str, Array]]:
    """What the probes read behind every block: kind → (n, p)."""
    found: list[dict[str, list[Array]]] = [{kind: [] for kind in KINDS} for _ in model.stages]
    done = 0
    with evaluating(model), torch.inference_mode():
        for images, *_ in loader:
            for k, tokens in enumerate(_tokens(model, images.to(model.device))):
                predictor = _predictor(model, k)
                found[k]["mean"].append(predictor.first.reader(tokens, predictor.prefix).float().cpu().numpy())
                found[k]["second_order"].append(predictor.statistics(tokens).float().cpu().numpy())
            done += len(images)
            if progress:
                progress(done, total)
    return [{kind: np.concatenate(parts) for kind, parts in block.items()} for block in found]


def _predictor(model: DMPO, k: int) -> CovariancePredictor:
    predictor = model.stages[k].predictor
    assert isinstance(predictor, CovariancePredictor)
    return predictor


def _tokens(model: DMPO, images: Tensor) -> Iterator[Tensor]:
    """The normalised tokens behind every stage, (b, N, D)."""
    for output in model.walk(images):
        yield output.stage.norm(output.tokens)


def _components(tokens: Tensor, channels: int) -> Tensor:
    """(channels, D): the principal components of tokens (b, N, D)."""
    flat = tokens.flatten(0, 1).double()
    _, vectors = torch.linalg.eigh(torch.cov(flat.T))
    found: Tensor = vectors[:, -channels:].T.to(tokens.dtype)
    return found


def _fit(features: Array, labels: Ints, held: Ints, n_classes: int) -> BlockProbe:
    """A ridge classifier on standardised features of the images that are not held out; its penalty by leave-one-out."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = np.setdiff1d(np.arange(len(labels)), held)
    chain = make_pipeline(StandardScaler(), RidgeClassifierCV(ALPHAS)).fit(features[fitted], labels[fitted])
    scores = chain.decision_function(features[held])
    if scores.ndim == 1:
        scores = np.stack((-scores, scores), axis=1)
    every = np.full((len(held), n_classes), scores.min())  # classes without a fitted image score least
    every[:, chain.classes_] = scores
    return BlockProbe(every, -float(chain[-1].best_score_))
