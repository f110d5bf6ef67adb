"""docs/photographs-road.md: every command and the script of the page, from a folder to an answer, in small size."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from calls import call
from own_images_folder import fill
from page_files import titled_blocks

import dmpo_explore as dx
from builder.pages import DOCS

PAGE = DOCS / "photographs-road.md"
SMALL = shlex.split("--backbone test_vit --weights random --image-size 32")
SHORT = shlex.split(
    "--exits 2 --epochs 1 --batch-size 20 --precision no --teacher-epochs 1 --teacher-size 32 --teacher-views 1"
)


def images_needed(wrong: float, epsilon: float = 0.05, delta: float = 0.05) -> int:
    """The fewest images whose binomial tail certifies ``epsilon`` if a share ``wrong`` of them are errors."""
    from scipy.stats import binom

    return next(n for n in range(20, 1000) if binom.cdf(round(wrong * n), n, epsilon) <= delta)


def test_how_many_images_a_bound_needs() -> None:
    rows = dict(
        re.findall(r"^\| (no|[123] %).*\| (?:about )?(\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert int(rows.pop("no")) == dx.fitting.images_needed(0.05, 0.05)
    for wrong, said in rows.items():
        assert abs(images_needed(int(wrong[0]) / 100) - int(said)) < 5
    assert len(rows) == 3


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
            call(*words, *more)
    assert Path("sheet.png").is_file() and dx.load_run("pets").record("calibration").n_images == 12
    Path("classify.py").write_text(titled_blocks(PAGE)["classify.py"], encoding="utf-8")
    files = ["photos/cat/00.png", "photos/dog/00.png"]
    monkeypatch.setattr("sys.argv", ["classify.py", *files])
    capsys.readouterr()
    runpy.run_path("classify.py")
    answers = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in answers] == [*files, "images by exit"]
