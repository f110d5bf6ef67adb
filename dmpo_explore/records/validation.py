"""Validation of record folders: one table of arrays, files opened by their header, shapes, types, values, agreement.

`ARRAYS` says of every array what it must be; the writer, the reader and the check read it. A record may hold further
scores, by name: those of `SCORES` within their bounds, others of any finite or infinite number.

In: a folder, or the arrays of a record. Out: problems, each a built-in exception whose message names the file, the bad
value and the valid ones. `ExitRecord.load` raises the first, `problems` lists all. Values of logits and features, by
far the largest part, are checked only when a record is written, when all problems are listed, and where they are used.

Small arrays are read whole, large ones memory-mapped. A mapped array keeps a file descriptor until it is deleted; a
small one does not, and is safe if the file is shortened meanwhile. If many are mapped, larger ones are read whole too,
so that any number of records can be open. Nothing is ever unpickled.
"""

from __future__ import annotations

import itertools
import math
import mmap
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os.path import lexists
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple

import numpy as np

from ..utils.files import read_json
from ..utils.texts import LONGEST, check_regular, is_text, named, one_line, short
from ..utils.typing import Array
from .scores import LOGITS, SCORES, STORED, leaves, scores_of_record

WHOLE, WHOLE_OF_MANY = 2**22, 2**26  # bytes: files of up to 4 MiB are read whole, where many are mapped 64 MiB
MANY = 100  # mapped arrays
PIECE = 2**22  # values that are read together
FORMAT_VERSION = 1
CONVENTION_OF_01 = (  # of `flops_convention` in records of version 0.1, whose FLOPs are of unmerged tuning
    "1 MAC = 2 FLOPs; matrix products, convolutions and attention counted, element-wise work not; "
    "cumulative: embedding, blocks, tuning, every bypass and predictor evaluated so far"
)
MOST_IMAGES, MOST_EXITS, MOST_CLASSES, MOST_TEXT = 10**8, 1000, 10**5, 1000  # of a record; characters of a text
MOST_BLOCK, MOST_INDEX, LEAST_FLOPS, MOST_FLOPS = 10**6, 2**53, 1e-30, 1e30
MOST_HALF = 65504.0  # of float16
SLACK = 1e-4  # how far rounding may push a score out of its range
HALF = 2.0**-11  # half a unit in the last place of float16, relative
SUM_SLACK = 1e-3  # of a probability, for sums in float32
UNREADABLE = (  # what a header can make numpy raise, which parses it as a Python literal
    ValueError, EOFError, OverflowError, TypeError, SyntaxError, RecursionError, MemoryError, TokenError,
)  # fmt: skip


# -- the arrays of a record --


@dataclass(frozen=True)
class Form:
    """What an array of a record must be.

    Args:
        axes: what each axis counts, or its length. kind: NumPy's name of its type.
        bounds: number of classes → the lowest and the highest value. value: what these are, in words.
        slack: how far rounding may take a value below and above them.
        needed: every record has it. large: its values are checked only where that is wanted.
    """

    axes: tuple[str | int, ...]
    kind: str
    bounds: Callable[[float], tuple[float, float]]
    value: str
    slack: tuple[float, float] = (0.0, 0.0)
    needed: bool = True
    large: bool = False


def _half(_: float) -> tuple[float, float]:
    return -MOST_HALF, MOST_HALF


def _score_form(name: str) -> Form:
    """Of a score of `SCORES`, or of one that is not registered: float32, any number but NaN."""
    score = SCORES.get(name)
    bounds = score.bounds if score else lambda _: (-math.inf, math.inf)
    value = "a class from {:.0f} to {:.0f}" if name == "prediction" else f"{_an(name)} from {{:.4g}} to {{:.4g}}"
    # no value below the threshold at which all images exit
    slack = (0.0, 0.0) if name == "prediction" else (0.0 if score and score.better == "high" else SLACK, SLACK)
    return Form(("images", "exits"), score.kind if score else "float32", bounds, value, slack)


def _an(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


ARRAYS: dict[str, Form] = {  # file in a record's folder → what it must be; of further scores `form_of`
    "labels.npy": Form(("images",), "int64", SCORES["prediction"].bounds, "a class from {:.0f} to {:.0f}"),
    **{f"scores/{name}.npy": _score_form(name) for name in STORED},
    "logits.npy": Form(("images", "exits", "classes"), "float16", _half, "a finite logit", needed=False, large=True),
    "indices.npy": Form(
        ("images",), "int64", lambda _: (0, MOST_INDEX), "a position in the data, from 0", needed=False
    ),
    "features.npy": Form(
        ("images", "exits", "features"), "float16", _half, "a finite feature", needed=False, large=True
    ),
    "embedding.npy": Form(("images", "exits", 2), "float16", _half, "a finite coordinate", needed=False),
}
FILES: dict[str, Any] = {file: np.dtype(form.kind) for file, form in ARRAYS.items() if form.needed}
OPTIONAL: dict[str, Any] = {file: np.dtype(form.kind) for file, form in ARRAYS.items() if not form.needed}
SCORE_TYPES: dict[str, Any] = {name: FILES[f"scores/{name}.npy"] for name in STORED}  # that a record must have


def form_of(file: str) -> Form:
    """What a record's file must be."""
    return ARRAYS.get(file) or _score_form(Path(file).stem)


def file_of(name: str) -> str:
    """The file in a record's folder that holds the array of this name."""
    return file if (file := f"{name}.npy") in ARRAYS else f"scores/{name}.npy"


def further_scores(path: Path) -> list[str]:
    """Files of scores in a record folder that a record need not have, as ``scores/NAME.npy``."""
    found = sorted(file.name for file in (path / "scores").glob("[!.]*.npy"))
    return [file for name in found if (file := f"scores/{name}") not in ARRAYS]


# -- array files --

_mapped: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()  # those that are in use


def open_array(path: Path) -> Array:
    """The array in a .npy file, read-only.

    Raises:
        FileNotFoundError: no such file. OSError: it cannot be read. ValueError: no .npy array, truncated, or of Python
            objects. Each names the file.
    """
    check_regular(path)
    try:
        whole = path.stat().st_size <= (WHOLE if len(_mapped) < MANY else WHOLE_OF_MANY)
        found = np.load(path, mmap_mode=None if whole else "r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            found.close()
            raise ValueError("it is an archive of arrays")
    except OSError as error:
        raise named(error, path) from None
    except UNREADABLE as error:
        reason = one_line(error, 200) or type(error).__name__
        raise ValueError(f"{path} is not a readable .npy array (truncated, pickled or foreign): {reason}") from None
    if not whole:
        _mapped[id(found)] = found
    found.flags.writeable = False
    return np.asarray(found)


def pieces(array: Array) -> Iterator[tuple[int, Array]]:
    """First row and rows of pieces of at most `PIECE` values, as an array may be large."""
    rows = max(1, PIECE // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def release(array: Array) -> None:
    """Let the system take back the memory of a mapped array that was read through; it is read again when needed."""
    mapped = getattr(array.base, "base", None)  # of `open_array`: an array on a memmap on an mmap
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


# -- problems --


def problems(path: str | Path) -> list[str]:
    """Every reason why folder ``path`` is not a valid record, as sentences; empty if it is one."""
    _, arrays, found = read_folder(Path(path), read_large=True)
    return [str(error) for error in found or agreement_problems(arrays, Path(path))]


def read_folder(path: Path, *, read_large: bool) -> tuple[Any, dict[str, Array], list[Exception]]:
    """What a record folder holds and all that is wrong with it, facts first.

    Args:
        read_large: check every value of logits and features; else their form.

    Returns:
        The values of meta.json, file → array, those that could be read, and the problems.
    """
    if not path.is_dir():
        text = f"{path} is a file, not a record folder" if path.is_file() else f"no record folder {path}"
        return None, {}, [FileNotFoundError(text)]
    values, arrays, found = None, dict[str, Array](), list[Exception]()
    try:
        values = read_json(path / "meta.json")
        found += meta_problems(values, str(path / "meta.json"))
    except (OSError, ValueError) as error:
        found.append(error)
    for file in (*ARRAYS, *further_scores(path)):
        form, there = form_of(file), lexists(path / file)
        if form.needed and not there:
            how = f"write it as {form.kind} of shape ({', '.join(map(str, form.axes))})"
            found.append(FileNotFoundError(f"{Path(file).name} is missing: no file {path / file}; {how}"))
        try:
            arrays |= {file: open_array(path / file)} if there else {}
        except (OSError, ValueError) as error:
            found.append(error)
    sizes = _length(values, "class_names"), _length(values, "exits")
    return values, arrays, [*found, *array_problems(arrays, *sizes, path, read_large=read_large)]


def array_problems(
    arrays: Mapping[str, Array], n_classes: int | None, n_exits: int | None, path: Path, *, read_large: bool
) -> Iterator[ValueError]:
    """Problems of a record's arrays: of each its form, then its values.

    Args:
        arrays: file → array, those that could be read. path: the folder, for messages.
        n_classes, n_exits: C and K as meta.json has them; without it K is that of most arrays, and C any. B is the
            length of most: four score files that agree are not blamed for labels.
    """
    shapes = [array.shape for array in arrays.values() if array.size]
    sizes = {"images": _most(shapes, 0), "exits": n_exits or _most(shapes, 1), "classes": n_classes}
    for file, array in arrays.items():
        form, where = form_of(file), path / file
        wanted = [axis if isinstance(axis, int) else sizes.get(axis) for axis in form.axes]
        fits = array.ndim == len(wanted) and all(n and w in (None, n) for n, w in zip(array.shape, wanted, strict=True))
        if not fits:
            shown = str(tuple("any" if size is None else size for size in wanted)).replace("'any'", "any")
            names = ", ".join(map(str, form.axes))
            least = ", at least one of each" * (0 in array.shape)
            yield ValueError(f"{where}: shape {short(array.shape)} must be {shown} ({names}){least}")
        elif len(array) > MOST_IMAGES:
            fits = False
            yield ValueError(f"{where}: {len(array):,} images are more than the {MOST_IMAGES:,} that a record may have")
        if array.dtype != form.kind:
            kind = one_line(array.dtype, LONGEST)
            yield ValueError(f"{where}: type {kind} must be {form.kind}; save array.astype(np.{form.kind})")
        elif fits and (read_large or not form.large):
            yield from value_problems(array, form, where, n_classes)


def value_problems(array: Array, form: Form, where: object, n_classes: int | None = None) -> Iterator[ValueError]:
    """One problem for all values that are out of bounds or NaN; the first of them is named."""
    low, high = form.bounds(n_classes or math.inf)
    count, first = 0, ""
    for start, part in pieces(array):
        bad = ~((part >= low - form.slack[0]) & (part <= high + form.slack[1]))  # NaN is bad too
        if bad.any() and not count:
            place = tuple(int(axis[0]) for axis in np.nonzero(bad))
            text = form.value.format(low, high)
            first = f"{part[place]} at image {start + place[0]} (counted from 0) must be {text}"
        count += int(bad.sum())
    release(array)
    if count:
        yield ValueError(f"{where}: {first}{such(count)}")


def check_logits(logits: Array, where: object) -> None:
    """Raise ValueError for NaN or infinite logits (B, K, C)."""
    raise_first(value_problems(logits, ARRAYS["logits.npy"], where))


def raise_first(found: Iterable[Exception]) -> None:
    """Raise the first of some problems, if there is one."""
    for problem in found:
        raise problem


def such(count: int) -> str:
    """What follows the first of ``count`` bad values."""
    return f" ({count:,} such values)" if count > 1 else ""


def _most(shapes: list[tuple[int, ...]], axis: int) -> int | None:
    """The most frequent size of an axis, of equally frequent ones the first."""
    found = Counter(shape[axis] for shape in shapes if len(shape) > axis).most_common(1)
    return found[0][0] if found else None


def _length(values: Any, key: str) -> int | None:
    """Number of classes or exits, if that entry of meta.json is valid."""
    entry = values.get(key) if isinstance(values, dict) else None
    return len(entry) if isinstance(entry, list) and META_FIELDS[key].fits(entry) else None


# -- meta.json --


def meta_problems(values: Any, where: str) -> Iterator[ValueError]:
    """Problems of the values of meta.json; ``where`` is named in every message."""
    if not isinstance(values, dict):
        yield ValueError(f"{where} must hold a JSON object, not {type(values).__name__}")
        return
    if (version := values.get("format_version")) != FORMAT_VERSION:
        fix = "; install a newer dmpo-explore" * (isinstance(version, int) and version > FORMAT_VERSION)
        yield ValueError(f"{where}: format_version={short(version)}; this program reads version {FORMAT_VERSION}{fix}")
    for name, kind in META_FIELDS.items():
        if name not in values and kind.needed:
            yield ValueError(f"{where}: {name!r} is missing; it must be {kind.text}")
        if name in values and not kind.fits(values[name]):
            yield ValueError(f"{where}: {name}={short(values[name])} must be {kind.text}")
    if values.get("flops_convention") == CONVENTION_OF_01:
        yield ValueError(f"{where}: version 0.1 recorded it, whose FLOPs are not read; record it again")
    exits = values.get("exits")
    for name in ("flops", "flops_trained"):
        flops = values.get(name)
        if isinstance(flops, list) and isinstance(exits, list) and len(flops) != len(exits):
            yield ValueError(f"{where}: {len(flops)} {name} for {len(exits)} exits; give one per exit")


class Kind(NamedTuple):
    """The expected form of a JSON value: its description, its test, and whether it must be there."""

    text: str
    fits: Callable[[Any], bool]
    needed: bool = False


def _number(value: Any) -> bool:
    return type(value) in (int, float) and bool(LEAST_FLOPS <= value <= MOST_FLOPS)


def _block(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST_BLOCK


def _text(value: Any) -> bool:
    return isinstance(value, str) and is_text(value, MOST_TEXT)


def _list(value: Any, each: Callable[[Any], bool], most: int) -> bool:
    return isinstance(value, list) and 0 < len(value) <= most and all(map(each, value))


def _rising(value: Any, each: Callable[[Any], bool]) -> bool:
    return _list(value, each, MOST_EXITS) and all(float(b) > float(a) for a, b in itertools.pairwise(value))


_RISING_FLOPS = Kind("a rising list of positive FLOPs, one per exit", lambda value: _rising(value, _number))
META_FIELDS: dict[str, Kind] = {
    "data": Kind("text", _text, True),
    "split": Kind("text", _text, True),
    "class_names": Kind("a list of one text per class", lambda value: _list(value, _text, MOST_CLASSES), True),
    "exits": Kind("a rising list of block numbers, counted from 1", lambda value: _rising(value, _block), True),
    "flops": _RISING_FLOPS._replace(needed=True),
    "reference_flops": Kind("a positive number", _number, True),
    "flops_convention": Kind("text", _text),
    "model": Kind("text", _text),
    "image_size": Kind("a whole number of pixels or null", lambda value: value is None or _block(value)),
    "created": Kind("text", _text),
    "images_sha256": Kind("text", _text),
    "flops_trained": _RISING_FLOPS,
    "weights_sha256": Kind("text", _text),
    "precision": Kind("text", _text),
}


# -- agreement of scores with each other and with logits; a record that does not agree is still opened --


def agreement_problems(arrays: Mapping[str, Array], path: Path) -> Iterator[ValueError]:
    """Scores that cannot belong together, at their first image: one problem per kind.

    Args:
        arrays: file → array, of all score files, and of ``logits.npy`` where there is one. path: the folder, for
            messages.

    Logits are stored as float16, so a confidence may differ from theirs by what that rounding changes; their order is
    kept by rounding, so a prediction is exactly one of the largest. Ours: other scores may differ by a share of their
    range, so that only those of other logits or of another formula are found.
    """
    scores = {Path(file).stem: array for file, array in arrays.items() if file.startswith("scores/")}
    logits, first, counts = arrays.get("logits.npy"), dict[str, str](), Counter[str]()
    for start, piece in pieces(scores["margin"] if logits is None else logits):
        part = {name: array[start : start + len(piece)] for name, array in scores.items()}
        bad = [("margin", part["margin"] > part["confidence"] + SUM_SLACK, "the margin is above the confidence")]
        for name, rows, text in [*bad, *(_differing(part, piece) if logits is not None else ())]:
            if rows.any():
                image, exit = (int(axis[0]) for axis in np.nonzero(rows))
                where = f"{path / file_of(name)}: {text} at image {start + image} (counted from 0), exit {exit + 1}"
                first.setdefault(name, where)
                counts[name] += int(rows.sum())
    for name, text in first.items():
        yield ValueError(f"{text}{such(counts[name])}; compute all scores from the same logits")


def _differing(given: Mapping[str, Array], logits: Array) -> Iterator[tuple[str, Array, str]]:
    """Of every score its name, where it is not that of the logits (rows, exits), and a text that says so."""
    z = np.asarray(logits, np.float32)
    other = np.take_along_axis(z, given["prediction"][..., None], axis=2)[..., 0] < z.max(axis=2)
    yield "prediction", other, "another class has the largest logit"
    rounded = 8 * HALF * np.abs(z).max(axis=2)  # how far rounding may move a score, as a share of its range
    for name in (name for name in given if name in SCORES and LOGITS in leaves(SCORES[name].needs, ())):
        low, high = SCORES[name].bounds(logits.shape[2])
        if name == "prediction" or not math.isfinite(high - low):
            continue
        own = scores_of_record(logits, [name], stored={key: given[key] for key in STORED if key != name})[name]
        width, text = high - low, f"the {name} is not that of the logits"
        if name == "confidence":
            width, text = own * (1 - own) / 2, "the confidence is not the largest softmax probability of the logits"
        yield name, (np.abs(given[name] - own) > SUM_SLACK + rounded * width) & ~other, text
