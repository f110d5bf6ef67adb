"""What the command line refuses: a line that says what is wrong (status 1), or the usage (2); nothing is changed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pyarrow.parquet
import pytest
from calls import call, fails, listing
from tiny import tiny_options

TINY = shlex.join(tiny_options())
NEW = f"train {TINY} --name new --device cpu"
FILES = {
    "empty.json": b"",
    "cut.json": b'{"model": {"exits"',
    "list.json": b"[1]",
    "misspelt.json": b'{"modle": {}}',
    "typed.json": b'{"model": {"rank": "8"}}',
    "binary.json": b"\x80\x04",
    "image.png": b"no image",
}
REFUSED = [  # the words of a command, and of the line
    # -- names --
    ("evaluate", ""),
    ("serve", "No such command"),
    ("train --resume nobody", "unknown run 'nobody'"),
    ("evaluate mime", "unknown run 'mime'. Did you mean 'mine'? Valid: "),
    ("record ../nowhere/x", "is not a run folder"),
    ("record mine --split tset", "unknown split 'tset'. Did you mean 'test'? Valid: calibration, test, train, val"),
    ("record mine --force --device tpu", "unknown device 'tpu'"),
    ("record mine --force --precision fp8", "precision"),
    ("fetch --backbone vit", "unknown backbone 'vit'. Near: vit_"),
    ("fetch --data mnist", "unknown data 'mnist'"),
    ("check nowhere", "is no folder"),
    ("check .", "holds neither a run"),
    ("data", "give a folder, a table"),
    ("probe", "give a folder, a table, a known data set"),
    # -- evaluate --
    ("evaluate mine --flops 0.01", "run 'mine': flops=0.01 cannot be met: exit 1 alone costs"),
    ("evaluate mine --flops 7", "flops=7 is above this run's full depth, which costs"),
    ("evaluate mine --flops 7", "did you mean 0.07?"),
    ("evaluate mine --flops -1", "must be a fraction"),
    ("evaluate mine --flops nan", "must be a fraction"),
    ("evaluate mine --flops x", "--flops"),
    ("evaluate mine --accuracy-drop 2", "2 is 200%; one point is 0.01"),
    ("evaluate mine --near-best 1", "1 is 100%; one point is 0.01"),
    ("evaluate mine --shares 0.5,0.1", "that sum to 1"),
    ("evaluate mine --shares a,b", "must be numbers separated by commas"),
    ("evaluate mine --threshold 0.5,0.5,0.5", "3 thresholds; 2 exits need 1"),
    ("evaluate mine --threshold 7", "must be a number from"),
    ("evaluate mine --threshold 1.5 --policy patience", "must be a whole number"),
    ("evaluate mine --flops 0.9 --accuracy-drop 0.1", "give exactly one of"),
    (
        "evaluate mine --policy confidance",
        "unknown policy 'confidance'. Did you mean 'confidence'? Valid: budgeted, confidence, entropy",
    ),
    ("evaluate mine --policy none.json", "no file"),
    ("evaluate mine --split tset", "no record of split 'tset' (records: test, val)"),
    ("evaluate mine --against nobody", "unknown run 'nobody'"),
    ("evaluate mine --risk harm", "unknown risk 'harm'"),
    ("evaluate mine --epsilon 0.2", "belongs to --risk"),
    ("evaluate mine --protocol batch", "anytime, budgeted"),
    ("evaluate mine --protocol anytime --accuracy-drop 0.1", "leave out"),
    ("evaluate mine --protocol anytime --against mine", "leave out --protocol to compare at every budget"),
    ("evaluate mine --all-policies --flops 0.9", "leave out --flops"),
    ("evaluate mine --all-policies --per-class classes.csv", "leave out --per-class"),
    *(
        (f"evaluate mine {way} {option}", option.split()[0])
        for option in ("--policy margin", "--calibrate", "--per-exit")
        for way in ("--protocol budgeted", "--all-policies")
    ),
    ("evaluate mine --threshold 0.5 --per-image images.txt", "must end with"),
    *(
        (f"evaluate {words} --per-image images.csv", "needs one run and one target")
        for words in ("mine", "mine other --threshold 0.5", "mine --flops 0.8 --flops 0.9")
    ),
    # -- predict, export, publish, push --
    ("predict mine", "Missing argument"),
    ("predict mine empty", "holds no images"),
    ("predict mine a b c d", "no file a, b, c …"),
    ("predict mine image.png --flops 0.9 --threshold 0.5", "give exactly one of"),
    ("predict mine image.png --threshold 0.1,0.2,0.3 -o out.csv", "thresholds"),
    ("predict mine image.png --threshold 0.5 -o empty", "is a folder; name a file"),
    ("export mine", "Missing option '--out'"),
    ("export mine --out new --precision int4", "precision='int4' must be float32 or int8"),
    ("export mine --out new --threshold 0.1,0.2,0.3", "thresholds"),
    ("export mine --out new --policy patience --threshold 1 --serve", "'patience' cannot be served"),
    ("publish demo", "give a place: --out DIR"),
    ("publish demo --out new --weights int8", "leave out --weights"),
    ("publish demo --out new --private", "leave out --private"),
    ("publish demo --out new --hub demo", "must be hf://OWNER/NAME"),
    ("push demo-cnn demo", "must be hf://OWNER/NAME"),
    ("push demo-cnn me/demo --split tset", "unknown split"),
    # -- train: one of every class; tests/test_config.py and tests/models/test_factory.py have the others --
    ("train --config dem0 --name new", "no file dem0, and unknown run 'dem0'. Did you mean 'demo'? Valid: "),
    ("train --recipe photos", "unknown recipe 'photos'. Did you mean 'photographs'?"),
    ("train --resume a --recipe photographs", "leave out --recipe"),
    ("train --resume mine --name x", "leave out --name"),
    ("train --resume mine --estimate", "leave out --estimate"),
    ("train --resume mine --data nowhere", "nowhere"),
    (f"{NEW} --backbone test_vitt", "test_vit"),
    (f"{NEW} --backbone tnt_s_legacy_patch16_224", "tnt_s_legacy_patch16_224"),
    (f"{NEW} --data fashion", "unknown data 'fashion'. Did you mean 'fashion-mnist'?"),
    (f"{NEW} --predictor covarience", "Valid: covariance, linear, moment"),
    (f"{NEW} --schedule x", "unknown schedule 'x'. Valid: cosine, deep-only"),
    (f"{NEW} --coupling x", "Valid: none, sigmoid"),
    (f"{NEW} --seed -1", "seed=-1 must lie in [0, 4294967295]"),
    (f"{NEW} --device tpu", "Valid: auto, cpu, cuda"),
    (f"{NEW} --tracker x", "tensorboard"),
    (f"{NEW} --exits 2,9", "6 blocks"),
    (f"{NEW} --exits 4,2", "rising"),
    (f"{NEW} --exits a,b", "neither a number nor blocks"),
    (f"{NEW} --image-size 30", "image_size=30"),
    (f"{NEW} --epochs 0", "epochs=0 must be at least 1"),
    (f"{NEW} --epochs many", "--epochs"),
    (f"{NEW} --train-size 99999", "99999"),
    (f"{NEW} --tuning-lr nan", "tuning_lr=nan must be"),
    (f"{NEW} --weights nowhere.safetensors", "no weights file nowhere.safetensors"),
    (f"{NEW} --name ../out", "run name '../out'"),
    (f"{NEW} --config nowhere.json", "no file nowhere.json"),
    (f"{NEW} --colour red", "No such option"),
    ("train --name new --config empty.json", "is not valid JSON"),
    ("train --name new --config cut.json", "is not valid JSON"),
    ("train --name new --config list.json", "must be a JSON object"),
    ("train --name new --config misspelt.json", "misspelt.json: unknown key in config 'modle'. Did you mean 'model'?"),
    ("train --name new --config typed.json", "config.model.rank='8' has the wrong type"),
    ("train --name new --config binary.json", "binary.json"),
    # -- search --
    ("search --front s --trials 3", "leave out --trials"),
    ("search --front s --rank 8", "leave out settings"),
    ("search --resume s --name t", "leave out --name"),
    ("search --resume s --trials 3 --rank 8", "a resumed study keeps its space"),
    ("search --name s", "error: a search needs an end"),
    ("search --front s", "error: there is no search yet"),
    ("search --space missing.toml --trials 1", "error: no file missing.toml"),
    ("search --trials 1 --storage nonsense", "error: storage 'nonsense' cannot be opened"),
]


def files(folder: Path) -> dict[Path, int]:
    """When each file was written; a folder may have had a temporary one."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("command", "words"), REFUSED, ids=lambda text: text.removeprefix(NEW))
def test_a_refusal_names_what_is_wrong_and_changes_nothing(
    command: str, words: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMPO_EXPLORE_RUNS", str(trained))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    before = files(trained), listing(tmp_path)
    assert words in fails(*shlex.split(command))
    assert (files(trained), listing(tmp_path)) == before


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nowhere", "unknown data 'nowhere'"),
        ("twice.parquet", "twice.parquet is not a readable file of Parquet: Multiple matches"),
    ],
)
def test_what_cannot_be_read_is_a_finding_of_the_data(
    place: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = pyarrow.table([["a.png"], ["cat"], ["cat"]], names=["path", "label", "label"])
    pyarrow.parquet.write_table(table, "twice.parquet")
    done = call("data", place, status=1)
    assert (
        words in done.stdout
        and done.stderr.startswith("error: a training cannot start")
        and done.stderr.count("\n") == 1
    )
