"""An attribution leaves the model as it was, and its progress rises to its end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_model import SMOOTH, image, made

from dmpo_explore.attribution.attribute import attribute, compare_exits
from dmpo_explore.attribution.methods import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method: str) -> None:
    model = made(tuning="lora", predictor="linear")
    model.train()
    model.stages[1].eval()
    modes = [m.training for m in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    fused = [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    generators = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    x = image()
    with torch.inference_mode():
        attribute(model, x, 2, method=method)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")] == fused
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), generators[0])
    assert np.random.get_state()[1].tolist() == generators[1]  # noqa: NPY002
    assert not x.requires_grad


def test_an_interruption_restores_too() -> None:
    model = made().train()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute(model, image(), 1, method="occlusion", progress=stop)
    assert all(m.training for m in model.stages.modules())  # type: ignore[attr-defined]
    assert any(p.requires_grad for p in model.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:gradient_shap at exit 2. convergence delta")
@pytest.mark.parametrize("method", METHODS)
def test_progress_rises_to_its_end(method: str) -> None:
    calls: list[tuple[int, int]] = []
    attribute(made(**SMOOTH), image(), 1, method=method, progress=lambda *call: calls.append(call))
    done, totals = [c[0] for c in calls], {c[1] for c in calls}
    assert len(totals) == 1
    assert done == sorted(done)
    assert done[-1] == totals.pop()


def test_progress_of_a_comparison() -> None:
    calls: list[tuple[int, int]] = []
    compare_exits(made(**SMOOTH), image(), progress=lambda *call: calls.append(call))
    assert [c[0] for c in calls] == sorted(c[0] for c in calls)
    assert calls[-1] == (1000, 1000)
    assert len(calls) >= 3
