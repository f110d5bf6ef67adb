"""Files of a model's scores → an exit record, what was understood and what looks wrong; and the images of their rows.

In: an NPZ file with arrays, or a table (CSV, Parquet) with one row per image. Both hold labels, and for every exit
either logits or the four scores. Out: `ExitRecord`. Nothing is unpickled, and no array is unpacked before its size is
known. Every error names the file, the bad value and what to change.
"""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.image_files import image_suffixes, images_in, known_formats, opened, read_errors
from ..data.image_set import ImageFiles
from ..data.labels import columns_by_name, csv_rows, folded, refused, whole_number, wrong_label
from ..records.record import ExitRecord, RecordMeta, check_record
from ..records.scores import SCORES, STORED, scores
from ..records.validation import MOST_CLASSES, UNREADABLE, check_logits
from ..utils.texts import check_regular, one_line, short
from ..utils.typing import Array

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
LOGIT, PREDICTION = re.compile(r"logit_(\d{1,9})_(\d{1,9})"), re.compile(r"prediction_(\d{1,9})")  # columns
LISTED = 12  # names, or exits, that a message lists
SUFFIXES = (".npz", ".csv", ".parquet")
MOST_UNPACKED = 2**29  # bytes of all arrays of an NPZ file, 512 MiB
MOST_ARRAYS = 1000  # in an NPZ file
ENTRY = b"PK\1\2"  # what the entry of each begins with in a ZIP file's directory
NUMBERS, CLASSES, WHOLE = ("fiu", "numbers"), ("fiuSU", "numbers or names of classes"), ("iu", "whole numbers")
KINDS = {  # array → NumPy's kinds of types that it may have, in words; scores but the prediction: numbers
    "labels": CLASSES, "prediction": CLASSES, "logits": NUMBERS, "flops": NUMBERS, "reference_flops": NUMBERS,
    "costs": NUMBERS, "exit_blocks": WHOLE,
}  # fmt: skip
AXES = {"labels": ("images",), "logits": ("images", "exits", "classes")}  # of scores: images and exits
NPZ = "np.savez(file, labels=labels, logits=logits, flops=flops)"


def read_scores(
    file: str | Path | bytes, name: str = "", *, flops: Sequence[float] | None = None,
    costs: Sequence[float] | None = None, class_names: Sequence[str] = (), split: str = "test", quiet: bool = False,
) -> ExitRecord:  # fmt: skip
    """The scores of any early-exit model in one NPZ, CSV or Parquet file, as a record of B images, K exits, C classes.

    Args:
        file: a path, or the bytes of a file.
        name: the file's name where bytes are given; its suffix decides how they are read.
        flops: (K,) FLOPs of an image that exits at each exit; needed where the file has none.
        costs: (K,) in place of ``flops``, what each step costs alone, in any unit: models or requests that follow one
            another add up.
        class_names: (C,) in the order of their numbers, in place of the file's; a table has none of classes that are in
            no row.
        split: of the record: ``test``, ``val`` …
        quiet: no warnings; `doubts` gives their texts.

    An NPZ file has the arrays ``labels`` (B,), ``logits`` or ``probabilities`` (B, K, C), or ``prediction``,
    ``confidence``, ``entropy`` and ``margin`` (B, K), and ``flops`` or ``costs`` (K,). It may have ``reference_flops``
    (by default the FLOPs of the last exit), ``class_names`` (C,), ``exit_blocks`` (K,), ``data`` and ``model``. A table
    has a column ``label``, and for exits k from 1 ``prediction_k``, ``confidence_k``, ``entropy_k`` and ``margin_k``,
    or ``logit_k_c`` for classes c from 0; ``flops_k`` may stand in every row. Labels and predictions are numbers from 0
    or names of classes. Beside the four scores a file may have others of `SCORES`, under their names; with logits all
    scores are computed from these.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is foreign, a part is missing or has another length, a label is no class, a score is
            impossible, FLOPs are missing, or logits are probabilities.

    Warns:
        UserWarning: the numbers look wrong, as `doubts`.

    Example:
        >>> import io, numpy as np
        >>> file = io.BytesIO()
        >>> labels, logits = np.array([0, 1]), np.array([[[2.0, 0.0], [3.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]])
        >>> np.savez(file, labels=labels, logits=logits, flops=[1e9, 2e9], class_names=["cat", "dog"])
        >>> understood(read_scores(file.getvalue(), "mine.npz"))
        '2 images, 2 exits, 2 classes, logits; accuracy by exit 50.0, 100.0 %'
    """
    if isinstance(file, bytes):
        data, name = file, name or "scores.npz"
    else:
        check_regular(Path(file))
        data, name = Path(file).read_bytes(), name or Path(file).name
    kind = Path(name).suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(f"{name} must be an NPZ, a CSV or a Parquet file; for NPZ save it with {NPZ}")
    found = _npz(data, name) if kind == ".npz" else read_table(data, name)
    if (steps := found.get("costs") if costs is None else np.asarray(costs)) is not None:
        if flops is not None or "flops" in found:
            raise ValueError(f"{name}: costs and flops are given; give one of them")
        if (dtype := np.asarray(steps).dtype).kind not in "iuf":
            raise ValueError(f"{name}: costs must be numbers, not {dtype}")
        flops = np.cumsum(np.ravel(steps), dtype=np.float64).tolist()
    if len(class_names):
        found = {**found, "class_names": np.array([*class_names])}
    record = _record(found, name, flops, split)
    for text in () if quiet else doubts(record):
        warnings.warn(f"{name}: {text}", stacklevel=2)
    return record


# -- files --


def _npz(data: bytes, name: str) -> dict[str, Array]:
    found, unpacked = dict[str, Array](), 0
    try:
        count = data.count(ENTRY)  # zipfile would read them all, a million in a minute
        if count > MOST_ARRAYS:
            raise ValueError(f"it holds {count:,} arrays; at most {MOST_ARRAYS} are read")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked <= MOST_UNPACKED:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                found = {key: arrays[key] for key in arrays.files}
        if foreign := [key for key, array in found.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{foreign[0]} is no array")
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error, OSError, RuntimeError) as error:
        reason = one_line(error, 200)
        raise ValueError(f"{name} is not a readable NPZ file ({reason}); save it with {NPZ}") from None
    if unpacked > MOST_UNPACKED:
        raise ValueError(
            f"{name}: its arrays have {unpacked:,} bytes; at most {MOST_UNPACKED:,} are read. Save logits as float16, "
            "or the four scores without logits, or a record folder with dx.record_logits(…).save(folder)"
        )
    return {key: array.astype(str) if array.dtype.kind == "S" else array for key, array in found.items()}


def _texts(data: bytes, name: str) -> Any:
    """The cells of a CSV or Parquet file as texts."""
    import pandas as pd

    if name.lower().endswith(".parquet"):
        try:
            return pd.read_parquet(io.BytesIO(data)).astype(str)
        except ImportError:
            raise ImportError(f"{name} needs pyarrow: pip install pyarrow, or save the table as CSV") from None
        except Exception as error:  # pyarrow's errors are of many kinds
            raise ValueError(f"{name} is not a readable Parquet file: {one_line(error, 200)}") from None
    try:
        table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # pandas' own errors too
        raise ValueError(f"{name} is not a readable CSV file in UTF-8: {one_line(error, 200)}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas then takes the first column for names of rows
        raise ValueError(f"{name} has rows with more entries than its {len(table.columns)} columns; name every column")
    heads = next(csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")), [])  # pandas renames doubles
    table.columns = [str(head).strip() for head in (heads if len(heads) == len(table.columns) else table.columns)]
    return table


def read_table(data: bytes, name: str) -> dict[str, Array]:
    """The columns of a table: ``labels`` (B,), ``logits`` (B, K, C) or the four scores (B, K), and ``flops`` (K,).

    Raises:
        ValueError: no table, or a column that is missing, there twice, or not of numbers; ``name`` is named.
    """
    table = _texts(data, name)
    if "label" not in table.columns:
        raise ValueError(f"{name} has no column 'label' (it has {some(table.columns)}); add the true class of each row")
    columns_by_name([*table.columns], name)
    places = {(int(hit[1]), int(hit[2])) for column in table.columns if (hit := LOGIT.fullmatch(column))}
    numbers = {int(hit[1]) for column in table.columns if (hit := PREDICTION.fullmatch(column))}
    exits = _exits({k for k, _ in places} or numbers, "logit_{}_0" if places else "prediction_{}", table, name)
    found, answered = dict[str, Array](), ["label"]
    if places:
        classes = range(max(c for _, c in places) + 1)
        parts = [_numbers(table, (f"logit_{k}_{c}" for c in classes), name) for k in exits]
        found["logits"] = np.stack(parts, axis=1)
    else:
        answered += [f"prediction_{k}" for k in exits]
        scored = [*STORED[1:], *(score for score in SCORES if score not in STORED and f"{score}_1" in table.columns)]
        found = {score: _numbers(table, (f"{score}_{k}" for k in exits), name) for score in scored}
    answers = _names_or_numbers(table[answered])
    found |= {"labels": answers[:, 0]} | ({} if places else {"prediction": answers[:, 1:]})
    if "flops_1" in table.columns:
        values = _numbers(table, (f"flops_{k}" for k in exits), name)
        if (values != values[:1]).any():
            raise ValueError(f"{name}: flops_1 to flops_{len(exits)} differ from row to row; give each exit one number")
        found["flops"] = values[0]
    return found


def _exits(numbers: set[int], column: str, table: Any, name: str) -> range:
    """The exits from 1, each of which must have its column."""
    if 0 in numbers:
        zero = repr(column.format(0))
        raise ValueError(f"{name} has a column of exit 0, such as {zero}; exits count from 1: rename its columns")
    if gap := next((k for k in range(1, len(numbers) + 2) if k not in numbers and k <= max(numbers, default=1)), None):
        lacking = f"no column {column.format(gap)!r} (it has {some(table.columns)})"
        raise ValueError(f"{name} has {lacking}; exits count from 1: add it")
    return range(1, len(numbers) + 1)


def _numbers(table: Any, columns: Iterable[str], name: str) -> Array:
    """(B, n) float64 of these columns."""
    parts = []
    for column in columns:
        if column not in table.columns:
            raise ValueError(f"{name} has no column {column!r} (it has {some(table.columns)}); add it")
        for row, text in enumerate(table[column]):
            if not NUMBER.fullmatch(text.strip()):
                where = f"{name}, row {row + 1}, column {column}"
                raise ValueError(f"{where}: {short(text)} is not a number; write a number")
        parts.append(np.asarray(table[column].to_numpy(), dtype=np.float64))
    return np.stack(parts, axis=1)


def _names_or_numbers(table: Any) -> Array:
    """(B, n) of these columns: numbers if every value of all of them is a whole number, else texts."""
    texts = [text.strip() for row in table.to_numpy().tolist() for text in row]
    numbers = [whole_number(text) for text in texts]
    return np.array(texts if None in numbers else numbers).reshape(table.shape)


def some(names: Any) -> str:
    """The first `LISTED` names, for a message."""
    listed = [short(str(name))[1:-1] for name in names]
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more or "nothing"


# -- the record --


def _record(found: Mapping[str, Array], name: str, flops: Sequence[float] | None, split: str) -> ExitRecord:
    if "probabilities" in found and "logits" not in found:
        found = {**found, "logits": logits_of(found["probabilities"], f"{name}: probabilities")}
    _check_parts(found, name)
    if "logits" in found:
        refuse_probabilities(found["logits"], name)
        values = values_of(found["logits"], name)
    else:
        given = [score for score in SCORES if score in found and score != "prediction"]
        values = {score: np.asarray(found[score], SCORES[score].kind) for score in given}
        values["prediction"] = _classes(found["prediction"], _class_names(found, name), f"{name}: prediction", np.int32)
    return record_of(found, values, name, flops, split)


INSIDE = 0.99  # of the values of probabilities that lie in [0, 1]
ROUNDED, LEAST = 1e-3, 1e-7  # of such a value; the least probability whose logarithm is taken


def _shares(values: Array) -> tuple[float, Array]:
    """How many of an exit's values (B, C) lie in [0, 1], as a share; and whether each row sums to 1.

    Ours: a sum may be off by what rounding every value to two decimals does at most, but by no more than 0.5.
    """
    z = np.asarray(values, np.float32)
    off = np.abs(z.sum(axis=1) - 1) <= min(0.5, ROUNDED + 0.005 * z.shape[1])
    return float(((z >= -ROUNDED) & (z <= 1 + ROUNDED)).mean()), off


def refuse_probabilities(logits: Array, name: str) -> None:
    """Raise ValueError where the logits (B, K, C) of any exit are probabilities: a softmax of these is far too flat."""
    parts = [_shares(logits[:, k]) for k in range(logits.shape[1]) if logits.shape[2] > 1]
    if found := [str(k) for k, (inside, rows) in enumerate(parts, start=1) if inside > INSIDE and rows.mean() > 0.5]:
        what = f"the logits of exit {some(found)} lie in [0, 1] and their rows sum to 1, so they are probabilities"
        or_name = "name the array probabilities, " * name.endswith(".npz")
        raise ValueError(f"{name}: {what}; give logits, {or_name}or give their logarithms")


def logits_of(probabilities: Array, what: str) -> Array:
    """The logarithms of probabilities (B, K, C), whose softmax they are; ValueError where a row does not sum to 1."""
    numbers = probabilities.dtype.kind in "fiu" and probabilities.ndim == 3
    parts = [_shares(probabilities[:, k]) for k in range(probabilities.shape[1])] if numbers else []
    if not parts or not all(inside == 1 and rows.all() for inside, rows in parts):
        raise ValueError(f"{what} must be numbers from 0 that sum to 1 in every row; logits go under logits")
    return np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST))


def values_of(logits: Array, name: str) -> dict[str, Array]:
    """The four scores (B, K) of logits (B, K, C), and the logits as a record keeps them; ValueError if it cannot."""
    with np.errstate(over="ignore"):
        kept = np.asarray(logits, np.float32).astype(np.float16)
    try:
        check_logits(kept, name)
    except ValueError as error:
        raise ValueError(f"{error}; those of a record are at most 65,504") from None
    return scores(np.asarray(logits, np.float32)) | {"logits": kept}


def record_of(
    found: Mapping[str, Array], values: Mapping[str, Array], name: str, flops: Sequence[float] | None, split: str
) -> ExitRecord:
    """The checked record of scores ``values`` with the labels, class names and facts in ``found``; ``name``: of
    their source, for messages.
    """
    names = _class_names(found, name)
    labels = _classes(found["labels"], names, f"{name}: label", np.int64)
    meta = _meta(found, name, names, values["prediction"].shape[1], flops, split)
    record = ExitRecord.of_arrays({"labels": labels, **values}, meta)
    where = Path(name)
    try:
        check_record(record, where, read_large=True)
    except ValueError as error:
        text = str(error).replace(str(where / "meta.json"), name)
        text = re.sub(rf"^{re.escape(str(where))}[/\\](?:scores[/\\])?(\w+)\.npy", rf"{name}, \1", text)
        raise ValueError(f"{text}; correct it there") from None
    return record


def _check_parts(found: Mapping[str, Array], name: str) -> None:
    """Check that labels and scores are there, with as many rows and exits, and the types of all arrays."""
    needed = ["labels", *(["logits"] if "logits" in found else STORED)]
    if absent := [key for key in needed if key not in found]:
        either = "" if absent[0] == "labels" else ", or logits (images, exits, classes) instead of all four scores"
        raise ValueError(f"{name} has no array {absent[0]!r} (it has {some(found)}); add it{either}")
    for key, (kinds, wanted) in (dict.fromkeys(SCORES, NUMBERS) | KINDS).items():
        if key in found and found[key].dtype.kind not in kinds:
            raise ValueError(f"{name}: {key} has the type {found[key].dtype}; it must be {wanted}")
    further = [] if "logits" in found else [score for score in SCORES if score in found and score not in STORED]
    for key in [*needed, *further]:
        shape, axes = found[key].shape, AXES.get(key, ("images", "exits"))
        if len(shape) != len(axes) or not found[key].size:
            raise ValueError(f"{name}: {key} has shape {shape}; it must be ({', '.join(axes)}), at least one of each")
        if shape[0] != len(found["labels"]):
            rows = f"{shape[0]:,} rows for {len(found['labels']):,} labels"
            raise ValueError(f"{name}: {key} has {rows}; give both one row per image")
        if len(axes) > 1 and shape[1] != (first := found[needed[1]].shape[1]):
            raise ValueError(f"{name}: {key} has {shape[1]} exits and {needed[1]} has {first}; give both as many")


def _class_names(found: Mapping[str, Array], name: str) -> tuple[str, ...]:
    """The names that the file gives; else those of labels and predictions, or numbers from 0."""
    n_classes = found["logits"].shape[2] if "logits" in found else None
    if "class_names" in found:
        names = tuple(str(one) for one in np.asarray(found["class_names"]).ravel())
        if n_classes not in (None, len(names)):
            raise ValueError(f"{name}: {len(names)} class_names for logits of {n_classes} classes; give as many")
        return names
    used = [np.asarray(found[key]).ravel() for key in ("labels", "prediction") if key in found]
    if any(one.dtype.kind in "US" for one in used):
        for key in ("labels", "prediction"):
            given = np.asarray(found.get(key, ())).ravel()
            if (wrong := wrong_label(given.tolist())) is not None:
                row = wrong // (given.size // min(map(len, used))) + 1
                raise ValueError(f"{name}: {key.removesuffix('s')} in row {row}: {refused(given[wrong])}")
        if n_classes is not None:
            raise ValueError(
                f"{name}: labels are texts such as {short(str(used[0][0]))}, and the order of the classes is unknown; "
                "add class_names in the order of the logits, or number the labels from 0"
            )
        labels, predicted = ({str(one) for one in part} for part in used)
        if labels.isdisjoint(predicted) or not all(one.dtype.kind in "US" for one in used):
            raise ValueError(
                f"{name}: no prediction, such as {short(min(predicted))}, is one of the labels, such as "
                f"{short(min(labels))}; name classes in both alike, or number them from 0 in both"
            )
        return tuple(sorted(labels | predicted))
    valid = [part[(part >= 0) & (part < MOST_CLASSES)] for part in used]  # others are refused later, with their row
    most = n_classes or int(max(part.max(initial=0) for part in valid)) + 1
    return tuple(str(number) for number in range(most))


def _classes(given: Array, names: tuple[str, ...], what: str, kind: type) -> Array:
    """Numbers of classes; ValueError for the first value that is no class."""
    if given.dtype.kind in "US":
        number = {name: i for i, name in enumerate(names)}
        twice = {name for name, count in Counter(names).items() if count > 1}
        if found := twice.intersection(map(str, given.ravel())):
            text = short(min(found))
            raise ValueError(f"{what} {text} is the name of two classes; number the classes from 0, or rename one")
        bad = np.array([str(one) not in number for one in given.ravel()]).reshape(given.shape)
        if not bad.any():
            return np.array([number[str(one)] for one in given.ravel()], kind).reshape(given.shape)
    else:
        bad = ~((given >= 0) & (given < len(names)) & (given == np.floor(given)))
        if not bad.any():
            return np.asarray(given, kind)
    where = tuple(int(axis[0]) for axis in np.nonzero(bad))
    value = short(given[where].item())
    at = f" of exit {where[1] + 1}" if len(where) > 1 else ""
    from_one = given.dtype.kind in "iuf" and given.min() == 1 and given.max() == len(names)
    hint = "; they seem to count from 1: subtract 1" if from_one else ""
    raise ValueError(
        f"{what} {value}{at} in row {where[0] + 1} is not a class; use a number from 0 to {len(names) - 1} or a name: "
        f"{some(names)}{hint}"
    )


def _meta(
    found: Mapping[str, Array],
    name: str,
    names: tuple[str, ...],
    n_exits: int,
    flops: Sequence[float] | None,
    split: str,
) -> RecordMeta:
    costs = tuple(float(one) for one in np.ravel(found.get("flops", ()) if flops is None or not len(flops) else flops))
    if not costs:
        raise ValueError(
            f"{name} has no FLOPs; give those of its {n_exits} exits, such as 1.2, 2.4, 3.6 GFLOPs: as flops=[…], as "
            f"the array flops of an NPZ file, or as the columns flops_1 to flops_{n_exits} of a CSV file"
        )
    blocks = tuple(int(one) for one in np.ravel(found.get("exit_blocks", np.arange(1, n_exits + 1))))
    if len(blocks) != n_exits:
        raise ValueError(f"{name}: {len(blocks)} exit_blocks for {n_exits} exits; give one per exit, or leave it out")
    texts = {key: str(np.ravel(found[key])[0]) for key in ("data", "model") if np.size(found.get(key, ()))}
    given = np.ravel(found.get("reference_flops", costs[-1:]))
    if len(given) != 1:
        raise ValueError(f"{name}: reference_flops has {len(given)} numbers; give one, or leave it out")
    return RecordMeta(
        data=texts.get("data", Path(name).stem),
        split=split,
        class_names=names,
        exit_blocks=blocks,
        flops=costs,
        reference_flops=float(given[0]),
        model=texts.get("model", "unknown"),
    )


# What was understood of scores, and what looks wrong with them.
#
# In: a record that was just read. Out: sentences. Axes in another order, labels of other rows and flipped signs have
# valid shapes and values; what gives them away is an accuracy that no model has.

FALL = 0.03  # of the accuracy from an exit to the last one, beyond three standard errors
SURE = 3.0  # standard errors
AGREES = 0.3  # Cohen's kappa of a model that is better than chance, however few the images; gain of another reading
MOST_SORTED = 2000  # classes whose order is looked into
MANY_EXITS = 60


def understood(record: ExitRecord) -> str:
    """What was read, in words: images, exits, classes, whether there are logits, and the accuracy of every exit.

    Example:
        >>> import dmpo_explore as dx
        >>> understood(dx.load_run("demo").record("test"))
        '1,300 images, 6 exits, 81 classes, logits; accuracy by exit 85.1, 87.2, 87.8, 89.0, 90.3, 90.8 %'
    """
    sizes = {"image": record.n_images, "exit": record.n_exits, "class": len(record.meta.class_names)}
    counted = (f"{n:,} {word}{'' if n == 1 else 'es' if word == 'class' else 's'}" for word, n in sizes.items())
    kind = "scores without logits" if record.logits is None else "logits"
    return f"{', '.join(counted)}, {kind}; accuracy by exit {some([f'{100 * one:.1f}' for one in record.accuracy])} %"


def doubts(record: ExitRecord) -> list[str]:
    """What looks wrong with scores that were made elsewhere, and what may be the reason; empty where nothing does.

    One image, one class, more than 60 exits; an accuracy that falls with depth; an exit that is right no more often
    than chance (the agreement of answers that know nothing of the labels, as in Cohen's kappa); logits in [0, 1].

    Example:
        >>> import dmpo_explore as dx
        >>> doubts(dx.load_run("demo").record("test"))
        []
        >>> doubts(dx.load_run("demo").record("test").subset([0]))
        ['it has one image; give one row per image']
    """
    if record.n_images == 1:
        return ["it has one image; give one row per image"]
    found, accuracy = list[str](), 100 * record.accuracy
    if record.n_exits > MANY_EXITS:
        found.append(f"it has {record.n_exits} exits; are the axes (images, exits, classes)?")
    best = int(accuracy.argmax())
    lost = record.correct[:, best].astype(np.float64) - record.correct[:, -1]
    if len(names := np.unique(record.labels)) == 1:
        only = short(record.meta.class_names[names[0]])
        found.append(f"all its images are of one class, {only}; are the labels right?")
    elif text := _blind(record):
        found.append(text)
    elif lost.mean() > max(FALL, SURE * lost.std() / math.sqrt(record.n_images)):
        fall = f"from {accuracy[best]:.1f} % at exit {best + 1} to {accuracy[-1]:.1f} % at the last"
        found.append(f"accuracy falls with depth, {fall}; are the exits in reversed or another order?")
    inside = [] if record.logits is None else [_shares(record.logits[:, k])[0] for k in range(record.n_exits)]
    if flat := [str(k) for k, share in enumerate(inside, start=1) if share > INSIDE]:
        what = f"the logits of exit {some(flat)} lie in [0, 1], and their rows do not sum to 1"
        found.append(
            f"{what}: sigmoids or similarities? Their softmax is flat; give the values before the last function"
        )
    return found


def _blind(record: ExitRecord) -> str:
    """What is wrong with the last exit, right no more often than chance or far more often with another reading, or with
    an earlier one that is right less often than chance; empty: nothing.
    """
    classes, n, last = len(record.meta.class_names), record.n_images, record.n_exits - 1
    labels = np.bincount(record.labels, minlength=classes) / n
    for k in reversed(range(record.n_exits)):
        chance = float(labels @ np.bincount(record.prediction[:, k], minlength=classes)) / n
        gain, error = record.accuracy[k] - chance, SURE * math.sqrt(chance * (1 - chance) / n)
        reading = _reading(record, k) if k == last or gain < -error else ""
        if reading or gain < -error or (k == last and gain <= min(error, AGREES * (1 - chance))):
            share = f"{100 * record.accuracy[k]:.1f} % of the images, and chance for {100 * chance:.1f} %"
            ask = "are labels of other rows, classes in another order, or the axes not (images, exits, classes)?"
            return f"exit {k + 1} is right for {share}; {reading or ask}"
    return ""


def _reading(record: ExitRecord, k: int) -> str:
    """The reading of the file by which exit k would be right far more often; empty if there is none."""
    labels, answers, logits = record.labels, record.prediction[:, k], record.logits
    right = {f"labels moved by {step:+d} row": (answers == np.roll(labels, step)).mean() for step in (-1, 1)}
    right |= {f"{step:+d} to every label": (answers == labels + step).mean() for step in (-1, 1)}
    if logits is not None:
        right["the sign of the logits flipped"] = (logits[:, k].argmin(axis=1) == labels).mean()
        if logits.shape[1] == logits.shape[2]:
            right["the axes as (images, classes, exits)"] = (logits[:, :, k].argmax(axis=1) == labels).mean()
    if 10 * (classes := len(record.meta.class_names)) <= record.n_images and classes <= MOST_SORTED:
        pairs = np.bincount(answers.astype(np.int64) * classes + labels, minlength=classes**2)
        right["the classes in another order"] = pairs.reshape(classes, classes).max(axis=1).sum() / len(labels)
    best = max(right, key=right.__getitem__)  # the first of equals
    better = right[best] > record.accuracy[k] + AGREES
    return f"with {best} it would be right for {100 * right[best]:.1f} %" if better else ""


# Images that belong to the rows of scores: a folder of images, or a CSV file of paths, one per row.
#
# In: the folder or the file, and the number of rows. Out: `ImageFiles`. Headers alone are read here; pixels are read
# when an image is shown. Every error names the first bad file and what to change.


def image_list(place: str | Path, n_rows: int) -> ImageFiles:
    """The images of ``n_rows`` rows of scores, in order.

    Args:
        place: a folder, whose images are taken sorted by path, subfolders included; or a CSV file with one path per
            row, relative to its folder or absolute. With a first row of column names its column ``path`` is taken.

    Raises:
        FileNotFoundError: no such folder or file, or images are missing.
        ValueError: another number of images than rows, a file that is no image, or another kind of file.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i in range(2):
        ...         Image.new("L", (4, 4), 100 * i).save(f"{folder}/{i}.png")
        ...     image_list(folder, 2)[1].shape
        (4, 4, 3)
    """
    place = Path(place)
    if place.is_dir():
        paths = images_in(place)
        if not paths:
            raise ValueError(f"{place} has no images ({', '.join(sorted(image_suffixes()))}); give another folder")
    elif place.suffix.lower() == ".csv":
        paths = _paths(place)
    elif place.exists():
        raise ValueError(f"{place} must be a folder of images, or a CSV file of paths")
    else:
        raise FileNotFoundError(f"no folder or file {place}; correct the path")
    if len(paths) != n_rows:
        raise ValueError(f"{place} has {len(paths):,} images for {n_rows:,} rows of scores; give one image per row")
    bad = list[Exception]()
    for path in paths:
        try:
            with read_errors(path), path.open("rb") as stream, opened(stream, known_formats()):
                pass
        except (OSError, ValueError) as error:
            bad.append(error)
    if bad:
        kind = FileNotFoundError if isinstance(bad[0], FileNotFoundError) else ValueError
        raise kind(
            f"{place}: {len(bad):,} of {n_rows:,} images cannot be read, first {bad[0]}; correct or replace them"
        )
    return ImageFiles(paths)


def _paths(file: Path) -> list[Path]:
    rows = [row for row in csv_rows(file) if row]
    named = bool(rows) and "path" in map(folded, rows[0])
    column = columns_by_name(rows[0], str(file))["path"] if named else 0
    listed = rows[1:] if named else rows
    if short := next((i for i, row in enumerate(listed, 1) if len(row) <= column or not row[column].strip()), None):
        raise ValueError(f"{file}: row {short} has no path; write one path per row")
    return [file.parent / row[column].strip() for row in listed]


# Answers of any early-exit model, batch by batch → an exit record.
#
# In: batches of logits and labels, of torch, numpy or lists; FLOPs of every exit. Out: `ExitRecord`. Scores are
# computed as each batch comes, so that only they and the logits in float16 are kept.


def record_logits(
    batches: Iterable[tuple[Any, Any]],
    *,
    flops: Sequence[float],
    reference_flops: float | None = None,
    class_names: Sequence[str] = (),
    data: str = "my-data",
    split: str = "test",
    model: str = "unknown",
    exit_blocks: Sequence[int] = (),
    keep_logits: bool = True,
) -> ExitRecord:
    """The record of an early-exit model's logits: predictions, confidences, entropies and margins of every exit.

    Args:
        batches: pairs of logits and labels. Logits are (b, K, C), or K arrays (b, C), one per exit, the first exit
            first; torch tensors on any device, numpy arrays or lists. Labels are (b,), numbers from 0.
        flops: (K,) FLOPs of an image that exits at each exit, everything that ran counted: `models.exit_flops`.
        reference_flops: of the plain model with one exit; by default those of the last exit.
        class_names: C names; by default the numbers. data, split, model: names, for the record.
        exit_blocks: (K,) blocks that the exits follow, counted from 1; by default 1 to K.
        keep_logits: temperatures, Brier score, likelihood and scores that are not stored need them.

    Raises:
        ValueError: no batches, shapes that differ, NaN or infinite logits, labels that are no classes, or FLOPs that do
            not rise.

    Example:
        >>> batches = [([[[2.0, 0.0], [3.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]], [0, 1])]
        >>> record = record_logits(batches, flops=(1e9, 2e9), class_names=("cat", "dog"))
        >>> record.n_images, record.n_exits, record.correct.mean(axis=0).tolist()
        (2, 2, [0.5, 1.0])
        >>> record.save("my-records/test")  # doctest: +SKIP
    """
    parts, labels = list[dict[str, Array]](), list[Array]()
    for number, (given, targets) in enumerate(batches, start=1):
        name = f"batch {number}"
        logits, found = _logits(given, name), _as_array(targets)
        if found.shape != logits.shape[:1]:
            raise ValueError(f"{name}: labels of shape {found.shape} for logits of {len(logits)} images; give one each")
        if parts and logits.shape[1:] != parts[0]["logits"].shape[1:]:
            raise ValueError(f"{name}: logits {logits.shape} must have the exits and classes of the batches before")
        parts.append(values_of(logits, name))
        labels.append(found)
    if not parts:
        raise ValueError("no batches to record; an iterator that was read before is empty")
    values = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    refuse_probabilities(values["logits"], "the batches")
    facts: dict[str, Any] = {
        "class_names": tuple(class_names),
        "exit_blocks": exit_blocks,
        "data": data,
        "model": model,
    }
    facts |= {"reference_flops": reference_flops, "labels": np.concatenate(labels), "logits": values["logits"]}
    if not keep_logits:
        del values["logits"]
    given_facts = {key: np.asarray(value) for key, value in facts.items() if value is not None and np.size(value)}
    return record_of(given_facts, values, "the batches", tuple(map(float, flops)), split)


def _logits(given: Any, name: str) -> Array:
    """Logits (b, K, C), float32; a sequence of K arrays (b, C) is stacked."""
    if isinstance(given, list | tuple) and len(given) and all(hasattr(one, "shape") for one in given):
        exits = [_as_array(one) for one in given]
        if len({one.shape for one in exits}) > 1:
            raise ValueError(f"{name}: exits with logits of shapes {[one.shape for one in exits]}; all must be equal")
        logits = np.stack(exits, axis=1)
    else:
        logits = _as_array(given)
    if logits.ndim != 3 or not logits.size:
        raise ValueError(f"{name}: logits have shape {logits.shape}; they must be (images, exits, classes)")
    return logits


def _as_array(given: Any) -> Array:
    """A numpy array; a torch tensor of any device and type becomes one without an import of torch."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = given.float() if given.is_floating_point() else given
    return np.asarray(given)
