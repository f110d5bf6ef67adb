"""All finished runs of a study in a file ``benchmarks/results/STUDY.parquet``: numbers, config, answers by image.

In: a run's numbers, its config, and whether every image is answered correctly, by endpoint (``exit 1``, ``30 %``). Out:
a row per run and data set. A run that is there is never made again; several workers may add to one file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import FileLock
from pyarrow.parquet import read_schema

import dmpo_explore as dx
from dmpo_explore.utils.files import atomic_file

CORRECT, CONFIG = "correct ", "config"  # what the names of columns of correctness begin with; the config as JSON
Correct = Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Rows:
    """The runs of a study that are finished.

    Args:
        path: of the file, which need not be there yet.
    """

    path: Path

    def numbers(self, data: str | None = None) -> pd.DataFrame:
        """The numbers of all runs, or of one data set's, without configs and correctness."""
        return self._read(data, lambda name: name != CONFIG and not name.startswith(CORRECT))

    def outcomes(self, data: str) -> dict[str, Correct]:
        """Run → endpoint → correctness by image (B,), of one data set."""
        table = self._read(data, lambda name: name.startswith(CORRECT))
        return {
            str(row["run"]): {
                name.removeprefix(CORRECT): values
                for name, values in row.items()
                if str(name).startswith(CORRECT) and values is not None
            }
            for row in table.to_dict("records")
        }

    def has(self, data: str, run: str, config: dx.Config) -> bool:
        """Whether the run is finished.

        Raises:
            ValueError: it was made with another config.
        """
        configs = self._read(data, lambda name: name == CONFIG).set_index("run").get(CONFIG, {})
        if run not in configs:
            return False
        if dx.Config.from_dict(json.loads(configs[run])) != config:
            raise ValueError(f"{data}/{run} was made with another config: give the changed arm a new name")
        return True

    def add(self, data: str, run: str, config: dx.Config, row: Mapping[str, Any], correct: Correct) -> None:
        """Keep a finished run."""
        kept = {"set": data, "run": run, **row, CONFIG: json.dumps(config.to_dict())}
        kept |= {CORRECT + name: values for name, values in correct.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            table = pd.concat([self._read(None, lambda name: True), pd.DataFrame([kept])], ignore_index=True)
            with atomic_file(self.path) as temporary:
                table.to_parquet(temporary, index=False, compression="zstd")

    def _read(self, data: str | None, wanted: Callable[[str], bool]) -> pd.DataFrame:
        """The columns that are wanted, beside set and run; no rows while no run is finished."""
        if not self.path.is_file():
            return pd.DataFrame({"set": [], "run": []}, dtype=str)
        columns = [name for name in read_schema(self.path).names if name in ("set", "run") or wanted(name)]
        return pd.read_parquet(self.path, columns=columns, filters=None if data is None else [("set", "==", data)])
