"""Kills (SIGKILL) of training and recording at random moments, and going on afterwards.

In: seconds and a seed. Out: `run`, counts of kills; of those after which every finished file was whole and the same
command (or ``--resume``) ended in the undisturbed result; and of finished files that were damaged or gone.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from pathlib import Path

from dmpo_explore.runs.run import Run
from dmpo_explore.runs.run_files import finished_epochs

from .commands import EPOCHS, TRAIN, Done, clear, perform
from .outcome import Outcome
from .states import SPLITS, damaged, different

NAME = "mine"
KILLS = 3  # at most, until the run may end


def run(seconds: float, seed: int = 0, least: int = 2) -> Outcome:
    """Kill, look, go on; for ``seconds``, but ``least`` times each: a training with its records, a first record, and a
    record that is replaced."""
    outcome, chance = Outcome(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        undisturbed, longest = _undisturbed(place)
        end, rounds = time.monotonic() + seconds, 0
        while outcome.trials < least or time.monotonic() < end:  # a command may end before its kill
            kind = ("train", "record", "replace")[rounds % 3]
            _round(place, undisturbed, kind, longest[kind], chance, outcome)
            rounds += 1
    return outcome


def _undisturbed(place: Path) -> tuple[Path, dict[str, float]]:
    """The undisturbed run, and the seconds that its commands take; done twice, as the first one starts the server."""
    root, took = place / "undisturbed", dict[str, float]()
    commands = {
        "train": ["train", "--name", NAME, "--force", "--record", *TRAIN],
        "replace": ["record", "--force", "--batch-size", "20", "--device", "cpu", NAME],
    }
    for kind, command in [("train", commands["train"]), *commands.items()]:
        began = time.monotonic()
        done = perform(command, root, place / "log")
        took[kind] = time.monotonic() - began
        if done.status:
            raise RuntimeError(done.errors)
    return root / NAME, took | {"record": took["replace"]}


def _round(place: Path, undisturbed: Path, kind: str, longest: float, chance: random.Random, outcome: Outcome) -> None:
    """Up to `KILLS` kills of one run, then its end."""
    root = place / "runs"
    path, kept = root / NAME, SPLITS if kind == "replace" else ()
    shutil.rmtree(root, ignore_errors=True)
    if kind != "train":
        shutil.copytree(undisturbed, path)
        if kind == "record":
            shutil.rmtree(path / "records")
            (path / "policies.json").unlink()
    replaced = False
    for kill in range(KILLS + 1):
        command = (
            ["record", "--force", "--device", "cpu", NAME] if kind == "replace" and not replaced else next_command(path)
        )
        if not command:
            break
        after = chance.uniform(0, longest) if kill < KILLS else None
        done = perform(command, root, place / "log", kill_after=after)
        if done.status == 0:
            replaced = True
            continue
        _judge(path, undisturbed, kept, done, f"{kind}, kill {kill + 1}", outcome)
    clear(root)
    if wrong := different(path, undisturbed, EPOCHS):
        outcome.wrong(f"{kind}, at the end: {'; '.join(wrong)}")


def _judge(path: Path, undisturbed: Path, kept: tuple[str, ...], done: Done, where: str, outcome: Outcome) -> None:
    wrong = damaged(path, undisturbed, EPOCHS, kept)
    outcome.trials += 1
    outcome.lost += len(wrong)
    if done.status is None or done.status > 0:  # it was not killed: it failed
        wrong.append(done.errors.strip()[-300:])
    if wrong:
        outcome.wrong(f"{where}: {'; '.join(wrong)}")


def next_command(path: Path) -> list[str]:
    """The command that goes on; none where all is done."""
    epochs = finished_epochs(path) if path.exists() else 0
    if not epochs:
        return ["train", "--name", NAME, "--force", "--record", *TRAIN]
    if epochs < EPOCHS:
        return ["train", "--resume", NAME, "--record", "--device", "cpu"]
    missing = [split for split in SPLITS if split not in Run(path).splits()]
    splits = [text for split in missing for text in ("--split", split)]
    return ["record", *splits, "--batch-size", "20", "--device", "cpu", NAME] if splits else []
