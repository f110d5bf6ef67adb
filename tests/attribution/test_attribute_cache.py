"""Attributions are cached: a repeated query is read, anything else is computed, and no broken cache loses a map."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import SMOOTH, image, made
from torch import Tensor

from dmpo_explore.attribution.attribute import attribute


def test_a_repeated_query_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(**SMOOTH)
    first = attribute(model, image(), 1, method="layer_integrated_gradients", cache=tmp_path)
    kept = list(tmp_path.iterdir())
    assert len(kept) == 1
    assert sorted(p.name for p in kept[0].iterdir()) == ["answer.json", "heat.npy", "prefix.npy", "tokens.npy"]
    module = importlib.import_module("dmpo_explore.attribution.attribute")  # the package gives the function that name
    with monkeypatch.context() as patch:
        patch.setattr(module, "_explain", lambda *a: pytest.fail("computed again"))
        again = attribute(model, image(), 1, method="layer_integrated_gradients", cache=tmp_path)
    for name in ("heat", "tokens", "prefix"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    same = ("target", "exit", "method", "delta", "steps", "layer", "logit", "difference", "unit", "additive")
    assert [getattr(again, n) for n in same] == [getattr(first, n) for n in same]
    unexplained = [one.quality(samples=4, perturbations=1, orders=1).unexplained for one in (first, again)]
    assert unexplained[1] == pytest.approx(unexplained[0])


def test_other_weights_images_or_arguments_have_other_keys(tmp_path: Path) -> None:
    model = made(**SMOOTH)

    def ask(x: Tensor, **arguments: Any) -> int:
        attribute(model, x, 1, **{"target": 0, "method": "saliency", "cache": tmp_path, **arguments})
        return len(list(tmp_path.iterdir()))

    assert [ask(image()), ask(image()), ask(image() + 0.1), ask(image(), target=1)] == [1, 1, 2, 3]
    assert ask(image(), method="input_x_gradient") == 4
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).add_(0.01)
    assert ask(image()) == 5


@pytest.mark.parametrize("broken", ["heat.npy", "answer.json"])
def test_a_broken_cache_file_is_written_again(tmp_path: Path, broken: str) -> None:
    model = made(**SMOOTH)
    first = attribute(model, image(), 0, method="saliency", cache=tmp_path)
    (folder,) = tmp_path.iterdir()
    whole = (folder / broken).read_bytes()
    (folder / broken).write_bytes(whole[:20])
    again = attribute(model, image(), 0, method="saliency", cache=tmp_path)
    np.testing.assert_array_equal(again.heat, first.heat)
    assert (folder / broken).read_bytes() == whole


def test_without_cache_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path))
    attribute(made(**SMOOTH), image(), 0, method="saliency")
    assert not list(tmp_path.iterdir())
    attribute(made(**SMOOTH), image(), 0, method="saliency", cache=True)
    assert len(list((tmp_path / "attributions").iterdir())) == 1


@pytest.mark.parametrize("broken", [OSError("disk full"), ValueError("nan")])
def test_a_map_that_cannot_be_cached_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    def refuse(*_: Any) -> None:
        raise broken

    model = made(**SMOOTH)
    expected = attribute(model, image(), 0, 1, "saliency")
    monkeypatch.setattr(sys.modules["dmpo_explore.attribution.attribute"], "write_map", refuse)
    with pytest.warns(UserWarning, match=f"could not be kept in .*: {broken}"):
        found = attribute(model, image(), 0, 1, "saliency", cache=tmp_path)
    np.testing.assert_array_equal(found.heat, expected.heat)
