"""Runs are found by name and path, listed, and new names are checked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from run_folders import CONFIG, make_run

from dmpo_explore.runs.store import list_runs, load_run, new_run_path, runs_root


def test_a_run_is_found_by_name_and_by_path(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine.parent)
    for way in ("mine", str(mine), mine, "./mine", Path("mine")):
        run = load_run(way)
        assert (run.name, run.path, run.config) == ("mine", mine.resolve(), CONFIG)


def test_ones_own_run_wins_over_a_bundled_one(mine: Path, tmp_path: Path) -> None:
    for name in ("mine", "demo"):
        make_run(tmp_path / "bundled" / name)
    assert load_run("mine").path == mine.resolve()
    assert load_run("demo").path == (tmp_path / "bundled" / "demo").resolve()
    assert list_runs() == ["demo", "mine"]


def test_only_whole_runs_are_listed(mine: Path) -> None:
    (mine.parent / "empty").mkdir()
    make_run(mine.parent / ".mine.part")
    (mine.parent / "file").write_text("")
    assert list_runs() == ["mine"]


def test_an_unknown_run_lists_the_valid_ones(mine: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown run 'mime'. Did you mean 'mine'\? Valid: mine .*looked for in"):
        load_run("mime")
    with pytest.raises(FileNotFoundError, match="other/mine is not a run folder"):
        load_run("other/mine")
    (mine / "config.json").unlink()
    with pytest.raises(ValueError, match=r"Valid: \(none\)"):
        load_run("mine")


def test_the_root_is_the_environments_or_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert runs_root() == tmp_path / "runs"
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", "")
    assert runs_root() == Path("runs")


def test_a_new_name_gets_a_path_and_nothing_is_made(tmp_path: Path) -> None:
    assert new_run_path("new-1.b_C") == tmp_path / "runs" / "new-1.b_C"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "a\\b", "/abs", ".hidden", "a b", "ä", "a\n", "x" * 101, "C:x"]
)
def test_names_that_climb_or_hide_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"run name .* must be 1 to 100 letters"):
        new_run_path(name)


def test_an_existing_run_needs_force(mine: Path) -> None:
    with pytest.raises(FileExistsError, match=r"run 'mine' exists .*--force"):
        new_run_path("mine")
    assert new_run_path("mine", force=True) == mine
    (mine.parent / "empty").mkdir()
    assert new_run_path("empty") == mine.parent / "empty"


OWN = [
    "config.json",
    "checkpoint.pt",
    "manifest.csv.gz",
    "timings.json",
    "search.json",
    ".DS_Store",
    "mine/events.out.tfevents.1.host.2.0",
    "records/test/meta.json",
    "records/test/scores/entropy.npy",
    "records/.val.partial/state.json",
    "records/.test.0123abcd.part",
]
FOREIGN = [
    "notes.md",
    "config.json.bak",
    "records/notes.txt",
    "records/test/x.csv",
    "records/test/scores/more/x.npy",
    "mine/x.csv",
]


@pytest.mark.parametrize("foreign", ["", *FOREIGN])
def test_force_replaces_a_run_whose_every_file_is_the_tool_s(mine: Path, foreign: str) -> None:
    for name in [*OWN, *[foreign] * bool(foreign)]:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).touch()
    if not foreign:
        assert new_run_path("mine", force=True) == mine
    else:
        with pytest.raises(FileExistsError, match=re.escape(f"holds more than a run ({foreign}); it is not replaced")):
            new_run_path("mine", force=True)


def test_force_replaces_runs_only(mine: Path) -> None:
    (mine.parent / "photos").mkdir()
    (mine.parent / "photos" / "beach.jpg").write_text("")
    (mine.parent / "file").write_text("")
    (mine.parent / "link").symlink_to(mine)
    for name in ("photos", "file", "link"):
        with pytest.raises(FileExistsError):
            new_run_path(name, force=True)


def test_links_out_of_the_root_are_not_listed(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(mine, tmp_path / "elsewhere" / "secret")
    (mine.parent / "out").symlink_to(tmp_path / "elsewhere" / "secret")
    (mine.parent / "in").symlink_to(mine)
    (mine.parent / "loop").symlink_to("loop")
    assert "out" not in list_runs() and {"in", "mine"} <= set(list_runs())
