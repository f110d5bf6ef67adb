"""Record folders that a reader brings: where they are, whether they may be read, what is in them, how one is written.
The path is typed, never of the address: a link cannot make the app read a folder. Other machines may only open folders
under the runs root. What is read is kept by the state of every file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import streamlit as st
from dmpo_explore_app import access

import dmpo_explore as dx

MEANT = 6  # suggested folders
FolderStamp = tuple[str, tuple[tuple[str, int, int], ...]]  # folder; each file's name, time and size

NPZ_EXAMPLE = """\
import numpy as np

np.savez(
    "my-scores.npz",
    labels=labels,  # (images,): the true class, from 0
    logits=logits,  # (images, exits, classes)
    flops=[1.2e9, 2.4e9, 3.6e9],  # all that has run by each exit
    class_names=["cat", "dog", "bird"],
)
"""
EXAMPLE = """\
import numpy as np
import dmpo_explore as dx

record = dx.runs.read_scores("my-scores.npz", split="test")
record.save("my-records/test")
"""
COLUMNS = {
    "label": "the true class: its name, or a number from 0",
    "prediction_1": "the class that exit 1 predicts",
    "confidence_1": "probability of that class",
    "entropy_1": "entropy of the probabilities, in nats",
    "margin_1": "best probability minus second best",
    "logit_1_0": "instead of these four: the logit of exit 1 for class 0",
}
FILES = {
    "meta.json": "format_version 1, data, split, class_names, exits, flops, reference_flops",
    "labels.npy": "int64, (images,): the true class, from 0",
    "scores/prediction.npy": "int32, (images, exits): the class that each exit predicts",
    "scores/confidence.npy": "float32, (images, exits): probability of that class",
    "scores/entropy.npy": "float32, (images, exits), in nats",
    "scores/margin.npy": "float32, (images, exits): best probability minus second best",
}


def bundled() -> tuple[str, str]:
    """Folders of the bundled demo's records: to look at, and to fit thresholds on."""
    test, val = (name_of(dx.runs.BUNDLED_RUNS / "demo" / "records" / split) for split in ("test", "val"))
    return test, val


def find(text: str) -> Path:
    """The folder that ``text`` names, absolute and without links; ValueError where it may not be opened here."""
    typed = _unquoted(text.strip())
    if not access.is_private():
        return _find_shared(typed)
    try:
        return Path(typed).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a null byte, an unknown ~user, a circle of links
        raise ValueError(f"{text!r} is not a path: {error}") from None


def _find_shared(typed: str) -> Path:
    """The folder under the runs root, or of a bundled run, that ``typed`` names; one refusal, there or not."""
    if not Path(typed).anchor and ".." not in Path(typed).parts:
        for root in _roots():
            try:
                path = (root / typed).resolve()
                if path.is_relative_to(root) and path.is_dir():
                    return path
            except (OSError, RuntimeError, ValueError):
                continue
    raise ValueError(
        f"{typed!r} cannot be opened: this app can be reached from other machines, so it opens only folders under its "
        "runs root, named as RUN/records/SPLIT"
    )


def name_of(folder: Path) -> str:
    """The text that `find` turns into ``folder``: a path, or to other machines its name under the runs root."""
    if access.is_private():
        return str(folder)
    inside = [folder.relative_to(root).as_posix() for root in _roots() if folder.is_relative_to(root)]
    return inside[0] if inside else folder.name


def code_of(folder: Path) -> str:
    """Python expression for ``folder``, without its path for other machines."""
    if access.is_private():
        return repr(str(folder))
    root = "dx.runs.runs_root()" if folder.is_relative_to(_roots()[0]) else "dx.runs.BUNDLED_RUNS"
    return f"{root} / {name_of(folder)!r}"


def _roots() -> tuple[Path, Path]:
    return dx.runs.runs_root().resolve(), dx.runs.BUNDLED_RUNS.resolve()


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def records_below(path: Path) -> list[Path]:
    """Record folders in ``path``, its ``records`` or its runs: suggestions where another level was typed."""
    found: list[Path] = []
    for pattern in ("*/meta.json", "records/*/meta.json", "*/records/*/meta.json"):
        try:
            found += sorted(meta.parent for meta in path.glob(pattern) if not meta.parent.name.startswith("."))
        except OSError:
            continue
    return found[:MEANT]


def stamp(folder: Path) -> FolderStamp:
    """Which state of a record folder is on disk; without files if it is empty."""
    files = []
    scores = [f"scores/{found.name}" for found in sorted((folder / "scores").glob("*.npy"))]
    for file in dict.fromkeys(("meta.json", *dx.records.FILES, *dx.records.OPTIONAL, *scores)):
        try:
            status = (folder / file).stat()
        except OSError:
            continue
        files.append((file, status.st_mtime_ns, status.st_size))
    return str(folder), tuple(files)


@st.cache_resource(max_entries=32, show_spinner="Checking the folder …")
def problems(stamp: FolderStamp) -> list[str]:
    """`dx.ExitRecord.problems` of a folder. Not to be changed."""
    return dx.ExitRecord.problems(stamp[0])


@st.cache_resource(max_entries=32, show_spinner=False)
def record(stamp: FolderStamp) -> dx.ExitRecord:
    return dx.ExitRecord.load(stamp[0])


def example_file() -> bytes:
    """An NPZ file of the bundled demo's scores of 300 images."""
    record = dx.load_run("demo").record("test").subset(slice(300))
    meta, stream = record.meta, io.BytesIO()
    facts = {"flops": meta.flops, "reference_flops": meta.reference_flops, "exit_blocks": meta.exit_blocks}
    texts = {"class_names": meta.class_names, "data": meta.data, "model": meta.model}
    scores = {name: record.score(name) for name in dx.records.SCORE_TYPES}
    arrays = {name: np.asarray(value) for name, value in (scores | facts | texts).items()}
    np.savez_compressed(stream, labels=record.labels, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()
