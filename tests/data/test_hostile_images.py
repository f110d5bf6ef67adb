"""Hostile image files are refused by their header, and none takes more than about 300 MB; all of them are one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from _faults import hostile_images
from _faults.hostile_images import QUICK, SLOW
from dmpo_explore.data.image_files import open_image, read_image

ROOT = Path(__file__).parents[2]
LIMITS = "at most 25 megapixels and 20,000 pixels a side are taken, so make it smaller"
REASONS = {
    "promised.png": f"has 900,000,000 pixels; {LIMITS}",
    "promised-wide.png": f"has 2,147,483,647 pixels; {LIMITS}",
    "promised-over.png": f"has 5,000 x 5,001 pixels; {LIMITS}",
    "promised-side.png": f"has 1 x 20,001 pixels; {LIMITS}",
    "promised.jpg": f"has 4,290,250,000 pixels; {LIMITS}",
    "promised.ppm": f"has 4,294,836,225 pixels; {LIMITS}",
    "promised.webp": "268,435,456 pixels",
    "scans.jpg": "is a progressive JPEG of 305 scans; at most 200 are taken",
    "tiles.tif": f"has tiles of 20,000 x 20,000 pixels; {LIMITS}",
    "program.png": "cannot be read as an image: not an image",
    "counts.tif": "cannot be read as an image: ",
    "cut.png": "cannot be read as an image: ",
}


@pytest.mark.parametrize("name", QUICK)
def test_a_file_becomes_an_image_or_one_line(name: str) -> None:
    counts = hostile_images.run({name: QUICK[name]})
    assert counts["trials"] == counts["decoded"] + counts["refused"] == 2 and not counts["failed"]
    assert counts["seconds"] < 2


@pytest.mark.parametrize("name", REASONS)
def test_the_line_gives_what_was_found_and_the_limit(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(QUICK[name]())
    with pytest.raises(ValueError, match=rf"^{path} ") as error:
        open_image(path)
    assert REASONS[name] in str(error.value)
    if name.endswith(("png", "jpg")) and "has" in REASONS[name]:
        with pytest.raises(ValueError, match=rf"^{name} ") as error:
            read_image(path.read_bytes(), name)
        assert REASONS[name] in str(error.value)


def test_postscript_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def popen(*args: object, **options: object) -> None:
        pytest.fail(f"{args} was started")

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(subprocess, "check_call", popen)
    (tmp_path / "photo.jpg").write_bytes(QUICK["program.png"]())
    with pytest.raises(ValueError, match="not an image"):
        open_image(tmp_path / "photo.jpg")


def test_anything_but_an_image_or_one_line_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(hostile_images, "open_image", reader)
    assert hostile_images.run({"cut.png": QUICK["cut.png"]})["failed"] == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_no_file_takes_more_than_about_300_megabytes() -> None:
    """In a process of its own, because memory that others hold would hide what is used."""
    code = "import json; from _faults import hostile_images; print(json.dumps(hostile_images.run()))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True)
    counts = json.loads(done.stdout)
    assert counts["trials"] == 2 * len(QUICK | SLOW) and counts["failed"] == 0
    assert counts["decoded"] >= 15 and counts["refused"] >= 40
    assert 100 < counts["peak_mb"] < 320
