"""One file of scores: what is read equals what was written, and every refusal names the bad value and the remedy."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record

import dmpo_explore as dx
from dmpo_explore.runs import score_files
from dmpo_explore.runs.score_files import MOST_ARRAYS, read_scores

NAMES = ("cat", "dog", "bird")
FLOPS = (1e9, 2e9, 3e9)


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found = {
        "labels": rng.integers(3, size=20),
        "logits": rng.normal(size=(20, 3, 3)).astype(np.float32),
        "flops": FLOPS,
        "class_names": NAMES,
    }
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
    read = read_scores("\n".join([f"label,{scores}", *rows]).encode(), "t.csv", flops=np.array([1.0, 2.0]))
    assert read.meta.class_names == ("007", "008", "cat")
    assert read.correct.mean(axis=0).tolist() == pytest.approx([1 / 3, 1])


def test_a_table_may_have_logits() -> None:
    values = arrays()
    columns = {f"logit_{k + 1}_{c}": values["logits"][:, k, c] for k in range(3) for c in range(3)}
    data = pd.DataFrame({"label": values["labels"]} | columns).to_csv(index=False).encode()
    read = read_scores(data, "t.csv", flops=FLOPS)
    assert np.array_equal(read.prediction, read_scores(packed(), "a.npz").prediction)


LABELS = arrays()["labels"]
FOUR: dict[str, Any] = dx.policies.scores(arrays()["logits"])
BAD: dict[str, tuple[dict[str, Any], str]] = {
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
    "nan": ({"logits": np.full((20, 3, 3), np.nan)}, r"NaN or infinite logits at image 0"),
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
    "few flops": ({"flops": (1, 2)}, r"2 FLOPs for 3 exits; give one number per exit"),
    "falling": ({"flops": (1, 3, 2)}, r"FLOPs 1, 3, 2 must be positive and rise"),
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
    "objects": ({"labels": np.array([{}], object)}, r"labels\.npy is no array: it holds Python objects"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_the_value_and_the_remedy(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(ValueError, match=words) as error:
        read_scores(packed(**changes), "bad.npz")
    assert str(error.value).startswith("bad.npz") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
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
    ],
)
def test_a_bad_table_is_named_too(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^bad\.csv.*(?:{words})"):
        read_scores(text.encode("latin-1"), "bad.csv", flops=FLOPS)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", packed()[:200], packed()[:-40]])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^x\.npz is not a readable NPZ file"):
        read_scores(data, "x.npz")
    with pytest.raises(ValueError, match=r"must be an NPZ or a CSV file"):
        read_scores(data, "x.pkl")


def test_a_damaged_archive_is_refused_whatever_is_damaged() -> None:
    stream, rng = io.BytesIO(), np.random.default_rng(0)
    np.savez_compressed(stream, **arrays())
    whole = stream.getvalue()
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(len(whole), size=3):
            data[place] = rng.integers(256)
        with suppress(ValueError):
            read_scores(bytes(data), "x.npz")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_files, "MOST_UNPACKED", 999)
    monkeypatch.setattr(score_files, "_array", lambda *_: pytest.fail("it is unpacked"))
    with pytest.raises(ValueError, match=r"x\.npz: its arrays have .* bytes; at most 999 are read\. Save logits as"):
        read_scores(packed(), "x.npz")


def header(shape: str) -> bytes:
    """A .npy file that states a shape and has no values."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", r"labels\.npy is no array: EOF"),
        (
            header("(4294967296,)"),
            r"labels\.npy is no array: shape \(4294967296,\) of float64 does not fit a file of 128 bytes",
        ),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", r"labels\.npy is no array: EOF"),
        (None, r"it holds 1,001 arrays; at most 1000 are read"),
    ],
    ids=["text", "32 GiB", "a header of 4 GiB", "many"],
)
def test_members_that_are_no_arrays_are_refused_by_their_headers(content: bytes | None, words: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(MOST_ARRAYS + 1 if content is None else 0):
            archive.writestr(f"a{i}.npy", b"")
        archive.writestr("labels.npy", content) if content else None
    with pytest.raises(ValueError, match=rf"^x\.npz is not a readable NPZ file \({words}"):
        read_scores(file.getvalue(), "x.npz")


def test_a_file_of_many_members_is_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it reads every member"))
    with pytest.raises(ValueError, match=r"it holds 300,000 arrays; at most 1000 are read"):
        read_scores(b"PK\1\2" * 300_000, "x.npz")


def test_probabilities_are_read_as_such_and_never_softmaxed_again() -> None:
    logits = np.asarray(arrays()["logits"], np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found, plain = (read_scores(packed(**change)) for change in ({"logits": None, "probabilities": shares}, {}))
    np.testing.assert_allclose(found.confidence, plain.confidence, atol=2e-3)
    assert (found.prediction == plain.prediction).all()
    with pytest.raises(ValueError, match=r"all rows of the logits sum to 1, so they are probabilities; give logits, "):
        read_scores(packed(logits=shares))
    with pytest.raises(ValueError, match="probabilities must be numbers from 0 that sum to 1 in every row"):
        read_scores(packed(logits=None, probabilities=logits))
    with pytest.raises(ValueError, match="the batches: all rows of the logits sum to 1"):
        dx.record_logits([(shares, arrays()["labels"])], flops=FLOPS)
