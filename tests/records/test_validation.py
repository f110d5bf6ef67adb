"""What is wrong with a record folder: all of it at once, each problem naming its file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import record_from_logits

from dmpo_explore.fitting.temperature import fit_temperatures
from dmpo_explore.records.record import ExitRecord
from dmpo_explore.records.validation import FILES, META_FIELDS, OPTIONAL, array_problems, meta_problems, problems


def change_meta(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({k: v for k, v in (values | changes).items() if v is not ...}))


def test_a_whole_record_has_no_problem(folder: Path) -> None:
    assert problems(folder) == ExitRecord.problems(str(folder)) == []
    for file in OPTIONAL:
        (folder / file).unlink(missing_ok=True)
    assert problems(folder) == []


def test_features_and_their_embedding_are_checked(folder: Path) -> None:
    features, embedding = np.zeros((8, 3, 9), np.float16), np.zeros((8, 3, 2), np.float16)
    features[6, 1, 2], embedding[4] = np.nan, np.inf
    np.save(folder / "features.npy", features)
    np.save(folder / "embedding.npy", embedding)
    wrong, infinite = problems(folder)
    assert "features.npy" in wrong and "image 6 (counted from 0)" in wrong and "remove this optional file" in wrong
    assert "embedding.npy" in infinite and "inf at image 4 (counted from 0)" in infinite
    np.save(folder / "features.npy", features[:, :2])
    np.save(folder / "embedding.npy", np.zeros((8, 3, 3), np.float32))
    assert [found.split(": ", 1)[1] for found in problems(folder)] == [
        "shape (8, 2, 9) must be (8, 3, any) (images, exits, features)",
        "shape (8, 3, 3) must be (8, 3, 2) (images, exits, 2)",
        "type float32 must be float16; save array.astype(np.float16)",
    ]


def test_an_empty_folder_lacks_every_needed_file(tmp_path: Path) -> None:
    found = problems(tmp_path)
    assert len(found) == 1 + len(FILES)
    assert all(any(file in problem for problem in found) for file in ("meta.json", *FILES))
    assert problems(tmp_path / "nothing") == [f"no record folder {tmp_path / 'nothing'}"]


def test_every_problem_is_named_at_once(folder: Path) -> None:
    change_meta(folder, flops=[3, 2, 1], data=..., format_version=9)
    (folder / "labels.npy").unlink()
    np.save(folder / "scores/confidence.npy", np.full((8, 3), 70, np.float32))
    np.save(folder / "scores/margin.npy", np.zeros((8, 3)))
    np.save(folder / "logits.npy", np.zeros((8, 3, 6), np.float32))
    (folder / "scores/entropy.npy").write_bytes(pickle.dumps([1, 2]))
    expected = [
        "meta.json: format_version=9; this program reads version 1",
        "meta.json: 'data' is missing; it must be text",
        "meta.json: flops=[3, 2, 1] must be a rising list of positive FLOPs",
        "labels.npy is missing",
        "entropy.npy is not a readable .npy array",
        "confidence.npy: 70.0 at image 0 (counted from 0) must be a confidence from 0 to 1 (24 such values)",
        "margin.npy: type float64 must be float32",
        "logits.npy: shape (8, 3, 6) must be (8, 3, 5) (images, exits, classes)",
        "logits.npy: type float32 must be float16",
    ]
    found = problems(folder)
    assert len(found) == len(expected)
    assert all(text in problem for text, problem in zip(expected, found, strict=True))


def test_rounding_may_not_take_a_score_below_the_threshold_at_which_all_images_exit(folder: Path) -> None:
    for name in ("confidence", "margin", "entropy"):
        np.save(folder / f"scores/{name}.npy", np.full((8, 3), -9e-5, np.float32))
    found = problems(folder)
    assert len(found) == 2 and all(name in text for name, text in zip(("confidence", "margin"), found, strict=True))


def test_the_first_problem_is_what_load_raises(folder: Path) -> None:
    np.save(folder / "scores/confidence.npy", np.full((8, 3), 70, np.float32))
    np.save(folder / "scores/margin.npy", np.zeros((8, 4), np.float32))
    with pytest.raises(ValueError) as raised:
        ExitRecord.load(folder)
    assert str(raised.value) == problems(folder)[0]


def test_the_file_of_another_length_is_blamed_alone(folder: Path) -> None:
    labels = np.load(folder / "labels.npy")
    np.save(folder / "labels.npy", labels[:7])
    (problem,) = problems(folder)
    assert "labels.npy: shape (7,) must be (8,)" in problem
    np.save(folder / "labels.npy", labels)
    np.save(folder / "scores/margin.npy", np.zeros((7, 3), np.float32))
    (problem,) = problems(folder)
    assert "margin.npy: shape (7, 3) must be (8, 3)" in problem


def test_arrays_that_agree_with_each_other_have_the_exits_of_meta(folder: Path) -> None:
    change_meta(folder, exits=[3, 6], flops=[1, 2])
    found = problems(folder)
    assert len(found) == 5 and all("(8, 3" in text and "must be (8, 2" in text for text in found)


def test_sizes_come_from_the_arrays_when_meta_is_broken(folder: Path) -> None:
    (folder / "meta.json").write_text("{")
    assert len(problems(folder)) == 1  # nothing else is wrong, as far as can be seen
    np.save(folder / "scores/margin.npy", np.zeros((8, 4), np.float32))
    np.save(folder / "labels.npy", np.zeros((0,), np.int64))
    found = problems(folder)
    assert "not valid JSON" in found[0]
    assert "labels.npy: shape (0,)" in found[1]
    assert "margin.npy: shape (8, 4) must be (8, 3)" in found[2] and len(found) == 3


def test_without_any_size_the_number_of_axes_still_counts(tmp_path: Path) -> None:
    arrays = {"scores/margin.npy": np.zeros(8, np.float32)}
    (problem,) = array_problems(arrays, None, None, tmp_path, read_logits=True)
    assert "shape (8,) must be (any, any)" in str(problem)


def test_facts_of_the_wrong_kind_do_not_stop_the_report() -> None:
    values = {name: object() for name in META_FIELDS} | {"format_version": 1}
    assert len([*meta_problems(values, "meta.json")]) == len(META_FIELDS)
    assert [str(p) for p in meta_problems([1], "meta.json")] == ["meta.json must hold a JSON object, not list"]


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Malicious:
        def __reduce__(self) -> Any:
            return Path.touch, (trap,)

    np.save(folder / "labels.npy", np.array([Malicious()], dtype=object), allow_pickle=True)
    assert "labels.npy is not a readable .npy array" in problems(folder)[0]
    assert not trap.exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_must_be_finite_where_they_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch, bad: float) -> None:
    monkeypatch.setattr("dmpo_explore.records.validation.PIECE", 3 * 15)  # three images at a time
    logits = np.load(folder / "logits.npy")
    logits[5, 2, 4] = logits[7, 0, 0] = bad
    np.save(folder / "logits.npy", logits)
    (problem,) = problems(folder)
    assert problem.startswith(f"{folder / 'logits.npy'}: NaN or infinite logits at image 5 (counted from 0); write ")
    record = ExitRecord.load(folder)
    with pytest.raises(ValueError, match="this record of synthetic val: NaN or infinite logits at image 5"):
        fit_temperatures(record)
    with pytest.raises(ValueError, match="NaN or infinite logits at image 5"):
        record.save(folder.parent / "again")
    assert not (folder.parent / "again").exists()


def test_opening_a_record_checks_no_logits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> Any:
        raise AssertionError("logits were read")

    monkeypatch.setattr("dmpo_explore.records.validation.logits_problems", read)
    assert ExitRecord.load(folder).logits is not None
    with pytest.raises(AssertionError, match="logits were read"):
        problems(folder)


RNG = np.random.default_rng(0)


@pytest.fixture(params=[1.0, 30.0])
def scored(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A record of 40 images, 3 exits and 7 classes, with small or with large logits."""
    record_from_logits(request.param * RNG.normal(size=(40, 3, 7)), RNG.integers(0, 7, 40)).save(tmp_path / "val")
    return tmp_path / "val"


def test_scores_of_the_logits_agree_with_them(scored: Path) -> None:
    assert problems(scored) == []


def test_negated_logits_are_found(scored: Path) -> None:
    np.save(scored / "logits.npy", -np.load(scored / "logits.npy"))
    (text,) = problems(scored)
    assert "prediction.npy: another class has the largest logit at image 0 (counted from 0), exit 1" in text
    assert "(120 such values)" in text


def test_one_prediction_of_another_class_is_found(scored: Path) -> None:
    prediction = np.load(scored / "scores" / "prediction.npy")
    prediction[17, 1] = (prediction[17, 1] + 1) % 7
    np.save(scored / "scores" / "prediction.npy", prediction)
    (text,) = problems(scored)
    assert "another class has the largest logit at image 17 (counted from 0), exit 2" in text


def test_confidences_of_another_temperature_are_found(scored: Path) -> None:
    confidence = np.load(scored / "scores" / "confidence.npy")
    np.save(scored / "scores" / "confidence.npy", np.maximum(np.float32(1 / 7), confidence**2))
    found = [text for text in problems(scored) if "confidence.npy" in text]
    assert len(found) == 1 and "not the largest softmax probability of the logits" in found[0]


def test_a_margin_above_the_confidence_is_found_without_logits_too(scored: Path) -> None:
    np.save(scored / "scores" / "margin.npy", np.full((40, 3), 0.99, np.float32))
    confidence = np.load(scored / "scores" / "confidence.npy")
    (scored / "logits.npy").unlink()
    (text,) = problems(scored)
    assert "margin.npy: the margin is above the confidence" in text
    assert f"({int((confidence < 0.989).sum())} such values)" in text


def test_a_record_that_does_not_agree_is_still_opened(scored: Path) -> None:
    np.save(scored / "logits.npy", -np.load(scored / "logits.npy"))
    assert ExitRecord.load(scored).n_images == 40
