"""Random edits of a run folder, a few of those that `scripts/bench faults` makes."""

from __future__ import annotations

import pytest

from _faults import edited_folders


def test_edited_folders_are_read_or_refused() -> None:
    counts = edited_folders.run(8, seed=3)
    assert counts["wrong"] == 0, counts["examples"]
    assert counts["same"] + counts["other"] + counts["refused"] == 8 and counts["refused"] > 1


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("1", "same"),
        ("2", "other"),
        (ValueError("labels.npy is short"), "refused"),
        (ValueError("something is short"), "record: ValueError"),
        (OSError("labels.npy" * 1000), "record: OSError"),
        (KeyError("labels.npy"), "record: KeyError"),
        (TimeoutError("labels.npy took 3 s"), "record: TimeoutError"),
    ],
)
def test_a_verdict(answer: object, verdict: str) -> None:
    assert edited_folders.judged({"record": answer}, {"record": "1"}, ["labels.npy"]).startswith(verdict)
