"""The training form for a table of images: its columns, the ending of its paths and the folder of its images."""

from __future__ import annotations

import shlex
from pathlib import Path

import visiting
from dmpo_explore_app.components import training_form
from image_files import paint
from made_up import MAIN
from visiting import checked


def test_a_table_may_have_other_columns(tmp_path: Path) -> None:
    rows = [f"{paint(tmp_path / 'train' / f'{i}.png', i).stem},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,breed", *rows]))
    app = visiting.opened(MAIN.parent / "views" / "training.py")
    checked(app.pills(key="train start").set_value(training_form.OWN).run())
    checked(app.selectbox(key="train model.weights").set_value("random").run())
    checked(app.text_input(key="train folder").set_value(str(tmp_path / "labels.csv")).run())
    assert any("has no column 'path' (it has id, breed)" in found.value.replace("\\", "") for found in app.warning)
    for option, value in {"path_column": "id", "label_column": "breed", "suffix": ".png", "image_dir": "train"}.items():
        app.text_input(key=f"train data.{option}").set_value(value)
    checked(app.run())
    assert not any("has no column" in found.value for found in app.warning)
    given = next(shlex.split(block.value) for block in app.code if block.value.startswith("dmpo-explore train"))
    options = {"--path-column": "id", "--label-column": "breed", "--suffix": ".png", "--image-dir": "train"}
    assert {option: given[given.index(option) + 1] for option in options} == options
