"""The images on the page Explore: filtered, counted, listed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from dmpo_explore_app.services import downloads
from explore_page import address_of, bodies, checked, html, start

import dmpo_explore as dx


def test_shows_pictures_of_every_exit(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    record = dx.load_run("four").record("test")
    counts = np.bincount(dx.fit_policy(record, threshold=0.8).exits(record), minlength=4)
    shown = bodies(app)
    assert [body.count("<img ") for body in shown] == np.minimum(counts, 20).tolist()
    assert all(f"{count:,} exit here" in body for count, body in zip(counts, shown, strict=True))


ANSWERS = ("correct", "incorrect", "overthinking avoided", "early-exit error")


@pytest.mark.slow
@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_are_filtered_as_they_are_defined(runs: Path, answer: str) -> None:
    app = start(run="four", threshold="0.8")
    checked(app.button_group(key="answers").set_value(answer).run())
    record = dx.load_run("four").record("test")
    exits = dx.fit_policy(record, threshold=0.8).exits(record)
    here, last = record.correct[np.arange(record.n_images), exits], record.correct[:, -1]
    mask = dict(zip(ANSWERS, (here, ~here, here & ~last, ~here & last), strict=True))[answer]
    counts = np.bincount(exits[mask], minlength=4)
    assert mask.any()
    assert bodies(start(run="four", threshold="0.8", answers=answer)) == bodies(app)
    for count, total, body in zip(counts, np.bincount(exits, minlength=4), bodies(app), strict=True):
        assert f"{count:,} chosen of {total:,} that exit here" in body or f"{total:,} exit here" in body
        assert body.count("<img ") == min(count, 20)
        assert body.count("<b>✓</b>") == (min(count, 20) if answer in ("correct", "overthinking avoided") else 0)


def test_everything_narrows_and_one_click_clears(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    everything = bodies(app)
    assert app.button(key="clear").disabled
    checked(app.button_group(key="exit").set_value(2).run())
    assert len(bodies(app)) == 1 and "Exit 2" in bodies(app)[0]
    checked(app.selectbox(key="class").set_value(3).run())
    name = dx.load_run("four").record("test").meta.class_names[2]
    assert set(re.findall(r'alt="([^"]*)"', bodies(app)[0])) == {name}
    app.session_state["image"] = 5
    checked(app.run())
    assert address_of(app).items() >= {("exit", "2"), ("class", name), ("image", "5")}
    checked(app.button(key="clear").click().run())
    assert bodies(app) == everything and "image" not in address_of(app)


def test_the_heat_map_counts_classes_and_exits(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    (heat,) = (body for body in html(app) if 'class="dx-heat"' in body)
    record = dx.load_run("four").record("test")
    exits = dx.fit_policy(record, threshold=0.8).exits(record)
    for label, name in enumerate(record.meta.class_names):
        for exit in range(4):
            chosen = (record.labels == label) & (exits == exit)
            share = chosen.sum() / (record.labels == label).sum()
            right = (chosen & record.correct[:, exit]).sum()
            assert f"{name}: {share:.1%} exit at exit {exit + 1} ({chosen.sum():,} images, {right:,} correct)" in heat
    for row in dx.analysis.class_metrics(dx.Outcome(record, exits)).to_dict("records"):
        lost = f"{100 * (row['accuracy'] - row['accuracy_4']):+.1f}".replace("-", "−")
        paid = {"correct": f"{row['accuracy']:.1%}", "points": lost, "compute": f"{row['flops_fraction']:.1%}"}
        assert "".join(f'<td data-paid="{name}">{text}</td>' for name, text in paid.items()) in heat


def test_the_table_shows_the_same_images(runs: Path) -> None:
    app = start(run="four", threshold="0.8", view="table", sort="least confident", answers="incorrect")
    record = dx.load_run("four").record("test")
    exits = dx.fit_policy(record, threshold=0.8).exits(record)
    rows = np.flatnonzero(~record.correct[np.arange(record.n_images), exits])
    table = app.dataframe[0].value
    assert len(table) == min(100, rows.size) and set(table["correct"]) == {"✗"}
    sure = np.sort(record.confidence[rows, exits[rows]])[:100]
    assert np.allclose(table["confidence"], sure)
    assert table["thumbnail"].str.startswith("data:image/png;base64,").all()
    assert set(table["image"]) <= set(record.meta.indices[rows].tolist())


def test_filters_that_keep_no_image_give_a_notice(runs: Path) -> None:
    app = start(run="four", threshold="0.0", exit="3", view="table")
    assert any("No image passes" in caption.value for caption in app.caption)
    assert "No images." in bodies(start(run="four", threshold="0.0", exit="3"))[0]


def test_without_pictures_their_numbers_are_shown(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "missing_images", lambda *_: None)  # nothing to be fetched
    app = start(run="four", split="val")
    assert any("images of val are not here" in info.value for info in app.info)
    assert len(app.metric) == 2
    assert "<span>" in "".join(bodies(app)) and "<img" not in "".join(bodies(app))


def test_a_late_page_shows_only_exits_that_have_images_on_it(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    pages = app.session_state["_pages"]
    app.session_state[f"page of {pages}, 0"] = pages
    checked(app.run())
    assert 0 < len(bodies(app)) < 4
    assert all("<img " in body for body in bodies(app))


def test_baselines_are_offered_on_request(runs: Path) -> None:
    app = start(run="four")
    assert not {"random", "fixed"} & set(app.selectbox(key="policy").options)
    checked(app.checkbox(key="with_baselines").check().run())
    assert {"random", "fixed"} <= set(app.selectbox(key="policy").options)
    assert "fixed" in start(run="four", policy="fixed").selectbox(key="policy").options
