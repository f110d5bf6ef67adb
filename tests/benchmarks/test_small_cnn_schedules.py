"""The schedules' benchmark: every arm has five trainings on disk, and a training repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import small_cnn_schedules as bench
from dmpo_explore.course.small_cnn import Images


def test_every_arm_has_five_trainings() -> None:
    assert sorted(path.stem for path in bench.RESULTS.iterdir()) == sorted(
        f"{arm}-s{seed}" for arm in bench.ARMS for seed in range(5)
    )
    for arm in ("whole", "uniform"):
        found = np.load(bench.RESULTS / f"{arm}-s0.npz")
        for stages, compute in bench.static_compute().items():
            assert found[f"used at static {stages}"] < compute + 0.01  # other images than those that fit the threshold
            assert len(found[f"at static {stages}"]) == 5000


def test_a_training_repeats_and_is_read_at_the_compute_of_the_static_nets() -> None:
    torch.manual_seed(0)
    parts = [Images(torch.randn(60, 1, 14, 14), torch.arange(60) % 10) for _ in range(3)]
    first, again = (bench.outcomes("whole", 1, *parts) for _ in range(2))
    assert set(first) == {f"exit {k}" for k in range(1, 7)} | {"compute"} | {
        f"{what} static {k}" for k in bench.STATIC for what in ("at", "used at")
    }
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_the_weights_of_linear_sum_6_sum_to_6() -> None:
    assert all(sum(bench.linear_sum_6(epoch, 8, 6)) == pytest.approx(6) for epoch in range(8))
