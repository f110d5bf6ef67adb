"""What a recording depends on: the model with the hash of its weights, and all facts that change its scores.

In: a run and images. Out: JSON values; where they differ from those of an unfinished record, it is started again.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from ..data.images import ImageSet
from ..data.source import ImageFiles, VerifiedFiles
from ..data.stored_images import VerifiedImages
from ..models.dmpo import DMPO
from ..models.flops import ModelFlops, config_flops
from ..runs.run import Run
from ..runs.weights_file import WEIGHTS, read_weights_meta
from ..utils.files import sha256

VERIFIED = (VerifiedFiles, VerifiedImages)


def loaded(run: Run, device: str, n_classes: int) -> tuple[DMPO, ModelFlops, str]:
    """A run's model, its FLOPs, and the SHA-256 that its weights file had before it was read; empty without one."""
    weights = sha256(run.path / WEIGHTS) if (run.path / WEIGHTS).is_file() else ""
    return run.model(device), config_flops(run.config.model, n_classes), weights


def facts(run: Run, images: ImageSet, model: DMPO, precision: str, weights: str) -> dict[str, Any]:
    """Everything that the scores of a run on ``images`` depend on, as JSON values.

    Args:
        weights: SHA-256 of the weights file that ``model`` was read from.

    Raises:
        ValueError: a training has replaced that file meanwhile.
    """
    if (now := sha256(run.path / WEIGHTS)) != weights:
        raise ValueError(f"run {run.name!r} has got new weights while they were read; record it after its training")
    return {
        "config": {"model": run.config.to_dict()["model"], "seed": run.config.training.seed},
        "weights_sha256": now,
        "backbone_sha256": read_weights_meta(run.path).get("backbone_sha256", ""),
        "images_sha256": images.fingerprint if isinstance(images.pixels, VERIFIED) else images_sha256(images),
        "precision": precision,
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type,
        "torch": torch.__version__,
    }


def images_sha256(images: ImageSet) -> str:
    """SHA-256 of labels and pixels; of files their paths, sizes and times of change in place of pixels."""
    found = hashlib.sha256(np.asarray(images.labels, np.int64).tobytes())
    paths = images.pixels.paths if isinstance(images.pixels, ImageFiles) else None
    for index in map(int, images.indices):
        if paths is None:
            pixels = np.ascontiguousarray(images.pixels[index])
            found.update(f"{pixels.shape}".encode() + pixels.tobytes())
        else:
            status = paths[index].stat()
            found.update(f"{paths[index]} {status.st_size} {status.st_mtime_ns}\n".encode())
    return found.hexdigest()
