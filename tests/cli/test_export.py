"""`dmpo-explore export`, of `cli.export`. What is in the graphs: tests/inference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from calls import call, fails, listing


def test_a_place_and_a_known_precision_are_needed(runs: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    assert "Missing option '--out'" in fails("export", "mine")
    assert "precision='int4' must be float32 or int8" in fails("export", "mine", "--out", place, "--precision", "int4")
    assert not place.exists()


@pytest.mark.usefixtures("quick")
def test_an_export_that_is_whole_is_kept_and_any_other_is_an_error(runs: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    words = ["export", "mine", "--threshold", 0.4, "--out", place]
    assert json.loads(call(*words, "--json").stdout)["kept"] is False
    made = listing(place)
    again = call(*words).stdout
    assert again.startswith(f"{place}: ") and again.endswith("; it was there and is kept\n") and listing(place) == made
    assert "replace the export in it with --force" in fails(*words[:2], "--threshold", 0.5, "--out", place)
    assert "replace the export in it with --force" in fails(*words, "--precision", "int8")
    shutil.copytree(runs / "mine", runs / "twin")
    assert "replace the export in it with --force" in fails("export", "twin", *words[2:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dmpo_explore.inference.torch_export.__version__", "0.0.1")
        assert "replace the export in it with --force" in fails(*words)
    (place / "stage-1.onnx").write_bytes(b"changed")
    assert "replace the export in it with --force" in fails(*words)
    call(*words, "--force")
    assert json.loads(call(*words, "--json").stdout)["kept"] is True


@pytest.mark.usefixtures("quick")
def test_only_the_single_graph_is_made_where_the_stages_are_there(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a"
    words = ["export", "mine", "--threshold", 0.4, "--out", place]
    call(*words)
    made, joined = listing(place), []
    monkeypatch.setattr("dmpo_explore.inference.onnx_single.join_stages", joined.append)
    assert "kept" not in call(*words, "--single").stdout
    assert joined == [place] and listing(place) == made


@pytest.mark.usefixtures("quick")
def test_the_next_export_removes_what_a_killed_one_left(runs: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    for name in (".a.0123abcd.part", ".b.0123abcd.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name).with_suffix(".lock").touch()
    call("export", "mine", "--threshold", 0.4, "--out", place)
    assert sorted(path.name for path in tmp_path.glob("*a*")) == [".b.0123abcd.lock", ".b.0123abcd.part", "a"]
    (place / ".single.onnx.0123abcd.part").touch()  # of a single graph
    (place / ".single.onnx.0123abcd.lock").touch()
    call("export", "mine", "--threshold", 0.4, "--out", place, "--force")
    assert not list(place.glob(".*"))


@pytest.mark.usefixtures("quick")
def test_a_service_is_added_to_the_export_that_is_there(runs: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    words = ["export", "mine", "--threshold", 0.4, "--out", place]
    call(*words)
    made = (place / "stage-1.onnx").stat().st_mtime_ns
    assert "kept" not in call(*words, "--serve").stdout
    assert (place / "serve.py").is_file() and "## As a service" in (place / "README.md").read_text("utf-8")
    assert (place / "stage-1.onnx").stat().st_mtime_ns == made
    assert "kept" in call(*words, "--serve").stdout and "kept" in call(*words).stdout
    call(*words, "--force")
    assert not (place / "serve.py").exists()
    patience = ["export", "mine", "--out", tmp_path / "b", "--policy", "patience", "--threshold", 1, "--serve"]
    assert "'patience' cannot be served" in fails(*patience) and not (tmp_path / "b").exists()


@pytest.mark.usefixtures("quick")
def test_a_budget_is_held(runs: Path, tmp_path: Path) -> None:
    place = tmp_path / "a"
    words = ["export", "mine", "--threshold", 0.4, "--out", place, "--hold"]
    answer = json.loads(call(*words, "--json").stdout)
    assert answer["policy"] == json.loads((place / "policy.json").read_text("utf-8"))
    assert answer["policy"]["policy"] == "confidence" and answer["policy"]["running"]["window"] == 500
    assert "policy confidence with held shares, threshold 0.4; it was there and is kept" in call(*words).stdout
    assert "choose another" in fails(*words[:-1])
    from_file = ["export", "mine", "--policy", place / "policy.json", "--hold", "--out", tmp_path / "b"]
    assert json.loads(call(*from_file, "--json").stdout)["policy"] == answer["policy"]
    assert "'patience' compares no score" in fails(
        *words[:2], "--policy", "patience", "--threshold", 1, *words[4:], "--force"
    )
    certified = ["export", "mine", "--risk", "too_early", "--epsilon", 0.9, "--out", tmp_path / "c", "--hold"]
    assert "the bound on the risk, which does not hold any more" in call(*certified).stderr
