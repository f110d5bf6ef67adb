"""Executed exits equal simulated ones, of images, streams and files; stages stop; the model is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from answers import as_recorded, same_answers
from devices import DeviceReads
from PIL import Image
from spread_model import B, C, K, labels, loader, made, pictures, policies, recorded, rows_seen
from synthetic import DEPLOYABLE, make_meta
from tiny import recorded_run, tiny_config
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from dmpo_explore import POLICIES, Run, fit_policy
from dmpo_explore.fitting.temperature import tempered_record
from dmpo_explore.inference.torch_engine import Prediction, autocast, infer, plain_steps, predict_files, stream, to_csv
from dmpo_explore.inference.torch_recording import record_split, run_exits
from dmpo_explore.policies import ConfidencePolicy, RunningPolicy


@pytest.mark.parametrize(
    ("changes", "refill"),
    [
        ({"bypass": "conv"}, False),
        ({"bypass": "mlp"}, False),
        ({"bypass": "ladder"}, True),
        ({"tuning": "vpt", "rank": 3}, True),
        *(
            pytest.param(changes, refill, marks=pytest.mark.slow)
            for changes, refill in (
                ({"bypass": "conv"}, True), ({"bypass": "ladder"}, False), ({"earlier_exits": True}, True),
                ({"merge": 1}, False),
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_executed_exits_equal_simulated_ones(changes: dict[str, Any], refill: bool) -> None:
    """Of all images at once, and of a stream of batches, refilled or not."""
    model = made(**changes)
    record, used = recorded(model), set[int]()
    for policy in policies(record):
        expected = policy.exits(record)
        used |= set(expected.tolist())
        assert len(set(expected.tolist())) >= 2 or policy.name in ("patience", "fixed")  # three exits rarely agree
        seen_by = tempered_record(record, policy.temperatures) if policy.temperatures else record
        for answer in (
            lambda policy: infer(model, pictures(), policy),
            lambda policy: stream(model, loader(9), policy, refill=refill),
        ):
            with rows_seen(model) as seen:
                out = answer(policy)
            as_recorded(
                out, policy, replace(record, confidence=seen_by.confidence), 1e-3 if policy.temperatures else 1e-5
            )
            assert seen == [int((expected >= k).sum()) for k in range(K)]
    assert used == set(range(K))


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_all_leave_at_once_or_nobody_early(name: str) -> None:
    model, kind = made("ladder"), POLICIES[name]
    record = recorded(model)
    for threshold, exit, rows in ((kind.threshold_all, 0, [B, 0, 0, 0]), (kind.threshold_none, K - 1, [B] * K)):
        with rows_seen(model) as seen:
            out = infer(model, pictures(), kind((threshold,)))
        assert seen == rows and out.exit.tolist() == [exit] * B
        np.testing.assert_array_equal(out.label, record.prediction[:, exit])
        np.testing.assert_allclose(out.confidence, record.confidence[:, exit], atol=1e-5)


def in_torch(step: Any) -> Any:
    """The step with logits in torch, as on a GPU; on a CPU they are numpy's."""

    def run(x: Any, side: Any) -> Any:
        x, logits, side = step(x, side)
        return x, torch.from_numpy(logits), side

    return run


def test_an_exit_reads_the_device_once() -> None:
    """And labels and confidences at the end; counted on a CPU, where the images' values are read first."""
    model = made("ladder")
    record = recorded(model)
    steps = [in_torch(step) for step in plain_steps(model)]
    for policy in policies(record):
        reached = int(policy.exits(record).max()) + 1
        with DeviceReads() as reads:
            infer(model, pictures(), policy, steps=steps)
        places = [place for place in reads.places if "door.py" not in place]
        assert len(places) == reached + 2, places


@pytest.fixture
def float32_as_it_was() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = torch.backends.cudnn.fp32_precision = "none"


def allow_everywhere() -> None:
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch before 2.9 has one switch a library")
    torch.backends.fp32_precision = "tf32"


def allow_some() -> None:
    allow_everywhere()
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # from here on torch refuses to read the older names


def tf32_of_parts() -> list[object]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        return [part.fp32_precision for part in (matmul, cudnn.conv, cudnn.rnn)]
    return [matmul.allow_tf32, cudnn.allow_tf32]


@pytest.mark.usefixtures("float32_as_it_was")
@pytest.mark.filterwarnings("ignore:CUDA is not available")  # autocast without a card
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize(
    "allow", [lambda: None, partial(torch.set_float32_matmul_precision, "high"), allow_everywhere, allow_some],
    ids=["default", "high", "everywhere", "some"],
)  # fmt: skip
def test_float32_is_float32_on_a_gpu(allow: Callable[[], None], precision: str) -> None:
    allow()
    before = tf32_of_parts()
    assert {"tf32", True} & set(before)
    with autocast(torch.device("cuda"), precision):
        assert not {"tf32", True} & set(tf32_of_parts())
    assert tf32_of_parts() == before


def test_older_versions_of_torch_have_one_switch_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul, cudnn = SimpleNamespace(allow_tf32=False), SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    with autocast(torch.device("cuda"), "no"):
        assert not matmul.allow_tf32 and not cudnn.allow_tf32
    assert cudnn.allow_tf32 and not matmul.allow_tf32


def test_the_current_gpu_is_the_model_s(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or nullcontext())
    for name in ("cuda:1", "cuda", "cpu"):
        with autocast(torch.device(name), "no"):
            pass
    assert entered == [torch.device("cuda:1")]


def test_precision_is_that_of_the_record() -> None:
    model = made()
    record = recorded(model, batch=B, precision="bf16")
    policy = ConfidencePolicy((1.01,))
    out = infer(model, pictures(), policy, precision="bf16")  # everybody to the end: the very same batches
    np.testing.assert_allclose(out.confidence, record.confidence[:, -1], atol=1e-6)
    assert np.abs(out.confidence - infer(model, pictures(), policy).confidence).max() > 1e-5


def test_a_single_exit_takes_all() -> None:
    model = made(exits=1)
    out = infer(model, pictures(), ConfidencePolicy((1.01,)))
    assert out.exit.tolist() == [0] * B
    np.testing.assert_array_equal(out.label, recorded(model).prediction[:, 0])


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
    run_exits(model, loader(16), lambda logits, labels: None)
    model.train()(pictures(2)).sum().backward()  # training goes on behind it
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


class Endless(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(pictures())


GIVERS: dict[str, Callable[[], Any]] = {  # of images, and whether they know how many there are
    "loader": lambda: DataLoader(TensorDataset(pictures(), labels()), batch_size=16),
    "bare": lambda: pictures().split(16),
    "endless": lambda: DataLoader(Endless(), 16),
}


@pytest.mark.parametrize("giver", GIVERS)
def test_a_stream_takes_loaders_and_bare_images(giver: str) -> None:
    model, told = made(), list[tuple[int, int]]()
    policy = next(policies(recorded(model)))
    expected = infer(model, pictures(), policy)
    out = stream(model, GIVERS[giver](), policy, refill=True, batch_size=8, progress=lambda *step: told.append(step))
    same_answers(out, expected)
    assert told[-1] == (B, B if giver == "loader" else 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return recorded_run(tmp_path_factory.mktemp("runs"), tiny_config(epochs=1))


@pytest.fixture
def files(run: Run, tmp_path: Path) -> list[Path]:
    """The first 20 test pictures as files."""
    pictures = run.image_set("test")
    paths = [tmp_path / f"{i:02d}.png" for i in range(20)]
    for i, path in enumerate(paths):
        Image.fromarray(pictures[i]).save(path)
    return paths


@pytest.mark.filterwarnings("ignore:this policy is fitted on a test record")  # exits are compared, nothing is claimed
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_files_do_as_the_record_says(run: Run, files: list[Path], batch_size: int, held: bool) -> None:
    record = run.record("test").subset(slice(0, 20))
    policy = fit_policy(record, shares=(0.5, 0.5))
    policy = RunningPolicy(base=policy, shares=(0.3,), window=5) if held else policy
    exits = policy.exits(record)
    assert set(exits.tolist()) == {0, 1}
    found = list(predict_files(run, [files[0].parent], policy, device="cpu", batch_size=batch_size))
    assert [p.path for p in found] == files
    assert [p.exit for p in found] == exits.tolist()
    rows = np.arange(20)
    assert [p.label for p in found] == [run.class_names[label] for label in record.prediction[rows, exits]]
    assert [p.confidence for p in found] == pytest.approx(record.confidence[rows, exits].tolist(), abs=1e-5)


def test_an_unreadable_file_carries_its_error(run: Run, files: list[Path]) -> None:
    files[1].write_bytes(files[1].read_bytes()[:40])
    paths = [*files[:3], files[0].with_name("none.png")]
    found = list(predict_files(run, paths, ConfidencePolicy((0.5,)), device="cpu", batch_size=2))
    assert [p.path for p in found] == paths
    assert [bool(p.error) for p in found] == [False, True, False, True]
    assert "01.png cannot be read" in found[1].error and "no file" in found[3].error
    only = list(predict_files(run, paths[3:], ConfidencePolicy((0.5,)), device="cpu"))
    assert only == [Prediction(paths[3], error=found[3].error)]


def test_csv_counts_exits_from_one_and_quotes() -> None:
    rows = [Prediction(Path("a, b.png"), "T-shirt/top", 0, 0.5), Prediction(Path("c.png"), error="no file c.png")]
    assert to_csv(rows) == 'file,label,exit,confidence\n"a, b.png",T-shirt/top,1,0.500000\n'


def with_nan() -> Tensor:
    broken = pictures()
    broken[3] = torch.nan
    return broken


FIRST, EVERYBODY = ConfidencePolicy((0.5,)), pictures()
LINEAR: Any = torch.nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("ask", "kind", "message"),
    [
        (lambda: infer(LINEAR, EVERYBODY, FIRST), TypeError, r"model is a Linear, .*dx\.inference\.run_early_exit"),
        (lambda: stream(LINEAR, [EVERYBODY], FIRST), TypeError, r"model is a Linear, .*dx\.inference\.run_early_exit"),
        (lambda: stream(made(), [torch.zeros(2, 3, 9, 9)], FIRST), ValueError, "this model expects"),
        (lambda: stream(made(), [], FIRST), ValueError, "images is empty"),
        (lambda: infer(made(), EVERYBODY, FIRST, precision="fp8"), ValueError, "unknown precision 'fp8'"),
        (lambda: recorded(made(), precision="fp8"), ValueError, r"unknown precision 'fp8'.*Valid: bf16, fp16, no"),
        (
            lambda: record_split(made(), [(with_nan(), labels())], make_meta(B, K, C)),
            ValueError,
            "1 of 60 images gave NaN or infinite logits",
        ),
        (
            lambda: record_split(made(), [(EVERYBODY, labels() + 1)], make_meta(B, K, C)),
            ValueError,
            r"labels.npy: 3 at image 2 .* must be a class from 0 to 2",
        ),
        (
            lambda: record_split(made(), [(EVERYBODY, labels())], make_meta(B, K, C, flops=(1.0, 2.0))),
            ValueError,
            "flops",
        ),
        (
            lambda: record_split(
                made(), [(EVERYBODY, labels())], make_meta(B, K, C, indices=None, class_names=("a", "b"))
            ),
            ValueError,
            "must be",
        ),
    ],
)
def test_what_is_no_model_no_image_or_no_record_is_refused(
    ask: Callable[[], object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        ask()


@pytest.mark.parametrize(
    ("thresholds", "batch_size", "message"),
    [((0.5, 0.6, 0.7), 64, "3 thresholds; 2 exits"), ((0.5,), -1, "batch_size=-1 must be at least 1")],
)
def test_a_policy_for_other_exits_is_refused(
    run: Run, files: list[Path], thresholds: tuple[float, ...], batch_size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        next(predict_files(run, files, ConfidencePolicy(thresholds), device="cpu", batch_size=batch_size))
