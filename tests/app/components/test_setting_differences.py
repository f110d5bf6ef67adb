"""The section of Decide with the settings in which the runs differ."""

from __future__ import annotations

from dmpo_explore_app.components.run_differences import MEANING, remarks, table

import dmpo_explore as dx


def test_every_setting_has_a_label_of_its_own_and_its_help() -> None:
    naive, demo = (
        dx.runs.config_differences([dx.load_run("fashion"), dx.load_run(name)]) for name in ("fashion-naive", "fashion")
    )
    assert table(naive).loc["Bypass"].tolist() == ["conv", "none", r"Bypass before every exit but the last\."]
    assert list(table(naive)) == ["fashion", r"fashion\-naive", MEANING]
    titles = {name: found.title for name, found in dx.runs.COMPARED.items()}
    assert titles["data.train_size"] == "Training images" and titles["training.seed"] == "Seed"
    helps = [(found.title, found.help) for found in dx.runs.COMPARED.values()]
    assert len({*helps}) == len(helps) and all(name and text for name, text in helps)
    assert remarks(demo, ["fashion", "fashion"]) == [f"Nothing differs: all {len(dx.OPTIONS)} options are equal."]
