"""The check of folders: every problem of a run or record, and the documented format is the one that is checked.

That every way to break a run is found: tests/records/test_broken_folders.py.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import CONFIG, whole_run
from synthetic import make_record

from dmpo_explore.config import Config
from dmpo_explore.records.validation import ARRAYS, META_FIELDS
from dmpo_explore.runs import WEIGHTS, FolderCheck, check_folder
from dmpo_explore.runs.run import __file__ as RUN_FILE
from dmpo_explore.utils.files import sha256

BUNDLED = Path(RUN_FILE).parent / "bundled"
DOCS = Path(__file__).resolve().parents[2] / "docs"


def whole(path: Path) -> Path:
    """`whole_run` with a config and weights that belong to its records."""
    (whole_run(path) / WEIGHTS).unlink()
    (path / "config.json").write_text(replace(CONFIG, model=replace(CONFIG.model, exits=3)).to_json())
    return path


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def texts(found: FolderCheck) -> list[tuple[str, str]]:
    return [(problem.file, problem.text.removeprefix(f"{found.path / problem.file}: ")) for problem in found.problems]


def test_bundled_runs_and_a_whole_one_are_valid(tmp_path: Path) -> None:
    for path in (whole(tmp_path / "run"), BUNDLED / "demo", BUNDLED / "demo-cnn-single"):
        found = check_folder(path)
        assert (found.kind, found.valid, found.problems) == ("run", True, ())
    assert check_folder(tmp_path / "run").facts == "records: test, val"
    record = check_folder(str(tmp_path / "run/records/val"))
    assert (record.kind, record.valid) == ("record", True)
    assert record.to_dict()["facts"] == record.facts == "synthetic val: 40 images, 3 exits, 5 classes"


def test_all_problems_of_a_run_are_listed_at_once(tmp_path: Path) -> None:
    path = whole(tmp_path / "run")
    config = json.loads((path / "config.json").read_text())
    config["training"] |= {"epochs": -1, "seed": "one"}
    config["model"]["bypas"] = "conv"
    (path / "config.json").write_text(json.dumps(config))
    policies = json.loads((path / "policies.json").read_text())
    policies |= {"long": policies["half"] | {"thresholds": [0.5] * 4}, "odd": policies["half"] | {"policy": "odd"}}
    (path / "policies.json").write_text(json.dumps(policies))
    changed(path / "records/val/meta.json", flops=[3, 2, 1], split="tset")
    np.save(path / "records/test/scores/margin.npy", np.zeros((40, 3)))
    (path / "records/test/labels.npy").unlink()
    found = texts(check_folder(path))
    assert [file for file, _ in found] == [
        *["config.json"] * 3, *["policies.json"] * 2, "records/test/labels.npy", "records/test/scores/margin.npy",
        *["records/val/meta.json"] * 2,
    ]  # fmt: skip
    assert "unknown key in config.model 'bypas'. Did you mean 'bypass'?" in found[0][1]
    assert [text for _, text in found[1:3]] == [
        "epochs=-1 must be at least 1", "config.training.seed='one' has the wrong type; expected int"
    ]  # fmt: skip
    assert "policy 'confidence' has 4 thresholds; 3 exits need 1 or 2; fit it again" in found[3][1]
    assert "unknown policy 'odd'" in found[4][1]
    assert found[5][1].endswith("; write it as int64 of shape (images)")
    assert found[6][1] == "type float64 must be float32; save array.astype(np.float32)"
    assert found[8][1] == "split='tset' must be 'val', the name of its folder"


def test_options_that_exclude_each_other_are_found_once_each_is_valid(tmp_path: Path) -> None:
    path = whole(tmp_path / "run")
    values = Config.from_json((path / "config.json").read_text()).to_dict()
    values["training"] |= {"frozen_precision": "bf16", "precision": "no"}
    (path / "config.json").write_text(json.dumps(values))
    assert texts(check_folder(path)) == [("config.json", "frozen_precision='bf16' needs precision='bf16', not 'no'")]


def test_records_that_do_not_belong_to_the_run(tmp_path: Path) -> None:
    path = whole_run(tmp_path / "run")  # two exits in its config, other classes in its weights
    changed(path / "records/val/meta.json", weights_sha256="0" * 64)
    changed(path / "records/test/meta.json", weights_sha256=sha256(path / WEIGHTS))
    found = texts(check_folder(path))
    assert [(file, text.split("=")[0].split(" is ")[0]) for file, text in found] == [
        ("records/test/meta.json", "class_names"), ("records/test/meta.json", "exits"),
        ("records/val/meta.json", "weights_sha256"), ("records/val/meta.json", "class_names"),
        ("records/val/meta.json", "exits"),
    ]  # fmt: skip
    assert "must be those of weights.safetensors, ['a', 'b', 'c', 'd', 'e']" in found[0][1]
    assert "exits=[3, 6, 9] are 3; the config has 2; record it again with `dmpo-explore record run" in found[1][1]


@pytest.mark.parametrize(
    ("name", "words"),
    [(".", "holds neither a run"), ("none", "is no folder; name a run or record"), ("file", "is a file, not a folder")],
)
def test_a_folder_of_neither_kind_is_an_error(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=words):
        check_folder(tmp_path / name)


def test_what_is_left_of_a_folder_still_has_a_kind(tmp_path: Path) -> None:
    make_record().save(tmp_path / "val")
    (tmp_path / "val/meta.json").unlink()
    found = check_folder(tmp_path / "val")
    assert (found.kind, found.facts, [p.file for p in found.problems]) == ("record", "", ["meta.json"])
    (whole(tmp_path / "run") / "config.json").unlink()
    found = check_folder(tmp_path / "run")
    assert found.kind == "run" and texts(found)[0][1].startswith("config.json is missing")
    shutil.rmtree(tmp_path / "run/records")
    assert check_folder(tmp_path / "run").kind == "run"
    (tmp_path / "bare/records").mkdir(parents=True)
    assert check_folder(tmp_path / "bare").kind == "run"


def test_facts_that_are_no_object_are_one_problem(tmp_path: Path) -> None:
    (whole(tmp_path / "run") / "records/val/meta.json").write_text("[]")
    (problem,) = check_folder(tmp_path / "run").problems
    assert problem.file == "records/val/meta.json" and problem.text.endswith("must hold a JSON object, not list")


def test_the_documented_format_is_the_one_that_is_checked() -> None:
    page = (DOCS / "file-formats.md").read_text(encoding="utf-8").split("## Record folder")[1].split("\n### ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"]
    found = {row[0].strip("`"): row[1:] for row in rows}
    letters = {"images": "B", "exits": "K", "classes": "C", "features": "D", 2: "2"}
    for file, form in ARRAYS.items():
        shape = f"({', '.join(letters[axis] for axis in form.axes)}{',' * (len(form.axes) == 1)})"
        assert found.pop(file)[:3] == ["yes" if form.needed else "no", form.kind, shape], file
    assert found.pop("meta.json")[0] == found.pop("format_version")[0] == "yes"
    assert {key: row[0] for key, row in found.items()} == {
        key: "yes" if kind.needed else "no" for key, kind in META_FIELDS.items()
    }
    assert re.search(r"\*\*Format version 1\.\*\*", page)
