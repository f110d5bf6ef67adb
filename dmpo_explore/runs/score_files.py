"""Files of a model's scores → arrays: CSV or NPZ, and the images that belong to their rows."""

from __future__ import annotations

import csv
import io
import itertools
import re
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
from ..records.validation import MOST_CLASSES, UNREADABLE, logits_problems, read_header
from ..utils.texts import check_regular, one_line, short
from ..utils.typing import Array

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
LISTED = 12  # names that a message lists


def read_table(data: bytes, name: str) -> dict[str, Array]:
    """The columns of a CSV file: ``labels`` (B,), ``logits`` (B, K, C) or the four scores (B, K), and ``flops`` (K,).

    Raises:
        ValueError: no CSV file, or a column that is missing, there twice, or not of numbers; ``name`` is named.
    """
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:  # pandas' own errors too
        raise ValueError(f"{name} is not a readable CSV file in UTF-8: {one_line(error, 200)}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas then takes the first column for names of rows
        raise ValueError(f"{name} has rows with more entries than its {len(table.columns)} columns; name every column")
    heads = next(csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")), [])  # pandas renames doubles
    table.columns = [str(head).strip() for head in (heads if len(heads) == len(table.columns) else table.columns)]
    if "label" not in table.columns:
        raise ValueError(f"{name} has no column 'label' (it has {some(table.columns)}); add the true class of each row")
    columns_by_name([*table.columns], name)
    logits = [re.fullmatch(r"logit_(\d{1,9})_(\d{1,9})", column) for column in table.columns]
    if places := {(int(hit[1]), int(hit[2])) for hit in logits if hit}:
        exits, classes = _exits({k for k, _ in places}, "logit_0_0", name), range(max(c for _, c in places) + 1)
        _check_columns(table, (f"logit_{k}_{c}" for k in exits for c in classes), name)
        parts = [_numbers(table, [f"logit_{k}_{c}" for c in classes], name) for k in exits]
        found = {"labels": _names_or_numbers(table[["label"]])[:, 0], "logits": np.stack(parts, axis=1)}
        return found | _flops(table, exits, name)
    numbers = {int(hit[1]) for column in table.columns if (hit := re.fullmatch(r"prediction_(\d{1,9})", column))}
    if not numbers:
        raise ValueError(f"{name} has no column 'prediction_1' (it has {some(table.columns)}); exits count from 1")
    exits = _exits(numbers, "prediction_0", name)
    further = [score for score in SCORES if score not in STORED and f"{score}_1" in table.columns]
    scored = [*STORED, *further]
    _check_columns(table, (f"{score}_{k}" for score in scored for k in exits), name)
    answers = _names_or_numbers(table[["label", *(f"prediction_{k}" for k in exits)]])
    found = {"labels": answers[:, 0], "prediction": answers[:, 1:], **_flops(table, exits, name)}
    return found | {
        score: _numbers(table, [f"{score}_{k}" for k in exits], name) for score in scored if score != "prediction"
    }


def _flops(table: Any, exits: range, name: str) -> dict[str, Array]:
    """The columns ``flops_1`` to ``flops_K``, which say the same in every row; none without the first."""
    columns = [f"flops_{k}" for k in exits]
    if columns[0] not in table.columns:
        return {}
    _check_columns(table, columns, name)
    values = _numbers(table, columns, name)
    if (values != values[:1]).any():
        raise ValueError(f"{name}: flops_1 to {columns[-1]} differ from row to row; give each exit one number")
    return {"flops": values[:1].ravel()}


def _exits(numbers: set[int], zero: str, name: str) -> range:
    """The exits from 1 to the largest number; ValueError for an exit 0, whose column would be ``zero``."""
    if 0 in numbers:
        raise ValueError(f"{name} has a column of exit 0, such as {zero!r}; exits count from 1: rename its columns")
    return range(1, max(numbers) + 1)


def _check_columns(table: Any, columns: Iterable[str], name: str) -> None:
    there = set(table.columns)
    absent = next((column for column in columns if column not in there), None)
    if absent:
        raise ValueError(f"{name} has no column {absent!r} (it has {some(table.columns)}); add it")


def _numbers(table: Any, columns: Sequence[str], name: str) -> Array:
    """(B, n) float64 of these columns."""
    for column in columns:
        for row, text in enumerate(table[column]):
            if not NUMBER.fullmatch(text.strip()):
                raise ValueError(
                    f"{name}, row {row + 1}, column {column}: {short(text)} is not a number; write a number"
                )
    return np.asarray(table[list(columns)].to_numpy(), dtype=np.float64)


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


# Scores of any model in one file → an exit record.
#
# In: an NPZ file with arrays, or a CSV file with one row per image. Both hold labels, and for every exit either logits
# or the four scores. Out: `ExitRecord`. Nothing is unpickled, and no array is unpacked before its size is known. Every
# error names the file, the bad value and what to change.

MOST_UNPACKED = 2**29  # bytes of all arrays of an NPZ file, 512 MiB
MOST_ARRAYS = 1000  # in an NPZ file
ENTRY = b"PK\1\2"  # what the entry of each begins with in a ZIP file's directory
ROUNDED, LEAST = 1e-3, 1e-7  # of sums of probabilities; of a probability whose logarithm is taken
NUMBERS, CLASSES, WHOLE = ("fiu", "numbers"), ("fiuSU", "numbers or names of classes"), ("iu", "whole numbers")
KINDS = {  # array → NumPy's kinds of types that it may have, in words; scores but the prediction: numbers
    "labels": CLASSES, "prediction": CLASSES, "logits": NUMBERS, "flops": NUMBERS, "reference_flops": NUMBERS,
    "costs": NUMBERS, "exit_blocks": WHOLE,
}  # fmt: skip
NPZ = "np.savez(file, labels=labels, logits=logits, flops=flops)"


def read_scores(
    file: str | Path | bytes, name: str = "", *, flops: Sequence[float] | None = None,
    costs: Sequence[float] | None = None, class_names: Sequence[str] = (), split: str = "test",
) -> ExitRecord:  # fmt: skip
    """The scores of any early-exit model in one NPZ or CSV file, as a record of B images, K exits and C classes.

    Args:
        file: a path, or the bytes of a file.
        name: the file's name where bytes are given; its suffix decides how they are read.
        flops: (K,) FLOPs of an image that exits at each exit; needed where the file has none.
        costs: (K,) in place of ``flops``, what each step costs alone, in any unit: models or requests that follow one
            another add up.
        class_names: (C,) in the order of their numbers, in place of the file's; a CSV file has none of classes that are
            in no row.
        split: of the record: ``test``, ``val`` …

    An NPZ file has the arrays ``labels`` (B,), ``logits`` or ``probabilities`` (B, K, C), or ``prediction``,
    ``confidence``, ``entropy`` and ``margin`` (B, K), and ``flops`` or ``costs`` (K,). It may have ``reference_flops``
    (by default the FLOPs of the last exit), ``class_names`` (C,), ``exit_blocks`` (K,), ``data`` and ``model``. A CSV
    file has a column ``label``, and for exits k from 1 ``prediction_k``, ``confidence_k``, ``entropy_k`` and
    ``margin_k``, or ``logit_k_c`` for classes c from 0; ``flops_k`` may stand in every row. Labels and predictions are
    numbers from 0 or names of classes. Beside the four scores a file may have others of `SCORES`, under their names;
    with logits all scores are computed from these.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is foreign, a part is missing or has another length, a label is no class, a score is
            impossible, FLOPs are missing, or logits are probabilities.

    Example:
        >>> import io, numpy as np
        >>> file = io.BytesIO()
        >>> labels, logits = np.array([0, 1]), np.array([[[2.0, 0.0], [3.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]])
        >>> np.savez(file, labels=labels, logits=logits, flops=[1e9, 2e9], class_names=["cat", "dog"])
        >>> record = read_scores(file.getvalue(), "mine.npz")
        >>> record.n_images, record.n_exits, record.correct.mean(axis=0).tolist()
        (2, 2, [0.5, 1.0])
    """
    if isinstance(file, bytes):
        data, name = file, name or "scores.npz"
    else:
        check_regular(Path(file))
        data, name = Path(file).read_bytes(), name or Path(file).name
    kind = Path(name).suffix.lower()
    if kind not in (".npz", ".csv"):
        raise ValueError(f"{name} must be an NPZ or a CSV file; for NPZ save it with {NPZ}")
    found = _npz(data, name) if kind == ".npz" else read_table(data, name)
    if (steps := found.get("costs") if costs is None else np.asarray(costs)) is not None:
        if flops is not None or "flops" in found:
            raise ValueError(f"{name}: costs and flops are given; give one of them")
        if (dtype := np.asarray(steps).dtype).kind not in "iuf":
            raise ValueError(f"{name}: costs must be numbers, not {dtype}")
        flops = np.cumsum(np.ravel(steps), dtype=np.float64).tolist()
    if len(class_names):
        found = {**found, "class_names": np.array([*class_names])}
    return _record(found, name, flops, split)


def _npz(data: bytes, name: str) -> dict[str, Array]:
    try:
        count = data.count(ENTRY)  # zipfile would read them all, a million in a minute
        if count > MOST_ARRAYS:
            raise ValueError(f"it holds {count:,} arrays; at most {MOST_ARRAYS} are read")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            members = members if unpacked <= MOST_UNPACKED else []
            found = {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        reason = one_line(error, 200)
        raise ValueError(f"{name} is not a readable NPZ file ({reason}); save it with {NPZ}") from None
    if unpacked > MOST_UNPACKED:
        raise ValueError(
            f"{name}: its arrays have {unpacked:,} bytes; at most {MOST_UNPACKED:,} are read. Save logits as float16, "
            "or the four scores without logits, or a record folder with dx.record_logits(…).save(folder)"
        )
    return {key: array.astype(str) if array.dtype.kind == "S" else array for key, array in found.items()}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    with archive.open(member) as stream:
        try:
            return read_header(stream, member.file_size).read(stream)
        except UNREADABLE as error:
            raise ValueError(f"{member.filename} is no array: {one_line(error, 100)}") from None


# -- the record --


def _record(found: Mapping[str, Array], name: str, flops: Sequence[float] | None, split: str) -> ExitRecord:
    if "probabilities" in found and "logits" not in found:
        found = {**found, "logits": logits_of(found["probabilities"], f"{name}: probabilities")}
    elif "logits" in found:
        refuse_probabilities([found["logits"]], name)
    _check_parts(found, name)
    if "logits" in found:
        values = values_of(found["logits"], name)
    else:
        given = [score for score in SCORES if score in found and score != "prediction"]
        values = {score: np.asarray(found[score], SCORES[score].kind) for score in given}
        values["prediction"] = _classes(found["prediction"], _class_names(found, name), f"{name}: prediction", np.int32)
    return record_of(found, values, name, flops, split)


def are_probabilities(values: Array) -> bool:
    """Whether every row of (…, C) sums to 1 and none of its values is negative."""
    return bool(values.size and values.min() >= 0 and np.abs(values.sum(axis=-1, dtype=np.float64) - 1).max() < ROUNDED)


def refuse_probabilities(parts: Sequence[Array], name: str) -> None:
    """Raise ValueError where all logits are probabilities: a softmax of these would be far too flat."""
    if all(part.dtype.kind in "fiu" and part.ndim == 3 and are_probabilities(part) for part in parts):
        raise ValueError(
            f"{name}: all rows of the logits sum to 1, so they are probabilities; give logits, "
            f"{'name the array probabilities, ' if name.endswith('.npz') else ''}or give their logarithms"
        )


def logits_of(probabilities: Array, what: str) -> Array:
    """The logarithms of probabilities (B, K, C), whose softmax they are; ValueError where a row does not sum to 1."""
    if probabilities.dtype.kind not in "fiu" or not are_probabilities(probabilities):
        raise ValueError(f"{what} must be numbers from 0 that sum to 1 in every row; logits go under logits")
    return np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST))


def values_of(logits: Array, name: str) -> dict[str, Array]:
    """The four scores (B, K) of logits (B, K, C), and the logits as a record keeps them; ValueError if it cannot."""
    with np.errstate(over="ignore"):
        kept = np.asarray(logits, np.float32).astype(np.float16)
    for problem in logits_problems(kept, name):
        raise ValueError(f"{problem}; those of a record are at most 65,504")
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
        check_record(record, where, read_logits=True)
        RecordMeta.from_dict(meta.to_dict(), name)
    except ValueError as error:
        text = re.sub(rf"^{re.escape(str(where))}[/\\](?:scores[/\\])?(\w+)\.npy", rf"{name}, \1", str(error))
        raise ValueError(f"{text}; correct it there") from None
    return record


def _check_parts(found: Mapping[str, Array], name: str) -> None:
    """Check that labels and scores are there, with as many rows and exits, and the types of all arrays."""
    needed = ["labels", *(["logits"] if "logits" in found else STORED)]
    if absent := [key for key in needed if key not in found]:
        either = "" if absent[0] == "labels" else ", or logits (images, exits, classes) instead of all four scores"
        raise ValueError(f"{name} has no array {absent[0]!r} (it has {some(found)}); add it{either}")
    if found["labels"].ndim != 1 or not len(found["labels"]):
        raise ValueError(f"{name}: labels have shape {found['labels'].shape}; they must be (images,), at least one")
    further = [] if "logits" in found else [score for score in SCORES if score in found and score not in STORED]
    needed += further
    for key, (kinds, wanted) in (dict.fromkeys(SCORES, NUMBERS) | KINDS).items():
        if key in found and found[key].dtype.kind not in kinds:
            raise ValueError(f"{name}: {key} has the type {found[key].dtype}; it must be {wanted}")
    first = found[needed[1]]
    for key in needed[1:]:
        shape, axes = found[key].shape, 3 if key == "logits" else 2
        if len(shape) != axes or not found[key].size:
            wanted = "(images, exits, classes)" if key == "logits" else "(images, exits)"
            raise ValueError(f"{name}: {key} has shape {shape}; it must be {wanted}")
        if shape[0] != len(found["labels"]):
            raise ValueError(
                f"{name}: {key} has {shape[0]:,} rows for {len(found['labels']):,} labels; give both one row per image"
            )
        if shape[1] != first.shape[1]:
            raise ValueError(
                f"{name}: {key} has {shape[1]} exits and {needed[1]} has {first.shape[1]}; give both as many"
            )


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
    if len(costs) != n_exits:
        raise ValueError(f"{name}: {len(costs)} FLOPs for {n_exits} exits; give one number per exit")
    if any(later <= before for before, later in itertools.pairwise(costs)) or not costs[0] > 0:
        text = ", ".join(f"{cost:g}" for cost in costs)
        raise ValueError(f"{name}: FLOPs {text} must be positive and rise from exit to exit; count all that has run")
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
    if absent := [path for path in paths if not path.exists()]:
        raise FileNotFoundError(
            f"{place}: {len(absent):,} of {n_rows:,} images are missing, first {absent[0]}; correct the paths"
        )
    _check_headers(place, paths)
    return ImageFiles(paths)


def _paths(file: Path) -> list[Path]:
    rows = [row for row in csv_rows(file) if row]
    named = bool(rows) and "path" in map(folded, rows[0])
    column = columns_by_name(rows[0], str(file))["path"] if named else 0
    listed = rows[1:] if named else rows
    if short := next((i for i, row in enumerate(listed, 1) if len(row) <= column or not row[column].strip()), None):
        raise ValueError(f"{file}: row {short} has no path; write one path per row")
    return [file.parent / row[column].strip() for row in listed]


def _check_headers(place: Path, paths: list[Path]) -> None:
    bad: list[str] = []
    for path in paths:
        try:
            with read_errors(path), path.open("rb") as stream, opened(stream, known_formats()):
                pass
        except (OSError, ValueError) as error:
            bad.append(str(error))
    if bad:
        count = f"{len(bad):,} of {len(paths):,} files are no images, first "
        raise ValueError(f"{place}: {count}{bad[0]}; replace them")


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
    refuse_probabilities([part["logits"] for part in parts], "the batches")
    values = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
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
