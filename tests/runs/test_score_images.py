"""Images for rows of scores: a folder or a CSV file of paths; what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmpo_explore.runs.score_files import image_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("b/2.png", "a/1.png", "c.jpg")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (50 * i, 0, 0)).save(path)
    return tmp_path / "images"


def red(pixels: np.ndarray) -> int:
    return int(pixels[0, 0, 0])


def test_a_folder_is_taken_sorted_by_path(folder: Path) -> None:
    images = image_list(folder, 3)
    assert [path.name for path in images.paths] == ["1.png", "2.png", "c.jpg"]
    assert [red(images[0]), red(images[1])] == [50, 0]


@pytest.mark.parametrize("head", ["", "path\n", "\ufeffpath\n"])
def test_a_file_of_paths_is_taken_in_its_order(folder: Path, tmp_path: Path, head: str) -> None:
    (tmp_path / "paths.csv").write_text(f"{head}images/b/2.png\n{folder}/a/1.png\nimages/b/2.png\n", encoding="utf-8")
    images = image_list(tmp_path / "paths.csv", 3)
    assert [red(images[i]) for i in range(3)] == [0, 50, 0]


def test_the_column_path_is_taken_among_others(folder: Path) -> None:
    (folder / "paths.csv").write_text("label,path\ncat,c.jpg\n")
    assert image_list(folder / "paths.csv", 1).paths == [folder / "c.jpg"]


def test_what_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images has 3 images for 4 rows of scores; give one image per row"):
        image_list(folder, 4)
    (tmp_path / "p.csv").write_text("images/c.jpg\nimages/gone.png\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images are missing, first .*gone\.png; correct the paths"):
        image_list(tmp_path / "p.csv", 2)
    (folder / "a" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 of 3 files are no images, first .*1\.png cannot be read.* replace them"):
        image_list(folder, 3)
    (tmp_path / "q.csv").write_text("label,path\ncat,\n")
    with pytest.raises(ValueError, match=r"row 1 has no path; write one path per row"):
        image_list(tmp_path / "q.csv", 1)
    (tmp_path / "r.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a CSV file in UTF-8"):
        image_list(tmp_path / "r.csv", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no images"):
        image_list(tmp_path / "empty", 1)
    with pytest.raises(FileNotFoundError, match="no folder or file"):
        image_list(tmp_path / "gone", 1)
    with pytest.raises(ValueError, match="must be a folder of images, or a CSV file"):
        image_list(folder / "c.jpg", 1)
