"""Executed exits equal simulated ones, image by image; stages really stop; what is no image or no number is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import DEPLOYABLE, make_meta
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from dmpo_explore.config import ModelConfig
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.fitting.temperature import tempered_record
from dmpo_explore.inference.torch_engine import infer, plain_steps, stream
from dmpo_explore.inference.torch_recording import all_logits, record_split
from dmpo_explore.models.factory import assemble
from dmpo_explore.policies.base import Policy
from dmpo_explore.policies.catalogue import POLICIES
from dmpo_explore.policies.controls import OraclePolicy
from dmpo_explore.policies.rules import ConfidencePolicy, PatiencePolicy
from dmpo_explore.policies.scalar import ScorePolicy
from dmpo_explore.records.record import ExitRecord

B, K, C, SIDE = 60, 4, 3, 32


def made(bypass: str = "conv", **changes: Any) -> Any:
    """Every trainable weight random, logits large enough for scores that spread."""
    torch.manual_seed(0)
    values: dict[str, Any] = {"exits": K, "rank": 4, "bypass_width": 6, "channels": 8, "bypass": bypass} | changes
    model = assemble(ModelConfig("test_vit", "random", SIDE, **values), C).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and not name.endswith("scale"):
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def pictures(n: int = B) -> Tensor:
    """Noise, each picture with a colour of its own."""
    generator = torch.Generator().manual_seed(1)
    colour = 2 * torch.randn(B, 3, 1, 1, generator=generator)
    return (torch.randn(B, 3, SIDE, SIDE, generator=generator) + colour)[:n]


def labels(n: int = B) -> Tensor:
    return torch.arange(n) % C


def loader(batch: int, n: int = B) -> list[tuple[Tensor, Tensor]]:
    return list(zip(pictures(n).split(batch), labels(n).split(batch), strict=True))


def recorded(model: Any, batch: int = 16, **arguments: Any) -> ExitRecord:
    meta = make_meta(B, len(model.stages), C, exits=model.exits)
    return record_split(model, loader(batch), meta, **arguments)


def between(values: Any, share: float) -> float:
    """A number strictly between two neighbouring scores, ``share`` of them below; float noise cannot cross it."""
    ranked = np.sort(np.asarray(values, np.float64))
    gaps = np.diff(ranked)
    near = np.argsort(np.abs(np.arange(len(gaps)) - share * len(gaps)), kind="stable")[:12]
    widest = near[np.argmax(gaps[near])]
    assert gaps[widest] > 1e-4
    return float(ranked[widest] + ranked[widest + 1]) / 2


def policies(record: ExitRecord) -> Iterator[Policy]:
    """Every deployable one, with one threshold and one per exit, and two with temperatures."""
    for name in DEPLOYABLE:
        kind = POLICIES[name]
        if name == "budgeted":
            yield from (fit_policy(record, name, threshold=t) for t in (0.3, 0.7))
            yield fit_policy(record, name, shares=(0.3, 0.2, 0.3, 0.2))
        elif issubclass(kind, ScorePolicy):
            base = fit_policy(record, name, threshold=kind.threshold_all)
            yield from between_values(record, base)
            if name in ("confidence", "gate"):
                yield from between_values(record, replace(base, temperatures=(2.0, 1.5, 0.7, 1.0)))
        else:
            yield from (kind((1,)), kind((2,)), kind((1, 1, 2)))


def between_values(record: ExitRecord, policy: Policy) -> Iterator[Policy]:
    assert isinstance(policy, ScorePolicy)
    early = policy.values(record)
    yield replace(policy, thresholds=(between(early.ravel(), 0.6),))
    each = tuple(between(early[:, k], share) for k, share in enumerate((0.8, 0.5, 0.4)))
    yield replace(policy, thresholds=each)


@contextmanager
def rows_seen(model: Any) -> Iterator[list[int]]:
    """Rows that each trunk got."""
    seen = [0] * len(model.stages)

    def count(k: int) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            seen[k] += len(inputs[0])

        return hook

    handles = [stage.trunk.register_forward_pre_hook(count(k)) for k, stage in enumerate(model.stages)]
    yield seen
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("bypass", ["conv", "mlp", "ladder"])
def test_executed_exits_equal_simulated_ones(bypass: str) -> None:
    model = made(bypass)
    record = recorded(model)
    used = set()
    for policy in policies(record):
        expected = policy.exits(record)
        used |= set(expected.tolist())
        assert len(set(expected.tolist())) >= 2 or policy.name in ("patience", "fixed")  # three exits rarely agree
        with rows_seen(model) as seen:
            out = infer(model, pictures(), policy)
        there = np.arange(B), expected
        np.testing.assert_array_equal(out.exit, expected)
        np.testing.assert_array_equal(out.label, record.prediction[there])
        seen_by = tempered_record(record, policy.temperatures) if policy.temperatures else record
        np.testing.assert_allclose(
            out.confidence, seen_by.confidence[there], atol=1e-3 if policy.temperatures else 1e-5
        )
        assert seen == [int((expected >= k).sum()) for k in range(K)]
    assert used == set(range(K))


@pytest.mark.parametrize("bypass", ["conv", "ladder"])
def test_batches_do_not_matter(bypass: str) -> None:
    model = made(bypass)
    record = recorded(model, batch=7)
    policy = next(policies(record))
    expected = policy.exits(record)
    for size in (1, 9):
        out = [infer(model, batch, policy) for batch, _ in loader(size)]
        np.testing.assert_array_equal(np.concatenate([o.exit for o in out]), expected)
        labels_seen = np.concatenate([o.label for o in out])
        np.testing.assert_array_equal(labels_seen, record.prediction[np.arange(B), expected])


def test_order_is_kept() -> None:
    model = made()
    policy = next(policies(recorded(model)))
    order = torch.randperm(B, generator=torch.Generator().manual_seed(2))
    plain, mixed = infer(model, pictures(), policy), infer(model, pictures()[order], policy)
    np.testing.assert_array_equal(mixed.exit, plain.exit[order])
    np.testing.assert_array_equal(mixed.label, plain.label[order])
    np.testing.assert_allclose(mixed.confidence, plain.confidence[order], atol=1e-5)


def test_a_bound_does_not_run() -> None:
    with pytest.raises(ValueError, match="'oracle' reads the labels"):
        infer(made(), pictures(2), OraclePolicy((4,)))


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_all_leave_at_once_or_nobody_early(name: str) -> None:
    model, kind = made("ladder"), POLICIES[name]
    record = recorded(model)
    for threshold, exit, rows in ((kind.threshold_all, 0, [B, 0, 0, 0]), (kind.threshold_none, K - 1, [B] * K)):
        with rows_seen(model) as seen:
            out = infer(model, pictures(), kind((threshold,)))
        assert seen == rows
        assert out.exit.tolist() == [exit] * B
        np.testing.assert_array_equal(out.label, record.prediction[:, exit])
        np.testing.assert_allclose(out.confidence, record.confidence[:, exit], atol=1e-5)


@pytest.mark.parametrize("refill", [False, True])
@pytest.mark.parametrize("bypass", ["conv", "ladder"])
def test_a_stream_equals_the_record(bypass: str, refill: bool) -> None:
    model = made(bypass)
    record = recorded(model)
    calls: list[tuple[int, int]] = []
    for policy in policies(record):
        expected = policy.exits(record)
        with rows_seen(model) as seen:
            out = stream(model, loader(16), policy, refill=refill, progress=lambda done, all: calls.append((done, all)))
        np.testing.assert_array_equal(out.exit, expected)
        np.testing.assert_array_equal(out.label, record.prediction[np.arange(B), expected])
        assert seen == [int((expected >= k).sum()) for k in range(K)]
        assert calls[-1] == (B, 0)  # a plain list does not tell how many there are


def test_a_stream_takes_loaders_and_bare_images() -> None:
    model = made()
    policy = next(policies(recorded(model)))
    expected = infer(model, pictures(), policy)
    totals: set[int] = set()
    dataset = torch.utils.data.TensorDataset(pictures(), labels())
    batches = torch.utils.data.DataLoader(dataset, batch_size=16)
    for given in (batches, pictures().split(16)):
        out = stream(model, given, policy, refill=True, batch_size=8, progress=lambda done, all: totals.add(all))
        np.testing.assert_array_equal(out.exit, expected.exit)
        np.testing.assert_array_equal(out.label, expected.label)
    assert totals == {B, 0}
    with pytest.raises(ValueError, match="this model expects"):
        stream(model, [torch.zeros(2, 3, 9, 9)], policy)
    with pytest.raises(ValueError, match="no images came"):
        stream(model, [], policy)


def test_where_the_logits_are_does_not_matter() -> None:
    """As on a GPU: scores and decision in torch, where the CPU path takes numpy."""
    model = made("ladder")
    record = recorded(model)

    def in_torch(step: Any) -> Any:
        def run(x: Any, side: Any) -> Any:
            x, logits, side = step(x, side)
            return x, torch.from_numpy(logits), side

        return run

    steps = [in_torch(step) for step in plain_steps(model)]
    for policy in policies(record):
        out = infer(model, pictures(), policy, steps=steps)
        np.testing.assert_array_equal(out.exit, policy.exits(record))
        np.testing.assert_array_equal(out.label, record.prediction[np.arange(B), out.exit])


def test_precision_is_that_of_the_record() -> None:
    model = made()
    record = recorded(model, batch=B, precision="bf16")
    policy = ConfidencePolicy((1.01,))
    out = infer(model, pictures(), policy, precision="bf16")  # everybody to the end: the very same batches
    np.testing.assert_allclose(out.confidence, record.confidence[:, -1], atol=1e-6)
    assert np.abs(out.confidence - infer(model, pictures(), policy).confidence).max() > 1e-5
    with pytest.raises(ValueError, match="unknown precision 'fp8'"):
        infer(model, pictures(), policy, precision="fp8")


def test_a_single_exit_takes_all() -> None:
    model = made(exits=1)
    out = infer(model, pictures(), ConfidencePolicy((1.01,)))
    assert out.exit.tolist() == [0] * B
    np.testing.assert_array_equal(out.label, recorded(model).prediction[:, 0])


def test_types_and_shapes() -> None:
    out = infer(made(), pictures(5), PatiencePolicy((1,)))
    assert {name: (getattr(out, name).shape, str(getattr(out, name).dtype)) for name in vars(out)} == {
        "exit": ((5,), "int64"),
        "label": ((5,), "int64"),
        "confidence": ((5,), "float32"),
    }


def test_a_record_holds_the_softmax_of_every_exit() -> None:
    model = made()
    record = recorded(model)
    with torch.no_grad():
        logits = model(pictures())
    probabilities = logits.double().softmax(-1).numpy()
    np.testing.assert_allclose(record.confidence, probabilities.max(-1), atol=1e-5)
    np.testing.assert_allclose(record.entropy, -(probabilities * np.log(probabilities)).sum(-1), atol=1e-4)
    top = np.sort(probabilities)[..., ::-1]
    np.testing.assert_allclose(record.margin, top[..., 0] - top[..., 1], atol=1e-5)
    np.testing.assert_array_equal(record.prediction, probabilities.argmax(-1))
    np.testing.assert_array_equal(record.labels, labels().numpy())
    assert record.logits is not None
    np.testing.assert_allclose(record.logits, logits.numpy(), rtol=1e-3, atol=1e-4)
    types = {name: str(getattr(record, name).dtype) for name in ("labels", "prediction", "confidence", "logits")}
    assert types == {"labels": "int64", "prediction": "int32", "confidence": "float32", "logits": "float16"}
    assert recorded(model, keep_logits=False).logits is None


def test_a_record_can_be_saved_and_asked(tmp_path: Any) -> None:
    record = recorded(made())
    record.save(tmp_path / "val")
    policy = next(policies(record))
    np.testing.assert_array_equal(policy.exits(ExitRecord.load(tmp_path / "val")), policy.exits(record))


def test_progress_counts_images() -> None:
    calls: list[tuple[int, int]] = []
    recorded(made(), batch=25, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(25, B), (50, B), (60, B)]


def test_bf16_is_close_and_is_bf16() -> None:
    model = made()
    exact, rounded = recorded(model), recorded(model, precision="bf16")
    difference = np.abs(exact.confidence - rounded.confidence)
    assert 1e-5 < difference.max() < 0.1
    assert (exact.prediction == rounded.prediction).mean() > 0.9
    assert rounded.confidence.dtype == np.float32
    policy = ConfidencePolicy((between(rounded.confidence[:, :-1].ravel(), 0.6),))
    with torch.autocast("cpu", torch.bfloat16):
        out = infer(model, pictures(), policy)
    assert out.confidence.dtype == np.float32
    assert (out.exit == policy.exits(rounded)).mean() > 0.9
    there = np.arange(B), out.exit
    np.testing.assert_allclose(out.confidence, rounded.confidence[there], atol=0.05)


def test_an_unknown_precision_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown precision 'fp8'.*Valid: bf16, fp16, no"):
        recorded(made(), precision="fp8")


def interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_restored(training: bool) -> None:
    model = made(tuning="lora", dropout=0.5)
    record = recorded(model)
    policy = next(policies(record))
    model.train(training)
    out = infer(model, pictures(), policy)
    np.testing.assert_array_equal(out.exit, policy.exits(record))
    np.testing.assert_allclose(recorded(model).confidence, record.confidence, atol=1e-6)
    assert all(module.training is training for module in model.modules())
    with pytest.raises(KeyboardInterrupt):
        recorded(model, progress=interrupt)
    with pytest.raises(ValueError):
        infer(model, pictures() * torch.nan, policy)
    assert all(module.training is training for module in model.modules())


def test_nothing_keeps_a_graph() -> None:
    model = made()
    infer(model, pictures(2), ConfidencePolicy((0.5,)))
    all_logits(model, loader(16))
    model.train()(pictures(2)).sum().backward()  # training goes on behind it
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_nan_logits_are_refused() -> None:
    broken = pictures()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match="exit 1 gave NaN or infinite logits"):
        infer(made(), broken, ConfidencePolicy((0.5,)))
    with pytest.raises(ValueError, match="1 of 60 images gave NaN or infinite logits"):
        record_split(made(), [(broken, labels())], make_meta(B, K, C))


def test_nan_at_a_later_exit_only_matters_to_who_gets_there() -> None:
    model = made()
    with torch.no_grad():
        model.stages[2].scale.fill_(torch.nan)
    assert infer(model, pictures(), ConfidencePolicy((0.0,))).exit.tolist() == [0] * B
    with pytest.raises(ValueError, match="exit 3 gave NaN"):
        infer(model, pictures(), ConfidencePolicy((1.01,)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 48, 48), r"images of shape \(2, 3, 48, 48\); this model expects \(B, 3, 32, 32\)"),
        (torch.zeros(3, 32, 32), r"images of shape \(3, 32, 32\)"),
        (torch.zeros(2, 1, 32, 32), "this model expects"),
        (torch.zeros(2, 32, 32, 3), "this model expects"),
        (torch.zeros(0, 3, 32, 32), "B ≥ 1"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "images of type torch.uint8; .* preprocessed floats"),
    ],
)
def test_wrong_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infer(made(), images, ConfidencePolicy((0.5,)))


def test_a_policy_for_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="has 2 thresholds; 4 exits need 1 or 3"):
        infer(made(), pictures(2), ConfidencePolicy((0.5, 0.5)))


def test_a_stream_of_unknown_length() -> None:
    class Endless(IterableDataset[Tensor]):
        def __iter__(self) -> Iterator[Tensor]:
            return iter(pictures(6))

    told: list[tuple[int, int]] = []
    policy = ConfidencePolicy((0.0,))
    out = stream(made(), DataLoader(Endless(), 4), policy, progress=lambda done, total: told.append((done, total)))
    assert len(out.exit) == 6 and told[-1] == (6, 0)


def test_logits_that_float16_cannot_hold_are_not_kept_as_infinite() -> None:
    model = made()
    with torch.no_grad():
        model.stages[0].scale.mul_(1e6)
    with pytest.raises(ValueError, match=r"more than float16 holds; use keep_logits=False"):
        recorded(model)
    assert recorded(model, keep_logits=False).logits is None
