# %% [markdown]
# # 7 · Your own images
#
# *I have a folder of photographs. How do I get from there to a threshold slider, and to an answer about a new
# photograph?*
#
# **Goal.** Check a folder of images, train an early-exit model on it, record it and evaluate it. Write the loop that
# stops at an image's exit, and predict images that were never read. Learn the commands that do the same, open the app
# and export the model.
#
# **Time.** 30 minutes to read and write, about two minutes to run.
#
# **Before.** [00](00_quickstart.ipynb). Words are at the end and in the [glossary](../docs/glossary.md); the
# method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/07_your_own_images.ipynb)

# %% tags=["install"]
# Installs the project where it is missing, as in Colab. Elsewhere this cell does nothing.
import importlib.util
import subprocess
import sys

if not importlib.util.find_spec("dmpo_explore"):
    source = "dmpo-explore[notebooks] @ git+https://github.com/-owner-/dmpo-explore"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)

# %% tags=["network"]
import dmpo_explore as dx

dx.course.network("all")

# %% tags=["setup"]
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dmpo_explore as dx
from dmpo_explore.course.exercises.your_own_images import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import live, numbers, slider
from dmpo_explore.course.own_images import make_images

workspace = tempfile.TemporaryDirectory()  # goes away with this notebook; for real work, stay in your own folder
os.chdir(workspace.name)
os.environ["DMPO_EXPLORE_RUNS"] = "runs"
print(make_images(Path(".")))

# %% [markdown]
# ## A folder is a data set
#
# One subfolder per class is all it takes. Above, up to 200 images a class were saved in `images/`, and five others of
# each in `new/`, which we keep for the end. Where Caltech-101 is on your computer they are photographs of it.
# Elsewhere, and on the saved page, they are **clothes**: bundled images of Fashion-MNIST, each of another piece, and
# only 28 pixels wide. Two classes are shoes, one is dresses; three are upper clothes that are hard to distinguish. Put
# your own images there instead. Without folders named `train`, `val` and `test` the images are divided 80/10/10, always
# in the same way.
#
# All numbers in the texts below are those of the saved page. With other images yours differ; the questions stay.

# %% tags=["setup"]
splits = {split: dx.load_images("images", split) for split in ("train", "val", "test")}
per_class = {split: pd.Series(images.labels).value_counts().sort_index() for split, images in splits.items()}
pd.DataFrame(per_class).set_axis(splits["train"].class_names).T

# %% [markdown]
# **Check it before you train.** `dmpo-explore data images` looks for what spoils a training: unreadable files, the same
# image in two splits, classes that are too small. In Python:
#
# **Predict.** Will the check find a reason not to train?

# %%
check = dx.data.check_data(dx.DataConfig("images"))
print(f"{check.n_images} images, ready: {check.ready}, largest class over smallest: {check.imbalance:.2f}")
print("\n".join(finding.text for finding in check.findings) or "no findings")

# %% [markdown]
# No findings. But the check compares files. Two photographs of one object, from two sides, are two images to it. Only
# *you* know which images belong together: if they do, put them into the same split.
#
# **The model's input.** Every image is resized to a square and cut into patches of 14 pixels. The side is the simplest
# control of compute.
#
# **Predict.** From which side on can you tell what it is? How much compute does twice the side take?


# %% tags=["live"]
def model_input(image, side):
    pixels = dx.load_images("images", "train")[image]
    resized = dx.data.make_transform(dx.Preprocess(side, mean=(0, 0, 0), std=(1, 1, 1)))(pixels)
    views = {"the file": pixels.mean(axis=-1), "the model's input": resized.mean(dim=0)}
    figure = dx.figures.matrix_figure(views, scale="image", shared=False)
    return figure, f"side {side}: {(side // 14) ** 2} patches, {3 * side**2:,} numbers"


every = slider("image", 0, len(dx.load_images("images", "train")) - 1, 100)
live(model_input, side=slider("side", 14, 112, 42, 14), image=every)

# %% [markdown]
# What does the side cost? The plain backbone, counted:


# %%
def price(side):
    plain = dx.ModelConfig(image_size=side, weights="random")
    flops = dx.models.measure_flops(dx.build_model(plain, 6), dx.models.build_reference(plain, 6)).reference
    return {"patches": (side // 14) ** 2, "GFLOPs": flops / 1e9}


pd.DataFrame({side: price(side) for side in (42, 84)}).T.rename_axis("side").round(2)

# %% [markdown]
# Twice the side is four times the patches, and nearly four times the compute. The files of the clothes have 28 pixels.
# A larger side shows nothing that is not in them; it only gives finer patches. We take 42 pixels, 9 patches, so that a
# CPU is done in a minute. Photographs hold more; for them a larger side may pay.
#
# ## Train
#
# On the command line: `dmpo-explore train --data images --image-size 42 --exits 1,2,4,8 --epochs 2 --batch-size 32
# --no-flip --name mine`. In Python the same thing is a config and one call, which returns the run. (The first time,
# 90 MB of backbone weights are fetched.)
#
# The exits come after blocks 1, 2, 4 and 8 of the twelve; blocks 9 to 12 are left out, so as to save time. If your
# photographs need more depth, leave `exits` out: then there are four, after blocks 3, 6, 9 and 12.
#
# **Predict.** The backbone stays frozen; a small tuning and four exits are trained, for two epochs. Guessing one class
# has one image in six correct. Will exit 1, one block deep, have as many validation images correct as exit 4?

# %% tags=["setup"]
config = dx.Config(
    dx.DataConfig("images"),
    dx.ModelConfig(exits=(1, 2, 4, 8), image_size=42),
    dx.TrainingConfig(epochs=2, batch_size=32, flip=False),
)
dx.fetch_weights(config.model.backbone)
run = dx.train(config, "mine")
run.history().filter(like="accuracy").tail(1).T.set_axis(["validation, after the last epoch"], axis=1)

# %% [markdown]
# No: three of four clothes at exit 1, five of six at exit 4. Exit 2 already has as many correct as exit 4. On 120
# images that is a first impression. For your images only a training of your own can show it.
#
# `flip=False` (`--no-flip`) turns mirrored images off. Which augmentations keep the class depends on your images: a
# mirrored shoe is still a shoe, a mirrored digit or word is none. Whether mirroring helps, only a training shows.
#
# ## Record, then evaluate
#
# Recording runs all exits over a split, once: `dmpo-explore record mine`. After that the model is not needed any more.

# %% tags=["setup"]
for split in ("val", "test"):
    dx.record_run(run, split)
val, test = run.record("val"), run.record("test")
hits = {"mine, on test": test.correct.mean(axis=0), "mine, on val": val.correct.mean(axis=0)}
dx.figures.depth_figure(hits, "accuracy").update_yaxes(range=[0.4, 1.02], tickformat=".0%")


# %%
def with_interval(correct):
    low, high = dx.analysis.accuracy_interval(correct)
    return f"{correct.mean():.1%}  [{low:.0%}, {high:.0%}]"


exit_rows = {f"exit {k + 1}": [with_interval(r.correct[:, k]) for r in (val, test)] for k in range(test.n_exits)}
pd.DataFrame(exit_rows, index=["val", "test"]).T

# %% [markdown]
# Exit 1 has the fewest correct on both splits, but its interval overlaps those of others. A paired comparison comes
# below. Which of the others is the best cannot be seen: it is exit 4 on val and exit 3 on test. On 120 images one
# image is 0.8 points, and a 95 % interval is 12 to 15 points wide.
#
# **The threshold.** An image stops at the first exit whose confidence reaches it. Drag it: the shares of each class
# move. (On val, where we choose; test is read once, below.)


# %% tags=["live"]
exit_names, classes = [f"exit {k + 1}" for k in range(test.n_exits)], splits["train"].class_names


def at(threshold):
    moved = dx.apply(dx.fit_policy(val, threshold=threshold), val)
    figure = dx.figures.class_exit_figure(val.labels, moved.exits, classes, exit_names)
    line = f"{moved.correct.mean():.0%} correct with {moved.summary()['flops_fraction']:.0%} of the compute"
    return figure, line


live(at, threshold=slider("threshold", 0.2, 1.0, 0.9, 0.01))

# %% [markdown]
# Now give the model a budget: at most a quarter of the plain backbone's compute. The threshold is fitted on val and
# applied to test. (On the command line: `dmpo-explore evaluate mine --flops 0.25`.)
#
# **Predict.** Which classes will exit at exit 1, and which at the last?

# %%
policy = dx.fit_policy(val, flops=0.25)
outcome = dx.apply(policy, test)
dx.figures.class_exit_figure(test.labels, outcome.exits, classes, exit_names)

# %% [markdown]
# Nine of ten dresses and sandals stop at exit 1. Coats, pullovers and shirts are alike: of each, a quarter or more
# reaches the last exit. But sneakers stop at exit 1 no more often than pullovers, 60 % of each. With twenty images of
# each this is a glance and no finding.
#
# **Predict.** With at most a quarter of the compute: will the policy be as accurate as exit 4 for all images? And will
# it be more accurate than a fixed exit of about its price?

# %%
hits = {"the policy": outcome.correct} | {f"exit {k + 1} for all": test.correct[:, k] for k in range(test.n_exits)}
table = pd.DataFrame({"correct": {name: each.mean() for name, each in hits.items()}})
table["compute"] = [outcome.summary()["flops_fraction"], *test.flops_fraction]
intervals = [dx.bootstrap_difference(outcome.correct, each) for each in hits.values()]
table["the policy is ahead by"] = [
    f"{100 * d:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" for d, low, high in intervals
]
table.round(3)

# %% [markdown]
# Of the 25 % allowed, 23.7 % is used. The policy has 87 % of the images correct: 8 points more than exit 1 for all, and
# the interval lies above 0. Exit 4 for all takes 70 % of the compute, and no difference to it is shown.
#
# But look at exit 2: for *all* images it has 87 %, too, at 19 % of the compute. On these 120 images no gain of
# choosing image by image is shown (0.0, −4.2 to +5.0). So always compare a policy with the fixed exit of its price.
#
# And the budget? The threshold was fitted on 120 images; on others it may use more than the budget, or less. With
# 5,000, in 05, planned and used compute differ by at most 0.2 points. Nor can 120 test images show a small gain.
# `demo` has 10,000. Its policy for a budget of 30 %, against its exit 2 for all images:

# %%
demo, large = dx.load_run("demo"), dx.load_run("demo").record("test")
chosen = dx.apply(dx.fit_policy(demo.record("calibration"), flops=0.30), large)
used = chosen.flops_fraction.mean()
points = [100 * part for part in dx.bootstrap_difference(chosen.correct, large.correct[:, 1])]
print(f"compute: {used:.0%} for the policy, {large.flops_fraction[1]:.0%} for exit 2 for all")
print("the policy is ahead by {:+.1f} points [{:+.1f}, {:+.1f}]".format(*points))

# %% [markdown]
# There the choice saves compute: 24 % instead of 35 %. Its accuracy is at most 0.1 points lower, by the interval.
#
# ## Is that much? Five baselines
#
# An accuracy alone is hard to read. What does a model reach without any training of a network? The **majority class**
# is the chance level. A **ridge** classifier is a linear model that is fitted in a second. It reads the *pixels* of
# the model's input, in grey. Or it reads the *frozen* backbone behind block 8, before any training: the class token,
# or the mean of the patch tokens, which it also reads behind block 2. Its penalty is chosen on the training images.
#
# **Predict.** Order them: the policy, exit 4, a ridge on pixels, a ridge on frozen tokens.

# %%
untrained = dx.build_model(config.model, len(classes)).eval()
prepare = dx.data.make_transform(untrained.preprocess)
names = ("pixels", "class token", "mean patch token", "mean patch token, block 2")


def views(images):
    inputs = torch.stack([prepare(images[i]) for i in range(len(images))])
    tokens = [stage.tokens.detach() for stage in untrained.walk(inputs)]
    means = [stage[:, 1:].mean(dim=1) for stage in (tokens[-1], tokens[1])]  # behind blocks 8 and 2
    found = inputs.mean(dim=1).flatten(1), tokens[-1][:, 0], *means
    return {f"ridge on {name}": view for name, view in zip(names, found, strict=True)}


def ridge(train_view, test_view):
    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 7)))
    return probe.fit(train_view.numpy(), splits["train"].labels).predict(test_view.numpy()) == test.labels


# %%
seen, asked = views(splits["train"]), views(splits["test"])
baselines = {"majority class": np.bincount(splits["train"].labels).argmax() == splits["test"].labels}
baselines |= {name: ridge(seen[name], asked[name]) for name in seen}
assert (splits["test"].labels == test.labels).all()  # the same images in the same order, so the differences are paired
table = pd.DataFrame({"correct": {name: with_interval(each) for name, each in baselines.items()}})
intervals = [dx.bootstrap_difference(outcome.correct, each) for each in baselines.values()]
table["the policy is ahead by"] = [
    f"{100 * d:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" for d, low, high in intervals
]
table

# %% [markdown]
# The policy is far above chance. But over no ridge is a lead shown: each of these four intervals includes 0. On the
# mean patch token the linear model has as many correct as the policy; it needs eight of the twelve blocks for that.
# On pixels it needs no block at all. So these 120 clothes do not show that training a network was worth it. The fair
# rival at the policy's price is the ridge behind block 2: with a sixth of the blocks it has 84.2 %. Ask the same of
# your images, before you train for longer. With photographs the order may be another one.
#

# %% tags=["numbers"]
numbers(
    training_images=len(splits["train"]),
    validation_images=len(splits["val"]),
    test_images=test.n_images,
    flops_of_exit_1=float(test.flops_fraction[0]),
    flops_of_exit_4=float(test.flops_fraction[-1]),
)

# %% [markdown]
# ## Images that it has never read
#
# The test split is drawn from the same folder. Like it, `new/` was read by no training and no threshold: five images
# of each class. It is a rehearsal of use, not a harder test: files in, answers out.
#
# A record has the scores of all exits. In use there is no record, and the point is *not* to compute all exits. So:
#
# **Build it.** `model.walk(images)` runs the stages one after another, lazily: a stage runs when its output is taken
# from the iterator. Write the loop for one image that stops at its exit. Replace the dots; the cell below the hints has
# a solution.


# %% tags=["build"]
def stop_early(model, image, threshold):
    # image: (3, side, side). model.walk takes a batch (B, 3, side, side); an output has .logits (B, classes).
    # Stop at the first exit whose largest softmax probability reaches the threshold, else at the last exit.
    # Return the class and the exit, two whole numbers counted from 0. Stages behind that exit must not run.
    return ...


check_build(stop_early)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `for exit, output in enumerate(model.walk(image[None])):` takes one output after another. A `return` in it
# leaves the rest uncomputed; `list(...)` would compute all of them.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `output.logits.softmax(dim=-1)[0]` has the probabilities. Return from inside the loop if the largest one reaches the
# threshold, or if this is the last exit: `exit == model.n_exits - 1`. Put `torch.no_grad()` around it.
#
# </details>


# %% tags=["build", "solution"]
def solution(model, image, threshold):
    with torch.no_grad():
        for exit, output in enumerate(model.walk(image[None])):
            probability = output.logits.softmax(dim=-1)[0]
            if probability.max() >= threshold or exit == model.n_exits - 1:
                return int(probability.argmax()), exit


stop_early = stop_early if check_build(stop_early) else solution
check_build(stop_early)

# %% [markdown]
# The library's loop, `dx.infer`, does it for a batch: images that have exited are removed from it. Here both run on the
# new images.
#
# **Predict.** Will the accuracy on them be that of the test split?

# %%
model = run.model(device="cpu")
transform = dx.data.make_transform(model.preprocess)
files = sorted(Path("new").glob("*/*.png"))
pixels = torch.stack([transform(np.asarray(Image.open(file).convert("RGB"))) for file in files])
result = dx.infer(model, pixels, policy)  # stops at each image's exit
yours = [stop_early(model, image, policy.thresholds[0]) for image in pixels]
assert yours == list(zip(result.label.tolist(), result.exit.tolist(), strict=True))  # the same classes and exits
labels = np.array([test.meta.class_names.index(file.parent.name) for file in files])
answers = pd.DataFrame(
    {
        "class": np.array(test.meta.class_names)[labels],
        "predicted": np.array(test.meta.class_names)[result.label],
        "exit": result.exit + 1,
        "confidence": result.confidence.round(2),
    },
    index=[f"{file.parent.name}/{file.name}" for file in files],
)
answers.iloc[::5]

# %%
right = result.label == labels
both = {"new images": right, "test split": outcome.correct}
pd.DataFrame({name: {"correct": c.sum(), "of": len(c), "accuracy": with_interval(c)} for name, c in both.items()}).T

# %% [markdown]
# Of the thirty new images 27 are correct, of the 120 test images 104: 90 and 87 %. That they are so close is no proof:
# with thirty images the interval is 23 points wide.
#
# On the command line: `dmpo-explore predict mine new --flops 0.25`, for files of any folder.
#
# ## The app, and other machines
#
# `dmpo-explore app` (or `scripts/app`) opens all runs under `runs/` in the browser: drag the threshold and see *which*
# of your images exit where. Start it in the folder where you trained, or point `DMPO_EXPLORE_RUNS` to it.
#
# `dmpo-explore export mine --output exported` writes ONNX files that run without torch (it needs
# `pip install "dmpo-explore[onnx]"`); `dx.OnnxEngine` stops at each image's exit as the model does here.
#
# ## Several processes
#
# `torchrun` starts one process per GPU; each takes its share of every batch. It works on a CPU too. Here is one epoch
# of a tiny model in two processes:

# %%
# !OMP_NUM_THREADS=1 python -m torch.distributed.run --standalone --nproc_per_node 2 -m dmpo_explore.cli train \
#     --data images --backbone test_vit --weights random --image-size 32 --exits 2 --epochs 1 \
#     --no-flip --device cpu --name two > train.log 2>&1 || cat train.log
print("there are now the runs", sorted(p.name for p in Path("runs").iterdir()))

# %% [markdown]
# Two processes, one run. `batch_size` counts the images of all processes together, so the number of processes does
# not change the size of a step. (`accelerate launch --cpu --num_processes 2` looks alike but starts a single process;
# it is not run here.)
#
# ## Try it: three exercises
#
# **1.** Which *fixed* exit should a policy be compared with? Write a function of the exits' compute (K,), their
# accuracies on val (K,) and a budget. It returns the most accurate exit within the budget, counted from 1; of equally
# accurate ones the cheapest.

# %% tags=["exercise"]
answer_1 = ...  # answer_1(val.flops_fraction, val.correct.mean(axis=0), 0.25)
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# The deepest exit within the budget is not always the most accurate one; look at exits 2 and 3 on val.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Set the accuracy of exits that are too dear to −1. `argmax` takes the first of equal ones.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# def answer_1(compute, accuracy, budget):
#     return int(np.where(compute <= budget, accuracy, -1).argmax()) + 1
# ```
#
# </details>

# %% [markdown]
# **2.** Write one more baseline, the *nearest mean*: a function of training features (B, p), their labels (B,) and
# other features (M, p). Every class is the mean of its training features. The function returns the label of the nearest
# mean for each of the M.

# %% tags=["exercise"]
answer_2 = ...  # answer_2(seen["ridge on pixels"].numpy(), splits["train"].labels, asked["ridge on pixels"].numpy())
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `np.unique(labels)` has the classes; labels need not begin at 0.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `others[:, None] - means[None]` is (M, C, p). The norm over the last axis is the distance to each mean.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# def answer_2(features, labels, others):
#     found = np.unique(labels)
#     means = np.stack([features[labels == c].mean(axis=0) for c in found])
#     return found[np.linalg.norm(others[:, None] - means[None], axis=2).argmin(axis=1)]
# ```
#
# </details>

# %% [markdown]
# **3.** Every comparison above has an interval by `dx.bootstrap_difference`. Write it yourself, the *paired bootstrap*:
# a function of two arrays, (B,) bool: whether each image is correct under a, and under b. Draw B images with
# replacement, 2,000 times; each time take the accuracy of a less that of b *on the same drawn images*. It returns three
# numbers: the difference on the images themselves, then the 2.5 % and the 97.5 % quantile of the 2,000.

# %% tags=["exercise"]
answer_3 = ...  # called as answer_3(outcome.correct, test.correct[:, 1])
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `np.random.default_rng(0).integers(B, size=(2000, B))` has the numbers of the drawn images, a row per resample.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# *Paired* means that a row indexes both arrays, or their difference: `a.astype(float) - b` is 1, 0 or −1 for an image.
# `np.quantile(values, [0.025, 0.975])` has both ends.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# def answer_3(a, b):
#     difference = a.astype(float) - b
#     drawn = np.random.default_rng(0).integers(len(a), size=(2000, len(a)))
#     low, high = np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975])
#     return difference.mean(), low, high
# ```
#
# </details>

# %% [markdown]
# **Use yours.** Once it passes, this cell takes yours; until then the library's. Beside it stands the interval that a
# and b would have if each drew images of its own, *unpaired*.
#
# **Predict.** Policy against exit 2, and policy against majority class: is the paired interval the narrower one in
# both?


# %%
def unpaired(a, b):
    draws = [np.random.default_rng(seed).binomial(len(x), x.mean(), 2000) / len(x) for seed, x in enumerate((a, b))]
    return a.mean() - b.mean(), *np.quantile(draws[0] - draws[1], [0.025, 0.975])


interval = answer_3 if check_3(answer_3) else dx.bootstrap_difference
others = {"exit 2 for all": test.correct[:, 1], "majority class": baselines["majority class"]}
found = {name: (interval(outcome.correct, of), unpaired(outcome.correct, of)) for name, of in others.items()}
table = pd.DataFrame({"ahead by": {f"policy over {name}": 100 * p[0] for name, (p, _) in found.items()}}).round(1)
for k, kind in enumerate(("paired", "unpaired")):
    ends = [[100 * part for part in each[k][1:]] for each in found.values()]
    table[kind] = [f"{low:+.1f} to {high:+.1f}" for low, high in ends]
    table[f"width, {kind}"] = [f"{high - low:.1f}" for low, high in ends]
chosen = others["majority class"]
print(f"the policy has {outcome.correct[chosen].mean():.0%} of the majority class correct,", end=" ")
print(f"{outcome.correct[~chosen].mean():.0%} of the others")
table

# %% [markdown]
# Not in both. Policy and exit 2 tend to be correct on the same images. What they share cancels, and the paired interval
# is little more than half as wide. But the policy has 65 % of the majority class correct, and 91 % of the other
# classes. So it tends to be incorrect where that baseline is correct, and the paired interval is the *wider* one.
# Pairing is no trick to narrow an interval. It is right in both rows, because the images are the same.
#
# ## What you cannot conclude
#
# - *That your model is this good.* There are 120 test images, so one of them is 0.8 points. Report an interval
#   (`dx.bootstrap_difference`) or collect more.
# - *That a random division is a fair test.* If several images show the same thing, put them into one split
#   yourself: make folders `train`, `val`, `test`.
# - *That fewer FLOPs are worth it.* Few classes may need no network at all: compare with a linear model first.
# - *That clothes of 28 pixels stand for photographs.* Depth, size of the input and baselines differ there.
# - *That more processes learn more.* They may be faster, where there are cores or GPUs for them; nothing else.
#
# ## Words
#
# | word | here |
# |---|---|
# | train, val, test | images to learn from; to choose and fit thresholds on; to read last |
# | baseline | the simplest model that a result is compared with: a class, a linear model |
# | record | the scores of all exits for a split, computed once |
# | policy | the rule that decides at which exit an image stops |
# | flip | training on mirrored images as well |
# | export | the model as files for another machine |
#
# ## References
#
# - The method: [Decoupled Multi-Predictor Optimization](https://arxiv.org/abs/2511.03245), ICCV 2025.
# - The tuning: [LoRA](https://arxiv.org/abs/2106.09685), Hu et al. 2021.
# - Budgets for a batch of images: [MSDNet](https://arxiv.org/abs/1703.09844), Huang et al. 2018.
# - The images: [Caltech-101](https://doi.org/10.22002/D1.20086), CC BY 4.0, where it is on your computer; else
#   [Fashion-MNIST](https://arxiv.org/abs/1708.07747), MIT licence.
#
# Next: [08 · Which images exit early, and why?](08_which_images_exit_early.ipynb)
