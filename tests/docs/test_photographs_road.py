"""docs/photographs-road.md: every command and the script of the page, from a folder to an answer, in small size."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from calls import call
from image_files import fill
from page_files import titled_blocks
from scipy.stats import binom

import dmpo_explore as dx
from builder.pages import DOCS

PAGE = DOCS / "photographs-road.md"
SMALL = shlex.split("--backbone test_vit --weights random --image-size 32")
SHORT = shlex.split("--epochs 1 --batch-size 20 --precision no --teacher-epochs 1 --teacher-size 32 --teacher-views 1")


def test_how_many_images_a_bound_needs() -> None:
    rows = re.findall(r"^\| (none|\d)(?: \([\d.]+ %\))? \| (\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    found = [(0 if wrong == "none" else int(wrong), int(images)) for wrong, images in rows]
    assert found[0] == (0, dx.fitting.images_needed(0.05, 0.05)) and len(found) == 4
    for wrong, images in found:  # the fewest
        assert binom.cdf(wrong, images, 0.05) <= 0.05 < binom.cdf(wrong, images - 1, 0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_road_is_walked_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    fill(Path("photos"), count=60)
    shell = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)).splitlines()
    for line in shell:
        program, *words = shlex.split(line)
        if program == "dmpo-explore" and words != ["app"]:
            more = {"probe": SMALL, "train": [*SMALL, *SHORT]}.get(words[0], [])
            more = [*more, *(["--exits", "2"] if words[0] == "train" and "--exits" not in words else [])]
            call(*words, *more)
    assert dx.load_run("pets-six").config.model.exits == (6,) and dx.load_run("pets").config.model.exits == 2
    assert dx.load_run("pets").record("calibration").n_images == 12
    Path("classify.py").write_text(titled_blocks(PAGE)["classify.py"], encoding="utf-8")
    files = ["photos/cat/00.png", "photos/dog/00.png"]
    monkeypatch.setattr("sys.argv", ["classify.py", *files])
    capsys.readouterr()
    runpy.run_path("classify.py")
    answers = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in answers] == [*files, "images by exit"]
