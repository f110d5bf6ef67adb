"""What needs no network: a ridge classifier on the pixels of the model's input, beside the exits of a finished trial.

In: a trial's config and which val images its exits have correct. Out: a row per exit: its accuracy, the ridge's, and
the paired difference in points with its 95 % interval over the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dmpo_explore as dx
from dmpo_explore.analysis import gain
from dmpo_explore.data.images import images_of
from dmpo_explore.inspection.tokens import ALPHAS


def correct_on_pixels(config: dx.Config) -> npt.NDArray[np.bool_]:
    """Which val images a ridge on grey pixels of ``config``'s image size has correct, (B,); fitted on train.

    Its penalty is chosen by leave-one-out among the training images.
    """
    prepare = dx.data.make_transform(dx.Preprocess(config.model.image_size, mean=(0, 0, 0), std=(1, 1, 1)))
    parts = {split: images_of(config.data, split) for split in ("train", "val")}
    pixels = {
        split: np.stack([prepare(images[i]).mean(dim=0).flatten().numpy() for i in range(len(images))])
        for split, images in parts.items()
    }
    ridge = make_pipeline(StandardScaler(), RidgeClassifierCV(ALPHAS)).fit(pixels["train"], parts["train"].labels)
    return np.asarray(ridge.predict(pixels["val"]) == parts["val"].labels)


def beside_pixels(config: dx.Config, outcomes: Mapping[str, npt.NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """Rows of the exits in ``outcomes``, name → (B,) correct on val, over the ridge on pixels."""
    ridge = correct_on_pixels(config)
    return [
        {"accuracy": correct.mean(), "ridge": ridge.mean()} | gain(name, correct[None], ridge[None])
        for name, correct in outcomes.items()
        if name.startswith("exit ")
    ]
