"""The command on distribution shift, with synthetic records in place of the model's pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dmpo_explore.data.torch_corruptions import CORRUPTIONS, STRENGTHS
from synthetic import make_record

import dmpo_explore as dx
import shift
from _common import results


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def passes(run: dx.Run, folder: Path, rows: slice) -> Iterator[tuple[str, int, dx.ExitRecord]]:
        calls.append((run.name, folder, rows))
        yield from ((name, s, make_record(80, 4, 5, seed=10 * s)) for name in CORRUPTIONS for s in STRENGTHS)

    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr(shift, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(shift, "record_corrupted", passes)
    monkeypatch.setattr(shift, "write_figure", lambda *_: sys.stdout.write("figure\n"))
    for split in ("val", "test"):
        flops = (200.0, 400.0, 600.0, 800.0)
        made = make_record(600, 4, 5, seed=len(split), split=split, flops=flops)
        made.save(tmp_path / "made" / "records" / split)
    (tmp_path / "made" / "config.json").write_text(dx.Config().to_json())
    assert shift.main(["made", "--images", "80", "--folder", str(tmp_path / "kept"), "--streams", "2"]) == 0
    assert calls == [("made", tmp_path / "kept", slice(0, 80))]
    table = pd.read_csv(tmp_path / "results" / "shift.csv")
    names = list(shift.policies(dx.load_run("made").record("val")))
    assert len(table) == (1 + 20) * len(names) and set(table["policy"]) == set(names)
    assert (table[table["strength"] == 0]["images"] == 80).all()
    text, online = capsys.readouterr().out.split("\n\n")
    assert online.splitlines()[-2:] == ["figure", "figure"]  # a missing browser loses nothing
    played = pd.read_csv(tmp_path / "results" / "shift-online.csv")
    way = pd.read_csv(tmp_path / "results" / "shift-online-way.csv")
    kinds = list(shift.bandits(dx.load_run("made").record("val")))
    assert len(played) == 21 * len(kinds) and set(way["policy"]) == set(kinds) and set(way["strength"]) == {5}
    assert len(online.splitlines()) == 2 + (1 + 2 * len(CORRUPTIONS)) * len(kinds) + 2
    lines = text.splitlines()
    assert len(lines) == 2 + 1 + 2 * len(CORRUPTIONS) and lines[0].startswith("| corruption | strength |")


def test_results_are_whole_files(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [0.123456789, 1e-9]})
    path = results.write_table("one", table, tmp_path / "new")
    assert path.read_text() == "a,b\n1,0.123457\n2,1e-09\n"
    assert list((tmp_path / "new").iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.browser
def test_a_figure_is_a_picture(browser: object, tmp_path: Path) -> None:
    import plotly.graph_objects as go
    from PIL import Image

    path = results.write_figure("one", go.Figure(go.Scatter(x=[0, 1], y=[1, 0])), 200, 100, tmp_path)
    with Image.open(path) as image:
        assert image.size == (400, 200)
