"""Draw the diagrams of the pages: python -m builder.diagrams writes docs/assets/*.svg and
dmpo_explore/course/network/*.svg, the latter as PNG, too, by Chromium. Needs benchmarks/ on the path.

The numbers in them are the library's: exit shares, FLOPs, trade-offs and loss weights. A test draws them anew.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import dmpo_explore as dx
from builder.pages import DOCS, ROOT
from builder.svg import WIDTH, Drawing
from dmpo_explore.training import loss_weights

BUDGET = 0.40


def early_exit() -> Drawing:
    """A chain of stages with exits; the threshold decides at each."""
    d = Drawing("early-exit", 290, "A chain of four stages; after each an exit predicts and the image stops or goes on")
    d.text(26, 75, "image")
    width, gap = 118, 46
    for k in range(4):
        x = 80 + k * (width + gap)
        last = k == 3
        d.arrow((x - (gap - 4 if k else 30), 70), (x - 4, 70))
        d.box(x, 40, width, 60, f"stage {k + 1}\nblocks", colour="blue")
        d.arrow((x + width / 2, 100), (x + width / 2, 136))
        d.box(x, 138, width, 52, f"exit {k + 1}\npredicts", colour="orange")
        d.arrow((x + width / 2, 190), (x + width / 2, 238))
        d.text(x + width / 2 + 8, 219, "takes the rest" if last else "confident?", small=True, anchor="start")
        d.text(x + width / 2, 260, "label" if last else "yes: label", colour="orange")
    for k in range(3):
        d.text(80 + k * (width + gap) + width + gap / 2, 58, "no", small=True)
    d.text(WIDTH / 2, 20, "What lies to the right of an image's exit is never computed", small=True)
    return d


def stage(name: str = "stage", today: Sequence[str] = ()) -> Drawing:
    """Trunk, bypass, predictor and exit of one stage, some of them marked: those that a notebook is about."""
    d = Drawing(
        name, 250, "One stage: the trunk goes on to the next stage; the bypass adds to what the predictor reads"
        + (f". Today: {', '.join(today)}" if today else "")
    )  # fmt: skip
    d.text(46, 65, "tokens")
    d.arrow((78, 60), (122, 60))
    d.box(124, 32, 150, 56, "trunk\nbackbone blocks", colour="blue", today="trunk" in today)
    d.arrow((274, 60), (640, 60), colour="blue")
    d.text(700, 65, "next stage")
    d.text(455, 48, "representative: the bypass is not in it", small=True)
    d.arrow((330, 60), (330, 128))
    d.box(268, 130, 124, 56, "bypass\nadds to the tokens", colour="amber", today="bypass" in today)
    d.arrow((392, 158), (422, 158))
    d.box(424, 130, 84, 56, "exit norm")
    d.arrow((508, 158), (534, 158))
    d.box(536, 130, 104, 56, "predictor", colour="orange", today="predictor" in today)
    d.arrow((640, 158), (666, 158))
    d.box(668, 130, 84, 56, "exit\nif confident", today="exit" in today)
    d.text(464, 226, "discriminative: this exit alone reads it", small=True)
    return d


def second_order() -> Drawing:
    """From patch tokens to a covariance."""
    d = Drawing(
        "second-order", 210, "Patch tokens are reduced, their covariance is rooted, its upper triangle classified"
    )
    steps = [
        ("patch tokens", "N × 384"), ("reduce", "N × 48"), ("covariance", "48 × 48"), ("matrix root", "5 iterations"),
        ("triangle", "1,176 numbers"),
    ]  # fmt: skip
    for i, (name, size) in enumerate(steps):
        x = 14 + i * 124
        d.box(x, 40, 104, 60, f"{name}\n{size}", colour="orange" if i in (2, 3) else "line")
        d.arrow((x + 104, 70), (x + 122, 70))
    d.box(638, 40, 104, 112, "logits\nsum of both")
    d.box(138, 124, 228, 52, "class token and mean\nfirst order", colour="blue")
    d.arrow((66, 100), (66, 150), (134, 150))
    d.arrow((366, 130), (634, 130), colour="blue")
    d.text(376, 24, "How channels vary together over the patches", small=True)
    return d


def phases() -> Drawing:
    """Loss weights of six exits over a training."""
    d = Drawing("phases", 300, "Loss weights over the epochs: deep exits first, early exits later")
    left, right, top, bottom, epochs, k = 60, 620, 40, 240, 100, 6
    d.axes(left, top, right, bottom, "epoch (% of the training)", "loss weight")
    rows = np.array([loss_weights("linear", e, epochs, k) for e in range(epochs)])
    xs = left + (right - left) * np.arange(epochs) / (epochs - 1)
    ys = bottom - (bottom - top) * rows / 2
    for exit in range(k):
        colour = "blue" if exit == k - 1 else "orange" if exit == 0 else "line"
        ends = (float(ys[0, exit]), float(ys[-1, exit]))
        d.line((xs[0], ends[0]), (xs[-1], ends[1]), colour=colour, width=2.6 if colour != "line" else 1.4)
    d.text(right + 8, ys[-1, 0] + 4, "exit 1", anchor="start", colour="orange")
    d.text(right + 8, ys[-1, k - 1] + 4, "exit 6, the last", anchor="start", colour="blue")
    d.ticks(
        [(left, "0"), ((left + right) / 2, "50"), (right, "100")], [(bottom, "0"), (140, "1"), (top, "2")], left, bottom
    )
    return d


def record() -> Drawing:
    """Run once, ask many."""
    d = Drawing("record", 230, "Images run through the model once; everything else reads the record")
    d.box(14, 70, 110, 62, "images\nof a split")
    d.arrow((124, 101), (158, 101))
    d.box(160, 70, 130, 62, "model\nruns once", colour="blue")
    d.arrow((290, 101), (324, 101))
    d.box(326, 58, 130, 86, "record\nimages × exits", colour="orange")
    for i, (name, small) in enumerate(
        (("policy", "any threshold"), ("tables", "accuracy, compute"), ("app", "slider, images"))
    ):
        y = 14 + i * 68
        d.arrow((456, 101), (500, 101), (500, y + 27), (538, y + 27))
        d.box(540, y, 200, 54, f"{name}\n{small}")
    d.text(225, 164, "torch: minutes", small=True)
    d.text(640, 224, "arrays only: milliseconds", small=True)
    return d


def flops() -> Drawing:
    """Cumulative compute of the exits of `demo`."""
    meta = dx.load_run("demo").record("test").meta
    shares = np.asarray(meta.flops) / meta.reference_flops
    d = Drawing("flops", 270, "Compute of an image that exits at each exit of demo, as a share of the plain backbone")
    left, scale = 80, 520
    for k, share in enumerate(shares):
        y = 30 + 34 * k
        d.text(left - 10, y + 16, f"exit {k + 1}", anchor="end")
        d.bar(left, y, scale * share, 22, "blue" if k < len(shares) - 1 else "orange")
        d.text(left + scale * share + 8, y + 16, f"{100 * share:.1f} %", anchor="start")
    d.line((left + scale, 20), (left + scale, 236), dash="4 4")
    d.text(left + scale, 256, "100 %: the plain backbone", small=True)
    return d


def exit_shares() -> Drawing:
    """Shares of the test images of `demo` that stop at each exit."""
    run = dx.load_run("demo")
    record = run.record("test")
    policy = dx.fit_policy(run.record("calibration"), "confidence", flops=BUDGET)
    shares = dx.apply(policy, record).summary()["exit_shares"]
    about = f"Share of the test images that stop at each exit under a budget of {BUDGET:.0%}".replace("%", " %")
    d = Drawing("exit-shares", 250, about)
    for k, share in enumerate(shares):
        y = 24 + 34 * k
        d.text(70, y + 16, f"exit {k + 1}", anchor="end")
        d.bar(80, y, max(2.0, 600 * share), 22)
        d.text(80 + 600 * share + 8, y + 16, f"{100 * share:.0f} %", anchor="start")
    d.text(380, 244, f"of {record.n_images:,} test images of demo", small=True)
    return d


def trade_off() -> Drawing:
    """Accuracy against compute of `demo` and `demo-naive`."""
    d = Drawing("trade-off", 340, "Accuracy against compute for every threshold of demo and demo-naive")
    left, right, top, bottom, low, high = 70, 600, 40, 280, 0.75, 0.93
    d.axes(left, top, right, bottom, "compute (% of the plain backbone)", "accuracy (%)")

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / 1.1, bottom - (bottom - top) * (y - low) / (high - low)

    lines = (("demo", "demo: DMPO", "blue", ""), ("demo-naive", "naive exits", "orange", "7 4"))
    for name, label, colour, dash in lines:
        curve = dx.trade_off(dx.load_run(name).record("test"), "confidence", points=60)
        points = [place(x, y) for x, y in zip(curve["flops_fraction"], curve["accuracy"], strict=True) if y >= low]
        d.line(*points, colour=colour, width=2.6, dash=dash)
        d.text(right + 8, points[-1][1] + 4, label, anchor="start", colour=colour)
    d.ticks(
        [(place(x / 100, 0)[0], str(x)) for x in (0, 20, 40, 60, 80, 100)],
        [(place(0, y / 100)[1], str(y)) for y in (75, 80, 85, 90)],
        left, bottom,
    )  # fmt: skip
    return d


def parts() -> Drawing:
    """What DMPO gains over naive exits on 30 % of the compute: by its predictor alone, and by the rest on top."""
    table = pd.read_csv(ROOT / "benchmarks" / "results" / "third-comparisons.csv")
    gains = table[table["at"] == "30 %"].set_index(["comparison", "set"])
    about = "DMPO's gain over linear exits: the covariance predictor gives most, bypass and two-phase weights the rest"
    d = Drawing("parts", 326, about)
    d.text(12, 20, "Points of accuracy over linear exits, both on 30 % of the compute; 95 % intervals", anchor="start")
    left, scale, bottom = 264, 11.0, 296
    ticks = [(left + scale * points, f"+{points}" if points else "0") for points in (0, 10, 20, 30)]
    for x, _ in ticks:
        d.line((x, 38), (x, bottom), width=1, dash="" if x == left else "2 4")
    d.ticks(ticks, [], left, bottom)
    for top, name, title in ((42, "birds100", "Birds"), (172, "caltech101", "Caltech-101")):
        d.text(12, top + 14, title, anchor="start")
        alone = gains.loc[(ALONE, name), "points"]
        for i, (comparison, (text, colour)) in enumerate(SHARES.items()):
            row, y = gains.loc[(comparison, name)], top + 22 + 32 * i
            start = left + scale * (alone if comparison == ON_TOP else 0)
            d.text(left - 10, y + 16, text, anchor="end", small=True)
            d.bar(start, y, scale * row["points"], 22, colour)
            low, high = start + scale * row["low"], start + scale * row["high"]
            for paint, width in (("panel", 5), ("ink", 1.6)):
                d.line((low, y + 11), (high, y + 11), colour=paint, width=width)
                for end in (low, high):
                    d.line((end, y + 6), (end, y + 16), colour=paint, width=width)
            d.text(650, y + 16, f"{row['points']:+.1f}", anchor="end")
            d.text(662, y + 16, f"{row['low']:.1f} to {row['high']:.1f}", small=True, anchor="start")
    return d


ALONE, ON_TOP = "second-order predictors, added", "bypass and two-phase weights, added to second order"
SHARES = {  # comparison → text and colour
    "DMPO and naive exits": ("all of DMPO", "blue"),
    ALONE: ("its covariance predictor alone", "orange"),
    ON_TOP: ("bypass and two-phase weights, on top", "amber"),
}


def results() -> Drawing:
    """DMPO, naive exits, the full model and a network cut short on six data sets of the third study."""
    titles = ", ".join(title for title, *_ in PANELS.values())
    about = "DMPO lies above naive exits on 30 and 50 %, most where compute is short"
    d = Drawing("results", 516, f"Accuracy over compute on {titles}: {about}")
    texts = {96: "DMPO", 192: "naive exits", 324: "network of six blocks", 514: "full model"}
    for (x, text), colour in zip(texts.items(), SERIES.values(), strict=True):
        d.bar(x, 8, 10, 10, colour)
        d.text(x + 16, 18, text, small=True, anchor="start")
    rows = pd.read_parquet(ROOT / "benchmarks" / "results" / "third.parquet")
    arms = rows["run"].str.replace(r"-s\d$", "", regex=True)
    means = rows.groupby(["set", arms]).mean(numeric_only=True).round(6)  # whatever columns stand beside
    for i, (name, shown) in enumerate(PANELS.items()):
        _panel(d, 52 + 244 * (i % 3), 64 + 246 * (i // 3), *shown, means.loc[name])
    return d


def _panel(d: Drawing, left: float, top: float, title: str, low: int, high: int, step: int, arms: pd.DataFrame) -> None:
    """One data set of `results`; ``arms``: means over the trainings, a row per model."""
    right, bottom = left + 186, top + 150

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / 1.1, bottom - (bottom - top) * (100 * y - low) / (high - low)

    _frame(d, (left, top, right, bottom), title, "compute (% of the full model's)")
    d.ticks(
        [(place(x / 100, 0)[0], str(x)) for x in (0, 50, 100)],
        [(place(0, y / 100)[1], str(y)) for y in range(low, high + 1, step)], left, bottom,
    )  # fmt: skip
    for arm, colour in SERIES.items():
        row = arms.loc[arm]
        early = [(row[f"share_{at} %"], row[f"accuracy_{at} %"]) for at in (20, 30, 40, 50, 70)]
        last = (row["full_share"], row["exit_6"] if pd.notna(row["exit_6"]) else row["exit_1"])
        points = [place(x, y) for x, y in (*early, last) if pd.notna(x)]  # an exit 1 above a budget has no value there
        if len(points) > 1:
            d.line(*points, colour=colour, width=2.4, dash="7 4" if arm == "naive" else "")
        for x, y in points:
            d.bar(x - 4, y - 4, 8, 8, colour)


PANELS = {  # data set → title, and the range and step of its accuracy in per cent
    "birds100": ("Birds", 10, 70, 20),
    "caltech101": ("Caltech-101", 35, 75, 10),
    "grocery": ("Groceries", 40, 70, 10),
    "scenes15": ("Scenes", 65, 85, 5),
    "trashnet": ("TrashNet", 65, 85, 5),
    "fashion-mnist": ("Fashion-MNIST", 65, 85, 5),
}
SERIES = {"dmpo": "blue", "naive": "orange", "static-6": "amber", "single": "ink"}


def _frame(d: Drawing, corners: tuple[float, float, float, float], title: str, x_title: str) -> None:
    """Titles and axes of one panel of accuracies."""
    left, top, right, bottom = corners
    d.text((left + right) / 2, top - 22, title)
    d.text(left - 40, top - 10, "accuracy (%)", small=True, anchor="start")
    d.axes(left, top, right, bottom, x_title, "")


def more_images() -> Drawing:
    """Exits 1 and 3 and the last over training images, by epochs and teacher: rows of ``recipe.parquet``."""
    about = "Accuracy of exit 1, exit 3 and the last over 600 to 4,000 training images: images bring most, then epochs"
    d = Drawing("more-images", 308, about)
    for x, (epochs, _, text, colour) in zip((52, 248, 390, 578), LINES, strict=True):
        d.line((x, 14), (x + 28, 14), colour=colour, width=2.4, dash="" if epochs == 24 else "7 4")
        d.text(x + 35, 18, text, small=True, anchor="start")
    rows = pd.read_parquet(ROOT / "benchmarks" / "results" / "recipe.parquet").set_index("run")
    for i, (title, k) in enumerate((("exit 1", 1), ("exit 3", 3), ("last exit", 6))):
        left = 52 + 244 * i

        def place(images: int, accuracy: float, left: int = left) -> tuple[float, float]:
            return left + 10 + 166 * float(np.log(images / 600) / np.log(4000 / 600)), 264 - 180 * (accuracy - 30) / 65

        _frame(d, (left, 84, left + 186, 264), title, "training images")
        d.ticks(
            [(place(size, 0)[0], f"{size:,}") for size in IMAGES],
            [(place(600, y)[1], str(y)) for y in (30, 50, 70, 90)], left, 264,
        )  # fmt: skip
        for epochs, end, _, colour in LINES:
            points = [place(s, 100 * rows.loc[f"grid-{s}-{epochs}{end}-s0", f"exit_{k}"]) for s in IMAGES]
            d.line(*points, colour=colour, width=2.4, dash="" if epochs == 24 else "7 4")
            for x, y in points:
                d.bar(x - 4, y - 4, 8, 8, colour)
    return d


IMAGES = (600, 1500, 4000)
LINES = (  # epochs, end of the run's name, text and colour
    (24, "-taught", "24 epochs, a teacher", "blue"),
    (24, "", "24 epochs", "orange"),
    (6, "-taught", "6 epochs, a teacher", "blue"),
    (6, "", "6 epochs", "orange"),
)


DIAGRAMS: tuple[Callable[[], Drawing], ...] = (
    early_exit, stage, second_order, phases, record, flops, exit_shares, trade_off, parts, results, more_images,
)  # fmt: skip
PARTS = ("trunk", "bypass", "predictor", "exit")
NETWORK = ROOT / "dmpo_explore" / "course" / "network"  # opens the notebooks, a part marked


def network() -> list[Drawing]:
    """The stage with each of its parts marked, and with all of them."""
    return [stage(part, [part]) for part in PARTS] + [stage("all", PARTS)]


def main() -> None:
    """Write all diagrams."""
    drawings = [(DOCS / "assets", make()) for make in DIAGRAMS] + [(NETWORK, drawing) for drawing in network()]
    for folder, drawing in drawings:
        path = folder / f"{drawing.name}.svg"
        path.parent.mkdir(exist_ok=True)
        path.write_text(drawing.to_svg(), encoding="utf-8")
        print(path.relative_to(ROOT))
    photograph(NETWORK)


def photograph(folder: Path) -> None:
    """Write a PNG beside every SVG of ``folder``, on white."""
    from _app.server import chromium

    with chromium() as browser:
        page = browser.new_page(device_scale_factor=2)
        for path in sorted(folder.glob("*.svg")):
            page.set_content(f"<body style='margin:0;background:white;width:820px'>{path.read_text('utf-8')}</body>")
            drawn = Image.open(io.BytesIO(page.locator("svg").screenshot())).convert("RGB")
            drawn.quantize(64).save(path.with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
