"""Data sets of Hugging Face: of a hub and of folders that ``datasets`` reads, by timm; saved ones, by ``datasets``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..utils.extras import extra_imports
from .opened_part import Keys, OpenedPart, TableContent, numbered
from .reader_names import ReaderName
from .stored_images import StoredImages
from .torch_create import create, path_text

SAVED = ("dataset_dict.json", "state.json")  # in what `save_to_disk` of datasets writes: of several splits, of one


def _package(name: ReaderName) -> Any:
    """The package ``datasets``; ImportError that names its extra where it is not installed."""
    with extra_imports(f"{name}", "hf"):
        import datasets
    return datasets


def hugging_face_parts(name: ReaderName) -> tuple[str, ...]:
    """Names of the splits; raises as `torch_readers.part_names`."""
    datasets = _package(name)
    with _opening(name):
        if saved := _saved(name):
            found = datasets.load_from_disk(str(saved))
            return tuple(found) if isinstance(found, datasets.DatasetDict) else ("train",)
        return tuple(map(str, datasets.get_dataset_split_names(_path(name))))


def fetch_hugging_face(name: ReaderName, root: Path | None) -> None:
    """Download a data set of the hub, or check that a folder can be read; raises as `hugging_face_parts`."""
    datasets = _package(name)
    if _saved(name):
        hugging_face_parts(name)
        return
    with _opening(name):
        datasets.load_dataset(_path(name), cache_dir=path_text(root))


@contextmanager
def _opening(name: ReaderName) -> Iterator[None]:
    """Context that turns the many kinds of errors of ``datasets`` and its hub into FileNotFoundError."""
    try:
        yield
    except Exception as error:
        cause = " ".join(str(error).split())
        raise FileNotFoundError(
            f"{name} cannot be opened: {cause}. Give a folder that `datasets` reads or has saved, or a name of a hub "
            "that can be reached"
        ) from None


def open_hugging_face(name: ReaderName, part: str, root: Path | None, keys: Keys) -> OpenedPart:
    """One of `hugging_face_parts`; raises as `torch_readers.open_part`."""
    datasets = _package(name)
    if saved := _saved(name):
        with _opening(name):
            found = datasets.load_from_disk(str(saved))
        table = found[part] if isinstance(found, datasets.DatasetDict) else found
        image, label = _fields(name, table.features, keys)
        table = table.cast_column(image, datasets.Image(decode=False))
    else:
        with _opening(name):
            features = datasets.load_dataset(_path(name), split=part, cache_dir=path_text(root)).features
        image, label = _fields(name, features, keys)
        local = ReaderName(name.reader, _path(name))
        table = create(local, part, root, input_key=image, target_key=label).reader.dataset
    names = tuple(getattr(table.features[label], "names", None) or ())
    images = StoredImages(numbered(part, len(table)), TableContent(table.select_columns(image), image))
    return OpenedPart(images, list(table[label]), names)


def _path(name: ReaderName) -> str:
    return str(name.folder or name.rest)


def _saved(name: ReaderName) -> Path | None:
    folder = name.folder
    return folder if folder is not None and any((folder / file).is_file() for file in SAVED) else None


def _fields(name: ReaderName, features: Any, keys: Keys) -> tuple[str, str]:
    """Names of the fields of image and class: those that were given, else the only ones of their kind."""
    datasets = _package(name)
    images = [field for field, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [field for field, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [field for field in ("label", "labels") if field in features]
    found = []
    for what, key, fields in (("image", keys.image, images), ("label", keys.label, labels)):
        if key is not None and key not in features:
            raise ValueError(f"{name} has no field {key!r} (it has {', '.join(features)})")
        if key is None and len(fields) != 1:
            which = ", ".join(fields or features) or "none"
            raise ValueError(f"{name}: which field holds the {what}? Name it with --{what}-key: {which}")
        found.append(key or fields[0])
    return found[0], found[1]
