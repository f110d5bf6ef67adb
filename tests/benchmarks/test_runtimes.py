"""The benchmark of runtimes: one that is missing is a row, and the page has the kept table."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from tiny import recorded_run, tiny_config

import runtimes
from _common.results import RESULTS, with_part

PAGE = runtimes.PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_onnxruntime_agrees_and_what_is_not_installed_is_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded_run(tmp_path / "runs", tiny_config(200, {"exits": 3}, epochs=1))
    options = ["--run", str(run.path), "--images", "12", "--flops", "0.9", "--node", str(tmp_path)]
    assert runtimes.main(options) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == [name for name, _ in runtimes.ROWS]
    for name, version, _, *same in rows:
        there = name not in runtimes.NODE and find_spec(runtimes.RUNTIMES[name][0]) is not None
        assert same == (["12 of 12"] * 2 if there else ["not installed"]) and bool(version) == there


def test_the_page_has_the_kept_table() -> None:
    table = pd.read_csv(RESULTS / "runtimes.csv", keep_default_na=False)
    assert with_part(PAGE, "runtimes", runtimes.as_markdown(table)) == PAGE
    assert [(row["runtime"], row["form"]) for row in table.to_dict("records")] == runtimes.ROWS


def test_a_row_without_answers_says_why() -> None:
    row = {"runtime": "a", "version": "", "form": "stages", "images": 5, "same_exits": "", "same_labels": ""}
    assert runtimes.as_markdown(pd.DataFrame([row | {"note": "not installed"}])).endswith("| not installed |  |")
    with pytest.raises(ValueError, match="has no part between <!-- a -->"):
        with_part("a page", "a", "b")
