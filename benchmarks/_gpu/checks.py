"""The first ten minutes on a card: everything that could only be simulated without one, tried in turn.

In: a device. Out: of every check figures; a check that finds something wrong raises, one that this machine cannot run
raises `LeftOut`. `gpu --first` runs each in a process of its own and puts them on one page. On a CPU the models are
small, and stand-ins take the place of what only a GPU has: CUDA graphs run their step again, and memory is short
because the test says so."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

import dmpo_explore as dx
from _speed.arms import NEVER
from dmpo_explore.inference.live import LiveRun, Look, open_arms
from dmpo_explore.inference.torch_engine import autocast, infer
from dmpo_explore.training.part_options import TeacherOptions

Figures = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
BUNDLED, BUDGETS = "demo", (0.3, 0.5)
STEPS = 32  # of an epoch: two looks at the losses of a GPU
TOO_MANY = 1024  # images in a batch that does not fit
LEFT_FREE = 256 << 20  # bytes, while memory is to run out
WORKSPACES = 64 << 20  # bytes that cuBLAS may keep for a thread


class LeftOut(Exception):
    """A check that this machine cannot run; the text has the reason."""


def config_on(device: str, **changes: Any) -> dx.Config:
    """The bundled run's parts without its teacher, on digits: a ViT-S at 224 px on a GPU, a tiny model on a CPU."""
    config = dx.load_run(BUNDLED).config
    small = {"backbone": "test_vit", "weights": "random", "image_size": 32, "exits": (1, 2), "channels": 8}
    if device == "cuda":
        small |= {"backbone": "vit_small_patch14_dinov2", "image_size": 224, "exits": (3, 6, 9, 12)}
    untaught = tuple(part for part in config.training.more if not isinstance(part, TeacherOptions))
    training = replace(config.training, more=untaught, epochs=1, batch_size=20, precision="no", validation_size=20)
    data = dx.DataConfig("digits", train_size=STEPS * training.batch_size)
    return dx.Config(data, replace(config.model, **small | changes), training)


def run_on(device: str, name: str = "first", **changes: Any) -> dx.Run:
    """A run of one epoch, trained once for all checks, with a record of its fitting split."""
    if name not in dx.list_runs():
        run = dx.train(config_on(device, **changes), name, device=device)
        dx.record_run(run, run.fitting_split, device=device)
    return dx.load_run(name)


# -- the checks --


def check_float32(device: str, folder: Path) -> Figures:
    """Products and convolutions are float32, whatever allows TF32, and the settings are as before afterwards."""
    found: Figures = {"device": dx.inference.describe_device(device), "torch": torch.__version__}
    if device == "cuda":
        found |= {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
        found |= {"capability": ".".join(map(str, torch.cuda.get_device_capability()))}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 64, 32, 32, generator=generator).double()
    weight = torch.randn(64, 64, 3, 3, generator=generator).double()
    square = torch.randn(512, 512, generator=generator).double()
    a, b, c = (one.to(device, torch.float32) for one in (x, weight, square))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        outside = c @ c
        with autocast(torch.device(device), "no"):
            pairs = ((torch.conv2d(a, b), torch.conv2d(x, weight)), (c @ c, square @ square))
            errors = [float((got.cpu() - wanted).abs().max() / wanted.abs().max()) for got, wanted in pairs]
        if not torch.equal(c @ c, outside):
            raise RuntimeError("torch's own setting of TF32 was not restored")
    finally:
        torch.set_float32_matmul_precision(before)
    found |= {"error of a convolution": f"{errors[0]:.1e}", "of a product": f"{errors[1]:.1e}"}
    if max(errors) > 1e-5:
        raise RuntimeError(f"float32 is not float32: {found}")
    return found


def check_tests(device: str, folder: Path) -> Figures:
    """`pytest -m cuda` on the files that have such tests; without a card they skip."""
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in path.read_text(encoding="utf-8")]
    files = [str(path.relative_to(ROOT)) for path in sorted(marked) if path.name != "test_packaging.py"]
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"]
    if done.returncode not in (0, 5):
        raise RuntimeError("; ".join([line for line in lines if line.startswith(("FAILED", "ERROR"))] or lines[-3:]))
    return {"pytest": lines[-1]}


def check_records(device: str, folder: Path) -> Figures:
    """A record that is made twice is the same, with merged tokens too."""
    found: Figures = {}
    for name, changes in (("first", {}), ("merged", {"merge": 2, "merge_from": 2})):
        run, records = run_on(device, name, **changes), []
        for _ in range(2):
            start = time.perf_counter()
            records.append(dx.record_run(run, "test", device=device, force=True))
            seconds = time.perf_counter() - start
        one, other = (np.asarray(record.logits, np.float32) for record in records)
        found[f"{name}: images/s"] = round(len(one) / seconds)
        found[f"{name}: largest difference of a logit"] = float(np.abs(one - other).max())
    if any(value for key, value in found.items() if "difference" in key):
        raise RuntimeError(f"two records of the same images differ: {found}")
    return found


def check_live(device: str, folder: Path) -> Figures:
    """Live at batch 1 and 64: exits as recorded, for all but images whose score lies at the threshold."""
    run, found = run_on(device), dict[str, Any]()
    record = run.record("test") if "test" in run.splits() else dx.record_run(run, "test", device=device)
    policy = dx.fit_policy(run.record(run.fitting_split), flops=max(*BUDGETS, float(record.flops_fraction[0])))
    model = run.model(device, merge=True)
    for batch, n in ((1, 64), (64, 320)):
        live = LiveRun(open_arms(run, "test", model, batch), record, policy, images=n)
        look = _ended(live)
        if look.error or (measured := look.count.measured) is None:
            raise RuntimeError(f"Live at batch {batch} {look.state}: {look.error}")
        found[f"batch {batch}: images/s"] = f"{measured.early.rate:.0f} (full model {measured.full.rate:.0f})"
        found[f"batch {batch}: as recorded"] = f"{look.count.agreed} of {n}"
        if measured.early.joules and look.idle_watts:
            each = measured.early.joules / measured.early.images
            found[f"batch {batch}: J per image"] = f"{each:.3g}, idle {look.idle_watts:.0f} W"
        if look.count.agreed < 0.98 * n:
            raise RuntimeError(f"executed exits differ from recorded ones: {found}")
    return found


def _ended(live: LiveRun) -> Look:
    live.start()
    while (look := live.look()).alive:
        time.sleep(0.05)
    live.stop(wait=60)
    return look


def check_memory(device: str, folder: Path) -> Figures:
    """Live with a batch that does not fit names one that does, and gives the memory back."""
    run = run_on(device)
    record = run.record(run.fitting_split)
    rows = np.arange(TOO_MANY) % record.n_images
    model = run.model(device, merge=True)
    before, found = torch.cuda.memory_allocated(), dict[str, Any]()
    with _short_memory(device, model):
        arms = open_arms(run, run.fitting_split, model, TOO_MANY)
        live = LiveRun(arms, record, NEVER)
        with patch.object(live, "_rows", lambda done: rows):  # more than the record has
            look = _ended(live)
    found["error"] = str(look.error)
    if not isinstance(look.error, MemoryError) or not found["error"].endswith(" do"):
        raise RuntimeError(f"Live {look.state}: {type(look.error).__name__} {look.error}")
    del arms
    after = torch.cuda.memory_allocated()
    found["MiB allocated before and after"] = f"{before >> 20}, {after >> 20}"
    if after > before + WORKSPACES:
        raise RuntimeError(f"memory is kept: {found}")
    return found


@contextmanager
def _short_memory(device: str, model: dx.DMPO) -> Iterator[None]:
    """`LEFT_FREE` bytes beyond those in use; on a CPU the embedding of more than five images fails."""
    if device == "cuda":
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + LEFT_FREE) / total))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    embed = model.embed.forward

    def small(images: Tensor) -> Tensor:
        if len(images) > 5:
            raise torch.OutOfMemoryError("a stand-in: out of memory")
        return embed(images)  # type: ignore[no-any-return]

    with patch.object(model.embed, "forward", small):
        yield


def check_onnx(device: str, folder: Path) -> Figures:
    """The exported model on onnxruntime's CUDA gives torch's logits."""
    import onnxruntime

    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise LeftOut(f"this onnxruntime has no {provider}: install onnxruntime-gpu")
    run = run_on(device)
    images, model = run.inputs("test", range(64)), run.model(device, merge=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = dx.inference.export_run(run, folder / "export", NEVER, force=True)
    engine = dx.OnnxEngine(path, providers=[provider])
    with torch.inference_mode(), autocast(model.device, "no"):
        wanted = model(images.to(device)).cpu().numpy()
    difference = float(np.abs(engine.all_logits(images.numpy()) - wanted).max())
    policy = dx.fit_policy(run.record(run.fitting_split), "confidence", shares=(0.5, *[0.0] * (model.n_exits - 2), 0.5))
    same = int((engine.infer(images.numpy(), policy).exit == infer(model, images, policy).exit).sum())
    found = {"provider": provider, "largest difference of a logit": f"{difference:.1e}", "same exits": f"{same} of 64"}
    if difference > 1e-3 or same < 63:
        raise RuntimeError(f"onnxruntime answers otherwise: {found}")
    return found


Check = Callable[[str, Path], Figures]
CHECKS: dict[str, tuple[Check, int]] = {  # name → the check, and its seconds at most on a GPU
    "driver and TF32": (check_float32, 20),
    "pytest -m cuda": (check_tests, 60),
    "records": (check_records, 60),
    "Live": (check_live, 40),
    "out of memory": (check_memory, 30),
    "onnxruntime": (check_onnx, 40),
}
