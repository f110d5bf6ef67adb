"""Layers: blocks and the embedding, deepest first."""

from __future__ import annotations

from small_model import made

from dmpo_explore.attribution.exit_model import layers


def test_layers_are_blocks_deepest_first() -> None:
    model = made()
    found = layers(model, 1)
    assert [place.block for place in found] == [4, 3, 2, 1, 0]
    assert [place.stage for place in found] == [1, 1, 0, 0, 0]
    assert (found[0].name, found[-1].name) == ("after block 4", "the embedding")
    assert found[-1].module is model.embed
    assert [place.block for place in layers(made(backbone="test_convnext", exits=2), 1)] == [9, 4]
