"""The ledger: every input of every form of data is used or left out for a reason, and what does not add up stops."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from calls import call
from dmpo_explore.data.image_data import LINKED, LedgerLine, ledger_values, read_ledger
from hypothesis import given
from hypothesis import strategies as st
from image_files import fill, paint, shard
from tiny import tiny_options

from dmpo_explore.config import DataConfig
from dmpo_explore.data import check_data, data_stamp, load_images, open_data
from dmpo_explore.data.folders import FolderData


def lines(data: DataConfig) -> dict[str, str]:
    found = check_data(data)
    assert found.ready, found.findings
    return {place: line.described() for place, line in found.ledger.items()}


def divided(root: Path) -> DataConfig:
    for i, split in enumerate(("Train", "test")):
        fill(root / split, count=12, first=100 * i)
    (root / "README.md").touch()
    (root / "Train" / "cat" / "notes.txt").touch()
    (root / "Train" / "cat" / ".hidden.png").touch()
    paint(root / "Train" / "cat" / "more" / "deep" / "1.png", 250)
    paint(root / "test" / "beside.png", 251)
    return DataConfig(str(root))


def test_folders_with_everything_that_is_no_image(tmp_path: Path) -> None:
    assert lines(divided(tmp_path)) == {
        "train": "26 found: 21 train, 4 val; left out: 1 of another format",
        "test": "25 found: 24 test; left out: 1 outside the class folders",
        "beside the splits": "1 found: none used; left out: 1 outside the class folders",
    }


def test_an_undivided_folder_some_drawn_and_some_broken(tmp_path: Path) -> None:
    fill(tmp_path / "own")
    (tmp_path / "own" / "cat" / "bad.png").write_bytes(b"no image")
    (tmp_path / "own" / "cat" / "a.heic").touch()
    data = DataConfig(str(tmp_path / "own"), train_size=10, skip_broken=True)
    text = "42 found: 10 train, 3 val, 4 test; left out: 1 of another format, 1 broken or too large, 23 not drawn"
    assert lines(data) == {"all": f"{text} (train_size)"}


def test_a_known_data_set_with_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpo_explore.data.known.CALTECH_IMAGES", 40)
    folder = fill(tmp_path / "caltech101" / "101_ObjectCategories", ("ant", "bass"))
    (folder / "ant" / "03.png").write_bytes(b"no image")
    found = check_data(DataConfig("caltech101", root=str(tmp_path), skip_broken=True))
    assert found.ready and len(found.left_out) == 1 and sum(line.found for line in found.ledger.values()) == 40
    assert [line.left_out for line in found.ledger.values() if line.left_out] == [{"broken or too large": 1}]
    stamp = data_stamp(found.data)
    (folder / "ant" / "03.png").write_bytes(b"no image either")
    assert stamp and data_stamp(found.data) not in (stamp, "")


def test_a_linked_subfolder_is_reported_and_a_linked_class_is_read(tmp_path: Path) -> None:
    fill(tmp_path / "own"), fill(tmp_path / "far", ("owl",), first=60)
    (tmp_path / "own" / "cat" / "more").symlink_to(tmp_path / "far" / "owl")
    (tmp_path / "own" / "owl").symlink_to(tmp_path / "far" / "owl")
    data = DataConfig(str(tmp_path / "own"))
    assert lines(data)["all"].startswith("61 found: ") and lines(data)["all"].endswith("left out: 1 " + LINKED)
    (finding,) = [finding for finding in check_data(data).findings if finding.check == "linked"]
    assert finding.places == ("cat/more",) and not finding.stops and "not read" in finding.text


@pytest.mark.slow
@given(st.lists(st.sampled_from(["cat/a.png", "cat/b/c.png", "dog/n.txt", "x.png", "dog/.h/q.png", "dog/é.png"])))
def test_the_sums_of_any_tree_agree(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "own", count=6)
        for i, name in enumerate(names):
            paint(Path(folder) / "own" / f"{name}.png", 100 + i).rename(Path(folder) / "own" / name)
        data = DataConfig(str(Path(folder) / "own"))
        found = check_data(data)
        assert found.ledger["all"].agrees and found.ledger["all"].found == open_data(data).recounted()["all"]
        seen = sum(line.found for line in found.ledger.values())
        assert seen == sum(not path.name.startswith(".") for path in (Path(folder) / "own").rglob("*") if path.is_file()
                           and ".h" not in path.parts)  # fmt: skip


def test_what_does_not_add_up_stops_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "own")
    monkeypatch.setattr(FolderData, "inputs", lambda *_: {"all": 41})
    done = call("data", tmp_path / "own", status=1)
    assert "STOPS (inputs): all: 41 found: 32 train, 4 val, 4 test; these do not add up" in done.stdout
    with pytest.raises(ValueError, match="An input is neither used nor left out"):
        check_data(DataConfig(str(tmp_path / "own"))).require()


def test_a_ledger_of_other_counts_is_none() -> None:
    line = LedgerLine(3, {"train": 2, "test": 1}, {})
    assert read_ledger(ledger_values({"all": line}), {"train": 2}) == {"all": line}
    with pytest.raises(ValueError, match="its ledger counts"):
        read_ledger(ledger_values({"all": line}), {"train": 3})


# -- shards --


def test_a_list_of_other_numbers_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", 0, 20)
    about = {"filenames": ["a.tar"], "shard_lengths": [20], "num_samples": 20}
    (tmp_path / "_info.json").write_text(json.dumps({"splits": {"train": about}}))
    assert len(load_images(f"wds/{tmp_path}", "train")) == 12
    (tmp_path / "_info.json").write_text(json.dumps({"splits": {"train": about | {"num_samples": 21}}}))
    with pytest.raises(ValueError, match=r"lists 21 samples of train \(num_samples\), and its shards hold 20"):
        load_images(f"wds/{tmp_path}", "train")


# -- names --


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_some_systems_take_for_one_are_one_note(tmp_path: Path) -> None:
    fill(tmp_path / "own")
    paint(tmp_path / "own" / "cat" / "00.PNG", 90)
    paint(tmp_path / "own" / "dog" / "caf\u00e9.png", 91), paint(tmp_path / "own" / "dog" / "cafe\u0301.png", 92)
    (finding,) = [found for found in check_data(DataConfig(str(tmp_path / "own"))).findings if found.check == "names"]
    assert finding.places == ("cat/00.PNG = cat/00.png", "dog/cafe\u0301.png = dog/caf\u00e9.png")
    assert not finding.stops and finding.text.startswith("2 names differ in case or Unicode form alone")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_class_folder_whose_name_is_no_text_stops_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    fill(tmp_path / "own", count=30)
    os.rename(tmp_path / "own" / "cat", os.fsencode(tmp_path / "own") + b"/caf\xe9")
    options = tiny_options(data=tmp_path / "own", epochs=1)
    line = call("train", *options, "--name", "mine", "--device", "cpu", status=1).stderr.splitlines()[-1]
    assert "a class folder whose name is no UTF-8: b'caf\\xe9'; rename it" in line
    assert not (tmp_path / "runs" / "mine").exists()
