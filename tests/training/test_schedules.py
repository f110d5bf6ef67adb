"""Schedules: the release's published values, end points, resampling, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmpo_explore.training.schedules import END, SCHEDULES, START, at_depths, loss_weights, resample

RELEASE_EPOCHS = (0, 25, 50, 75, 99)
# those that plan every epoch's weights; neighbours add others
PLANNED = [name for name, schedule in SCHEDULES.items() if schedule.__module__.startswith("dmpo_explore.training.")]
CROSSING = ("linear", "cosine", "exponential", "switch")


@pytest.mark.parametrize(
    ("exit_index", "values"),
    [(0, (0.01, 0.39, 0.76, 1.14, 1.50)), (3, (2.00, 1.56, 1.125, 0.69, 0.27))],
)
def test_linear_gives_the_release_values(exit_index: int, values: tuple[float, ...]) -> None:
    got = [loss_weights("linear", epoch, 100, 4)[exit_index] for epoch in RELEASE_EPOCHS]
    assert got == pytest.approx(values, abs=0.005)


def test_linear_sum_stays_near_3_02() -> None:
    for epoch in range(100):
        assert sum(loss_weights("linear", epoch, 100, 4)) == pytest.approx(3.02, abs=0.006)


def test_linear_exits_one_and_four_cross_at_epoch_61() -> None:
    early = [w[0] > w[3] for w in (loss_weights("linear", epoch, 100, 4) for epoch in range(100))]
    assert early.index(True) == 62 and not any(early[:62]) and all(early[62:])  # equal at 61.1


@pytest.mark.parametrize("name", CROSSING)
@pytest.mark.parametrize("epochs", [2, 6, 100])
def test_ends_are_exact(name: str, epochs: int) -> None:
    assert loss_weights(name, 0, epochs, 4) == pytest.approx(START, abs=1e-12)
    assert loss_weights(name, epochs - 1, epochs, 4) == pytest.approx(END, abs=1e-12)


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential"])
def test_one_epoch_counts_as_halfway(name: str) -> None:
    assert loss_weights(name, 0, 1, 4) == pytest.approx(loss_weights(name, 1, 3, 4))
    assert min(loss_weights(name, 0, 1, 4)) > 0.09


def test_cosine_values() -> None:
    quarter = (1 - np.cos(np.pi / 4)) / 2
    expected = [(1 - quarter) * a + quarter * b for a, b in zip(START, END, strict=True)]
    assert loss_weights("cosine", 1, 5, 4) == pytest.approx(expected)
    assert loss_weights("cosine", 2, 5, 4) == pytest.approx(loss_weights("linear", 2, 5, 4))
    assert loss_weights("cosine", 1, 5, 4)[0] < loss_weights("linear", 1, 5, 4)[0]


def test_exponential_is_geometric() -> None:
    steps = np.array([loss_weights("exponential", epoch, 5, 4) for epoch in range(5)])
    np.testing.assert_allclose(steps[1:] / steps[:-1], np.tile((np.array(END) / START) ** 0.25, (4, 1)))


@pytest.mark.parametrize(
    ("ratio", "epochs", "first"), [(0.5, 6, 3), (0.5, 5, 3), (0.55, 100, 55), (0.0, 4, 0), (1.0, 4, 4), (0.25, 8, 2)]
)
def test_switch_turns_once(ratio: float, epochs: int, first: int) -> None:
    weights = [loss_weights("switch", epoch, epochs, 4, phase_ratio=ratio) for epoch in range(epochs)]
    assert weights == [START] * first + [END] * (epochs - first)


def test_mixed_trains_the_last_exit_first_and_then_all_alike() -> None:
    weights = [loss_weights("mixed", epoch, 6, 3, phase_ratio=1 / 3) for epoch in range(6)]
    assert weights == [(0, 0, 1)] * 2 + [(1, 1, 1)] * 4


@pytest.mark.parametrize(("name", "weights"), [("deep-only", START), ("early-only", END), ("uniform", (1, 1, 1, 1))])
def test_controls_are_constant(name: str, weights: tuple[float, ...]) -> None:
    assert [loss_weights(name, epoch, 5, 4) for epoch in range(5)] == [weights] * 5


@pytest.mark.parametrize("n_exits", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("name", PLANNED)
def test_any_number_of_exits(name: str, n_exits: int) -> None:
    for epoch in range(6):
        weights = loss_weights(name, epoch, 6, n_exits)
        assert len(weights) == n_exits and all(type(w) is float and 0 <= w <= 2 for w in weights) and sum(weights) > 0
        assert n_exits > 1 or weights == pytest.approx((1,))


def test_resampling_values() -> None:
    assert resample(START, 1).tolist() == [1]
    assert resample(START, 2).tolist() == [0.01, 2.0]
    assert resample(START, 3) == pytest.approx([0.01, 0.505, 2.0])
    assert resample(START, 4).tolist() == list(START)
    assert resample(START, 6) == pytest.approx([0.01, 0.01, 0.208, 0.802, 1.4, 2.0])
    twelve = resample(END, 12)
    assert twelve[[0, -1]].tolist() == [1.5, 0.2675]
    assert twelve[1] == pytest.approx(1.5 - 0.5 * 3 / 11)
    assert twelve[10] == pytest.approx(0.2675 - 0.02 * 3 / 11)


def test_linear_by_depth_is_the_release_at_its_own_depths_and_goes_by_depth_elsewhere() -> None:
    for epoch in (0, 33, 99):
        assert loss_weights("linear-by-depth", epoch, 100, 4) == loss_weights("linear", epoch, 100, 4)
    depths = [block / 12 for block in (3, 4, 5, 6, 8, 12)]
    first, last = (loss_weights("linear-by-depth", epoch, 100, 6, depths=depths) for epoch in (0, 99))
    assert first == pytest.approx([0.01, 0.01, 0.01, 0.01, 0.67, 2.0])
    assert last == pytest.approx([1.5, 1.5 - 0.5 / 3, 1.5 - 1 / 3, 1.0, 1 - 0.7525 * 2 / 3, 0.2675])
    assert at_depths(START, (0.1, 1.0)).tolist() == [0.01, 2.0]  # before the release's first exit
    assert loss_weights("linear", 0, 100, 6, depths=depths) == loss_weights("linear", 0, 100, 6)


@given(st.sampled_from(CROSSING), st.integers(2, 60), st.integers(2, 12), st.data())
def test_weight_moves_from_deep_to_early(name: str, epochs: int, n_exits: int, data: st.DataObject) -> None:
    epoch = data.draw(st.integers(0, epochs - 2))
    now, later = (loss_weights(name, e, epochs, n_exits) for e in (epoch, epoch + 1))
    assert later[0] >= now[0] - 1e-12 and later[-1] <= now[-1] + 1e-12
    assert min(now) >= 0.01 - 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "liner"}, r"unknown schedule 'liner'. Did you mean 'linear'\?.*uniform"),
        ({"epoch": 3}, "epoch=3"),
        ({"epoch": -1}, "epoch=-1"),
        ({"epochs": 0}, "epochs=0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {"name": "linear", "epoch": 0, "epochs": 3, "n_exits": 4}
    with pytest.raises(ValueError, match=message):
        loss_weights(**(defaults | arguments))


def test_which_schedules_change_the_sum_of_the_weights() -> None:
    """benchmarks/EVIDENCE.md names them: the gradient's norm, which is clipped, grows with the sum."""
    for name in PLANNED:
        for n_exits in (4, 6, 12):
            sums = [sum(loss_weights(name, epoch, 21, n_exits)) for epoch in range(21)]
            most = {"mixed": n_exits, "exponential": 2.2, "linear-by-depth": 1.5}.get(name, 1.04)
            least = {"mixed": n_exits, "exponential": 1.7}.get(name, 1)
            assert least <= max(sums) / min(sums) <= most, (name, n_exits)
