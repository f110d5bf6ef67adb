"""Records that were made before a run was trained on."""

from __future__ import annotations

import numpy as np
import pytest

from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.runs.outdated import outdated_splits
from dmpo_explore.runs.run import Run
from dmpo_explore.runs.torch_weights import read_weights, save_weights
from dmpo_explore.utils.files import read_json, write_json


def test_a_record_of_earlier_weights_is_refused(trained: Run) -> None:
    before = record_run(trained, "val", device="cpu")
    assert len(before.meta.weights_sha256) == 64 and outdated_splits(trained) == []
    assert trained.record("val").meta.to_dict() == before.meta.to_dict()

    weights = {name: tensor + 1 for name, tensor in read_weights(trained.path).items()}
    save_weights(trained.path, weights, trained.config.model, trained.class_names)
    assert outdated_splits(trained) == ["val"]
    with pytest.raises(ValueError, match="val record of run 'mine' is of earlier weights.*record mine --split val --f"):
        trained.record("val")

    record_run(trained, "val", device="cpu", force=True)
    assert outdated_splits(trained) == []
    assert not np.array_equal(trained.record("val").confidence, before.confidence)


def test_a_record_of_earlier_versions_and_a_broken_one_are_none_of_them(trained: Run) -> None:
    record_run(trained, "val", device="cpu")
    meta = trained.path / "records" / "val" / "meta.json"
    write_json(meta, {key: value for key, value in read_json(meta).items() if key != "weights_sha256"})
    (trained.path / "weights.safetensors").write_bytes(b"other")
    assert outdated_splits(trained) == [] and trained.record("val").n_images
    meta.write_text("[]")
    assert outdated_splits(trained) == []
