"""A folder of own scores under `dmpo-explore evaluate`: the numbers of its records, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from calls import call, fails
from run_folders import make_run
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.records.scores import STORED
from dmpo_explore.runs.score_folder import load_scored


def save(path: Path, record: dx.ExitRecord, **changes: object) -> None:
    values = {"labels": record.labels, "logits": record.logits, "flops": record.meta.flops}
    np.savez(path, **values | {"class_names": record.meta.class_names} | changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``mine``: val as a file, test as a record folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path / "runs"))
    (tmp_path / "mine").mkdir()
    save(tmp_path / "mine/val.npz", make_record(300, 3, seed=1))
    make_record(400, 3, seed=2).save(tmp_path / "mine/test")
    return Path("mine")


def test_own_scores_are_evaluated_as_a_run(folder: Path, tmp_path: Path) -> None:
    row = json.loads(call("evaluate", folder, "--flops", 0.8, "--per-image", "images.csv", "--json").stdout)
    policy = dx.fit_policy(dx.runs.read_scores(folder / "val.npz", split="val"), "confidence", flops=0.8)
    outcome = dx.apply(policy, dx.ExitRecord.load(folder / "test"))
    assert row["threshold"] == policy.thresholds[0] and row["fitted_on"] == "val" and row["run"] == "mine"
    assert row["accuracy"] == outcome.summary()["accuracy"] and row["exit_shares"] == outcome.summary()["exit_shares"]
    assert len(Path("images.csv").read_text().splitlines()) == 401
    for name in ("second", "third"):
        (tmp_path / name).mkdir()
        for split in ("val", "test"):
            save(tmp_path / name / f"{split}.npz", load_scored("mine").record(split))
    found = call("evaluate", "second", "--flops", 0.8, "--against", "third")
    assert "+0.00 [-0.69, +0.69]" in found.stdout and "epoch" not in found.stderr
    assert call("evaluate", "second", "--all-policies").stdout.startswith("| run ")


def test_a_refused_split_stays_refused_and_a_replaced_one_is_read_again(folder: Path) -> None:
    names = make_record(1, 3).meta.class_names
    save(folder / "val.npz", make_record(300, 3), class_names=names[::-1])
    scores = load_scored(folder)
    scores.record("test")
    for _ in range(2):
        with pytest.raises(ValueError, match="scores of val have other classes than those of test"):
            scores.record("val")
    save(folder.parent / "elsewhere.npz", make_record(200, 3))
    (folder / "val.npz").unlink()
    (folder / "val.npz").symlink_to(folder.parent.resolve() / "elsewhere.npz")
    assert load_scored(folder).record("val").n_images == 200
    save(folder.parent / "elsewhere.npz", make_record(210, 3))
    assert load_scored(folder).record("val").n_images == 210


def tables(folder: Path, **labels: list[object]) -> None:
    """A CSV file per split, whose predictions are its labels."""
    for split, values in labels.items():
        columns = {"label": values}
        for k in (1, 2):
            columns |= {f"prediction_{k}": values, **{f"{score}_{k}": [0.5] * len(values) for score in STORED[1:]}}
            columns |= {f"flops_{k}": [k] * len(values)}
        pd.DataFrame(columns).to_csv(folder / f"{split}.csv", index=False)


@pytest.mark.parametrize(
    ("val", "test", "names"),
    [
        (["dog", "cat"], ["cat", "ant", "dog"], ("ant", "cat", "dog")),
        ([1, 0], [0, 10, 2], tuple(map(str, range(11)))),
        (["dog", "ant"], ["ant", "bee"], ("ant", "bee", "dog")),
    ],
)
def test_tables_have_the_classes_of_all_splits(
    tmp_path: Path, val: list[object], test: list[object], names: tuple[str, ...]
) -> None:
    tables(tmp_path, val=val, test=test)
    (tmp_path / "train.csv").write_text("label\n")  # broken, and not asked for
    scores = load_scored(tmp_path)
    for split, labels in {"test": test, "val": val}.items():
        record = scores.record(split)
        assert record.meta.class_names == names and record.correct.all()
        assert [names[label] for label in record.labels] == [str(label) for label in labels]


def test_a_table_has_the_classes_that_another_file_names(tmp_path: Path) -> None:
    tables(tmp_path, val=["cat", "dog"])
    save(tmp_path / "test.npz", make_record(9, 2, 3), class_names=["dog", "cat", "ant"])
    assert load_scored(tmp_path).record("val").labels.tolist() == [1, 0]
    tables(tmp_path, val=["cat", "cow"])
    with pytest.raises(ValueError, match="'cow' of exit 1 in row 2 is not a class.*dog, cat, ant"):
        load_scored(tmp_path).record("val")
    (tmp_path / "test.npz").unlink()
    tables(tmp_path, test=["9", "10"])  # numbers beside names
    with pytest.raises(ValueError, match=r"give both the same class_names \(in a record or an NPZ file, or read_sc"):
        [*map(load_scored(tmp_path).record, ("val", "test"))]
    assert dx.runs.read_scores(tmp_path / "val.csv", class_names=["cow", "bee", "cat"]).labels.tolist() == [2, 0]


def test_a_folder_named_as_a_run_is_told_apart(folder: Path) -> None:
    make_run(Path("runs/mine"))
    with pytest.raises(ValueError, match="mine is a run and a folder of scores here; write ./mine for the folder"):
        load_scored("mine")
    assert load_scored("./mine").splits() == load_scored(Path("mine")).splits() == ["test", "val"]
    folder.rename("scores")
    folder.mkdir()  # of anything else
    assert load_scored("mine").path == Path("runs/mine").resolve()


def test_what_is_wrong_with_a_folder_is_named(folder: Path) -> None:
    assert "mine/test is the record of one split" in fails("evaluate", folder / "test")
    save(folder / "val.npz", make_record(300, 4), labels=np.full(300, 9))
    assert "mine/val.npz: label 9 in row 1 is not a class" in fails("evaluate", folder)
    save(folder / "val.npz", make_record(300, 4))
    assert "scores of test have 3 exits, those of val 4; give scores of the same model" in fails("evaluate", folder)
    make_record(300, 3).save(folder / "val")
    assert "val.npz and" in fails("evaluate", folder) and "are both scores of val" in fails("evaluate", folder)
    (folder / "val.npz").rename(folder / "vall.npz")
    (folder / "val").rename(folder / "old")
    assert "no scores of split 'val' (it has test); save them as" in fails("evaluate", folder)
    Path("empty").mkdir()
    assert "save them as empty/val.npz and empty/test.npz" in fails("evaluate", "empty")


def test_what_was_understood_and_what_looks_wrong_is_said(folder: Path) -> None:
    record = make_record(300, 3, seed=1)
    save(folder / "val.npz", record, labels=np.roll(record.labels, 1))
    said = call("evaluate", folder, "--flops", 0.8).stderr
    assert "mine val: 300 images, 3 exits, 5 classes, logits; accuracy by exit " in said
    assert "mine test: 400 images, 3 exits, 5 classes, logits; accuracy by exit " in said
    assert "caution: run 'mine': val: exit 3 is right for" in said and "with labels moved by -1 row" in said
    found = dx.runs.check_folder(folder)
    assert found.kind == "scores" and [problem.file for problem in found.problems] == ["val.npz"]
    assert "test/meta.json: 400 images" in found.facts and "val.npz: 300 images" in found.facts
    one = call("check", folder / "val.npz", status=1)
    assert "val.npz: exit 3 is right for" in one.stdout and "val.npz is not valid; correct this" in one.stderr
    save(folder / "val.npz", record)
    assert call("check", folder).stdout.rstrip().endswith("): valid")
    (folder / "val.npz").write_bytes(b"")
    (problem,) = dx.runs.check_folder(folder).problems
    assert "is not a readable NPZ file" in problem.text


def test_a_single_file_gets_the_remedy(folder: Path) -> None:
    words = (
        "mine/val.npz is one file of scores; thresholds are fitted on one split and evaluated on another: save both "
    )
    assert f"{words}in one folder, as val.npz and test.npz, and give that folder" in fails(
        "evaluate", folder / "val.npz"
    )
    assert "no file gone.csv, and no folder of scores" in fails("evaluate", "gone.csv")
