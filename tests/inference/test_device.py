"""The device is described, and describing it is what imports torch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from dmpo_explore.inference.device import GpuUse, describe_device, device_facts, gpu_use


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


def test_a_gpu_s_memory_and_power_where_the_driver_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_use() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60 * 2**30, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Something")
    monkeypatch.setattr(torch.cuda, "power_draw", lambda: 312_000)  # milliwatts
    assert gpu_use() == GpuUse("NVIDIA Something", 20 * 2**30, 80 * 2**30, 312.0)

    def absent() -> int:
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed or it can't be imported.")

    monkeypatch.setattr(torch.cuda, "power_draw", absent)
    assert gpu_use() == GpuUse("NVIDIA Something", 20 * 2**30, 80 * 2**30, None)
