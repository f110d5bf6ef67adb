"""Cache keys change with every input; broken entries count as absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dmpo_explore.attribution.attribute import cache_folder, fingerprint, map_key, read_map, write_map

ARRAYS = {
    "heat": np.ones((8, 8), np.float32),
    "tokens": np.ones((2, 2), np.float32),
    "prefix": np.zeros(0, np.float32),
}
NUMBERS: dict[str, Any] = {"delta": None, "steps": 64, "layer": ""}


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path))
    assert cache_folder(None) is None
    assert cache_folder(False) is None
    assert cache_folder(True) == tmp_path / "attributions"
    assert cache_folder("here") == Path("here")


def test_a_fingerprint_knows_weights_buffers_and_structure() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    first = fingerprint(model)
    assert fingerprint(model) == first
    model[1].running_mean.add_(1)  # type: ignore[union-attr,operator]
    second = fingerprint(model)
    with torch.no_grad():
        model[0].bias[0] += 1  # type: ignore[index,operator]
    third = fingerprint(model)
    model.append(nn.GELU())
    assert len({first, second, third, fingerprint(model)}) == 4


def test_a_key_knows_arguments_and_tensors() -> None:
    x = torch.zeros(3)
    keys = {
        map_key("w", {"image": x}, {"steps": 64}),
        map_key("v", {"image": x}, {"steps": 64}),
        map_key("w", {"image": x + 1}, {"steps": 64}),
        map_key("w", {"baseline": x}, {"steps": 64}),
        map_key("w", {"image": x}, {"steps": 65}),
        map_key("w", {"image": x.double()}, {"steps": 64}),
    }
    assert len(keys) == 6
    assert map_key("w", {"image": x.clone()}, {"steps": 64}) in keys


def test_written_and_read(tmp_path: Path) -> None:
    assert read_map(tmp_path, "a", 8) is None
    write_map(tmp_path, "a", ARRAYS, NUMBERS)
    found = read_map(tmp_path, "a", 8)
    assert found is not None
    assert found[1] == NUMBERS
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(found[0][name], value)
    assert read_map(tmp_path, "a", 9) is None  # a map of another size


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("answer.json", b"{"),
        ("answer.json", b"[]"),
        ("answer.json", b'{"format": 1, "steps": 1}'),
        ("answer.json", b'{"format": 2, "delta": null, "steps": 64, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": null, "steps": 64, "layer": "", "more": 1}'),
        ("answer.json", b'{"format": 1, "delta": "0.1", "steps": 64, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": NaN, "steps": 64, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": null, "steps": 6.5, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": null, "steps": true, "layer": ""}'),
        ("answer.json", b'{"format": 1, "delta": null, "steps": 64, "layer": 3}'),
        ("heat.npy", b"PK\x03\x04 no archive"),
        ("heat.npy", b""),
        ("heat.npy", b"\x93NUMPY"),
        ("tokens.npy", b"not an array"),
    ],
)
def test_broken_is_absent(tmp_path: Path, file: str, content: bytes) -> None:
    write_map(tmp_path, "a", ARRAYS, NUMBERS)
    (tmp_path / "a" / file).write_bytes(content)
    assert read_map(tmp_path, "a", 8) is None


def test_nan_and_pickles_are_absent(tmp_path: Path) -> None:
    write_map(tmp_path, "a", {**ARRAYS, "heat": np.full((8, 8), np.nan, np.float32)}, NUMBERS)
    assert read_map(tmp_path, "a", 8) is None
    write_map(tmp_path, "b", ARRAYS, NUMBERS)
    np.save(tmp_path / "b" / "heat.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert read_map(tmp_path, "b", 8) is None
