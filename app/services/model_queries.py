"""Queries to a run's model about one image: answers of all exits, attribution maps, and their quality. Answers about
images of a record are cached across sessions, about uploaded ones in their session. A query imports torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from dmpo_explore_app.services import model_queue, models
from dmpo_explore_app.services.images import ChosenImage

import dmpo_explore as dx

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]
UNAVAILABLE = (OSError, ValueError, RuntimeError, ImportError)  # weights missing, unsupported, out of memory
BATCH = 16  # rows per forward pass, small so that progress is visible
UNKNOWN = -1  # label of an uploaded image


class Question(NamedTuple):
    """Attribution settings: method, target (a class, 0-based, or ``score``) and baseline."""

    method: str
    target: int | Literal["score"]
    baseline: str


def model_input(image: ChosenImage) -> npt.NDArray[np.uint8]:
    """(S, S, 3) uint8: the resized input before colours are normalised; needs no weights. Raises `UNAVAILABLE`."""
    key, kept = ("model input", *image.key), _answers_about(image)
    if (known := kept.get(key)) is not None:
        return cast("npt.NDArray[np.uint8]", known)
    unnormalised = replace(models.preprocess(image.run), mean=(0.0,) * 3, std=(1.0,) * 3)
    with model_queue.exclusive_use("the model's input"):
        scaled = _transformed(image, unnormalised)
    pixels: npt.NDArray[np.uint8] = scaled.mul(255).round().byte().permute(1, 2, 0).numpy()
    kept.keep(key, pixels)
    return pixels


def exit_answers(image: ChosenImage, record: dx.ExitRecord) -> dx.ExitRecord:
    """Answers of all exits as a record of one image, with logits; label `UNKNOWN` of uploads. Raises `UNAVAILABLE`."""
    key, kept = ("answers", *image.key), _answers_about(image)
    if (known := kept.get(key)) is not None:
        return cast(dx.ExitRecord, known)
    label = 0 if image.row is None else int(record.labels[image.row])
    with model_queue.exclusive_use("an answer about one image"):
        model = models.model(image.run)
        batch = _transformed(image, model.preprocess)[None]
        answers = dx.record_split(model, [(batch, np.array([label]))], replace(record.meta, indices=None))
    if image.row is None:
        answers = replace(answers, labels=np.array([UNKNOWN]))
    kept.keep(key, answers)
    return answers


def patch_components(image: ChosenImage) -> list[dx.inspection.PatchComponents]:
    """Principal components of the patch tokens that every exit's predictor reads; raises as `exit_answers`."""
    key, kept = ("patches", *image.key), _answers_about(image)
    if (known := kept.get(key)) is not None:
        return cast("list[dx.inspection.PatchComponents]", known)
    with model_queue.exclusive_use("the tokens of one image"):
        model = models.model(image.run)
        tokens = dx.stage_tokens(model, _transformed(image, model.preprocess)[None])
        found: list[dx.inspection.PatchComponents] = dx.inspection.patch_components(tokens)
    kept.keep(key, found)
    return found


def attribution_maps(image: ChosenImage, question: Question, progress: Progress) -> dx.ExitComparison:
    """`dx.compare_exits`, raising `UNAVAILABLE`; no warnings about convergence deltas: the page shows them."""
    if (known := cached_maps(image, question)) is not None:
        return known
    with model_queue.exclusive_use("an explanation of one image"), _without_delta_warnings():
        model = models.model(image.run)
        maps = dx.compare_exits(
            model,
            _transformed(image, model.preprocess),
            question.target,
            question.method,
            baseline=question.baseline,
            batch=BATCH,
            cache=image.upload is None,
            progress=progress,
        )
        _answers_about(image).keep(("maps", *image.key, *question), maps)
    return maps


def cached_maps(image: ChosenImage, question: Question) -> dx.ExitComparison | None:
    return cast("dx.ExitComparison | None", _answers_about(image).get(("maps", *image.key, *question)))


def map_qualities(image: ChosenImage, question: Question, progress: Progress) -> list[dx.attribution.Quality]:
    """`Attribution.quality` of every exit's map; raises as `attribution_maps`."""
    if (known := cached_qualities(image, question)) is not None:
        return known
    maps = attribution_maps(image, question, lambda done, total: None).attributions
    found = []
    with model_queue.exclusive_use("a check of an explanation"), _without_delta_warnings():
        for k, attribution in enumerate(maps):
            found.append(attribution.quality(perturbations=0, orders=4, progress=_part(progress, k, len(maps))))
        _answers_about(image).keep(("quality", *image.key, *question), found)
    return found


def cached_qualities(image: ChosenImage, question: Question) -> list[dx.attribution.Quality] | None:
    found = _answers_about(image).get(("quality", *image.key, *question))
    return cast("list[dx.attribution.Quality] | None", found)


def _answers_about(image: ChosenImage) -> models.Kept:
    return models.kept(image.upload is not None)


def _transformed(image: ChosenImage, preprocess: dx.Preprocess) -> Tensor:
    return dx.data.make_transform(preprocess)(image.pixels())


def _part(progress: Progress, k: int, n: int) -> Progress:
    return lambda done, total: progress(round(100 * (k + done / total)), 100 * n)


@contextmanager
def _without_delta_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*convergence delta.*", category=UserWarning)
        yield
