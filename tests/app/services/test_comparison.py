"""Runs compared at a budget: their arithmetic, and the commands and links that lead on."""

from __future__ import annotations
import json
import shlex
import shutil
from pathlib import Path
from dmpo_explore_app.services import comparison, comparison_code
import dmpo_explore as dx
from urllib.parse import parse_qs, urlsplit
import pytest
from dmpo_explore_app.components import comparison_panels
from dmpo_explore_app.services import comparison
from dmpo_explore_app.state import targets



def test_a_split_is_quoted(runs: Path, tmp_path: Path) -> None:
    split, sides = "it's; touch hacked", []
    for name in ("four", "one"):
        record = shutil.copytree(runs / name, tmp_path / name) / "records" / "test"
        meta = json.loads((record / "meta.json").read_text())
        (record / "meta.json").write_text(json.dumps(meta | {"split": split}))
        record.rename(record.with_name(split))
        sides.append(comparison.side(dx.load_run(tmp_path / name), split, "confidence", comparison.Wanted(0.5)))
    lines = comparison_code.command_line(sides, split).splitlines()
    assert len(lines) == 2
    for words in map(shlex.split, lines):
        assert words[words.index("--split") + 1] == split


@pytest.mark.parametrize(("budget", "expected"), [(0.5e-6, 50.0), (1.2e-6, 90.0), (0.1e-6, None)])
def test_a_link_holds_the_target_as_one_image_offers_it(runs: Path, budget: float, expected: float | None) -> None:
    """Full depth of the run has 90 % of the plain backbone's FLOPs, exit 1 has 30 %."""
    run = dx.load_run("four")
    side = comparison.side(run, "test", "confidence", comparison.Wanted(budget))
    address = parse_qs(urlsplit(comparison_panels.link(side, 7)).query)
    assert address["image"] == ["7"] and float(address["threshold"][0]) == side.point.policy.thresholds[0]
    if expected is None:
        assert "budget" not in address
    else:
        low, high = targets.offers(run, "confidence")["budget"]
        assert low <= float(address["budget"][0]) == expected <= high
