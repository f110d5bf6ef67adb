"""Pages written where odd files are, of runs with odd names, and page folders of which a file has been changed.

The page is the one that is written elsewhere, or there is one clear error; nothing of others is touched.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dmpo_explore as dx
from dmpo_explore.utils.files import sealed, write_json
from dmpo_explore.web.export import FACTS, FORMAT, check_place
from dmpo_explore.web.publish import INDEX, publish

from .edited_folders import EDITS
from .judged import Lost, Wrong
from .small import runs_in, small_run

CLASSES = (
    "</script><script>window.hacked=1</script>", "\u202egnp", "\u0000", "<!--", "{{7*7}}", "'\"`", "\u2028", "a" * 300,
    "\ud83d", "&lt;", "\n\n", "😀",
)  # fmt: skip


def other_file(out: Path, away: Path) -> None:
    out.mkdir()
    (out / "thesis.doc").write_text("mine")


def odd_names(out: Path, away: Path) -> None:
    out.mkdir()
    for name in (".hidden", "a\nb", "ü" * 80, "index.html.", "-rf"):
        (out / name).write_text("mine")


def index_is(make: Callable[[Path, Path], Any]) -> Callable[[Path, Path], None]:
    def prepare(out: Path, away: Path) -> None:
        out.mkdir()
        make(out / INDEX, away)

    return prepare


def linked_folder(out: Path, away: Path) -> None:
    out.symlink_to(away)


# what is at the place of a page: (place, folder of others' files) → None
PLACES: dict[str, Callable[[Path, Path], Any]] = {
    "nothing": lambda out, away: None,
    "an empty folder": lambda out, away: out.mkdir(),
    "a file": lambda out, away: out.write_text("mine"),
    "a link to nowhere": lambda out, away: out.symlink_to("nowhere"),
    "a link to itself": lambda out, away: out.symlink_to(out),
    "a linked folder": linked_folder,
    "another file": other_file,
    "odd names": odd_names,
    "a pipe": index_is(lambda index, away: os.mkfifo(index)),
    "a folder for index.html": index_is(lambda index, away: index.mkdir()),
    "index.html linked to another's file": index_is(lambda index, away: index.symlink_to(away / "thesis.doc")),
    "another page": index_is(lambda index, away: index.write_text("mine")),
    "bytes": index_is(lambda index, away: index.write_bytes(bytes(range(256)))),
    "below a file": lambda out, away: None,
    "a very long name": lambda out, away: None,
}


class Made(NamedTuple):
    """A run, and its page's bytes."""

    run: dx.Run
    page: bytes


def make(folder: Path) -> Made:
    run = small_run(folder)
    with runs_in(folder / "runs"):
        return Made(run, (publish(run, folder / "page") / INDEX).read_bytes())


def trial(made: Made, place: Path, chance: random.Random) -> str:
    return chance.choice((_place, _place, _names, _folder))(made, place, chance)


def _mine(folder: Path) -> dict[str, bytes]:
    """The files of others below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path): path.read_bytes() for path in files}


def _place(made: Made, place: Path, chance: random.Random) -> str:
    """Publish where something odd is."""
    name, force, away = chance.choice(list(PLACES)), chance.random() < 0.5, place / "away"
    away.mkdir()
    (away / "thesis.doc").write_text("mine")
    out = place / chance.choice(("page", "page.html", "p\nage", "pä ge", "page.HTM"))
    out = place / "away" / "thesis.doc" / "page" if name == "below a file" else out
    out = place / ("x" * 300) if name == "a very long name" else out
    PLACES[name](out, away)
    before = _mine(place)
    try:
        written = publish(made.run, out, force=force)
        page = written if written.is_file() else written / INDEX
        if page.read_bytes() != made.page:
            raise Wrong(f"{name}: another page")
    finally:
        now = _mine(place)
        replaced = {str(out), str(out / INDEX)} if force else set()
        if lost := [file for file in before if now.get(file) != before[file] and file not in replaced]:
            raise Lost(f"{name}, force={force}: {lost[0]}")
        if left := [file for file in now if file.endswith((".part", ".lock"))]:
            raise Wrong(f"{name}: left {left[0]}")
    return f"{name}, force={force}"


def _names(made: Made, place: Path, chance: random.Random) -> str:
    """A run whose classes have odd names: they stay text."""
    names = chance.sample(CLASSES, 2)
    run = dx.Run(shutil.copytree(made.run.path, place / "runs" / "mine"))
    for meta in run.path.glob("records/*/meta.json"):
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"class_names": names}))
    page = (publish(run, place / "page", pictures=False) / INDEX).read_text(encoding="utf-8")
    if page.count("<script") != made.page.count(b"<script") or "<!--" in page.replace("<!-- ", ""):
        raise Wrong(f"markup of {names}")
    return f"classes {names}"


def _folder(made: Made, place: Path, chance: random.Random) -> str:
    """A page's folder of which a file is changed, or to which something is added: it is not taken for whole."""
    page = place / "page"
    (page / "stages").mkdir(parents=True)
    for name in ("index.html", "page.js", "stages/stage-1.onnx"):
        (page / name).write_bytes(chance.randbytes(200))
    files = sorted(path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file())
    write_json(page / FACTS, sealed(page, FACTS, {"format": FORMAT, "files": files, "made_from": {"a": 1}}))
    what = chance.choice(("edited", "added", "linked", "pipe"))
    file = page / chance.choice((*files, FACTS))
    if what == "edited":
        file.write_bytes(chance.choice(EDITS)(file.read_bytes(), chance))
    elif what == "added":
        (page / chance.choice(("stages", ".")) / "thesis.doc").write_text("mine")
    elif what == "linked":
        (page / "more").symlink_to(place)
    else:
        os.mkfifo(page / "pipe")
    check_place(page, force=True)
    if what != "edited":
        raise Wrong(f"{what}: the folder would be replaced")
    return f"{what} {file.name}"
