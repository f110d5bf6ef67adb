"""The commands of a comparison are for a shell."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from dmpo_explore_app.services import comparison, comparison_code

import dmpo_explore as dx


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
