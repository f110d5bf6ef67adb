"""history.csv: a table of whole rising epochs and numbers, or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmpo_explore.runs.history import read_history


def test_a_table_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch,lambda_1,loss_1,accuracy_1,area\n1,0.5,1,1,\n2,1e-3,1,1,.25\n")
    table = read_history(path)
    assert table["epoch"].tolist() == [1, 2] and table["lambda_1"].tolist() == [0.5, 0.001]
    assert table["area"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No columns to parse"),
        ("a,b\n1,2\n", "no column 'epoch'"),
        ("epoch,area\n1,x\n", r"columns that are not numbers: \['area'\]"),
        ("epoch\n1\n1.5\n", r"'epoch' must be whole rising numbers from 1, not \[1.0, 1.5\]"),
        ("epoch\n2\n1\n", r"not \[2, 1\]"),
        ("epoch\n1\n1\n", r"not \[1, 1\]"),
        ("epoch\n0\n", r"not \[0\]"),
        ("epoch\ninf\n", r"not \[inf\]"),
        ("epoch,lambda_1,loss_1,accuracY_1,area\n1,1,1,1,1\n", r"lacks \['accuracy_1'\]"),
        ("epoch,lambda_1,loss_1,accuracy_1\n1,1,1,1\n", r"lacks \['area'\]"),
        ("epoch,lambda_1,lambda_2,loss_1,accuracy_1,area\n1,1,1,1,1,1\n", r"lacks \['loss_2', 'accuracy_2'\]"),
        ("epoch" + ",a" * 10_000, "more than 10,000 columns"),
    ],
)
def test_what_is_no_history_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"history\.csv is not a table of epochs: .*{message}"):
        read_history(tmp_path / "history.csv")
