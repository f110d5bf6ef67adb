"""Reading of a run's config.json, also of those that earlier versions wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import Config
from ..utils.files import read_json


def read_config(path: Path) -> Config:
    """The `Config` in a JSON file; FileNotFoundError, or ValueError naming the file.

    Example:
        >>> import dmpo_explore as dx
        >>> read_config(dx.load_run("demo").path / "config.json").model.exits
        (2, 4, 6, 8, 10, 12)
    """
    try:
        return Config.from_dict(with_defaults(read_json(path)))
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def with_defaults(values: Any) -> Any:
    """A config's JSON values; one of a version without calibration splits has none."""
    if isinstance(values, dict) and isinstance(data := values.get("data"), dict):
        data.setdefault("calibration", False)
    return values
