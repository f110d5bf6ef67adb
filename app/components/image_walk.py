"""The way of an image through the stages, as HTML in which every text is escaped: at each exit its answers, the score,
the threshold that decides. The record has them; no model is needed."""

from __future__ import annotations

import html

from dmpo_explore_app.services import run_facts
from dmpo_explore_app.services.image_answers import ImageAnswers

import dmpo_explore as dx

CLASSES = 5  # at each exit, the most probable first


def walk(answers: ImageAnswers, picture: str | None, truth: int | None) -> str:
    """The stages; those after the exit are pale. ``picture``: a data URI; ``truth``: the class, where it is known."""
    found = answers.most_probable(CLASSES)
    read = answers.calibrated
    classes, shares = found or (read.prediction[0][:, None], read.confidence[0][:, None])
    stages = "".join(
        _stage(answers, k, list(zip(classes[k].tolist(), shares[k].tolist(), strict=True)), picture, truth)
        for k in range(read.n_exits)
    )
    columns = min(3, -(-read.n_exits // 2)) if read.n_exits > 1 else 1  # on a tablet; no row with a single stage
    return f'<ol class="dx-walk" style="--columns: {columns}">{stages}</ol>'


def _stage(answers: ImageAnswers, k: int, best: list[tuple[int, float]], picture: str | None, truth: int | None) -> str:
    exit, blocks = answers.exit, run_facts.blocks(answers.record)
    block = f" <small>block {blocks[k]}</small>" if blocks else "<small></small>"
    state = "here" if k == exit else "later" if k > exit else "passed"
    image = f'<img src="{html.escape(picture)}" alt="">' if picture and state != "later" else ""
    names = answers.record.meta.class_names
    rows = "".join(
        _row(names[label], share, None if truth is None else label == truth, first=not place)
        for place, (label, share) in enumerate(best)
    )
    return (
        f'<li class="{state}" style="--k: {k}"><h3>Exit {k + 1}{block}{image}</h3>'
        f"<ul>{rows}</ul>{_meter(answers.trace, k)}</li>"
    )


def _row(name: str, share: float, correct: bool | None, *, first: bool) -> str:
    """A class as a bar; of the exit's own answer also whether it is correct."""
    percent, shown = f"{share:.0%}" if share >= 0.005 else "&lt;1%", html.escape(name)
    mark = "✓ " if correct else "✗ " if first and correct is False else ""
    return (
        f'<li style="--share: {share:.1%}" title="{shown}: {share:.2%}"><span>{mark}{shown}</span> '
        f"<i>{percent}</i></li>"
    )


def _meter(trace: dx.analysis.DecisionTrace, k: int) -> str:
    """The score as a bar with a mark at the threshold, and what follows from it."""
    if k == len(trace.values):
        text = "the last exit answers" if trace.exit == k else "not needed"
        return f"<p><b>{text}</b></p>"
    value, threshold = trace.formatted(k)
    most = max(1.0, *map(abs, (*trace.values, *trace.thresholds)))  # scores that are shares have one scale
    places = f"--share: {max(trace.values[k], 0) / most:.1%}; --threshold: {max(trace.thresholds[k], 0) / most:.1%}"
    signs = ("≤", "&gt;") if trace.policy.falling else ("≥", "&lt;")
    verdict = "not needed" if k > trace.exit else "stops here" if trace.reached[k] else "goes on"
    sign = signs[0] if trace.reached[k] else signs[1]
    return (
        f'<div class="dx-meter" style="{places}"></div><p>{html.escape(trace.compares)} {value} {sign} {threshold}: '
        f"<b>{verdict}</b></p>"
    )
