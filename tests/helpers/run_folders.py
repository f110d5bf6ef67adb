"""A small run's folder, and some ninety ways to edit or break it.

A `Change` is called with the run's folder. `BROKEN` is the table: what is done, to which file. A whole run and its
broken copy are made without torch.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from safetensors.numpy import save_file
from synthetic import make_record

from dmpo_explore.config import Config, DataConfig, ModelConfig, TrainingConfig
from dmpo_explore.fitting.fit import fit_policy
from dmpo_explore.policies.catalogue import write_policies

CONFIG = Config(
    DataConfig("digits"),
    ModelConfig("test_vit", "random", image_size=32, exits=2, predictor="linear", read="mean", rank=4, bypass_width=8),
    TrainingConfig(seed=3),
)


def make_run(path: Path, config: Config = CONFIG) -> Path:
    """A run folder with nothing but its configuration."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(config.to_json())
    return path


IMAGES, EXITS, CLASSES = 40, 3, 5  # of the run that is changed
Change = Callable[[Path], object]


# -- what is done to any file --


def write(file: str, content: bytes) -> Change:
    return lambda run: (run / file).write_bytes(content)


def cut(file: str, left: int) -> Change:
    return lambda run: os.truncate(run / file, left if left >= 0 else (run / file).stat().st_size + left)


def remove(file: str) -> Change:
    return lambda run: (run / file).unlink()


def folder(file: str) -> Change:
    return lambda run: ((run / file).unlink(), (run / file).mkdir())


def file(folder: str) -> Change:
    """An empty file in place of a folder."""
    return lambda run: (shutil.rmtree(run / folder), (run / folder).touch())


def loop(file: str) -> Change:
    return lambda run: ((run / file).unlink(), (run / file).symlink_to(run / file))


def pipe(file: str) -> Change:
    return lambda run: ((run / file).unlink(), os.mkfifo(run / file))


def endless(file: str) -> Change:
    return lambda run: ((run / file).unlink(), (run / file).symlink_to("/dev/zero"))


def sparse(file: str, size: int = 2**33) -> Change:
    return lambda run: os.truncate(run / file, size)


# -- JSON --


def set_values(file: str, **values: Any) -> Change:
    """Change keys of a JSON object; ``...`` removes one."""

    def change(run: Path) -> None:
        whole = json.loads((run / file).read_text()) | values
        (run / file).write_text(json.dumps({k: v for k, v in whole.items() if v is not ...}))

    return change


def meta(**values: Any) -> Change:
    return set_values("records/test/meta.json", **values)


def model(**values: Any) -> Change:
    return set_values("config.json", model=values)


def policy(**values: Any) -> Change:
    whole = {"policy": "confidence", "thresholds": [0.5]} | values
    return write("policies.json", json.dumps({"half": whole}).encode())


DEEP = b'{"a": ' + b"[" * 100_000
HUGE = 10**400
MANY = list(range(1, 10**5))
HALF_PAIR = "\ud800"


# -- arrays --


def array(file: str, change: Callable[[Any], Any]) -> Change:
    """Save ``change(array)`` in place of a .npy file of the test record."""

    def spoil(run: Path) -> None:
        path = run / "records/test" / file
        np.save(path, change(np.load(path)), allow_pickle=True)

    return spoil


def put(value: Any) -> Callable[[Any], Any]:
    """Set one value in the middle."""

    def change(values: Any) -> Any:
        values[IMAGES // 2] = value
        return values

    return change


def with_axes(values: Any) -> Any:
    return values.reshape((1,) * 10 + values.shape)


def header(file: str, text: str, bytes_after: int = 64) -> Change:
    """A .npy file with this header, however wrong, and some bytes of data."""
    start = b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n"
    return write(f"records/test/{file}", start + bytes(bytes_after))


def described(descr: str = "'<i8'", shape: str = "(40,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def sparse_labels(images: int) -> Change:
    def change(run: Path) -> None:
        header("labels.npy", described(shape=f"({images},)"))(run)
        os.truncate(run / "records/test/labels.npy", 128 + 8 * images)

    return change


def all_sparse(images: int) -> Change:
    """All arrays of the record claim as many images, and their files have the size but no content."""

    def change(run: Path) -> None:
        kinds = {"labels": "'<i8'", "prediction": "'<i4'"} | dict.fromkeys(("confidence", "entropy", "margin"), "'<f4'")
        for name, kind in kinds.items():
            file = "labels.npy" if name == "labels" else f"scores/{name}.npy"
            header(file, described(kind, f"({images},)" if name == "labels" else f"({images}, {EXITS})"))(run)
            os.truncate(run / "records/test" / file, 128 + 8 * images * EXITS)

    return change


class Trap:
    """Unpickling it would make a file ``trap`` in the current folder."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("trap"),)


# -- weights --


def lying(**about: Any) -> Change:
    """A safetensors file whose header says something else than its data."""
    text = json.dumps({"scale": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}} | about).encode()
    return weights(len(text).to_bytes(8, "little") + text + bytes(8))


def lying_names(text: str) -> Change:
    return lying(__metadata__={"class_names": text})


def weights(content: bytes) -> Change:
    return write("weights.safetensors", content)


class Broken(NamedTuple):
    """One way to break a run: its name, the file that errors must name (None: nothing is wrong), what is done."""

    name: str
    file: str | None
    change: Change


def whole_run(path: Path) -> Path:
    """A run folder with every file but checkpoint.pt."""
    make_run(path)
    val, test = (
        make_record(IMAGES, EXITS, CLASSES, seed=seed, split=split) for seed, split in enumerate(("val", "test"))
    )
    val.save(path / "records/val")
    test.save(path / "records/test")
    columns = {f"{name}_{k}": [0.5, 0.6] for name in ("lambda", "loss", "accuracy") for k in (1, 2, 3)}
    pd.DataFrame({"epoch": [1, 2], **columns, "area": [0.5, 0.6]}).to_csv(path / "history.csv", index=False)
    write_policies(path / "policies.json", {"half": fit_policy(val, flops=0.5)})
    (path / "card.md").write_text("# A whole run\n", encoding="utf-8")
    about = {"backbone": "test_vit", "backbone_sha256": "", "class_names": json.dumps(list("abcde"))}
    save_file({"scale": np.ones(2, np.float32)}, path / "weights.safetensors", about)
    return path


FIELDS = str([(f"f{i}", "b") for i in range(999)])
LIE = {"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}
WEIGHTS = "weights.safetensors"
LABELS, CONFIDENCE, META, CONFIG_FILE = "labels.npy", "confidence.npy", "meta.json", "config.json"
SCORES = "records/test/scores/confidence.npy"
ANY_FILE: dict[str, tuple[str, ...]] = {  # what any file may suffer → the files
    "empty": ("config.json", "records/test/meta.json", "records/test/labels.npy", "history.csv", "policies.json"),
    "folder": ("config.json", "records/test/meta.json", SCORES, "history.csv", "policies.json", "card.md"),
    "loop": ("config.json", "records/test/logits.npy", "records/test/indices.npy", "history.csv", "policies.json"),
    "pipe": ("config.json", "records/test/meta.json", "records/test/labels.npy", "weights.safetensors"),
    "endless": ("config.json", "records/test/meta.json", "records/test/labels.npy", "history.csv", "card.md"),
    "huge": ("config.json", "records/test/meta.json", "history.csv", "policies.json", "card.md"),
    "binary": ("config.json", "records/test/meta.json", SCORES, "history.csv", "policies.json", "card.md"),
}
HOW: dict[str, Callable[[str], Change]] = {
    "empty": lambda file: write(file, b""),
    "folder": folder,
    "loop": loop,
    "pipe": pipe,
    "endless": endless,
    "huge": sparse,
    "binary": lambda file: write(file, bytes(range(256)) * 4),
}

BROKEN = [
    *(Broken(f"{how} {file}", Path(file).name, HOW[how](file)) for how, files in ANY_FILE.items() for file in files),
    # -- config.json --
    Broken("config deeply nested", CONFIG_FILE, write("config.json", DEEP)),
    Broken("config is a list", CONFIG_FILE, write("config.json", b"[1, 2]")),
    Broken("config of the wrong type", CONFIG_FILE, set_values("config.json", training={"epochs": "six"})),
    Broken("config with an unknown key", CONFIG_FILE, set_values("config.json", colour="red")),
    Broken("config with a huge key", CONFIG_FILE, set_values("config.json", **{"k" * 10**6: 1})),
    Broken("config with 10^4 keys", CONFIG_FILE, set_values("config.json", **{f"k{i}": i for i in range(10**4)})),
    Broken("config with 10^5 exits", CONFIG_FILE, model(exits=MANY)),
    Broken("config with falling exits", CONFIG_FILE, model(exits=MANY[:900][::-1])),
    Broken("config with a huge number", CONFIG_FILE, set_values("config.json", training={"weight_decay": HUGE})),
    Broken("config with a huge seed", CONFIG_FILE, set_values("config.json", training={"seed": HUGE})),
    Broken("config with a number of 5,000 digits", CONFIG_FILE, write("config.json", b'{"a": ' + b"9" * 5000 + b"}")),
    Broken("config with NaN", CONFIG_FILE, set_values("config.json", training={"distill": float("nan")})),
    Broken("config with a huge name", CONFIG_FILE, model(backbone="x" * 10**6)),
    Broken("config with half a pair", CONFIG_FILE, model(backbone=HALF_PAIR)),
    Broken("config with a null part", CONFIG_FILE, set_values("config.json", model=None)),
    # -- meta.json --
    Broken("meta deeply nested", META, write("records/test/meta.json", DEEP)),
    Broken("meta deeply nested within a value", META, meta(exits=json.loads("[" * 400 + "]" * 400))),
    Broken("flops 10^400", META, meta(flops=[1, 2, HUGE])),
    Broken("flops of 5,000 digits", META, write("records/test/meta.json", b'{"flops": [' + b"9" * 5000 + b"]}")),
    Broken("flops NaN", META, meta(flops=[100.0, float("nan"), 300.0])),
    Broken("flops infinite", META, meta(flops=[100.0, 200.0, float("inf")])),
    Broken("flops negative", META, meta(flops=[-1.0, 200.0, 300.0])),
    Broken("flops falling", META, meta(flops=[300.0, 200.0, 100.0])),
    Broken("flops equal as floats", META, meta(flops=[1, 2**60, 2**60 + 1])),
    Broken("flops too few", META, meta(flops=[100.0])),
    Broken("reference flops 10^400", META, meta(reference_flops=HUGE)),
    Broken("reference flops next to 0", META, meta(reference_flops=5e-324)),
    Broken("reference flops are text", META, meta(reference_flops="many")),
    Broken("10^5 exits", META, meta(exits=MANY, flops=MANY)),
    Broken("exits twice", META, meta(exits=[3, 3, 9])),
    Broken("exits unsorted", META, meta(exits=[9, 3, 6])),
    Broken("exit of a huge number", META, meta(exits=[3, 6, HUGE])),
    Broken("class names of the wrong type", META, meta(class_names=[1, 2, 3, 4, 5])),
    Broken("a huge class name", META, meta(class_names=["x" * 10**6, *"bcde"])),
    Broken("half a pair in a class name", META, meta(class_names=[HALF_PAIR, *"bcde"])),
    Broken("too many class names", META, meta(class_names=["x"] * (10**5 + 1))),
    Broken("fewer class names than labels", LABELS, meta(class_names=["a"])),
    Broken("an image size of the wrong type", META, meta(image_size=[70])),
    Broken("data of the wrong type", META, meta(data={"a": 1})),
    Broken("a split that is null", META, meta(split=None)),
    Broken("another version", META, meta(format_version=2)),
    Broken("no exits", META, meta(exits=...)),
    Broken("unknown keys", None, meta(colour="red", **{f"k{i}": i for i in range(1000)})),
    Broken("meta in UTF-16", META, write("records/test/meta.json", '{"a": "ä"}'.encode("utf-16"))),
    # -- arrays --
    Broken("labels cut short", LABELS, cut("records/test/labels.npy", -8)),
    Broken("labels cut in the header", LABELS, cut("records/test/labels.npy", 40)),
    Broken("labels missing", LABELS, remove("records/test/labels.npy")),
    Broken("labels too large", LABELS, array("labels.npy", put(CLASSES))),
    Broken("labels negative", LABELS, array("labels.npy", put(-1))),
    Broken("labels as text", LABELS, array("labels.npy", lambda a: a.astype(str))),
    Broken("labels of the other endianness", LABELS, array("labels.npy", lambda a: a.astype(">i8"))),
    Broken("labels as objects", LABELS, array("labels.npy", lambda a: np.array([Trap()] * len(a), object))),
    Broken("labels as a pickle", LABELS, write("records/test/labels.npy", pickle.dumps(Trap()))),
    Broken("labels as a structure", LABELS, array("labels.npy", lambda a: a.view([(f"x{i}", "i1") for i in range(8)]))),
    Broken("no labels", LABELS, array("labels.npy", lambda a: a[:0])),
    Broken("fewer labels", "labels.npy", array("labels.npy", lambda a: a[:-1])),
    Broken("labels of 800 GB, sparse", LABELS, sparse_labels(10**11)),
    Broken("labels of 2^62 images", LABELS, header("labels.npy", described(shape=f"({2**62},)"))),
    Broken("labels of -1 images", LABELS, header("labels.npy", described(shape="(-1,)"))),
    Broken("labels of a huge shape", LABELS, header("labels.npy", described(shape=f"({HUGE},)"))),
    Broken("a record of 800 GB, sparse", LABELS, all_sparse(10**11)),
    Broken("a header that is no literal", LABELS, header("labels.npy", "__import__('os').getcwd()")),
    Broken("a header nested too deeply", LABELS, header("labels.npy", "-" * 9000 + "1")),
    Broken("a header with brackets", LABELS, header("labels.npy", "[" * 9000)),
    Broken("a header of 60,000 characters", LABELS, header("labels.npy", described() + " " * 60_000)),
    Broken("a header with another type", LABELS, header("labels.npy", described("'<M8[ns]'"))),
    Broken("a header without a type", LABELS, header("labels.npy", described("'what'"))),
    Broken("a header of 1,000 fields", LABELS, header("labels.npy", described(FIELDS))),
    Broken("confidence NaN", CONFIDENCE, array("scores/confidence.npy", put(np.nan))),
    Broken("confidence infinite", CONFIDENCE, array("scores/confidence.npy", put(np.inf))),
    Broken("confidence in per cent", CONFIDENCE, array("scores/confidence.npy", lambda a: 100 * a)),
    Broken("confidence as doubles", CONFIDENCE, array("scores/confidence.npy", lambda a: a.astype(float))),
    Broken("confidence of 12 axes", CONFIDENCE, array("scores/confidence.npy", with_axes)),
    Broken("confidence transposed", CONFIDENCE, array("scores/confidence.npy", lambda a: a.T)),
    Broken("confidence in Fortran's order", None, array("scores/confidence.npy", np.asfortranarray)),
    Broken("entropy negative", "entropy.npy", array("scores/entropy.npy", put(-1))),
    Broken("prediction out of range", "prediction.npy", array("scores/prediction.npy", put(99))),
    Broken("indices negative", "indices.npy", array("indices.npy", put(-1))),
    Broken("logits of another shape", "logits.npy", array("logits.npy", lambda a: a[..., :-1])),
    Broken("scores is a file", "scores", file("records/test/scores")),
    Broken("the record is a file", "no record of split 'test'", file("records/test")),
    # -- history.csv --
    Broken("history without epochs", "history.csv", write("history.csv", b"a,b\n1,2\n")),
    Broken("history without an exit's loss", "history.csv", write("history.csv", b"epoch,lambda_1,area\n1,.5,.5\n")),
    Broken("history with words", "history.csv", write("history.csv", b"epoch,area\n1,large\n")),
    Broken("history with epochs that fall", "history.csv", write("history.csv", b"epoch,area\n2,.5\n1,.6\n")),
    Broken("history with an epoch that is NaN", "history.csv", write("history.csv", b"epoch,area\n1,.5\nnan,.6\n")),
    Broken("history with an open quote", "history.csv", write("history.csv", b'epoch,area\n1,"')),
    Broken("history of 10^6 columns", "history.csv", write("history.csv", b"epoch" + b",a" * 10**6 + b"\n")),
    Broken("history with a huge number", "history.csv", write("history.csv", b"epoch\n" + b"9" * 5000)),
    # -- policies.json, card.md, weights.safetensors --
    Broken("policies deeply nested", "policies.json", write("policies.json", DEEP)),
    Broken("policies are a list", "policies.json", write("policies.json", b"[1]")),
    Broken("policy of an unknown kind", "policies.json", policy(policy="x" * 10**5)),
    Broken("policy with a threshold that is text", "policies.json", policy(thresholds=["x" * 10**5])),
    Broken("policy with a huge threshold", "policies.json", policy(thresholds=[HUGE])),
    Broken("policy with a huge temperature", "policies.json", policy(temperatures=[HUGE])),
    Broken("policy without thresholds", "policies.json", policy(thresholds=[])),
    Broken("card in Latin-1", "card.md", write("card.md", "# Übung".encode("latin-1"))),
    Broken("weights cut short", WEIGHTS, cut("weights.safetensors", -4)),
    Broken("weights with a header of 2^60 bytes", WEIGHTS, weights(b"\xff" * 7 + b"\x0f{}")),
    Broken("weights with lying offsets", WEIGHTS, lying(scale=LIE)),
    Broken("weights with class names that are no list", WEIGHTS, lying_names("3")),
    Broken("weights with class names nested deeply", WEIGHTS, lying_names("[" * 9999)),
]  # fmt: skip
