"""The forecast beside what was reached: kept forecasts, means over trainings, ranks; one forecast in small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import dmpo_explore as dx
import forecast
from _common.rows import Rows
from _third import protocol
from dmpo_explore.data import DATASETS
from dmpo_explore.training.schedules import SCHEDULES

ROW = {"images": 1000, "enough": 8, "blocks": 12, "low": 0.2, "high": 0.5, "exits": "3 12", "seconds": 60.0}


@pytest.fixture
def _forget() -> Iterator[None]:
    yield
    for name in protocol.SETS:
        DATASETS.pop(f"third-{name}", None)
    for name in ("third-constant", "third-reversed"):
        SCHEDULES.pop(name, None)


@pytest.mark.usefixtures("_forget")
def test_kept_forecasts_stand_beside_the_mean_of_the_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [forecast.PARTS_OF_STUDY[letter] for letter in forecast.PARTS]
    kept = [
        {"set": name, "backbone": part.base.model.backbone, "share": 0.2 + 0.1 * rank} | ROW
        for part in parts
        for rank, name in enumerate(part.sets)
    ]
    pd.DataFrame(kept).to_csv(tmp_path / "forecast.csv", index=False)
    rows = Rows(tmp_path / "third.parquet")
    for rank, name in enumerate(parts[0].sets[:4]):
        for seed in (0, 1):
            row = {"exit_6": 0.9, "share_drop": 0.8 - 0.1 * rank + 0.02 * seed, "accuracy_drop": 0.88}
            rows.add(name, f"dmpo-s{seed}", parts[0].base, row, {})
    drawn = []
    monkeypatch.setattr(forecast, "forecast_of", None)  # every forecast is kept: none is made
    monkeypatch.setattr(forecast, "write_figure", lambda name, figure, *_: drawn.append(figure))
    assert forecast.main(["--results", str(tmp_path)]) == 0
    found = pd.read_csv(tmp_path / "forecast.csv")
    assert found["reached"][:4].tolist() == pytest.approx([0.81, 0.71, 0.61, 0.51])
    assert found["lost"][0] == pytest.approx(0.02) and found["trainings"].tolist()[:5] == [2, 2, 2, 2, 0]
    assert "4 models: -1.00" in capsys.readouterr().out and len(drawn[0].data[1].x) == 4


def test_the_page_shows_the_kept_table() -> None:
    lines = forecast.lines_of(pd.read_csv(forecast.RESULTS / "forecast.csv"))
    assert "\n".join(lines) in forecast.PAGE.read_text(encoding="utf-8")


def test_a_forecast_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "third-digits", DATASETS["digits"])
    row = forecast.forecast_of("digits", dx.ModelConfig("test_vit", "random", 32, channels=8, bypass_width=8))
    assert row["backbone"] == "test_vit" and row["low"] <= row["share"] <= row["high"] and row["seconds"] > 0
