"""What a run or a training lacks that can be fetched; only browsers on the app's own machine start downloads."""

from __future__ import annotations

from dmpo_explore_app import access

import dmpo_explore as dx


def missing(config: dx.Config) -> list[dx.jobs.Fetchable]:
    """Weights and data of a config that are not here and can be fetched."""
    found = (missing_weights(config.model), missing_images(config.data.name, "train", config.data.root))
    return [one for one in found if one is not None]


def missing_weights(model: dx.ModelConfig) -> dx.jobs.Fetchable | None:
    """The backbone's weights, if they are not here, or damaged, and can be fetched."""
    if model.whole or model.weights != "auto" or model.backbone not in dx.pretrained.SOURCES:
        return None
    try:
        dx.pretrained.find_weights(model.backbone)
    except (OSError, ValueError):
        return dx.jobs.fetchable("backbone", model.backbone)
    return None


def missing_weights_of(run: dx.Run) -> dx.jobs.Fetchable | None:
    """The backbone's weights, if they are all that a trained run lacks."""
    try:
        return missing_weights(run.config.model) if (run.path / dx.runs.WEIGHTS).is_file() else None
    except (OSError, ValueError):
        return None


def missing_images(name: str, split: str, root: str | None = None) -> dx.jobs.Fetchable | None:
    """The images of a split of a known data set, if they are not here and can be fetched."""
    if root is not None or name not in dx.data.DATASETS:
        return None
    try:
        dx.data.images_of(dx.DataConfig(name), split)
    except FileNotFoundError:
        return dx.jobs.fetchable("data", name)
    except (OSError, ValueError):
        return None
    return None


def status(wanted: dx.jobs.Fetchable) -> dx.jobs.DownloadStatus | None:
    found = dx.jobs.find_download(wanted.kind, wanted.name)
    return None if found is None else dx.jobs.download_status(found)


def start(wanted: dx.jobs.Fetchable) -> None:
    """Fetch it in the background; ValueError from another machine, else as `dx.jobs.start_download`."""
    access.check_private("Downloads are started")
    dx.jobs.start_download(wanted.kind, wanted.name)


def stop(wanted: dx.jobs.Fetchable) -> None:
    """Stop its download; ValueError from another machine."""
    access.check_private("Downloads are stopped")
    dx.jobs.stop_download(wanted.kind, wanted.name, grace=3.0)
