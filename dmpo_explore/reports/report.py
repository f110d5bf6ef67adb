"""A run in one HTML file: its numbers, curves and images, with a threshold slider that moves them.

In: a run with a record, and a policy. Out: HTML that needs neither a network nor this package, to be mailed or
archived. The slider's positions and counts are those of `dx.analysis.slider_counts`; no model runs, torch is not
imported. The file carries Plotly's JavaScript (4.8 MB) and up to `IMAGES` images of the record as thumbnails.
"""

from __future__ import annotations

import html
import json
import re
import warnings
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Any

from .. import __version__
from ..analysis.calibration import reliability_table
from ..analysis.evaluation import evaluate_runs, fit_run_policy
from ..analysis.metrics import accuracy_interval
from ..analysis.metrics import trade_off as trade_off_table
from ..analysis.outcome import Outcome, apply
from ..analysis.sliders import Slider
from ..analysis.tables import describe, origin, percent
from ..figures import page, reliability, style, trade_off, training
from ..policies.base import Policy, not_deployable
from ..runs.run import Run
from ..utils.files import write_text
from .shared import exits_of, facts_of, rule_of, slider_of
from .shown_images import described, shown_images

HERE = Path(__file__).parent
IMAGES = 120  # thumbnails in a report
_CODE = re.compile("`([^`]+)`")
LEAST = 20  # images of a point of the reliability diagram


def write_report(
    run: Run, path: str | Path, policy: Policy | None = None, *, split: str = "test", images: int = IMAGES,
    force: bool = True,
) -> Path:  # fmt: skip
    """Write `report_html` to a file, whole or not at all; returns its path.

    Args:
        path: ends in ``.html``; its folder is made.
        force: replace the file that is there; without it, only this very report may be there, which is kept.

    Raises:
        FileExistsError: another file is there.
        ValueError: another ending, or as `report_html`.
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> import dmpo_explore as dx
        >>> path = write_report(dx.load_run("demo"), tempfile.mkdtemp() + "/demo.html", images=0)
        >>> path.name, 4e6 < path.stat().st_size < 6e6
        ('demo.html', True)
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: a report is an HTML file; give it a name that ends in .html")
    text = report_html(run, policy, split=split, images=images)
    path.parent.mkdir(parents=True, exist_ok=True)
    if force or not path.exists():
        write_text(path, text)
    elif not path.is_file() or path.read_bytes().decode(errors="replace").splitlines() != text.splitlines():
        raise FileExistsError(f"{path} exists; use --force to replace it, or another --out")
    return path


def report_html(run: Run, policy: Policy | None = None, *, split: str = "test", images: int = IMAGES) -> str:
    """The report of a run as HTML.

    Args:
        policy: where the slider begins, and what the figures show; by default the cheapest within one point of the
            best exit on calibration. With a threshold of its own for every exit there is no slider.
        split: a recorded split.
        images: thumbnails, drawn at random from every class in proportion; 0 for none. Where the images are not here,
            names of classes stand for them.

    Raises:
        ValueError: no record of ``split``, a policy that does not fit it, or a negative number of images.

    Example:
        >>> import dmpo_explore as dx
        >>> text = report_html(dx.load_run("demo"), images=0)
        >>> "<h1>demo</h1>" in text and "https://" not in text.split("<script")[0]
        True
    """
    if images < 0:
        raise ValueError(f"images={images} must be at least 0")
    policy = fit_run_policy(run) if policy is None else run.fitted_here(policy)
    record = run.record(split)
    outcome = apply(policy, record)
    slider, shown = slider_of(policy, outcome), shown_images(run, split, record, images)
    fixed, single = len(slider.thresholds) == 1, record.n_exits == 1
    figures = _figures(run, policy, outcome)
    data = {
        "slider": _positions(slider),
        "flops": record.flops_fraction.tolist(),
        "colours": style.exit_colours(record.n_exits),
        "figures": {name: json.loads(figure.to_json()) for name, figure in figures.items()},
        "images": described(shown, outcome.record, exits_of(shown.rows, policy, outcome, slider)),
    }
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"{run.name} · {split}"),
        name=html.escape(run.name),
        facts=_list(facts_of(run, record)),
        drag=("Every image at the last exit" if single else "Where images exit") if fixed else "Drag the threshold",
        rule="" if single else html.escape(rule_of(policy, fixed)),
        hidden="hidden" if fixed else "",
        single="hidden" if single else "",
        fitting=run.fitting_split,
        where="at these thresholds" if fixed else "where the slider begins",
        training="" if "training" in figures else "hidden",
        table=_table(_rows(run, split)),
        notes=_list(_notes(run, policy, outcome, shown.note)),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        plotly=page.plotly_script(),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
    )


# -- the slider --


def _positions(slider: Slider) -> dict[str, Any]:
    return {
        "thresholds": [f"{threshold:.4g}" for threshold in slider.thresholds],
        "counts": slider.counts.tolist(),
        "place": slider.position,
    }


# -- texts --


def _notes(run: Run, policy: Policy, outcome: Outcome, images: str) -> list[str]:
    """How the numbers came about, and what limits them."""
    found, (low, high) = float(outcome.correct.mean()), accuracy_interval(outcome.correct)
    recorded, single = outcome.record.meta.split, outcome.record.n_exits == 1
    how = origin(policy) or "its threshold set by hand"
    begins = "Every image runs to the last exit" if single else f"The thresholds here: policy {policy.name}, {how}"
    several = len(policy.thresholds) > 1 or single
    notes = [
        f"{begins}. Accuracy: {percent(found)}, 95 % interval {percent(low)} to {percent(high)}.",
        "" if several else f"Other positions of the slider are set by hand, looking at {recorded}: they are no result.",
        "Compute is the mean over images of all FLOPs that ran, relative to the plain backbone.",
        images,
        "" if policy.deployable else not_deployable(policy.name),
        str(policy.fitted.get("note", "")),
        f"Made by dmpo-explore {__version__}: `dmpo-explore report {run.name}`.",
    ]
    return list(filter(None, notes))


def _rows(run: Run, split: str) -> list[dict[str, Any]]:
    if run.fitting_split not in run.splits():  # nothing to fit targets on
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # targets that cannot be met are left out
        return evaluate_runs([str(run.path)], split=split)


def _table(rows: list[dict[str, Any]]) -> str:
    """Targets fitted on calibration, as a table of HTML; targets with equal results share a line."""
    if not rows:
        return "<tbody><tr><td>No record to fit targets on.</td></tr></tbody>"
    head = ("target", "accuracy [95 %]", "compute", "mean exit", "exit shares (%)")
    cells: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        result = (
            "{} [{}, {}]".format(*map(percent, (row["accuracy"], *row["interval"]))),
            percent(row["flops_fraction"], 1),
            f"{row['mean_exit']:.2f}",
            " ".join(f"{100 * share:.0f}" for share in row["exit_shares"]),
        )
        cells.setdefault(result, []).append(describe(row["target"]))
    lines = [
        "".join(f"<td>{html.escape(cell)}</td>" for cell in (", ".join(own), *found)) for found, own in cells.items()
    ]
    titles = "".join(f"<th scope=col>{html.escape(title)}</th>" for title in head)
    return f"<thead><tr>{titles}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody>"


def _list(texts: list[str]) -> str:
    """Items of a list; what stands between backticks is code."""
    coded = (_CODE.sub(r"<code>\1</code>", html.escape(text)) for text in texts)
    return "".join(f"<li>{text}</li>" for text in coded)


# -- figures --


def _figures(run: Run, policy: Policy, outcome: Outcome) -> dict[str, Any]:
    """Plotly figures by their place in the page."""
    record = outcome.record
    labels = [f"exit {k}" for k in range(1, record.n_exits + 1)]
    found = {"calibration": reliability.reliability_figure({"record": reliability_table(record, least=LEAST)})}
    if record.n_exits > 1 and policy.sweeps:
        curve = trade_off_table(record, policy)
        found["curve"] = trade_off.trade_off_figure({run.name: curve}, outcome.summary())
    if record.n_exits > 1:
        found["exits"] = trade_off.exit_histogram_figure(outcome.exits, outcome.correct, labels)
        names = record.meta.class_names
        found["classes"] = trade_off.class_exit_figure(record.labels, outcome.exits, names, labels)
    with suppress(OSError, ValueError):  # a run without a history, or scores of another model
        found["training"] = training.learning_figure(run.history())
    return found
