"""The benchmark of backbones: a dozen that differ in kind go the whole way, and its page is made from its rows."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import backbones
from _common.whole_way import NOTHING, in_a_process, whole_way

KINDS = {  # name → layout and tokens before the patches
    "vit_tiny_patch16_dinov3_qkvb": ("tokens", 5),
    "eva02_tiny_patch14_224": ("tokens", 1),
    "mobilenetv4_conv_small": ("channels_first", 0),
    "regnety_002": ("channels_first", 0),
    "swinv2_tiny_window8_256": ("channels_last", 0),
    "nf_regnet_b0": ("channels_first", 0),
    "test_mambaout": ("channels_last", 0),
    "xcit_nano_12_p8_224": ("tokens", 0),
    "twins_svt_small": ("tokens", 0),
    "fastvit_t8": ("channels_first", 0),
    "densenet121": ("channels_first", 0),
    "davit_tiny": ("channels_first", 0),
}
EXPORTED = tuple(KINDS)[:5]  # and compared in onnxruntime


def found(name: str, *, export: bool = False) -> dict[str, Any]:
    row = dict(NOTHING)
    whole_way(name, 64, export, row.update)
    return row


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_backbones_of_every_kind_go_the_whole_way(name: str) -> None:
    row = found(name, export=name in EXPORTED)
    assert (row["reason"], row["problem"]) == ("", "")
    assert (row["trained"], row["recorded"], row["exported"]) == ("yes", "yes", "yes" if name in EXPORTED else "")
    assert (row["layout"], row["prefix"]) == KINDS[name]
    shares = [float(share) for share in row["shares"].split()]
    assert len(shares) == 3 and shares == sorted(shares) and shares[0] <= 0.5 and shares[-1] <= 1.05


@pytest.mark.slow
def test_a_refused_one_has_its_reason() -> None:
    assert found("tnt_s_legacy_patch16_224")["reason"].startswith("a single tensor passes on at 1 of its blocks")


@pytest.mark.slow
def test_one_that_takes_too_long_is_ended() -> None:
    assert in_a_process("test_nfnet", side=64, seconds=0, export=False)["problem"] == "not finished after 0 s"


def test_the_page_shows_the_kept_rows() -> None:
    kept = backbones.rendered(pd.read_csv(backbones.RESULT, keep_default_na=False))
    assert kept in backbones.PAGE.read_text(encoding="utf-8")


def test_the_committed_list_has_every_class_once() -> None:
    classes = pd.read_csv(backbones.CLASSES)
    assert len(classes) > 90 and classes["class"].is_unique and classes["backbone"].is_unique
