"""Self-regularisation: the anchor's heads, the views of a batch, CutOut by patches, and trainings with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import run_in_two
from sklearn.linear_model import LogisticRegression
from small_model import made, pictures
from tiny import tiny_config

from dmpo_explore import build_model, load_run, train
from dmpo_explore.models.attention import attention_weights
from dmpo_explore.neighbours.orthogonal.self_regularisation import (
    SelfRegularisation,
    attended,
    check_cutout,
    divergence,
    fit_anchor,
    hide,
    logistic_regression,
    make_anchor,
    scores,
)
from dmpo_explore.runs.torch_model import read_weights
from dmpo_explore.training import Batch, Validation, fit, read_checkpoint
from dmpo_explore.utils.torch_tools import seeded


def test_a_quarter_of_the_patches_is_hidden_those_with_the_largest_scores() -> None:
    images, found = torch.rand(3, 3, 20, 20) + 1, torch.rand(3, 25)
    cut = hide(images, found, (5, 5))
    for image, whole, own in zip(cut, images, found, strict=True):
        tiles = image.unfold(1, 4, 4).unfold(2, 4, 4).permute(1, 2, 0, 3, 4).reshape(25, -1)
        gone = (tiles == 0).all(1)
        assert gone.sum() == 25 // 4
        assert own[gone].min() > own[~gone].max()
        assert torch.equal(image[image != 0], whole[image != 0])


def test_a_grid_need_not_divide_the_image() -> None:
    cut = hide(torch.ones(1, 3, 10, 10), torch.tensor([[0.0, 1, 0, 0, 0, 0, 0, 0, 0]]), (3, 3))
    assert 0 < float((cut == 0).float().mean()) <= 0.25


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit2"])  # a class token; none, but a register
@torch.no_grad()
def test_attention_is_that_of_the_last_block_from_the_class_token_or_all_patches(backbone: str) -> None:
    model = made(backbone=backbone, exits=2, tuning="none")
    found, logits = scores("attentive", pictures(), model)
    with attention_weights([model.stages[1].trunk]) as seen:
        expected_logits = model(pictures())
    assert logits is not None and torch.equal(logits, expected_logits)
    last = seen[-1].mean(1)
    expected = last[:, 0, 1:] if backbone == "test_vit" else last[:, 1:].mean(1)[:, 1:]
    torch.testing.assert_close(found, expected)
    assert found.shape == (4, 4)
    torch.testing.assert_close(attended(seen[-1], model), found)


def test_random_scores_follow_torchs_generator() -> None:
    model = made(exits=2)
    torch.manual_seed(1)
    first, logits = scores("random", pictures(), model)
    torch.manual_seed(1)
    assert logits is None and torch.equal(scores("random", pictures(), model)[0], first)
    assert not torch.equal(scores("random", pictures(), model)[0], first)


NO_VIT = "cutout='attentive' needs a ViT, whose attention reads all patches; use"


@pytest.mark.parametrize(
    ("cutout", "backbone", "size", "message"),
    [
        ("attentive", "test_convnext", 64, NO_VIT),
        ("attentive", "swin_tiny_patch4_window7_224", 224, NO_VIT),
        ("random", "test_efficientnet", 32, "hides one patch in 4, but an image has 1x1 at the last exit; use larger"),
    ],
)
def test_what_cannot_be_cut_is_refused(cutout: str, backbone: str, size: int, message: str) -> None:
    model = made(backbone=backbone, image_size=size, exits=1, tuning="none", predictor="linear")
    with pytest.raises(ValueError, match=message):
        check_cutout(cutout, model)
    check_cutout("none", model)


CONFIG = tiny_config(epochs=2, self_regularise=0.5, cutout="attentive", model={"tuning": "oft"})


def batches(n: int = 60, size: int = 32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(20, 3, size, size, generator=generator), torch.arange(20) % 3) for _ in range(n // 20)]


@pytest.mark.slow
def test_a_head_is_a_logistic_regression_on_standardised_features() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(2.0, 3.0, size=(60, 5)).astype(np.float32)
    x[:, 4] = 7.0  # constant
    y = (x[:, 0] + generator.normal(size=60) > 2).astype(int) + (x[:, 1] > 4)
    z = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    reference = LogisticRegression(C=1 / 4.0, max_iter=1000, tol=1e-8).fit(z, y)
    weight, bias = logistic_regression(torch.from_numpy(x), torch.from_numpy(y), 3, penalty=4.0)
    found = (torch.from_numpy(x) @ weight.T + bias).softmax(-1).numpy()
    np.testing.assert_allclose(found, reference.predict_proba(z), atol=2e-3)


@pytest.mark.slow
def test_a_class_without_images_gets_little_probability() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    weight, bias = logistic_regression(x, torch.arange(40) % 2, 3)
    assert float((x @ weight.T + bias).softmax(-1)[:, 2].max()) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [{"tuning": "oft"}, {"tuning": "lora", "tune_layers": "qkv"}])
def test_an_anchor_is_the_plain_backbone_with_linear_exits(tuning: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    anchor = make_anchor(replace(CONFIG, model=replace(CONFIG.model, **tuning)), 3)
    assert torch.equal(before, torch.get_rng_state())
    with seeded(CONFIG.training.seed):
        tuned = build_model(replace(CONFIG.model, tuning="none"), 3).eval()
    images = batches()[0][0]
    with torch.no_grad():
        for ours, theirs in zip(anchor.walk(images), tuned.walk(images), strict=True):
            assert torch.equal(ours.tokens, theirs.tokens)  # the same random backbone, untuned
    assert {name.rpartition(".")[2] for name in anchor.trainable_state()} == {"weight", "bias", "scale"}
    assert not anchor.training


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_vit", "test_efficientnet"])
def test_fitted_heads_learn_their_images_and_nothing_else_changes(backbone: str) -> None:
    size = 64 if "efficient" in backbone else 32
    config = tiny_config(model={"backbone": backbone, "image_size": size, "tuning": "lora"})
    anchor, data = make_anchor(config, 3), batches(size=size)
    before = {name: value.clone() for name, value in anchor.state_dict().items()}
    fit_anchor(anchor, data)
    changed = {name for name, value in anchor.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"stages.{k}.predictor.fc.{part}" for k in range(2) for part in ("weight", "bias")}
    with torch.no_grad():
        right = [(anchor(images).argmax(-1) == labels[:, None]).float().mean() for images, labels in data]
    assert float(torch.stack(right).mean()) > 0.6  # of 3 classes, noise for images


@pytest.mark.slow
@pytest.mark.parametrize("cutout", ["none", "random", "attentive"])
@torch.no_grad()
def test_every_view_has_its_labels_and_its_own_anchor(cutout: Any) -> None:
    anchor = make_anchor(CONFIG, 3)
    images, labels = batches()[0]
    batch = SelfRegularisation(anchor, 1.0, cutout).views(Batch(images, labels))
    assert torch.equal(batch.images[:20], images) and torch.equal(batch.labels[:20], labels)
    torch.testing.assert_close(batch.notes["anchor"], anchor(batch.images))
    if cutout == "none":
        assert len(batch.images) == 20
    else:
        cut = batch.images[20:]
        assert torch.equal(batch.labels[20:], labels) and len(batch.notes["anchor"]) == 40
        assert ((cut == images) | (cut == 0)).all()
        assert float((cut == 0).float().mean()) == pytest.approx(0.25)
        alone = SelfRegularisation(anchor, 0.0, cutout)
        batch = alone.views(Batch(images, labels))
        assert not batch.notes and len(batch.images) == 40 and alone.losses(batch, batch.images) is None
        assert alone.state_dict() == {}


@pytest.mark.slow
def test_an_anchor_adds_its_divergence() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, anchors = (torch.randn(5, 3, 4, generator=generator) for _ in range(2))
    own, wanted = logits.double().softmax(-1), anchors.double().softmax(-1)
    expected = (wanted * (wanted / own).log()).sum(-1)  # (B, K), KL(anchor || model)
    np.testing.assert_allclose(divergence(logits, anchors), expected, rtol=1e-4)
    part = SelfRegularisation(make_anchor(CONFIG, 3), 0.3)
    batch = Batch(torch.zeros(5, 3, 4, 4), torch.zeros(5, dtype=torch.int64), notes={"anchor": anchors})
    np.testing.assert_allclose(part.losses(batch, logits), 0.3 * expected, rtol=1e-4)
    assert float(divergence(logits, logits).abs().max()) < 1e-6


@pytest.mark.slow
def test_accumulated_micro_batches_are_the_whole_batch() -> None:
    """Gradients of views add up: two half batches in one step give the weights of one whole batch."""
    config = tiny_config(model={"tuning": "oft"}, epochs=1, self_regularise=0.7, cutout="attentive", clip_norm=None)
    found = []
    for size, steps in ((20, 1), (10, 2)):
        with seeded(0):
            model = build_model(config.model, 3)
        part = SelfRegularisation(make_anchor(config, 3), 0.7, "attentive")
        data = [(image, int(label)) for image, label in zip(*batches()[0], strict=True)]
        loader = torch.utils.data.DataLoader(data, batch_size=size)  # type: ignore[arg-type]
        training = replace(config.training, batch_size=size, accumulation=steps)
        next(iter(fit(model, loader, training, 2, validate=lambda m: Validation((0.0, 0.0), 0.0), parts=[part])))
        found.append(model.trainable_state())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_checkpoint_has_the_anchor_and_a_run_does_not(runs: Path) -> None:
    run = train(CONFIG, "run", device="cpu")
    parts = ("predictor.fc.weight", "predictor.fc.bias", "scale")
    anchor = read_checkpoint(run.path / "checkpoint.pt")["state"]["anchor"]
    assert set(anchor) == {f"stages.{k}.{part}" for k in range(2) for part in parts}
    assert read_weights(run.path).keys() == build_model(CONFIG.model, 10).trainable_state().keys()
    assert load_run("run").model("cpu", merge=True).n_exits == 2


SCRIPT = """
from tiny import tiny_config
from dmpo_explore.training.train import train
train(tiny_config({n}, **{settings}), "two", device="cpu")
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path, runs: Path) -> None:
    """Every process fits the same anchor; attentive CutOut draws nothing, flips would."""
    settings = {"epochs": 2, "self_regularise": 0.5, "cutout": "attentive", "flip": False}
    settings |= {"model": {"tuning": "oft"}, "class_balance": "weights"}
    run_in_two(SCRIPT.format(n=100, settings=settings), tmp_path)
    one, two = train(tiny_config(100, **settings), "one", device="cpu"), load_run("two")  # type: ignore[arg-type]
    for column in ("loss", "loss_1", "loss_2"):
        assert two.history()[column].tolist() == pytest.approx(one.history()[column].tolist(), rel=1e-4)
    ours, theirs = (read_checkpoint(run.path / "checkpoint.pt")["state"]["anchor"] for run in (one, two))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


@pytest.mark.slow
def test_attentive_cutout_is_refused_before_a_training(runs: Path) -> None:
    config = tiny_config(cutout="attentive", model={"backbone": "test_efficientnet", "image_size": 64})
    with pytest.raises(ValueError, match="cutout='attentive' needs a ViT"):
        train(config, "no", device="cpu")
    assert not (runs / "no").exists()
