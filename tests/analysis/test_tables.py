"""A run's model card states the numbers of its records, and of no record that is of other weights or damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import dmpo_explore as dx
from dmpo_explore.analysis.tables import HEADING, card_results, write_card_results

BUNDLED = ("demo", "demo-naive", "demo-single", "demo-cnn", "demo-cnn-single")


@pytest.fixture
def run(tmp_path: Path) -> dx.Run:
    """A run of one's own, to spoil."""
    shutil.copytree(dx.load_run("demo-cnn").path, tmp_path / "mine")
    return dx.load_run(tmp_path / "mine")


@pytest.mark.parametrize("name", BUNDLED)
def test_cards_of_bundled_runs_state_what_their_records_hold(name: str) -> None:
    run = dx.load_run(name)
    test, rows = run.record("test"), run.card().split(HEADING)[1].splitlines()
    for k in range(test.n_exits):
        right = np.sum(test.prediction[:, k] == test.labels) / len(test.labels)
        (row,) = (line for line in rows if line.startswith(f"| {k + 1} |"))
        assert row.endswith(f" {right:.4f} |")
    if test.n_exits > 1:
        policy = dx.fit_policy(run.record("calibration"), "confidence", flops=0.30)
        summary = dx.apply(policy, test).summary()
        (row,) = (line for line in rows if line.startswith("| confidence-30% |"))
        assert f"| calibration | {summary['accuracy']:.4f} | {summary['flops_fraction']:.4f} |" in row
    else:
        assert not any("confidence" in line for line in rows)


def test_the_section_is_replaced_and_the_rest_stays(run: dx.Run) -> None:
    card = run.card()
    (run.path / "card.md").write_text(card.replace("| 1 | 0.", "| 1 | 7."), encoding="utf-8")
    write_card_results(run)
    head, results = run.card().split(HEADING)
    assert "| 1 | 7." in head and "| 1 | 7." not in results and run.card().endswith("|\n")
    (run.path / "card.md").write_text(head, encoding="utf-8")
    write_card_results(run)
    assert run.card() == f"{head}{HEADING}{results}"


def test_a_damaged_record_and_a_missing_card_are_left_out(run: dx.Run) -> None:
    (run.path / "records/test/labels.npy").write_bytes(b"nothing")
    text = card_results(run)
    assert "val: " in text and "test" not in text and "confidence-" not in text
    (run.path / "card.md").unlink()
    write_card_results(run)
    assert not (run.path / "card.md").exists()


def test_a_run_without_records_has_no_section(run: dx.Run) -> None:
    shutil.rmtree(run.path / "records")
    assert card_results(run) == ""


def test_what_follows_the_section_stays(run: dx.Run) -> None:
    write_card_results(run)
    card = run.card()
    (run.path / "card.md").write_text(f"{card}\n## Licence\n\nOurs.\n\n## More\n\nLast.\n", encoding="utf-8")
    write_card_results(run)
    assert run.card() == f"{card}\n## Licence\n\nOurs.\n\n## More\n\nLast.\n"
