"""A table of scores as arrays; what is refused is in test_score_files."""

from __future__ import annotations

import numpy as np
import pytest

from dmpo_explore.runs.score_files import read_table


def test_columns_are_found_by_their_names_in_any_order() -> None:
    text = "logit_2_1, label ,logit_1_0,note,logit_2_0,logit_1_1\n4,1,1,x,3,2\n8,0,5,y,7,6\n"
    found = read_table(text.encode(), "t.csv")
    assert found.keys() == {"labels", "logits"} and found["labels"].tolist() == [1, 0]
    assert np.array_equal(found["logits"], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])


def test_labels_and_predictions_are_read_alike() -> None:
    head = "label,prediction_1,confidence_1,entropy_1,margin_1\n"
    numbers = read_table(f"{head}0,1.0,.9,.1,.8\n".encode(), "t.csv")
    assert (numbers["labels"].tolist(), numbers["prediction"].tolist()) == ([0], [[1]])
    names = read_table(f"{head}0,cat,.9,.1,.8\n".encode(), "t.csv")
    assert (names["labels"].tolist(), names["prediction"].tolist()) == (["0"], [["cat"]])
    assert names["confidence"].tolist() == [[0.9]]


@pytest.mark.parametrize("twice", ["label", "logit_1_1"])
def test_a_column_that_is_there_twice_is_refused(twice: str) -> None:
    text = f"label,logit_1_0,logit_1_1,{twice}\n1,0.5,2,0\n"
    with pytest.raises(ValueError, match=f"t.csv has two columns '{twice}'; remove one"):
        read_table(text.encode(), "t.csv")


def test_flops_are_the_same_in_every_row() -> None:
    head = "label,flops_1,flops_2,logit_1_0,logit_1_1,logit_2_0,logit_2_1\n"
    assert read_table(f"{head}0,1e9,2e9,1,2,3,4\n1,1e9,2e9,1,2,3,4\n".encode(), "t.csv")["flops"].tolist() == [1e9, 2e9]
    with pytest.raises(ValueError, match=r"flops_1 to flops_2 differ from row to row"):
        read_table(f"{head}0,1e9,2e9,1,2,3,4\n1,1e9,3e9,1,2,3,4\n".encode(), "t.csv")
