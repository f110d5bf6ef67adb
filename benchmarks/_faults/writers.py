"""Commands that write, each disturbed and then given again, word for word: killed, on a full disk, beside another one.

In: a folder. Out: `Writers`, whose trials raise `Wrong` or `Lost`. Given again, a command must end with 0, and all
files must have the content of an undisturbed one, bit by bit but for dates and durations. After every disturbance each
file that was there before must have its old or its final content. All work is done on a small disk of its own, a tmpfs,
which Linux lets root alone mount; elsewhere in a folder, and no disk fills up.

Stages are converted to ONNX once and copied from then on: that takes an export most of its time, and writes no file.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .commands import EPOCHS, TRAIN, Done, perform, start
from .contents import contents
from .endings import Lost, Wrong

NAME, CPU, BATCH = "mine", ("--device", "cpu"), ("--batch-size", "20", "--device", "cpu")
ROOM = 64 * 2**20  # bytes of the small disk
AGAIN = 0.3  # share of the trials whose second command is killed, too
LONGEST = 60.0  # seconds that a command which nothing disturbs may take
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


TRAINED = ("train", "--name", NAME, *TRAIN, "--record")
EXPORT = ("export", NAME, "--out", "{root}/out", "--flops")
PUBLISH = ("publish", NAME, "--out", "{root}/page")
# name → command, and what is there at first; {root} is its runs root, {made} what was made before
COMMANDS: dict[str, tuple[tuple[str, ...], Prepare]] = {
    "train --record": (TRAINED, _nothing),
    "train --resume --record": (("train", "--resume", NAME, "--epochs", str(EPOCHS), "--record", *CPU), _begun),
    "train --teacher own": ((*TRAINED, "--teacher", "own", "--teacher-epochs", "2"), _nothing),
    "record": (("record", NAME, *BATCH), _unrecorded),
    "record --force": (("record", NAME, "--force", *BATCH), _run),
    "export": ((*EXPORT, "0.9"), _run),
    "export --force": ((*EXPORT, "0.7", "--force"), _exported),
    "export --single": ((*EXPORT, "0.9", "--single"), _run),
    "export --precision int8": ((*EXPORT, "0.9", "--precision", "int8"), _run),
    "publish": (PUBLISH, _run),
    "publish --model": ((*PUBLISH, "--model", "--weights", "float16"), _run),
    "slim --record": (("slim", NAME, "--images", "40", "--epochs", "2", "--record", *CPU), _run),
    "search": (("search", "--name", "study", "--trials", "3", "--search-seed", "0", *TRAIN), _nothing),
    "predict": (("predict", NAME, "{made}/images", "--output", "{root}/answers.csv", *CPU), _run),
}
BESIDE = {  # a command → another one that works on the same run beside it
    "train --record": [("record", NAME, *BATCH), TRAINED],
    "record --force": [("evaluate", NAME), ("record", NAME, "--force", *BATCH)],
}


@dataclass
class Writers:
    """Trials of the commands one after another; what an undisturbed one leaves and takes is found at its first."""

    place: Path

    def __post_init__(self) -> None:
        self.made, self.log, self.disk = (self.place / name for name in ("made", "log", "disk"))
        self.whole: dict[str, dict[str, str]] = {}  # command → what it leaves
        self.seconds, self.bytes = dict[str, float](), dict[str, int]()
        self.disk.mkdir(parents=True)
        self.mounted = _mount(self.disk)
        self.root = self.disk / "runs"
        self.made.mkdir()
        for command in (TRAINED, ("train", "--name", "begun", *TRAIN, "--epochs", "1"), (*EXPORT, "0.9")):
            self._succeed(command, self.made)
        (self.made / "images").mkdir()
        for number in range(40):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(self.made / "images" / f"{number}.png")

    def close(self) -> None:
        """Give the small disk back."""
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=False)

    def kill(self, chance: random.Random) -> str:
        """Kill a command at a random moment, some twice, and give it again."""
        name, before = self._lay_out(chance.choice([*COMMANDS]))
        kills = [chance.uniform(0, self.seconds[name]) for _ in range(1 + (chance.random() < AGAIN))]
        words = f"{name}, killed after " + " and ".join(f"{after:.2f}" for after in kills) + " s"
        for after in kills:
            done = self._perform(COMMANDS[name][0], self.root, kill_after=after)
            if done.status and done.status > 0:
                raise Wrong(f"{words}: {done.errors.strip()[-300:]}")
            self._check_kept(name, before, words)
        return self._again(name, words)

    def full_disk(self, chance: random.Random) -> str:
        """Let a command find less room than it needs, and give it again with room."""
        name, before = self._lay_out(
            chance.choice([name for name in COMMANDS if name != "search"])
        )  # whose trial fails
        room = chance.randrange(self.bytes[name] + 1)
        words = f"{name}, {room:,} bytes of room"
        _fill(self.disk, room)
        done = self._perform(COMMANDS[name][0], self.root)
        (self.disk / "filling").unlink()
        if done.status and not done.names_full_disk:
            raise Wrong(f"{words}: status {done.status}: {done.errors.strip()[-300:]}")
        self._check_kept(name, before, words)
        return self._again(name, words)

    def beside(self, chance: random.Random) -> str:
        """Give another command beside one, at a random moment; each may refuse, in one line."""
        name, _ = self._lay_out(chance.choice([*BESIDE]))
        other, after = chance.choice(BESIDE[name]), chance.uniform(0, self.seconds[name])
        words = f"{name}, {other[0]} after {after:.2f} s"
        logs = (self.log, self.log.with_name("beside"))
        processes = []
        for command, log in zip((COMMANDS[name][0], other), logs, strict=True):
            log.unlink(missing_ok=True)
            processes.append(start(*self._given(command, self.root), self.root, log))
            processes[0].join(after if len(processes) == 1 else None)
        for process, log in zip(processes, logs, strict=True):
            process.join(LONGEST)
            errors = log.read_text(encoding="utf-8", errors="replace")
            if process.exitcode is None or (process.exitcode and not Done(process.exitcode, errors).refused):
                process.kill()
                raise Wrong(f"{words}: status {process.exitcode}: {errors.strip()[-300:]}")
        return self._again(name, words)

    def _again(self, name: str, words: str) -> str:
        """Give the very same command, and compare what it leaves."""
        done = self._perform(COMMANDS[name][0], self.root, kill_after=LONGEST)
        if done.status:
            raise Wrong(f"{words}; again: status {done.status}: {done.errors.strip()[-300:]}")
        wanted, found = self.whole[name], contents(self.root)
        if wrong := sorted(file for file in {*wanted, *found} if wanted.get(file) != found.get(file)):
            raise Wrong(f"{words}; again: {', '.join(wrong[:5])} differ")
        return words

    def _lay_out(self, name: str) -> tuple[str, dict[str, str]]:
        """Put there what the command finds; its name, and what that is."""
        command, prepare = COMMANDS[name]
        for _ in range(0 if name in self.whole else 2):  # the first may have to warm up
            shutil.rmtree(self.root, ignore_errors=True)
            prepare(self.made, self.root)
            began, used = time.monotonic(), shutil.disk_usage(self.disk).used
            self._succeed(command, self.root)
            self.seconds[name], left = time.monotonic() - began, contents(self.root)
            self.bytes[name] = max(0, shutil.disk_usage(self.disk).used - used)
            if (before := self.whole.setdefault(name, left)) != left:
                raise RuntimeError(f"{name} gives other files each time: {sorted({*before} ^ {*left})}")
        shutil.rmtree(self.root, ignore_errors=True)
        prepare(self.made, self.root)
        return name, contents(self.root)

    def _check_kept(self, name: str, before: dict[str, str], words: str) -> None:
        """Files that were there must be as they were, or as they will be."""
        moving, found = MOVING if COMMANDS[name][1] is _begun else {"card.md"}, contents(self.root)
        for file in before:
            if Path(file).name not in moving and found.get(file) not in (before[file], self.whole[name].get(file)):
                raise Lost(f"{words}: {file}")

    def _given(self, command: tuple[str, ...], root: Path) -> tuple[list[str], dict[str, str]]:
        """A command with its places, and its variables."""
        words = [word.format(root=root, made=self.made) for word in command]
        return words, {"FAULTS_STAGES": str(self.place / "stages")}

    def _perform(self, command: tuple[str, ...], root: Path, kill_after: float | None = None) -> Done:
        return perform(*self._given(command, root), root, self.log, kill_after=kill_after)

    def _succeed(self, command: tuple[str, ...], root: Path) -> None:
        if (done := self._perform(command, root)).status:
            raise RuntimeError(done.errors)


def _mount(place: Path) -> bool:
    """Put a file system of its own in memory there; whether it may be."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _fill(disk: Path, left: int) -> None:
    """Write a file until ``left`` bytes are free, in whole pages."""
    with (disk / "filling").open("ab", buffering=0) as stream:
        for size in (2**20, 2**15, 2**12):
            with suppress(OSError):
                while shutil.disk_usage(disk).free >= left + size:
                    stream.write(bytes(size))
