"""`dmpo-explore push`, of `cli.publish`, against a fake of the Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calls import call, fails
from fake_hub import FakeHub


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


def test_errors_are_one_line(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "must be hf://OWNER/NAME" in fails("push", "demo-cnn", "demo")
    assert "unknown split" in fails("push", "demo-cnn", "me/demo", "--split", "tset")
    assert "no such repository" in fails("evaluate", "hf://me/none")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "hf auth login" in fails("push", "demo-cnn", "me/demo")
