"""Evidence for decoupling: gradient conflict between exits along training; CKA and ridge probes of the stages after it.

In: a model in training, or a trained run. Out: tables, one row per epoch and early exit, or per stage. All are
measured on validation images; definitions: `dmpo_explore.inspection.conflict`, `cka` and `probes`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import dmpo_explore as dx
from dmpo_explore.utils.files import atomic_file

ALONG_TRAINING = 64  # images of the gradients
AFTERWARDS = 400  # images of CKA and probes


def examples(config: dx.Config, preprocess: Any, number: int) -> tuple[Tensor, Tensor]:
    """(n, 3, S, S) and (n,): validation images evenly spread over the classes, the same for every arm and seed."""
    data = config.data
    images = dx.load_images(data.name, "val", root=data.root)
    order = np.argsort(images.labels, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, number).astype(int))]
    transform = dx.data.make_transform(preprocess)
    return torch.stack([transform(images[i]) for i in rows]), torch.from_numpy(images.labels[rows])


class GradientLog:
    """Gradient conflict along training: cosines between early exits' gradients and the last one's, by epoch, as CSV.

    An ``on_epoch`` of `dx.train`. Rows are written before the epoch's checkpoint, so that none is lost with a killed
    process; the rows of a repeated epoch replace the old ones.
    """

    def __init__(self, config: dx.Config, path: Path) -> None:
        self.config, self.path, self.examples = config, path, None

    def __call__(self, model: dx.DMPO, result: dx.EpochResult) -> None:
        if self.examples is None:
            self.examples = examples(self.config, model.preprocess, ALONG_TRAINING)
        rows = dx.gradient_conflict(model, *self.examples).assign(epoch=result.epoch)
        if result.epoch > 1:
            before = pd.read_csv(self.path)
            rows = pd.concat([before[before["epoch"] < result.epoch], rows])
        with atomic_file(self.path) as temporary:
            rows.to_csv(temporary, index=False)


def stage_table(run: dx.Run) -> pd.DataFrame:
    """A row per stage of a trained run (a run with one exit is cut every two blocks).

    Returns:
        ``exit`` (from 1), ``block``; ``kept``: linear CKA of the trunk's tokens with the untuned backbone's at that
        block; ``towards_last``: of what the predictor reads with the last stage's trunk; ``low_level_trunk``,
        ``label_trunk``, ``low_level_read``, ``label_read``: ridge probes.
    """
    model = run.model("cpu")
    images, labels = examples(run.config, model.preprocess, AFTERWARDS)
    parts = replace(run.config.model.untuned(), exits=model.exits, bypass="none", predictor="linear")
    if len(model.exits) == 1:
        model = dx.inspection.block_view(model, 2)
        parts = replace(parts, exits=model.exits)
    untuned = dx.build_model(parts, len(run.class_names)).eval()
    ours, before = dx.stage_tokens(model, images), dx.stage_tokens(untuned, images)
    last = ours.patches(len(ours.trunk) - 1).flatten(0, 1)
    table = pd.DataFrame({"exit": range(1, len(model.exits) + 1), "block": model.exits})
    stages = range(len(ours.trunk))
    table["kept"] = [dx.linear_cka(ours.patches(k).flatten(0, 1), before.patches(k).flatten(0, 1)) for k in stages]
    table["towards_last"] = [dx.linear_cka(ours.patches(k, "read").flatten(0, 1), last) for k in stages]
    probes = dx.probe_stages(ours, images, labels.numpy()).pivot(index="exit", columns="source")
    probes.columns = [f"{number}_{source}" for number, source in probes.columns]
    return table.merge(probes.reset_index(), on="exit")
