# %% [markdown]
# # 8 · Which images exit early, and why?
#
# *Which images exit at the first exit, which need the whole network, and what distinguishes them?*
#
# **Goal.** Look at the images themselves: the most and the least certain ones, the classes and the confusions behind
# late exits. Test four explanations against each other, and look whether other models sort the images alike. Then look
# at the errors that early exits add and avoid.
#
# **Time.** 40 minutes to read; about 100 with the build, the predictions and the exercises. A minute to run.
#
# **Before.** [00](00_quickstart.ipynb); [05](05_thresholds_and_compute.ipynb) helps. Words are at the end
# and in the [glossary](../docs/glossary.md); the method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% tags=["network"]
import dmpo_explore as dx

dx.course.network("exit")

# %% [markdown]
# At an exit, the right box of the drawing, a threshold decides whether an image goes deeper. Here you look at the
# images on both sides of that decision.

# %% tags=["setup"]
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dmpo_explore as dx
from dmpo_explore.course.exercises.which_images_exit_early import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import choice, live, numbers, slider
from dmpo_explore.course.moving import travel

run = dx.load_run("fashion")
calibration, test = run.record("calibration"), run.record("test")
names = np.array(test.meta.class_names)
short = np.array([name.removesuffix("/top") for name in names], object)
images = run.image_set("test")
pixels = np.stack([images[i] for i in range(test.n_images)])  # (10000, 28, 28, 3)
exit_names = [f"exit {k + 1}" for k in range(test.n_exits)]

policy = dx.fit_policy(calibration, flops=0.30)  # confidence; fitted on calibration, applied to test
outcome = dx.apply(policy, test)
exits, late = outcome.exits, outcome.exits > 0  # late: it does not exit at exit 1
classes = names[test.labels]


def wall(rows, at, **options):
    # rows: title → numbers of its images; at: an exit, or one for every image
    shown = dx.Outcome(test, np.broadcast_to(at, test.n_images))
    below = short[test.labels] + np.where(shown.correct, "", "\n→ " + short[shown.prediction])
    texts = [f"image {i}, confidence {sure:.1%}" for i, sure in enumerate(shown.confidence)]
    return dx.figures.image_wall_figure(pixels, rows, shown.correct, texts, below, **options)


# %% [markdown]
# *Early* means *at exit 1* below, and *late* all exits after it. The threshold is that of a budget of 30 % of the
# compute, 0.755, so every statement about "late" images is one about this threshold.
#
# ## Watch them
#
# In 00 the first 40 test images travelled along the trunk, and most of them exited at exit 1. Here are the first 30
# that did *not*. A blue frame: the prediction is correct; a dashed orange one: it is incorrect.
#
# **Predict.** Which clothes will they be? And of those that travel to the last exit, how many will be correct?

# %%
thirty = np.flatnonzero(late)[:30]
travel(images, outcome, thirty)

# %%
pd.Series(classes[thirty]).value_counts().rename("of the 30").to_frame().T

# %% [markdown]
# Upper clothes and dresses, 26 of 30. Half of the thirty need only one exit more, and most of those are correct there.
# Seven travel to the last exit, where two are correct. Are thirty images enough to say so? All 10,000, by their
# exit:

# %%
correct = {"exit 1": test.correct[:, 0], "own exit": outcome.correct, "last exit": test.correct[:, -1]}
by_exit = pd.DataFrame(correct).groupby(np.array(exit_names)[exits]).mean().add_prefix("correct at ").round(2)
step = pd.Series(outcome.correct.astype(int) - test.correct[:, 0]).groupby(np.array(exit_names)[exits])
gains = 100 * step.mean(), 196 * step.sem()  # points of the own exit over exit 1, and half of the 95 % interval
by_exit.assign(images=np.bincount(exits), gain=[f"{a:+.1f} ± {b:.1f}" for a, b in zip(*gains, strict=True)])

# %% [markdown]
# Exit 1 takes 85 of 100 images, with 95 % of them correct. For the 362 that travel to the end no gain is shown: 38 %
# at exit 1, 44 % at the last, a difference of 6 ± 6. For those that exit between, their own exit gains 14 to 20
# points, and each interval excludes 0. (Partly by selection: an image exits where an exit happens to be certain.)
#
# ## By class
#
# **Predict.** Ten kinds of clothes: which three exit late most often? Is there one that nearly always exits at exit 1?

# %%
dx.figures.class_exit_figure(test.labels, exits, names, exit_names)

# %% [markdown]
# Each row sums to 100 %. Four of ten shirts exit late, three of a hundred trousers. Shirts, coats and T-shirts are the
# three: with 1,000 images per class a 95 % interval is about 3 points to each side, and the next class is 6 points
# away. Of shoes, bags and trousers at most 8 in 100 exit late.
#
# So is it *the class* that is hard? Some shirts exit at once, some trousers at the end. Look at them.
#
# ## Most certain, least certain
#
# **Predict.** Which classes will stand in the row of images that exit 1 is most certain of? And will the images that
# exit 1 is least certain of be the same as those of exit 6?


# %%
def extremes(k, n=9):
    order = np.argsort(test.confidence[:, k], kind="stable")
    return {"most certain": order[::-1][:n], "least certain": order[:n]}


wall(extremes(0), 0)

# %% [markdown]
# Below each image: its label, and behind the arrow an incorrect prediction. The most certain ones are bags with a
# handle, one like the other, all correct. Among the least certain ones are a person with trousers, shorts and patterned
# clothes. Now the last exit, twelve blocks deep:

# %%
wall(extremes(5), 5)

# %%
unsure, unsure_at_last = (extremes(k, 100)["least certain"] for k in (0, 5))
below = test.confidence[:, -1] < policy.thresholds[0]
print(f"of exit 1's hundred least certain images {np.isin(unsure, unsure_at_last).sum()} are among the last exit's")
print(f"below the threshold at the last exit: {below[unsure].mean():.0%} of them, {below.mean():.0%} of all images")

# %% [markdown]
# Bags again. The least certain ones are others: of the hundred images that exit 1 is least certain of, the last exit
# has 14 among its own hundred. By chance it would be one. So the two exits doubt different images most. Still, doubts
# of exit 1 often remain: 62 of its hundred are below the threshold at the last exit, against 9 % of all images.
#
# ## Sort them by the threshold
#
# One row per exit. Of the images that exit there, it shows the five with the lowest confidence, or the highest. The
# numbers beside the rows count all images.
#
# **Predict.** Raise the threshold. Which images move out of the first row first: its least or its most certain ones? At
# which threshold do images begin to *collect* at the last exit? Then choose a class.


# %% tags=["live"]
def rows_of(found, chosen, sign):
    sure = sign * dx.Outcome(test, found).confidence
    members = [np.flatnonzero(chosen & (found == k)) for k in range(test.n_exits)]
    first = [rows[np.argsort(sure[rows], kind="stable")][:5] for rows in members]
    return {f"{exit_names[k]}: {len(members[k]):,}": first[k] for k in range(test.n_exits)}


def sorted_wall(threshold, clothes, first):
    found = dx.fit_policy(calibration, threshold=threshold).exits(test)
    chosen = (classes == clothes) | (clothes == "all")
    share, hits = test.flops_fraction[found][chosen].mean(), dx.Outcome(test, found).correct[chosen].mean()
    figure = wall(rows_of(found, chosen, 1 if first == "least certain" else -1), found, columns=5)
    return figure, f"threshold {threshold:.3f}: compute {share:.1%}, accuracy {hits:.1%}"


controls = {
    "clothes": choice("class", ["all", *names.tolist()]),
    "first": choice("first in a row", ["least certain", "most certain"]),
}
live(sorted_wall, threshold=slider("threshold", 0.3, 1.0, 0.755, 0.005), **controls)

# %%
steps = {t: dx.fit_policy(calibration, threshold=t).exits(test) for t in (0.3, 0.4, 0.5, 0.6, 0.755, 0.9, 0.99, 1.0)}
pd.DataFrame({t: np.bincount(found, minlength=6) for t, found in steps.items()}, index=exit_names).T.rename_axis(
    "threshold"
)

# %% [markdown]
# The least certain images of a row exit later first: a row empties from its left. From about 0.5 on more images reach
# the last exit than exit at exit 5; at 0.755 it holds more than exits 4 and 5 together. Most images that exit 1 is not
# certain of exit at exit 2 or 3, or at the end. At 0.99 the last exit holds three of ten images. At 1.0 it holds nearly
# all: it has no threshold and takes what is left. (82 images exit before it even then: there float32 rounds their
# confidence to 1.)
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
# *T-shirt/top or Shirt*: that pair alone has 19 % of the late images. Five pairs of 45 hold two thirds of them, and
# *Shirt* is in three of the five. Where sneaker and ankle boot are exit 1's two most probable classes, 93 in 100 images
# exit early all the same. So late images tend to lie between certain pairs of classes, and shirts are in four such
# pairs. But the pair is read from the model's own scores. Can the *images* explain a late exit, too?
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
def aucs(values, of, draws=300):
    samples = [np.random.default_rng(i).choice(of, len(of)) for i in range(draws)]  # the same ones for all values
    return np.array([roc_auc_score(late[rows], values[rows]) for rows in [of, *samples]])


def with_interval(found):
    low, high = np.quantile(found[1:], [0.025, 0.975])
    return {"share": found[0], "low": low, "high": high}


found = {name: aucs(values, np.arange(len(late))) for name, values in explanations.items()}
found["ambiguity minus class"] = found["ambiguity"] - found["class"]
scored = pd.DataFrame({name: with_interval(values) for name, values in found.items()}).T
scored.rename(columns={"share": "AUC"}).round(3)

# %%
dots(scored.head(4), "AUC for a late exit, 95 % interval").update_xaxes(range=[0.5, 0.9])

# %% [markdown]
# Ambiguity is the best of the four, ahead of the class by more than chance: the interval of the difference, over the
# same samples of images, excludes 0. An image tends to exit late if the images that look most like it carry other
# labels.
#
# The order is ambiguity, class, size, brightness. Brightness is on the other side of its guess: with an AUC of 0.60 it
# is *bright* images that tend to exit late, not dark ones.
#
# **All four at once.** Explanations overlap: shirts are ambiguous, and shoes are small. A *logistic regression* on all
# four is fitted on one half of the images and read on the other. Then each is left out in turn: what it loses is what
# only this explanation has. The last row leaves out two.
#
# **Predict.** Which can be left out without a loss? And does size or brightness add anything?

# %%
half_of = np.random.default_rng(0).permutation(len(late)) < len(late) // 2  # True: to fit on
columns = {name: values if name != "class" else np.log(values / (1 - values)) for name, values in explanations.items()}


def joint(names):
    x = np.stack([columns[name] for name in names], axis=1)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[half_of], late[half_of])
    return aucs(fitted.decision_function(x), np.flatnonzero(~half_of))


full = joint(list(columns))
rows = {"all four": with_interval(full)}
for left_out in [(name,) for name in columns] + [("brightness", "size")]:
    without, title = joint([other for other in columns if other not in left_out]), f"without {' and '.join(left_out)}"
    rows[title] = {"share": without[0]}
    rows[title] |= {f"loss, {end}": value for end, value in with_interval(full - without).items()}
table = pd.DataFrame(rows).T.rename(columns={"share": "AUC", "loss, share": "loss"})
(table.round(3) + 0).astype(object).fillna("–")

# %% [markdown]
# Together they have an AUC of 0.85, a little more than ambiguity alone. Without brightness nothing is lost, and without
# size nothing is lost. Could the two replace each other? The last row leaves out both, and nothing is lost there,
# either (at most 0.001). Without the class 0.02 is lost, without ambiguity 0.10, and both intervals lie above 0. So the
# class has something that the other three lack, and ambiguity has the most.
#
# Ambiguity even explains *within* a class, where the class is no help:

# %%
by_label = pd.DataFrame({"late": late, "mean ambiguity": explanations["ambiguity"]}).groupby(classes)
within = {name: with_interval(aucs(explanations["ambiguity"], np.flatnonzero(classes == name))) for name in names}
table = pd.DataFrame(within).T.rename(columns={"share": "AUC"}).round(2)
table.join(by_label.agg({"late": "sum", "mean ambiguity": "mean"}).round(2)).sort_values("AUC")

# %% [markdown]
# Every interval lies above 0.5, but ambiguity separates coats and shirts less well than trousers and dresses. Sandals
# are an exception: their neighbours are mixed, and yet few of them exit late. And the share of late images, by
# ambiguity:

# %%
groups = pd.cut(explanations["ambiguity"], [-0.01, 0.05, 0.35, 0.65, 1], labels=["0", "0.1–0.3", "0.4–0.6", "0.7–1"])
table = pd.Series(late).groupby(groups, observed=True).agg(images="size", late="mean")
half = 1.96 * (table["late"] * (1 - table["late"]) / table["images"]) ** 0.5
table.assign(low=table["late"] - half, high=table["late"] + half).round(3)

# %% [markdown]
# From 2 to 41 late images per hundred. Yet even of the most ambiguous images more than half exit at exit 1: the
# explanation is a partial one.
#
# ## Do other models sort the images alike?
#
# All this was `fashion`. Here are `fashion-naive`, the same backbone with linear exits, and `demo-cnn`, DMPO on an
# EfficientNet. Each has a policy of its own, fitted for the same budget.
#
# **Predict.** An image exits late in `fashion`. Is it late in the others, too? In which more often?

# %%
rows = {}
for name in ("fashion", "fashion-naive", "demo-cnn"):
    record = dx.load_run(name).record("test")
    other = dx.fit_policy(dx.load_run(name).record("calibration"), flops=0.30).exits(record)
    ranks = np.stack([run.record("test").confidence[:, 0], record.confidence[:, 0]]).argsort(axis=1).argsort(axis=1)
    rows[name] = {
        "late": (other > 0).mean(),
        "of demo's late": (other > 0)[late].mean(),
        "of demo's early": (other > 0)[~late].mean(),
        "rank correlation": np.corrcoef(ranks)[0, 1],
        "AUC of ambiguity": roc_auc_score(other > 0, explanations["ambiguity"]),
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# Shares of images that exit late: of all, of those that are late in `fashion`, and of those that are early there. Of
# `fashion`'s late images 81 % are late in `fashion-naive`, too, and 71 % in the CNN; of its early ones about a quarter.
# So most of `fashion`'s late images are late in the others, too; theirs are a set twice as large. Exit 1's confidences
# rank all images much alike (correlation 0.80 and 0.74). Ambiguity goes with late exits of all three. Both others send
# twice as many images deeper at this budget. Poorer first exits may be a reason, or another compute of exit 1; that is
# not tested. So the models differ in how *many* images exit late, and share much of the order.
#
# ## Two kinds of mistakes
#
# Early exit changes the prediction of some images. Two of these changes matter:
#
# - an **early-exit error**: incorrect at its exit, correct at the last exit;
# - **overthinking avoided**: correct at its exit, incorrect at the last one.
#
# **Predict.** At this threshold 85 % of the images skip five sixths of the blocks. Which of the two is more frequent,
# and by how much: twice, ten times?
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
# Both on the 10,000 test images, and those that no exit has correct:

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
first = {name: np.flatnonzero(mask)[np.argsort(-sure[mask], kind="stable")][:8] for name, mask in counts.items()}
wall(first, exits)

# %% [markdown]
# Nearly as many predictions are saved as are lost, and the interval of the difference includes 0: at this threshold the
# accuracy of early exit cannot be distinguished from the whole network's. More than three times as many images are
# incorrect at *every* exit; no threshold helps them.
#
# The rows show the most confident ones. Read *label → prediction*: sneakers are taken for sandals, and wide upper
# clothes for bags. The last row is another kind of mistake. Its first image is labelled *T-shirt/top*, its second
# *Trouser*, and the exit of both predicts *Dress*. What do you see?
#
# <details markdown="1"><summary>What we see</summary>
#
# Two dresses, the first one long and with a bare shoulder, the second one with straps. The labels are probably
# incorrect. Confident mistakes of all exits are candidates for that
# ([Northcutt et al. 2021](https://arxiv.org/abs/2103.14749) found such labels in ten data sets).
#
# </details>
#
# ## One image at a time
#
# What the policy compares at every exit, and why the image exits there. Bars behind the image's exit are never
# computed.
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
for kind, mask in {"overthinking avoided": avoided, "early-exit error": errors}.items():
    change = test.confidence[mask, -1] - sure[mask]
    print(
        f"{kind}: median confidence {np.median(sure[mask]):.0%} at the exit, "
        f"{np.median(test.confidence[mask, -1]):.0%} at the last; it rises for {(change > 0).mean():.0%} of them"
    )

# %% [markdown]
# It falls, for most of them: from a median of 84 % to 62 %. For early-exit errors it falls, too, from 83 to 71 %. So
# the last exit is unsure where the two disagree, whichever of them is correct. (Partly by selection: they were chosen
# because they were confident at one exit and incorrect at another.)
#
# **Predict.** And what does depth do for the images that exit late: does it help more of them than it harms?


# %%
def moved(before, after):
    changed = {"become correct": (~before & after).sum(), "become incorrect": (before & ~after).sum()}
    return {"images": len(before), "correct before": before.sum(), "correct after": after.sum()} | changed


first, own, end = test.correct[:, 0], outcome.correct, test.correct[:, -1]
ways = {"exit 1 to own exit, late images": moved(first[late], own[late]), "own exit to the last": moved(own, end)}
pd.DataFrame(ways).T

# %% tags=["numbers"]
numbers(
    shirts_at_exit_1=float((~late)[classes == "Shirt"].mean()),
    trousers_at_exit_1=float((~late)[classes == "Trouser"].mean()),
    upper_clothes_and_dresses_among_the_late=float(np.isin(classes[late], names[[0, 2, 3, 4, 6]]).mean()),
    early_exit_errors=int(errors.sum()),
    overthinking_avoided=int(avoided.sum()),
    no_exit_is_correct=int(hopeless.sum()),
)

# %% [markdown]
# So, why does an image exit early? Of what was tried here ambiguity goes with it best: an image exits early more often
# if the images most like it carry its label. Half of a shirt's neighbours have another label, of a trouser's few. And
# depth helps more of the late images than it harms: 321 become correct on the way to their own exit, 120 incorrect. Of
# 1,479 late images exit 1 has 799 correct and their own exit 1,000. Behind the chosen exit it is nearly even.
#
# ## Try it: three exercises
#
# **1.** *Ambiguity* read the image's own label. Do without it, and without the model. Write a function from the labels
# of the ten nearest images (B, 10) to one number per image (B,). It should be high where an image exits late; the AUC
# must reach 0.75.

# %% tags=["exercise"]
answer_1 = ...  # called as answer_1(test.labels[near])
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# Labels are names, not amounts: class 9 is no more than class 1. So no mean and no standard deviation; count.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# How many of the ten labels belong to the class that occurs most often? Few of them means: a mixture.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# def answer_1(labels):
#     counts = np.stack([(labels == c).sum(axis=1) for c in range(10)], axis=1)  # (B, 10) classes
#     return 1 - counts.max(axis=1) / labels.shape[1]
# ```
#
# </details>

# %% [markdown]
# **2.** Which images are *incorrect* at their exit? Write a score (B,) from what all exits predict (B, K) and from the
# exits (B,), without labels and confidences. The AUC must reach 0.80; the exit alone has 0.73. Could a policy use
# this score?

# %% tags=["exercise"]
answer_2 = ...  # called as answer_2(test.prediction, exits)
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# How many of the other exits predict something else than the image's own exit? That alone is not enough, either.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `prediction[np.arange(len(exits)), exits]` is the prediction at the exit. Add two shares: of exits that differ from
# it, and of the depth that was used.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# def answer_2(prediction, exits):
#     own = prediction[np.arange(len(exits)), exits]
#     return (prediction != own[:, None]).mean(axis=1) + exits / (prediction.shape[1] - 1)
# ```
#
# </details>

# %% [markdown]
# **3.** *The last step that pays.* A higher threshold sends images deeper. Write a function of the confidences (B, K),
# of `correct` (B, K) and of thresholds in ascending order. Between two neighbouring thresholds some images move to
# another exit. Take the difference of their correctness there, 1, 0 or −1 for each image. Its mean has a 95 % interval
# of 1.96 standard errors to each side. Return the upper threshold of the last step whose interval lies above 0, or
# None.

# %% tags=["exercise"]
answer_3 = ...  # called as answer_3(test.confidence, test.correct, (0.5, 0.6, 0.7, 0.8, 0.9, 0.99))
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# Images that reach no threshold exit at the last exit: its confidence is not compared.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# The standard error is over the images that *move*: their number is small where a step is small.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# def answer_3(confidence, correct, thresholds):
#     rows, last = np.arange(len(confidence)), None
#     exits = []
#     for threshold in thresholds:
#         reached = confidence >= threshold
#         reached[:, -1] = True
#         exits.append(reached.argmax(axis=1))
#     for before, after, threshold in zip(exits, exits[1:], thresholds[1:]):
#         moved = before != after
#         gain = (correct[rows, after].astype(float) - correct[rows, before])[moved]
#         if len(gain) > 1 and gain.mean() > 1.96 * gain.std(ddof=1) / len(gain) ** 0.5:
#             last = threshold
#     return last
# ```
#
# </details>

# %% [markdown]
# **Use yours.** Each row is a step of the threshold: how many images move, and how many of them are correct at their
# exit before and after it. Once your answer passes, its line stands above the table.
#
# **Predict.** With a higher threshold images exit later. Does every step up make more of them correct?


# %%
def moved_by(low, high):
    before, after = (dx.fit_policy(calibration, threshold=t).exits(test) for t in (low, high))
    hits = [dx.Outcome(test, found).correct[before != after] for found in (before, after)]
    points = [100 * part for part in dx.bootstrap_difference(*hits[::-1])]
    return [len(hits[0]), *(int(hit.sum()) for hit in hits), "{:+.1f} [{:+.1f}, {:+.1f}]".format(*points)]


thresholds = (0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
if check_3(answer_3):
    print("yours: the last step that pays ends at", answer_3(test.confidence, test.correct, thresholds))
columns = ["move", "correct before", "correct after", "gain, points"]
table = pd.DataFrame([moved_by(*step) for step in pairwise(thresholds)], columns=columns)
table.set_axis([f"{low} to {high}" for low, high in pairwise(thresholds)]).rename_axis("threshold")

# %% [markdown]
# No. Up to 0.8 each step makes more of its images correct, and each interval lies above 0: 14 points, then 11, then 4.
# From 0.8 on no gain is shown, though these two steps move more images than the three before. A high threshold sends
# many images deeper that are correct already.
#
# ## What you cannot conclude
#
# - *That ambiguity causes a late exit.* It goes together with one. To show a cause, one would change the ambiguity of
#   an image and nothing else.
# - *That late images are hard for people.* No person's answers were recorded here; ambiguity is read from the
#   labels of similar images.
# - *That any model sorts the images alike.* Three runs on one data set, one seed and one budget each.
# - *That a mistake of all exits is the model's.* Some labels of this data set are incorrect; a wall shows candidates,
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
# | 95 % interval | made so that in about 95 of 100 repetitions it contains the true value |
#
# ## References
#
# - What late images have in common, measured as *prediction depth*: [Baldock et al.
#   2021](https://arxiv.org/abs/2106.09647). Easy, ambiguous and hard examples in the course of a training: [dataset
#   cartography](https://arxiv.org/abs/2009.10795), Swayamdipta et al. 2020.
# - Incorrect labels in test splits: [Northcutt et al. 2021](https://arxiv.org/abs/2103.14749).
# - Confidence as a reason to exit: [BranchyNet](https://arxiv.org/abs/1709.01686), Teerapittayanon et al. 2016.
# - Overthinking: [Shallow-Deep Networks](https://arxiv.org/abs/1810.07052), Kaya et al. 2019.
# - The images: [Fashion-MNIST](https://arxiv.org/abs/1708.07747), Xiao et al. 2017, MIT licence.
#
# You can drag the same slider over 10,000 images in the app: `scripts/app`.
#
# Sort your own images, too, with a run that you train and keep: [07](07_your_own_images.ipynb) shows how.
#
# Next: back to [00 · Quickstart](00_quickstart.ipynb)
