"""Session state of own scores: the form of their page, and the runs that this session has opened from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st
from dmpo_explore_app.services import own_runs, record_folder
from dmpo_explore_app.state import choices, decide_choices, filters, operating_point

import dmpo_explore as dx

FROM, FILE, HELD_OUT, FLOPS, FOLDER, VAL, IMAGES = (
    "own_from", "own_file", "own_held_out", "own_flops", "own_folder", "own_val", "own_images",
)  # fmt: skip
FROM_FILE, FROM_FOLDER = WAYS = ("a file", "a record folder")
OPEN, SHOW, CLOSE, MEANT = "own_open", "own_show", "own_close", "own_meant"  # beginnings of keys of buttons
NUMBER = 4  # characters of the number of a second run of the same name
_OPENED, _READ = "_own_runs", "_own_read"


def opened() -> list[own_runs.OwnRun]:
    """The session's own scores, those that were opened last first."""
    return list(st.session_state.get(_OPENED, []))


def names() -> list[str]:
    """The session's own runs, then all others."""
    return [*(run.name for run in opened()), *dx.list_runs()]


def without_links(names: Sequence[str]) -> list[str]:
    """``names`` without links to runs that are among them: they would be the same runs twice."""
    root = dx.runs.runs_root().resolve()
    folders = {root / name for name in names}
    return [name for name in names if not (root / name).is_symlink() or (root / name).resolve() not in folders]


def load(name: str) -> dx.Run:
    """One of the session's own runs, or another by its name; raises as `dx.load_run`."""
    return next((own for own in opened() if own.name == name), None) or dx.load_run(name)


def open_run(title: str, scores: Mapping[str, own_runs.OwnScores], files: dx.data.ImageFiles | None) -> None:
    """Keep a run of these scores beside those that are open, and let every page show it. The same scores are not open
    twice; other ones of the same title get a number."""
    others = [run for run in opened() if not run.begins_with(scores)]
    title, taken = dx.figures.abbreviated(title, own_runs.LONGEST - NUMBER), {run.title for run in others}
    numbered = (title if n == 1 else f"{title} {n}" for n in range(1, len(taken) + 2))
    run = own_runs.opened(next(name for name in numbered if name not in taken), scores, files)
    st.session_state[_OPENED] = [run, *others]
    operating_point.forget()
    filters.clear()
    choose(run)


def choose(own: own_runs.OwnRun) -> None:
    """Let Explore, Decide and One image show a run that is open."""
    choices.choose_run(own.name)
    st.session_state[choices.SPLIT] = own.splits()[0]
    decide_choices.forget()


def close(own: own_runs.OwnRun) -> None:
    """Forget a run: pages that show it show their usual one."""
    if st.session_state.get(choices.RUN) == own.name:
        st.session_state.update({choices.RUN: None, choices.SPLIT: None})
    st.session_state[_OPENED] = [run for run in opened() if run is not own]
    decide_choices.drop(own.name)


def validate_way() -> str:
    return choices.validate(FROM, WAYS, FROM_FILE, "source")


def flops() -> tuple[float, ...] | None:
    """The FLOPs that are typed as GFLOPs; None where the field is empty; ValueError naming what is no number."""
    text = str(st.session_state.get(FLOPS) or "")
    numbers = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    try:
        return tuple(1e9 * float(number) for number in numbers) or None
    except ValueError:
        raise ValueError(f"GFLOPs {text!r} must be numbers with commas between, such as 1.2, 2.4, 3.6") from None


def image_place() -> str:
    return str(st.session_state.get(IMAGES) or "").strip()


def read_once(key: tuple[object, ...], make: Callable[[], dx.ExitRecord]) -> dx.ExitRecord:
    """``make()``, kept in this session while the form has the same file; raises as it."""
    kept: dict[object, object] = st.session_state.setdefault(_READ, {})
    found = kept.get(key[0])
    if isinstance(found, tuple) and found[0] == key and isinstance(found[1], dx.ExitRecord):
        return found[1]
    record = make()
    kept[key[0]] = (key, record)
    return record


def open_folder(folder: str) -> None:
    st.session_state[FOLDER] = folder


def open_bundled() -> None:
    """Fill the form with the bundled demo's records."""
    st.session_state[FROM] = FROM_FOLDER
    st.session_state[FOLDER], st.session_state[VAL] = record_folder.bundled()
