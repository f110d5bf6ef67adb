"""The form of Bring your own for scores: a file or a record folder, held-out scores, FLOPs, images. Out: records by
split with the Python that reads them; problems stand beside the field that they belong to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import streamlit as st
from dmpo_explore_app import access, messages
from dmpo_explore_app.components import folder_panels
from dmpo_explore_app.services import own_runs, record_folder
from dmpo_explore_app.state import opened_scores as state

import dmpo_explore as dx

Scores = dict[str, own_runs.OwnScores]


def choose() -> tuple[str, Scores]:
    """Draw the form; a title for the scores and, where they are valid, the scores by split."""
    way = state.validate_way()
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="own_way"):
        st.segmented_control("Scores from", state.WAYS, key=state.FROM, required=True, persist_state="session")
        st.button("Try it with a bundled record", on_click=state.open_bundled, icon=":material/science:")
    with messages.problems("These scores cannot be opened."):
        return from_file() if way == state.FROM_FILE else from_folder()
    return "", {}


def from_file() -> tuple[str, Scores]:
    """Two uploads and the FLOPs; held-out scores alone are those of the run that was opened last. Raises as
    `dx.runs.read_scores`."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="top", key="own_uploads"):
        shown = st.file_uploader(
            "Scores of every exit (NPZ or CSV)", type=["npz", "csv"], key=state.FILE, max_upload_size=access.MOST_MB
        )
        held_out = st.file_uploader(
            "Held-out scores, to fit thresholds on (optional)",
            type=["npz", "csv"],
            key=state.HELD_OUT,
            max_upload_size=access.MOST_MB,
        )
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom", key="own_more"):
        st.text_input(
            "GFLOPs at each exit, if the file has none",
            key=state.FLOPS,
            placeholder="1.2, 2.4, 3.6",
            persist_state="session",
            help="Of everything that has run when an image exits there. One multiply-add is two FLOPs.",
        )
        images()
    flops, found, title = state.flops(), dict[str, own_runs.OwnScores](), ""
    if shown is not None:
        title = shown.name.rpartition(".")[0]
    elif held_out is not None and (opened := state.opened()):
        title, found = opened[0].title, {split: opened[0].scores[split] for split in opened[0].splits()[:1]}
    held = "calibration" if "val" in found else "val"
    for split, file in {"test": shown, held: held_out}.items():
        if file is None or not title:
            continue
        make = partial(dx.runs.read_scores, file.getvalue(), file.name, flops=flops, split=split, quiet=True)
        record = state.read_once((split, file.file_id, flops), make)
        typed = "" if flops is None else f", flops={flops}"
        found[split] = own_runs.OwnScores(record, f"dx.runs.read_scores({file.name!r}, split={split!r}{typed})")
    return title, found


def from_folder() -> tuple[str, Scores]:
    """Two paths; raises as `record_folder.find`."""
    text = st.text_input(
        "Record folder", key=state.FOLDER, placeholder="/home/me/my-records/test", persist_state="session"
    )
    val_text = st.text_input(
        "Folder to fit thresholds on (optional)",
        key=state.VAL,
        placeholder="/home/me/my-records/val",
        persist_state="session",
    )
    images()
    if not access.is_private():
        st.caption("From here the app opens only folders under its runs root, such as `demo/records/test`.")
    if not text.strip():
        return "", {}
    folder = record_folder.find(text)
    if not folder_panels.report(folder):
        return "", {}
    meta = record_folder.record(record_folder.stamp(folder)).meta
    split = meta.split
    found = {split: of_folder(folder)}
    if (val := folder_panels.val_record(val_text, folder)) is not None:
        found["calibration" if split == "val" else "val"] = of_folder(val)
    return meta.data.replace("\\", "/").rstrip("/").rpartition("/")[2], found


def of_folder(folder: Path) -> own_runs.OwnScores:
    return own_runs.OwnScores(folder, f"dx.ExitRecord.load({record_folder.code_of(folder)})")


def images() -> None:
    """A field for where images for the tiles lie; other machines have none, as they give no paths."""
    if access.is_private():
        st.text_input(
            "Images (optional)",
            key=state.IMAGES,
            placeholder="/home/me/images, or /home/me/paths.csv",
            persist_state="session",
            help="A folder of images, taken sorted by path; or a CSV file with one path per row. One image per row of "
            "the scores, in their order. Without images Explore shows plain tiles.",
        )


def image_place(text: str) -> Path:
    """The folder or file that is typed; ValueError where it cannot be a path, or from another machine."""
    access.check_private("Images are read")
    return record_folder.find(text)
