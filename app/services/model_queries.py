"""Ask a run's model about one picture: what every exit says, where it looks, how far that can be trusted.

In: a `Subject`. Out: what the library answers, kept: for images of records by everybody, for pictures that were sent in
their session only, and those leave nothing on the disk either. Every call takes its turn. Importing this imports no
torch; asking does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from dmpo_explore_app.services import cache, model_queue
from dmpo_explore_app.services.images import Subject

import dmpo_explore as dx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from dmpo_explore.attribution.quality import Quality
    from dmpo_explore.attribution.results import ExitComparison

Progress = Callable[[int, int], None]
HINDRANCES = (OSError, ValueError, RuntimeError, ImportError)  # of a model: not fetched, not ours, no memory left
BATCH = 16  # rows at a time: few enough that the bar moves
UNKNOWN = -1  # label of a picture that was sent


class Question(NamedTuple):
    """Where do the exits look …"""

    method: str
    target: int  # … for this class, 0-based
    baseline: str


def seen(subject: Subject) -> npt.NDArray[np.uint8]:
    """(S, S, 3): what the model sees, before the colours are normalised; the weights are not needed."""
    key = ("seen", *subject.key)
    kept = cache.kept(subject.sent is not None)
    if (known := kept.get(key)) is not None:
        return cast("npt.NDArray[np.uint8]", known)
    plain = replace(cache.preprocess(subject.run), mean=(0.0,) * 3, std=(1.0,) * 3)
    image: npt.NDArray[np.uint8] = _transformed(subject, plain).mul(255).round().byte().permute(1, 2, 0).numpy()
    kept.keep(key, image)
    return image


def answers(subject: Subject, record: dx.ExitRecord) -> dx.ExitRecord:
    """What every exit says now: a record of one image, with logits; its label is `UNKNOWN` if it was sent.

    Raises:
        `HINDRANCES`: as `Run.model`, or the picture cannot be read.
    """
    key = ("answers", *subject.key)
    kept = cache.kept(subject.sent is not None)
    if (known := kept.get(key)) is not None:
        return cast(dx.ExitRecord, known)
    label = UNKNOWN if subject.row is None else int(record.labels[subject.row])
    with model_queue.taken("an answer about one image"):
        model = cache.model(subject.run)
        image = _transformed(subject, model.preprocess)[None]
        said = dx.record_split(model, [(image, np.array([label]))], replace(record.meta, indices=None))
    kept.keep(key, said)
    return said


def maps(subject: Subject, question: Question, progress: Progress) -> ExitComparison:
    """`dx.compare_exits` for all exits; what was asked before is kept. Deltas too large are for the reader to see.

    Raises:
        `HINDRANCES`: as `Run.model` and `dx.compare_exits`.
    """
    if (known := known_maps(subject, question)) is not None:
        return known
    with model_queue.taken("an explanation of one image"), _deltas_are_shown():
        model = cache.model(subject.run)
        made = dx.compare_exits(
            model,
            _transformed(subject, model.preprocess),
            question.target,
            question.method,
            baseline=question.baseline,
            batch=BATCH,
            cache=subject.sent is None,
            progress=progress,
        )
        cache.kept(subject.sent is not None).keep(("maps", *subject.key, *question), made)
    return made


def known_maps(subject: Subject, question: Question) -> ExitComparison | None:
    """The same if it was made before."""
    found = cache.kept(subject.sent is not None).get(("maps", *subject.key, *question))
    return cast("ExitComparison | None", found)


def qualities(subject: Subject, question: Question, progress: Progress) -> list[Quality]:
    """`Attribution.quality` of every exit's map; raises as `maps`."""
    if (known := known_qualities(subject, question)) is not None:
        return known
    found = maps(subject, question, lambda done, total: None).attributions
    made = []
    with model_queue.taken("a check of an explanation"), _deltas_are_shown():
        for k, attribution in enumerate(found):
            made.append(attribution.quality(perturbations=0, orders=4, progress=_part(progress, k, len(found))))
        cache.kept(subject.sent is not None).keep(("quality", *subject.key, *question), made)
    return made


def known_qualities(subject: Subject, question: Question) -> list[Quality] | None:
    """The same if they were measured before."""
    found = cache.kept(subject.sent is not None).get(("quality", *subject.key, *question))
    return cast("list[Quality] | None", found)


def _transformed(subject: Subject, preprocess: dx.Preprocess) -> Tensor:
    from dmpo_explore.data.torch_loaders import make_transform

    return make_transform(preprocess)(subject.pixels())


def _part(progress: Progress, k: int, n: int) -> Progress:
    return lambda done, total: progress(round(100 * (k + done / total)), 100 * n)


@contextmanager
def _deltas_are_shown() -> Iterator[None]:
    """The page shows every delta and whether it is within the bound, so nobody needs a warning in the log."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*convergence delta.*", category=UserWarning)
        yield
