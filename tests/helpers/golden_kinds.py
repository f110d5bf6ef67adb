"""The kinds of golden outcomes: a function makes the values of a file, by public names and the command line only."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import INVARIANT, Outcomes, may_change, plain
from PIL import Image
from tiny import tiny_config
from typer.testing import CliRunner

import dmpo_explore as dx


@dataclass(frozen=True)
class Kind:
    """How a kind is made: its function, how far floats may differ, and whether it takes long."""

    make: Callable[[], dict[str, dict[str, Any]]]
    within: float
    slow: bool

    @property
    def about(self) -> str:
        """The first sentence of the function's docstring."""
        return str(self.make.__doc__).partition("\n")[0]


KINDS: dict[str, Kind] = {}


def kind(within: float = 1e-5, *, slow: bool = False) -> Callable[[Any], Any]:
    """Enter a function in `KINDS`."""

    def enter(make: Any) -> Any:
        KINDS[make.__name__] = Kind(make, within, slow)
        return make

    return enter


def made(name: str, folder: Path, patch: pytest.MonkeyPatch) -> Outcomes:
    """The outcomes of a kind on a machine with nothing fetched and only bundled runs; ``folder`` is the current one."""
    for variable, place in {"RUNS": "runs", "CACHE": "cache", "SYSTEM_DATA": "packages"}.items():
        patch.setenv(f"DMPO_EXPLORE_{variable}", str(folder / place))
    for variable in ("DMPO_EXPLORE_DATA", "DMPO_EXPLORE_PLUGINS"):
        patch.delenv(variable, raising=False)
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.chdir(folder)
    return plain(KINDS[name].make())


def answer(*arguments: str) -> dict[str, Any]:
    """What a command answers: exit status and its JSON, without places of this machine."""
    from dmpo_explore.cli import app

    found = CliRunner().invoke(app, [*arguments, "--json"])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    text = found.stdout.replace(str(Path(str(dx.__file__)).parent), "PACKAGE").replace(str(Path.cwd()), "HERE")
    return {"status": found.exit_code, "answer": json.loads(text) if text else None}


# Runs


@kind()
def runs() -> dict[str, dict[str, Any]]:
    """`runs` and `check`, and what every bundled run says of itself."""
    listed = answer("runs")
    facts: dict[str, Any] = {}
    for row in listed["answer"]:
        run = dx.load_run(row["run"])
        meta = run.record("test").meta
        defaults = dx.Config().to_dict()
        facts[run.name] = {
            # only what is set otherwise: an option that comes or goes changes nothing
            "config": {
                part: {key: value for key, value in values.items() if value != defaults[part].get(key)}
                for part, values in run.config.to_dict().items()
                if part in ("data", "model", "training")
            },
            "labels": {split: run.record(split).labels for split in run.splits()},
            "exits after blocks": meta.exit_blocks,
            "flops": meta.flops,
            "reference flops": meta.reference_flops,
            "policies": {name: policy.thresholds for name, policy in run.policies().items()},
            "epochs": len(run.history()),
        }
    checked = {name: answer("check", name) for name in facts}
    wrong = {name: answer("check", name)["status"] for name in ("no-such-run",)}
    return {
        INVARIANT: {"names": sorted(facts), "facts": facts, "status": {"runs": listed["status"], **wrong}},
        may_change(33): {"check": checked},
        may_change(35): {"runs": {row.pop("run"): row for row in listed["answer"]}},
    }


ASKED = (  # of `evaluate`, beside each bundled run alone
    "demo --flops 0.3 --against demo-naive",
    "demo --accuracy-drop 0.01 --per-exit",
    "demo --near-best 0.01 --calibrate",
    "demo --risk too_early --epsilon 0.05",
    "demo --policy entropy --threshold 1.0",
    "demo --shares 0.4,0.2,0.1,0.1,0.1,0.1",
    "demo --split val --flops 0.4",
    "demo --flops 0.1",  # cannot be met
    "no-such-run",
    "demo --flops much",
)


def evaluations(*asked: str) -> dict[str, Any]:
    """`evaluate` with these arguments; the first row names the data, the others give numbers."""
    return {f"evaluate {text}": answer("evaluate", *text.split()) for text in asked}


@kind()
def evaluate() -> dict[str, dict[str, Any]]:
    """`evaluate` on three bundled runs and with the options that people use."""
    return {INVARIANT: evaluations("demo", "demo-cnn", "demo-single", *ASKED)}


@kind(slow=True)
def protocols() -> dict[str, dict[str, Any]]:
    """`evaluate` on all other bundled runs, by every policy, by the protocols of the literature, at another place."""
    names = [row["run"] for row in answer("runs")["answer"]]
    others = [name for name in names if name not in ("demo", "demo-cnn", "demo-single")]
    asked = ("demo --protocol anytime", "demo --protocol budgeted", "shops --transfer grocery-shops")
    every: dict[str, Any] = {}
    for row in answer("evaluate", "demo", "--all-policies")["answer"]:
        every.setdefault(row["policy"], []).append(row)
    return {INVARIANT: {**evaluations(*others, *asked), "evaluate demo --all-policies": every}}


@kind(1e-4)
def page() -> dict[str, dict[str, Any]]:
    """The JSON in published pages: of `demo` against a rival, and of another run with another policy."""
    demo, cnn = dx.load_run("demo"), dx.load_run("demo-cnn")
    entropy = dx.fit_policy(cnn.record("calibration"), "entropy", flops=0.5)
    pages = {
        "demo": dx.web.page_html(demo, pictures=False, tiles=200, against=dx.load_run("demo-naive")),
        "demo-cnn": dx.web.page_html(cnn, entropy, pictures=False, tiles=60),
    }
    parts = dict.fromkeys(("made_by", "format_version"), 37) | dict.fromkeys(("story", "running"), 41)
    parts |= dict.fromkeys(("format", "tiles", "colours"), 39)
    found: dict[str, dict[str, Any]] = {}
    for name, html in pages.items():
        script = html.partition('<script type="application/json"')[2]
        for key, value in json.loads(script.partition(">")[2].partition("</script>")[0]).items():
            mark = may_change(parts[key]) if key in parts else INVARIANT
            found.setdefault(mark, {})[f"{name} / {key}"] = unpacked(value)
    return found


def unpacked(value: Any) -> Any:
    """A value of a page in which packed bytes are numbers: another zlib packs them otherwise."""
    if isinstance(value, dict):
        return {key: unpacked(one) for key, one in value.items()}
    return list(gzip.decompress(base64.b64decode(value))) if str(value).startswith("H4sI") else value


# Data

CLASSES = ("apple", "pear", "plum")


def picture(number: int) -> Image.Image:
    """An image of noise, for no two numbers the same; as BMP it has the same bytes everywhere."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8))


def folder(name: str, count: int, first: int = 0) -> str:
    """NAME/CLASS/NN.bmp, of the classes ``count`` images, one less, two less."""
    for label, title in enumerate(CLASSES):
        Path(name, title).mkdir(parents=True)
        for i in range(count - label):
            picture(first + 1000 * label + i).save(Path(name, title, f"{i:02d}.bmp"))
    return name


def table(name: str, columns: dict[str, Callable[[int], str]]) -> str:
    """NAME/list.csv beside 60 images, with these columns after the path and the label."""
    Path(name).mkdir()
    lines = [",".join(["path", "label", *columns])]
    for i in range(60):
        picture(5000 + i).save(Path(name, f"{i:02d}.bmp"))
        lines.append(",".join([f"{i:02d}.bmp", CLASSES[i % 3], *(column(i) for column in columns.values())]))
    Path(name, "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{name}/list.csv"


def shards(name: str) -> str:
    """NAME/SPLIT-0000.tar as webdataset writes them."""
    Path(name).mkdir()
    for split, numbers in {"train": range(20), "val": range(20, 24), "test": range(24, 28)}.items():
        with tarfile.open(Path(name, f"{split}-0000.tar"), "w") as archive:
            for number in numbers:
                stream = io.BytesIO()
                picture(number).save(stream, "PNG")
                for file, content in {"png": stream.getvalue(), "cls": b"%d" % (number % 2)}.items():
                    info = tarfile.TarInfo(f"{number:04d}.{file}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return f"wds/{name}"


def messy(name: str) -> str:
    """A folder with what goes wrong: broken, empty, the same in two classes, twice in one, no image, a class of one."""
    root = Path(folder(name, 12))
    (root / "apple/broken.bmp").write_bytes(b"BM and no more")
    (root / "pear/empty.jpg").write_bytes(b"")
    (root / "plum/copy.bmp").write_bytes((root / "apple/00.bmp").read_bytes())
    (root / "pear/twice.bmp").write_bytes((root / "pear/01.bmp").read_bytes())
    (root / "plum/notes.txt").write_text("not an image")
    (root / "quince").mkdir()
    picture(9000).save(root / "quince/only.bmp")
    return name


def divided(**configs: Any) -> dict[str, dict[str, Any]]:
    """Who is in which split of these data, what three pixels of it are, and what knows the images again."""
    same, later = {}, {}
    for name, config in configs.items():
        data = dx.data.open_data(config)
        images = {split: data.images(split) for split in data.splits}
        same[name] = {"rule": data.rule} | {
            split: {
                "by class": np.bincount(found.labels, minlength=len(found.class_names)),
                "labels": found.labels,
                "places in the source": found.indices,
                "mean pixels": [np.asarray(found[i], np.float64).mean() for i in (0, len(found) // 2, len(found) - 1)],
            }
            for split, found in images.items()
        }
        later[name] = {"fingerprints": {split: found.fingerprint[:16] for split, found in images.items()}}
    return {INVARIANT: same, may_change(34): later}


@kind()
def splits() -> dict[str, dict[str, Any]]:
    """Splits and fingerprints of digits, folders and tables."""
    for i, split in enumerate(("train", "val", "test")):
        folder(f"divided/{split}", 12 - 4 * i, 100 * i)
    parts = {"split": lambda i: ("test", "val", "train", "train", "train")[i % 5]}
    return divided(
        digits=dx.DataConfig("digits"),
        digits_100=dx.DataConfig("digits", train_size=100, seed=1),
        digits_calibration=dx.DataConfig("digits", calibration=True),
        folder=dx.DataConfig(folder("folder", 40)),
        folder_seed_5=dx.DataConfig("folder", seed=5, calibration=True),
        folder_of_splits=dx.DataConfig("divided"),
        table=dx.DataConfig(table("table", {})),
        table_with_splits=dx.DataConfig(table("parts", parts)),
        table_with_groups=dx.DataConfig(table("groups", {"group": lambda i: f"g{i // 6}"})),
    )


@kind(slow=True)
def photos() -> dict[str, dict[str, Any]]:
    """Splits and fingerprints of the bundled photographs and of shards."""
    return divided(
        grocery=dx.DataConfig("grocery"),
        grocery_400=dx.DataConfig("grocery", train_size=400, seed=3),
        grocery_shops=dx.DataConfig("grocery-shops"),
        grocery_same_shops=dx.DataConfig("grocery-same-shops"),
        shards=dx.DataConfig(shards("shards")),
    )


@kind(slow=True)
def data() -> dict[str, dict[str, Any]]:
    """`data` on bundled data, folders, a table and shards, good and bad ones."""
    folder("folder", 40), messy("messy"), shards("shards")
    listed = table("table", {"split": lambda i: ("test", "val", "train", "train", "train")[i % 5]})
    asked = ("digits", "grocery", "folder", "folder --calibration --train-size 30", "messy", "messy --skip-broken")
    found = {text: answer("data", *text.split()) for text in (*asked, listed, "wds/shards", "nowhere")}
    status = {text: row.pop("status") for text, row in found.items()}
    return {INVARIANT: {"status": status}, may_change(34): found}


# Policies

TARGETS: dict[str, dict[str, Any]] = {
    "flops 0.3": {"flops": 0.3},
    "accuracy drop 0.01": {"accuracy_drop": 0.01},
    "flops 0.5 per exit": {"flops": 0.5, "per_exit": True},
    "shares": {"shares": (0.4, 0.2, 0.1, 0.1, 0.1, 0.1)},
    "risk too early 0.05": {"risk": "too_early", "epsilon": 0.05},
    "flops 0.3 with temperatures": {"flops": 0.3, "temperatures": "fit"},
}


@kind(1e-3)
def policies() -> dict[str, dict[str, Any]]:
    """Thresholds fitted on calibration, and exits on test, of every policy and target on `demo`."""
    run = dx.load_run("demo")
    calibration, test = run.record("calibration"), run.record("test")
    found: dict[str, Any] = {}
    for name in sorted(dx.POLICIES):
        for target, how in TARGETS.items():
            try:
                policy = dx.fit_policy(calibration, name, **how)
            except ValueError:
                found[f"{name}, {target}"] = "refused"
                continue
            exits = policy.exits(test)
            found[f"{name}, {target}"] = {
                "thresholds": policy.thresholds,
                "mean exit": exits.mean() + 1,
                "images at exits": np.bincount(exits, minlength=test.n_exits),
                "exits": exits,
                "correct": int(dx.apply(policy, test).correct.sum()),
            }
    held = dx.hold_budget(dx.fit_policy(calibration, flops=0.3), calibration, window=300)
    found["hold_budget"] = {"shares": held.shares, "exits": held.exits(test)}
    return {INVARIANT: found}


@kind()
def sliders() -> dict[str, dict[str, Any]]:
    """Positions and counts of the threshold sliders of `demo`."""
    run = dx.load_run("demo")
    test, found = run.record("test"), {}
    for name, per_exit in (("confidence", False), ("confidence", True), ("entropy", False), ("patience", False)):
        policy = dx.fit_policy(run.record("calibration"), name, flops=0.5, per_exit=per_exit)
        slider = dx.analysis.slider_counts(test, policy, label=3, points=60)
        flops, accuracy = slider.single.curve(test.flops_fraction)
        found[f"{name}, per exit" if per_exit else name] = {
            "positions": len(slider.single.thresholds),
            "thresholds": slider.single.thresholds,
            "place": slider.single.position,
            "counts": slider.single.counts,
            "counts at its place": slider.single.counts[slider.single.position],
            "counts of class 3": slider.single.class_counts,
            "compute": flops,
            "accuracy": accuracy,
            "counts of each slider": {k: one.counts for k, one in enumerate(slider.sliders, 1)},
        }
    return {INVARIANT: found}


# What torch computes

BACKBONES = (
    "test_vit", "test_vit2", "test_resnet", "test_efficientnet", "test_convnext", "test_mambaout",
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "convnext_atto", "resnet10t", "mobilenetv3_small_050",
    "tf_efficientnet_lite0", "mobilenetv4_conv_small_035", "regnetx_002", "tinynet_e", "lcnet_050", "mnasnet_small",
    "edgenext_xx_small", "levit_128s", "swin_tiny_patch4_window7_224",
)  # fmt: skip


@kind(slow=True)
def flops() -> dict[str, dict[str, Any]]:
    """FLOPs and weights of 20 small backbones at 64 pixels, whole numbers."""
    found = {}
    for name in BACKBONES:
        config = dx.ModelConfig(name, "random", 64, exits=3, channels=8, bypass_width=8, tuning="lora")
        model = dx.build_model(config, 10)
        counted = dx.models.measure_flops(model, dx.models.build_reference(config, 10))
        found[name] = {
            "exits": model.exits,
            "flops": counted.cumulative,
            "plain": counted.reference,
            "as trained": counted.as_trained,
            "trainable": counted.parameters["trainable"],
        }
    return {INVARIANT: found}


TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # name -> changes of the model, of the training
    "as it is": ({}, {}),
    "mlp, lora, switch": ({"bypass": "mlp", "tuning": "lora"}, {"schedule": "switch", "phase_ratio": 0.4}),
    "ladder, adapter, square root, mixed": (
        {"bypass": "ladder", "tuning": "adapter", "normalisation": "sqrt"},
        {"schedule": "mixed"},
    ),
    "no bypass, linear, uniform": (
        {"bypass": "none", "predictor": "linear", "tuning": "none"},
        {"schedule": "uniform"},
    ),
    "moment, full, cosine, distilled, coupled": (
        {"backbone": "test_vit3", "predictor": "moment", "tuning": "full", "equilibrium": True},
        {"schedule": "cosine", "distill": 0.5, "coupling": "sigmoid", "label_smoothing": 0.1},
    ),
    "convolutions, exponential, class weights": (
        {"backbone": "test_resnet"},
        {"schedule": "exponential", "class_balance": "weights"},
    ),
    "earlier exits, linear by depth, sampler": (
        {"backbone": "test_efficientnet", "predictor": "linear", "earlier_exits": True},
        {"schedule": "linear-by-depth", "class_balance": "sampler", "crop_scale": 0.7},
    ),
    "one exit, deep only": (
        {"exits": (4,), "last_bypass": "conv", "last_predictor": "covariance"},
        {"schedule": "deep-only"},
    ),
    "prompts, early only": ({"tuning": "vpt"}, {"schedule": "early-only"}),
    "orthogonal with cutout": ({"tuning": "oft"}, {"self_regularise": 1.0, "cutout": "random"}),
    "learned weights": ({}, {"schedule": "learned"}),
    "token merging": ({"image_size": 64, "merge": 3, "merge_from": 2, "predictor": "linear"}, {}),
}


THRESHOLD = 0.498  # of confidence, in a gap between scores: what another torch rounds otherwise moves no image


@kind(2e-3, slow=True)
def trainings() -> dict[str, dict[str, Any]]:
    """Losses and weights of every epoch and logits on test of twelve tiny trainings."""
    found = {}
    for name, (model, training) in TRAININGS.items():
        run = dx.train(tiny_config(60, {"exits": 3} | model, **{"epochs": 3} | training), device="cpu")
        record, history = dx.record_run(run, "test", device="cpu"), run.history()
        exits = range(1, record.n_exits + 1)
        found[name] = {
            "exits": record.meta.exit_blocks,
            "flops": record.meta.flops,
            "loss": history["loss"].tolist(),
            "loss of every exit": history[[f"loss_{k}" for k in exits]].to_numpy(),
            "weight of every exit": history[[f"lambda_{k}" for k in exits]].to_numpy(),
            "mean confidence": record.confidence.mean(axis=0, dtype=np.float64),
            "logits of the first image": np.asarray(record.logits, np.float64)[0, -1],
        }
    return {INVARIANT: found}


@kind(2e-3, slow=True)
def exports() -> dict[str, dict[str, Any]]:
    """Exits of 64 images by torch, by the exported stages, and by the graph they are joined to."""
    import onnxruntime

    run = dx.train(tiny_config(model={"exits": 3}, epochs=6), device="cpu")
    images = run.inputs("test", slice(0, 64))
    policy = dx.POLICIES["confidence"]((THRESHOLD,))
    scores = dx.record_run(run, "test", device="cpu").confidence[:64, :-1].astype(np.float64)
    eager = dx.infer(run.model("cpu"), images, policy)
    place = dx.inference.export_run(run, Path("exported"), policy)
    staged = dx.inference.OnnxEngine(place, threads=1).infer(images.numpy())
    session = onnxruntime.InferenceSession(dx.inference.join_stages(place))
    logits, joined = session.run(None, {"images": images.numpy()})
    exits = {"torch": np.asarray(eager.exit), "stages": np.asarray(staged.exit), "the joined graph": joined}
    labels = {"stages": np.asarray(staged.label), "the joined graph": logits.argmax(axis=1)}
    return {
        INVARIANT: {
            "exits by": {name: "".join(map(str, found)) for name, found in exits.items()},
            "labels as torch by": {
                name: int((found == np.asarray(eager.label)).sum()) for name, found in labels.items()
            },
            "nearest score": float(np.abs(scores - THRESHOLD).min()),
            "confidence by stages": staged.confidence.astype(np.float64),
        },
        may_change(36): {"files": sorted(path.name for path in place.iterdir())},
    }
