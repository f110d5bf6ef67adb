"""Parts of data sets by timm's names: ``torch/``, ``hfds/`` and ``tfds/`` by `timm.data.create_dataset`, and ``wds/``.

In: a `ReaderName`, a part as the reader calls it, and the folder of data sets. Out: an `OpenedPart`: names, targets,
class names and the bytes of every image, by position. timm finds part, images and targets. Ours: images are decoded as
image files are (`decode_image`); shards of webdataset are read by position (`tar_shards`), where timm streams them; a
folder that ``datasets`` saved (`save_to_disk`) is opened by its `load_from_disk`, which timm does not call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.files import expanded
from ...utils.registry import lookup
from ..folders import split_folders
from ..image_set import StoredImages, pack, unpack
from ..names import ReaderName
from .hugging_face import fetch_hugging_face, hugging_face_parts, open_hugging_face
from .opening import (
    ArrayContent,
    FileContent,
    Keys,
    OpenedPart,
    ShardContent,
    create,
    in_folder,
    numbered,
    path_text,
)  # fmt: skip
from .tar_shards import part_info, read_samples, shards_of

MOST_BYTES = 4 * 2**30  # of images that can only be read in order, and are kept in memory
TORCH = {  # timm's names of torchvision's data sets → their parts
    **dict.fromkeys(("cifar10", "cifar100", "mnist", "kmnist", "qmnist", "fashion_mnist"), ("train", "test")),
    **dict.fromkeys(("imagenet", "places365", "inaturalist"), ("train", "val")),
    **dict.fromkeys(("image_folder", "folder"), ()),
}


def part_names(name: ReaderName, root: Path | None) -> tuple[str, ...]:
    """The parts of a data set as its reader calls them.

    Raises:
        FileNotFoundError, ValueError: there is no such data set. ImportError: a package is missing.
    """
    if name.reader == "wds":
        return tuple(shards_of(expanded(name.rest)))
    if name.reader == "hfds":
        return hugging_face_parts(name, root)
    if name.reader == "tfds":
        with _tensorflow_datasets(name):
            import tensorflow_datasets

            place = expanded(root or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
            if not (found := sorted(path.parent for path in place.glob(f"{name.rest}/**/dataset_info.json"))):
                fix = f"it is downloaded by `dmpo-explore fetch --data {name}` alone"
                raise FileNotFoundError(f"{name} is not in {place}; {fix}")
            return tuple(tensorflow_datasets.builder_from_directory(str(found[-1])).info.splits)
    if own := lookup(TORCH, name.rest.lower(), f"data set of {name.reader}/"):
        return own
    if root is None or not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; name the one of {name} with --data-root")
    return tuple(folder.name for folder in split_folders(root).values()) or ("train",)


def open_part(name: ReaderName, part: str, root: Path | None, keys: Keys) -> OpenedPart:
    """Open one of `part_names`.

    Args:
        root: folder of published data sets; None: the reader's own cache.

    Raises:
        As `part_names`, and ValueError where images or classes are not found in it.
    """
    openers: dict[str, Callable[[ReaderName, str, Path | None, Keys], OpenedPart]] = {
        "torch": _open_torch, "hfds": open_hugging_face, "wds": _open_shards, "tfds": _open_in_order,
    }  # fmt: skip
    return openers[name.reader](name, part, root, keys)


def download(name: ReaderName, root: Path | None) -> None:
    """Download a published data set; what is there already is kept. Raises FileNotFoundError where it cannot be."""
    try:
        if root is not None:
            root.mkdir(parents=True, exist_ok=True)
        if name.reader == "torch":
            create(name, part_names(name, root)[0], root, download=True)
        if name.reader == "tfds":
            with _tensorflow_datasets(name):
                import tensorflow_datasets

                tensorflow_datasets.builder(name.rest, data_dir=path_text(root)).download_and_prepare()
        if name.reader == "hfds":
            fetch_hugging_face(name, root)  # whose fields need not be known for that
            return
        for part in part_names(name, root):
            open_part(name, part, root, Keys())
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"{name} could not be downloaded{in_folder(root)}: {error}") from None


# -- torchvision --


def _open_torch(name: ReaderName, part: str, root: Path | None, keys: Keys) -> OpenedPart:
    del keys
    found = create(name, part, root)
    classes = tuple(
        ", ".join(entry) if isinstance(entry, tuple | list) else str(entry) for entry in getattr(found, "classes", ())
    )
    if (samples := getattr(found, "samples", None)) is not None:
        paths = [Path(path) for path, _ in samples]
        names = [f"{part}/{_below(path, Path(found.root))}" for path in paths]
        return OpenedPart(StoredImages(names, FileContent(paths)), [target for _, target in samples], classes)
    targets = getattr(found, "targets", None)
    targets = [found[i][1] for i in range(len(found))] if targets is None else np.asarray(targets).tolist()
    if name.rest.lower() == "qmnist":  # the class, then seven facts about the writer
        targets = [target[0] if isinstance(target, list) else target for target in targets]
    return OpenedPart(_arrays(part, len(found), ArrayContent(found)), targets, classes)


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _arrays(part: str, count: int, content: Callable[[int], bytes]) -> StoredImages:
    return StoredImages(numbered(part, count), content, unpack)


# -- shards --


def _open_shards(name: ReaderName, part: str, root: Path | None, keys: Keys) -> OpenedPart:
    del root
    folder = expanded(name.rest).resolve()
    counted, label_key = part_info(folder, part)
    samples = read_samples(folder, shards_of(folder)[part], image_key=keys.image, label_key=keys.label or label_key)
    if counted not in (None, len(samples)):
        raise ValueError(
            f"{folder} lists {counted:,} samples of {part} (num_samples), and its shards hold {len(samples):,}; "
            "correct the list, or fetch the shards again"
        )
    names = [f"{part}/{sample.image.shard.relative_to(folder).as_posix()}/{sample.image.name}" for sample in samples]
    return OpenedPart(StoredImages(names, ShardContent(samples)), [sample.label for sample in samples])


# -- TensorFlow Datasets --


def _open_in_order(name: ReaderName, part: str, root: Path | None, keys: Keys) -> OpenedPart:
    """A part that timm reads in order only: read once, its pixels kept in memory."""
    with _tensorflow_datasets(name):
        fields = {"input_key": keys.image, "target_key": keys.label}
        found = create(name, part, root, **{key: field for key, field in fields.items() if field})
    images, targets, size = list[bytes](), list[Any](), 0
    for image, target in found:
        images.append(pack(np.asarray(image.convert("RGB"), np.uint8)))
        targets.append(target)
        size += len(images[-1])
        if size > MOST_BYTES:
            raise ValueError(
                f"{name} ({part}) has more than {MOST_BYTES / 2**30:.0f} GiB of pixels, which are kept in memory; save "
                "it as tar shards and use wds/FOLDER"
            )
    classes = sorted(found.reader.class_to_idx.items(), key=lambda entry: int(entry[1]))
    return OpenedPart(_arrays(part, len(images), images.__getitem__), targets, tuple(str(text) for text, _ in classes))


@contextmanager
def _tensorflow_datasets(name: ReaderName) -> Iterator[None]:
    """Raise ImportError if a package is missing; timm would only print a message."""
    if lacking := [package for package in ("tensorflow", "tensorflow_datasets") if find_spec(package) is None]:
        raise ImportError(
            f"{name} needs {lacking[0].replace('_', '-')}, which is not installed: pip install tensorflow "
            "tensorflow-datasets"
        )
    yield
