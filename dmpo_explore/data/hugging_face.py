"""What ``datasets`` of Hugging Face reads: ``hfds/NAME`` of a hub, ``hfds/FOLDER``, and tar shards, ``wds/FOLDER``.

They open from this machine alone: a data set of the hub from the cache of ``datasets``, once `fetch_hugging_face` has
put it there, which is the one function here that connects. A folder is data: what it names outside itself is refused.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ..config import DataConfig
from ..utils.files import expanded
from ..utils.lazy import extra_imports, local_only
from ..utils.texts import check_regular, read_text, short
from .kinds import Inputs, Kind, absolute, frame_of, moved_to, relative_path
from .labels import refused, wrong_label
from .names import ReaderName, data_dir, parts_rule, reader_name, splits_of_parts

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)
CARDS = ("README.md", ".huggingface.yaml")  # where a folder describes itself to `datasets`
SAVED = ("dataset_dict.json", "state.json")  # in what `save_to_disk` of datasets writes: of several splits, of one


class HuggingFaceKind(Kind):
    """A data set that ``datasets`` opens; ImportError where that is missing."""

    files = False

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        name = reader_name(config.name)
        assert name is not None
        self.name, self.root = name, expanded(config.root) if config.root is not None else None

    @classmethod
    def takes(cls, config: DataConfig) -> bool:
        return reader_name(config.name) is not None

    @property
    def folder(self) -> Path:
        return self.name.folder or Path(self.config.name)

    @cached_property
    def _splits(self) -> dict[str, str]:
        """Split → the part that it is."""
        return splits_of_parts(self.name, hugging_face_parts(self.name, self.root))

    @cached_property
    def _parts(self) -> dict[str, _Part]:
        keys = self.config.image_key, self.config.label_key
        return {part: _open_part(self.name, part, self.root, *keys) for part in self._splits.values()}

    def inputs(self) -> Inputs:
        rows, whole = list[tuple[str, str, Any, str]](), len(self._splits) == 1
        for split, part in self._splits.items():
            opened = self._parts[part]
            labels = opened.class_labels(f"{self.name}", part)
            place = "" if whole else split
            rows += [(name, place, label, "") for name, label in zip(opened.names, labels, strict=True)]
        classes = self._parts[self._splits["train"]].class_names
        return Inputs(frame_of(rows), classes, "" if whole else parts_rule(self._splits))

    def content(self, name: str) -> bytes:
        part, position = self._places[name]
        return part.read(position)

    @cached_property
    def _places(self) -> dict[str, tuple[_Part, int]]:
        return {name: (part, position) for part in self._parts.values() for position, name in enumerate(part.names)}

    def sources(self) -> Sequence[Path]:
        folder = self.name.folder or self.root
        return sorted(path for path in folder.rglob("*") if path.is_file()) if folder is not None else ()

    def fetch(self) -> Path:
        """Download it, where it is of the hub; a folder is opened."""
        if self.root is not None:
            self.root.mkdir(parents=True, exist_ok=True)
        try:
            fetch_hugging_face(self.name, self.root)  # whose fields need not be known for that
        except (OSError, RuntimeError) as error:
            place = "" if self.root is None else f" in {self.root}"
            raise FileNotFoundError(f"{self.name} could not be downloaded{place}: {error}") from None
        return self.name.folder or data_dir(self.root)

    def fetch_missing(self) -> None:
        if self.name.folder is not None:
            return
        try:
            _ = self._splits
        except FileNotFoundError:
            self.fetch()

    def located(self) -> DataConfig:
        found, folder = super().located(), self.name.folder
        return found if folder is None else replace(found, name=str(self.name._replace(rest=str(absolute(folder)))))

    def moved(self, place: str | Path) -> DataConfig:
        new = moved_to(absolute(str(place).removeprefix(f"{self.name.reader}/")), self.config.name)
        if self.name.folder is None:
            return replace(self.config, root=str(new))
        return replace(self.config, name=str(self.name._replace(rest=str(new))))


class _Part(NamedTuple):
    """One part of a data set: its images in field ``image`` of a table, and the class of each.

    ``places``: folders of the files that the table may name.
    """

    names: list[str]
    table: Any
    image: str
    targets: list[Any]
    class_names: tuple[str, ...]
    places: tuple[Path, ...]

    def class_labels(self, name: str, part: str) -> list[str]:
        """Name or number of every image's class; ValueError for none, several, or a label that is refused."""
        if several := next((target for target in self.targets if isinstance(target, list | tuple)), None):
            raise ValueError(f"{name}: images of {part} have several classes each, e.g. {several!r}; one is needed")
        if (bare := next((row for row, target in enumerate(self.targets) if target is None), None)) is not None:
            raise ValueError(f"{name}: {self.names[bare]} of {part} has no class; add it, or remove the image")
        names, odd = self.class_names, wrong_label(self.targets)
        if odd is not None and not (names and isinstance(self.targets[odd], int)):  # such as -1: not published
            raise ValueError(f"{name}: {self.names[odd]} of {part}: {refused(self.targets[odd])}")
        numbered = names and all(isinstance(target, int) for target in self.targets)
        return [names[target] if numbered and 0 <= target < len(names) else str(target) for target in self.targets]

    def read(self, position: int) -> bytes:
        """The bytes of an encoded image, or of the file that it names below ``places``."""
        image = self.table[position][self.image] or {}
        if not image.get("bytes") and not image.get("path"):
            raise ValueError(f"row {position} (counted from 0) has no {self.image}; remove it")
        if image.get("bytes"):
            return bytes(image["bytes"])
        path = Path(image["path"]).resolve()
        if not any(path.is_relative_to(place) for place in self.places):
            raise ValueError(
                f"row {position} (counted from 0) names a file outside its data set: {path}; save it again"
            )
        check_regular(path)
        return path.read_bytes()


def _address(name: ReaderName, root: Path | None) -> dict[str, Any]:
    """Arguments by which ``datasets`` finds the data."""
    cache = {"cache_dir": None if root is None else str(root)}
    return cache | ({"path": "webdataset", "data_dir": _path(name)} if name.reader == "wds" else {"path": _path(name)})


def _package(name: ReaderName) -> Any:
    """The package ``datasets``; ImportError that names its extra where it is not installed."""
    with extra_imports(f"{name}", "hf"):
        import datasets
    datasets.disable_progress_bars()
    return datasets


def hugging_face_parts(name: ReaderName, root: Path | None = None) -> tuple[str, ...]:
    """Names of the splits; FileNotFoundError, ValueError or ImportError where it cannot be opened."""
    datasets = _package(name)
    with _opening(name), local_only():
        if saved := _saved(name):
            found = datasets.load_from_disk(str(saved))
            return tuple(found) if isinstance(found, datasets.DatasetDict) else ("train",)
        listed = datasets.load_dataset_builder(**_address(name, root)).config.data_files
        parts = tuple(map(str, datasets.get_dataset_split_names(**_address(name, root))))
    if name.folder is not None and listed:
        files = [str(file) for part in listed.values() for file in part]
        _check_files(name, name.folder.resolve(), files)
        _check_classes(name, files)
    return parts


def _check_files(name: ReaderName, folder: Path, files: list[str]) -> None:
    """Raise ValueError where ``datasets``, which finds parts by words in paths, takes a file twice or not at all."""
    cure = f"`datasets` looks for train, test and the like in all of a path; give the folder itself: --data {folder}"
    if twice := next((file for file, count in Counter(files).items() if count > 1), None):
        raise ValueError(f"{name}: {twice} is taken for two parts, or twice. {cure}")
    suffixes, listed = {PurePath(file).suffix for file in files}, {*files}
    if any((folder / card).exists() for card in CARDS):
        return  # it may choose some of its files
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in suffixes and not hidden and path.is_file() and str(path) not in listed:
            raise ValueError(f"{name}: {path} is in no part. {cure}")


def _check_classes(name: ReaderName, files: list[str]) -> None:
    """Raise ValueError for tables of Parquet that number classes differently: ``datasets`` goes by the first one."""
    import pyarrow.parquet  # type: ignore[import-untyped, unused-ignore]  # it comes with datasets

    first: dict[str, tuple[str, Any]] = {}
    for file in files:
        if PurePath(file).suffix == ".parquet":
            stated = json.loads((pyarrow.parquet.read_schema(file).metadata or {}).get(b"huggingface", b"{}"))
            for field, kind in stated.get("info", {}).get("features", {}).items():
                names = kind.get("names") if isinstance(kind, dict) else None
                if names and first.setdefault(field, (file, names))[1] != names:
                    other = first[field][0]
                    cure = "write them anew with one list of names, or save the parts with save_to_disk"
                    raise ValueError(f"{name}: {file} and {other} number the classes of {field!r} differently; {cure}")


def fetch_hugging_face(name: ReaderName, root: Path | None) -> None:
    """Download a data set of the hub, or check that a folder can be read; raises as `hugging_face_parts`."""
    datasets = _package(name)
    if name.folder is not None:
        hugging_face_parts(name, root)
        return
    with _opening(name):
        datasets.load_dataset(**_address(name, root))


@contextmanager
def _opening(name: ReaderName) -> Iterator[None]:
    """Context that turns the many kinds of errors of ``datasets`` and its hub into FileNotFoundError."""
    try:
        yield
    except Exception as error:
        cause = " ".join(str(error).split())
        cure = "Give a folder that `datasets` reads or has saved"
        if name.folder is None:
            cure += f"; a data set of the hub is downloaded by `dmpo-explore fetch --data {name}` alone"
        raise FileNotFoundError(f"{name} cannot be opened: {cause}. {cure}") from None


def _open_part(name: ReaderName, part: str, root: Path | None, image_key: str | None, label_key: str | None) -> _Part:
    """One of `hugging_face_parts`; raises as that, and ValueError where images or classes are not found in it."""
    datasets = _package(name)
    with _opening(name), local_only():
        if saved := _saved(name):
            found = datasets.load_from_disk(str(saved))
            table = found[part] if isinstance(found, datasets.DatasetDict) else found
        else:
            table = datasets.load_dataset(**_address(name, root), split=part)
    if label_key and label_key not in table.features and label_key in table.features.get("json", ()):
        table = table.add_column(label_key, [row[label_key] for row in table["json"]])  # of tar shards
    image, label = _fields(name, table.features, image_key, label_key)
    table = table.cast_column(image, datasets.Image(decode=False))
    cache = Path(root or datasets.config.HF_DATASETS_CACHE)
    places = tuple(place.resolve() for place in (name.folder, cache, Path(datasets.config.HF_CACHE_HOME)) if place)
    classes, rows = tuple(getattr(table.features[label], "names", None) or ()), [f"{i}" for i in range(len(table))]
    if name.reader == "wds":
        shards = (relative_path(Path(url), Path(f"{name.folder}")) for url in table["__url__"])
        rows = [f"{shard}/{key}.{image}" for shard, key in zip(shards, table["__key__"], strict=True)]
    names = [f"{part}/{row}" for row in rows]
    return _Part(names, table.select_columns(image), image, list(table[label]), classes, places)


def _path(name: ReaderName) -> str:
    """What ``datasets`` loads: a name of the hub, or the path of a folder that names nothing outside itself."""
    folder = name.folder
    if folder is None:
        if not HUB_NAME.fullmatch(name.rest):
            raise ValueError(f"{short(name.rest)} is neither a folder nor a name of the hub (OWNER/NAME)")
        return name.rest
    for card in CARDS:
        if (folder / card).exists():
            for place in _places(_described(folder / card)):
                if "://" in place or PurePath(place).is_absolute() or ".." in PurePath(place).parts:
                    raise ValueError(f"{folder / card} names data outside its folder: {short(place)}")
    return str(folder.resolve())


def _described(card: Path) -> Any:
    """The YAML in a folder's description."""
    import yaml  # type: ignore[import-untyped, unused-ignore]  # its stubs need not be installed

    text = read_text(card)
    if card.suffix == ".md":
        text = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    return yaml.safe_load(text)


def _places(value: Any, named: bool = False) -> Iterator[str]:
    """All texts below the keys ``data_files``, ``data_dir`` and ``path`` of nested JSON values."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from _places(inside, named or key in ("data_files", "data_dir", "path"))
    elif isinstance(value, list):
        for inside in value:
            yield from _places(inside, named)
    elif named and isinstance(value, str):
        yield value


def _saved(name: ReaderName) -> Path | None:
    folder = name.folder
    return folder if folder is not None and any((folder / file).is_file() for file in SAVED) else None


def _fields(name: ReaderName, features: Any, image_key: str | None, label_key: str | None) -> tuple[str, str]:
    """Names of the fields of image and class: those that were given, else the only ones of their kind."""
    datasets = _package(name)
    images = [field for field, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [field for field, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [field for field in ("label", "labels", "cls") if field in features]
    found = []
    for what, key, fields in (("image", image_key, images), ("label", label_key, labels)):
        if key is not None and key not in features:
            raise ValueError(f"{name} has no field {key!r} (it has {', '.join(features)})")
        if key is None and len(fields) != 1:
            which = ", ".join(fields or features) or "none"
            raise ValueError(f"{name}: which field holds the {what}? Name it with --{what}-key: {which}")
        found.append(key or fields[0])
    return found[0], found[1]
