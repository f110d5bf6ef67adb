"""`dmpo-explore export`: graphs or a page, of `cli.export`. What is in them: tests/inference, tests/web."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from calls import call, fails

from dmpo_explore.cli.export import export


def test_a_folder_of_one_kind_is_needed(runs: Path, tmp_path: Path) -> None:
    assert export.__doc__ and "--web" in export.__doc__
    both = ["--out", tmp_path / "a", "--web", tmp_path / "b"]
    for words, begin in (([], "give a folder: "), (both, "give one folder, not two: ")):
        assert f"{begin}--out DIR for ONNX graphs, or --web DIR for a page" in fails("export", "mine", *words)
    for option in (["--vendor"], ["--weights", "int8"], ["--licence", "MIT"], ["--no-pictures"]):
        assert "cannot be combined; leave out --" in fails("export", "mine", "--out", tmp_path / "a", *option)
    assert not (tmp_path / "a").exists()


def test_a_precision_is_of_graphs(runs: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    assert "precision='int4' must be float32 or int8" in fails("export", "mine", "--out", place, "--precision", "int4")
    assert "leave out --precision" in fails("export", "mine", "--web", place, "--precision", "int8")
    assert not place.exists()


def test_what_is_typed_reaches_the_page(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def page(run: Any, folder: Path, policy: Any, **how: Any) -> Path:
        seen.update(how, run=run.name, thresholds=policy.thresholds)
        how["progress"]("stages", 1, 2)
        folder.mkdir()
        (folder / "page.json").write_text("{}")
        return folder

    monkeypatch.setattr("dmpo_explore.web.export.export_web", page)
    words = ["--threshold", 0.4, "--vendor", "--weights", "int8", "--pictures", "--licence", "MIT", "--force"]
    answer = json.loads(call("export", "mine", "--web", tmp_path / "page", *words, "--json").stdout)
    del seen["progress"]
    assert seen == {
        "run": "mine", "thresholds": (0.4,), "vendor": True, "weights": "int8", "pictures": True, "licence": "MIT",
        "force": True,
    }  # fmt: skip
    assert answer["path"] == str(tmp_path / "page") and answer["bytes"] == 2
    (tmp_path / "page" / "page.json").unlink()
    (tmp_path / "page").rmdir()
    said = call("export", "mine", "--web", tmp_path / "page", "--threshold", 0.4).stdout
    assert f"python -m http.server 8000 --directory {tmp_path / 'page'}" in said
