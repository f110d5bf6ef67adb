# %% [markdown]
# # 8 · Which images exit early, and why?
#
# *Which images stop at the first exit, which need the whole network, and what distinguishes them?*
#
# **Goal.** Look at the images themselves: the most and the least certain ones, the classes and the confusions behind
# late exits. Look at the errors that early exits add and avoid, and at the decision for single images. Then test four
# explanations against each other.
#
# **Time.** 30 minutes to read and write, a minute to run.
#
# **Before.** [00](00_quickstart.ipynb); [05](05_thresholds_and_compute.ipynb) helps. Words are at the end
# and in the [glossary](../docs/glossary.md); the method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/08_which_images_exit_early.ipynb)

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

dx.course.network("exit")

# %% tags=["setup"]
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from sklearn.metrics import roc_auc_score

import dmpo_explore as dx
from dmpo_explore.course.exercises.which_images_exit_early import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import choice, live, numbers, slider
from dmpo_explore.course.moving import travel

run = dx.load_run("demo")
calibration, test = run.record("calibration"), run.record("test")
names = np.array(test.meta.class_names)
images = run.image_set("test")
pixels = np.stack([images[i] for i in range(test.n_images)])  # (10000, 28, 28, 3)
exit_names = [f"exit {k + 1}" for k in range(test.n_exits)]

policy = dx.fit_policy(calibration, flops=0.30)  # confidence; fitted on calibration, applied to test
outcome = dx.apply(policy, test)
exits, late = outcome.exits, outcome.exits > 0  # late: it does not exit at exit 1
classes = names[test.labels]


def wall(rows, at, **options):
    """Rows of images (title → their numbers), with what exit ``at`` predicts: one exit, or one for every image."""
    shown = dx.Outcome(test, np.broadcast_to(at, test.n_images))
    about = zip(classes, names[shown.prediction], shown.confidence, strict=True)
    texts = [f"image {i}: {label}<br>predicted {name}, {sure:.1%}" for i, (label, name, sure) in enumerate(about)]
    return dx.figures.image_wall_figure(pixels, rows, shown.correct, texts, names[shown.prediction], **options)


# %% [markdown]
# *Early* means *at exit 1* below, and *late* all exits after it. The threshold is that of a budget of 30 % of the
# compute, 0.755, so every statement about "late" images is one about this threshold.
#
# ## Watch them
#
# In 00 the first 40 test images travelled along the trunk: 34 of them exited at exit 1, as 85 of 100 of all test
# images do. Here are the first 30 that did *not*. A blue frame: the prediction is correct; a dashed orange one: it is
# incorrect.
#
# **Predict.** Which clothes will they be? And of those that travel to the last exit, how many will be correct?

# %%
travel(images, outcome, np.flatnonzero(late)[:30])

# %% [markdown]
# Upper clothes and dresses, 26 of 30. Half of the thirty need only one exit more, and 14 of those 16 are correct
# there. Seven travel to the last exit, where two are correct. Of all 362 images that reach it exit 1 has 38 % correct
# and the last exit 44 %. Of those that stop at exit 1, 95 % are correct.
#
# ## By class
#
# **Predict.** Ten kinds of clothes: which three exit late most often? Is there one that nearly always exits at exit 1?

# %%
dx.figures.class_exit_figure(test.labels, exits, names, exit_names)

# %% [markdown]
# Each row sums to 100 %. Four of ten shirts exit late, three of a hundred trousers. Shirts, coats and T-shirts are the
# three: with 1,000 images per class a 95 % interval is at most 3 points to each side, and the next class is 6 points
# away. Five of six late images are upper clothes or dresses; shoes, bags and trousers hardly ever exit late.
#
# So is it *the class* that is hard? Some shirts exit at once, some trousers at the end. Look at them.
#
# ## Most certain, least certain
#
# **Predict.** Which classes will stand in the row of images that exit 1 is most certain of? And will the images that
# exit 1 is least certain of be the same as those of exit 6?


# %%
def extremes(k, n=10):
    order = np.argsort(test.confidence[:, k], kind="stable")
    return {"most certain": order[::-1][:n], "least certain": order[:n]}


wall(extremes(0), 0)

# %% [markdown]
# Below each image: what exit 1 predicts. The most certain ones are bags with a handle, one like the other, all correct.
# Among the least certain ones are a child with trousers, shorts and patterned clothes: their classes are there, but not
# in this shape. Now the last exit, at six times the depth:

# %%
wall(extremes(5), 5)

# %% [markdown]
# Bags again. The least certain ones are of the same kind, and yet others: of the hundred images that exit 1 is least
# certain of, the last exit has 14 among its own hundred. So the two exits doubt different images most. But depth
# removes few doubts: of the hundred, 62 are still below the threshold at the last exit, of all images 9 %.
#
# ## Sort them by the threshold
#
# One row per exit. Of the images that exit there, it shows the eight with the lowest confidence, or the highest. The
# numbers beside the rows count all images.
#
# **Predict.** Raise the threshold. Which images leave the first row first: its least or its most certain ones? At
# which threshold do images begin to *collect* at the last exit? Then choose a class.


# %% tags=["live"]
def rows_of(found, chosen, sign):
    sure = sign * dx.Outcome(test, found).confidence
    members = [np.flatnonzero(chosen & (found == k)) for k in range(test.n_exits)]
    first = [rows[np.argsort(sure[rows], kind="stable")][:8] for rows in members]
    return {f"{exit_names[k]}: {len(members[k]):,}": first[k] for k in range(test.n_exits)}


def sorted_wall(threshold, clothes, first):
    found = dx.fit_policy(calibration, threshold=threshold).exits(test)
    chosen = (classes == clothes) | (clothes == "all")
    share, hits = test.flops_fraction[found][chosen].mean(), dx.Outcome(test, found).correct[chosen].mean()
    figure = wall(rows_of(found, chosen, 1 if first == "least certain" else -1), found, columns=8)
    return figure, f"threshold {threshold:.2f}: compute {share:.1%}, accuracy {hits:.1%}"


controls = {
    "clothes": choice("class", ["all", *names.tolist()]),
    "first": choice("first in a row", ["least certain", "most certain"]),
}
live(sorted_wall, threshold=slider("threshold", 0.3, 1.0, 0.76, 0.01), **controls)

# %% [markdown]
# The least certain images of a row exit later first: a row empties from its left. From about 0.5 on more images reach
# the last exit than stop at exit 5; at 0.76 it holds more than exits 4 and 5 together. An image that was not certain
# at exit 1 becomes certain soon or not at all. At 0.99 it holds three of ten images, and at 1.0 nearly all, correct or
# not.
#
# ## Between which classes?
#
# An exit that is not certain spreads its probability over several classes. Take the two most probable ones of exit 1.
#
# **Predict.** Which pair of classes is behind most late exits? And which class is in most of the pairs?


# %%
def dots(table, title):
    sides = {"array": table["high"] - table["share"], "arrayminus": table["share"] - table["low"]}
    look = {"size": 9, "color": dx.figures.MODEL_COLOURS[0]}
    line = go.Scatter(x=table["share"], y=table.index, error_x={"type": "data"} | sides, mode="markers", marker=look)
    figure = dx.figures.depth_figure({}, "").add_trace(line).update_layout(height=330)
    return figure.update_xaxes(title=title).update_yaxes(autorange="reversed")


two = np.sort(np.argsort(-test.logits[:, 0], axis=1)[:, :2], axis=1)  # (10000, 2) classes
pairs = pd.Series([f"{names[a]} or {names[b]}" for a, b in two])
table = pd.DataFrame({"late": late, "pair": pairs}).groupby("pair")["late"].agg(images="size", late="sum", share="mean")
table = table.sort_values("late", ascending=False)
half = 1.96 * (table["share"] * (1 - table["share"]) / table["images"]) ** 0.5
table = table.assign(low=table["share"] - half, high=table["share"] + half)
table.assign(of_all_late=table["late"] / late.sum()).head(8).round(3)

# %%
dots(table.head(8), "share of the pair's images that exit late, 95 % interval").update_xaxes(tickformat=".0%")

# %% [markdown]
# Five pairs of 45 hold two thirds of the late images, and *Shirt* is in three of them. Where sneaker and ankle boot
# are exit 1's two most probable classes, 93 in 100 images exit early all the same. So late images lie *between*
# classes, and shirts lie between four others. That is one half of the answer to "why".
#
# ## Which explanation holds?
#
# Four explanations, each one number per image, none of which reads the model's scores for it:
#
# - **brightness**: the mean of the pixels. Dark images carry less light, perhaps less to see;
# - **size**: the share of the 784 pixels that are not black;
# - **class**: how often *calibration* images of its class exit late;
# - **ambiguity**: of its ten nearest test images by pixels (cosine), the share with another label.
#
# The **AUC** is the probability that a late image has a higher number than an early one: 0.5 is chance, 1 a
# perfect explanation.
#
# **Predict.** Rank the four.

# %%
flat = torch.nn.functional.normalize(torch.tensor(pixels[..., 0].reshape(10_000, -1), dtype=torch.float32))
near = torch.cat([(part @ flat.T).topk(11).indices for part in flat.split(500)]).numpy()
near = np.array([row[row != i][:10] for i, row in enumerate(near)])  # without the image itself
by_class = pd.Series(policy.exits(calibration) > 0).groupby(calibration.labels).mean().to_numpy()
explanations = {
    "brightness": pixels.mean(axis=(1, 2, 3)),
    "size": (pixels[..., 0] > 20).mean(axis=(1, 2)),
    "class": by_class[test.labels],
    "ambiguity": (test.labels[near] != test.labels[:, None]).mean(axis=1),
}


# %%
def auc_row(values, draws=200):
    samples = [np.random.default_rng(i).integers(0, len(late), len(late)) for i in range(draws)]
    low, high = np.quantile([roc_auc_score(late[rows], values[rows]) for rows in samples], [0.025, 0.975])
    return {"share": roc_auc_score(late, values), "low": low, "high": high}


scored = pd.DataFrame({name: auc_row(values) for name, values in explanations.items()}).T
dots(scored, "AUC for a late exit, 95 % interval").update_xaxes(range=[0.5, 0.9])

# %% [markdown]
# Ambiguity is the best of the four, ahead of the class by far more than the intervals: an image tends to exit late if
# the images that look most like it carry other labels. It even explains *within* a class, where the class is no help:

# %%
within = [roc_auc_score(late[test.labels == c], explanations["ambiguity"][test.labels == c]) for c in range(10)]
pd.Series(within, index=names, name="AUC of ambiguity within the class").round(2).to_frame().T

# %% [markdown]
# And the share of late images, by ambiguity:

# %%
groups = pd.cut(explanations["ambiguity"], [-0.01, 0.05, 0.35, 0.65, 1], labels=["0", "0.1–0.3", "0.4–0.6", "0.7–1"])
pd.Series(late).groupby(groups, observed=True).agg(images="size", late="mean").round(3)

# %% [markdown]
# From 2 to 41 late images per hundred. Yet even of the most ambiguous images more than half exit at exit 1. The model
# measures images by more than pixels; and some are confident *mistakes*, to which we come now.
#
# ## Similar images
#
# Similar for the *model*, this time: nearest by the logits of all exits (`dx.analysis.novelty_detector`). Left an
# image, then its six neighbours; below each, where it exits.
#
# **Predict.** Do an image's neighbours exit where it exits?

# %%
detector = dx.analysis.novelty_detector(test)
asked = [0, 23, 67, 290]
neighbours = {i: detector.nearest(test.subset([i]), 6, without=i) for i in asked}
rows = {f"{i}: {classes[i]}": [i, *neighbours[i]] for i in asked}
dx.figures.image_wall_figure(pixels, rows, outcome.correct, classes, [exit_names[k] for k in exits])

# %%
some = np.random.default_rng(0).permutation(test.n_images)[:400]
model = np.array([late[detector.nearest(test.subset([i]), 5, without=i)].mean() for i in some])
shares = {"by logits": model, "by pixels": late[near[some, :5]].mean(axis=1)}
pd.DataFrame({name: pd.Series(share).groupby(late[some]).mean() for name, share in shares.items()}).rename(
    {False: "neighbours of an early image", True: "neighbours of a late image"}
).round(2)

# %% [markdown]
# Share of the five neighbours that exit late, on 400 images. Neighbours by logits share the exit more often, which is
# no discovery: the confidence that decides is computed from those logits. Neighbours by pixels, which never passed the
# model, show the same, more weakly.
#
# ## Two kinds of mistakes
#
# Early exit changes the prediction of some images. Two of these changes matter:
#
# - an **early-exit error**: incorrect at its exit, correct at the last exit;
# - **overthinking avoided**: correct at its exit, incorrect at the last one.
#
# **Build it.** Write both: from `correct` (B, K), whether exit k is correct for image b, and `exits` (B,) to two masks
# (B,), in this order. Replace the dots; the cell below the hints has a solution.


# %% tags=["build"]
def mistakes(correct, exits):
    # here: (B,) whether the prediction at the image's exit is correct; last: (B,) whether that of the last exit is
    return ..., ...


check_build(mistakes)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `correct[np.arange(len(exits)), exits]` takes one entry of each row.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `&` joins two masks, `~` negates one. An early-exit error is `~here` and `last`.
#
# </details>


# %% tags=["build", "solution"]
def solution(correct, exits):
    here = correct[np.arange(len(exits)), exits]
    last = correct[:, -1]
    return ~here & last, here & ~last


mistakes = mistakes if check_build(mistakes) else solution
check_build(mistakes)

# %% [markdown]
# **Predict.** At this threshold 85 % of the images skip five sixths of the blocks. Which of the two is more frequent,
# and by how much: twice, ten times?

# %%
errors, avoided = mistakes(test.correct, exits)
hopeless = ~test.correct.any(axis=1)  # no exit is correct
difference = dx.bootstrap_difference(outcome.correct, test.correct[:, -1])
counts = {"early-exit error": errors, "overthinking avoided": avoided, "no exit is correct": hopeless}
pd.Series({name: int(mask.sum()) for name, mask in counts.items()}, name="of 10,000 images").to_frame().T

# %%
points = [100 * part for part in difference]
print("early exit minus last exit: {:+.2f} points, 95 % interval {:+.2f} to {:+.2f}".format(*points))

# %%
sure = outcome.confidence
first = {name: np.flatnonzero(mask)[np.argsort(-sure[mask], kind="stable")][:10] for name, mask in counts.items()}
wall(first, exits)

# %% [markdown]
# Nearly as many predictions are saved as are lost, and the interval of the difference includes 0: at this threshold the
# accuracy of early exit cannot be distinguished from the whole network's. Three times as many images are incorrect at
# *every* exit; no threshold helps them.
#
# The rows show the most confident ones, with what their exit predicts. Exit 1 takes sneakers for sandals, and wide
# upper clothes for bags: shapes seen coarsely. The last row is another kind of mistake. Its first image is labelled
# *T-shirt/top*, its second *Trouser*; exit 1 predicts *Dress* for both, with 99.8 %. What do you see? Confident
# mistakes of all exits are a good place to look for incorrect labels.
#
# ## One image at a time
#
# What the policy compares at every exit, and why it stops there. Bars behind the image's exit are never computed.
#
# **Predict.** For *overthinking avoided*: what happens to the confidence behind the exit, does it fall?


# %% tags=["live"]
def trace(number, kind):
    i = kinds[kind][number]
    answers = names[test.prediction[i]].tolist()
    shown = pixels[i], answers, test.confidence[i], test.correct[i], exits[i], policy.thresholds[0]
    sentence = dx.analysis.trace_decision(test, policy, i).sentence()
    return dx.figures.exit_predictions_figure(*shown), f"Image {i}: {classes[i]}. {sentence}"


masks = {"early": ~late, "early-exit error": outcome.early_exit_error, "to the last exit": exits == 5}
masks |= {"overthinking avoided": outcome.correct & ~test.correct[:, -1]}
kinds = {name: np.flatnonzero(mask) for name, mask in masks.items()}
live(trace, number=slider("number", 0, 99, 3), kind=choice("kind", list(kinds), "overthinking avoided"))

# %%
change = test.confidence[avoided, -1] - sure[avoided]
print(
    f"overthinking avoided: median confidence {np.median(sure[avoided]):.0%} at the exit, "
    f"{np.median(test.confidence[avoided, -1]):.0%} at the last; it rises for {(change > 0).mean():.0%} of them"
)

# %% [markdown]
# It falls, for most of them: from a median of 84 % to 62 %. So the last exit is no authority that early exit ignores:
# it is unsure about just these images. (Partly by selection: they were chosen because they were confident at one exit
# and incorrect at another.)
#
# **Predict.** And what does depth do for the images that exit late: does it help more of them than it harms?


# %%
def moved(before, after):
    return {"become correct": int((~before & after).sum()), "become incorrect": int((before & ~after).sum())}


first, own, end = test.correct[:, 0], outcome.correct, test.correct[:, -1]
ways = {"exit 1 to own exit, late images": moved(first[late], own[late]), "own exit to the last": moved(own, end)}
pd.DataFrame(ways).T

# %% tags=["numbers"]
numbers(
    shirts_at_exit_1=float((~late)[classes == "Shirt"].mean()),
    trousers_at_exit_1=float((~late)[classes == "Trouser"].mean()),
    upper_clothes_among_the_late=float(np.isin(classes[late], names[[0, 2, 3, 4, 6]]).mean()),
    early_exit_errors=int(errors.sum()),
    overthinking_avoided=int(avoided.sum()),
    no_exit_is_correct=int(hopeless.sum()),
)

# %% [markdown]
# So, why does an image exit early? Those images do that look like many others with their label, and like few with
# another one: shirts look like four other classes, trousers like none. And depth does help the images that exit late.
# Of these 1,479, exit 1 has 54 % correct and their own exit 68 %: 321 become correct on the way, 120 incorrect. Only
# behind the chosen exit is it even, 146 to 132.
#
# ## Try it: three exercises
#
# **1.** With the policy from above: images of which class are most often taken for a shirt *at their exit*? Give its
# name.

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `outcome.prediction` and `test.labels` are class numbers; *Shirt* is number 6.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Keep the labels where the prediction is 6 and the label is not, and count them with `np.bincount`.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# answer_1 = "T-shirt/top"  # names[np.bincount(test.labels[(outcome.prediction == 6) & (test.labels != 6)]).argmax()]
# ```
#
# </details>

# %% [markdown]
# **2.** Of the images that are incorrect at their exit: for which share is *no* exit correct, so that no threshold
# helps?

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `test.correct` is (10000, 6). An image without a correct exit is incorrect at its exit, too.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Divide the number of images with `~test.correct.any(axis=1)` by that of `~outcome.correct`.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# answer_2 = 463 / 867  # (~test.correct.any(axis=1)).sum() / (~outcome.correct).sum()
# ```
#
# </details>

# %% [markdown]
# **3.** Which images move when the slider moves? Write a function of two thresholds that returns the numbers of the
# test images whose exit differs between them.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `dx.fit_policy(calibration, threshold=0.9).exits(test)` gives the exits at one threshold.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `np.flatnonzero(a != b)` gives the places where two arrays differ.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# def answer_3(low, high):
#     before, after = (dx.fit_policy(calibration, threshold=t).exits(test) for t in (low, high))
#     return np.flatnonzero(before != after)
# ```
#
# </details>

# %% [markdown]
# ## What you cannot conclude
#
# - *That ambiguity causes a late exit.* It goes together with one. To show a cause, one would change the ambiguity of
#   an image and nothing else.
# - *That late images are hard for people.* No person's answers were recorded here; ambiguity is read from the
#   labels of similar images.
# - *That another model sorts the images alike.* One run, one seed, one threshold. Load `demo-naive` and look.
# - *That a mistake of all exits is the model's.* Some labels of this data set are wrong; a wall shows candidates,
#   and no proof.
# - *Anything about photographs.* There, size, background and pose differ, too.
# - *That four numbers are all there is.* Others may explain more; the AUC of a fifth one takes you three lines.
#
# ## Words
#
# | word | here |
# |---|---|
# | early, late | at exit 1; at any exit after it |
# | threshold | the confidence from which on an image exits |
# | early-exit error | incorrect at its exit, correct at the last exit |
# | overthinking avoided | correct at its exit, incorrect at the last exit |
# | ambiguity | of an image's ten nearest images, the share with another label |
# | AUC | the probability that a late image has a higher number than an early one |
#
# ## References
#
# - Confidence as a reason to stop: [BranchyNet](https://arxiv.org/abs/1709.01686), Teerapittayanon et al. 2016.
# - Overthinking: [Shallow-Deep Networks](https://arxiv.org/abs/1810.07052), Kaya et al. 2019.
# - Nearest neighbours for novelty: [Sun et al. 2022](https://arxiv.org/abs/2204.06507).
# - The images: [Fashion-MNIST](https://arxiv.org/abs/1708.07747), Xiao et al. 2017, MIT licence.
#
# You can drag the same slider over 10,000 images in the app: `scripts/app`.
#
# Next: back to [00 · Quickstart](00_quickstart.ipynb)
