"""Images of a training: checked, divided and hashed for a new run, those of its manifest to resume one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..config import Config
from ..data.check import DataCheck, Finding, check_data
from ..data.frame import Data
from ..data.image_set import ImageFiles, ImageSet
from ..data.images import open_data
from ..data.kinds import relative_path
from ..data.manifest import Manifest, make_manifest
from ..data.splits import UNLABELLED, held_out_rows, stratified_rows
from ..pretrained.weights import is_hub
from ..runs.ready import fetch_backbone, place_finding, start_findings
from ..runs.run import Run
from ..runs.run_data import check_classes, check_images, check_unlabelled
from ..utils.typing import Array, Ints, Progress
from .kinds import TRAINING_PARTS
from .part_options import TeacherOptions, has_own_teacher

DataHook = Callable[[Manifest], None]
SHARE = 10  # one training image in so many is held out


class TrainingImages(NamedTuple):
    """Training and validation images.

    ``manifest`` is None where the run to resume has none. ``groups``: (n,), of every training image; None
    where images have none, or none are held out.
    """

    manifest: Manifest | None
    train: ImageSet
    val: ImageSet
    groups: Array | None


def training_images(
    config: Config, run: Run | None = None, *, name: str | None = None, force: bool = False,
    on_check: Progress | None = None,
) -> TrainingImages:  # fmt: skip
    """The images that ``config`` trains on, checked; those of ``run``'s manifest if it is resumed.

    Args:
        name, force: of a new run; whether it can be written is checked too.
        on_check: called with (files checked, files in all).

    Raises:
        ValueError, OSError: all findings that stop the training, in one error (`DataCheck.require`); for a run as
            `check_images`.

    Warns:
        UserWarning: other findings in the user's images, such as leakage, and in unlabelled ones.
    """
    if run is None:
        found = preflight(config, name, force=force, on_check=on_check, fetch=True)
        found.require()
        opened = found.opened
        assert opened is not None  # else it were a finding
        for finding in found.findings:
            if opened.own or finding.check == UNLABELLED:
                warnings.warn(f"{finding.check}: {finding.text}", stacklevel=1)
        if is_hub(config.model.backbone, config.model.weights):
            fetch_backbone(config.model.backbone)
        manifest = make_manifest(opened, check=found)
        train = opened.images("train")
        return TrainingImages(manifest, train, opened.images("val"), _groups(train, opened, config))
    if place := place_finding():
        raise place.error(place.text)
    check_images(run, ("train", "val"), on_check)
    check_unlabelled(run, on_check)
    train = run.split_images("train")
    check_classes(run, train)
    return TrainingImages(run.manifest, train, run.split_images("val"), _groups(train, run.data, config))


def preflight(
    config: Config, name: str | None = None, *, force: bool = False, on_check: Progress | None = None,
    quick: bool = True, fetch: bool = False,
) -> DataCheck:  # fmt: skip
    """Everything that can stop a training, in one list before its first step: images, teacher, name, place, weights.

    The check of the images (`check_data`) with what this training asks of them and of its teacher besides.

    Args:
        name, force: of a new run, whose place and weights are checked too; None: of no run.
        on_check: called with (files checked, files in all). quick: as for `check_data`.
        fetch: whether a data set of a hub may be downloaded, as a new training does.

    Example:
        >>> import dmpo_explore as dx
        >>> preflight(dx.Config(dx.DataConfig("digits"))).ready
        True
    """
    data, n_exits = open_data(config.data), config.model.exits
    if fetch:
        data.kind.fetch_missing()
    found = check_data(data, on_check, quick=quick)
    more = [] if name is None else start_findings(config, name, force=force)
    if found.ready and found.opened is not None:
        teacher = "" if has_own_teacher(config) else config.training.part(TeacherOptions).teacher
        try:
            if config.data.unlabelled is None:
                images = found.opened.images("train")
                n_exits = n_exits if isinstance(n_exits, int) else len(n_exits)
                hold_out(images, config, n_exits, _groups(images, found.opened, config))
            if teacher:
                from .teacher import checked_teacher

                checked_teacher(config, found.class_names, make_manifest(found.opened, check=found), None)
        except (OSError, ValueError) as error:
            more.append(Finding("teacher" if teacher else "held out", str(error), stops=True, error=type(error)))
    return replace(found, findings=(*more, *found.findings))


def wants_held_out(config: Config, n_exits: int) -> bool:
    """Whether images are held out: a training part needs them, and there is more than one exit."""
    return n_exits > 1 and any(kind.wants_held_out(config) for kind in TRAINING_PARTS.values())


def hold_out_unlabelled(unlabelled: ImageSet, n: int, config: Config) -> tuple[ImageSet, ImageSet]:
    """Unlabelled images → those to train on and ``n`` held out, the same whenever the run is resumed."""
    order = np.random.default_rng(config.data.seed).permutation(len(unlabelled))
    return unlabelled.subset(np.sort(order[n:])), unlabelled.subset(np.sort(order[:n]))


def hold_out(
    images: ImageSet, config: Config, n_exits: int, groups: Array | None = None
) -> tuple[ImageSet, ImageSet | None]:
    """Training images → those to train on and those held out, None where no training part needs them or K is 1.

    A tenth is held out (`rows_to_hold`), the same images whenever the run is resumed. Val, calibration and test stay
    unread.

    Raises:
        ValueError: as `rows_to_hold`.
    """
    if not wants_held_out(config, n_exits):
        return images, None
    held = rows_to_hold(images, len(images) // SHARE, config.data.seed, groups)
    return images.subset(np.setdiff1d(np.arange(len(images)), held)), images.subset(held)


def rows_to_hold(images: ImageSet, size: int, seed: int, groups: Array | None = None) -> Ints:
    """About ``size`` rows of training images to hold out, at least one of every class.

    Where images have groups, whole groups are held out, and the only group of a class is trained on.

    Raises:
        ValueError: a class with a single training image, or no group that can be held out.
    """
    names = images.class_names
    if groups is None:
        return stratified_rows(images.labels, size, seed=seed, least=1, class_names=names)
    held = held_out_rows(images.labels, size, seed=seed, class_names=names, groups=groups)
    gone = np.setdiff1d(images.labels, np.delete(images.labels, held))  # classes all of whose images would be held
    needed = groups[held[np.isin(images.labels[held], gone)]]
    held = held[~np.isin(groups[held], needed)]
    if not len(held):
        raise ValueError(f"no images can be held out: class {names[gone[0]]!r} is in one group; add another group")
    return held


def _groups(images: ImageSet, data: Data, config: Config) -> Array | None:
    return groups_of(images, data) if wants_held_out(config, n_exits=2) else None


def groups_of(images: ImageSet, data: Data) -> Array | None:
    """(n,) group of every image of the training split, by the data; None where images have none."""
    if not data.grouped:
        return None
    frame = data.division.frame
    if not isinstance(images.pixels, ImageFiles):
        return np.asarray(frame["group"][frame["origin"] == "train"])[images.indices]
    listed = frame.set_index("path")["group"]  # images that were added may have divided a table anew
    paths = [relative_path(images.pixels.paths[i], data.folder) for i in images.indices]
    if absent := [path for path in paths if path not in listed.index]:
        raise ValueError(f"{data.config.name} no longer lists {absent[0]}, whose group is needed; restore the table")
    return listed.loc[paths].to_numpy()
