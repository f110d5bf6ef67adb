"""Labels and columns are read by one strict rule, wherever they stand: no value is bent into a class."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from calls import call
from hypothesis import given
from hypothesis import strategies as st
from image_files import fill, paint

from dmpo_explore.config import Config, DataConfig
from dmpo_explore.data import check_data, images_of, load_images, make_manifest
from dmpo_explore.data.hugging_face import _Part
from dmpo_explore.data.labels import check_labels, is_name, whole_number, wrong_label
from dmpo_explore.data.names import ReaderName
from dmpo_explore.runs.score_files import read_scores

TEXTS = ("0.5", "1_0", "-1", "−1", "Infinity", "NaN", "١", "1e1", "+1", "9" * 30)  # as text
VALUES = (0.5, -1, float("inf"), float("nan"), True, 10**30)
SCORES = "label,prediction_1,confidence_1,entropy_1,margin_1"


@given(st.integers(0, 10**18 - 1))
def test_a_whole_number_is_itself_in_every_form(number: int) -> None:
    assert {whole_number(value) for value in (number, np.int64(number), str(number), f"{number}.0")} == {number}
    assert not is_name(str(number)) and wrong_label([number, str(number)]) is None


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(), st.none(), st.lists(st.integers())))
def test_a_label_is_a_number_or_a_name_or_refused_and_never_two_of_these(value: Any) -> None:
    number = whole_number(value)
    assert (number is not None) + is_name(value) + (wrong_label([value]) == 0) == 1
    assert number is None or (float(number) == float(value) and not isinstance(value, bool))


def test_equal_keys_of_other_types_are_looked_at_each() -> None:
    assert wrong_label([1, 1.0, True]) == 2 and wrong_label([np.True_]) == 0 and wrong_label([[1], 1]) == 0
    with pytest.raises(ValueError, match=r"mine, row 3: the label '01' is also written '1'; use one"):
        check_labels(["1", "2", "01"], "mine")


# -- every reader --


def of_csv(folder: Path, label: Any) -> None:
    rows = [f"{paint(folder / f'{i}.png', i).name},{label if i == 2 else i % 2},train" for i in range(24)]
    (folder / "list.csv").write_text("\n".join(["path,label,split", *rows]), encoding="utf-8")
    load_images(str(folder / "list.csv"), "train")


def of_parquet(folder: Path, label: Any) -> None:
    pytest.importorskip("pyarrow")
    names = [paint(folder / f"{i}.png", i).name for i in range(24)]
    labels = [label if i == 2 else type(label)(i % 2) for i in range(24)]
    pd.DataFrame({"path": names, "label": labels, "split": "train"}).to_parquet(folder / "list.parquet")
    load_images(str(folder / "list.parquet"), "train")


def of_score_table(folder: Path, label: Any) -> None:
    rows = [f"{label if i == 2 else i % 2},{i % 2},.9,.3,.8" for i in range(4)]
    (folder / "scores.csv").write_text("\n".join([SCORES, *rows]), encoding="utf-8")
    read_scores(folder / "scores.csv", flops=[1.0], quiet=True)


def of_score_array(folder: Path, label: Any) -> None:
    labels = np.array([label if i == 2 else type(label)(i % 2) for i in range(4)])
    np.savez(folder / "scores.npz", labels=labels, logits=np.ones((4, 1, 2)) * (0, 2), flops=[1.0])
    read_scores(folder / "scores.npz", quiet=True)


def of_datasets(folder: Path, label: Any) -> None:
    targets, names = [label if i == 2 else i % 2 for i in range(40)], [f"train/{i}" for i in range(40)]
    _Part("train", names, None, "image", targets, ()).class_labels(ReaderName("hfds", "made-up"))


READERS: dict[str, Callable[[Path, Any], None]] = {
    "CSV": of_csv, "Parquet": of_parquet, "scores": of_score_table, "array": of_score_array, "datasets": of_datasets,
}  # fmt: skip
PLACE = r"(row 3|image 3|train/2 of train)"
TYPED = ("Parquet", "array", "datasets")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("label", TEXTS)
def test_a_text_that_is_no_whole_number_is_refused_with_its_place(reader: str, label: str, tmp_path: Path) -> None:
    if reader == "array":
        label = f" {label}"  # texts of an array are names as they are: blanks do not make one
    with pytest.raises(ValueError, match=PLACE) as error:
        READERS[reader](tmp_path, label)
    assert label.strip()[:9] in str(error.value)


@pytest.mark.parametrize("reader", TYPED)
@pytest.mark.parametrize("label", VALUES)
def test_a_value_that_is_no_whole_number_is_refused_with_its_place(reader: str, label: Any, tmp_path: Path) -> None:
    if label == 10**30 and reader in ("Parquet", "array"):
        pytest.skip("no such type there")
    alone = {"array": "labels has the type bool", "Parquet": "row 1: the label False"}  # a column of them
    place = alone.get(reader, PLACE) if isinstance(label, bool) else PLACE
    with pytest.raises(ValueError, match=place):
        READERS[reader](tmp_path, label)


@pytest.mark.parametrize("reader", READERS)
def test_a_whole_number_is_read_by_every_reader(reader: str, tmp_path: Path) -> None:
    READERS[reader](tmp_path, 1)


def test_two_spellings_of_a_number_are_not_two_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"list.csv, row 3: the label '1.0' is also written '1'; use one"):
        of_csv(tmp_path, "1.0")


# -- columns --


@pytest.mark.parametrize("heads", ["path,label,label", "path,path,label", "path,label,Label", "Path,path,label"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_is_there_twice_is_refused(heads: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        path.write_text(f"{heads}\na.png,0,1\n")
    else:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table([["a.png"], ["0"], ["1"]], names=heads.split(",")), path)
    with pytest.raises(ValueError, match=r"two columns|the columns '(Path|label)' and|Multiple matches"):
        images_of(DataConfig(str(path)), "train")


# -- tables of other forms --


def kaggle(root: Path) -> DataConfig:
    """A table as in Kaggle's dog breeds: ids without a suffix, images in a folder beside it."""
    breeds = ("boxer", "pug")
    rows = [f"{paint(root / 'train' / f'{i:03x}.jpg', 500 * i).stem},{breeds[i % 2]}" for i in range(40)]
    (root / "labels.csv").write_text("\n".join(["id,breed", *rows]))
    return DataConfig(
        str(root / "labels.csv"), path_column="id", label_column="breed", suffix=".jpg", image_dir="train"
    )


def test_a_table_with_other_columns_a_suffix_and_a_folder(tmp_path: Path) -> None:
    data = kaggle(tmp_path)
    images = images_of(data, "train")
    assert images.class_names == ("boxer", "pug") and len(images) == 32 and images[0].shape == (8, 8, 3)
    done = call(
        "data", tmp_path / "labels.csv", "--path-column", "id", "--label-column", "breed", "--suffix", ".jpg",
        "--image-dir", "train",
    )  # fmt: skip
    assert "STOPS" not in done.stdout and "40 images, 2 classes" in done.stdout
    paths = make_manifest(data).rows("test")["path"]
    assert all(path.startswith("train/") and (tmp_path / path).is_file() for path in paths)
    with pytest.raises(ValueError, match=r"no column 'path' \(it has id, breed\).*--path-column"):
        images_of(DataConfig(data.name), "train")
    with pytest.raises(ValueError, match=r"suffix='.jpg' \(--suffix\) is of a table of images"):
        images_of(DataConfig(str(tmp_path / "train"), suffix=".jpg"), "train")


def test_a_config_keeps_them(tmp_path: Path) -> None:
    config = Config(kaggle(tmp_path))
    assert Config.from_json(config.to_json()) == config and config.to_arguments()[-2:] == ["--image-dir", "train"]


# -- regular files --

PIPES = """
import os, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
from dmpo_explore.config import DataConfig
from dmpo_explore.data.check import check_data
from dmpo_explore.data.images import images_of, open_data
from dmpo_explore.data.looks import hashes_of
from dmpo_explore.runs.score_files import image_list
from dmpo_explore.runs.score_files import read_scores

root, kind = Path(sys.argv[1]), sys.argv[2]

def make(name):
    path = root / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    return path

def refused(call, *args):
    try:
        call(*args)
    except (OSError, ValueError) as error:
        print(error)
    else:
        sys.exit(f"{call} {args} was read")

z = make("own/cat/z.png")
found = check_data(DataConfig(str(root / "own")))
print(*(finding.text for finding in found.findings if finding.stops))
assert check_data(DataConfig(str(root / "own"), skip_broken=True)).ready
rows = [f"own/{c}/{i:02d}.png,{c}" for c in ("cat", "dog") for i in range(20)]
(root / "list.csv").write_text("\\n".join(["path,label", *rows, "own/cat/z.png,cat"]))
print(*(finding.text for finding in check_data(DataConfig(str(root / "list.csv"))).findings if finding.stops))
refused(image_list, root / "own" / "cat", 21)
refused(lambda: images_of(DataConfig(str(make("table.csv"))), "train"))
assert not check_data(DataConfig(str(root / "table.csv"))).ready
refused(lambda: images_of(DataConfig(str(root / "own"), class_names=str(make("names.csv"))), "train"))
refused(image_list, make("paths.csv"), 1)
refused(read_scores, make("scores.csv"))
assert hashes_of(open_data(DataConfig(str(root / "own"))).kind, ["cat/z.png"]) == [""]
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on POSIX alone")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_nothing_but_a_regular_file_is_opened(kind: str, tmp_path: Path) -> None:
    """In a process of its own, with a time limit: opening a pipe waits for ever."""
    fill(tmp_path / "own")
    done = subprocess.run(
        [sys.executable, "-c", PIPES, str(tmp_path), kind], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not a regular file") == 7
    assert "z.png is not a regular file. Replace or remove it, or leave out" in done.stdout


def test_a_scores_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(ValueError, match=r"scores\.csv is a folder, not a file"):
        read_scores(tmp_path / "scores.csv")
    assert not check_data(DataConfig(str(tmp_path / "scores.csv"))).ready
