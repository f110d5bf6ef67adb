"""Records for other tools: a row or a FiftyOne sample per image has the numbers of the record and the policy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record

from dmpo_explore.analysis.image_table import image_paths, image_table, to_fiftyone, write_image_table
from dmpo_explore.analysis.metrics import Outcome, apply
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.runs.store import load_run

RECORD = make_record(12, 3, 5)
OUTCOME = apply(ConfidencePolicy((0.6,)), RECORD)
PATHS = [Path(f"photos/{i}.png") for i in range(12)]


def test_a_row_has_the_numbers_of_its_image() -> None:
    table, names = image_table(OUTCOME, PATHS), RECORD.meta.class_names
    assert len(table) == 12 and table["path"].tolist() == [str(path) for path in PATHS]
    for i, row in enumerate(table.to_dict("records")):
        k = next((k for k in range(2) if RECORD.confidence[i, k] >= 0.6), 2)
        assert (row["image"], row["label"], row["exit"]) == (i, names[RECORD.labels[i]], k + 1)
        assert row["prediction"] == names[RECORD.prediction[i, k]] and row["confidence"] == RECORD.confidence[i, k]
        assert row["correct"] == (RECORD.prediction[i, k] == RECORD.labels[i])
        for exit in range(3):
            found = row[f"prediction_{exit + 1}"], row[f"confidence_{exit + 1}"], row[f"correct_{exit + 1}"]
            assert found == (names[RECORD.prediction[i, exit]], RECORD.confidence[i, exit], RECORD.correct[i, exit])
    assert table["correct"].mean() == OUTCOME.summary()["accuracy"]
    assert {"path", "x", "embedding"} & {*image_table(OUTCOME)} == set()


def test_indices_maps_and_features_are_kept_where_there_are_any(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features, places = rng.normal(size=(12, 3, 4)).astype(np.float16), rng.normal(size=(12, 3, 2)).astype(np.float16)
    meta = replace(RECORD.meta, indices=np.arange(50, 62))
    record = replace(RECORD, features=features, embedding=places, meta=meta)
    table = image_table(Outcome(record, OUTCOME.exits))
    assert table["image"].tolist() == list(range(50, 62))
    np.testing.assert_array_equal(table[["x", "y"]].to_numpy(), places[:, -1].astype(np.float32))
    np.testing.assert_array_equal(np.stack(table["embedding"].tolist()), features[:, -1].astype(np.float32))
    write_image_table(str(tmp_path / "all.csv"), table)
    assert "embedding" not in pd.read_csv(tmp_path / "all.csv")
    write_image_table(tmp_path / "odd.csv", image_table(OUTCOME, [Path("\udcff.png"), *PATHS[1:]]))
    assert b",\xff.png," in (tmp_path / "odd.csv").read_bytes().splitlines()[1]
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    write_image_table(tmp_path / "all.parquet", table)
    again = pd.read_parquet(tmp_path / "all.parquet")
    assert again["exit"].tolist() == table["exit"].tolist() and again["confidence_3"].equals(table["confidence_3"])
    np.testing.assert_array_equal(np.stack(again["embedding"].tolist()), features[:, -1].astype(np.float32))


def test_without_an_engine_no_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object, **__: object) -> None:
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", without)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        write_image_table(tmp_path / "all.parquet", image_table(OUTCOME))
    assert [*tmp_path.iterdir()] == []


def test_data_that_are_no_files_have_no_paths() -> None:
    assert image_paths(load_run("demo"), "test") == []
    assert image_paths(load_run("demo"), "none") == []


class Fake(ModuleType):
    """As much of FiftyOne as is used."""

    class Classification(dict[str, Any]):
        """Fields of a label."""

        def __init__(self, **fields: Any) -> None:
            super().__init__(fields)

    Sample = Classification

    class Dataset:
        """A list of samples."""

        def __init__(self, name: str | None) -> None:
            self.name, self.samples = name, list[dict[str, Any]]()

        def add_samples(self, samples: list[dict[str, Any]]) -> None:
            """Append them."""
            self.samples += samples


def test_a_fiftyone_sample_has_the_answers_of_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", Fake("fiftyone"))
    dataset, names = to_fiftyone(OUTCOME, PATHS, "mine"), RECORD.meta.class_names
    assert dataset.name == "mine" and len(dataset.samples) == 12
    for i, sample in enumerate(dataset.samples):
        k = int(OUTCOME.exits[i])
        assert sample["filepath"] == str(PATHS[i].absolute()) and sample["tags"] == ["val"]
        assert (sample["exit"], sample["correct"]) == (k + 1, bool(OUTCOME.correct[i]))
        assert sample["ground_truth"] == {"label": names[RECORD.labels[i]]}
        assert sample["prediction"] == sample[f"exit_{k + 1}"]
        for exit in range(3):
            answer = {"label": names[RECORD.prediction[i, exit]], "confidence": float(RECORD.confidence[i, exit])}
            assert sample[f"exit_{exit + 1}"] == answer
    with pytest.raises(ValueError, match="shows image files"):
        to_fiftyone(OUTCOME, [])
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(ImportError, match="pip install fiftyone"):
        to_fiftyone(OUTCOME, PATHS)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: image_table(OUTCOME, PATHS[:3]), "3 paths for 12 images"),
        (lambda: write_image_table("all.txt", image_table(OUTCOME)), r"must end with \.parquet or \.csv"),
    ],
)
def test_what_is_refused(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()
