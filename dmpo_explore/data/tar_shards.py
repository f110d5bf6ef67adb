"""Tar shards as webdataset writes them, read by position: samples by key, with their image and their class.

In: uncompressed tar files. Out: `Sample`s, in the order of the files. A sample is the group of files with one key:
``0001.jpg`` and ``0001.cls``, or a ``.json`` with the class in a field. The offsets come from the tar headers, so that
no file is unpacked and no image is read before it is needed.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from os.path import lexists
from pathlib import Path, PurePath
from typing import NamedTuple

from ..config import DataConfig
from ..utils.files import expanded, read_json
from ..utils.texts import check_regular, short
from .kinds import Inputs, Kind, absolute, frame_of, moved_to
from .labels import whole_number
from .names import parts_rule, reader_name, splits_of_parts
from .splits import split_of

IMAGES = ("jpg", "png", "webp")  # timm's, first come first taken
INFO = ("_info.json", "info.json")  # timm's files with splits, shards and numbers of samples
KEY = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # webdataset's: up to the first dot of the file's name


class Member(NamedTuple):
    """A file in a shard: its name there, the first byte and the number of bytes."""

    shard: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Its bytes; ValueError where the shard is shorter than it was."""
        with self.shard.open("rb") as stream:
            stream.seek(self.offset)
            content = stream.read(self.size)
        if len(content) != self.size:
            raise ValueError(f"{self.shard} is cut short in {self.name}; fetch it again")
        return content


class Sample(NamedTuple):
    """An image in a shard and its class."""

    image: Member
    label: int


class ShardKind(Kind):
    """Tar shards in a folder, ``wds/FOLDER``."""

    files = False

    @classmethod
    def takes(cls, config: DataConfig) -> bool:
        name = reader_name(config.name)
        return name is not None and name.reader == "wds"

    @property
    def folder(self) -> Path:
        return expanded(self.config.name.partition("/")[2]).resolve()

    def inputs(self) -> Inputs:
        shards, rows = shards_of(self.folder), list[tuple[str, str, str, str]]()
        splits = splits_of_parts(self.config.name, shards)
        for split, part in splits.items():
            rows += [(name, split, str(sample.label), "") for name, sample in self._samples(part, shards[part]).items()]
        if len(splits) == 1:
            return Inputs(frame_of([(name, "", *rest) for name, _, *rest in rows]))
        return Inputs(frame_of(rows), rule=parts_rule(splits))

    @cached_property
    def _members(self) -> dict[str, Member]:
        shards = shards_of(self.folder)
        every = (self._samples(part, shards[part]) for part in splits_of_parts(self.config.name, shards).values())
        return {name: sample.image for samples in every for name, sample in samples.items()}

    def _samples(self, part: str, shards: list[str]) -> dict[str, Sample]:
        counted, label_key = part_info(self.folder, part)
        label_key = self.config.label_key or label_key
        samples = read_samples(self.folder, shards, image_key=self.config.image_key, label_key=label_key)
        if counted not in (None, len(samples)):
            raise ValueError(
                f"{self.folder} lists {counted:,} samples of {part} (num_samples), and its shards hold "
                f"{len(samples):,}; correct the list, or fetch the shards again"
            )
        folder = self.folder
        return {f"{part}/{one.image.shard.relative_to(folder).as_posix()}/{one.image.name}": one for one in samples}

    def content(self, name: str) -> bytes:
        return self._members[name].read()

    def sources(self) -> Sequence[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def located(self) -> DataConfig:
        return replace(super().located(), name=f"wds/{absolute(self.folder)}")

    def moved(self, place: str | Path) -> DataConfig:
        new = moved_to(absolute(str(place).removeprefix("wds/")), self.config.name)
        return replace(self.config, name=f"wds/{new}")


def shards_of(folder: Path) -> dict[str, list[str]]:
    """Part → its shards, relative to ``folder``: by a file ``_info.json``, by folders, or by the shards' names.

    Without a split in their names all shards are the part ``train``.

    Raises:
        FileNotFoundError: no folder, or no shards in it.
        ValueError: some names have a split and some have none, or one has two.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder} of tar shards")
    for name in INFO:
        if lexists(folder / name):
            return _by_info(folder / name)
    shards = sorted(folder.glob("*.tar")) or sorted(folder.glob("*/*.tar"))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no tar shards (*.tar, uncompressed)")
    parts: dict[str, list[str]] = {}
    for shard in shards:
        words = re.split(r"[-_.]", shard.stem) if shard.parent == folder else [shard.parent.name]
        named = [word for word in words if split_of(word)]
        if len(set(map(split_of, named))) > 1:
            raise ValueError(f"{shard} names the splits {' and '.join(named)}; rename it, so that it names one")
        parts.setdefault(next(iter(named), ""), []).append(shard.relative_to(folder).as_posix())
    if "" in parts and len(parts) > 1:
        other = next(part for part in parts if part)
        raise ValueError(
            f"{folder}: {parts[''][0]} names no split, {parts[other][0]} does; name all shards so, or none of them"
        )
    return {part or "train": names for part, names in parts.items()}


def read_samples(
    folder: Path, shards: list[str], *, image_key: str | None = None, label_key: str | None = None
) -> list[Sample]:
    """All samples of some shards, in order.

    Args:
        image_key: ending of the images' names; default: the first of `IMAGES` that a sample has.
        label_key: field of the samples' ``.json`` that holds the class; default: the file ``.cls``.

    Raises:
        FileNotFoundError: a shard is missing. ValueError: no tar file, or a sample without image or class.
    """
    return [
        _sample(key, files, folder, image_key, label_key) for shard in shards for key, files in _grouped(folder / shard)
    ]


def part_info(folder: Path, part: str) -> tuple[int | None, str | None]:
    """What a file ``_info.json`` gives for a part: the number of samples (``num_samples``), and the field of the
    samples' ``.json`` that holds the class (``alt_label``); None where it gives none."""
    for name in INFO:
        if lexists(folder / name):
            about = read_json(folder / name)["splits"][part]
            count = about.get("num_samples")
            return whole_number(count) if count is not None else None, str(about.get("alt_label") or "") or None
    return None, None


def _by_info(path: Path) -> dict[str, list[str]]:
    try:
        splits = read_json(path)["splits"]
        found = {str(part): [str(name) for name in about["filenames"]] for part, about in splits.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not list splits with their filenames: {error}") from None
    for name in (name for names in found.values() for name in names):
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts or ":" in name:
            raise ValueError(f"{path} names a shard outside its folder: {short(name)}")
    return found


def _grouped(shard: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """Key → its files by ending, for every run of members with one key."""
    key, files, seen = "", dict[str, Member](), set[str]()
    check_regular(shard)
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                found = KEY.match(member.name) if member.isfile() else None
                if found is None or member.name.rpartition("/")[2].startswith((".", "__")):
                    continue
                if found[1] != key and files:
                    yield key, files
                    files = {}
                key, ending = found[1], found[2].lower()
                if ending in files or (not files and key in seen):
                    raise ValueError(f"{shard} holds two samples of the key {key!r}; rename one")
                seen.add(key)
                files[ending] = Member(shard, member.name, member.offset_data, member.size)
            with shard.open("rb") as stream:  # tarfile takes a damaged header for the end
                stream.seek(archive.offset)
                whole = stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{shard} is not an uncompressed tar file: {error}") from None
    if not whole:
        raise ValueError(f"{shard} is damaged or cut short behind the sample {key!r}; copy it again")
    if files:
        yield key, files


def _sample(key: str, files: dict[str, Member], folder: Path, image_key: str | None, label_key: str | None) -> Sample:
    first = next(iter(files.values()))
    where = f"{first.shard.relative_to(folder)}: sample {key!r}"
    endings = image_key.split(";") if image_key else IMAGES
    image = next((files[ending] for ending in endings if ending in files), None)
    if image is None:
        raise ValueError(f"{where} has no image ({', '.join(endings)}), only {', '.join(files)}; name it (--image-key)")
    kind = "json" if label_key else "cls"
    if kind not in files:
        raise ValueError(f"{where} has no .{kind} with its class, only {', '.join(files)}; see --label-key")
    try:
        text = files[kind].read()
        value = json.loads(text)[label_key] if label_key else text.decode().strip()
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{where}: its .{kind} gives no class as a whole number ({error!r})") from None
    if (label := whole_number(value)) is None:
        raise ValueError(f"{where}: its .{kind} gives no class as a whole number (0, 1, 2 …) but {short(value)}")
    return Sample(image, label)
