"""The images of a training: a new run's are divided and hashed, a resumed run's are those of its manifest."""

from __future__ import annotations

import inspect
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from image_files import fill, paint
from tiny_training import CONFIG

import dmpo_explore as dx
from dmpo_explore import Config, DataConfig, Run
from dmpo_explore.data import ImageFiles, ImageSet, Pool, Source
from dmpo_explore.data.folders import class_files
from dmpo_explore.data.images import DATASETS, open_data
from dmpo_explore.data.manifest import Manifest, write_manifest
from dmpo_explore.training.train_data import hold_out, training_images
from dmpo_explore.utils.files import write_text


def begun(folder: Path, config: Config, manifest: Manifest | None) -> Run:
    """A run of which nothing but its config and its images is known."""
    assert manifest is not None
    write_text(folder / "config.json", config.to_json())
    write_manifest(folder, manifest)
    return Run(folder)


def test_a_resumed_run_keeps_its_images(tmp_path: Path) -> None:
    config = replace(CONFIG, data=DataConfig(str(fill(tmp_path / "own"))))
    hashed: list[tuple[int, int]] = []
    new = training_images(config, on_check=lambda *at: hashed.append(at))
    assert hashed == [(40, 40)] and (len(new.train), len(new.val)) == (32, 4)
    run = begun(tmp_path / "run", config, new.manifest)
    paint(tmp_path / "own" / "cat" / "more.png", 200)
    with pytest.warns(UserWarning, match=r"1 added \(cat/more\.png\)"):
        again = training_images(config, run)
    assert again.train.fingerprint == new.train.fingerprint and again.val.fingerprint == new.val.fingerprint
    (tmp_path / "own" / run.manifest.rows("train")["path"].iloc[0]).unlink()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="not what run 'run' was trained on: 1 missing"):
        training_images(config, run)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_training_opens_its_data_once_and_enters_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    library, entered = str(Path(dx.__file__).parent), Counter[tuple[str, str]]()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_OPTIMIZED and code.co_filename.startswith(library):
            entered[code.co_filename.removeprefix(library), code.co_name] += 1

    config = replace(CONFIG, data=DataConfig(str(fill(tmp_path / "own"))))
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        dx.train(config, "once")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    once = [("/data/folders.py", "inputs"), ("/data/frame.py", "_divided"), ("/data/frame.py", "looked")]
    assert [entered[place] for place in once] == [1, 1, 1]
    assert 40 < len({file for file, _ in entered}) <= 80


def grouped(table: Path, rows: list[str], *, held: bool = True) -> Config:
    """A config on a table of images with their groups."""
    table.write_text("\n".join(["path,label,group", *rows]))
    return replace(CONFIG, data=DataConfig(str(table)), model=replace(CONFIG.model, earlier_exits=held))


@pytest.mark.parametrize("turned", [False, True])
def test_whole_groups_are_held_out(tmp_path: Path, turned: bool) -> None:
    fill(tmp_path / "images")
    rows = [f"images/{name}/{i:02d}.png,{name},video {i // 2}" for name in ("cat", "dog") for i in range(20)]
    rows = [row.replace("video", "v") for row in rows[::-1]] if turned else rows
    config = grouped(tmp_path / "list.csv", rows)
    found = training_images(config)
    kept, held = hold_out(found.train, config, 2, found.groups)
    assert held is not None

    def videos(images: ImageSet) -> set[int]:
        assert isinstance(images.pixels, ImageFiles)
        return {int(images.pixels.paths[i].stem) // 2 for i in images.indices}

    assert videos(held) and videos(kept) and not videos(kept) & videos(held)


def test_whole_groups_of_a_plug_ins_files_are_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "own")
    files, labels = class_files(tmp_path / "own", ("cat", "dog"))

    def read(split: str, root: Path | None) -> Pool:
        rows = np.arange(40) % 20 < 2 if split == "test" else np.arange(40) % 20 >= 2
        paths = [file for file, row in zip(files, rows, strict=True) if row]
        return Pool(ImageFiles(paths), labels[rows], ("cat", "dog"), np.arange(40)[rows] // 2)

    monkeypatch.setitem(DATASETS, "mine", Source("Mine", "MIT", read, lambda root: tmp_path, grouped=True))
    data = DataConfig("mine", root=str(tmp_path))
    found = training_images(replace(CONFIG, data=data, model=replace(CONFIG.model, earlier_exits=True)))
    assert found.groups is not None and isinstance(found.train.pixels, ImageFiles)
    assert found.groups.tolist() == [files.index(found.train.pixels.paths[i]) // 2 for i in found.train.indices]


@pytest.mark.parametrize("held", [True, False])
def test_a_run_on_a_grouped_table_resumes_after_images_were_added(tmp_path: Path, held: bool) -> None:
    fill(tmp_path / "images", count=40)
    rows = [f"images/{name}/{i:02d}.png,{name},{name} {i // 2}" for name in ("cat", "dog") for i in range(40)]
    config = grouped(tmp_path / "list.csv", rows[:30] + rows[40:70], held=held)
    new = training_images(config)
    assert (new.groups is not None) == held
    run = begun(tmp_path / "run", config, new.manifest)
    grouped(tmp_path / "list.csv", rows)
    with pytest.warns(UserWarning, match="20 added"):
        again = training_images(config, run)
    assert again.train.fingerprint == new.train.fingerprint and repr(again.groups) == repr(new.groups)


def test_the_only_group_of_a_class_is_trained_on() -> None:
    digits = open_data(DataConfig("digits")).images("train")
    config = replace(CONFIG, model=replace(CONFIG.model, earlier_exits=True))
    groups = np.where(digits.labels == 3, -1, np.arange(len(digits)) // 2)
    kept, held = hold_out(digits, config, 2, groups)
    assert held is not None and 3 in kept.labels and 3 not in held.labels and len({*held.labels.tolist()}) == 9
    with pytest.raises(ValueError, match=r"no images can be held out: class '4' is in one group; add another group"):
        hold_out(digits, config, 2, digits.labels)
