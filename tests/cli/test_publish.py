"""`dmpo-explore publish` and `push`: pages, Spaces and runs on a fake of the Hub. The pages: tests/web."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calls import call, fails
from fake_hub import FakeHub


@pytest.mark.usefixtures("quick")
def test_the_command_writes_both_kinds(runs: Path, tmp_path: Path) -> None:
    words = ["publish", "mine", "--threshold", 0.4, "--out"]
    answer = json.loads(call(*words, tmp_path / "a", "--json").stdout)
    assert answer["path"] == str(tmp_path / "a") and not answer["kept"]
    assert answer["bytes"] == (tmp_path / "a" / "index.html").stat().st_size
    assert "it was there and is kept" in call(*words, tmp_path / "a").stdout
    (tmp_path / "empty").mkdir()
    assert "it was there" not in call(*words, tmp_path / "empty").stdout
    model = [*words, tmp_path / "b", "--model", "--weights", "float32", "--pictures", "--licence", "MIT"]
    said = call(*model).stdout
    assert f"python -m http.server 8000 --directory {tmp_path / 'b'}" in said
    assert (tmp_path / "b" / "stages" / "stage-1.onnx").is_file()
    assert (tmp_path / "b" / "pictures").is_dir()
    assert "it was there and is kept" in call(*model).stdout
    assert "replace it with --force" in fails(*words, tmp_path / "b", "--model")


def test_a_target_of_a_single_exit_is_full_depth_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "single.html"
    done = call("publish", "fashion-single", "--flops", 0.3, "--no-pictures", "--out", path)
    assert "has a single exit: all images exit there, whatever the target" in done.stderr
    assert "91.34 %" in path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_card_of_a_space_has_the_licence_that_was_stated(runs: Path, hub: FakeHub) -> None:
    call("publish", "mine", "--threshold", 0.4, "--model", "--weights", "float32", "--licence", "MIT", "--hub", "me/m")
    _, files = hub.files("spaces/me/m", "main") or ("", {})
    assert b"\nlicense: mit\n" in files["README.md"]


@pytest.mark.slow
def test_a_page_is_pushed_as_a_static_space(hub: FakeHub, tmp_path: Path) -> None:
    done = call("publish", "demo", "--flops", 0.3, "--hub", "me/demo", "--json")
    answer = json.loads(done.stdout)
    assert answer["address"] == f"{hub.address}/spaces/me/demo" and "path" not in answer
    _, files = hub.files("spaces/me/demo", "main") or ("", {})
    assert len(files["index.html"]) == answer["bytes"] and b"Early exit, explained" in files["index.html"]
    said = call("publish", "demo", "--flops", 0.3, "--hub", "me/demo", "--out", tmp_path / "kept").stdout
    assert said.splitlines()[-1] == answer["address"]
    assert (tmp_path / "kept" / "index.html").read_bytes() == files["index.html"]
    assert b"\nlicense:" not in files["README.md"]  # none was stated


# -- runs --


@pytest.mark.slow
def test_the_dry_run_writes_what_a_push_sends(hub: FakeHub, tmp_path: Path) -> None:
    how = ("--license", "mit", "--split", "test", "--split", "val")
    done = call("push", "demo-cnn", "me/demo", "--dry-run", tmp_path / "repo", *how, "--json")
    assert hub.asked == []
    answer = json.loads(done.stdout)
    files = {p.relative_to(tmp_path / "repo").as_posix(): p.read_bytes() for p in (tmp_path / "repo").rglob("*.*")}
    assert answer["files"] == {name: len(data) for name, data in sorted(files.items())}
    address = call("push", "demo-cnn", "me/demo", *how).stdout.strip()
    commit, sent = hub.files("me/demo", "main") or ("", {})
    assert address == f"hf://me/demo@{commit}"
    assert {name: data for name, data in sent.items() if name != ".gitattributes"} == files
    done = call("evaluate", address, "--flops", 0.5)
    assert "| demo-cnn | 50 % " in done.stdout
    assert "nothing was pushed" in call("push", "demo-cnn", "me/demo", "--dry-run", tmp_path / "more").stdout
