"""What methods ask: the exit's logits, baselines, layers, pixels and cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_model import K, made, pictures

from dmpo_explore.attribution.exit_model import (
    BASELINES,
    ExitView,
    cell_index,
    layers,
    make_baseline,
    one_image,
    to_cells,
    to_pixels,
    undisturbed,
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
    with pytest.raises(ValueError, match="exits 0 to 2"):
        ExitView(model, K)


def test_baselines() -> None:
    model = made()
    x = one_image(model, pictures(1)[0])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))
    torch.testing.assert_close(make_baseline(model, x, "black") * std + mean, torch.zeros_like(x), atol=1e-6, rtol=0)
    assert not make_baseline(model, x, "mean").any()
    blurred = make_baseline(model, x, "blur")
    assert blurred.std() < 0.3 * x.std()
    constant = torch.full_like(x, 0.7)
    torch.testing.assert_close(make_baseline(model, constant, "blur"), constant)
    assert make_baseline(model, x, torch.ones(2, 3, 32, 32)).shape == (2, 3, 32, 32)
    assert {make_baseline(model, x, name).shape for name in BASELINES} == {x.shape}
    with pytest.raises(ValueError, match=r"baseline of shape \(3, 8, 8\)"):
        make_baseline(model, x, torch.ones(3, 8, 8))


def test_one_image_is_a_copy() -> None:
    x = pictures(1)[0].requires_grad_()
    taken = one_image(made(), x)
    assert taken.shape == (1, 3, 32, 32)
    assert not taken.requires_grad
    assert taken.data_ptr() != x.data_ptr()


def test_layers_are_blocks_deepest_first() -> None:
    model = made()
    found = layers(model, 1)
    assert [place.block for place in found] == [4, 3, 2, 1, 0]
    assert [place.stage for place in found] == [1, 1, 0, 0, 0]
    assert (found[0].name, found[-1].name) == ("behind block 4", "the embedding")
    assert found[-1].module is model.embed
    assert [place.block for place in layers(made(backbone="test_convnext", exits=2), 1)] == [9, 4]


def test_undisturbed_switches_gradients_off_and_back() -> None:
    model = made().train()
    wanted = [p.requires_grad for p in model.parameters()]
    with undisturbed(model):
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == wanted


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
