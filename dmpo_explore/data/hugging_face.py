"""What ``datasets`` of Hugging Face reads: ``hfds/NAME`` of a hub, ``hfds/FOLDER``, and tar shards, ``wds/FOLDER``.

They open from this machine alone: a data set of the hub from the cache of ``datasets``, once `fetch_hugging_face` has
put it there, which is the one function here that connects. A folder is data: what it names outside itself is refused.
"""

from __future__ import annotations

import json
import re
import tarfile
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
from ..utils.texts import check_regular, short
from .kinds import Inputs, Kind, absolute, frame_of, moved_to, relative_path
from .labels import refused, whole_number, wrong_label
from .names import ReaderName, data_dir, reader_name, splits_of_parts

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)
SAVED = ("dataset_dict.json", "state.json")  # in what `save_to_disk` of datasets writes: of several splits, of one
BUILDERS = {".tar": "webdataset", ".parquet": "parquet"}  # how a folder with such files is read; else as class folders


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

    @property
    def _address(self) -> dict[str, Any]:
        """Arguments by which ``datasets`` finds the data. What a folder says of itself is not asked: it is data."""
        found, folder = {"cache_dir": None if self.root is None else str(self.root)}, self.name.folder
        if folder is None:
            if not HUB_NAME.fullmatch(self.name.rest):
                raise ValueError(f"{short(self.name.rest)} is neither a folder nor a name of the hub (OWNER/NAME)")
            return found | {"path": self.name.rest}
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        inside = {path.suffix for path in folder.rglob("*")}
        if self.name.reader == "wds" and ".tar" not in inside:
            raise FileNotFoundError(f"{folder} holds no tar shards (*.tar, uncompressed)")
        builder = next((builder for suffix, builder in BUILDERS.items() if suffix in inside), "imagefolder")
        return found | {"path": builder, "data_dir": str(folder.resolve())}

    @cached_property
    def _tables(self) -> Any:
        """Part → its table."""
        datasets, folder = _package(self.name), self.name.folder
        saved = folder is not None and any((folder / file).is_file() for file in SAVED)
        builder = None
        if folder is not None and not saved:
            with _opening(self.name), local_only():
                builder = datasets.load_dataset_builder(**self._address)
            _check_files(self.name, folder.resolve(), builder.config.data_files)
        with _opening(self.name), local_only():
            if builder is not None:
                builder.download_and_prepare()
                found = builder.as_dataset()
            else:
                found = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(**self._address)
        return found if isinstance(found, datasets.DatasetDict) else {"train": found}

    @cached_property
    def _parts(self) -> dict[str, _Part]:
        """Split → the part that it is."""
        tables = self._tables
        parts = splits_of_parts(self.name, tables)
        named = {split: split if self.name.reader == "wds" else part for split, part in parts.items()}
        return {split: self._part(named[split], tables[part]) for split, part in parts.items()}

    def _part(self, part: str, table: Any) -> _Part:
        datasets, label_key = _package(self.name), self.config.label_key
        if label_key and label_key not in table.features and label_key in table.features.get("json", ()):
            table = table.add_column(label_key, [row[label_key] for row in table["json"]])  # of tar shards
        image, label = _fields(self.name, table.features, self.config.image_key, label_key)
        table = table.cast_column(image, datasets.Image(decode=False))
        classes, rows = tuple(getattr(table.features[label], "names", None) or ()), [f"{i}" for i in range(len(table))]
        if "__url__" in table.features:  # of tar shards
            shards = (relative_path(Path(url), self.folder.resolve()) for url in table["__url__"])
            rows = [f"{shard}/{key}.{image}" for shard, key in zip(shards, table["__key__"], strict=True)]
        names = [f"{part}/{row}" for row in rows]
        if len({*names}) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise ValueError(f"{self.name}: {twice} is there twice; rename one")
        return _Part(part, names, table.select_columns(image), image, list(table[label]), classes)

    def inputs(self) -> Inputs:
        rows, whole = list[tuple[str, str, str, str]](), len(self._parts) == 1
        for split, part in self._parts.items():
            place, labels = "" if whole else split, part.class_labels(self.name)
            rows += [(name, place, label, "") for name, label in zip(part.names, labels, strict=True)]
        rule = "" if whole else ", ".join(f"{split} is its {part.part}" for split, part in self._parts.items())
        return Inputs(frame_of(rows), self._parts["train"].class_names, rule)

    @cached_property
    def _places(self) -> dict[str, tuple[_Part, int]]:
        return {name: (part, position) for part in self._parts.values() for position, name in enumerate(part.names)}

    def content(self, name: str) -> bytes:
        """The bytes of an encoded image, or of the file that it names below the data's folder or cache."""
        part, position = self._places[name]
        image = part.table[position][part.image] or {}
        if image.get("bytes"):
            return bytes(image["bytes"])
        if not image.get("path"):
            raise ValueError(f"{name} has no {part.image}; add it, or remove the row")
        config, path = _package(self.name).config, Path(image["path"]).resolve()
        places = (self.name.folder, self.root or config.HF_DATASETS_CACHE, config.HF_CACHE_HOME)
        if not any(path.is_relative_to(Path(place).resolve()) for place in places if place):
            raise ValueError(f"{name} names a file outside its data set: {path}; save it again")
        check_regular(path)
        return path.read_bytes()

    def sources(self) -> Sequence[Path]:
        folder = self.name.folder or self.root
        return sorted(path for path in folder.rglob("*") if path.is_file()) if folder is not None else ()

    def fetch(self) -> Path:
        """Download it, where it is of the hub; a folder is opened."""
        if self.root is not None:
            self.root.mkdir(parents=True, exist_ok=True)
        if self.name.folder is not None:
            _ = self._tables  # the fields of image and class need not be known
        else:
            datasets = _package(self.name)
            with _opening(self.name):
                datasets.load_dataset(**self._address)
        return self.name.folder or data_dir(self.root)

    def fetch_missing(self) -> None:
        try:
            _ = self.name.folder or self._parts
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
    """One part of a data set: the names of its images, in field ``image`` of a table, and the class of each."""

    part: str
    names: list[str]
    table: Any
    image: str
    targets: list[Any]
    class_names: tuple[str, ...]

    def class_labels(self, name: ReaderName) -> list[str]:
        """Name or number of every image's class; ValueError for none, several, or a label that is refused."""
        part = self.part
        if several := next((target for target in self.targets if isinstance(target, list | tuple)), None):
            raise ValueError(f"{name}: images of {part} have several classes each, e.g. {several!r}; one is needed")
        if (bare := next((row for row, target in enumerate(self.targets) if target is None), None)) is not None:
            raise ValueError(f"{name}: {self.names[bare]} of {part} has no class; add it, or remove the image")
        names, odd = self.class_names, wrong_label(self.targets)
        if odd is not None and not (names and isinstance(self.targets[odd], int)):  # such as -1: not published
            raise ValueError(f"{name}: {self.names[odd]} of {part}: {refused(self.targets[odd])}")
        numbered = names and all(isinstance(target, int) for target in self.targets)
        return [names[target] if numbered and 0 <= target < len(names) else str(target) for target in self.targets]


def _package(name: ReaderName) -> Any:
    """The package ``datasets``; ImportError that names its extra where it is not installed."""
    with extra_imports(f"{name}", "hf"):
        import datasets
    datasets.disable_progress_bars()
    return datasets


def _check_files(name: ReaderName, folder: Path, listed: Any) -> None:
    """Raise ValueError where ``datasets``, which finds parts by words in paths, takes a file twice or not at all.

    Files beside tables and shards, such as a description, are taken out of ``listed``.
    """
    there = {PurePath(file).suffix for inside in listed.values() for file in inside}
    suffix = next((suffix for suffix in BUILDERS if suffix in there), "")
    for part, inside in [*listed.items()]:
        inside[:] = [file for file in inside if suffix in ("", PurePath(file).suffix)]
        if not inside:
            del listed[part]
    files = [str(file) for inside in listed.values() for file in inside]
    words = "`datasets` looks for train, test and the like in all of a path"
    cure = f"{words}; rename it, or, of class folders, give the folder itself: --data {folder}"
    if twice := next((file for file, count in Counter(files).items() if count > 1), None):
        raise ValueError(f"{name}: {twice} is taken for two parts, or twice. {cure}")
    suffixes, taken = {PurePath(file).suffix for file in files}, {*files}
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in suffixes and not hidden and path.is_file() and str(path) not in taken:
            raise ValueError(f"{name}: {path} is in no part. {cure}")
    _check_classes(name, files)
    for file in files:
        if PurePath(file).suffix == ".tar":
            _check_shard(Path(file))


def _check_shard(path: Path) -> None:
    """Raise ValueError for what ``datasets`` takes in silence: a tar file cut short, a class that is no number."""
    check_regular(path)
    last: tarfile.TarInfo | None = None
    try:
        with tarfile.open(path, "r:") as archive:
            for last in archive:
                if last.name.endswith(".cls") and (content := archive.extractfile(last)) is not None:
                    text = content.read().decode(errors="replace").strip()
                    if whole_number(text) is None:
                        raise ValueError(f"{path}: {last.name}: the class {short(text)} is no whole number (0, 1, 2 …)")
            with path.open("rb") as stream:  # tarfile takes a damaged header for the end
                stream.seek(archive.offset)
                whole = stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not an uncompressed tar file, or damaged: {error}") from None
    if not whole:
        raise ValueError(f"{path} is damaged or cut short behind {last.name if last else 'its start'}; copy it again")


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
