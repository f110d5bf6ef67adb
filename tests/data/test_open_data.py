"""Where the images of a run lie, in every form in which they may be given."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_files import fill

from dmpo_explore.config import DataConfig
from dmpo_explore.data.images import images_of, open_data
from dmpo_explore.data.names import data_dir


def test_one_folder_for_each_split(tmp_path: Path) -> None:
    for part in ("training pictures", "held"):
        fill(tmp_path / part, count=12)
    data = DataConfig(train_dir=str(tmp_path / "training pictures"), test_dir=str(tmp_path / "held"))
    opened = open_data(data)
    assert opened.own and opened.folder == tmp_path and opened.splits == ("train", "val", "test")
    assert [len(opened.images(split)) for split in ("train", "val", "test")] == [20, 4, 24]
    assert opened.given_rule == "train is training pictures/, test is held/"
    again = opened.located()
    assert again.name == str(tmp_path) and open_data(again).located() == again == opened.config
    with pytest.raises(ValueError, match="give either data='digits' or folders of splits"):
        open_data(DataConfig("digits", train_dir=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        images_of(DataConfig(train_dir=str(tmp_path / "nowhere")), "train")


def test_paths_become_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "own")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    data = open_data(DataConfig("link", root="x", class_names="names.csv")).located()
    assert (data.name, data.root, data.class_names) == tuple(str(tmp_path / p) for p in ("own", "x", "names.csv"))
    assert open_data(DataConfig("digits")).located() == DataConfig("digits")
    misspelt = open_data(DataConfig("fashion"))
    assert misspelt.located().name == "fashion"  # the error names it as it was typed
    for ask in (lambda: misspelt.splits, misspelt.fetch, lambda: open_data(DataConfig("no.csv")).splits):
        with pytest.raises(ValueError, match=r"unknown data '(fashion|no\.csv)'.*or of a table \(\.csv, \.parquet\)"):
            ask()


def test_a_misspelt_folder_or_table_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "photos")
    (tmp_path / "list.csv").write_text("path,label\n")
    for typed, meant in (("photo", "photos"), ("lists.csv", "list.csv")):
        with pytest.raises(ValueError, match=rf"no folder or table .*{typed}\. Did you mean '.*{meant}'\?"):
            _ = open_data(DataConfig(str(tmp_path / typed))).splits


@pytest.mark.parametrize("name", ["~no-such-user/photos", "~no-such-user/list.csv", "wds/~no-such-user/shards"])
def test_the_home_of_an_unknown_user_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"'~no-such-user/\w+(\.csv)?': ~ names no home folder; write \./~no-such"):
        _ = open_data(DataConfig(name)).splits
    with pytest.raises(ValueError, match="names no home folder"):
        open_data(DataConfig("digits", class_names="~no-such-user/names.csv")).located()


def test_moved_to_another_kind_of_place(tmp_path: Path) -> None:
    own = DataConfig(str(fill(tmp_path / "own")))
    (tmp_path / "list.csv").write_text("path,label\n")
    with pytest.raises(ValueError, match="is no folder; the run was trained on images in a folder"):
        open_data(own).moved(tmp_path / "list.csv")
    with pytest.raises(ValueError, match="the run was trained on digits; give the folder that holds"):
        open_data(DataConfig("digits")).moved(tmp_path / "list.csv")
    assert open_data(DataConfig("digits")).moved(tmp_path).root == str(tmp_path)
    gone = open_data(DataConfig(str(tmp_path / "old" / "list.csv")))
    assert gone.moved(tmp_path).name == str(tmp_path / "list.csv")


def test_known_data_sets_are_looked_for_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_DATA", str(tmp_path))
    assert data_dir(None) == tmp_path and data_dir(tmp_path / "x") == tmp_path / "x"
    monkeypatch.setenv("DMPO_EXPLORE_DATA", " ")
    assert data_dir(None).name == "data"
