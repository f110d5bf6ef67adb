"""Report of the GPU benchmark: Markdown tables of its result, and the part of ``GPU.md`` between its markers.

In: what `gpu` measured (``benchmarks/results/gpu.json``), or None. Every number comes from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dmpo_explore as dx
from _common.results import between
from _speed.report import early_exit_table

BEGIN, END = "<!-- table: scripts/bench gpu --write -->", "<!-- end of table -->"
PICTURE = "gpu-live.png"
PAGES = Path(__file__).resolve().parents[1]
NOT_MEASURED = "**Not measured.** No GPU has been at hand yet: there is no figure for any card."
EXTRA = {"peak MiB": "peak_mib", "W": "watts", "J per image": "joules"}


def with_tables(page: str, result: dict[str, Any] | None) -> str:
    """The page with its part between the markers made anew; ValueError without markers."""
    return between(page, BEGIN, END, "\n".join(render_tables(result)) if result else NOT_MEASURED)


def render_tables(result: dict[str, Any]) -> list[str]:
    """Everything that the result has numbers for, and what became of every part."""
    facts, parts = result["machine"], result["parts"]
    lines = [
        f"Measured on **{facts['device']}** ({facts['cpu']}, threads: {facts['threads']}; torch {facts['torch']}, "
        f"timm {facts['timm']}) in {result['minutes']} minutes.",
        "",
    ]
    if result["quick"]:
        lines += ["Small models, to try the code: no measurement.", ""]
    lines += ["## Parts", "", *_states(parts), ""]
    for name, part in parts.items():
        if rows := part["found"].get("rows"):
            lines += _inference(name, part["found"], rows)
    if found := parts.get("training", {}).get("found"):
        lines += ["## Training and records", "", *_training(found), ""]
    if found := parts.get("app", {}).get("found"):
        lines += ["## Live", "", f"*Live* of the app, `demo`: {found['status'] or 'drawn, not started'}.", ""]
        lines += [f"![Live on this card]({PICTURE})", ""] if (PAGES / PICTURE).is_file() else []
    return lines[:-1]


def _states(parts: dict[str, Any]) -> list[str]:
    cells = [["part", "state", "seconds", "note"]]
    for name, part in parts.items():
        note = part["reason"] or part["found"].get("summary", "")
        cells.append([name, part["state"], str(part["seconds"]), note.replace("|", "/")])
    return dx.analysis.markdown(cells)


def _inference(name: str, found: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"## {name}, {found['image_size']} px", "", f"`{found['backbone']}`, random weights.", ""]
    for size in sorted({row["batch"] for row in rows}):
        chosen = [row for row in rows if row["batch"] == size]
        extra = {title: key for title, key in EXTRA.items() if any(key in row for row in chosen)}
        lines += [f"### {name}, batch {size}", "", *early_exit_table(chosen, extra), ""]
    if watts := found.get("idle_watts"):
        lines += [f"*W* and *J per image* include {watts} W that the card draws when idle.", ""]
    differ = dict(found["exits_differ"])
    images = differ.pop("images")
    counts = ", ".join(f"{engine}: {n}" for engine, n in differ.items())
    return [*lines, f"Of {images} images, so many exit elsewhere than recorded: {counts}.", ""]


def _training(found: dict[str, Any]) -> list[str]:
    data, model, settings = (found["config"][part] for part in ("data", "model", "training"))
    lines = [
        f"Recipe of `demo`: {data['name']}, {model['backbone']}, {model['image_size']} px, precision "
        f"{settings['precision']}; {len(found['epochs'])} of {settings['epochs']} epochs were trained."
    ]
    lines += ["", *(f"- Not as published: {note}." for note in found["notes"])] if found["notes"] else []
    cells = [["quantity", "value"]]
    for title, key in (("training, images/s", "images_per_s"), ("training, peak MiB", "peak_mib")):
        if found.get(key):
            cells.append([title, f"{found[key]:.4g}"])
    seconds = sum(epoch["seconds"] for epoch in found["epochs"])
    cells.append(["all epochs with validation, s", f"{seconds:.1f}"])
    cells += [[f"recording {one['split']}, images/s", f"{one['images_per_s']:.4g}"] for one in found.get("records", [])]
    if accuracy := found.get("accuracy"):
        cells.append(["test accuracy by exit, %", " ".join(f"{100 * value:.1f}" for value in accuracy)])
    if at := found.get("at_budget"):
        cells.append([f"test accuracy fitted to {100 * at['flops']:.0f} % FLOPs, %", f"{100 * at['accuracy']:.1f}"])
        cells.append(["FLOPs there, % of the plain model", f"{100 * at['flops_fraction']:.1f}"])
    return [*lines, "", *dx.analysis.markdown(cells)]
