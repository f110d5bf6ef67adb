"""One exit as a function of the image; the model is left as it was."""

from __future__ import annotations

import pytest
import torch
from small_model import K, made, pictures

from dmpo_explore.attribution.exit_model import ExitView, one_image, undisturbed


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


def test_one_image_is_a_copy() -> None:
    x = pictures(1)[0].requires_grad_()
    taken = one_image(made(), x)
    assert taken.shape == (1, 3, 32, 32)
    assert not taken.requires_grad
    assert taken.data_ptr() != x.data_ptr()


def test_undisturbed_switches_gradients_off_and_back() -> None:
    model = made().train()
    wanted = [p.requires_grad for p in model.parameters()]
    with undisturbed(model):
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == wanted
