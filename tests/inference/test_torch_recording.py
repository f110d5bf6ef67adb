"""What a record of a model holds, that it is written as it goes, by one process or several, and continued."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calls import run_in_two
from PIL import Image
from spread_model import B, labels, made, pictures, recorded
from synthetic import between
from tiny import tiny_config

from dmpo_explore import DMPO, ExitRecord, Preprocess, Run, infer, load_images, load_run, train
from dmpo_explore.data import torch_loaders
from dmpo_explore.data.image_set import ImageFiles, ImageSet
from dmpo_explore.data.torch_loaders import MOST_READERS, batches_of, make_loader, reading_workers
from dmpo_explore.inference import torch_recording
from dmpo_explore.inference.torch_recording import (
    Processes,
    images_sha256,
    join_processes,
    record_run,
    record_split,
    time_stages,
)
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.runs.torch_model import load_model, save_weights


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


def test_bf16_is_close_and_is_bf16() -> None:
    model, told = made(), list[tuple[int, int]]()
    exact = recorded(model, batch=25, progress=lambda *step: told.append(step))
    rounded = recorded(model, precision="bf16")
    assert told == [(25, B), (50, B), (60, B)]
    assert 1e-5 < np.abs(exact.confidence - rounded.confidence).max() < 0.1
    assert (exact.prediction == rounded.prediction).mean() > 0.9
    policy = ConfidencePolicy((between(rounded.confidence[:, :-1], 0.6),))
    with torch.autocast("cpu", torch.bfloat16):
        out = infer(model, pictures(), policy)
    assert out.confidence.dtype == rounded.confidence.dtype == np.float32
    assert (out.exit == policy.exits(rounded)).mean() > 0.9
    np.testing.assert_allclose(out.confidence, rounded.confidence[np.arange(B), out.exit], atol=0.05)


def test_logits_that_float16_cannot_hold_are_not_kept_as_infinite() -> None:
    model = made()
    with torch.no_grad():
        model.stages[0].scale.mul_(1e6)
    with pytest.raises(ValueError, match=r"more than float16 holds; use keep_logits=False"):
        recorded(model)
    assert recorded(model, keep_logits=False).logits is None


def test_images_in_files_are_told_apart_by_size_and_time(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        path.write_bytes(b"1234")
    images = ImageSet("mine", "test", np.zeros(3, np.int64), ("a",), np.arange(3), ImageFiles(paths))
    first = images_sha256(images)
    assert images_sha256(images) == first
    os.utime(paths[1], ns=(1, 1))
    second = images_sha256(images)
    paths[1].write_bytes(b"123456")
    os.utime(paths[1], ns=(1, 1))
    assert len({first, second, images_sha256(images), images_sha256(images.subset([0, 2]))}) == 4


SIZE, BATCHES = 100, 4  # the test split has 359 images: the last batch is short


SIZE, BATCHES = 100, 4  # the test split has 359 images: the last batch is short
HOW: dict[str, Any] = {"device": "cpu", "batch_size": SIZE}


@cache
def model_of(path: Path) -> DMPO:
    return load_model(path, load_run(path).config, 10, "cpu", merge=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an undisturbed record of test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path_factory.mktemp("runs")))
        run = train(tiny_config(40, epochs=1, validation_size=20), "run", device="cpu")
    record_run(run, "test", **HOW)
    return run.path


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run without a record; its model is made once."""
    monkeypatch.setattr(Run, "model", lambda self, device, merge: model_of(trained))
    shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("records"))
    return load_run(tmp_path / "run")


def files(folder: Path) -> dict[str, Any]:
    """The bytes of every file; of meta.json the facts but for the date."""
    found: dict[str, Any] = {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
    return found | {"meta.json": json.loads(found["meta.json"]) | {"created": ""}}


def interrupt_at(images: int) -> Any:
    def progress(done: int, total: int) -> None:
        if done >= images:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images each batch of the model had."""
    sizes: list[int] = []
    forward = DMPO.forward

    def counted(self: DMPO, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(DMPO, "forward", counted)
    yield sizes


def test_a_written_record_is_the_one_in_memory(trained: Path) -> None:
    run = load_run(trained)
    loader = torch_recording.make_loader(run.image_set("test"), run.preprocess(), batch_size=SIZE)
    written = run.record("test")
    held = record_split(run.model("cpu", merge=True), loader, written.meta)
    for name in ("labels", "prediction", "confidence", "entropy", "margin", "logits"):
        np.testing.assert_array_equal(getattr(written, name), getattr(held, name))
    assert [p.name for p in (trained / "records").iterdir()] == ["test"]


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_a_stopped_recording_goes_on(run: Run, trained: Path, seen: list[int], batches: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        record_run(run, "test", **HOW, progress=interrupt_at(min(batches * SIZE, 359)))
    assert run.splits() == [] and len(seen) == batches
    del seen[:]
    steps: list[tuple[int, int]] = []
    record_run(run, "test", **HOW, progress=lambda done, total: steps.append((done, total)))
    assert seen == [100, 100, 100, 59][batches:]
    assert steps == [(min(n * SIZE, 359), 359) for n in range(batches, BATCHES + 1)]
    assert files(run.path / "records" / "test") == files(trained / "records" / "test")
    assert [p.name for p in (run.path / "records").iterdir()] == ["test"]


def change_weights(run: Run) -> None:
    from safetensors.torch import load_file, safe_open, save_file

    path = run.path / "weights.safetensors"
    with safe_open(path, "pt") as stream:
        meta = stream.metadata()
    save_file({name: value + 0.01 for name, value in load_file(path).items()}, path, meta)


def test_rows_of_another_recording_are_not_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other settings, other weights, other images: a warning says what, and every batch is recorded."""
    load = torch_recording.checked_images

    def darker(*args: Any, **options: Any) -> ImageSet:
        images = load(*args, **options)
        return replace(images, pixels=np.asarray(images.pixels) // 2)  # labels and positions stay

    cases: list[tuple[dict[str, Any], str]] = [
        ({"precision": "bf16", "batch_size": 90, "keep_logits": False}, "another batch_size, keep_logits, precision;"),
        ({"batch_size": 90}, "another keep_logits, precision; recording starts again"),
        ({"batch_size": 90, "weights": True}, "another weights_sha256;"),
        ({"batch_size": 90, "images": True}, "another images_sha256;"),
    ]
    with pytest.raises(KeyboardInterrupt):
        record_run(run, "test", **HOW, progress=interrupt_at(1))
    for case, text in cases:
        how, steps = HOW | case, list[int]()
        if how.pop("weights", False):
            change_weights(run)
        if how.pop("images", False):
            monkeypatch.setattr(torch_recording, "checked_images", darker)

        def once(done: int, total: int, steps: list[int] = steps) -> None:
            steps.append(done)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match=rf"records.test: .* has {text}"):
            record_run(run, "test", **how, progress=once)
        assert steps == [how["batch_size"]]


def test_a_kill_before_the_policies_of_val_loses_nothing(
    run: Run, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record comes last, so that a record of val always has its policies."""

    def die(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(torch_recording, "write_policies", die)
        with pytest.raises(SystemExit):
            record_run(run, "val", **HOW)
    assert run.splits() == []
    n = sum(seen)
    record_run(run, "val", **HOW)
    assert sum(seen) == n == run.record("val").n_images
    assert run.policies()


# -- several processes --


def test_processes_read_ahead_of_a_gpu_and_change_nothing(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, asked = run.image_set("test"), list[torch.device]()
    assert reading_workers(images, torch.device("cpu")) == 0
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    if multiprocessing.get_all_start_methods()[0] == "fork":
        assert reading_workers(images, torch.device("cuda")) == MOST_READERS

    def two(images: ImageSet, device: torch.device) -> int:
        asked.append(device)
        return 2

    monkeypatch.setattr(torch_recording, "reading_workers", two)
    made, alone = record_run(run, "test", **HOW), ExitRecord.load(trained / "records" / "test")
    np.testing.assert_array_equal(made.logits, alone.logits)
    np.testing.assert_array_equal(made.labels, alone.labels)
    assert asked == [torch.device("cpu")]


@pytest.mark.slow  # the process ends five seconds later
def test_an_error_of_a_process_that_reads_is_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    files = ImageFiles([tmp_path / "a.png"], ["0" * 64])
    images = ImageSet("mine", "test", np.zeros(1, np.int64), ("a",), np.arange(1, dtype=np.int64), files)
    loader = make_loader(images, Preprocess(8, (0.5,) * 3, (0.5,) * 3), batch_size=1, workers=1)
    with pytest.raises(ValueError, match=r"^.*a\.png has been changed since the training .*; restore it$"):
        list(batches_of(loader))


@pytest.mark.parametrize(
    "text",
    [
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  …\n"
        "RuntimeError: unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)\n",
        "DataLoader worker (pid 4) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
    ],
)
def test_too_little_shared_memory_is_one_line_with_the_remedy(text: str) -> None:
    def loader() -> Iterator[Any]:
        yield 1
        raise RuntimeError(text)

    with pytest.raises(OSError, match=r"^the shared memory.* is full; use fewer of them \(--workers 0: none\)"):
        list(batches_of(loader()))


def test_too_little_shared_memory_is_found_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total free")
    monkeypatch.setattr(torch_loaders, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage(2**26, 4 * 10 * 3 * 8 * 8 * 4 - 1))
    images, how = load_images("digits", "test"), Preprocess(8, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(OSError, match=r"^the shared memory of 64 MiB .* is full; use fewer .*--shm-size=2g\)$"):
        make_loader(images, how, batch_size=10, workers=2)
    make_loader(images, how, batch_size=9, workers=2)
    make_loader(images, how, batch_size=10)


def test_a_process_that_was_started_alone_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = join_processes("cpu")
    assert alone == Processes("cpu", 0, 1) and alone.is_main and alone.share([1, 2]) == [1, 2]
    alone.wait()
    shares = [Processes("cpu", i, 3).share(range(7)) for i in range(3)]
    assert shares == [[0, 3, 6], [1, 4], [2, 5]] and not Processes("cpu", 1, 3).is_main


SCRIPT = """
import json, sys
from accelerate import PartialState
from dmpo_explore.inference.torch_recording import record_run
from dmpo_explore.models.dmpo import DMPO
from dmpo_explore.runs.store import load_run
steps, sizes, forward = [], [], DMPO.forward
def counted(self, images):
    sizes.append(len(images))
    return forward(self, images)
DMPO.forward = counted
run = load_run({path!r})
record_run(run, "test", device="cpu", batch_size={size}, progress=lambda done, total: steps.append(done))
record_run(run, "val", device="cpu", batch_size={size})
state = PartialState()
assert state.num_processes == 2, state.num_processes
with open({path!r} + f"/process-{{state.process_index}}.json", "w") as stream:
    json.dump([sizes, steps], stream)
"""


@pytest.mark.slow
def test_two_processes_write_what_one_writes(run: Run, trained: Path, tmp_path: Path) -> None:
    """They continue what one process has begun."""
    with pytest.raises(KeyboardInterrupt):
        record_run(run, "test", **HOW, progress=interrupt_at(1))
    run_in_two(SCRIPT.format(path=str(run.path), size=SIZE), tmp_path)
    (one, steps), (two, silent) = (json.loads((run.path / f"process-{i}.json").read_text()) for i in (0, 1))
    assert one[:2] == [100, 59] and two[0] == 100  # batches 1 and 3, and batch 2, of test
    assert steps[0] == SIZE and steps == sorted(steps) and silent == []
    assert files(run.path / "records" / "test") == files(trained / "records" / "test")
    assert ExitRecord.problems(run.path / "records" / "val") == [] and run.policies()
    assert sorted(p.name for p in (run.path / "records").iterdir()) == ["test", "val"]


def test_weights_that_change_while_they_are_read_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch_recording.config_flops

    def meanwhile(*arguments: Any) -> Any:
        save_weights(run.path, {"scale": torch.ones(2)}, run.config.model)  # of the next epoch
        return count(*arguments)

    monkeypatch.setattr(torch_recording, "config_flops", meanwhile)
    with pytest.raises(ValueError, match="'run' has got new weights while they were read"):
        record_run(run, "test", **HOW)
    assert not list((run.path / "records").glob("*"))


@pytest.mark.slow
def test_a_record_that_another_made_meanwhile_keeps_its_policies(
    run: Run, trained: Path, seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training beside it ends and records val, of its last weights, after this one has read those of an epoch."""
    known = torch_recording.facts

    def meanwhile(*arguments: Any) -> Any:
        found = known(*arguments)
        shutil.copytree(trained / "records" / "test", run.path / "records" / "val")
        (run.path / "policies.json").write_text("theirs")
        return found

    monkeypatch.setattr(torch_recording, "facts", meanwhile)
    with pytest.raises(FileExistsError, match=r"val exists.*--force"):
        record_run(run, "val", **HOW)
    assert seen == [] and (run.path / "policies.json").read_text() == "theirs"
    assert [path.name for path in (run.path / "records").iterdir()] == ["val"]


def test_features_are_what_the_predictors_read_and_a_stopped_recording_keeps_them(run: Run, trained: Path) -> None:
    """The mean patch token that each predictor reads, beside scores that stay as they were."""
    plain, how = load_run(trained).record("test"), HOW | {"keep_features": True}
    with pytest.raises(KeyboardInterrupt):
        record_run(run, "test", **how, progress=interrupt_at(1))
    steps = list[int]()
    record = record_run(run, "test", **how, progress=lambda done, _: steps.append(done))
    assert steps == [100, 200, 300, 359]  # the first batch was there
    with torch.inference_mode():
        walk = model_of(trained).walk(run.inputs("test", slice(4)))
        wanted = [output.stage.norm(output.read)[:, output.stage.prefix :].mean(1) for output in walk]
    assert record.features is not None and record.embedding is not None
    assert record.features.shape == (359, len(wanted), max(one.shape[1] for one in wanted))
    for k, one in enumerate(wanted):
        np.testing.assert_allclose(record.features[:4, k, : one.shape[1]], one, atol=2e-3, rtol=2e-3)
    assert record.embedding.shape == (359, len(wanted), 2)
    assert plain.features is None and np.array_equal(plain.prediction, record.prediction)
    assert plain.logits is not None and np.array_equal(plain.logits, record.logits)


def test_stages_are_timed_as_inference_runs_them() -> None:
    """One time each, rising over the exits, and nothing of the model is changed."""
    model, seen, told = made().train(), list[tuple[bool, bool]](), list[tuple[int, int]]()
    model.precision = "bf16"
    model.stages[1].predictor.register_forward_pre_hook(
        lambda part, _: seen.append((part.training, torch.is_autocast_enabled("cpu")))
    )
    found = time_stages(model, "tiny", passes=3, progress=lambda *both: told.append(both))
    assert {*seen} == {(False, True)} and model.training
    assert len(found.stages) == len(model.stages) and list(found.exits) == sorted(found.exits)
    assert found.run == "tiny" and "CPU" in found.device and told == [(1, 3), (2, 3), (3, 3)]
