"""Images of a training: divided and hashed for a new run, those of its manifest to resume one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..config import Config
from ..data.images import ImageSet
from ..data.manifest import Manifest, make_manifest
from ..runs.run import Run
from ..runs.run_data import check_classes, check_images
from ..utils.progress import Progress

DataHook = Callable[[Manifest], None]


class TrainingImages(NamedTuple):
    """Training and validation images; ``manifest`` is None where an earlier version started the run."""

    manifest: Manifest | None
    train: ImageSet
    val: ImageSet


def training_images(
    config: Config, run: Run | None = None, *, on_check: Progress | None = None, on_data: DataHook | None = None
) -> TrainingImages:
    """The images that ``config`` trains on; those of ``run``'s manifest where that is resumed.

    Args:
        on_check: called with (files hashed, files in all). on_data: called with the manifest.

    Raises:
        ValueError, FileNotFoundError: as `make_manifest`, and as `check_images` for a run.

    Example:
        >>> import dmpo_explore as dx
        >>> images = training_images(dx.Config(dx.DataConfig("digits", train_size=40)))
        >>> len(images.train), len(images.val), images.manifest.counts["train"]
        (40, 143, 40)
    """
    if run is None:
        manifest = make_manifest(config.data, on_check)
        if on_data:
            on_data(manifest)
        return TrainingImages(manifest, manifest.images(config.data, "train"), manifest.images(config.data, "val"))
    check_images(run, ("train", "val"), on_check)
    if run.manifest is not None and on_data:
        on_data(run.manifest)
    images = TrainingImages(run.manifest, run.split_images("train"), run.split_images("val"))
    check_classes(run, images.train)
    return images
