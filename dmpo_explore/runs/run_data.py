"""A run's images against its manifest: checked before they are recorded, and found again after they were moved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config, DataConfig
from ..data.folders import UnlabelledKind
from ..data.frame import Data
from ..data.image_set import ImageSet
from ..data.images import open_data
from ..data.kinds import absolute
from ..data.looks import hashes_of
from ..data.manifest import Differences, compare, manifest_check, manifest_splits
from ..data.splits import SPLITS, UNLABELLED
from ..records.record import ExitRecord
from ..records.scores import STORED
from ..utils.files import write_text
from ..utils.typing import Progress
from .run import Run
from .run_files import record_name
from .store import BUNDLED_RUNS


def check_images(
    run: Run, splits: Iterable[str] = SPLITS, progress: Progress | None = None, data: DataConfig | None = None
) -> Differences:
    """Check that the images of these splits are those of the training, by the SHA-256 of their files.

    Added files are no error; they are in no split. A `UserWarning` reports them, another number of inputs than the
    manifest's ledger has, and runs without a manifest, which cannot be checked.

    Args:
        progress: called with (files hashed, files in all). data: location of the images; default: the run's.

    Raises:
        ValueError: images are missing, changed or renamed; they are named. FileNotFoundError: their folder is missing.

    Example:
        >>> import dmpo_explore as dx
        >>> check_images(dx.load_run("demo"), ["test"]).fits
        True
    """
    opened = run.data if data is None else open_data(data)
    if run.manifest is None:
        if opened.own:
            warnings.warn(
                f"run {run.name!r} has no manifest (it was published without one): whether {opened.config.name} still "
                "has the same splits cannot be checked",
                stacklevel=2,
            )
        return Differences()
    manifest, advice = run.manifest, f"record {run.name} --data FOLDER"
    found = _fitting(run, opened, advice, lambda: manifest_check(manifest, opened, splits, progress))
    if found.added or found.inputs:
        warnings.warn(
            f"{opened.folder} has changed since run {run.name!r} was trained: {found.described()}; they are in no "
            "split; all numbers are those of the original splits",
            stacklevel=2,
        )
    return found


def check_unlabelled(run: Run, progress: Progress | None = None, data: DataConfig | None = None) -> None:
    """`check_images` for a run's unlabelled images; nothing to check without any."""
    data, manifest = data or run.config.data, run.manifest
    if manifest is None or data.unlabelled is None:
        return
    opened, advice = Data(UnlabelledKind(data)), f"train --resume {run.name} --unlabelled FOLDER"
    _fitting(run, opened, advice, lambda: Differences(*compare(manifest.rows(UNLABELLED), opened, progress)))


def _fitting(run: Run, data: Data, advice: str, compare: Callable[[], Differences]) -> Differences:
    """What is compared, if every image is there and unchanged; else an error with the command for moved images."""
    advice = f"if they were moved: dmpo-explore {advice}"
    try:
        found = compare()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}, where the images of run {run.name!r} lay; {advice}") from None
    if not found.fits:
        raise ValueError(
            f"{data.folder} is not what run {run.name!r} was trained on: {found.described()}. Restore the files; "
            f"{advice}"
        )
    return found


def check_classes(run: Run, images: ImageSet) -> None:
    """Check that images have the classes that a run was trained on, by name and in order.

    Raises:
        ValueError: other classes; missing and new ones are named.
    """
    trained, found = run.class_names, images.class_names
    if trained == found:
        return
    gone, new = (", ".join(sorted({*one} - {*other})[:5]) for one, other in ((trained, found), (found, trained)))
    if not gone and not new:
        raise ValueError(
            f"run {run.name!r} was trained on the classes of its data in another order (first {trained[0]}, now "
            f"{found[0]}); restore their order"
        )
    parts = [f"{len(trained)} classes then, {len(found)} now"]
    parts += [f"gone: {gone}"] * bool(gone) + [f"new: {new}"] * bool(new)
    raise ValueError(
        f"run {run.name!r} was trained on other classes than its data have now ({'; '.join(parts)}); rename them back"
    )


def checked_images(run: Run, split: str, progress: Progress | None = None) -> ImageSet:
    """The images of a split after `check_images` and `check_classes`; raises as these and `Run.split_images`."""
    check_images(run, [split], progress)
    images = run.split_images(split)
    check_classes(run, images)
    return images


def other_config(run: Run, name: str) -> DataConfig:
    """Other data by name; known data sets are in the folder in which the run's own are."""
    return DataConfig(name, run.config.data.root)


def other_images(run: Run, split: str, data: DataConfig) -> ImageSet:
    """The images of a split of other data that have the run's classes, numbered in the run's order.

    Files are hashed, and compared as they are read.

    Raises:
        ValueError: other classes, or no such split; or as `open_data`.
    """
    opened = open_data(data)
    if split not in opened.splits:
        raise ValueError(f"{data.name} has no {split} images (it has {', '.join(opened.splits)}); choose --split")
    images = opened.images(split)
    if opened.listed:
        names = opened.rows(split)["path"].tolist()
        pixels = opened.kind.pixels(split, names, hashes_of(opened.kind, names))
        images = replace(images, pixels=pixels, indices=np.arange(len(names)))
    images = images.in_order(run.class_names)
    check_classes(run, images)
    return images


def present_record(run: Run, split: str, other: DataConfig | None = None) -> ExitRecord:
    """A run's record of ``split``, or of a split of ``other`` data, of its present weights and images.

    Whether the run's own images are there is not looked up: its manifest lists them.

    Raises:
        ValueError: it is of other images, or as `Run.record`.
    """
    name = split if other is None else record_name(other.name, split)
    record = run.record(name)
    recorded = record.meta.images_sha256
    if other is None:
        same = not recorded or run.manifest is None or run.manifest.fingerprints.get(split, recorded) == recorded
    else:
        same = recorded == other_images(run, split, other).fingerprint
    if not same:
        raise ValueError(f"the {name} record of run {run.name!r} is of other images than there are now")
    return record


def kept_records(
    run: Run,
    splits: list[str],
    *,
    other_data: str | None = None,
    precision: str = "no",
    keep_logits: bool = True,
    keep_features: bool = False,
    scores: Sequence[str] = (),
    **_: Any,
) -> dict[str, ExitRecord]:
    """Split → its record, of those that are recorded and stay: of the present weights and images, with what is asked.

    Raises:
        FileExistsError: a record without what is asked. ValueError: one of other weights or images, or a damaged one.
    """
    kept: dict[str, ExitRecord] = {}
    other = other_config(run, other_data) if other_data else None
    for split in splits:
        name = record_name(other_data, split) if other_data else split
        if name not in run.splits():
            continue
        kept[split] = record = present_record(run, split, other)
        lacks = ["logits"] * (keep_logits and record.logits is None)
        lacks += ["features"] * (keep_features and record.features is None)
        lacks += [score for score in scores if score not in (*STORED, *record.more)]
        if (was := record.meta.precision or "no") != precision:
            text = f"run {run.name!r} has a {name} record in precision {was}, not {precision}"
            raise FileExistsError(f"{text}; replace it with --force, or choose --split")
        if lacks:
            text = f"run {run.name!r} has a {name} record without {', '.join(lacks)}"
            raise FileExistsError(f"{text}; replace it with --force, or choose --split")
    return kept


def move_data(run: Run, place: str | None, progress: Progress | None = None, *, unlabelled: str | None = None) -> Run:
    """Set the folder of a run's moved images, after all of them have been checked there.

    Args:
        place: a folder or table; for a known data set its root; None: where they were.
        unlabelled: folder of the unlabelled images; None: where they were.
        progress: called with (files hashed, files in all).

    Returns:
        The run with the changed config.json.

    Raises:
        ValueError: the folder holds other images, the run has no unlabelled ones, or it is bundled. FileNotFoundError:
            no such folder.

    Example:
        >>> import dmpo_explore as dx
        >>> move_data(dx.load_run("demo"), "new-place")
        Traceback (most recent call last):
        ValueError: run 'demo' is bundled and stays as it is...
    """
    if run.path.parent == BUNDLED_RUNS.resolve():
        raise ValueError(f"run {run.name!r} is bundled and stays as it is; copy {run.path} to runs/ and change that")
    data = before = run.config.data
    if place not in (None, before.name) and (data := run.data.kind.moved(place)) != before:
        check_images(run, progress=progress, data=data)
        if run.manifest is not None and not run.manifest.listed:
            run.manifest.images(data, "train")  # raises where other arrays are there, or none
    if unlabelled is not None:
        if before.unlabelled is None:
            raise ValueError(f"run {run.name!r} was trained without unlabelled images; leave out --unlabelled")
        data = replace(data, unlabelled=str(absolute(unlabelled)))
        check_unlabelled(run, progress, data)
    if data != before:
        write_text(run.path / "config.json", replace(run.config, data=data).to_json() + "\n")
    return Run(run.path, found_by=run.found_by)


def located(config: Config) -> Config:
    """The same config with absolute paths of images and weights, so that both are found from any folder."""
    from ..models.factory import with_own_weights

    return replace(config, data=open_data(config.data).kind.located(), model=with_own_weights(config.model))


def default_splits(folder: Path) -> tuple[str, ...]:
    """The splits of a run folder that are recorded by default: val, calibration if there is one, and test.

    Example:
        >>> import dmpo_explore as dx
        >>> default_splits(dx.load_run("demo").path)
        ('val', 'test')
    """
    return ("val", "calibration", "test") if "calibration" in manifest_splits(folder) else ("val", "test")


def fits_policies(run: Run, split: str) -> bool:
    """Whether the policies of a run are fitted when ``split`` is recorded: calibration, or val of a run without it."""
    has_calibration = "calibration" in (*default_splits(run.path), *run.splits())
    return split == "calibration" or (split == "val" and not has_calibration)
