"""Early-exit prediction of image files.

In: a trained `Run`, files or folders, a `Policy`. Out: one `Prediction` per file, as they come; a file that cannot be
read has an error, and the others are classified.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from ..data.image_files import find_images, open_image
from ..data.torch_loaders import make_transform
from ..policies.base import Policy
from ..runs.run import Run
from .torch_engine import infer


@dataclass(frozen=True)
class Prediction:
    """Prediction for one file: label, 0-based exit and confidence (max softmax) there, or only an ``error``.

    Example:
        >>> Prediction(Path("a.jpg"), "Bag", exit=1, confidence=0.97).label
        'Bag'
    """

    path: Path
    label: str = ""
    exit: int = -1
    confidence: float = 0.0
    error: str = ""


def predict_files(
    run: Run, paths: Iterable[str | Path], policy: Policy, *, device: str = "auto", batch_size: int = 64
) -> Iterator[Prediction]:
    """Classify files and the images in folders, in order; the policy is made to fit the run (`Run.fitted_here`).

    Raises:
        ValueError: a folder without images, a policy for another number of exits, a batch size below 1, or what
            `Run.model` raises.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("demo")
        >>> for prediction in predict_files(run, ["photos/"], run.policies()["confidence-30%"]):  # doctest: +SKIP
        ...     print(prediction.path, prediction.label, prediction.exit + 1)
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    files = find_images(paths)
    model, names = run.model(device, merge=True), run.class_names
    policy = run.fitted_here(policy).begin()  # one stream, however many batches
    policy.check(model.n_exits)
    transform = make_transform(model.preprocess)
    for start in range(0, len(files), batch_size):
        images: list[Tensor] = []
        results = [Prediction(path) for path in files[start : start + batch_size]]
        for i, result in enumerate(results):
            try:
                images.append(transform(open_image(result.path)))
            except (OSError, ValueError) as error:
                results[i] = Prediction(result.path, error=str(error))
        if images:
            out = infer(model, torch.stack(images), policy)
            seen = zip(out.label.tolist(), out.exit.tolist(), out.confidence.tolist(), strict=True)
            readable = [i for i, result in enumerate(results) if not result.error]
            for i, (label, exit, confidence) in zip(readable, seen, strict=True):
                results[i] = Prediction(results[i].path, names[label], exit, confidence)
        yield from results


def to_csv(predictions: Iterable[Prediction]) -> str:
    """CSV text: file, label, exit (counted from 1), confidence; those with an error are left out.

    Example:
        >>> print(to_csv([Prediction(Path("a.jpg"), "Bag", exit=1, confidence=0.97)]), end="")
        file,label,exit,confidence
        a.jpg,Bag,2,0.970000
    """
    text = io.StringIO()
    for _ in write_csv(predictions, text):
        pass
    return text.getvalue()


def write_csv(predictions: Iterable[Prediction], file: TextIO) -> Iterator[Prediction]:
    """Write the rows of `to_csv` as they come; each prediction is passed on once its row is in ``file``, flushed.

    Example:
        >>> file = io.StringIO()
        >>> for prediction in write_csv([Prediction(Path("a.jpg"), "Bag", exit=1, confidence=0.97)], file):
        ...     print(file.getvalue(), end="")
        file,label,exit,confidence
        a.jpg,Bag,2,0.970000
    """
    table = csv.writer(file, lineterminator="\n")
    head, begun = ["file", "label", "exit", "confidence"], False  # not before the first prediction: the model may fail
    for p in predictions:
        if not begun:
            table.writerow(head)
            begun = True
        if not p.error:
            table.writerow([p.path, p.label, p.exit + 1, f"{p.confidence:.6f}"])
            file.flush()
        yield p
    if not begun:
        table.writerow(head)
