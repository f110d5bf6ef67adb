"""Images of a training: checked, divided and hashed for a new run, those of its manifest to resume one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

from ..config import Config
from ..data.check import check_data
from ..data.images import ImageSet
from ..data.locations import is_own
from ..data.manifest import Manifest, make_manifest
from ..runs.ready import place_finding, start_findings
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
    config: Config, run: Run | None = None, *, name: str | None = None, force: bool = False,
    on_check: Progress | None = None, on_data: DataHook | None = None,
) -> TrainingImages:  # fmt: skip
    """The images that ``config`` trains on, checked; those of ``run``'s manifest if it is resumed.

    Args:
        name, force: of a new run; whether it can be written is checked too.
        on_check: called with (files checked, files in all). on_data: called with the manifest.

    Raises:
        ValueError, OSError: all findings that stop the training, in one error (`DataCheck.require`); for a run as
            `check_images`.

    Warns:
        UserWarning: other findings in the user's images, such as leakage.

    Example:
        >>> import dmpo_explore as dx
        >>> images = training_images(dx.Config(dx.DataConfig("digits", train_size=40)))
        >>> len(images.train), len(images.val), images.manifest.counts["train"]
        (40, 143, 40)
    """
    if run is None:
        found = check_data(config.data, on_check, quick=True)
        found.require([] if name is None else start_findings(config, name, force=force))
        for finding in found.findings if is_own(config.data) else ():
            warnings.warn(f"{finding.check}: {finding.text}", stacklevel=1)
        manifest = make_manifest(config.data, check=found)
        if on_data:
            on_data(manifest)
        return TrainingImages(manifest, manifest.images(config.data, "train"), manifest.images(config.data, "val"))
    if place := place_finding():
        raise place.error(place.text)
    check_images(run, ("train", "val"), on_check)
    if run.manifest is not None and on_data:
        on_data(run.manifest)
    images = TrainingImages(run.manifest, run.split_images("train"), run.split_images("val"))
    check_classes(run, images.train)
    return images
