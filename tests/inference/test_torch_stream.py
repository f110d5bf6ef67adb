"""A stream of batches leaves at the exits that its record says, refilled or not, from whatever gives images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from spread_model import B, K, labels, loader, made, pictures, policies, recorded, rows_seen
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from dmpo_explore.inference.torch_engine import infer, stream
from dmpo_explore.policies.rules import ConfidencePolicy


@pytest.mark.parametrize(
    ("bypass", "refill"),
    [
        ("conv", False),
        ("ladder", True),
        pytest.param("conv", True, marks=pytest.mark.slow),
        pytest.param("ladder", False, marks=pytest.mark.slow),
    ],
)
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
    with pytest.raises(ValueError, match="images is empty"):
        stream(model, [], policy)


def test_a_stream_of_unknown_length() -> None:
    class Endless(IterableDataset[Tensor]):
        def __iter__(self) -> Iterator[Tensor]:
            return iter(pictures(6))

    told: list[tuple[int, int]] = []
    policy = ConfidencePolicy((0.0,))
    out = stream(made(), DataLoader(Endless(), 4), policy, progress=lambda done, total: told.append((done, total)))
    assert len(out.exit) == 6 and told[-1] == (6, 0)
