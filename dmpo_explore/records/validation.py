"""Validation of record folders: array files opened by their header, types, shapes, values, and their agreement.

Array files of a record: opened by their header; small ones are read whole, large ones memory-mapped.
In: a .npy file. Out: a read-only array. A mapped array keeps a file descriptor until it is deleted; a small one does
not, and is safe if the file is shortened meanwhile. If many are mapped, larger ones are read whole too, so that
any number of records can be open. Nothing is ever unpickled.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from os.path import lexists
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..utils.files import read_json
from ..utils.texts import LONGEST, check_regular, is_text, named, one_line, short
from ..utils.typing import Array
from .scores import LOGITS, SCORES, STORED, leaves, scores_of_record

WHOLE, WHOLE_OF_MANY = 2**22, 2**26  # bytes: arrays of up to 4 MiB are read whole, where many are mapped 64 MiB
MANY = 100  # mapped arrays
PIECE = 2**22  # values that are read together
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
UNREADABLE = (  # what a header can make numpy raise, which parses it as a Python literal
    ValueError, EOFError, OverflowError, TypeError, SyntaxError, RecursionError, MemoryError, TokenError,
)  # fmt: skip

_mapped: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()  # those that are in use


def open_array(path: Path) -> Array:
    """The array in a .npy file, read-only.

    Raises:
        FileNotFoundError: no such file. OSError: it cannot be read. ValueError: no .npy array, truncated, or of Python
            objects. Each names the file.
    """
    try:
        check_regular(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.name} is missing: no file {path}") from None
    try:
        with path.open("rb") as stream:
            found = read_header(stream, os.fstat(stream.fileno()).st_size)
            if found.size <= (WHOLE if len(_mapped) < MANY else WHOLE_OF_MANY):
                return found.read(stream)
            mapped = np.memmap(stream, found.kind, "r", stream.tell(), found.shape, found.order)
    except OSError as error:
        raise named(error, path) from None
    except UNREADABLE as error:
        reason = one_line(error, 200) or type(error).__name__
        raise ValueError(f"{path} is not a readable .npy array (truncated, pickled or foreign): {reason}") from None
    _mapped[id(mapped)] = mapped
    return np.asarray(mapped)


class Header(NamedTuple):
    """Shape, order and type of an array whose values follow in a file."""

    shape: tuple[int, ...]
    order: Literal["F", "C"]
    kind: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.kind.itemsize

    def read(self, stream: IO[bytes]) -> Array:
        """The array, read-only, as bytes are."""
        return np.ndarray(self.shape, self.kind, stream.read(self.size), order=self.order)


def read_header(stream: IO[bytes], size: int) -> Header:
    """The header of a .npy file of ``size`` bytes, compared with that size before any value is read.

    Raises:
        One of `UNREADABLE`: no header, an array of Python objects, or one that does not fit the file.
    """
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"format version {version} is not read")
    shape, fortran, kind = HEADERS[version](stream)
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    found = Header(shape, "F" if fortran else "C", kind)
    if min(shape, default=0) < 0 or stream.tell() + found.size > size:
        raise ValueError(f"shape {short(shape)} of {one_line(kind, LONGEST)} does not fit a file of {size:,} bytes")
    return found


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


# Validation of record folders: required files, types, shapes, value ranges, and the agreement of scores with logits.
#
# A record may hold further scores, by name: those of `SCORES` within their bounds, others of any finite or infinite
# number.
#
# In: the values of meta.json and the arrays of a record, or a folder. Out: problems, each a built-in exception whose
# message names the file, the bad value and the valid ones. `ExitRecord.load` raises the first, `problems` lists all.
# The values of logits, by far the largest part, are checked only when a record is written, when all problems are
# listed, and where they are used. Nothing is ever unpickled.

FORMAT_VERSION = 1
CONVENTION_OF_01 = (  # of `flops_convention` in records of version 0.1, whose FLOPs are of unmerged tuning
    "1 MAC = 2 FLOPs; matrix products, convolutions and attention counted, element-wise work not; "
    "cumulative: embedding, blocks, tuning, every bypass and predictor evaluated so far"
)
SCORE_TYPES: dict[str, Any] = {name: np.dtype(SCORES[name].kind) for name in STORED}  # that a record must have
FILES: dict[str, Any] = {"labels.npy": np.int64} | {f"scores/{name}.npy": kind for name, kind in SCORE_TYPES.items()}
OPTIONAL: dict[str, Any] = {
    "logits.npy": np.float16,
    "indices.npy": np.int64,
    "features.npy": np.float16,
    "embedding.npy": np.float16,
}
ANY = ("logits.npy", "features.npy")  # large, and of any finite values: read only where that is wanted
AXES = {"labels.npy": 1, "indices.npy": 1, "logits.npy": 3, "features.npy": 3, "embedding.npy": 3}  # of others: 2
MOST_IMAGES, MOST_EXITS, MOST_CLASSES, MOST_TEXT = 10**8, 1000, 10**5, 1000  # of a record; characters of a text
MOST_BLOCK, MOST_INDEX, LEAST_FLOPS, MOST_FLOPS = 10**6, 2**53, 1e-30, 1e30
MOST_HALF = 65504.0  # of float16
SLACK = 1e-4  # how far rounding may push a score out of its range
HALF = 2.0**-11  # half a unit in the last place of float16, relative
SUM_SLACK = 1e-3  # of a probability, for sums in float32


def problems(path: str | Path) -> list[str]:
    """Every reason why folder ``path`` is not a valid record, as sentences; empty if it is one."""
    path, found = Path(path), list[str]()
    if not path.is_dir():
        return [no_folder(path)]
    n_classes = n_exits = None
    try:
        values = read_json(path / "meta.json")
    except (OSError, ValueError) as error:
        found.append(str(error))
    else:
        wrong = [*meta_problems(values, str(path / "meta.json"))]
        found += map(str, wrong)
        n_classes, n_exits = (_length(values, key) for key in ("class_names", "exits"))
    arrays = {}
    for file in (*FILES, *OPTIONAL, *further_scores(path)):
        try:
            if file not in OPTIONAL or lexists(path / file):
                arrays[file] = open_array(path / file)
        except FileNotFoundError as error:
            axes = ", ".join(("images", "exits", "classes")[: AXES.get(file, 2)])
            found.append(f"{error}; write it as {kind_of(file).name} of shape ({axes})")
        except (OSError, ValueError) as error:
            found.append(str(error))
    found += [str(error) for error in array_problems(arrays, n_classes, n_exits, path, read_logits=True)]
    return found or [str(error) for error in agreement_problems(arrays, path)]


def further_scores(path: Path) -> list[str]:
    """Files of scores in a record folder that a record need not have, as ``scores/NAME.npy``."""
    found = sorted(file.name for file in (path / "scores").glob("[!.]*.npy"))
    return [file for name in found if (file := f"scores/{name}") not in FILES]


def kind_of(file: str) -> np.dtype[Any]:
    """NumPy's type of a record's file; of a score that is not registered float32."""
    score = SCORES.get(Path(file).stem) if file.startswith("scores/") else None
    found: np.dtype[Any] = np.dtype(score.kind if score else (FILES | OPTIONAL).get(file, np.float32))
    return found


def no_folder(path: Path) -> str:
    """The error text for a missing record folder, or a file in its place."""
    return f"{path} is a file, not a record folder" if path.is_file() else f"no record folder {path}"


def array_problems(
    arrays: Mapping[str, Array], n_classes: int | None, n_exits: int | None, path: Path, *, read_logits: bool
) -> Iterator[ValueError]:
    """Problems of a record's arrays: form first, then values.

    Args:
        arrays: file → array, those that could be read. path: the folder, for messages.
        n_classes, n_exits: C and K as meta.json has them; without it K is that of most score files, and checks that
            need C are left out. B is the length of most files: four score files that agree are not blamed for labels.
        read_logits: check every value of logits and features, see `logits_problems`; else their form.
    """
    labels = arrays.get("labels.npy")
    if labels is not None and (labels.ndim != 1 or not labels.size):
        yield ValueError(f"{path / 'labels.npy'}: shape {labels.shape} must be (B,) with at least one image")
        labels = None
    scores = [array.shape for file, array in arrays.items() if file.startswith("scores/") and array.ndim == 2]
    lengths = [shape[0] for shape in scores] + ([labels.shape[0]] if labels is not None else [])
    n_images = _most(lengths, labels.shape[0] if labels is not None else None)
    n_exits = n_exits or _most([shape[1] for shape in scores])
    for file, array in arrays.items():
        if labels is None and file == "labels.npy":
            continue
        wrong = [*_form_problems(file, array, (n_images, n_exits, n_classes), path / file)]
        yield from wrong
        if not wrong and (limits := _limits(file, n_classes)):
            yield from _range_problems(array, *limits, path / file)
        if not wrong and file in ANY and read_logits:
            for problem in logits_problems(array, path / file):
                yield ValueError(f"{problem}; write finite numbers, or remove this optional file")


def _form_problems(file: str, array: Array, sizes: tuple[int | None, ...], path: Path) -> Iterator[ValueError]:
    axes = AXES.get(file, 2)
    third: dict[str, tuple[str, int | None]] = {"features.npy": ("features", None), "embedding.npy": ("2", 2)}
    last, size = third.get(file, ("classes", sizes[2]))
    wanted = (*sizes[:2], size)[:axes]
    fits = array.ndim == axes and all(w in (None, n) for n, w in zip(array.shape, wanted, strict=True))
    if not fits:
        names = ("images", "exits", last)[:axes]
        shown = str(tuple("any" if size is None else size for size in wanted)).replace("'any'", "any")
        yield ValueError(f"{path}: shape {short(array.shape)} must be {shown} ({', '.join(names)})")
    elif len(array) > MOST_IMAGES:
        yield ValueError(f"{path}: {len(array):,} images are more than the {MOST_IMAGES:,} that a record may have")
    kind = kind_of(file)
    if array.dtype != kind:
        yield ValueError(
            f"{path}: type {one_line(array.dtype, LONGEST)} must be {kind.name}; save array.astype(np.{kind.name})"
        )


def _limits(file: str, n_classes: int | None) -> tuple[float, float, str] | None:
    name = Path(file).stem
    if file in ("labels.npy", "scores/prediction.npy") and n_classes:
        return 0, n_classes - 1, f"one of the {n_classes} classes, 0 to {n_classes - 1}"
    if file == "indices.npy":
        return 0, MOST_INDEX, "a position in the data, from 0"
    if file == "embedding.npy":
        return -MOST_HALF, MOST_HALF, "a finite number"
    if file.startswith("scores/") and name != "prediction":
        low, high = SCORES[name].bounds(n_classes or math.inf) if name in SCORES else (-math.inf, math.inf)
        word = f"{'an' if name[0] in 'aeiou' else 'a'} {name} from {low:.4g} to {high:.4g}"
        exact = name in SCORES and SCORES[name].better == "high"  # no value below the threshold at which all exit
        return low - (0 if exact else SLACK), high + SLACK, word
    return None


def _range_problems(array: Array, low: float, high: float, text: str, path: Path) -> Iterator[ValueError]:
    count, first = 0, None
    for start, part in pieces(array):
        bad = ~((part >= low) & (part <= high))  # NaN is bad too
        count += int(bad.sum())
        if first is None and bad.any():
            where = tuple(int(axis[0]) for axis in np.nonzero(bad))
            first = f"{part[where]} at image {start + where[0]} (counted from 0) must be {text}"
    release(array)
    if count:
        yield ValueError(f"{path}: {first}{such(count)}")


def logits_problems(logits: Array, where: object) -> Iterator[ValueError]:
    """The first image with NaN or infinite logits (B, K, C), or features, searched in pieces, as they may be large."""
    what = "features" if str(where).endswith("features.npy") else "logits"
    for start, part in pieces(logits):
        bad = ~np.isfinite(part).all(axis=(1, 2))
        if bad.any():
            image = start + int(np.argmax(bad))
            yield ValueError(f"{where}: NaN or infinite {what} at image {image} (counted from 0)")
            return


def _most(sizes: list[int], first: int | None = None) -> int | None:
    """The most frequent size; of equally frequent ones ``first``, else the largest."""
    return max(set(sizes), key=lambda size: (sizes.count(size), size == first, size)) if sizes else None


def _length(values: Any, key: str) -> int | None:
    """Number of classes or exits, if that entry of meta.json is valid."""
    entry = values.get(key) if isinstance(values, dict) else None
    return len(entry) if isinstance(entry, list) and META_FIELDS[key][0].fits(entry) else None


# -- meta.json --


def meta_problems(values: Any, where: str) -> Iterator[ValueError]:
    """Problems of the values of meta.json; ``where`` is named in every message."""
    if not isinstance(values, dict):
        yield ValueError(f"{where} must hold a JSON object, not {type(values).__name__}")
        return
    if values.get("format_version") != FORMAT_VERSION:
        version = values.get("format_version")
        newer = isinstance(version, int) and version > FORMAT_VERSION
        fix = "; install a newer dmpo-explore" if newer else ""
        yield ValueError(f"{where}: format_version={short(version)}; this program reads version {FORMAT_VERSION}{fix}")
    for name, (kind, required) in META_FIELDS.items():
        if name not in values and required:
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


class Form(NamedTuple):
    """The expected form of a JSON value: its description and its test."""

    text: str
    fits: Callable[[Any], bool]


def _number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and LEAST_FLOPS <= value <= MOST_FLOPS


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _text(value: object) -> bool:
    return isinstance(value, str) and is_text(value, MOST_TEXT)


def _list(value: object, each: Callable[[Any], bool], most: int) -> bool:
    return isinstance(value, list) and 0 < len(value) <= most and all(map(each, value))


def _rising(value: Any, each: Callable[[Any], bool]) -> bool:
    return _list(value, each, MOST_EXITS) and all(float(b) > float(a) for a, b in itertools.pairwise(value))


_TEXT = Form("text", _text)
META_FIELDS: dict[str, tuple[Form, bool]] = {  # name → form, and whether it must be there
    "data": (_TEXT, True),
    "split": (_TEXT, True),
    "class_names": (Form("a list of one text per class", lambda v: _list(v, _text, MOST_CLASSES)), True),
    "exits": (
        Form("a rising list of block numbers, counted from 1", lambda v: _rising(v, lambda b: _whole(b, MOST_BLOCK))),
        True,
    ),
    "flops": (Form("a rising list of positive FLOPs, one per exit", lambda v: _rising(v, _number)), True),
    "reference_flops": (Form("a positive number", _number), True),
    "flops_convention": (_TEXT, False),
    "model": (_TEXT, False),
    "image_size": (Form("a whole number of pixels or null", lambda v: v is None or _whole(v, MOST_BLOCK)), False),
    "created": (_TEXT, False),
    "images_sha256": (_TEXT, False),
    "flops_trained": (Form("a rising list of positive FLOPs, one per exit", lambda v: _rising(v, _number)), False),
    "weights_sha256": (_TEXT, False),
    "precision": (_TEXT, False),
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
    found: dict[str, tuple[int, ValueError]] = {}
    scores = {Path(file).stem: array for file, array in arrays.items() if file.startswith("scores/")}
    logits = arrays.get("logits.npy")
    ranges = {} if logits is None else _ranges(scores, logits.shape[2])
    for start, piece in pieces(scores["margin"] if logits is None else logits):
        part = {name: array[start : start + len(piece)] for name, array in scores.items()}
        larger = part["margin"] > part["confidence"] + SUM_SLACK
        _note(found, "margin", larger, start, path / "scores/margin.npy", "the margin is above the confidence")
        if logits is None:
            continue
        z = np.asarray(piece, np.float32)
        chosen = np.take_along_axis(z, part["prediction"][..., None], axis=2)[..., 0]
        other = chosen < z.max(axis=2)
        _note(found, "prediction", other, start, path / "scores/prediction.npy", "another class has the largest logit")
        p = 1 / np.exp(z - z.max(axis=2, keepdims=True)).sum(axis=2)
        far = np.abs(part["confidence"] - p) > SUM_SLACK + p * (1 - p) * 4 * HALF * np.abs(z).max(axis=2)
        text = "the confidence is not the largest softmax probability of the logits"
        _note(found, "confidence", far & ~other, start, path / "scores/confidence.npy", text)
        for name, width in ranges.items():
            given = {known: part[known] for known in STORED if known != name}
            off = np.abs(part[name] - scores_of_record(piece, [name], stored=given)[name])
            far = off > SUM_SLACK + 8 * HALF * np.abs(z).max(axis=2) * width
            text = f"the {name} is not that of the logits"
            _note(found, name, far & ~other, start, path / f"scores/{name}.npy", text)
    for count, problem in found.values():
        yield ValueError(f"{problem}{such(count)}; compute all scores from the same logits")


def _ranges(names: Iterable[str], n_classes: int) -> dict[str, float]:
    """Score → width of its range: those that are computed from logits, but prediction and confidence."""
    ours = [name for name in names if name in SCORES and LOGITS in leaves(SCORES[name].needs, ())]
    bounds = {name: SCORES[name].bounds(n_classes) for name in ours if name not in ("prediction", "confidence")}
    return {name: high - low for name, (low, high) in bounds.items() if math.isfinite(high - low)}


def such(count: int) -> str:
    """What follows the first of ``count`` bad values."""
    return f" ({count:,} such values)" if count > 1 else ""


def _note(
    found: dict[str, tuple[int, ValueError]], kind: str, bad: npt.NDArray[np.bool_], start: int, path: Path, text: str
) -> None:
    """Count the bad values (rows, exits) of a piece; the first gives the message."""
    if bad.any():
        image, exit = (int(axis[0]) for axis in np.nonzero(bad))
        message = ValueError(f"{path}: {text} at image {start + image} (counted from 0), exit {exit + 1}")
        count, problem = found.get(kind, (0, message))
        found[kind] = count + int(bad.sum()), problem
