"""The smallest weights that answer alike, chosen by measuring on images.

In: an export (`torch_export`) and images. Out: the same export with float16 or int8 weights, where nearly all images
(`ALIKE`) keep their exit and their label, and what was measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..inference.onnx_engine import OnnxEngine
from ..inference.onnx_weights import KINDS, shrink_graph
from ..utils.typing import Ints, Report

MEASURED = 1000  # images on which kinds of weights are compared
ALIKE = 0.99  # of the images keep their exit, and as many their label
BATCH = 50


class Agreement(NamedTuple):
    """How a kind of weights answers, compared with float32 at the policy's thresholds.

    Args:
        kind: one of `KINDS`. images: compared. exits, labels: images with the same exit, the same label.
    """

    kind: str
    images: int
    exits: int
    labels: int

    @property
    def alike(self) -> bool:
        """Whether at least `ALIKE` of the images have the same exit, and as many the same label."""
        return min(self.exits, self.labels) >= ALIKE * self.images

    def described(self) -> str:
        """In words."""
        if not self.images:
            return f"{self.kind} weights, not compared: the images are not here"
        if self.kind == "float32":
            return "float32 weights, as trained"
        same = f"{self.exits:,} have the exit and {self.labels:,} the label of float32"
        return f"{self.kind} weights: of {self.images:,} images, {same}"


def shrink_export(
    folder: Path, images: Sequence[npt.NDArray[np.uint8]], kind: str = "auto",
    progress: Report | None = None,
) -> Agreement:  # fmt: skip
    """Store an export's weights in fewer bytes, in its place; returns what was chosen and measured.

    Args:
        folder: an export with float32 weights. images: (H, W, 3) uint8 each, any number.
        kind: one of `KINDS`, or ``auto``: the smallest with which the images answer alike (`Agreement.alike`); float32
            if they do with none, or without images.
        progress: called with (text, images done, images in all).

    Raises:
        ValueError: another kind, as `shrink_graph`.
    """
    plain = Agreement("float32", len(images), len(images), len(images))
    if kind == "float32" or (kind == "auto" and not images):
        return plain
    expected = _answers(folder, images, "float32", progress)
    for one in reversed(KINDS[1:]) if kind == "auto" else (kind,):
        trial = folder.with_name(f"{folder.name}-{one}")
        shutil.copytree(folder, trial)
        for path in folder.glob("*.onnx"):
            shrink_graph(path, trial / path.name, one)
        found = _answers(trial, images, one, progress)
        same = [int((a == b).sum()) for a, b in zip(expected, found, strict=True)]
        agreement = Agreement(one, len(images), *same)
        if kind != "auto" or agreement.alike:
            shutil.rmtree(folder)
            trial.rename(folder)
            return agreement
        shutil.rmtree(trial)
    return plain


def _answers(
    folder: Path, images: Sequence[npt.NDArray[np.uint8]], kind: str,
    progress: Report | None,
) -> tuple[Ints, Ints]:  # fmt: skip
    """Exit (n,) and label (n,) of every image."""
    engine, exits, labels = OnnxEngine(folder), [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(0, len(images), BATCH):
        out = engine.infer(engine.prepare(images[first : first + BATCH]))
        exits.append(out.exit)
        labels.append(out.label)
        if progress:
            progress(f"compare {kind}", min(first + BATCH, len(images)), len(images))
    return np.concatenate(exits), np.concatenate(labels)
