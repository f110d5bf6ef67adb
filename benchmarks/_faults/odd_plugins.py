"""Plug-ins that raise, end the process, change, take each other's names or lie about themselves, loaded and used.

A plug-in that fails is an error that names it and leaves nothing behind; a run states the SHA-256 of the bytes that
ran, and a run whose plug-in is another one says so.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import dmpo_explore as dx
from dmpo_explore.joints import JOINTS
from dmpo_explore.plugin_needs import LOADED, PluginNeed, require
from dmpo_explore.plugins import load_all, load_plugin, unload

from .judged import CLEAR, Wrong

SCORE = """
import os, sys
from dmpo_explore.joints import COMMANDS, SCORES
from dmpo_explore.plugin_needs import LOADED, Plugin
from dmpo_explore.plugins import load_plugin
from dmpo_explore.records.scores import Score

class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")

def compute(logits):
    {used}
    return logits[..., 0]

SCORES["odd"] = Score("odd", compute, "high")
{loaded}
"""
# what stands at the end of the module: it is no plug-in, and an error must say so
FAILING = (
    "raise RuntimeError('x' * 99999)", "raise KeyError", "1 / 0", "sys.exit(0)", "sys.exit('bye')", "raise Mute",
    "raise Mute from Mute()", "assert False", "import no_such_module", "from . import nothing", "(" * 300, "\0",
    "def f(: pass", "raise StopIteration", "raise GeneratorExit", "raise MemoryError", "load_plugin(__file__)",
    "SCORES['confidence'] = SCORES['odd']", "SCORES.update(confidence=SCORES['odd'])", "del SCORES['margin']",
    "SCORES.pop('margin')", "SCORES.clear()", "COMMANDS['odd'] = print; raise OSError(28, 'No space left')",
    "del SCORES['entropy']; raise ValueError", "SCORES |= {'entropy': SCORES['odd']}", "SCORES['odd'] = SCORES['odd']",
)  # fmt: skip
# it works, whatever it says of itself
LYING = (
    "", "open(__file__, 'a').write('# more')", "os.remove(__file__)", "__file__ = '/dev/null'", "__name__ = 'other'",
    "LOADED['odd'] = Plugin('odd', '0' * 64, __file__)", "sys.modules.pop(__name__)",
    "SCORES.update(odder=SCORES['odd'])",
    "sys.modules['odd'] = sys", "os.environ['DMPO_EXPLORE_PLUGINS'] = ''",
)  # fmt: skip
# what stands in the score: it fails when it is used
MISUSED = (
    "raise RuntimeError('x' * 9999)", "raise Mute", "return logits", "return None", "return 'high'", "return 1.0",
    "return logits[..., 0] * float('nan')", "return logits[:1, ..., 0]", "return logits[..., 0] > 0", "sys.exit(0)",
    "return [1] * 10", "return logits[..., 0] + 1j",
)  # fmt: skip
CHANGING = "logits *= 0"  # what the score was given, for the scores after it


def make(folder: Path) -> dx.ExitRecord:
    return dx.load_run("demo").record("test").subset(slice(50))


def trial(record: dx.ExitRecord, place: Path, chance: random.Random) -> str:
    used = chance.choice((*MISUSED, CHANGING)) if chance.random() < 0.4 else "pass"
    loaded = chance.choice((*FAILING, *LYING)) if used == "pass" else ""
    file = place / "odd.py"
    source = SCORE.format(used=used, loaded=loaded).encode()
    file.write_bytes(source)
    load_all()
    joints, environment = {kind: dict(joint) for kind, joint in JOINTS.items()}, dict(os.environ)
    modules = {**sys.modules}
    try:
        _load(file, loaded, hashlib.sha256(source).hexdigest(), joints, chance)
        if used != "pass":
            _use(record, used)
    finally:
        unload("odd")
        now = {kind: dict(joint) for kind, joint in JOINTS.items()}
        for kind, joint in JOINTS.items():
            dict.clear(joint)
            dict.update(joint, joints[kind])
        os.environ.clear()
        os.environ.update(environment)
        sys.modules["odd"] = modules.get("odd")  # type: ignore[assignment]
        del sys.modules["odd"]
    if now != joints:
        changed = [kind for kind in joints if now[kind] != joints[kind]]
        raise Wrong(f"{loaded or used}: it leaves other entries behind: {', '.join(changed)}")
    return loaded or used


def _load(file: Path, loaded: str, digest: str, joints: dict[str, Any], chance: random.Random) -> None:
    try:
        load_plugin(file)
    except CLEAR as error:
        if "odd" not in str(error):
            raise Wrong(f"{loaded}: the error does not name the plug-in: {error}") from error
        if loaded not in FAILING:
            raise Wrong(f"{loaded}: {error}") from error
        if {kind: dict(joint) for kind, joint in JOINTS.items()} != joints or "odd" in LOADED:
            raise Wrong(f"{loaded}: a plug-in that failed leaves entries behind") from error
        raise
    if loaded in FAILING:
        raise Wrong(f"{loaded}: it was loaded")
    if LOADED["odd"].sha256 != digest:
        raise Wrong(f"{loaded}: it states another SHA-256 than that of what ran")
    stated = digest if chance.random() < 0.5 else "0" * 64
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        require([PluginNeed("odd", stated)], "run 'mine'")
    if bool(said) != (stated != digest):
        raise Wrong(f"{loaded}: a run of another plug-in says {[str(one.message) for one in said]}")
    if file.is_file() and file.read_bytes() != b"" and hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        try:
            load_plugin(file)
        except ValueError:
            return
        raise Wrong(f"{loaded}: its file has changed, and is taken for loaded")


def _use(record: dx.ExitRecord, used: str) -> None:
    logits, entropy = np.array(record.logits), record.score("entropy").copy()
    try:
        values = record.score("odd")
    except CLEAR as error:
        if "odd" not in str(error):
            raise Wrong(f"{used}: the error does not name the score: {error}") from error
        raise
    finally:
        if not np.array_equal(logits, record.logits) or not np.array_equal(entropy, record.score("entropy")):
            raise Wrong(f"{used}: it changes the record")
    if used != CHANGING and (values.shape != entropy.shape or not np.isfinite(values).all()):
        raise Wrong(f"{used}: values of shape {values.shape}")
