"""The device is described, and describing it is what imports torch."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from dmpo_explore.inference.device import GpuUse, describe_device, device_facts, energy_counter, gpu_use, gpu_watts


def test_the_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        assert describe_device().startswith(f"CPU, {torch.get_num_threads()} thread")
    facts = SimpleNamespace(name="NVIDIA Something", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    assert describe_device() == "NVIDIA Something, 80 GiB"


def test_the_facts_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_facts() == ("cpu", torch.get_num_threads())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Something")
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
def test_a_part_of_a_gpu_has_no_energy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="MIG-a part"))
    assert energy_counter("cuda") is None and gpu_watts() is None


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_has_gone_away_has_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(index: int) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lost)
    assert gpu_use() is None


def test_without_nvml_there_is_no_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_use() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_watts(0) is None
