"""A run's images against its manifest: whatever happens to the folder, no number is silently another's."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import fill, paint
from run_folders import CONFIG, make_run

from dmpo_explore.config import DataConfig
from dmpo_explore.data import DATASETS, Pool, open_data
from dmpo_explore.data.manifest import make_manifest, write_manifest
from dmpo_explore.runs import Run, load_run
from dmpo_explore.runs.run_data import check_classes, check_images, move_data, other_images


def run_on(data: DataConfig, path: Path) -> Run:
    """A run folder as a training of these data leaves it, without weights."""
    config = replace(CONFIG, data=open_data(data).kind.located())
    make_run(path, config)
    write_manifest(path, make_manifest(config.data))
    return Run(path)


def numbers(run: Run, split: str) -> list[list[int]]:
    """What a record would be made of: label and colour of every image, in order."""
    check_images(run, [split])
    images = run.split_images(split)
    return [[int(label), *image[0, 0].tolist()] for label, image in zip(images.labels, images, strict=True)]


def one_of(folder: Path, i: int) -> Path:
    files = sorted(folder.rglob("*.png"))
    return files[i % len(files)]


def swap_classes(folder: Path, i: int) -> None:
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (folder / old).rename(folder / new)


def split_up(folder: Path, i: int) -> None:
    (folder / "Train").mkdir()
    (folder / "cat").rename(folder / "Train" / "cat")


Event = Callable[[Path, int], object]
EVENTS: tuple[Event, ...] = (
    lambda folder, i: paint(folder / ("cat", "dog", "bird")[i % 3] / f"new {i}.png", 200 + i),
    lambda folder, i: one_of(folder, i).unlink(),
    lambda folder, i: one_of(folder, i).rename(folder / ("cat", "dog")[i % 2] / f"renamed {i}.png"),
    lambda folder, i: (folder / "cat").rename(folder / "zebra"),
    lambda folder, i: paint(one_of(folder, i), 240 + i % 5),
    lambda folder, i: folder.rename(folder.with_name(f"elsewhere {i}")),
    swap_classes,
    split_up,
)


@pytest.mark.slow
@given(events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 30)), min_size=1, max_size=3))
@settings(max_examples=25)
def test_the_numbers_are_the_original_ones_or_there_is_one_clear_error(
    events: list[tuple[Event, int]],
) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = fill(Path(root) / "own", count=6)
        run = run_on(DataConfig(str(folder)), Path(root) / "runs" / "mine")
        before = {split: numbers(run, split) for split in ("train", "val", "test")}
        for event, i in events:
            try:
                event(folder, i)
            except (OSError, ZeroDivisionError):
                continue  # that is gone already
        for split, expected in before.items():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    found = numbers(Run(run.path), split)
            except (ValueError, FileNotFoundError) as error:
                assert str(folder) in str(error) and "mine" in str(error)
            else:
                assert found == expected


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return fill(tmp_path / "own")


@pytest.fixture
def run(own: Path, tmp_path: Path) -> Run:
    return run_on(DataConfig(str(own)), tmp_path / "runs" / "mine")


def test_added_images_are_in_no_split_and_said_once(own: Path, run: Run) -> None:
    before = numbers(run, "test")
    for i in range(10):
        paint(own / "cat" / f"a{i}.png", 100 + i)
    with pytest.warns(UserWarning, match=r"10 added \(cat/a0\.png, .* and 7 more\); they are in no split") as seen:
        assert numbers(run, "test") == before
    assert len(seen) == 1


def test_an_image_that_is_gone_is_named(own: Path, run: Run) -> None:
    assert run.manifest is not None
    path = run.manifest.rows("test")["path"].iloc[1]
    (own / path).unlink()
    with pytest.raises(ValueError, match=f"not what run 'mine' was trained on: 1 missing \\({path}\\)"):
        check_images(run, ["test"])
    with pytest.raises(FileNotFoundError, match="1 of 4 test images are not in"):
        run.image_set("test")


def test_a_renamed_class_is_one_error(own: Path, run: Run) -> None:
    (own / "cat").rename(own / "zebra")
    with pytest.raises(ValueError, match=r"2 renamed \(cat/\d\d\.png is now zebra/\d\d\.png, "):
        check_images(run, ["test"])


def test_without_a_manifest_classes_are_compared_by_name(own: Path, run: Run) -> None:
    (run.path / "manifest.csv").unlink()
    old = Run(run.path)
    with pytest.warns(UserWarning, match="has no manifest .* cannot be checked"):
        check_images(old)
    assert old.class_names == ("cat", "dog")
    fill(own, ("zebra",))
    with pytest.raises(ValueError, match=r"\(2 classes then, 3 now; new: zebra\)"):
        check_classes(old, old.split_images("test"))


def test_other_images_get_the_run_s_numbers_of_classes(own: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("cat,zebra\ndog,ant\n")
    run = run_on(DataConfig(str(own), class_names=str(names)), tmp_path / "runs" / "named")
    assert run.class_names == ("zebra", "ant")
    other = DataConfig(str(fill(tmp_path / "other", ("ant", "zebra"))))
    here, there = other_images(run, "test", other), open_data(other).images("test")
    assert here.class_names == run.class_names and there.class_names == ("ant", "zebra")
    np.testing.assert_array_equal(here.labels, 1 - there.labels)
    with pytest.raises(ValueError, match=r"in another order \(first zebra, now ant\)"):
        check_classes(run, there)


def test_a_run_finds_its_images_from_any_folder(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "other" / "own", first=100)
    monkeypatch.chdir(own.parent)
    run = run_on(DataConfig("own"), tmp_path / "runs" / "mine")
    absolute = run_on(DataConfig(str(own)), tmp_path / "runs" / "same")
    monkeypatch.chdir(tmp_path / "other")
    assert run.config.data.name == str(own) and run.config == absolute.config
    assert numbers(run, "test") == numbers(absolute, "test")
    assert run.split_images("test").fingerprint == absolute.split_images("test").fingerprint


def test_a_moved_folder_is_found_again_only_if_it_fits(own: Path, run: Run, tmp_path: Path) -> None:
    before, config = numbers(run, "test"), (run.path / "config.json").read_text()
    with pytest.raises(ValueError, match=r"40 changed \("):
        move_data(run, str(fill(tmp_path / "wrong", first=100)))
    with pytest.raises(FileNotFoundError, match="no folder"):
        move_data(run, "nowhere")
    assert (run.path / "config.json").read_text() == config
    own.rename(tmp_path / "new")
    with pytest.raises(FileNotFoundError, match="own, where the images of run 'mine' lay; .* --data FOLDER"):
        check_images(run)
    assert move_data(run, os.path.relpath(tmp_path / "new")).config.data.name == str(tmp_path / "new")
    assert numbers(load_run("mine"), "test") == before
    shutil.rmtree(tmp_path / "new")


def test_arrays_of_a_known_data_set_are_compared_before_their_place_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    run, other = run_on(DataConfig("digits"), tmp_path / "runs" / "digits"), DATASETS["digits"]
    before = (run.path / "config.json").read_text()

    def changed(split: str, root: Path | None) -> Pool:
        pool = other.read(split, root)
        return pool._replace(labels=pool.labels[::-1])

    monkeypatch.setitem(DATASETS, "digits", replace(other, read=changed))
    with pytest.raises(ValueError, match="digits train is not what the run was trained with"):
        move_data(run, str(tmp_path / "elsewhere"))
    assert (run.path / "config.json").read_text() == before
    monkeypatch.setitem(DATASETS, "digits", other)
    assert move_data(run, str(tmp_path / "elsewhere")).config.data.root == str(tmp_path / "elsewhere")


def test_folders_of_splits_and_tables_move_too(tmp_path: Path) -> None:
    for part, first in (("a", 0), ("b", 100)):
        fill(tmp_path / "old" / part, count=12, first=first)
    dirs = DataConfig(train_dir=str(tmp_path / "old" / "a"), test_dir=str(tmp_path / "old" / "b"))
    rows = [f"a/{name}/{i:02d}.png,{name}" for name in ("cat", "dog") for i in range(12)]
    (tmp_path / "old" / "list.csv").write_text("path,label\n" + "\n".join(rows))
    runs = [
        run_on(dirs, tmp_path / "runs" / "dirs"),
        run_on(DataConfig(str(tmp_path / "old" / "list.csv")), tmp_path / "runs" / "table"),
    ]
    before = [numbers(run, "test") for run in runs]
    (tmp_path / "old").rename(tmp_path / "new")
    assert [numbers(move_data(run, str(tmp_path / "new")), "test") for run in runs] == before
    assert load_run("dirs").config.data.test_dir == str(tmp_path / "new" / "b")
