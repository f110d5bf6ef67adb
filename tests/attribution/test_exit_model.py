"""One exit as a function of the image: its layers, baselines, cells and queries; the model is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_model import K, made, pictures
from torch import Tensor

from dmpo_explore.attribution.exit_model import (
    BASELINES,
    ExitView,
    cell_index,
    layers,
    make_baseline,
    one_image,
    refine,
    to_cells,
    to_pixels,
    within_bound,
)


@pytest.mark.parametrize("bypass", ["conv", "ladder"])
def test_a_view_is_one_exit_of_the_model(bypass: str) -> None:
    model = made(bypass=bypass)
    ran: list[int] = []
    for k, stage in enumerate(model.stages):
        stage.trunk.register_forward_hook(lambda *_, k=k: ran.append(k))
    with torch.no_grad():
        logits = model(pictures())
        for k in range(K):
            ran.clear()
            torch.testing.assert_close(ExitView(model, k)(pictures()), logits[:, k])
            assert ran == list(range(k + 1))


def test_baselines() -> None:
    model = made()
    x = one_image(model, pictures(1)[0])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    torch.testing.assert_close(make_baseline(model, x, "black") * std + mean, torch.zeros_like(x), atol=1e-6, rtol=0)
    assert not make_baseline(model, x, "mean").any()
    assert make_baseline(model, x, "blur").std() < 0.3 * x.std()
    constant = torch.full_like(x, 0.7)
    torch.testing.assert_close(make_baseline(model, constant, "blur"), constant)
    assert make_baseline(model, x, torch.ones(2, 3, 32, 32)).shape == (2, 3, 32, 32)
    assert {make_baseline(model, x, name).shape for name in BASELINES} == {x.shape}


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda model, x: make_baseline(model, x, torch.ones(3, 8, 8)), r"baseline of shape \(3, 8, 8\)"),
        (lambda model, x: make_baseline(model, x, torch.full((3, 32, 32), torch.nan)), "not finite"),
        (lambda model, x: ExitView(model, K), "exits 0 to 2"),
    ],
)
def test_wrong_baselines_and_exits_are_refused(ask: Callable[[Any, Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(made(), pictures(1))


@given(side=st.integers(1, 40), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_sums_survive_cells_and_pixels(side: int, rows: int, columns: int) -> None:
    rows, columns = min(rows, side), min(columns, side)
    heat = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    cells = to_cells(heat, (rows, columns))
    assert cells.shape == (rows, columns)
    assert cells.sum() == pytest.approx(heat.sum(), abs=1e-3)
    np.testing.assert_allclose(to_pixels(cells, side, spread=True).sum(), cells.sum(), atol=1e-3)
    np.testing.assert_allclose(to_cells(to_pixels(cells, side), (rows, columns), mean=True), cells, atol=1e-5)
    assert np.unique(cell_index(side, (rows, columns))).size == rows * columns


def test_cells_are_patches_where_sides_divide() -> None:
    heat = np.arange(36, dtype=np.float32).reshape(6, 6)
    np.testing.assert_allclose(to_cells(heat, (3, 2)), heat.reshape(3, 2, 2, 3).sum(axis=(1, 3)))


def test_layers_are_blocks_deepest_first() -> None:
    model = made()
    found = layers(model, 1)
    assert [place.block for place in found] == [4, 3, 2, 1, 0]
    assert [place.stage for place in found] == [1, 1, 0, 0, 0]
    assert (found[0].name, found[-1].name) == ("after block 4", "the embedding")
    assert found[-1].module is model.embed
    assert [place.block for place in layers(made(backbone="test_convnext", exits=2), 1)] == [9, 4]


def test_bound() -> None:
    assert within_bound(0.049, 0.1)  # of one logit at least
    assert within_bound(-0.49, 10)
    assert not within_bound(0.51, -10)


def test_steps_double_until_the_delta_is_small_and_the_best_attempt_counts() -> None:
    deltas, asked = {50: 0.9, 100: -0.2, 200: 0.3}, list[int]()

    def integral(steps: int) -> tuple[str, float]:
        asked.append(steps)
        return f"{steps} steps", deltas[steps]

    assert refine(integral, 50, difference=0.0) == ("100 steps", -0.2, 100)
    assert refine(integral, 50, difference=10.0) == ("100 steps", -0.2, 100)
    assert asked == [50, 100, 200, 50, 100]
