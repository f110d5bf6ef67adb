"""Arms of a real model: exits as recorded while the threshold moves; the full model runs no other exit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from live_looks import ended, until
from operations import Operations
from small_model import C, K, made, pictures
from synthetic import between, make_meta
from tiny import recorded_run, tiny_config

from dmpo_explore.data.images import load_images
from dmpo_explore.data.torch_loaders import make_loader
from dmpo_explore.inference.live import ENGINES, LiveRun, exported, open_arms, to_the_end
from dmpo_explore.inference.torch_recording import record_split
from dmpo_explore.models.predictors import cast_products
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.policies.running import RunningPolicy


@pytest.fixture(scope="module")
def real() -> SimpleNamespace:
    """A small model, pictures of as many classes, what it said about them, and a run that has the pictures."""
    model, found = made(), load_images("digits", "test")
    found = found.subset(found.labels < C)
    meta = make_meta(len(found), K, C, exits=model.exits)
    record = record_split(model, make_loader(found, model.preprocess, batch_size=16), meta)
    run = SimpleNamespace(image_set=lambda split: {"test": found}[split])
    return SimpleNamespace(model=model, pictures=found, record=record, run=run)


@pytest.mark.parametrize("engine", ["infer", "stream"])
def test_a_real_model_leaves_where_the_record_says_while_the_threshold_moves(real: Any, engine: str) -> None:
    frozen, base = (ConfidencePolicy((between(real.record.confidence[:, :-1], share),)) for share in (0.3, 0.7))
    policies = [frozen, RunningPolicy(base=base, shares=(0.4,) * (K - 1), window=7)]
    arms = open_arms(real.run, "test", real.model, 8, engine)
    assert arms.size == 8 * ENGINES[engine]
    live = LiveRun(arms, real.record, policies[0])
    live.start()
    until(live, lambda look: look.count.images > 40)
    live.use(policies[1])
    until(live, lambda look: len(look.count.moves) == 2)
    live.stop(wait=20)
    count = ended(live).count
    assert count.agreed == count.full_agreed == count.images > 40 and not count.disagreements
    assert count.policy == policies[1] and count.measured is not None
    latency = count.measured.latency
    assert [sum(one.images) for one in latency] == (list(count.measured.exits) if engine == "infer" else [])
    assert all(0 < s <= count.measured.early.seconds for one in latency for s in one.seconds)
    assert count.measured.speed_up > 0 and count.measured.early.p95 >= count.measured.early.p50 > 0


@pytest.mark.parametrize("place", ["tokens", "images"])
@pytest.mark.parametrize("engine", ["infer", "stream"])
def test_what_does_not_fit_says_what_does(real: Any, engine: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU that has room for the tokens of five images, or for no more than five images themselves."""
    policy = ConfidencePolicy((1.01,))
    arms = open_arms(real.run, "test", real.model, 16, engine)
    whole, name = (real.model.embed, "forward") if place == "tokens" else (torch.Tensor, "to")
    unlimited = getattr(whole, name)

    def small(images: torch.Tensor, *how: Any, **more: Any) -> torch.Tensor:
        if images.ndim == 4 and len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return unlimited(images, *how, **more)  # type: ignore[no-any-return]

    monkeypatch.setattr(whole, name, small)
    images = arms.inputs(np.arange(arms.size))
    for arm in (lambda: arms.early(images, policy), lambda: arms.full(images)):
        with pytest.raises(
            MemoryError, match="^batches of 16 images do not fit into .* cpu; batches of 4 do$"
        ) as caught:
            arm()
        assert caught.value.__context__ is None  # which would hold the tensors
    live = LiveRun(arms, real.record, policy)
    live.start()
    assert isinstance(ended(live).error, MemoryError)


def test_a_model_loaded_in_bf16_casts_no_weight_again(real: Any) -> None:
    policy, casts = ConfidencePolicy((1.01,)), []
    for cast_once in (False, True):
        model = made()
        layers = cast_products(model, torch.bfloat16) if cast_once else 0
        model.precision = "bf16" if cast_once else "no"
        arms = open_arms(real.run, "test", model, 8, precision="bf16")
        images = arms.inputs(np.arange(8))
        with Operations() as ran:
            arms.early(images, policy)
        casts.append(ran.names.count("to"))
    assert casts[0] - casts[1] >= layers > 10
    with pytest.raises(ValueError, match="precision='no', but the model's weights are bf16"):
        open_arms(real.run, "test", model, 8)


def test_the_full_model_gives_the_last_exits_answers(real: Any) -> None:
    images = pictures(6)
    with torch.inference_mode():
        expected = real.model(images)[:, -1].argmax(-1).numpy()
    np.testing.assert_array_equal(to_the_end(real.model, images), expected)
    ladder = made(bypass="ladder")
    with torch.inference_mode():
        expected = ladder(images)[:, -1].argmax(-1).numpy()
    np.testing.assert_array_equal(to_the_end(ladder, images), expected)


def test_the_full_model_asks_no_other_exit(real: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for k, stage in enumerate(real.model.stages):
        monkeypatch.setattr(stage.predictor, "forward", _noting(asked, k, stage.predictor.forward))
    to_the_end(real.model, pictures(2))
    assert asked == [K - 1]


def _noting(asked: list[int], k: int, forward: Any) -> Any:
    def noted(tokens: Any) -> Any:
        asked.append(k)
        return forward(tokens)

    return noted


def test_arms_refuse_what_is_not_there(real: Any) -> None:
    with pytest.raises(ValueError, match="unknown engine 'tpu'"):
        open_arms(real.run, "test", real.model, 8, "tpu")
    with pytest.raises(ValueError, match="unknown precision 'int8'"):
        open_arms(real.run, "test", real.model, 8, precision="int8")
    with pytest.raises(ValueError, match="precision='bf16': the engine 'onnx' runs in float32 .* or 'int8'"):
        open_arms(real.run, "test", real.model, 8, "onnx", precision="bf16")


def test_inputs_are_the_pictures_at_the_rows(real: Any) -> None:
    inputs = open_arms(real.run, "test", real.model, 8).inputs(np.array([5, 2]))
    assert inputs.shape == (2, 3, 32, 32)
    batch, _ = next(iter(make_loader(real.pictures, real.model.preprocess, batch_size=6)))
    assert torch.equal(inputs[0], batch[5]) and torch.equal(inputs[1], batch[2])


@pytest.mark.usefixtures("quick")
def test_an_export_in_the_cache_is_made_again_unless_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setenv("DMPO_EXPLORE_CACHE", str(tmp_path / "cache"))
    run = recorded_run(tmp_path, tiny_config(epochs=1))
    folder = exported(run)
    facts = folder / "model.json"
    made_at = facts.stat().st_mtime_ns
    assert exported(run) == folder and facts.stat().st_mtime_ns == made_at
    for damaged in ("stage-1.onnx", "model.json"):
        whole = (folder / damaged).read_bytes()
        (folder / damaged).write_bytes(b"half")
        assert exported(run) == folder and (folder / damaged).read_bytes() == whole
