# %% [markdown]
# # 4 · The phase schedule
#
# *One trunk, six exits: which loss should count, and when?*
#
# **Goal.** Draw the loss weights λ_k(e) and write the training step that uses them. Train the small CNN of 01 with
# several schedules and with two optimisers. See what a loss weight does, and what it does not.
#
# **Time.** 40 minutes to read and write, about two minutes to run.
#
# **Before.** [01](01_the_conflict.ipynb) shows the conflict that this is an answer to, and has the network. Words are
# at the end and in the [glossary](../docs/glossary.md); the method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/04_phase_schedule.ipynb)

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
import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.course import on_tokens, small_cnn
from dmpo_explore.course.exercises.phase_schedule import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import choice, live, numbers, slider

EPOCHS = 100  # as in the authors' release
torch.set_num_threads(1)  # such small convolutions gain nothing from a second one
data, test = small_cnn.halves(dx.load_run("demo"))  # 2,000 images to train on, 5,000 others to test on

# %% [markdown]
# ## Two phases
#
# The loss is a sum over the exits, L(e) = Σ λ_k(e) · ℓ_k. With every λ_k = 1 (`uniform`) the early exits shape the
# shallow features from the first step, though the deep exits depend on them. DMPO weights the deep exits first and the
# early ones later (its abstract); the weights of the authors' release cross in straight lines (`linear`).
#
# **Predict.** The weights of exit 1 and of the last exit start far apart and change places. After how many of the 100
# epochs do they cross: before the middle, in the middle, or after it?


# %% tags=["live"]
def drawn(schedule, exits, epoch):
    weights = [dx.training.loss_weights(schedule, e, EPOCHS, exits) for e in range(EPOCHS)]
    shown = "  ".join(f"{weight:.2f}" for weight in weights[epoch - 1])
    figure = dx.figures.schedule_figure(weights, epoch - 1).update_yaxes(range=[0, 2.1])
    return figure, f"{schedule}, epoch {epoch}: λ = {shown}, sum {sum(weights[epoch - 1]):.2f}"


live(
    drawn,
    epoch=slider("epoch", 1, EPOCHS, 63),
    exits=slider("exits", 2, 8, 4),
    schedule=choice("schedule", list(dx.training.SCHEDULES), "linear"),
)

# %% [markdown]
# `linear` has the release's numbers, for four exits. For other numbers of exits they are resampled by depth, which is
# our choice, as are the shapes of `cosine` and `exponential`. `deep-only` and `early-only` are one phase without the
# other: controls. `mixed` is another paper's ([Mixed training](https://arxiv.org/abs/2407.14320)).
#
# These are the numbers to check against:

# %% tags=["numbers"]
release = np.array([dx.training.loss_weights("linear", e, EPOCHS, 4) for e in range(EPOCHS)])
numbers(
    exit_1_at_the_start=release[0, 0],
    exit_1_at_the_end=release[-1, 0],
    exit_4_at_the_start=release[0, 3],
    exit_4_at_the_end=release[-1, 3],
    crossing_epoch=int((release[:, 0] > release[:, 3]).argmax()) + 1,
    sum_at_the_end=release[-1].sum(),
)

# %% [markdown]
# After the middle, in epoch 63: exit 1 leads for less than half of the time, and exit 4's weight never goes to zero.
#
# A hard switch has the same two ends. Here the length of the first phase is yours to choose.
#
# **Predict.** Over a whole training, which share of all weight does exit 1 get if the first phase takes half of it?


# %% tags=["live"]
def switched(ratio, schedule):
    weights = np.array([dx.training.loss_weights(schedule, e, EPOCHS, 4, phase_ratio=ratio) for e in range(EPOCHS)])
    means = "  ".join(f"{weight:.2f}" for weight in weights.mean(axis=0))
    line = f"{schedule}: mean λ over the training = {means}, exit 1 has {weights[:, 0].sum() / weights.sum():.0%}"
    return dx.figures.schedule_figure(weights).update_yaxes(range=[0, 2.1]), line


live(switched, ratio=slider("first phase", 0.0, 1.0, 0.5), schedule=choice("schedule", ["switch", "mixed"]))

# %% [markdown]
# A quarter, as with four equal weights: the two phases do not give exit 1 a smaller share, they give it *later*.
#
# ## Build it
#
# Write one step of training: the loss Σ λ_k · ℓ_k of a batch, its gradient, a step of the optimiser. `net(images)`
# gives logits (B, K, 10) of K exits, `weights` are the K loss weights of the epoch. `train` then calls *your* step.


# %% tags=["build"]
def step(net, images, labels, weights, optimiser):
    """Gradients to zero, the weighted loss, backward, a step of the optimiser."""
    ...


def train(net, data, schedule, optimiser, epochs=8):
    steps = epochs * -(-len(data.labels) // 50)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, optimiser.param_groups[0]["lr"], total_steps=steps)
    for epoch in range(epochs):
        weights = schedule(epoch, epochs, len(net.exits))  # epochs count from 0
        for rows in torch.randperm(len(data.labels)).split(50):
            step(net, data.pixels[rows], data.labels[rows], weights, optimiser)
            rate.step()


check_build(step)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `F.cross_entropy(logits[:, k], labels)` is the loss of exit k. Gradients add up until `optimiser.zero_grad()`.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `loss = sum(weights[k] * ... for k in range(len(weights)))`. Then three calls: `optimiser.zero_grad()`,
# `loss.backward()`, `optimiser.step()`.
#
# </details>


# %% tags=["build", "solution"]
def solution(net, images, labels, weights, optimiser):
    logits = net(images)
    loss = sum(weights[k] * F.cross_entropy(logits[:, k], labels) for k in range(len(weights)))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


step = step if check_build(step) else solution
check_build(step)

# %% [markdown]
# The check takes five steps with yours and with the library's `weighted_loss`, from the same weights, and compares what
# they come to.
#
# ## Train with four schedules
#
# The small CNN of 01: 2,000 images, eight epochs, six exits, AdamW. Three seeds each; only the loss weights differ.
# `one exit` is the network without early exits.
#
# **Predict.** 01 found that under `uniform` the last exit loses several points. Which schedules will give some of them
# back, and what will it cost the first exit?


# %%
def trained(schedule, make_optimiser, at=range(6)):
    net = small_cnn.EarlyExitCNN(at)
    train(net, data, schedule, make_optimiser(net))
    return net


def named(schedule):
    return lambda epoch, epochs, n_exits: dx.training.loss_weights(schedule, epoch, epochs, n_exits)


SCHEDULES = ("linear", "uniform", "deep-only", "early-only")
adam = {name: small_cnn.repeated(lambda s=name: trained(named(s), small_cnn.adam), test) for name in SCHEDULES}
one_exit = small_cnn.repeated(lambda: trained(named("uniform"), small_cnn.adam, at=[5]), test)


# %%
def by_exit(trainings):
    lines = {name: hits.mean(axis=1) for name, hits in trainings.items()} | {"one exit": one_exit.mean(axis=1)[:, 0]}
    figure = dx.figures.seeds_figure(lines, "accuracy on test")
    return figure.update_yaxes(range=[0, 0.9], tickformat=".0%")


by_exit(adam)


# %%
def over_uniform(of, name, exit):
    label = "mean of all exits" if exit is None else f"exit {exit}"
    exits = slice(None) if exit is None else slice(exit - 1, exit)
    return on_tokens.gain(f"{name}, {label}", *(of[it][..., exits].mean(axis=2) for it in (name, "uniform")))


rows = [over_uniform(adam, name, exit) for name in ("linear", "deep-only", "early-only") for exit in (1, 6, None)]
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(
    height=420, xaxis_title="points of test accuracy over uniform"
)

# %% [markdown]
# And every exit in points over `uniform`, seed by seed: the band reaches from the lowest to the highest of the three.


# %%
def ahead_of_uniform(trainings):
    accuracy = {name: 100 * hits.mean(axis=1) for name, hits in trainings.items()}
    places = {name: place for place, name in enumerate(accuracy)}
    lines = {name: seeds - accuracy["uniform"] for name, seeds in accuracy.items() if name != "uniform"}
    figure = dx.figures.seeds_figure(lines, "points of test accuracy over uniform", colours=places)
    return figure.add_hline(y=0, line={"color": "gray", "width": 1})


ahead_of_uniform(adam)

# %% [markdown]
# `linear` gives back about one and a half of the four points and is better at exit 1, too; all seeds agree on both. It
# does not win everywhere: exits 3 and 4 are poorer than under `uniform`, and over all six exits it is one point ahead.
# `deep-only` is the best at the end, about a point below the network with one exit, and the poorest at exit 1.
# `early-only` is its mirror image: over all exits its seeds lie on both sides of `uniform`.
#
# So a schedule moves accuracy from exit to exit more than it adds any.
#
# But look at exit 1 under `deep-only`. Its weight is a hundred times smaller than under `uniform`. Yet it has learnt
# most of it (31 % against 37 %, in the table below; chance is 10 %). Were you surprised? A likely reason is the
# optimiser: AdamW divides every step by the size of recent gradients. An exit's own weights are trained by its own
# loss alone, so a *constant* factor in front of that loss cancels. One that changes does not: the recent gradients
# had another factor. Here is a parabola, thirty steps with two constant weights, and with two that change after step
# 10; beside AdamW plain SGD:

# %%
OPTIMISERS = {
    "AdamW": lambda w: torch.optim.AdamW([w], lr=0.03, weight_decay=0.0),
    "SGD": lambda w: torch.optim.SGD([w], lr=0.03),
}
FACTORS = {"1.5": [1.5] * 30, "0.01": [0.01] * 30}
FACTORS |= {"1.5, then 0.01": [1.5] * 10 + [0.01] * 20, "0.01, then 1.5": [0.01] * 10 + [1.5] * 20}
paths = {}
for name, factor in [("AdamW", factor) for factor in FACTORS] + [("SGD", factor) for factor in ("1.5", "0.01")]:
    w = torch.ones(1, requires_grad=True)
    optimiser, path = OPTIMISERS[name](w), []
    for weight in FACTORS[factor]:
        optimiser.zero_grad()
        (weight * w**2).sum().backward()
        optimiser.step()
        path.append(w.item())
    paths[f"{name}, λ = {factor}"] = path
lines = {name: np.array(path)[None, 1::2] for name, path in paths.items()}  # after every second step
dx.figures.seeds_figure(lines, "w", x=[f"{e}" for e in range(2, 31, 2)]).update_xaxes(title="step")

# %% [markdown]
# Under AdamW the two constant weights lie on each other. Where the weight falls, the steps die out, as the large
# gradients are still in the denominator. Where it rises, they are shorter at first and longer later: at step 30 that
# line is ahead. Under SGD a factor in the loss is a factor in the step.
#
# ## The same with SGD
#
# With SGD the *sum* of the weights counts, too: it makes all steps longer or shorter. Over six exits `linear` sums to
# less than the six of `uniform`. So a fair comparison has a fifth schedule, `linear, sum 6`: the weights of `linear`,
# multiplied in every epoch by what makes their sum 6. (AdamW needs no such control: the sum of `linear` hardly changes,
# as printed below, and a constant factor in front of *all* losses cancels for all weights.)
#
# **Predict.** The schedules with SGD (momentum 0.9). What will the first exit be worth under `deep-only`, where its
# loss counts a hundredth? Chance is 10 %. And will `linear, sum 6` have the better first exit than `uniform`, as
# `linear` had with AdamW?


# %%
def linear_sum_6(epoch, epochs, n_exits):
    weights = np.array(dx.training.loss_weights("linear", epoch, epochs, n_exits))
    return n_exits * weights / weights.sum()


print("sum of linear's weights, epoch by epoch:", [f"{sum(named('linear')(e, 8, 6)):.2f}" for e in range(8)])
with_sgd = {name: named(name) for name in SCHEDULES} | {"linear, sum 6": linear_sum_6}
sgd = {name: small_cnn.repeated(lambda s=s: trained(s, small_cnn.sgd), test) for name, s in with_sgd.items()}
by_exit(sgd)

# %%
ahead_of_uniform(sgd)

# %%
rows = [over_uniform(sgd, name, exit) for exit in (1, 2, 6) for name in ("linear", "linear, sum 6")]
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(
    height=330, xaxis_title="points of test accuracy over uniform, SGD"
)

# %%
both = {"AdamW": adam, "SGD": sgd}
first = {name: {schedule: 100 * hits[..., 0].mean() for schedule, hits in of.items()} for name, of in both.items()}
last = {name: {schedule: 100 * hits[..., 5].mean() for schedule, hits in of.items()} for name, of in both.items()}
last["AdamW"]["one exit"] = 100 * one_exit.mean()
pd.concat({"exit 1": pd.DataFrame(first), "exit 6": pd.DataFrame(last)}, axis=1).round(1)

# %% [markdown]
# (NaN: not trained. The dotted line in the SGD figure is AdamW's one exit, so the gap under SGD is not measured.) Now
# the factor counts in full: under `deep-only` exits 1 and 2 hardly get beyond chance, and exit 6 is nearly as good as
# with AdamW. `uniform` and `early-only` leave a better first exit than with AdamW.
#
# And `linear`? Its first exit is five points *behind* `uniform`'s; with AdamW it was three and a half ahead. About
# half of the five points is the smaller sum: with equal sums it is two to three points behind. That rest stays in
# each training, and exit 2 is eight points behind. At the end both gain about two points, with equal sums in two of
# the three trainings.
#
# A likely reason for the rest, not tested: with SGD the early exits learn little while their weights are small, and the
# learning rate is falling when their turn comes. So whether two phases help an early exit depends on the optimiser and
# its recipe; this project uses AdamW.
#
# ## A real run
#
# `demo` was trained for four epochs with `linear` weights, stretched over its six exits, with AdamW.
#
# **Predict.** In the first epoch exit 1 has a weight of 0.01. Where will its accuracy be after that epoch: at chance
# (10 %), or higher? And exit 6, whose weight falls from 2.00 to 0.27: will it get worse?

# %%
dx.figures.history_figure(dx.load_run("demo").history())

# %% [markdown]
# Left: the weights cross over. Right: after an epoch with a weight of 0.01 exit 1 is far from chance. AdamW is a
# likely reason, the pre-trained features another; neither is tested here. Exit 6 continues to improve while its
# weight falls. Exit 3 ends 1.2 points ahead on 1,000 val images; on test the two are level
# ([00](00_quickstart.ipynb)). Everything improves as the learning rate falls, so one run alone does not show the
# effect of the weights.
#
# ## On a pre-trained backbone, three times
#
# [The study](../benchmarks/RESULTS.md) trained `dmpo` with `linear` and with `uniform` weights three times each, on
# 2,000 images of Fashion-MNIST: points of **test** accuracy that the two phases add, with a 95 % interval over test
# images and a cross for every training.
#
# **Predict.** The last exit's weight ends at 0.27 under `linear` and stays at 1 under `uniform`. Will its accuracy
# fall?

# %%
gains = dx.course.study_table("gains")
dx.figures.gains_figure(gains[gains["question"].str.startswith("gain of two-phase")])

# %% [markdown]
# It does not, as far as three trainings show: the last line lies around 0. The first line is the *score*, the mean
# over all budgets from 30 to 100 %, by which the study compares: a third of a point on average, something in each of
# the three trainings. The first exit, whose weight rises to 1.5, shows no clear gain: its interval includes 0, and
# one training is a tenth behind. A gain this small, on one data set, is no general result.
#
# ## Try it: three exercises
#
# **1.** Write Adam's step, to see what cancels. m and v start at 0. With each gradient g they become
#
#     m ← 0.9 m + 0.1 g        v ← 0.999 v + 0.001 g²
#
# Step number t (from 1) is m̂ / √v̂. Here m̂ = m / (1 − 0.9ᵗ) and v̂ = v / (1 − 0.999ᵗ). Write a function from a
# list of numbers, the gradients of one weight, to the list of its steps (learning rate 1, no ε). Then try gradients
# times 100, and gradients of which only the second half is multiplied.

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# A loop over `enumerate(gradients, start=1)`, with m and v as two numbers.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# In the first step m̂ = g and v̂ = g²: the step is +1 or −1, whatever the gradient's size.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# def answer_1(gradients):
#     m = v = 0.0
#     steps = []
#     for t, g in enumerate(gradients, start=1):
#         m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
#         steps.append(m / (1 - 0.9**t) / (v / (1 - 0.999**t)) ** 0.5)
#     return steps
# ```
#
# </details>

# %% [markdown]
# **2.** A hard switch has the weights `start` in its first phase and `end` in the second; each is a list of K numbers.
# Write a function of the two. At which `phase_ratio` do the first exit and the last one have the same weight, on
# average over the training?

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# With ratio r the mean weight of exit k is r · start_k + (1 − r) · end_k.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Set the means of the first and the last exit equal. It is a linear equation for r.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# def answer_2(start, end):
#     late, early = end[0] - end[-1], start[-1] - start[0]  # how far exit 1 leads at the end, and the last at the start
#     return late / (late + early)  # 0.38 with the release's numbers
# ```
#
# </details>

# %% [markdown]
# **3.** Write a schedule of your own: a function of `(epoch, epochs, n_exits)`, epochs counted from 0, that returns
# `n_exits` weights. None is negative, and they sum to 3 in every epoch. In the first epoch the last exit outweighs the
# first; in the final one the first outweighs the last. It should work for any two or more exits.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# Let every exit have a weight at the start and one at the end. Move from one to the other as the epoch goes from 0 to
# `epochs - 1`. `np.linspace` makes a ramp over the exits.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Divide by the sum and multiply by 3, at the very end.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# import numpy as np
#
#
# def answer_3(epoch, epochs, n_exits):
#     ramp, late = np.linspace(0.2, 1, n_exits), epoch / (epochs - 1)
#     weights = (1 - late) * ramp + late * ramp[::-1]
#     return 3 * weights / weights.sum()
# ```
#
# </details>

# %% [markdown]
# **Train yours.** Once it passes, this cell trains it, three seeds with AdamW. Until then it trains the library's
# `cosine`, as on the saved page. The first figure has it beside `linear` and `uniform`, the second its gains.
#
# **Predict.** Will its last exit lie nearer to `linear`, or to `uniform`? And over all six exits: ahead of `linear`?

# %%
name, schedule = ("yours", answer_3) if check_3(answer_3) else ("cosine", named("cosine"))
mine = adam | {name: small_cnn.repeated(lambda: trained(schedule, small_cnn.adam), test)}
by_exit({each: mine[each] for each in ("linear", "uniform", name)})

# %%
rows = [over_uniform(mine, name, exit) for exit in (1, 6, None)]
rows = [row | {"question": f"{row['question']}, over uniform"} for row in rows]
for exit, part in {"exit 1": slice(1), "exit 6": slice(5, 6), "mean of all exits": slice(None)}.items():
    both = (mine[each][..., part].mean(axis=2) for each in (name, "linear"))
    rows.append(on_tokens.gain(f"{name}, {exit}, over linear", *both))
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=330, xaxis_title="points of test accuracy")

# %% [markdown]
# The saved page's `cosine` lies nearer to `linear` at every exit. Both have the same two ends; only the path between
# them differs. Over `uniform` it gains four points at exit 1 and one at exit 6. Over `linear` it is 0.8 points ahead at
# exit 1 and 0.3 behind at exit 6, with every seed; over all six exits it is ahead by 0.2. So with the same ends the
# path matters little here. What did yours change, the ends or the path?
#
# ## What you cannot conclude
#
# - *That `linear` still gains when there is time.* In 01 the gap that it narrows closed by itself after 24 epochs.
# - *That one schedule beats another in general.* A small CNN, eight epochs, one recipe per optimiser: the learning
#   rates were not searched per schedule, but chosen after a few trials on the same 5,000 images. Others may change the
#   order.
# - *That a loss weight never matters under AdamW.* It matters where exits share weights, in the trunk. Only an exit's
#   own weights do not feel a constant factor. They do feel one that changes during the training.
# - *That SGD cannot train two phases.* One learning rate and one cycle were tried here.
# - *That phases matter as little, or as much, on a frozen, pre-trained backbone*, from the CNN. The study's figure is
#   about such a backbone, and its gain is a third of a point.
# - *That the numbers of the release are the best ones.* They are the authors'; no search was made here for better ones.
#
# Which images each number was read on: the CNN's on 5,000 bundled images that trained nothing, `demo`'s history on its
# validation images, the study's on the 10,000 test images.
#
# ## Words
#
# | word | here |
# |---|---|
# | loss weight λ_k(e) | the factor of exit k's loss in epoch e |
# | schedule | the loss weights as a function of the epoch |
# | two phases | deep exits count most at first, early exits later |
# | first phase, phase ratio | the share of epochs before a hard switch |
# | control | a training that lacks what is tested: `uniform`, `deep-only`, `early-only` |
# | AdamW | an optimiser that divides each step by the size of recent gradients |
# | score (study) | test accuracy averaged over the budgets from 30 to 100 % |
#
# ## References
#
# - The method and its two phases: [Decoupled Multi-Predictor Optimization](https://arxiv.org/abs/2511.03245), ICCV
#   2025.
# - The last exit first, then all alike: [Mixed training](https://arxiv.org/abs/2407.14320).
# - The optimisers: [Adam](https://arxiv.org/abs/1412.6980), [AdamW](https://arxiv.org/abs/1711.05101), [one cycle of
#   the learning rate](https://arxiv.org/abs/1708.07120).
#
# Next: [05 · Thresholds and compute](05_thresholds_and_compute.ipynb)
