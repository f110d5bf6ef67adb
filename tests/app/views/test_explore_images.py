"""The images on the page Explore: filtered, counted, listed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from dmpo_explore_app.services import downloads
from dmpo_explore_app.services.selection import ANSWERS
from explore_page import address_of, bodies, cards, checked, html, start, words
from streamlit.testing.v1 import AppTest

import dmpo_explore as dx


def shown(**address: str) -> AppTest:
    """The gallery at a threshold of 0.8."""
    return start(run="four", **{"view": "images", "threshold": "0.8"} | address)


def outcome_at(threshold: float) -> dx.Outcome:
    record = dx.load_run("four").record("test")
    return dx.apply(dx.fit_policy(record, threshold=threshold), record)


def test_pictures_of_every_exit_are_narrowed_by_everything_and_one_click_clears(runs: Path) -> None:
    app, outcome = shown(), outcome_at(0.8)
    counts, everything = np.bincount(outcome.exits, minlength=4), bodies(app)
    assert [body.count("<img ") for body in everything] == np.minimum(counts, 20).tolist()
    assert all(f"{count:,} exit here" in body for count, body in zip(counts, everything, strict=True))
    assert app.button(key="clear").disabled
    checked(app.button_group(key="exit").set_value(2).run())
    assert len(bodies(app)) == 1 and "Exit 2" in bodies(app)[0]
    checked(app.selectbox(key="class").set_value(3).run())
    name = outcome.record.meta.class_names[2]
    assert set(re.findall(r'alt="([^"]*)"', bodies(app)[0])) == {name}
    app.session_state["image"] = 5
    checked(app.run())
    assert address_of(app).items() >= {("exit", "2"), ("class", name), ("image", "5")}
    checked(app.button(key="clear").click().run())
    assert bodies(app) == everything and "image" not in address_of(app)
    app = shown()
    pages = app.session_state["_pages"]
    app.session_state[f"page of {pages}, 0"] = pages  # a late one has only exits with images on it
    assert 0 < len(bodies(checked(app.run()))) < 4
    assert all("<img " in body for body in bodies(app))


@pytest.mark.slow
@pytest.mark.parametrize("answer", [name for name in ANSWERS if name != "all"])
def test_answers_are_filtered_as_they_are_defined(runs: Path, answer: str) -> None:
    app, outcome = shown(), outcome_at(0.8)
    checked(app.button_group(key="answers").set_value(answer).run())
    here, last, exits = outcome.correct, outcome.record.correct[:, -1], outcome.exits
    saved, lost = here & ~last, ~here & last
    mask = {"correct": here, "incorrect": ~here, "overthinking avoided": saved, "early-exit error": lost}[answer]
    counts = np.bincount(exits[mask], minlength=4)
    assert mask.any() and bodies(shown(answers=answer)) == bodies(app)
    for count, total, body in zip(counts, np.bincount(exits, minlength=4), bodies(app), strict=True):
        assert f"{count:,} chosen of {total:,} that exit here" in body or f"{total:,} exit here" in body
        assert body.count("<img ") == min(count, 20)
        assert body.count("<b>✓</b>") == (min(count, 20) if answer in ("correct", "overthinking avoided") else 0)


def test_the_heat_map_counts_classes_and_exits(runs: Path) -> None:
    app, outcome = shown(view="classes"), outcome_at(0.8)
    record, exits = outcome.record, outcome.exits
    (heat,) = (body for body in html(app) if 'class="dx-heat"' in body)
    for label, name in enumerate(record.meta.class_names):
        for exit in range(4):
            chosen = (record.labels == label) & (exits == exit)
            share = chosen.sum() / (record.labels == label).sum()
            right = (chosen & record.correct[:, exit]).sum()
            assert f"{name}: {share:.1%} exit at exit {exit + 1} ({chosen.sum():,} images, {right:,} correct)" in heat
    for row in dx.analysis.class_metrics(outcome).to_dict("records"):
        lost = f"{100 * (row['accuracy'] - row['accuracy_4']):+.1f}".replace("-", "−")
        paid = {"correct": f"{row['accuracy']:.1%}", "points": lost, "compute": f"{row['flops_fraction']:.1%}"}
        assert "".join(f'<td data-paid="{name}">{text}</td>' for name, text in paid.items()) in heat


def test_the_table_shows_the_same_images(runs: Path) -> None:
    app, outcome = shown(view="table", sort="least confident", answers="incorrect"), outcome_at(0.8)
    rows = np.flatnonzero(~outcome.correct)
    table = app.dataframe[0].value
    assert len(table) == min(100, rows.size) and set(table["correct"]) == {"✗"}
    sure = np.sort(outcome.record.confidence[rows, outcome.exits[rows]])[:100]
    assert np.allclose(table["confidence"], sure)
    assert table["thumbnail"].str.startswith("data:image/png;base64,").all()
    assert set(table["image"]) <= set(outcome.record.meta.indices[rows].tolist())


def test_filters_that_keep_no_image_give_a_notice(runs: Path) -> None:
    assert "No image passes" in words(shown(threshold="0.0", exit="3", view="table"))
    assert "No images." in bodies(shown(threshold="0.0", exit="3"))[0]


def test_without_pictures_their_numbers_are_shown(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "missing_images", lambda *_: None)  # nothing to be fetched
    app = start(run="four", split="val", view="images")
    assert "images of val are not here" in words(app) and len(cards(app)) == 2
    assert "<span>" in "".join(bodies(app)) and "<img" not in "".join(bodies(app))


def test_baselines_are_offered_on_request(runs: Path) -> None:
    app = start(run="four")
    assert not {"random", "fixed"} & set(app.selectbox(key="policy").options)
    checked(app.checkbox(key="with_baselines").check().run())
    assert {"random", "fixed"} <= set(app.selectbox(key="policy").options)
    assert "fixed" in start(run="four", policy="fixed").selectbox(key="policy").options
