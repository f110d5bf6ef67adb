"""Records of any model's answers: equal to scores computed by hand, in every form that batches may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dmpo_explore as dx
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.runs.score_files import record_logits

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=2, size=(30, 3, 4)).astype(np.float32)
LABELS = RNG.integers(0, 4, 30)
FLOPS = (1e9, 2e9, 3e9)


def batches(size: int = 8) -> list[tuple[Any, Any]]:
    return [(LOGITS[i : i + size], LABELS[i : i + size]) for i in range(0, len(LABELS), size)]


def test_scores_and_exits_are_those_computed_by_hand(tmp_path: Path) -> None:
    record_logits(iter(batches()), flops=FLOPS, class_names="abcd", data="mine", model="m").save(tmp_path / "test")
    record = dx.ExitRecord.load(tmp_path / "test")
    p = np.exp(LOGITS.astype(np.float64)) / np.exp(LOGITS.astype(np.float64)).sum(axis=2, keepdims=True)
    ranked = np.sort(p, axis=2)[..., ::-1]
    np.testing.assert_array_equal(record.prediction, LOGITS.argmax(axis=2))
    np.testing.assert_allclose(record.confidence, ranked[..., 0], atol=1e-6)
    np.testing.assert_allclose(record.margin, ranked[..., 0] - ranked[..., 1], atol=1e-6)
    np.testing.assert_allclose(record.entropy, -(p * np.log(p)).sum(axis=2), atol=1e-5)
    np.testing.assert_array_equal(record.logits, LOGITS.astype(np.float16))
    np.testing.assert_array_equal(record.labels, LABELS)
    outcome = dx.apply(ConfidencePolicy((0.6,)), record)
    exits = [next((k for k in range(2) if ranked[i, k, 0] >= 0.6), 2) for i in range(30)]
    right = np.mean([LOGITS[i, k].argmax() == LABELS[i] for i, k in enumerate(exits)])
    assert outcome.exits.tolist() == exits
    summary = outcome.summary()
    assert summary["accuracy"] == pytest.approx(right)
    assert summary["flops_fraction"] == pytest.approx(np.mean([FLOPS[k] for k in exits]) / FLOPS[2])
    meta = record.meta
    assert (meta.data, meta.split, meta.model, meta.class_names) == ("mine", "test", "m", tuple("abcd"))
    assert (meta.exit_blocks, meta.flops, meta.reference_flops) == ((1, 2, 3), FLOPS, FLOPS[2])
    assert dx.runs.check_folder(tmp_path / "test").valid


@pytest.mark.parametrize("form", ["torch", "bfloat16", "list of exits", "tuple of exits", "lists", "one batch"])
def test_batches_of_every_form_give_the_same_record(form: str) -> None:
    rounded = torch.from_numpy(LOGITS).bfloat16() if form == "bfloat16" else torch.from_numpy(LOGITS)
    expected = record_logits([(rounded.float().numpy(), LABELS)], flops=FLOPS)
    made: dict[str, Any] = {
        "torch": lambda x, y: (torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)),
        "bfloat16": lambda x, y: (torch.from_numpy(x).bfloat16(), torch.from_numpy(y)),
        "list of exits": lambda x, y: ([*torch.from_numpy(x).unbind(1)], y),
        "tuple of exits": lambda x, y: (tuple(x[:, k] for k in range(3)), y),
        "lists": lambda x, y: (x.tolist(), y.tolist()),
        "one batch": lambda x, y: (x, y),
    }
    record = record_logits((made[form](x, y) for x, y in batches(30 if form == "one batch" else 7)), flops=FLOPS)
    for name in ("prediction", "confidence", "entropy", "margin", "logits"):
        np.testing.assert_array_equal(getattr(record, name), getattr(expected, name))


def test_what_may_be_given_and_left_out() -> None:
    how: dict[str, Any] = {"reference_flops": 2.5e9, "split": "val", "exit_blocks": (4, 8, 12)}
    record = record_logits(batches(), flops=np.array(FLOPS), keep_logits=False, **how)
    assert record.logits is None and record.meta.class_names == ("0", "1", "2", "3")
    assert (record.meta.reference_flops, record.meta.split, record.meta.exit_blocks) == (2.5e9, "val", (4, 8, 12))
    assert record.flops_fraction[2] == pytest.approx(1.2)


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "none": ([], {}, "no batches to record"),
    "no images": ([(np.zeros((0, 3, 4)), [])], {}, r"batch 1: logits have shape \(0, 3, 4\)"),
    "two axes": ([(LOGITS[:, 0], LABELS)], {}, r"batch 1: logits have shape \(30, 4\); they must be \(images, exits,"),
    "unequal exits": ([([LOGITS[:, 0], LOGITS[:, 1, :3]], LABELS)], {}, "batch 1: exits with logits of shapes"),
    "fewer labels": ([(LOGITS, LABELS[:9])], {}, r"batch 1: labels of shape \(9,\) for logits of 30 images"),
    "other exits": ([(LOGITS, LABELS), (LOGITS[:, :2], LABELS)], {}, "batch 2: logits .* the batches before"),
    "NaN": ([(LOGITS, LABELS), (LOGITS * np.nan, LABELS)], {}, "batch 2: NaN or infinite logits at image 0"),
    "too large": ([(LOGITS * 1e6, LABELS)], {}, "those of a record are at most 65,504"),
    "label 9": ([(LOGITS, LABELS * 0 + 9)], {}, "the batches: label 9 in row 1 is not a class"),
    "two FLOPs": (batches(), {"flops": (1.0, 2.0)}, "2 FLOPs for 3 exits"),
    "falling FLOPs": (batches(), {"flops": (3.0, 2.0, 1.0)}, "must be positive and rise"),
    "two names": (batches(), {"class_names": ("a", "b")}, "2 class_names for logits of 4 classes"),
    "falling blocks": (batches(), {"exit_blocks": (3, 2, 1)}, r"exits=\[3, 2, 1\] must be a rising list"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error(case: str) -> None:
    given, how, text = BAD[case]
    with pytest.raises(ValueError, match=text):
        record_logits(given, **{"flops": FLOPS} | how)
