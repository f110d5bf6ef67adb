"""The device is described, its memory, power and joules are read, and describing it is what imports torch."""

from __future__ import annotations

import math
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from background import ended
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.inference import Arms, LiveRun, device, live
from dmpo_explore.inference.device import (
    GpuUse,
    call_energy,
    describe_device,
    device_facts,
    energy_counter,
    gpu_use,
    gpu_watts,
)


def test_the_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert describe_device().startswith(f"CPU, {torch.get_num_threads()} thread")
    assert device_facts() == ("cpu", torch.get_num_threads())
    facts = SimpleNamespace(name="NVIDIA Something", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: facts.name)
    assert describe_device() == "NVIDIA Something, 80 GiB"
    assert device_facts().device == "NVIDIA Something"


class Nvml(ModuleType):
    """Two cards in NVML's order: the one that torch calls 1 is the first."""

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        return {"GPU-one": 0, "GPU-zero": 1}[uuid]

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return (312_000, 60_000)[handle]  # milliwatts

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return (5_000, 7_000)[handle]  # millijoules


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml("pynvml"))
    facts = [SimpleNamespace(name=f"NVIDIA {name}", total_memory=80 * 2**30, uuid=name) for name in ("zero", "one")]
    stand_ins: dict[str, Any] = {
        "is_available": lambda: True, "current_device": lambda: 0, "get_device_properties": facts.__getitem__,
        "get_device_name": lambda index: facts[index].name,
        "mem_get_info": lambda index: ((60 + index) * 2**30, 80 * 2**30),
    }  # fmt: skip
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


@pytest.mark.usefixtures("two_gpus")
def test_memory_power_and_energy_are_those_of_the_gpu_that_is_used() -> None:
    assert gpu_use() == gpu_use("cuda") == GpuUse("NVIDIA zero", 20 * 2**30, 80 * 2**30, 60.0)
    assert gpu_use("cuda:1") == GpuUse("NVIDIA one", 19 * 2**30, 80 * 2**30, 312.0)
    assert gpu_use("cpu") is None
    assert describe_device("cuda:1") == "NVIDIA one, 80 GiB" and describe_device("cpu").startswith("CPU, ")
    assert describe_device("mps") == "mps"
    counters = energy_counter("cuda"), energy_counter("cuda:1")
    assert [counter and counter() for counter in counters] == [7.0, 5.0]


@pytest.mark.usefixtures("two_gpus")
def test_parts_of_a_gpu_lost_ones_and_a_missing_nvml_have_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(index: int) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="MIG-a part"))
    assert energy_counter("cuda") is None and gpu_watts() is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lost)
    assert gpu_use() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_use() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_watts(0) is None


def test_energy_is_measured_in_blocks_that_a_slow_counter_can_follow() -> None:
    """NVML's counter moves ten times a second: single calls of some milliseconds would mostly use nothing."""
    now = [0.0]

    def call() -> None:  # 5 ms at 300 W
        now[0] += 0.005

    def counter() -> float:
        return 300 * math.floor(now[0] * 10) / 10

    found = call_energy(call, counter, lambda: now[0])
    assert (found.joules, found.seconds) == (pytest.approx(1.5, rel=0.1), pytest.approx(0.005))
    assert found.watts == pytest.approx(300, rel=0.1)
    assert now[0] >= device.BLOCK >= 1


@pytest.mark.parametrize("counted", [True, False])
def test_a_live_run_measures_the_energy_of_each_arm(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "BLOCK", 0.05)
    monkeypatch.setattr(live, "ENERGY_EVERY", 0.0)
    record, used = make_record(60, 3, 4), [0.0]
    policy = dx.fit_policy(record, threshold=0.5)

    def early(rows: np.ndarray, policy: dx.Policy) -> dx.InferenceResult:
        used[0] += 1.0
        outcome = dx.apply(policy, record.subset(rows))
        return dx.InferenceResult(outcome.exits, outcome.prediction, outcome.confidence)

    def full(rows: np.ndarray) -> np.ndarray:
        used[0] += 3.0
        return np.asarray(record.prediction[rows, -1])

    start = time.monotonic()
    idle = 60.0  # watts, beside what the calls use
    joules = (lambda: used[0] + idle * (time.monotonic() - start) * (not used[0])) if counted else None
    run = LiveRun(Arms(lambda rows: rows, early, full, size=20, joules=joules), record, policy, images=60)
    run.start()
    look = ended(run)
    measured = look.count.measured
    assert measured is not None and measured.early.images == 60
    assert (measured.early.joules, measured.full.joules) == ((3.0, 9.0) if counted else (None, None))
    assert look.idle_watts == (pytest.approx(idle, rel=0.2) if counted else None)
