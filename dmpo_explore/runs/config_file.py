"""Reading of configs: of a run's config.json, also of those that earlier versions wrote, and of files by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..config import Config
from ..utils.files import read_json
from ..utils.registry import Joint
from ..utils.texts import read_text


def read_config(path: Path) -> Config:
    """The `Config` in a run's config.json; FileNotFoundError, or ValueError naming the file.

    Example:
        >>> import dmpo_explore as dx
        >>> read_config(dx.load_run("fashion").path / "config.json").model.exits
        (2, 4, 6, 8, 10, 12)
    """
    return _read(path, _of_run)


def read_config_file(path: Path) -> Config:
    """The `Config` in a JSON file that is no run's: what it leaves out has the default of this version.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mine.json"
        >>> path.write_text('{"data": {"name": "digits"}}', encoding="utf-8")
        28
        >>> read_config_file(path).data.calibration is None
        True
    """
    return _read(path, lambda path: Config.from_dict(read_json(path)))


def _of_run(path: Path) -> Config:
    """The config of a run, made once per text: the app asks for those of all runs at every choice."""
    with suppress(ValueError, RecursionError):  # named below
        if '"plugins"' not in (text := read_text(path)):  # which of them are loaded decides what can be read
            return _known(text, Joint.changes)
    return Config.from_dict(with_defaults(read_json(path)))


@lru_cache(maxsize=1024)
def _known(text: str, changes: int) -> Config:
    return Config.from_dict(with_defaults(json.loads(text)))


def _read(path: Path, made: Callable[[Path], Config]) -> Config:
    try:
        return made(path)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def with_defaults(values: Any) -> Any:
    """A config's JSON values; one of a version without calibration splits has none."""
    if isinstance(values, dict) and isinstance(data := values.get("data"), dict):
        data.setdefault("calibration", False)
    return values
