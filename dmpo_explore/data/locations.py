"""Location of a run's images: `DataConfig` → a source, absolute paths, and the same data in another folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import TABLE_OPTIONS, DataConfig
from ..utils.registry import unknown
from .image_folders import folder_source, split_source
from .image_tables import PLAIN, TABLES, TableFormat, read_class_names, renamed, table_source
from .reader_names import READERS, ReaderName, reader_name
from .reader_source import reader_source
from .source import Pool, Source, data_dir
from .sources import DATASETS

DIRS = {"train": "train_dir", "val": "val_dir", "calibration": "calibration_dir", "test": "test_dir"}


def own_source(path: Path, seed: int = 0, *, calibration: bool | None = False, how: TableFormat = PLAIN) -> Source:
    """The source of a folder or a table of the user's; raises as `folder_source` and `table_source`."""
    if path.is_dir():
        return folder_source(path, seed, calibration=calibration)
    return table_source(path, seed, calibration=calibration, how=how)


def open_source(data: DataConfig) -> Source:
    """The source of a run's images.

    Raises:
        ValueError: an unknown name, or neither a folder nor a table of images. FileNotFoundError: a folder is missing.

    Example:
        >>> open_source(DataConfig("digits")).splits
        ('train', 'test')
    """
    dirs = {split: Path(text) for split, key in DIRS.items() if (text := getattr(data, key)) is not None}
    named = [name for name in TABLE_OPTIONS if getattr(data, name) is not None]
    if named and (dirs or not is_table(data.name)):
        flag = named[0].replace("_", "-")
        raise ValueError(
            f"{named[0]}={getattr(data, named[0])!r} (--{flag}) is of a table of images; leave it out here"
        )
    if dirs:
        source = split_source({split: path.expanduser() for split, path in dirs.items()}, common_folder(data))
    else:
        root = Path(data.root).expanduser() if data.root is not None else None
        keys = {"image_key": data.image_key, "label_key": data.label_key}
        how = TableFormat.of(data)
        source = named_source(data.name, data.seed, calibration=data.calibration, root=root, how=how, **keys)
    if data.class_names is None:
        return source
    readable, path = read_class_names(data.class_names), data.class_names

    def read(split: str, root: Path | None) -> Pool:
        pool = source.read(split, root)
        return pool._replace(class_names=renamed(pool.class_names, readable, path))

    return replace(source, read=read)


def named_source(
    name: str, seed: int = 0, *, calibration: bool | None = False, root: Path | None = None, how: TableFormat = PLAIN,
    **keys: str | None,
) -> Source:  # fmt: skip
    """The source that ``--data`` names: a key of `DATASETS`, a folder, a table, or timm's name of a data set.

    Args:
        how: of a table. root, keys: of what timm opens, see `reader_source`. Raises as `open_source`.
    """
    if name in DATASETS:
        return DATASETS[name]
    if found := reader_name(name):
        return reader_source(found, seed, root=root, calibration=bool(calibration), **keys)
    path = Path(name).expanduser()
    if name and (path.is_dir() or (is_table(name) and path.exists())):
        return own_source(path, seed, calibration=calibration, how=how)
    raise ValueError(
        f"{unknown('data', name, DATASETS)}, or the path of an image folder or of a table ({', '.join(TABLES)}), "
        f"or timm's {', '.join(f'{reader}/…' for reader in READERS)}"
    )


def is_table(name: str) -> bool:
    """Whether data of this name are a table of images; it need not exist.

    Example:
        >>> is_table("photos/list.CSV"), is_table("photos")
        (True, False)
    """
    path = Path(name).expanduser()
    return path.suffix.lower() in TABLES and not path.is_dir() and reader_name(name) is None


def is_own(data: DataConfig) -> bool:
    """Whether the images are the user's files: in one folder, in several, or in a table."""
    return data.name not in DATASETS or any(getattr(data, key) is not None for key in DIRS.values())


def common_folder(data: DataConfig) -> Path:
    """The common parent of the folders of the splits.

    Raises:
        ValueError: on different drives, or beside another ``--data``.
    """
    dirs = [str(_absolute(text)) for key in DIRS.values() if (text := getattr(data, key)) is not None]
    try:
        common = Path(os.path.commonpath(dirs))
    except ValueError:
        raise ValueError(f"the folders of the splits lie on different drives: {', '.join(dirs)}") from None
    if data.name != DataConfig().name and _absolute(data.name) != common:
        raise ValueError(f"give either data={data.name!r} or folders of splits (train_dir …), not both")
    return common


def base_folder(data: DataConfig) -> Path:
    """Folder that the paths of a manifest are relative to: that of the images, of the table, or of known data sets."""
    if found := reader_name(data.name):
        return found.folder or Path(data.name)
    if not is_own(data):
        return data_dir(Path(data.root).expanduser() if data.root is not None else None)
    path = Path(data.name).expanduser()
    return path.parent if is_table(data.name) else path


def located(data: DataConfig) -> DataConfig:
    """The same data with absolute paths, so that they are found from any folder; raises as `common_folder`."""
    paths: dict[str, Any] = {
        key: str(_absolute(text))
        for key in ("root", "class_names", "unlabelled", *DIRS.values())
        if (text := getattr(data, key)) is not None
    }
    if found := reader_name(data.name):
        paths["name"] = str(ReaderName(found.reader, str(found.folder.resolve()))) if found.folder else data.name
    elif is_own(data):
        dirs = any(getattr(data, key) is not None for key in DIRS.values())
        place = common_folder(data) if dirs else _absolute(data.name)
        paths["name"] = str(place) if place.exists() else data.name  # what is not there is perhaps a misspelt name
    return replace(data, **paths)


def with_common_folder(data: DataConfig) -> DataConfig:
    """The same data, where splits have folders of their own with the name of their common folder; raises as there.

    Example:
        >>> with_common_folder(DataConfig("digits")).name
        'digits'
    """
    return located(data) if any(getattr(data, key) is not None for key in DIRS.values()) else data


def moved(data: DataConfig, place: str | Path) -> DataConfig:
    """The same data in another location: a folder, a table, or the root of a known data set.

    Raises:
        FileNotFoundError: no such file or folder. ValueError: it is of another kind.
    """
    found = reader_name(data.name)
    new, old = _absolute(str(place).removeprefix(f"{found.reader}/" if found else "")), base_folder(data)
    if not new.exists():
        raise FileNotFoundError(f"no folder {new}")
    if found:
        named = replace(data, name=str(ReaderName(found.reader, str(new)))) if found.folder else None
        if not new.is_dir():
            raise ValueError(f"{new} is no folder; the run was trained on {data.name}")
        return named or replace(data, root=str(new))
    if not is_own(data):
        if str(place) in DATASETS or not new.is_dir():
            raise ValueError(f"the run was trained on {data.name}; give the folder that holds that data set")
        return replace(data, root=str(new))
    table = is_table(data.name)
    if table and new.is_dir():
        new = new / Path(data.name).name
    elif not table and not new.is_dir():
        raise ValueError(f"{new} is no folder; the run was trained on images in a folder")
    paths: dict[str, Any] = {
        key: str(new / Path(text).relative_to(old)) for key in DIRS.values() if (text := getattr(data, key)) is not None
    }
    return replace(data, name=str(new), **paths)


def _absolute(text: str) -> Path:
    return Path(text).expanduser().resolve()
