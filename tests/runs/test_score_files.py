"""Scores of any model, `runs.score_files`: batches of logits, one file, the images of its rows.

What is read equals what was written, and every refusal names the bad value and the remedy.
"""

from __future__ import annotations

import io
import math
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.policies.rules import ConfidencePolicy
from dmpo_explore.runs import score_files
from dmpo_explore.runs.score_files import (
    MOST_ARRAYS,
    doubts,
    image_list,
    read_scores,
    read_table,
    record_logits,
    understood,
)

NAMES = ("cat", "dog", "bird")
FLOPS = (1e9, 2e9, 3e9)

# -- batches --

RNG = np.random.default_rng(0)
TRUE = RNG.integers(0, 4, 30)
LOGITS = RNG.normal(scale=2, size=(30, 3, 4)).astype(np.float32)


def softmax(logits: Any) -> Any:
    weights = np.exp(np.asarray(logits, np.float64))
    return weights / weights.sum(axis=-1, keepdims=True)


def batches(size: int = 8) -> list[tuple[Any, Any]]:
    return [(LOGITS[i : i + size], TRUE[i : i + size]) for i in range(0, len(TRUE), size)]


def test_scores_and_exits_are_those_computed_by_hand(tmp_path: Path) -> None:
    record_logits(iter(batches()), flops=FLOPS, class_names="abcd", data="mine", model="m").save(tmp_path / "test")
    record = dx.ExitRecord.load(tmp_path / "test")
    p = softmax(LOGITS)
    ranked = np.sort(p, axis=2)[..., ::-1]
    np.testing.assert_array_equal(record.prediction, LOGITS.argmax(axis=2))
    np.testing.assert_allclose(record.confidence, ranked[..., 0], atol=1e-6)
    np.testing.assert_allclose(record.margin, ranked[..., 0] - ranked[..., 1], atol=1e-6)
    np.testing.assert_allclose(record.entropy, -(p * np.log(p)).sum(axis=2), atol=1e-5)
    np.testing.assert_array_equal(record.logits, LOGITS.astype(np.float16))
    np.testing.assert_array_equal(record.labels, TRUE)
    outcome = dx.apply(ConfidencePolicy((0.6,)), record)
    exits = [next((k for k in range(2) if ranked[i, k, 0] >= 0.6), 2) for i in range(30)]
    right = np.mean([LOGITS[i, k].argmax() == TRUE[i] for i, k in enumerate(exits)])
    assert outcome.exits.tolist() == exits
    summary = outcome.summary()
    assert summary["accuracy"] == pytest.approx(right)
    assert summary["flops_fraction"] == pytest.approx(np.mean([FLOPS[k] for k in exits]) / FLOPS[2])
    meta = record.meta
    assert (meta.data, meta.split, meta.model, meta.class_names) == ("mine", "test", "m", tuple("abcd"))
    assert (meta.exit_blocks, meta.flops, meta.reference_flops) == ((1, 2, 3), FLOPS, FLOPS[2])
    assert dx.runs.check_folder(tmp_path / "test").valid


@pytest.mark.parametrize("form", ["torch", "bfloat16", "list of exits", "tuple of exits", "lists", "one batch"])
def test_batches_of_every_form_give_the_same_record(form: str) -> None:
    rounded = torch.from_numpy(LOGITS).bfloat16() if form == "bfloat16" else torch.from_numpy(LOGITS)
    expected = record_logits([(rounded.float().numpy(), TRUE)], flops=FLOPS)
    made: dict[str, Any] = {
        "torch": lambda x, y: (torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)),
        "bfloat16": lambda x, y: (torch.from_numpy(x).bfloat16(), torch.from_numpy(y)),
        "list of exits": lambda x, y: ([*torch.from_numpy(x).unbind(1)], y),
        "tuple of exits": lambda x, y: (tuple(x[:, k] for k in range(3)), y),
        "lists": lambda x, y: (x.tolist(), y.tolist()),
        "one batch": lambda x, y: (x, y),
    }
    record = record_logits((made[form](x, y) for x, y in batches(30 if form == "one batch" else 7)), flops=FLOPS)
    for name in ("prediction", "confidence", "entropy", "margin", "logits"):
        np.testing.assert_array_equal(getattr(record, name), getattr(expected, name))


def test_what_may_be_given_and_left_out() -> None:
    how: dict[str, Any] = {"reference_flops": 2.5e9, "split": "val", "exit_blocks": (4, 8, 12)}
    record = record_logits(batches(), flops=np.array(FLOPS), keep_logits=False, **how)
    assert record.logits is None and record.meta.class_names == ("0", "1", "2", "3")
    assert (record.meta.reference_flops, record.meta.split, record.meta.exit_blocks) == (2.5e9, "val", (4, 8, 12))
    assert record.flops_fraction[2] == pytest.approx(1.2)


BAD_BATCHES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "none": ([], {}, "no batches to record"),
    "no images": ([(np.zeros((0, 3, 4)), [])], {}, r"batch 1: logits have shape \(0, 3, 4\)"),
    "two axes": ([(LOGITS[:, 0], TRUE)], {}, r"batch 1: logits have shape \(30, 4\); they must be \(images, exits,"),
    "unequal exits": ([([LOGITS[:, 0], LOGITS[:, 1, :3]], TRUE)], {}, "batch 1: exits with logits of shapes"),
    "fewer labels": ([(LOGITS, TRUE[:9])], {}, r"batch 1: labels of shape \(9,\) for logits of 30 images"),
    "other exits": ([(LOGITS, TRUE), (LOGITS[:, :2], TRUE)], {}, "batch 2: logits .* the batches before"),
    "NaN": ([(LOGITS, TRUE), (LOGITS * np.nan, TRUE)], {}, "batch 2: nan at image 0 .* must be a finite logit"),
    "too large": ([(LOGITS * 1e6, TRUE)], {}, "those of a record are at most 65,504"),
    "label 9": ([(LOGITS, TRUE * 0 + 9)], {}, "the batches: label 9 in row 1 is not a class"),
    "two FLOPs": (batches(), {"flops": (1.0, 2.0)}, "2 flops for 3 exits; give one per exit"),
    "falling FLOPs": (batches(), {"flops": (3.0, 2.0, 1.0)}, "must be a rising list of positive FLOPs"),
    "two names": (batches(), {"class_names": ("a", "b")}, "2 class_names for logits of 4 classes"),
    "probabilities": (
        [(softmax(LOGITS), TRUE)],
        {},
        "the batches: the logits of exit 1, 2, 3 lie in .* so they are probabilities",
    ),
    "falling blocks": (batches(), {"exit_blocks": (3, 2, 1)}, r"exits=\[3, 2, 1\] must be a rising list"),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_bad_batches_are_one_error(case: str) -> None:
    given, how, text = BAD_BATCHES[case]
    with pytest.raises(ValueError, match=text):
        record_logits(given, **{"flops": FLOPS} | how)


# -- a file --


def model(images: int = 20, exits: int = 3, classes: int = 3, seed: int = 0, best: float = 5.0) -> dict[str, Any]:
    """Labels, and logits of a model whose later exits are surer."""
    rng = np.random.default_rng(seed)
    labels, sure = rng.permutation(np.arange(images) % classes), np.linspace(best / 2, best, exits)[:, None]
    logits = sure * np.eye(classes)[labels][:, None] + rng.normal(size=(images, exits, classes))
    return {"labels": labels, "logits": logits.astype(np.float32)}


def arrays(**changes: Any) -> dict[str, Any]:
    found = model() | {"flops": FLOPS, "class_names": NAMES}
    return {key: value for key, value in (found | changes).items() if value is not None}


def packed(**changes: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays(**changes))
    return stream.getvalue()


def table(record: dx.ExitRecord, names: bool = True) -> pd.DataFrame:
    texts = np.array(record.meta.class_names)
    columns: dict[str, Any] = {"label": texts[record.labels] if names else record.labels}
    for k in range(record.n_exits):
        columns[f"prediction_{k + 1}"] = texts[record.prediction[:, k]] if names else record.prediction[:, k]
        for score in ("confidence", "entropy", "margin"):
            columns[f"{score}_{k + 1}"] = record.score(score)[:, k]
    return pd.DataFrame(columns)


def test_logits_become_the_scores_of_the_library(tmp_path: Path) -> None:
    values = arrays()
    (tmp_path / "mine.npz").write_bytes(packed())
    record = read_scores(tmp_path / "mine.npz", split="val")
    for name, scores in dx.policies.scores(values["logits"]).items():
        assert np.array_equal(record.score(name), scores)
    assert np.array_equal(record.labels, values["labels"]) and record.logits is not None
    assert record.meta.class_names == NAMES and record.meta.flops == FLOPS and record.meta.reference_flops == 3e9
    assert (record.meta.data, record.meta.split, record.meta.exit_blocks) == ("mine", "val", (1, 2, 3))
    record.save(tmp_path / "record")
    assert dx.ExitRecord.problems(tmp_path / "record") == []


def test_facts_of_the_file_are_kept() -> None:
    data = packed(reference_flops=2.5e9, exit_blocks=[4, 8, 12], data="birds", model="mine")
    meta = read_scores(data, "a.npz", flops=(1, 2, 4)).meta
    assert (meta.reference_flops, meta.exit_blocks, meta.data, meta.model) == (2.5e9, (4, 8, 12), "birds", "mine")
    assert meta.flops == (1, 2, 4)  # typed ones count


@pytest.mark.parametrize("names", [True, False])
def test_a_table_has_the_scores_that_were_written(names: bool) -> None:
    record = make_record(50, 3, 4, with_logits=False)
    read = read_scores(table(record, names).to_csv(index=False).encode(), "t.csv", flops=FLOPS)
    order = sorted(record.meta.class_names) if names else [str(c) for c in range(4)]
    assert list(read.meta.class_names) == order
    assert np.array_equal(read.labels, record.labels) and np.array_equal(read.prediction, record.prediction)
    assert np.allclose(read.confidence, record.confidence) and np.allclose(read.entropy, record.entropy)


def test_names_that_look_like_numbers_stay_names() -> None:
    rows = ["007,007,.9,.1,.8,007,.9,.1,.8", "008,007,.9,.1,.8,008,.9,.1,.8", "cat,007,.9,.1,.8,cat,.9,.1,.8"]
    scores = ",".join(f"{name}_{k}" for k in (1, 2) for name in ("prediction", "confidence", "entropy", "margin"))
    read = read_scores("\n".join([f"label,{scores}", *rows]).encode(), "t.csv", flops=np.array([1.0, 2.0]), quiet=True)
    assert read.meta.class_names == ("007", "008", "cat")
    assert read.correct.mean(axis=0).tolist() == pytest.approx([1 / 3, 1])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_may_have_logits(kind: str) -> None:
    values = arrays()
    columns = {f"logit_{k + 1}_{c}": values["logits"][:, k, c] for k in range(3) for c in range(3)}
    frame, stream = pd.DataFrame({"label": values["labels"]} | columns), io.BytesIO()
    frame.to_csv(stream, index=False) if kind == "csv" else frame.to_parquet(stream)
    read = read_scores(stream.getvalue(), f"t.{kind}", flops=FLOPS)
    np.testing.assert_allclose(read.logits, values["logits"].astype(np.float16))  # type: ignore[arg-type]
    assert read.labels.tolist() == values["labels"].tolist()


def test_columns_are_found_by_their_names_in_any_order() -> None:
    text = "logit_2_1, label ,logit_1_0,note,logit_2_0,logit_1_1\n4,1,1,x,3,2\n8,0,5,y,7,6\n"
    found = read_table(text.encode(), "t.csv")
    assert found.keys() == {"labels", "logits"} and found["labels"].tolist() == [1, 0]
    assert np.array_equal(found["logits"], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])


def test_labels_and_predictions_are_read_alike() -> None:
    head = "label,prediction_1,confidence_1,entropy_1,margin_1\n"
    numbers = read_table(f"{head}0,1.0,.9,.1,.8\n".encode(), "t.csv")
    assert (numbers["labels"].tolist(), numbers["prediction"].tolist()) == ([0], [[1]])
    names = read_table(f"{head}0,cat,.9,.1,.8\n".encode(), "t.csv")
    assert (names["labels"].tolist(), names["prediction"].tolist()) == (["0"], [["cat"]])
    assert names["confidence"].tolist() == [[0.9]]


def test_flops_are_the_same_in_every_row() -> None:
    head = "label,flops_1,flops_2,logit_1_0,logit_1_1,logit_2_0,logit_2_1\n"
    assert read_table(f"{head}0,1e9,2e9,1,2,3,4\n1,1e9,2e9,1,2,3,4\n".encode(), "t.csv")["flops"].tolist() == [1e9, 2e9]


def test_a_file_of_requests_has_a_cost_per_step() -> None:
    """A router's log: each step's price alone."""
    assert read_scores(packed(flops=None, costs=[1, 5, 20.5]), "log.npz").meta.flops == (1.0, 6.0, 26.5)
    assert read_scores(packed(flops=None), "bare.npz", costs=(2, 2, 2)).meta.flops == (2.0, 4.0, 6.0)


def test_probabilities_are_read_as_such_and_never_softmaxed_again() -> None:
    shares = softmax(arrays()["logits"])
    found, plain = (read_scores(packed(**change)) for change in ({"logits": None, "probabilities": shares}, {}))
    np.testing.assert_allclose(found.confidence, plain.confidence, atol=2e-3)
    assert (found.prediction == plain.prediction).all()


LABELS = arrays()["labels"]
FOUR: dict[str, Any] = dx.policies.scores(arrays()["logits"])
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "rows": ({"labels": LABELS[:19]}, r"logits has 20 rows for 19 labels; give both one row per image"),
    "label": ({"labels": np.where(np.arange(20) == 4, 7, LABELS)}, r"label 7 in row 5 is not a class.* cat, dog, bird"),
    "name": ({"labels": np.array(["cat"] * 19 + ["cow"])}, r"label 'cow' in row 20 is not a class.* cat, dog, bird"),
    "from 1": ({"labels": LABELS + 1}, r"label 3 in row \d+ is not a class.*they seem to count from 1: subtract 1"),
    "half": ({"labels": LABELS + 0.5}, r"label \d\.5 in row 1 is not a class"),
    "costs as text": ({"flops": None, "costs": np.array(["a", "b", "c"])}, "costs must be numbers, not <U1$"),
    "no labels": ({"labels": None}, r"no array 'labels' \(it has logits, flops, class_names\); add it$"),
    "no scores": ({"logits": None}, r"no array 'prediction'.* add it, or logits"),
    "no entropy": ({"logits": None, **FOUR, "entropy": None}, r"no array 'entropy'"),
    "shape": ({"logits": np.zeros((20, 3))}, r"logits has shape \(20, 3\); it must be \(images, exits, classes\)"),
    "nan": ({"logits": np.full((20, 3, 3), np.nan)}, r"nan at image 0 .* must be a finite logit"),
    "texts": ({"logits": np.full((20, 3, 3), "x")}, r"logits has the type <U1; it must be numbers"),
    "complex": ({"labels": LABELS.astype(complex)}, r"labels has the type complex128; it must be numbers or names"),
    "dates": ({"labels": LABELS.astype("datetime64[s]")}, r"labels has the type datetime64\[s\]; it must be"),
    "complex prediction": (
        {"logits": None, **FOUR, "prediction": FOUR["prediction"].astype(complex)},
        r"prediction has the type complex128; it must be numbers or names",
    ),
    "text flops": ({"flops": ("a", "b", "c")}, r"flops has the type <U1; it must be numbers"),
    "no reference": ({"reference_flops": []}, r"reference_flops has 0 numbers; give one, or leave it out"),
    "two references": ({"reference_flops": [1e9, 2e9]}, r"reference_flops has 2 numbers"),
    "half a block": ({"exit_blocks": [1.5, 2, 3]}, r"exit_blocks has the type float64; it must be whole numbers"),
    "few blocks": ({"exit_blocks": [1, 2]}, r"2 exit_blocks for 3 exits; give one per exit"),
    "no flops": ({"flops": None}, r"has no FLOPs; give those of its 3 exits, such as 1\.2, 2\.4, 3\.6 GFLOPs"),
    "few flops": ({"flops": (1, 2)}, r"2 flops for 3 exits; give one per exit"),
    "falling": ({"flops": (1, 3, 2)}, r"flops=\[1.0, 3.0, 2.0\] must be a rising list of positive FLOPs"),
    "classes": ({"class_names": NAMES[:2]}, r"2 class_names for logits of 3 classes"),
    "unknown order": (
        {"class_names": None, "labels": np.array(NAMES)[LABELS]},
        r"order of the classes is unknown; add",
    ),
    "prediction": (
        {"logits": None, **FOUR, "prediction": FOUR["prediction"] + 9},
        r"prediction \d+ of exit 1 in row 1",
    ),
    "exits": ({"logits": None, **FOUR, "margin": FOUR["margin"][:, :2]}, r"margin has 2 exits and prediction has 3"),
    "percent": (
        {"logits": None, **FOUR, "confidence": 100 * FOUR["confidence"]},
        r"bad.npz, confidence: .* correct it",
    ),
    "huge": (
        {"logits": None, "class_names": None, **FOUR, "labels": np.where(np.arange(20) == 4, 2 * 10**7, LABELS)},
        r"label 20000000 in row 5 is not a class; use a number from 0 to 2",
    ),
    "infinite": (
        {"logits": None, "class_names": None, **FOUR, "labels": np.where(np.arange(20) == 4, np.inf, LABELS)},
        r"label inf in row 5 is not a class",
    ),
    "numbers and names": (
        {"logits": None, "class_names": None, **FOUR, "prediction": np.array(NAMES)[FOUR["prediction"]]},
        r"no prediction, such as 'bird', is one of the labels, such as '0'",
    ),
    "twice": (
        {"class_names": ("crane", "cat", "crane"), "labels": np.array(["cat"] * 19 + ["crane"])},
        r"'crane' is the name of two classes",
    ),
    "softmaxed": (
        {"logits": softmax(arrays()["logits"])},
        r"their rows sum to 1, so they are probabilities; give logits, name the array",
    ),
    "no probabilities": (
        {"logits": None, "probabilities": arrays()["logits"]},
        "probabilities must be numbers from 0 that sum to 1 in every row",
    ),
    "costs and flops": ({"costs": [1, 5, 20.5]}, "bad.npz: costs and flops are given"),
    "a cost of nothing": ({"flops": None, "costs": [2, 0, 2]}, "must be a rising list of positive FLOPs"),
    "objects": ({"labels": np.array([{}], object)}, r"not a readable NPZ file \(Object arrays cannot be loaded"),
}

FOUR_COLUMNS = "label,prediction_1,confidence_1,entropy_1,margin_1"
SIX_COLUMNS = "label,flops_1,flops_2,logit_1_0,logit_1_1,logit_2_0,logit_2_1\n"
BAD_TABLES: list[tuple[str, str]] = [
    ("a,b\n1,2\n", r"no column 'label' \(it has a, b\)"),
    ("label\n1\n", r"no column 'prediction_1'"),
    ("label,prediction_1,confidence_1,entropy_1\n0,0,1,0\n", r"no column 'margin_1'"),
    ("label,prediction_1,confidence_1,entropy_1,margin_1\n0,0,high,0,1\n", r"row 1, column confidence_1: 'high'"),
    ("label,logit_1_0,logit_1_2\n0,1,2\n", r"no column 'logit_1_1'"),
    ("label,logit_0_0,logit_1_0\n0,1,2\n", r"column of exit 0.*count from 1"),
    ("label,prediction_0\n0,1\n", r"column of exit 0"),
    ("label,logit_1_999999999\n0,1\n", r"no column 'logit_1_0'"),
    ("label,prediction_999999999\n0,1\n", r"no column 'prediction_1'"),
    ("label, label\n0,1\n", r"two columns 'label'"),
    ("", r"not a readable CSV file"),
    ("\xff", r"not a readable CSV file|no column 'label'"),
    ("label,logit_1_0,logit_1_1,label\n1,0.5,2,0\n", r" has two columns 'label'; remove one"),
    ("label,logit_1_0,logit_1_1,logit_1_1\n1,0.5,2,0\n", r" has two columns 'logit_1_1'; remove one"),
    (f"{SIX_COLUMNS}0,1e9,2e9,1,2,3,4\n1,1e9,3e9,1,2,3,4\n", r"flops_1 to flops_2 differ from row to row"),
    (f"{FOUR_COLUMNS},Label\n0,0,.9,.3,.8,1\n", r"has the columns 'label' and 'Label'; rename or remove one"),
    (f"{FOUR_COLUMNS}\n0,0,.9,.3,.8,1\n1,1,.9,.3,.8,1\n", r"more entries than its 5 columns"),
    (f"{FOUR_COLUMNS}\n0,0,0_1,.3,.8\n", r"row 1, column confidence_1: '0_1' is not a number"),
]


def archive(**members: bytes) -> bytes:
    """An NPZ file of these members, whatever is in them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in members.items():
            packed.writestr(f"{name}.npy", content)
    return file.getvalue()


def header(shape: str) -> bytes:
    """A .npy file that states a shape and has no values."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


NO_NPZ = r" is not a readable NPZ file"
BAD_ARCHIVES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", NO_NPZ),
    "no content": (b"PK\x03\x04", NO_NPZ),
    "cut": (packed()[:200], NO_NPZ),
    "cut at its end": (packed()[:-40], NO_NPZ),
    "text": (archive(labels=b"hello"), rf"{NO_NPZ} \(labels is no array"),
    "32 GiB": (archive(labels=header("(4294967296,)")), rf"{NO_NPZ} \((EOF: reading array data|Unable to allocate)"),
    "a header of 4 GiB": (
        archive(labels=b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"),
        rf"{NO_NPZ} \(EOF: reading array header",
    ),
    "many": (
        archive(**{f"a{i}": b"" for i in range(MOST_ARRAYS + 1)}),
        rf"{NO_NPZ} \(it holds 1,001 arrays; at most 1000 are read",
    ),
}
BAD = {f"arrays: {case}": ("bad.npz", packed(**changes), words) for case, (changes, words) in BAD_ARRAYS.items()}
BAD |= {f"table {i}": ("bad.csv", text.encode("latin-1"), words) for i, (text, words) in enumerate(BAD_TABLES)}
BAD |= {f"archive: {case}": ("bad.npz", *row) for case, row in BAD_ARCHIVES.items()}
BAD["another kind of file"] = "bad.pkl", packed(), "must be an NPZ, a CSV or a Parquet file"
BAD["no Parquet"] = "bad.parquet", packed(), "not a readable Parquet file"


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_the_value_and_the_remedy(case: str) -> None:
    name, content, words = BAD[case]
    with pytest.raises(ValueError, match=words) as error:
        read_scores(content, name, flops=FLOPS if name == "bad.csv" else None)
    assert str(error.value).startswith(name) and "\n" not in str(error.value)


def test_a_damaged_archive_is_refused_whatever_is_damaged() -> None:
    stream, rng = io.BytesIO(), np.random.default_rng(0)
    np.savez_compressed(stream, **arrays())
    whole = stream.getvalue()
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(len(whole), size=3):
            data[place] = rng.integers(256)
        with suppress(ValueError):
            read_scores(bytes(data), "x.npz", quiet=True)


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_files, "MOST_UNPACKED", 999)
    monkeypatch.setattr(score_files.np, "load", lambda *_, **__: pytest.fail("it is unpacked"))
    with pytest.raises(ValueError, match=r"x\.npz: its arrays have .* bytes; at most 999 are read\. Save logits as"):
        read_scores(packed(), "x.npz")


def test_a_file_of_many_members_is_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it reads every member"))
    with pytest.raises(ValueError, match=r"it holds 300,000 arrays; at most 1000 are read"):
        read_scores(b"PK\1\2" * 300_000, "x.npz")


# -- what was understood, and what looks wrong --

BIG, MANY = model(600, 3, 10, seed=1), model(600, 10, 10, seed=2)
PER_CENT = softmax(BIG["logits"])
ONES = np.ones((600, 10))


def probabilities(decimals: int, **changes: Any) -> dict[str, Any]:
    return {"logits": np.round(PER_CENT, decimals)} | changes


def part(exit: int, values: Any) -> dict[str, Any]:
    """The probabilities, but for one exit."""
    return {"logits": np.concatenate([PER_CENT[:, :exit], values[:, None], PER_CENT[:, exit + 1 :]], axis=1)}


WRONG: dict[str, tuple[dict[str, Any], str]] = {  # changes of BIG → a word of the refusal, or of the warning
    "probabilities": (probabilities(9), "exit 1, 2, 3 lie in .* so they are probabilities"),
    "of two decimals": (probabilities(2), "so they are probabilities"),
    "of three decimals": (probabilities(3), "so they are probabilities"),
    "float16": ({"logits": PER_CENT.astype(np.float16)}, "so they are probabilities"),
    "a row of zeros": ({"logits": np.where(np.arange(600)[:, None, None] == 7, 0, PER_CENT)}, "are probabilities"),
    "an exit of logits": (part(1, BIG["logits"][:, 1]), "exit 1, 3 lie in .* so they are probabilities"),
    "an exit of probabilities": ({"logits": np.where([[[0], [0], [1]]], PER_CENT, BIG["logits"])}, "exit 3 lie in"),
    "of 1,000 classes": (
        {"labels": (big := model(500, 2, 1000, best=20))["labels"], "logits": np.round(softmax(big["logits"]), 2),
         "flops": (1, 2)}, "so they are probabilities",
    ),
    "sigmoids": ({"logits": 1 / (1 + np.exp(-BIG["logits"]))}, "exit 1, 2, 3 lie in .* do not sum to 1: sigmoids"),
    "reversed": ({"logits": BIG["logits"][:, ::-1]}, r"falls with depth, from .* at exit 1 .* reversed"),
    "the last exit first": ({"logits": np.roll(BIG["logits"], 1, axis=1)}, "falls with depth"),
    "-log p": ({"logits": -np.log(PER_CENT)}, "exit 3 is right for .*; with the sign of the logits flipped it would"),
    "flipped": ({"logits": -BIG["logits"]}, "with the sign of the logits flipped it would be right for 9"),
    "an early exit flipped": ({"logits": BIG["logits"] * [[[-1], [1], [1]]]}, "exit 1 is right for .* sign"),
    "axes, as many exits": (
        MANY | {"logits": MANY["logits"].swapaxes(1, 2), "flops": range(1, 11)}, r"with the axes as \(images, classes",
    ),
    "axes": ({"logits": BIG["logits"].swapaxes(1, 2), "flops": range(1, 11)}, r"label \d in row \d+ is not a class"),
    "a row too late": ({"labels": np.roll(BIG["labels"], 1)}, r"with labels moved by -1 row it would be right for 9"),
    "a row too early": ({"labels": np.roll(BIG["labels"], -1)}, r"with labels moved by \+1 row"),
    "a first class of the model alone": (
        {"logits": np.concatenate([BIG["logits"][..., :1] - 9, BIG["logits"]], axis=2)}, r"with \+1 to every label",
    ),
    "numbers of sorted texts": ({"labels": BIG["labels"] * 7 % 10}, "with the classes in another order it would be"),
    "texts": ({"labels": BIG["labels"].astype(str)}, "the order of the classes is unknown"),
    "other images": ({"labels": np.random.default_rng(5).permutation(BIG["labels"])}, "and chance for 10"),
    "one class": ({"labels": BIG["labels"] * 0}, "all its images are of one class, '0'"),
    "one image": ({"labels": BIG["labels"][:1], "logits": BIG["logits"][:1]}, "it has one image"),
    "61 exits": (model(600, 61, 5) | {"flops": range(1, 62)}, "it has 61 exits"),
    "a constant": ({"logits": ONES[:, None] * np.ones((1, 3, 1)) * 7}, "and chance for 10"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_or_warned_of(case: str) -> None:
    changes, words = WRONG[case]
    with pytest.raises((ValueError, UserWarning), match=words) as found:  # warnings are errors here
        read_scores(packed(**{**BIG, "class_names": None, **changes}), "mine.npz")
    assert str(found.value).startswith("mine.npz")


NOISE = np.random.default_rng(4).normal(scale=0.9, size=(600, 1, 10))
HALF = BIG["logits"].astype(np.float16)
RIGHT: dict[str, dict[str, Any]] = {
    "float16": {"logits": HALF},
    "float32": {},
    "float64": {"logits": BIG["logits"].astype(np.float64)},
    "log p": {"logits": np.log(PER_CENT)},
    "given as probabilities": {"logits": None, "probabilities": PER_CENT},
    "of three decimals": {"logits": None, "probabilities": np.round(PER_CENT, 3)},
    "two classes": model(600, 3, 2),
    "1,000 classes": model(1500, 3, 1000, best=12),
    "one exit": model(600, 1, 10) | {"flops": [1]},
    "sixty exits": model(600, 60, 10) | {"flops": range(1, 61)},
    "few images": model(12, 3, 3, best=6),
    "a class in ten": {"labels": (rare := (np.arange(600) % 10 == 0).astype(int)), "logits": (
        3 * np.eye(2)[rare][:, None] + np.random.default_rng(3).normal(size=(600, 3, 2)) + [1, 0])},
    "a weak model": model(2000, 3, 10, best=1.0),
    "not quite rising": {"logits": np.concatenate([BIG["logits"], BIG["logits"][:, 2:] + NOISE], axis=1),
                         "flops": range(1, 5)},
    "equal exits": {"logits": np.repeat(BIG["logits"][:, 2:], 3, axis=1)},
    "scores alone": {"logits": None, **dx.policies.scores(BIG["logits"])},
    "small logits": {"logits": BIG["logits"] / 20},
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_file_is_not_warned_of(case: str) -> None:
    record = read_scores(packed(**{**BIG, "class_names": None, **RIGHT[case]}), "mine.npz")
    assert doubts(record) == [] and record.accuracy[-1] > 0.2


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("decimals", [2, 3, 6])
def test_rounded_probabilities_of_any_number_of_classes_are_refused(classes: int, decimals: int) -> None:
    made = model(300, 2, classes, best=8 * math.log10(classes + 1))
    with pytest.raises(ValueError, match="exit 1, 2 lie in .* so they are probabilities"):
        read_scores(packed(**made | {"logits": np.round(softmax(made["logits"]), decimals), "class_names": None}))


def test_what_was_understood_is_said() -> None:
    record = read_scores(packed(), "a.npz")
    shares = ", ".join(f"{100 * share:.1f}" for share in record.accuracy)
    assert understood(record) == f"20 images, 3 exits, 3 classes, logits; accuracy by exit {shares} %"
    first = {name: found[:1, :1] for name, found in FOUR.items()}
    one = read_scores(packed(logits=None, **first, labels=[1], flops=[1]), quiet=True)
    assert understood(one).startswith("1 image, 1 exit, 3 classes, scores without logits; accuracy by exit ")
    assert understood(read_scores(packed(**model(90, 30), flops=range(1, 31)))).endswith(" and 18 more %")


# -- images --


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(("b/2.png", "a/1.png", "c.jpg")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (50 * i, 0, 0)).save(path)
    (tmp_path / "empty").mkdir()
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


@pytest.mark.parametrize(
    ("given", "content", "rows", "error", "words"),
    [
        ("images", None, 4, ValueError, "images has 3 images for 4 rows of scores; give one image per row"),
        (
            "images",
            {"images/a/1.png": b"no image"},
            3,
            ValueError,
            r"1 of 3 images cannot be read, first .*1\.png cannot",
        ),
        ("empty", None, 1, ValueError, "has no images"),
        ("gone", None, 1, FileNotFoundError, "no folder or file"),
        ("images/c.jpg", None, 1, ValueError, "must be a folder of images, or a CSV file"),
        ("p.csv", b"images/c.jpg\nimages/gone.png\n", 2, FileNotFoundError, r"1 of 2 images .*gone\.png; correct or"),
        ("p.csv", b"label,path\ncat,\n", 1, ValueError, "row 1 has no path; write one path per row"),
        ("p.csv", b"path,PATH\na.png,b.png\n", 1, ValueError, "the columns 'path' and 'PATH'"),
        ("p.csv", b"\xff\xfe\x00", 1, ValueError, "not a CSV file in UTF-8"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_images_that_do_not_fit_are_named(
    tmp_path: Path, given: str, content: Any, rows: int, error: type[Exception], words: str
) -> None:
    for name, text in (content if isinstance(content, dict) else {given: content} if content else {}).items():
        (tmp_path / name).write_bytes(text)
    with pytest.raises(error, match=words):
        image_list(tmp_path / given, rows)
