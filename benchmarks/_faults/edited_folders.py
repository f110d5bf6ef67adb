"""Random edits of a run folder, and what its readers make of each.

In: a run, with its export in ``out`` if there is one. Out: `Edited`, whose trial changes a file and looks at every
reader: it must give the whole run's answers, other answers (the edited values are valid ones), or one short error that
names a file.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import dmpo_explore as dx

from .endings import Wrong

SECONDS, CHARACTERS = 2.0, 1000  # that a reader, and an error, may take
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, 2**70, "", "x" * 10**5, "\ud800", "\x00", [], {},
    [[]], [None], [1] * 10**4, {"a": {"b": []}}, list(range(2000)),
)  # fmt: skip
READERS: dict[str, Callable[[dx.Run], Any]] = {
    "record": lambda run: dx.summarise(record := run.record("test"), [0] * record.n_images),
    "problems": lambda run: dx.ExitRecord.problems(run.path / "records/test"),
    "history": lambda run: str(dx.figures.learning_figure(run.history()).data)[:1000],
    "policies": lambda run: {name: policy.to_dict() for name, policy in run.policies().items()},
    "card": lambda run: run.card(),
    "class_names": lambda run: run.class_names,
    "evaluate": lambda run: dx.evaluate_runs([str(run.path)], targets=dx.Target.flops(0.5)),
    "curve": lambda run: dx.trade_off(run.record("test")).to_dict(),
    "export": lambda run: answers_of_export(run.path / "out"),
}


def answers_of_export(folder: Path) -> Any:
    """Exits and labels of an exported run for three images, if it is there."""
    if not folder.is_dir():
        return None
    engine = dx.OnnxEngine(folder)
    found = engine.infer(np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32))
    return found.exit.tolist(), found.label.tolist()


# -- edits: the bytes of a file and a source of chance → other bytes --

Edit = Callable[[bytes, random.Random], bytes]


def flip(content: bytes, chance: random.Random) -> bytes:
    """Change one to eight bytes, half of the times in the first 200."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 8) if data else 0):
        data[chance.randrange(min(len(data), chance.choice((200, len(data)))))] = chance.randrange(256)
    return bytes(data)


def cut(content: bytes, chance: random.Random) -> bytes:
    """Leave out the end."""
    return content[: chance.randrange(len(content) + 1)]


def insert(content: bytes, chance: random.Random) -> bytes:
    """Put up to 1,000 random bytes somewhere."""
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.randbytes(chance.randint(1, 1000)) + content[place:]


def replace_words(content: bytes, chance: random.Random) -> bytes:
    """Put something else for one number or word of a text."""
    words = content.decode("latin-1").split(",")
    words[chance.randrange(len(words))] = chance.choice(["", "nan", "-1", "1e999", "9" * 400, '"', "\n", "x" * 10**5])
    return ",".join(words).encode("latin-1")


def edit_json(content: bytes, chance: random.Random) -> bytes:
    """Put something else for one value, add a key, or nest everything deeply; other files are flipped."""
    try:
        values = json.loads(content)
    except ValueError:
        return flip(content, chance)
    if chance.random() < 0.1:
        depth = chance.choice((50, 500, 900, 5000))
        return b'{"a":' * depth + content + b"}" * depth
    place = values
    while isinstance(place, dict | list) and place:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.4:
            place[key] = chance.choice(VALUES)
            break
        place = place[key]
    if isinstance(values, dict) and chance.random() < 0.1:
        values["x" * chance.choice((1, 10**5))] = chance.choice(VALUES)
    return json.dumps(values).encode()


EDITS: tuple[Edit, ...] = (flip, flip, flip, cut, insert, replace_words, edit_json, edit_json)


# -- what becomes of them --


class Edited:
    """Trials on a copy of a run in ``place``; what each reader gives of it whole is found first."""

    def __init__(self, run: Path, place: Path) -> None:
        self.path = Path(shutil.copytree(run, place))
        self.files = sorted(file for file in self.path.rglob("*") if file.is_file())
        self.whole = answers(self.path)
        if errors := [answer for answer in self.whole.values() if isinstance(answer, Exception)]:
            raise errors[0]

    def trial(self, chance: random.Random) -> str:
        """Edit a file, read, and put it back; what was done. OSError or ValueError: one reader's, a clear one."""
        file, edit = chance.choice(self.files), chance.choice(EDITS)
        words, content = f"{edit.__name__} of {file.relative_to(self.path)}", file.read_bytes()
        file.write_bytes(edit(content, chance))
        found = answers(self.path)
        file.write_bytes(content)
        verdict = verdict_on(found, self.whole, [file.name for file in self.files])
        if verdict == "refused":
            raise ValueError(f"{words} is refused")
        if verdict not in ("same", "other"):
            raise Wrong(f"{words}: {verdict}")
        return words


def answers(path: Path) -> dict[str, Any]:
    """What each of `READERS` gives: its answer as text, or its exception."""
    found: dict[str, Any] = {}
    for name, read in READERS.items():
        started = time.process_time()
        try:
            found[name] = repr(read(dx.load_run(path)))
        except Exception as error:
            found[name] = error
        if (seconds := time.process_time() - started) > SECONDS:
            found[name] = TimeoutError(f"{name} took {seconds:.1f} s")
    return found


def verdict_on(found: Mapping[str, Any], whole: Mapping[str, Any], files: list[str]) -> str:
    """``same``, ``other`` or ``refused``; or what is wrong with the answers."""
    errors = {name: answer for name, answer in found.items() if isinstance(answer, Exception)}
    for name, error in errors.items():
        text = str(error)
        allowed = isinstance(error, OSError | ValueError) and not isinstance(error, TimeoutError)
        if not allowed or len(text) > CHARACTERS or not any(file in text for file in files):
            return f"{name}: {type(error).__name__}: {text[:300]}"
    if errors:
        return "refused"
    return "same" if found == whole else "other"
