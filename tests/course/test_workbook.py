"""What a reader builds is kept, found by later lessons, and not trusted blindly."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmpo_explore.course import checks, parts
from dmpo_explore.course.checks import mine

CELL = "class Stage(nn.Module):\n    pass\n\n\nchecks.stage(Stage)"
OWN = "from dmpo_explore.course.parts import SideStage\n\n\nclass Stage(SideStage):\n    pass\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_running_cell_is_kept_without_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "cell", lambda: CELL)
    checks.keep("Stage")
    text = Path("my_parts/Stage.py").read_text()
    assert text.startswith("# Written by the course") and text.endswith("class Stage(nn.Module):\n    pass\n")
    assert "from torch import nn" in text


def test_a_cell_that_reads_a_part_again_leaves_its_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my_parts").mkdir()
    Path("my_parts/Stage.py").write_text(OWN)
    monkeypatch.setattr(checks, "cell", lambda: 'import torch\n\nmy = mine("Stage")\nmy')
    assert issubclass(mine("Stage").Stage, parts.SideStage) and Path("my_parts/Stage.py").read_text() == OWN


def test_a_part_may_use_what_the_lesson_has_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    own = "class Stage(dx.course.parts.SideStage):\n    factor = np.float32(1)\n"
    monkeypatch.setattr(checks, "cell", lambda: own)
    checks.keep("Stage")
    assert issubclass(mine("Stage").Stage, parts.SideStage)


def test_outside_of_a_notebook_nothing_is_written(here: Path) -> None:
    checks.stage(parts.SideStage)
    assert list(here.iterdir()) == []


def test_a_missing_part_is_the_courses_and_one_in_the_folder_is_yours() -> None:
    Path("my_parts").mkdir()
    Path("my_parts/Stage.py").write_text(OWN)
    my = mine("Stage", "Predictor")
    assert issubclass(my.Stage, parts.SideStage) and my.Predictor is parts.SecondOrderPredictor
    assert [line.split(maxsplit=1)[1] for line in repr(my).splitlines()] == [
        "yours, from my_parts",
        "the course's",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Stage = 1 / 0\n", "my_parts/Stage.py cannot be run .ZeroDivisionError"),
        ("from torch.nn import Identity as Stage\n", "^my_parts/Stage.py: .* is missing.* Delete the file, or mend it"),
    ],
)
def test_a_part_that_no_longer_passes_is_named(text: str, said: str) -> None:
    Path("my_parts").mkdir()
    Path("my_parts/Stage.py").write_text(text)
    with pytest.raises(checks.NotYet, match=said):
        mine("Stage")
