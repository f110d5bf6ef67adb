"""Settings in which runs differ, as a table of texts.

In: runs. Out: a `pandas.DataFrame` with a row per setting that is not the same in all of them. Only config.json,
history.csv and the number in checkpoint.pt are read; torch is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..config import OPTIONS, Config, LiveOptions, ModelConfig
from ..utils.options import Option, options_of, stored_as
from .run import Run
from .run_files import finished_epochs

if TYPE_CHECKING:
    import pandas as pd

_EPOCHS = Option("finished_epochs", None, "Epochs that its learning curves have.", (int,))
# What None stands for, in an option's help: "…; default: all.", "…; 0: no clipping."
_NONE = re.compile(r"\b(?:default|0): ([^;.]+)")


def _compared() -> dict[str, Option]:
    """In order: the options of a config, those of records of what was done to a run, and how far the training came."""
    records = {f"{_key(kind)}.{name}": found for kind in _records() for name, found in options_of(kind).items()}
    return {**OPTIONS, **records, _EPOCHS.name: _EPOCHS}


def _records() -> list[type]:
    return [kind for kind in ModelConfig.groups() if stored_as(kind)]


def _key(record: type) -> str:
    return f"model.{stored_as(record)}"


COMPARED = LiveOptions(_compared)


def config_differences(runs: Sequence[Run]) -> pd.DataFrame:
    """Settings in which runs differ: one row per option of `COMPARED` whose value is not the same in all of them.

    Args:
        runs: any number of them. One without a config.json, such as scores of another model, gets no column.

    Returns:
        Texts, one column per run, in their order; the index is the option, ``part.name``. A value is written as on the
        command line, and None as what the option's help gives for it: ``all``. No rows: nothing differs.

    Raises:
        ValueError: a config.json that is not a config. OSError: one that cannot be read.

    Example:
        >>> import dmpo_explore as dx
        >>> names = ("fashion", "fashion-naive", "fashion-single")
        >>> found = config_differences([dx.load_run(name) for name in names])
        >>> print(found.loc[["model.exits", "model.predictor", "training.schedule"]])
                                 fashion  fashion-naive fashion-single
        option...
        model.exits        2,4,6,8,10,12  2,4,6,8,10,12              1
        model.predictor       covariance         linear     covariance
        training.schedule         linear        uniform         linear
    """
    import pandas as pd

    columns = [(run.name, texts) for run in runs if (texts := _texts(run))]
    found = [name for name in COMPARED if len({texts[name] for _, texts in columns}) > 1]
    rows = [[texts[name] for _, texts in columns] for name in found]
    return pd.DataFrame(rows, pd.Index(found, dtype=str, name="option"), [name for name, _ in columns], dtype=str)


def _texts(run: Run) -> dict[str, str]:
    """Option → value of a run as text; nothing for a run without a config."""
    try:
        config = run.config
    except FileNotFoundError:
        return {}
    epochs = finished_epochs(run.path)
    settings = {name: _shown(found, config.get(name)) for name, found in OPTIONS.items()}
    return {**settings, **_recorded(config), _EPOCHS.name: str(epochs) if epochs else "not recorded"}


def _recorded(config: Config) -> dict[str, str]:
    own = {type(options): options for options in config.model.more}
    return {
        f"{_key(kind)}.{name}": _shown(found, getattr(own[kind], name)) if kind in own else f"no {stored_as(kind)}"
        for kind in _records()
        for name, found in options_of(kind).items()
    }


def _shown(found: Option, value: Any) -> str:
    """A value as text: as it is typed, a switch as on or off, None as what the help gives for it."""
    if value is None:
        meaning = _NONE.search(found.help)
        return meaning[1] if meaning else "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return found.typed(value)
