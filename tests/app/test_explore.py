"""The page Explore without a browser: its numbers are the library's, and nothing that is asked of it breaks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import MAIN, save_run
from streamlit.testing.v1 import AppTest

import dial
import dmpo_explore as dx
import widgets
from dmpo_explore.policy import POLICIES


def start(**address: str) -> AppTest:
    """The start page as a link with these parameters shows it."""
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in address.items():
        app.query_params[name] = value
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    assert not app.exception
    return app


def cards(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def expected(run: str, split: str, policy: dx.Policy) -> dict[str, str]:
    record = dx.load_run(run).record(split)
    s = dx.summarise(record, policy.exits(record))
    return {
        "Accuracy": f"{s['accuracy']:.2%}",
        "Compute saved": f"{1 - s['flops_fraction']:.1%}",
        "Mean exit": f"{s['mean_exit']:.2f}",
        "Leave at exit 1": f"{s['exit_shares'][0]:.1%}",
    }


def address_of(app: AppTest) -> dict[str, str]:
    return {key: value if isinstance(value, str) else value[-1] for key, value in app.query_params.items()}


def bodies(app: AppTest) -> list[str]:
    """The HTML of every exit, in order."""
    return [str(element.proto.body) for element in app.get("html") if 'class="dx-exit"' in str(element.proto.body)]


def slider(app: AppTest) -> Any:
    return app.select_slider(key="threshold")


def shown_threshold(app: AppTest) -> float:
    return float(app.session_state["threshold"])


def test_opens_with_a_threshold_from_val(runs: Path) -> None:
    """Without a threshold in the link: at most 30 % compute."""
    app = start(run="four")
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", flops=0.3)
    assert shown_threshold(app) == fitted.thresholds[0]
    assert app.session_state["budget"] == 0.3
    assert cards(app) == expected("four", "test", fitted)
    assert any("Chosen on val" in caption.value for caption in app.caption)
    assert not app.warning and not app.error


def test_shows_pictures_of_every_exit(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    record = dx.load_run("four").record("test")
    counts = np.bincount(dx.fit_policy(record, threshold=0.8).exits(record), minlength=4)
    shown = bodies(app)
    assert [body.count("<img ") for body in shown] == np.minimum(counts, 18).tolist()
    assert all(f"{count:,} images" in body for count, body in zip(counts, shown, strict=True))


@pytest.mark.parametrize("policy", list(POLICIES))
def test_moving_the_slider_shows_the_librarys_numbers(runs: Path, policy: str) -> None:
    app = start(run="six", policy=policy)
    seen = []
    for place in (len(slider(app).options) // 2, 0, -1):
        checked(slider(app).set_value(slider(app).options[place]).run())
        record = dx.load_run("six").record("test")
        assert cards(app) == expected("six", "test", dx.fit_policy(record, policy, threshold=shown_threshold(app)))
        seen.append((cards(app)["Compute saved"], bodies(app)))
        assert app.session_state["budget"] is app.session_state["drop"] is None  # set by hand now
    assert len({compute for compute, _ in seen}) == 3
    assert seen[0][1] != seen[1][1] != seen[2][1]
    assert cards(app)["Mean exit"] == "6.00"


def test_a_wish_is_solved_on_val_and_shown_on_test(runs: Path) -> None:
    app = start(run="four")
    for key, wish in (("budget", {"flops": 0.5}), ("drop", {"accuracy_drop": 0.01})):
        (value,) = wish.values()
        checked(app.button_group(key=key).set_value(value).run())
        fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", **wish)
        assert shown_threshold(app) == fitted.thresholds[0]
        assert cards(app) == expected("four", "test", fitted)
    assert app.session_state["budget"] is None  # one wish at a time


def test_the_lit_wish_is_solved_anew_for_another_run_or_policy(runs: Path) -> None:
    app = start(run="four")
    checked(app.button_group(key="budget").set_value(0.7).run())
    checked(app.selectbox(key="run").set_value("six").run())
    checked(app.button_group(key="policy").set_value("entropy").run())
    fitted = dx.fit_policy(dx.load_run("six").record("val"), "entropy", flops=0.7)
    assert shown_threshold(app) == fitted.thresholds[0]
    assert cards(app) == expected("six", "test", fitted)


def test_a_threshold_set_by_hand_keeps_its_compute_when_the_policy_changes(runs: Path) -> None:
    app = start(run="six", threshold="0.8")
    before = float(cards(app)["Compute saved"].rstrip("%"))
    checked(app.button_group(key="policy").set_value("margin").run())
    assert abs(float(cards(app)["Compute saved"].rstrip("%")) - before) < 1.5
    assert "Set by hand" in " ".join(caption.value for caption in app.caption)


def test_a_link_shows_what_its_sender_saw(runs: Path) -> None:
    sender = start()
    assert not sender.query_params  # bare until something is changed
    checked(sender.selectbox(key="run").set_value("six").run())
    checked(slider(sender).set_value(slider(sender).options[40]).run())
    link = address_of(sender)
    assert set(link) == {"run", "split", "policy", "threshold"}
    receiver = start(**link)
    assert cards(receiver) == cards(sender)
    assert bodies(receiver) == bodies(sender)
    assert shown_threshold(receiver) == shown_threshold(sender) == float(link["threshold"])


def test_a_link_lights_the_wish_that_it_came_from(runs: Path) -> None:
    fitted = dx.fit_policy(dx.load_run("four").record("val"), "confidence", flops=0.5)
    app = start(run="four", threshold=str(fitted.thresholds[0]))
    assert app.session_state["budget"] == 0.5


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"run": "nope"}, "There is no run"),
        ({"run": "../four"}, "There is no run"),
        ({"run": "/etc"}, "There is no run"),
        ({"run": "<script>alert(1)</script>"}, "There is no run"),
        ({"run": "four", "split": "train"}, "There is no split"),
        ({"run": "four", "policy": "mood"}, "There is no policy"),
        ({"run": "four", "threshold": "high"}, "threshold cannot be used"),
        ({"run": "four", "threshold": "nan"}, "threshold cannot be used"),
        ({"run": "four", "threshold": "-3"}, "threshold cannot be used"),
        ({"run": "four", "policy": "patience", "threshold": "0.5"}, "threshold cannot be used"),
    ],
)
def test_a_wrong_link_is_said_and_the_usual_is_shown(runs: Path, address: dict[str, str], said: str) -> None:
    app = start(**address)
    assert [said in warning.value for warning in app.warning] == [True]
    assert len(app.metric) == 4
    assert address_of(app)["run"] == app.session_state["run"]  # and the address is put right
    assert not checked(app.run()).warning


def test_patience_beyond_the_last_exit_means_nobody_leaves_early(runs: Path) -> None:
    app = start(run="four", policy="patience", threshold="40")
    assert cards(app)["Mean exit"] == "4.00"


def test_a_single_exit_has_nothing_to_choose(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    before = cards(app)
    checked(app.selectbox(key="run").set_value("one").run())
    assert "single exit" in app.info[0].value
    assert not app.select_slider and "threshold" not in app.query_params
    record = dx.load_run("one").record("test")
    assert cards(app) == expected("one", "test", dx.fit_policy(record, threshold=1.0))
    checked(app.selectbox(key="run").set_value("four").run())
    assert cards(app) == before
    assert len(start(run="one", threshold="0.8").metric) == 4


def test_other_runs_stand_beside(runs: Path) -> None:
    app = start(run="four")
    beside = app.button_group(key="beside four")
    assert {"one", "six"} <= set(beside.options) and "hostile" not in beside.options  # other images
    checked(beside.set_value(["six"]).run())
    alt = next(chart.proto.alt for chart in app.get("plotly_chart"))
    assert alt.startswith("Accuracy over compute of four, six; now ")


def test_only_wrong_ones_and_others(runs: Path) -> None:
    app = start(run="four", threshold="0.8")
    first = bodies(app)
    checked(app.button[0].click().run())
    others = bodies(app)
    assert others[0] != first[0]
    checked(app.button_group(key="answers").set_value("wrong").run())
    assert all("<b>✗</b>" in body or "None to show" in body for body in bodies(app))
    assert not any("<b>✓</b>" in body for body in bodies(app))


def test_without_pictures_their_numbers_are_shown(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(run="four", split="val")
    assert any("pictures of val are not here" in info.value for info in app.info)
    assert len(app.metric) == 4
    assert "<span>" in "".join(bodies(app)) and "<img" not in "".join(bodies(app))


def test_no_runs_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    monkeypatch.setattr("dmpo_explore.run.BUNDLED_RUNS", tmp_path / "none")
    app = start()
    assert "No runs yet" in app.subheader[0].value
    assert "dmpo-explore train" in app.code[0].value
    assert not app.metric


def test_broken_and_unfinished_runs_are_said_and_others_stay_in_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    for name in ("whole", "cut", "foreign", "unrecorded"):
        save_run(tmp_path, name, images=40)
    with (tmp_path / "cut/records/test/scores/confidence.npy").open("r+b") as stream:
        stream.truncate(100)
    (tmp_path / "foreign/config.json").write_text("{")
    shutil.rmtree(tmp_path / "unrecorded/records")
    for name, said in (("cut", "confidence.npy"), ("foreign", "config.json"), ("unrecorded", "dmpo-explore record")):
        app = start(run=name)
        texts = [element.value for element in [*app.error, *app.warning]]
        assert any(said.replace(".", "\\.") in text or said in text for text in texts), texts
        assert not app.metric
        checked(app.selectbox(key="run").set_value("whole").run())
        assert len(app.metric) == 4


def test_a_run_that_is_deleted_or_recorded_anew_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    save_run(tmp_path, "mine", images=40)
    app = start(run="mine")
    shutil.rmtree(tmp_path / "mine")
    save_run(tmp_path, "mine", images=50, seed=8)
    assert "of 50 images" in str(checked(app.run()).metric[3].delta)
    shutil.rmtree(tmp_path / "mine/records/test")
    assert app.session_state["split"] == "test" and "no split" in checked(app.run()).warning[0].value
    shutil.rmtree(tmp_path / "mine")
    save_run(tmp_path, "other", images=40)
    assert "no run" in checked(app.run()).warning[0].value


def test_moving_the_threshold_reads_nothing_anew(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(run="six", threshold="0.8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    for target in ("dmpo_explore.run.ExitRecord.load", "dmpo_explore.images.load_pictures", "dmpo_explore.trade_off"):
        monkeypatch.setattr(target, refuse)
    for place in (10, 90):
        checked(slider(app).set_value(slider(app).options[place]).run())
    assert not app.error and len(app.metric) == 4


def test_stops_are_told_apart_and_in_order(runs: Path) -> None:
    for policy in POLICIES:
        stops = dx.trade_off(dx.load_run("six").record("test"), policy)["threshold"].tolist()
        labels = dial._labels(stops)
        assert len(set(labels)) == len(labels)
        middle = (stops[1] + stops[2]) / 2
        more = dial._with_stop(stops, middle)
        assert more[2] == middle and sorted(more, reverse=stops[0] > stops[-1]) == more
        assert dial._with_stop(stops, stops[1]) == stops == dial._with_stop(stops, stops[-1])


def test_every_policy_is_explained() -> None:
    assert list(widgets.RULES) == list(POLICIES)
    assert all(f"**{name}**" in widgets.POLICY_HELP for name in POLICIES)


def test_texts_cannot_become_markdown() -> None:
    assert widgets.plain("a_b*c`d<e>[f](g):h:$i$") == r"a\_b\*c\`d\<e\>\[f\]\(g\)\:h\:\$i\$"
    assert widgets.plain("x" * 300, 10) == "x" * 9 + "…"


def test_the_page_needs_no_torch(runs: Path) -> None:
    code = (
        "import sys; from streamlit.testing.v1 import AppTest; "
        f"app = AppTest.from_file({str(MAIN)!r}, default_timeout=60).run(); assert not app.exception and app.metric; "
        "print(sorted({'torch', 'timm', 'peft', 'torchvision', 'accelerate'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(MAIN.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_the_bundled_demo_opens_first_with_its_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(tmp_path))
    app = start()
    assert app.session_state["run"] == "demo"
    shown = {option.replace("\\", "") for option in app.button_group(key="beside demo").options}
    assert shown >= {"demo-naive", "demo-single"}
    assert bodies(app)[0].count("<img ") > 0
    policy = dx.fit_policy(dx.load_run("demo").record("val"), "confidence", flops=0.3)
    assert cards(app) == expected("demo", "test", policy)
