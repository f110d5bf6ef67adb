"""timm's names of data sets: told from folders, kept as absolute paths, and moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmpo_explore.config import DataConfig
from dmpo_explore.data.images import open_data
from dmpo_explore.data.names import ReaderName, reader_name


def located(name: str, **more: str) -> DataConfig:
    return open_data(DataConfig(name, **more)).located()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["photos", "torch/mnist", "hfds/", "a/hfds/b", "digits", "list.csv"])
def test_other_names_are_none(name: str) -> None:
    assert reader_name(name) is None


def test_a_folder_of_that_name_is_ambiguous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wds" / "cats").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="'wds/cats' is timm's name of a data set, and a folder here; write ./wds/ca"):
        reader_name("wds/cats")
    assert reader_name("./wds/cats") is None
    assert located("./wds/cats").name == str(tmp_path / "wds" / "cats")


def test_a_place_is_absolute_and_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    for reader in ("hfds", "wds"):
        data = open_data(located(f"{reader}/a"))
        assert data.config.name == f"{reader}/{tmp_path / 'a'}" and data.own and data.folder == tmp_path / "a"
        assert data.located() == data.config
        for place in (str(tmp_path / "b"), f"{reader}/b"):
            assert data.moved(place).name == f"{reader}/{tmp_path / 'b'}"
        with pytest.raises(FileNotFoundError, match="no folder .*/c"):
            data.moved("c")
    published = located("hfds/beans", root="a")
    assert published.root == str(tmp_path / "a") and open_data(published).moved("b").root == str(tmp_path / "b")
    assert located("hfds/beans").name == "hfds/beans"
    assert ReaderName("hfds", "beans").folder is None
