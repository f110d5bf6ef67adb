"""A record for other tools: a table with one row per image (Embedding Atlas, pandas, DuckDB), and a FiftyOne dataset.

In: `Outcome`, and where there are any the images' files. Out: a data frame, a Parquet or CSV file, a FiftyOne dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runs.run import Run
from ..utils.files import atomic_file, begins_with, require_ours
from .metrics import Outcome

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv")


def image_table(outcome: Outcome, paths: Sequence[str | Path] = ()) -> pd.DataFrame:
    """One row per image: where it exits under the outcome's policy, and what every exit answers.

    Columns are ``image`` (position in the data's split), ``path`` (if given), ``label``, ``exit`` (from 1),
    ``prediction``, ``confidence`` and ``correct`` there; for every exit k from 1 ``prediction_k``, ``confidence_k`` and
    ``correct_k``; of a record with features ``x`` and ``y``, the map of the last exit, and ``embedding``, its features.

    Args:
        paths: of the images' files, in the record's order.

    Raises:
        ValueError: another number of paths than of images.

    Example:
        >>> import dmpo_explore as dx
        >>> record = dx.load_run("fashion").record("test").subset(slice(2))
        >>> table = image_table(dx.Outcome(record, np.array([0, 5])))
        >>> table[["label", "exit", "prediction", "correct"]].values.tolist()
        [['Ankle boot', 1, 'Ankle boot', True], ['Pullover', 6, 'Pullover', True]]
    """
    import pandas as pd

    record = outcome.record
    _check_paths(record.n_images, paths)
    names = np.asarray(record.meta.class_names, dtype=object)
    indices = np.arange(record.n_images) if record.meta.indices is None else np.asarray(record.meta.indices)
    columns: dict[str, Any] = {"image": indices}
    if len(paths):  # as objects: pandas' text must be UTF-8
        columns["path"] = pd.Series(list(map(str, paths)), dtype=object)
    columns |= {"label": names[record.labels], "exit": outcome.exits + 1, "prediction": names[outcome.prediction]}
    columns |= {"confidence": outcome.confidence, "correct": outcome.correct}
    for k in range(record.n_exits):
        columns[f"prediction_{k + 1}"] = names[record.prediction[:, k]]
        columns[f"confidence_{k + 1}"] = record.confidence[:, k]
        columns[f"correct_{k + 1}"] = record.correct[:, k]
    if record.embedding is not None:
        columns["x"], columns["y"] = np.asarray(record.embedding[:, -1], np.float32).T
    if record.features is not None:
        columns["embedding"] = list(np.asarray(record.features[:, -1], np.float32))
    return pd.DataFrame(columns)


def write_image_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write an `image_table` as a Parquet or CSV file, by its suffix, whole or not at all.

    Raises:
        ValueError: another suffix. FileExistsError: another file is there. ImportError: Parquet without pyarrow.

    Example:
        >>> import tempfile
        >>> import pandas as pd
        >>> path = Path(tempfile.mkdtemp()) / "images.csv"
        >>> write_image_table(path, pd.DataFrame({"exit": [1, 2]}))
        >>> path.read_text().split()
        ['exit', '1', '2']
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} must end with {' or '.join(SUFFIXES)}")
    rows = table.drop(columns="embedding", errors="ignore") if path.suffix == ".csv" else table
    require_ours(path, "a table with these columns", begins_with(",".join(rows.columns)))
    with atomic_file(path) as temporary:
        if path.suffix == ".csv":
            rows.to_csv(temporary, index=False, lineterminator="\n", errors="surrogateescape")  # names of files
        else:
            try:
                rows.to_parquet(temporary, index=False)
            except ImportError:
                raise ImportError("a Parquet file needs pyarrow, which is not installed: pip install pyarrow") from None


def image_paths(run: Run, split: str) -> list[Path]:
    """The image files of a run's record, in its order; empty for data that are no files, or are not there.

    Example:
        >>> import dmpo_explore as dx
        >>> image_paths(dx.load_run("demo"), "test")
        []
    """
    try:
        images = run.image_set(split)
    except (OSError, ValueError):
        return []
    paths = getattr(images.pixels, "paths", ())
    return [Path(paths[int(i)]) for i in images.indices] if len(paths) else []


def to_fiftyone(outcome: Outcome, paths: Sequence[str | Path], name: str | None = None) -> Any:
    """The record as a FiftyOne dataset: a sample per image with its label and the answer of every exit.

    A sample has ``ground_truth``, ``exit_1`` to ``exit_K`` (label and confidence), ``prediction`` at its exit, and the
    numbers ``exit`` (from 1) and ``correct``. Needs ``pip install fiftyone``, which no extra brings: it has a database
    of its own.

    Args:
        paths: of the images' files, in the record's order: `image_paths`. name: of the dataset.

    Raises:
        ImportError: FiftyOne is not installed. ValueError: another number of paths than of images.

    Example:
        >>> import dmpo_explore as dx
        >>> run = dx.load_run("photos")  # doctest: +SKIP
        >>> outcome = dx.apply(dx.load_policy("policy.json"), run.record("test"))  # doctest: +SKIP
        >>> to_fiftyone(outcome, dx.analysis.image_paths(run, "test")).count()  # doctest: +SKIP
        200
    """
    try:
        import fiftyone
    except ModuleNotFoundError:
        raise ImportError("a FiftyOne dataset needs fiftyone, which is not installed: pip install fiftyone") from None
    record = outcome.record
    if not len(paths):
        raise ValueError("a FiftyOne dataset shows image files; give their paths, see dx.analysis.image_paths")
    _check_paths(record.n_images, paths)
    names = record.meta.class_names

    def answer(row: int, label: int, confidence: float) -> Any:
        return fiftyone.Classification(label=names[int(label)], confidence=float(confidence))

    samples = []
    for row, path in enumerate(paths):
        fields = {
            f"exit_{k + 1}": answer(row, record.prediction[row, k], record.confidence[row, k])
            for k in range(record.n_exits)
        }
        fields |= {"ground_truth": fiftyone.Classification(label=names[int(record.labels[row])])}
        fields |= {"prediction": answer(row, outcome.prediction[row], outcome.confidence[row])}
        fields |= {"exit": int(outcome.exits[row]) + 1, "correct": bool(outcome.correct[row])}
        samples.append(fiftyone.Sample(filepath=str(Path(path).absolute()), tags=[record.meta.split], **fields))
    dataset = fiftyone.Dataset(name)
    dataset.add_samples(samples)
    return dataset


def _check_paths(n_images: int, paths: Sequence[str | Path]) -> None:
    if len(paths) not in (0, n_images):
        raise ValueError(f"{len(paths)} paths for {n_images} images; give one for each, in the record's order")
