"""Features in a record that is written batch by batch: kept after a stop, and their embedding made at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import BATCHES_OF_IT, RECORD, B, K, arrays, contents, fill, made

from dmpo_explore.records.record import ExitRecord
from dmpo_explore.records.writer import RecordWriter, feature_embedding


class Killed(BaseException):
    """What no code catches, as a kill."""


def test_features_are_written_batch_by_batch_and_get_their_embedding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(B, K, 7)).astype(np.float16)
    record = replace(RECORD, features=features, embedding=feature_embedding(features))
    record.save(tmp_path / "saved")

    def written(writer: RecordWriter, batches: list[int]) -> None:
        for batch in batches:
            writer.write(batch, arrays(writer, batch, record) | {"features": features[writer.rows(batch)]})

    with pytest.raises(Killed), made(tmp_path, n_features=7).begin():
        written(made(tmp_path, n_features=7), [2, 0])
        raise Killed
    again = made(tmp_path, n_features=7)
    with again.begin() as changed:
        assert changed == [] and again.missing() == [1, 3]
        written(again, [3, 1])
        again.finish()
    assert contents(tmp_path / "val") == contents(tmp_path / "saved")
    assert ExitRecord.problems(tmp_path / "val") == []
    read = ExitRecord.load(tmp_path / "val").subset(slice(3, 5))
    assert read.features is not None and read.embedding is not None
    assert read.features.tolist() == features[3:5].tolist() and read.embedding.shape == (2, K, 2)


def test_batches_with_and_without_features_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(Killed), made(tmp_path).begin():
        fill(made(tmp_path), [0])
        raise Killed
    other = made(tmp_path, n_features=7)
    with pytest.raises(Killed), other.begin() as changed:
        assert changed == ["n_features"] and other.missing() == BATCHES_OF_IT
        other.write(0, arrays(other, 0) | {"features": np.zeros((6, K, 7), np.float16)})
        raise Killed
    without = made(tmp_path)
    with without.begin() as changed:
        assert changed == ["n_features"] and without.missing() == BATCHES_OF_IT
