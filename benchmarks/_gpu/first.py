"""The first ten minutes on a card: everything that could only be simulated without one, tried in turn.

In: a device. Out: of every check figures; a check that finds something wrong raises. `gpu --first` runs each in a
process of its own and puts them on one page. On a CPU the models are small, and stand-ins take the place of what only a
GPU has: CUDA graphs run their step again, and memory is short because the test says so.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

import dmpo_explore as dx
from _gpu.models import BUDGETS
from _gpu.work import LeftOut, recipe, run_tests
from _speed.arms import NEVER
from dmpo_explore.inference.live import LiveRun, Look, open_arms
from dmpo_explore.inference.torch_compile import (
    SIZES,
    graph_buffer_bytes,
    record_cuda_graph,
    replayed_stages,
    run_again,
)  # fmt: skip
from dmpo_explore.inference.torch_engine import as_step, autocast, infer
from dmpo_explore.jobs.estimate import measure_rates
from dmpo_explore.runs.run_files import finished_epochs
from dmpo_explore.runs.store import runs_root
from dmpo_explore.utils.files import write_json

Figures = dict[str, Any]
STEPS = 32  # of an epoch: two looks at the losses of a GPU
TOO_MANY = 1024  # images in a batch that does not fit
LEFT_FREE = 256 << 20  # bytes, while memory is to run out
WORKSPACES = 64 << 20  # bytes that cuBLAS may keep for a thread
BENCHMARK = 100  # seconds
EPOCHS = 3  # of the training that is killed


def config_on(device: str, **changes: Any) -> dx.Config:
    """The bundled run's parts on digits: a ViT-S at 224 px on a GPU, a tiny model on a CPU; random weights."""
    config, _ = recipe(quick=True)
    model = replace(config.model, exits=(1, 2))
    if device == "cuda":
        model = replace(model, backbone="vit_small_patch14_dinov2", image_size=224, exits=(3, 6, 9, 12))
    data = replace(config.data, train_size=STEPS * config.training.batch_size)
    return replace(config, data=data, model=replace(model, **changes))


def run_on(device: str, name: str = "first", **changes: Any) -> dx.Run:
    """A run of one epoch, trained once for all checks, with a record of its fitting split."""
    if name not in dx.list_runs():
        run = dx.train(config_on(device, **changes), name, device=device)
        dx.record_run(run, run.fitting_split, device=device)
    return dx.load_run(name)


def images_of(run: dx.Run, n: int) -> Tensor:
    """The first images of its test split."""
    return run.inputs("test", range(n))


# -- the checks --


def check_float32(device: str, folder: Path) -> Figures:
    """Products and convolutions are float32, whatever allows TF32, and the settings are as before afterwards."""
    found: Figures = {"device": dx.inference.describe_device(device), "torch": torch.__version__}
    if device == "cuda":
        found |= {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
        found |= {"capability": ".".join(map(str, torch.cuda.get_device_capability())), "driver": _driver()}
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


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def check_tests(device: str, folder: Path) -> Figures:
    """`pytest -m cuda`."""
    found: Figures = {}
    run_tests(device, quick=device == "cpu", keep=found.update)
    return {"pytest": found["summary"]}


def check_estimate(device: str, folder: Path) -> Figures:
    """The estimate's steps take as long as those of the training itself, between its two looks at the losses.

    On a CPU, which other programs share, the two are only shown.
    """
    config = config_on(device, **({} if device == "cuda" else {"exits": (3, 6)}))  # steps that are not over at once
    rates = measure_rates(config, device)
    times: dict[int, float] = {}
    training = replace(config.training, epochs=2)
    for _ in dx.train_epochs(
        replace(config, training=training), "timed", device=device,
        on_step=lambda done, steps, loss: times.update({done: time.perf_counter()}),  # those of the last epoch stay
    ):  # fmt: skip
        pass
    real = (times[STEPS] - times[STEPS // 2]) / (STEPS - STEPS // 2)
    estimated = float(np.median(rates.steps))
    found = {"estimated ms per step": f"{1000 * estimated:.1f}", "real": f"{1000 * real:.1f}"}
    if device == "cuda" and not 1 / 2 < estimated / real < 2:
        raise RuntimeError(f"the estimate is off by more than a factor of 2: {found}")
    return found


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


def check_graphs(device: str, folder: Path) -> Figures:
    """CUDA graphs of every size answer as the stages do, on buffers of the stated size."""
    run = run_on(device)
    model, images = run.model(device, merge=True), images_of(run, max(SIZES))
    stated, found = graph_buffer_bytes(model, max(SIZES)), dict[str, Any]()
    record = run_again
    if device == "cuda":
        record = partial(record_cuda_graph, pool=torch.cuda.graph_pool_handle())
    stages = replayed_stages(model, SIZES, record)
    steps = [as_step(stage) for stage in stages]
    found["buffers MiB"] = f"{stages[0].buffers.nbytes / 2**20:.1f} (stated {stated / 2**20:.1f})"
    for size in SIZES:
        batch = images[:size].to(device)
        plain, graphed = infer(model, batch, NEVER), infer(model, batch, NEVER, steps=steps)
        if not np.allclose(plain.confidence, graphed.confidence, atol=1e-4):
            raise RuntimeError(f"graphs of {size} images answer otherwise: {found}")
        if device == "cuda":
            found[f"reserved MiB at {size}"] = torch.cuda.memory_reserved() >> 20
    found["buffers MiB"] = f"{stages[0].buffers.nbytes / 2**20:.1f} (stated {stated / 2**20:.1f})"
    if stages[0].buffers.nbytes != stated:
        raise RuntimeError(f"the buffers are not of the stated size: {found}")
    return found


def check_compiled(device: str, folder: Path) -> Figures:
    """torch.compile at 1 → 64 → 1 images and others: only the first single image and the first batch wait for it."""
    if device == "cpu" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        raise LeftOut("there is no C++ compiler")
    run = run_on(device)
    model, images, waited = run.model(device, merge=True), images_of(run, 64).to(device), list[int]()
    steps, found = dx.inference.compiled(model), dict[str, Any]()
    for size in (1, 64, 1, 64, 37, 1):
        start, call = time.perf_counter(), partial(infer, model, images[:size], NEVER, steps=steps)
        try:
            with torch.compiler.set_stance("fail_on_recompile"):
                out = call()
        except RuntimeError:
            out = call()
            waited.append(size)
            found[f"compiled at {size}, s"] = f"{time.perf_counter() - start:.1f}"
        if not np.allclose(out.confidence, infer(model, images[:size], NEVER).confidence, atol=1e-3):
            raise RuntimeError(f"compiled stages answer otherwise at {size} images: {found}")
    found["calls that compiled, by images"] = " ".join(map(str, waited))
    if len(waited) > 3 or waited[:1] != [1]:
        raise RuntimeError(f"batch sizes are compiled again and again: {found}")
    return found


def check_memory(device: str, folder: Path) -> Figures:
    """Live with a batch that does not fit names one that does, and gives the memory back."""
    run = run_on(device)
    record = run.record(run.fitting_split)
    rows = np.arange(TOO_MANY) % record.n_images
    model = run.model(device, merge=True)
    before, found = _allocated(device), dict[str, Any]()
    with _short_memory(device, model):
        arms = open_arms(run, run.fitting_split, model, TOO_MANY)
        live = LiveRun(arms, record, NEVER)
        with patch.object(live, "_rows", lambda done: rows):  # more than the record has
            look = _ended(live)
    found["error"] = str(look.error)
    if not isinstance(look.error, MemoryError) or not found["error"].endswith(" do"):
        raise RuntimeError(f"Live {look.state}: {type(look.error).__name__} {look.error}")
    del arms
    after = _allocated(device)
    found["MiB allocated before and after"] = f"{before >> 20}, {after >> 20}"
    if after > before + WORKSPACES:
        raise RuntimeError(f"memory is kept: {found}")
    return found


def _allocated(device: str) -> int:
    return torch.cuda.memory_allocated() if device == "cuda" else 0


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


def check_kill(device: str, folder: Path) -> Figures:
    """A bf16 training that is killed after an epoch is resumed, and ends as one that was not."""
    config = config_on(device)
    config = replace(config, training=replace(config.training, epochs=EPOCHS, precision="bf16"))
    write_json(folder / "bf16.json", config.to_dict())
    command = [sys.executable, "-m", "dmpo_explore.cli", "train", "--device", device]
    begin = [*command, "--config", str(folder / "bf16.json"), "--force", "--name", "killed"]
    killed = runs_root() / "killed"
    process = subprocess.Popen(begin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (killed.exists() and finished_epochs(killed)):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = finished_epochs(killed)
    dx.train(config, "whole", device=device, force=True)
    if at < EPOCHS:
        dx.train(config, "killed", device=device, resume=True)
    losses = [dx.load_run(name).history()["loss"].to_numpy() for name in ("whole", "killed")]
    found = {"killed after epoch": at, "losses": " ".join(f"{loss:.4f}" for loss in losses[1])}
    found["largest difference of a loss"] = f"{np.abs(losses[0] - losses[1]).max():.1e}"
    if len(losses[1]) != EPOCHS or not np.allclose(*losses, rtol=0.05):
        raise RuntimeError(f"the resumed training ends otherwise: {found}")
    return found


def check_onnx(device: str, folder: Path) -> Figures:
    """The exported model on onnxruntime's CUDA gives torch's logits."""
    import onnxruntime

    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise LeftOut(f"this onnxruntime has no {provider}: install onnxruntime-gpu")
    run = run_on(device)
    images, model = images_of(run, 64), run.model(device, merge=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = dx.inference.export_run(run, folder / "export", NEVER, force=True)
    engine = dx.OnnxEngine(path, providers=[provider])
    with torch.inference_mode(), autocast(model.device, "no"):
        wanted = model(images.to(device)).cpu().numpy()
    difference = float(np.abs(engine.all_logits(images.numpy()) - wanted).max())
    policy = dx.fit_policy(run.record(run.fitting_split), "confidence", shares=_halves(model.n_exits))
    same = int((engine.infer(images.numpy(), policy).exit == infer(model, images, policy).exit).sum())
    found = {"provider": provider, "largest difference of a logit": f"{difference:.1e}", "same exits": f"{same} of 64"}
    if difference > 1e-3 or same < 63:
        raise RuntimeError(f"onnxruntime answers otherwise: {found}")
    return found


def _halves(n_exits: int) -> tuple[float, ...]:
    return (0.5, *[0.0] * (n_exits - 2), 0.5)


def check_benchmark(device: str, folder: Path) -> Figures:
    """The benchmark with small models: three parts on a GPU, the first on a CPU."""
    parts = ("ViT-S", "training", "app") if device == "cuda" else ("tests",)
    command = [sys.executable, str(Path(__file__).parents[1] / "gpu.py"), "--quick", "--device", device]
    command += ["--seconds", str(BENCHMARK), "--parts", *parts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines() if line[:1] == "|"]
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    return {
        "parts": ", ".join(f"{row[1]} {row[2]}" for row in rows if len(row) == 6 and row[2] in ("done", "left out"))
    }


Check = Callable[[str, Path], Figures]
CHECKS: dict[str, tuple[Check, int]] = {  # name → the check, and its seconds at most on a GPU
    "driver and TF32": (check_float32, 20),
    "pytest -m cuda": (check_tests, 60),
    "estimate": (check_estimate, 40),
    "records": (check_records, 60),
    "Live": (check_live, 40),
    "CUDA graphs": (check_graphs, 30),
    "compiled": (check_compiled, 100),
    "out of memory": (check_memory, 30),
    "kill and resume": (check_kill, 70),
    "onnxruntime": (check_onnx, 40),
    "benchmark": (check_benchmark, BENCHMARK + 10),
}


def render_page(result: dict[str, Any]) -> list[str]:
    """One page: what passed, what failed and why, and the figures."""
    facts, parts = result["machine"], result["parts"]
    passed = sum(part["state"] == "done" for part in parts.values())
    lines = [f"# First minutes on {facts['device']}", ""]
    lines += [f"{passed} of {len(parts)} checks passed in {result['minutes']} minutes (torch {facts['torch']}).", ""]
    cells = [["check", "state", "seconds", "figures, or what is wrong"]]
    for name, part in parts.items():
        state = {"done": "pass", "failed": "FAIL"}.get(part["state"], part["state"])
        figures = "; ".join(f"{key}: {value}" for key, value in part["found"].items())
        cells.append([name, state, str(part["seconds"]), (part["reason"] or figures).replace("|", "/")])
    return [*lines, *dx.analysis.markdown(cells)]
