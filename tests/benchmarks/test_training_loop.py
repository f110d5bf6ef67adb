"""The benchmark of a training step: its page, its rows, what waits for data, and a tiny run of every part."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

import training_loop as bench


def test_the_page_is_that_of_the_kept_result() -> None:
    found = json.loads(bench.RESULT.read_text(encoding="utf-8"))
    page = bench.PAGE.read_text(encoding="utf-8")
    assert bench.with_tables(page, found) == page


def test_rows_take_the_place_of_those_of_their_recipe() -> None:
    kept = {"machine": {}, "overhead": [{"recipe": "tiny", "ratio": 1}, {"recipe": "fashion", "ratio": 2}]}
    found = {"machine": {"cpu": "new"}, "overhead": [{"recipe": "fashion", "ratio": 3}]}
    both = bench.merged(kept, found)
    assert [(row["recipe"], row["ratio"]) for row in both["overhead"]] == [("tiny", 1), ("fashion", 3)]
    assert both["machine"] == {"cpu": "new"} and both["waiting"] == []


def test_waiting_is_the_time_in_the_loader_alone() -> None:
    class Slow:
        def __iter__(self) -> Iterator[int]:
            for i in range(3):
                time.sleep(0.02)
                yield i

    loader = bench.Timed(Slow())
    start, seen = time.perf_counter(), []
    for i in loader:
        seen.append(i)
        time.sleep(0.05)
    assert seen == [0, 1, 2] and 0.04 <= loader.waited <= loader.whole - 0.1 <= time.perf_counter() - start - 0.15


@pytest.mark.slow
def test_every_part_runs_small(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "write_json", None)
    clip: Any = bench.nn.utils.clip_grad_norm_
    small = ["--recipes", "tiny", "--rounds", "1", "--steps", "2", "--images", "40"]
    assert bench.main(small) == 0
    text = capsys.readouterr().out
    assert text.count("| tiny ") == 2 + 2 + 4  # overhead, layout, with and without workers, four epochs
    assert bench.nn.utils.clip_grad_norm_ is clip
