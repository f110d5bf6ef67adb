"""A page is made only of weights that may be published, and states whose they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import dmpo_explore as dx
from dmpo_explore.pretrained.wheels import SOURCES
from dmpo_explore.runs.run import Run
from dmpo_explore.web.licences import licence_text, may_be_published


def of_weights(run: Run, tmp_path: Path, backbone: str, weights: str) -> Run:
    """A run with the same files but another backbone in its configuration."""
    path = tmp_path / "other"
    path.mkdir()
    (path / "weights.safetensors").write_bytes((run.path / "weights.safetensors").read_bytes())
    config = replace(run.config, model=replace(run.config.model, backbone=backbone, weights=weights))
    (path / "config.json").write_text(config.to_json())
    return Run(path)


def test_every_backbone_that_is_fetched_has_a_licence_and_a_notice() -> None:
    assert all(source.licence and source.notice for source in SOURCES.values())
    assert may_be_published(dx.load_run("demo")).name == "MIT"
    assert may_be_published(dx.load_run("demo-cnn")).notice == "Copyright (c) 2020 ML Illustrated"


def test_random_weights_are_the_runs_own(mine: Run) -> None:
    assert "random weights" in may_be_published(mine).notice


@pytest.mark.parametrize(
    ("backbone", "weights", "origin"),
    [
        ("test_vit", "auto", "timm's model hub"),
        ("vit_small_patch14_dinov2", "timm", "timm's model hub"),
        ("test_vit", "my.safetensors", "the file my.safetensors"),
        ("my_net.py:make", "random", "the function my_net.py:make"),
        ("my_net.py:make", "auto", "the function my_net.py:make"),
    ],
)
def test_weights_of_unknown_licence_are_refused_until_it_is_stated(
    mine: Run, tmp_path: Path, backbone: str, weights: str, origin: str
) -> None:
    run = of_weights(mine, tmp_path, backbone, weights)
    with pytest.raises(ValueError, match=f"are from {origin}, and their licence is not known.*--licence NAME"):
        may_be_published(run)
    with pytest.raises(ValueError, match="the licence is empty"):
        may_be_published(run, " ")
    assert may_be_published(run, "CC-BY-4.0").name == "CC-BY-4.0"


def test_a_run_without_weights_has_no_page(mine: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(mine.config.to_json())
    with pytest.raises(FileNotFoundError, match=r"has no weights .* `dmpo-explore publish` without --model"):
        may_be_published(Run(tmp_path))


def test_the_text_has_every_part_and_both_licences() -> None:
    text = licence_text(may_be_published(dx.load_run("demo")), "Fashion-MNIST, MIT", "1.30.0")
    for part in ("Jules Goueffon", "Fashion-MNIST, MIT", "Microsoft", "Permission is hereby granted", "Apache License"):
        assert part in text
    assert "onnxruntime-web" not in licence_text(may_be_published(dx.load_run("demo")), "", "")
