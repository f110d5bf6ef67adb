"""Edited folders, hostile images and hostile links, each for a given time, as `Outcome`s."""

from __future__ import annotations

import logging
import random
import time

from . import edited_folders, hostile_images
from .outcome import Outcome

STEP = 25  # random edits between two looks at the clock


def folders(seconds: float, seed: int = 0, most: int = 10**9) -> Outcome:
    """Random edits of a run folder; no edit may bring a reader to more than one short error."""
    outcome, end = Outcome(), time.monotonic() + seconds
    other = 0
    while outcome.trials < most and (not outcome.trials or time.monotonic() < end):
        found = edited_folders.run(min(STEP, most - outcome.trials), seed + outcome.trials)
        outcome.trials += sum(found[name] for name in ("same", "other", "refused", "wrong"))
        outcome.failed += found["wrong"]
        outcome.examples += found["examples"][: 10 - len(outcome.examples)]
        other += found["refused"]
    outcome.note = f"{other:,} refused in one line"
    return outcome


def images(seconds: float, seed: int = 0, quick: bool = False) -> Outcome:
    """Every hostile image file once, from disk and from bytes, as far as the time goes."""
    outcome, end = Outcome(), time.monotonic() + seconds
    slow = list(hostile_images.SLOW.items())
    random.Random(seed).shuffle(slow)
    memory = longest = 0.0
    for name, make in [*hostile_images.QUICK.items(), *([] if quick else slow)]:
        if outcome.trials and time.monotonic() > end:
            break
        found = hostile_images.run({name: make})
        outcome.trials += int(found["trials"])
        for _ in range(int(found["failed"])):
            outcome.wrong(name)
        memory, longest = max(memory, found["peak_mb"]), max(longest, found["seconds"])
    outcome.note = f"at most {memory:.0f} MiB and {longest:.1f} s an image"
    return outcome


def links(seconds: float, seed: int = 0, most: int = 10**9) -> Outcome:
    """The pages of hostile links, in random order, as far as the time goes."""
    from . import hostile_links  # imports Streamlit, which no other kind needs

    outcome, end = Outcome(), time.monotonic() + seconds
    # it warns at every page that no server runs
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").disabled = True
    for view, parameters in random.Random(seed).sample(hostile_links.LINKS, len(hostile_links.LINKS))[:most]:
        if outcome.trials and time.monotonic() > end:
            break
        outcome.trials += 1
        if hostile_links.run([(view, parameters)])["failed"]:
            outcome.wrong(f"{view} with {next(iter(parameters.values()))[:80]!r}")
    outcome.note = f"of {len(hostile_links.LINKS)} links"
    return outcome
