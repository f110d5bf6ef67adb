# %% [markdown]
# # 1 · See it
#
# *Does every photograph need the whole network, and who pays when it stops early?*
#
# **The course.** A camera above a checkout tells 81 kinds of groceries apart, article after article, on a small
# computer. Six lessons and an extra follow this one example. Today you look at a finished model. In 2 to 5 you build
# one of your own, part by part; in 6 you decide where its images exit.
#
# **The paper.** DMPO is *Decoupled Multi-Predictor Optimization* ([arXiv 2511.03245](https://arxiv.org/abs/2511.03245),
# ICCV 2025). It tunes a trained network that has several classifiers, and aims for accurate early ones without hurting
# the last. Its abstract says that with 30 % of the FLOPs it is comparable with its counterparts or even better. Code
# and measurements of this course are ours.
#
# **Today.** You build the rule by which an image exits, and find out which images pay for what is saved. Lock a guess
# before you run what is below it: the figure shows it beside the result. There are two editions: to read, with
# solutions, and [to write in](student/1_see_it.ipynb), with three dots in their place, hints, and a check that
# compares yours with the library. 45 minutes; the cells run in seconds. (In every lesson the first one loads the
# libraries, which can take half a minute.) You need to know what a classifier and a softmax are. Other words are in
# the [glossary](../docs/glossary.md).

# %% tags=["drawing"]
import dmpo_explore as dx

dx.course.network("exit")

# %% [markdown]
# This is one stage of the network, and there are six in a row. An *exit* is its lower row: a small classifier, and a
# rule by which an image stops there. Today is about the rule, the last box. The other boxes are lessons 2 to 4.

# %% tags=["setup"]
from textwrap import wrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image

from dmpo_explore.course import checks
from dmpo_explore.course.interactive import Guess, Live, widgets

run = dx.load_run("demo")  # a trained model that comes with the project
test = run.record("test")
names = np.array(test.meta.class_names)
groups = np.select([test.labels < 28, test.labels < 59], ["fruit", "cartons"], "vegetables")  # the data set's groups
exit_names = [f"exit {k + 1}" for k in range(test.n_exits)]
images = run.image_set("test")
pixels = [Image.fromarray(images[i]).resize((84, 84)) for i in range(test.n_images)]  # as the network reads them
pixels = np.stack(pixels)  # (1300, 84, 84, 3)
apples = 104


def answers(i):
    return pixels[i], names[test.prediction[i]].tolist(), test.confidence[i], test.correct[i]


# %% [markdown]
# ## Six answers to one photograph
#
# The network is a vision transformer with twelve blocks. Behind blocks 3, 4, 5, 6, 8 and 12 an exit answers the same
# question: which of the 81? Its *confidence* is the softmax probability of its answer. The answers of all exits to all
# 1,300 test photographs were recorded once. Today we only read that record; the network stays switched off.
#
# The first photograph shows red apples, *Red Delicious*, in a box.

# %%
dx.figures.exit_predictions_figure(*answers(apples), exit=5)

# %% [markdown]
# Exit 1 sees a red pepper, without much confidence. From exit 2 on all agree on the apples, and all that changes is how
# sure they are. The four exits behind it, and eight of the twelve blocks, confirm what is known.
#
# ## Build the rule
#
# So let an image *exit*: it stops at the first exit whose confidence reaches a **threshold**, and the blocks behind are
# never computed. At the last exit every image stops, however unsure it is.


# %% tags=["build"]
def exits_of(confidence, threshold):
    # confidence: (B, K), a photograph per row, an exit per column
    # return (B,): the exit of each photograph, counted from 0
    ### BEGIN SOLUTION
    reached = confidence >= threshold
    reached[:, -1] = True
    return reached.argmax(axis=1)
    ### END SOLUTION


checks.exits(exits_of)

# %% [markdown]
# <details markdown="1"><summary>Hint</summary>
#
# `confidence >= threshold` is a mask (B, K). What must its last column be? `mask.argmax(axis=1)` is the place of the
# first `True` in each row.
#
# </details>
#
# Your rule now moves the figure. Drag the threshold, and look at ten photographs. Which way must it go for an image to
# stop earlier?


# %% tags=["live"]
def one(photograph, threshold):
    exit = exits_of(test.confidence[[photograph]], threshold)[0]
    line = f"{names[test.labels[photograph]]}: stops at exit {exit + 1}, {test.flops_fraction[exit]:.0%} of the compute"
    return dx.figures.exit_predictions_figure(*answers(photograph), exit, threshold), line


Live(one, photograph=widgets.IntSlider(apples, 0, 1299), threshold=widgets.FloatSlider(0.4, max=1, step=0.01))

# %% [markdown]
# Compute is counted in FLOPs, additions and multiplications. 100 % is the *plain backbone*: the same network with one
# classifier at its end. What the exits themselves need is counted too, so exit 6 takes 102 %.
#
# ## All 1,300
#
# Take a threshold of 0.4: an exit that gives 40 % to one of 81 classes is already a good deal surer than chance. You
# have a sample: set the slider above to 0.4, look at ten photographs, and count those that stop at exit 1.

# %% tags=["guess"]
at_once = Guess("Of 1,300 photographs, how many stop at exit 1?", 0, 1300)
at_once

# %%
exits = exits_of(test.confidence, 0.4)
correct = test.correct[np.arange(test.n_images), exits]
at_once.on(dx.figures.exit_histogram_figure(exits, correct, exit_names))

# %% [markdown]
# Seven of ten stop at exit 1, and most of those answers are correct. At the other end more images reach the last exit
# than stop at exits 2 to 5 together. An image that exit 1 doubts tends to be doubted to the end.
#
# Now drag it for all of them. A row holds the photographs that stop at one exit, the least certain first. A blue frame
# is correct; an orange one with a notched corner is not. **Before you drag:** which images move down first when the
# threshold rises, and from which end of a row?


# %% tags=["live"]
def wall(rows, found, below=True):  # what it is below each photograph and, where that differs, what was predicted
    shown = dx.Outcome(test, np.broadcast_to(found, test.n_images))
    said = list(zip(names[test.labels], names[shown.prediction], shown.confidence, strict=True))
    texts = [f"{label}, predicted {answer} ({sure:.0%})" for label, answer, sure in said]
    lines = [""] * test.n_images
    for i in np.concatenate([*rows.values()]) if below else ():
        label, answer, _ = said[i]
        lines[i] = "\n".join(wrap(label, 17) + wrap(f"→ {answer}", 17) * (label != answer))
    options = {"captions": lines, "room": 52} if below else {}
    return dx.figures.image_wall_figure(pixels, rows, shown.correct, texts, columns=6, **options)


def sorted_wall(threshold, goods):
    found, of_kind = exits_of(test.confidence, threshold), (groups == goods) | (goods == "all")
    sure = dx.Outcome(test, found).confidence
    rows = [np.flatnonzero(of_kind & (found == k)) for k in range(test.n_exits)]
    rows = {f"exit {k + 1}: {len(row):,}": row[np.argsort(sure[row])][:6] for k, row in enumerate(rows)}
    hits, share = dx.Outcome(test, found).correct[of_kind], test.flops_fraction[found][of_kind]
    return wall(rows, found, below=False), f"compute {share.mean():.0%}, accuracy {hits.mean():.1%}"


kinds = widgets.ToggleButtons(options=["all", "fruit", "cartons", "vegetables"], style={"button_width": "auto"})
Live(sorted_wall, threshold=widgets.FloatSlider(0.4, min=0.1, max=1, step=0.01), goods=kinds)

# %% [markdown]
# ## What does it cost?
#
# Each threshold is one point: mean compute, accuracy. All thresholds together are the **trade-off** of a model. Two
# rivals stand beside `demo`. `demo-naive` is the same network, trained in the same way, with ordinary linear exits.
# `demo-single-24` has one classifier, at its end: the full model. It reads larger images, 98 pixels instead of 84, so
# the axis is in GFLOPs. All three saw mildly cropped images for 24 epochs. The first two had a *teacher* besides:
# they learnt from the answers of another full model, one of six epochs.

# %% tags=["guess"]
reached = Guess("`demo-single-24` is correct on 0.927 of them. And `demo`, on 30 % of that compute?", 0.7, 0.95)
reached

# %%
records = {name: dx.load_run(name).record("test") for name in ("demo", "demo-naive", "demo-single-24")}
whole = {name: record.meta.reference_flops / 1e9 for name, record in records.items()}  # GFLOPs of 100 %
curves = {name: dx.trade_off(records[name]) for name in ("demo", "demo-naive")}
single = {"demo-single-24": (1.0, records["demo-single-24"].correct.mean())}
figure = dx.figures.in_gflops(dx.figures.trade_off_figure(curves, singles=single), whole)
reached.on(figure.add_vline(0.3 * whole["demo-single-24"], line={"dash": "dot", "width": 1}))

# %% [markdown]
# The dotted line stands at 30 % of what `demo-single-24` takes. There `demo` is three to four points behind it: that is
# the price of the other 70 %. It is two points ahead of the naive exits; further left these fall behind much faster. At
# the far left all images stop at exit 1: 85 % of its answers are correct, nine points more than those of the naive exit
# at the same block. How a model comes to such early exits is the question of lessons 2 to 5.
#
# ## Which images need more?
#
# The least certain are often small, dark or half hidden, as your wall shows. Is it the photograph, then, or the
# article?

# %% tags=["guess"]
deepest = Guess("Which goods take the most compute, on average?", "fruit", "cartons", "vegetables")
deepest

# %%
used, figure = test.flops_fraction[exits], go.Figure()
for kind in ("vegetables", "cartons", "fruit"):
    articles = np.unique(names[test.labels[groups == kind]])
    means = np.array([used[names[test.labels] == name].mean() for name in articles])
    figure.add_box(x=means, text=articles, name=kind, boxpoints="all", pointpos=0, jitter=0.7, boxmean=True)
    figure.add_annotation(x=means.max(), y=kind, text=articles[means.argmax()], yshift=24, showarrow=False)
figure.update_layout(template="none", showlegend=False, margin={"l": 90, "t": 30})
deepest.on(figure.update_xaxes(title="mean compute of an article", tickformat=".0%", range=[0.2, 1.15]))

# %% [markdown]
# A dot is one of the 81 articles; a box holds the middle half of a group, its dashed line is the mean. Cartons take the
# most: milks and yoghurts that differ by a line of print or the colour of a lid. But every group has articles that all
# stop at exit 1, so the group alone does not decide. And asparagus? All twelve photographs travel to the last exit.
# What does the whole network make of them?

# %%
asparagus = np.flatnonzero(names[test.labels] == "Asparagus")
wall({"asparagus at exit 6": asparagus[:6]}, 5)

# %% [markdown]
# Nothing: cucumber, leek, pineapple. The training had 14 photographs of asparagus, fewer than of any other article. So
# a late exit may mean *depth helps*, and it may mean *nothing helps*. The confidence of exit 1 does not tell which.
#
# ## Who pays?
#
# Where early exit changes whether an image is correct, it can go two ways:
#
# - an **early-exit error**: incorrect at its exit, correct at the last one. Here we *lose*;
# - **overthinking avoided**: correct at its exit, incorrect at the last one. Here we *save*.


# %% tags=["build"]
def mistakes(correct, exits):
    # correct: (B, K), whether exit k is correct; exits: (B,), counted from 0
    # return two masks (B,): lost, saved
    ### BEGIN SOLUTION
    here = correct[np.arange(len(exits)), exits]
    last = correct[:, -1]
    return ~here & last, here & ~last
    ### END SOLUTION


checks.mistakes(mistakes)

# %% [markdown]
# <details markdown="1"><summary>Hint</summary>
#
# `correct[np.arange(len(exits)), exits]` takes one entry of each row. `&` joins masks, `~` negates one.
#
# </details>
#
# You know which goods take the most compute. The more exits an image may pass, the safer it should be.

# %% tags=["guess"]
poorest = Guess("Which goods lose the most accuracy by exiting early?", "fruit", "cartons", "vegetables")
poorest

# %%
lost, saved = mistakes(test.correct, exits)


def of_goods(kind):
    own = groups == kind
    used, n_lost, n_saved = test.flops_fraction[exits][own].mean(), lost[own].sum(), saved[own].sum()
    ahead = dx.bootstrap_difference(correct[own], test.correct[own, -1])  # on the same images
    row = dict(zip(("points", "low", "high"), (100 * value for value in ahead), strict=True))
    return row | {"question": f"{kind}: {n_lost} lost, {n_saved} saved, {used:.0%} of the compute", "seeds": "one"}


table = pd.DataFrame([of_goods(kind) for kind in ("fruit", "cartons", "vegetables")])
figure = dx.figures.gains_figure(table).update_xaxes(title="points of early exit ahead of the last exit")
poorest.on(figure.update_layout(height=260))

# %% [markdown]
# In this sample cartons: they get the most compute and lose the most accuracy. Compute goes to images that exit 1
# *doubts*; accuracy is lost on those of which it is sure, and wrong. No carton is saved. Vegetables lose as many as
# they save. (The bars are **95 % intervals**: made so that about 95 of 100 of them contain the true value. That of the
# cartons does not reach 0, and it overlaps with that of fruit: other photographs may turn the two round.) Here are
# images that are lost, saved, or correct at no exit, most confident first:

# %%
sure = dx.Outcome(test, exits).confidence
first = {"lost": lost, "saved": saved, "none correct": ~test.correct.any(axis=1)}
first = {f"{name}: {mask.sum()}": np.flatnonzero(mask)[np.argsort(-sure[mask])][:6] for name, mask in first.items()}
wall(first, exits)

# %% [markdown]
# Oranges taken for satsumas, satsumas for oranges, soy milk for soy milk: pairs that look alike at 84 pixels. (Not all
# of them: one is ginger, taken for mushrooms.) The last group is the largest: 62 images are correct at no exit, and no
# threshold helps these.
#
# So the mean hides two things. On 40 % of the compute accuracy falls by 1.7 points: by 3 for cartons, and for
# vegetables somewhere between a loss and a gain of two. And 40 % is the mean of *this* mixture. A shop that sells
# cartons alone would take 47 %.
#
# <div class="admonition note" markdown="1"><p><b>What you cannot conclude.</b></p>
#
# - *That the method is why `demo` is ahead of `demo-naive`.* One training of each. Lessons 2 to 5 take it apart, with
#   several trainings and intervals.
# - *That early exits cost three to four points.* `demo` had a teacher, crops and many epochs. Without them it scores
#   six points less here (on val), and the full model without crops and epochs 2.8 less (on test, 1.3 to 4.2:
#   [results](../docs/results.md#with-more-images)). On images of another kind the price is another.
# - *That cartons are hard to tell apart for any network.* These are the weak pairs of one model, and the groups were
#   looked at after the fact: a question for the next test.
# - *That a certain answer is a correct one.* 40 % is a score; what it says about errors is the subject of lesson 6.
# - *That 40 % of the compute is 40 % of the time.* [Compute and speed](../docs/speed.md) measures time.
#
# </div>
#
# **In your own words:** what is a threshold traded for, and why does a mean over all images not tell who pays?
#
# **Try it.** Find a rule of your own that loses fewer cartons at the same compute: a threshold for each exit, perhaps,
# or one that also asks how far the second-best class is behind (`test.score("margin")`). What do you pay for it
# elsewhere? And would it hold on images that you did not choose it on?
#
# Next: [2 · Why it is hard](2_why_it_is_hard.ipynb). The same slider over all images, without code: `scripts/app`.
