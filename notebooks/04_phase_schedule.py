# %% [markdown]
# # 4 · The phase schedule
#
# *One trunk, six exits: which loss should count, and when?*
#
# **Goal.** Draw the loss weights λ_k(e). See what schedules do to the exits of a small CNN, and what the optimiser
# does. Write the release's *coupled* loss. Then put all parts of the method together and see what they are worth.
#
# **Time.** 40 minutes to read; about 100 with the build, the predictions and the exercises. A minute and a half to run.
#
# **Before.** [01](01_the_conflict.ipynb) shows the conflict that this is an answer to, and has the network. It also
# shows that linear exits of eight epochs are trained too briefly. So the comparisons below have eight epochs and 24
# where the time allows. Words are at the end and in the [glossary](../docs/glossary.md); the method is
# [DMPO](https://arxiv.org/abs/2511.03245).

# %% tags=["network"]
import dmpo_explore as dx

dx.course.network("all")

# %% [markdown]
# The drawing is one stage; the exits of all stages share one trunk. During the training their losses are added, each
# with a weight: these weights are the subject here. At the end all parts of the drawing come together.

# %% tags=["setup"]
import inspect

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
data, test = small_cnn.halves(dx.load_run("fashion"))  # 2,000 images to train on, 5,000 others to test on
kept = dx.course.study_table("schedules")  # accuracies from a benchmark, five seeds of every arm
gains = dx.course.study_table("schedule-gains")  # differences between its arms

# %% [markdown]
# ## Two phases
#
# The loss is a sum over the exits, L(e) = Σ λ_k(e) · ℓ_k. With every λ_k = 1 (`uniform`) the early exits shape the
# shallow features from the first step, though the deep exits depend on them. DMPO weights the deep exits first and the
# early ones later (its abstract); the weights of the authors' release cross in straight lines (`linear`).
#
# **Predict.** The weights of exit 1 and of the last exit start far apart and change places. After how many of the 100
# epochs do they cross: before the middle, in the middle, or after it? And over the whole training: which share of all
# weight does exit 1 get, more than a quarter or less?


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
    schedule=choice("schedule", [name for name in dx.training.SCHEDULES if name != "learned"], "linear"),
)

# %% [markdown]
# `linear` has the release's numbers, for four exits. For other numbers of exits they are resampled by depth, which is
# our choice, as are the shapes of `cosine` and `exponential`. `deep-only` and `early-only` are one phase without the
# other: controls. `mixed` is another paper's ([Mixed training](https://arxiv.org/abs/2407.14320)).

# %% tags=["numbers"]
release = np.array([dx.training.loss_weights("linear", e, EPOCHS, 4) for e in range(EPOCHS)])
numbers(
    exit_1_at_the_start=release[0, 0],
    exit_1_at_the_end=release[-1, 0],
    exit_4_at_the_start=release[0, 3],
    exit_4_at_the_end=release[-1, 3],
    crossing_epoch=int((release[:, 0] > release[:, 3]).argmax()) + 1,
    sum_at_the_end=release[-1].sum(),
    share_of_exit_1=release[:, 0].sum() / release.sum(),
)

# %% [markdown]
# After the middle, in epoch 63. And a quarter, as with four equal weights: the two phases do not give exit 1 a smaller
# share of the weight, they give it *later*.
#
# ## Four schedules
#
# The small CNN of 01: 2,000 images, six exits, AdamW. [A benchmark](../benchmarks/small_cnn_schedules.py) trained it
# five times with each schedule, for eight epochs and for 24; its table comes with the course. Only the loss weights
# differ. `one-exit` is the network without early exits.
#
# **Predict.** 01 found that under `uniform` the last exit loses four points after eight epochs; after 24 no loss is
# shown. Which schedules will give some of the four back, and what will become of the first exit? What will be left
# after 24 epochs?


# %%
def seeds_of(arm):  # (seeds, exits), per cent
    return 100 * kept[kept["arm"] == arm].pivot(index="seed", columns="exit", values="accuracy").to_numpy()


def ahead_of(base, arms, end=""):
    lines = {name: seeds_of(name + end) - seeds_of(base + end) for name in arms}
    places = {name: place for place, name in enumerate([base, *arms])}
    figure = dx.figures.seeds_figure(lines, f"points of test accuracy over {base}", colours=places)
    return figure.add_hline(y=0, line={"color": "gray", "width": 1})


lengths = {f"{epochs} epochs": end for epochs, end in {8: "", 24: "-24"}.items()}
schedules = ["linear", "deep-only", "early-only"]
dx.figures.side_by_side({name: ahead_of("uniform", schedules, end) for name, end in lengths.items()})

# %%
over_uniform = "points of test accuracy over uniform"


def gains_of(part, title=over_uniform, rivals=""):
    rows = gains[(gains["part"] == part) & gains["question"].str.contains(rivals)]
    return dx.figures.gains_figure(rows).update_xaxes(title=title)


dx.figures.side_by_side({name: gains_of(f"AdamW, {name}") for name in lengths}).update_layout(height=420)

# %% [markdown]
# The first figure has every exit, the mean of five seeds and a band from the lowest to the highest. In the second a bar
# is a 95 % interval over images and trainings, and a cross is one seed.
#
# *Eight epochs.* `linear` gives back about two of the four points that the last exit loses. At exit 1 it is 2.6 points
# better on average, but one seed is not, and the interval includes 0. Exits 3 and 4 pay for it: they are poorer with
# every seed. `deep-only` is the best at the end, about a point below the network with one exit, and the poorest at exit
# 1. `early-only` leans the other way: the poorest at the end, at exit 1 as good as `linear`.
#
# *24 epochs.* At the end no loss is shown, so there may be nothing to give back. No gain is shown there, either, by
# `linear` or by `deep-only`: −0.1 points [−0.9, +0.6] and +0.3 [−0.6, +1.1]. But the cost of `deep-only` at exit 1
# stays, 6.5 points. `linear` gains 1.9 points at exit 1, and `early-only` 3.4. The latter pays 1.7 at the end,
# with every seed.
#
# Over all six exits `deep-only` costs more than three points at both lengths. Neither `linear` nor `early-only` can be
# distinguished from `uniform`. So a schedule moves accuracy from exit to exit more than it adds any.
#
# ## What a weight does to an optimiser
#
# But look at exit 1 under `deep-only`. Its weight is a hundred times smaller than under `uniform`. Yet it has learnt
# most of it (33 % against 38 %, in a table below; chance is 10 %). Were you surprised? A likely reason is the
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
# 4.4 or 4.5, `uniform` to 6. So a fair comparison has a fifth schedule, `linear-sum-6`: the weights of `linear`,
# multiplied in every epoch by what makes their sum 6. (AdamW needs no such control: a constant factor in front of *all*
# losses cancels for all weights.)
#
# **Predict.** The schedules with SGD (momentum 0.9). What will the first exit be worth under `deep-only`, where its
# loss counts a hundredth? Chance is 10 %. And will `linear-sum-6` have the better first exit than `uniform`, as
# `linear` had with AdamW?

# %%
ahead_of("sgd-uniform", ["sgd-linear", "sgd-linear-sum-6", "sgd-deep-only"])

# %%
gains_of("SGD").update_layout(height=330)

# %%
of_exit = kept[kept["exit"].isin([1, 6])].assign(accuracy=100 * kept["accuracy"])
of_exit["optimiser"] = np.where(of_exit["arm"].str.startswith("sgd-"), "SGD", "AdamW")
of_exit["schedule"] = of_exit["arm"].str.removeprefix("sgd-")
table = of_exit.pivot_table(index="schedule", columns=["exit", "optimiser"], values="accuracy")
table.loc[["uniform", "linear", "linear-sum-6", "deep-only", "early-only", "one-exit"]].round(1).astype(object).fillna(
    "–"
)

# %% [markdown]
# Now the factor counts in full: under `deep-only` exits 1 and 2 hardly get beyond chance, and exit 6 is nearly as good
# as with AdamW. And `linear`? Its first exit is five points *behind* `uniform`'s. Half of that is the smaller sum: with
# equal sums 2.5 points remain, and exit 2 is eight points behind, with every seed. At the end two phases are
# 1.6 or 1.7 points ahead with SGD as well, but both intervals just include 0.
#
# So with AdamW the two phases help the first exit (after 24 epochs), and with SGD they harm it. After eight epochs the
# change of *optimiser* gains that exit more than any schedule tried. Under `uniform` it is 7 points better with SGD (45
# % against 38 %), while AdamW's best schedule gains less than 3. But a schedule can cost it more: with SGD it loses 33
# points under `deep-only`. For a good first exit one would take SGD and equal weights here, and pay at the end (76 %
# against 79 %). After eight epochs the last exit of six is behind one exit with either: four points with AdamW, five
# with SGD. A likely reason for SGD's early exits, not tested: they learn little while their weights are small, and the
# learning rate falls when their turn comes. This project uses AdamW.
#
# ## Build it: the coupled loss
#
# The release has one more idea about which loss should count. It *couples* the exits, image by image:
#
#     ℓ_1 = mean of CE_1          ℓ_k = mean of σ(CE_{k−1}) · CE_k   for k ≥ 2
#
# CE_k is an image's cross-entropy at exit k, σ is the sigmoid. What exit k − 1 has correct already is to count less at
# exit k.
#
# **Predict.** Exit k − 1 is sure of an image and correct: its CE is nearly 0. By which factor does the image count at
# exit k? And an image for which exit k − 1 is certain of an incorrect class?
#
# Write it. The release does *not* detach the factor: a gradient passes through σ, too. First think about what it does
# to exit k − 1.


# %% tags=["build"]
def coupled(logits, labels, weights):
    """logits (B, K, C), labels (B,), K weights λ_k → Σ λ_k · ℓ_k, a scalar tensor."""
    return ...


check_build(coupled)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# The product is taken for every image, before the mean. `F.cross_entropy` can return one number per image.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# All cross-entropies at once are (B, K). Shift them by one exit: exit 1 has no exit before it.
#
# </details>


# %% tags=["build", "solution"]
def solution(logits, labels, weights):
    each = [F.cross_entropy(logits[:, k], labels, reduction="none") for k in range(logits.shape[1])]
    losses = [each[0], *(each[k - 1].sigmoid() * each[k] for k in range(1, len(each)))]
    return sum(weight * loss.mean() for weight, loss in zip(weights, losses, strict=True))


coupled = coupled if check_build(coupled) else solution
check_build(coupled)

# %% [markdown]
# By 0.5, not by 0: a cross-entropy is never negative, so σ lies between ½ and 1. An image for which exit k − 1 is
# certain of an incorrect class counts nearly in full. And the gradient through σ pushes CE_{k−1} down wherever exit k
# still has a loss: more weight for the *earlier* exit (exercise 2 measures how much).
#
# Now train with it: `linear` weights, with your coupling and without it, five seeds each.
#
# **Predict.** Which exits gain by the coupling, the early or the deep ones?


# %%
class Coupled(small_cnn.EarlyExitCNN):
    def loss(self, x, labels, weights):
        return coupled(self(x), labels, weights)


def trained(schedule, make=small_cnn.EarlyExitCNN):
    net = make()
    small_cnn.train(net, data, schedule, small_cnn.adam(net))
    return net


def named(schedule):
    return lambda epoch, epochs, n_exits: dx.training.loss_weights(schedule, epoch, epochs, n_exits)


def five(schedule, make=small_cnn.EarlyExitCNN):
    return small_cnn.repeated(lambda: trained(schedule, make), test, seeds=5)


linear, with_coupling = five(named("linear")), five(named("linear"), Coupled)


# %%
def gain_at(exit, what, more, less):
    exits = slice(None) if exit is None else slice(exit - 1, exit)
    place = "mean of all exits" if exit is None else f"exit {exit}"
    return on_tokens.gain(f"{what}, {place}", *(of[..., exits].mean(axis=2) for of in (more, less)))


rows = [gain_at(exit, "coupling", with_coupling, linear) for exit in (1, 2, 3, 4, 5, 6, None)]
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=380)

# %% [markdown]
# Neither, as far as five trainings show: every interval includes 0. Exit 2 gains 1.2 points on average and something in
# each training, so that is *preliminary*. The library has the coupling as `coupling="sigmoid"`; it is off by default.
#
# ## On a pre-trained backbone
#
# [The study](../benchmarks/RESULTS.md) trained `dmpo` with `linear` and with `uniform` weights three times each, on
# 2,000 images of Fashion-MNIST. The *score* is the mean test accuracy over all budgets from 30 to 100 %.
#
# **Predict.** The last exit's weight ends at 0.27 under `linear` and stays at 1 under `uniform`. Will its accuracy
# fall?

# %%
study = dx.course.study_table("gains")
dx.figures.gains_figure(study[study["question"].str.startswith("gain of two-phase")])

# %% [markdown]
# No fall is shown by three trainings; one of more than 0.3 points is excluded. All three trainings gain in score, a
# third of a point on average, and that interval lies just above 0. (They agree more closely than chance among images
# lets one expect; other three may not. The linked page's intervals are over images alone.) The other lines include 0.
# So on a pre-trained backbone, tuned with adapters, two phases gain a little; more than 0.6 points in score are
# excluded. The study's second edition has today's recipe, which tunes with LoRA, three trainings each. Beside the other
# parts no gain is shown at 30 and 40 % of the compute; added to naive exits two phases gain 0.4 points at 40 %.
#
# ## Weights that are learned
#
# Need anybody choose a schedule? `--schedule learned` moves the K weights on held-out training images while the model
# trains ([how](../docs/experiments.md)). They begin equal. Here are three trainings on Fashion-MNIST, four exits,
# four epochs.
#
# **Predict.** Will the weights pass from the deep exits to the early ones, as in two phases? Will three seeds agree?

# %%
learned = dx.course.study_table("learned-weights")
exits = [f"lambda_{k}" for k in range(1, 5)]
dx.figures.side_by_side(
    {f"seed {seed}": dx.figures.schedule_figure(of[exits].to_numpy()) for seed, of in learned.groupby("seed")}
)

# %% [markdown]
# Neither. Exit 1 loses weight in all three, and at the end nothing returns to it. With seeds 0 and 1 the deep exits
# gain most, with seed 2 exit 2. And the accuracy? It was compared with `linear`, with `uniform` and with a random
# search of the same cost, at three budgets: all nine intervals include 0. The training takes nearly twice as long. Four
# epochs are few: longer ones were not tried.
#
# ## All of it together
#
# Bypass (02), covariance head (03) and two phases: here is the whole method in the small CNN. Every early exit is this
# one, the last exit stays linear, and the loss weights are `linear`:

# %%
print(inspect.getsource(small_cnn.SecondOrderExit))

# %% [markdown]
# What is it worth? Two rivals, at *equal compute*, everything that runs counted:
#
# - *naive exits*: the CNN of 01, linear exits and `uniform` weights, with a policy of its own;
# - *static nets*: the first stages with one exit of the whole method at the end, trained for nothing else. Every image
#   takes that exit. There are four, of 2, 3, 4 and 6 stages.
#
# The budgets are the compute of the four static nets, in per cent of the plain CNN. For each budget a confidence
# threshold is fitted on 3,000 images that are in neither half. Five seeds from the benchmark; bypass and head were made
# narrow after a look at three sizes, on those 3,000 images. In 01 eight epochs were too few for linear exits. So
# everything was trained for 24 epochs, too.
#
# **Predict.** Four networks trained for one exit each, against one network with six exits. Who is ahead at equal
# compute? And which of the leads over naive exits will be left after 24 epochs?

# %%
torch.manual_seed(0)
net = trained(named("linear"), small_cnn.SecondOrderCNN)  # one training of it, here
mine = pd.DataFrame({"yours": 100 * small_cnn.correct(net, test).mean(axis=0)}, [f"exit {k}" for k in range(1, 7)])
mine["compute, %"] = 100 * small_cnn.record(net, test).flops_fraction
for name, arm in {"whole method": "whole", "naive": "uniform"}.items():
    for epochs, end in {8: "", 24: "-24"}.items():
        mine[f"{name}, {epochs} epochs, five seeds"] = seeds_of(f"{arm}{end}").mean(axis=0)
mine.T.round(1)

# %%
at = dx.course.study_table("equal-compute").query("epochs == 24")
lines = {arm: of.pivot(index="seed", columns="stages", values="accuracy").to_numpy() for arm, of in at.groupby("arm")}
budgets = [f"{100 * share:.0f}" for share in sorted(at["compute"].unique())]
figure = dx.figures.seeds_figure(lines, "accuracy on test", x=budgets)
figure.update_yaxes(tickformat=".0%", title="accuracy on test, 24 epochs")
figure.update_xaxes(title="compute allowed, % of the plain CNN")


# %%
def ahead_at_equal_compute(rivals, height):
    title = "points of the whole method ahead"
    parts = {name: gains_of(f"equal compute, {name}", title, rivals) for name in lengths}
    return dx.figures.side_by_side(parts).update_layout(height=height)


ahead_at_equal_compute("naive", 330)

# %%
ahead_at_equal_compute("static|plain", 360)

# %% [markdown]
# Against *naive exits* time decides. After eight epochs the whole method is ahead at every budget: 14 points at 17 % of
# the compute, 7 at 35 %, 3 from there on. After 24 epochs 7.6 and 1.8 points are left at the two small budgets. At the
# two large ones no difference is shown. So after 24 epochs a lead is left where compute is scarce. The first naive
# exits are still trained too briefly there.
#
# Against *static nets* it depends on the budget. After eight epochs the whole method is 1.9 points ahead at 58 % of the
# compute and 0.9 behind at 102 %. At 17 and 35 % no difference is shown. After 24 epochs it is ahead at 17, at 58 and
# at 102 %, by about a point each. At 35 % the interval just includes 0. The plain net with one exit is 1.2 points ahead
# of its last exit after eight epochs. After 24 no difference is shown: 0.1 points. So no conflict is shown here,
# either. (The two figures have nine intervals for each length. Of those that begin near 0 one may lie beside it by
# chance.)
#
# So what does the method buy in this CNN? *One* network in place of four: after 24 epochs no net that was made for one
# budget is shown to be better. A likely reason for its lead: a policy can divide the compute among easy and hard
# images. (The column `used` of the table `at` has what each policy took.) Head and bypass are not free: its full depth
# takes 116 % of the plain CNN's compute.
#
# What do head and bypass add, the loss weights being equal? Exit 1 of the whole method has 69.8 % correct after eight
# epochs. With `linear` weights and a linear exit it had 40.5 %, in the table of both optimisers. But most of these 29
# points may be brief training: in 01 linear exits *trained to the end* have 63 % at stage 1. After 24 epochs the
# whole method has 74.7 % there.
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
# **2.** The coupled loss is L = mean over images of λ_1 c_1 + Σ λ_k σ(c_{k−1}) c_k. Here c_k is the image's
# cross-entropy at exit k. How much does an exit *really* count in it? Write a function of c (B, K) and of the K
# weights. It returns (B, K): for each image the derivative of the term in the mean with respect to c_k. Without
# coupling that would be λ_k.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# c_k is in two terms of the sum: once as the loss of exit k, once inside the sigmoid of the next. Which exits are in
# one only?
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# σ′ = σ · (1 − σ). Test yours with small differences: add 0.0001 to one c_k and see how the term changes.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# import numpy as np
#
#
# def answer_2(c, weights):
#     sigma = 1 / (1 + np.exp(-c))
#     counts = np.array(weights, float) * np.ones_like(c)
#     counts[:, 1:] *= sigma[:, :-1]  # as the loss of its own exit
#     counts[:, :-1] += np.array(weights)[1:] * sigma[:, :-1] * (1 - sigma[:, :-1]) * c[:, 1:]  # within the next one's
#     return counts
# ```
#
# </details>

# %% [markdown]
# **3.** Write a two-phase schedule of your own: a function of `(epoch, epochs, n_exits)`, epochs counted from 0, that
# returns `n_exits` weights. None is negative, and they sum to 3 in every epoch. On average over the first half of the
# epochs the last exit outweighs the first; over the second half the first outweighs the last. It should work for any
# two or more exits.

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
# **Use yours.** Once they pass, these cells take your answers. The first one measures, for the network above with six
# coupled exits, how much each exit counts on average if all λ are 1. (Until then autograd does.)


# %%
def by_autograd(c, weights):
    c = torch.tensor(c, requires_grad=True)
    own = torch.cat((c[:, :1], c[:, :-1].sigmoid() * c[:, 1:]), dim=1)
    return torch.autograd.grad((own * torch.tensor(weights)).sum(), c)[0].numpy()


torch.manual_seed(0)
fresh, after = Coupled().eval(), trained(named("linear"), Coupled).eval()
counts = answer_2 if check_2(answer_2) else by_autograd
rows = {}
for name, of in {"before the training": fresh, "after it": after}.items():
    with torch.no_grad():
        logits = of(data.pixels).transpose(1, 2).double()  # (B, 10, K)
    c = F.cross_entropy(logits, data.labels[:, None].expand(-1, 6), reduction="none")  # (B, K)
    rows[name] = counts(c.numpy(), [1.0] * 6).mean(axis=0)
pd.DataFrame(rows, [f"exit {k}" for k in range(1, 7)]).T.round(2)

# %% [markdown]
# All λ are 1, and yet exit 1 counts nearly twice as much as exit 6 after the training, 1.15 against 0.61. Before it
# exits 2 to 5 are alike, because all cross-entropies are. Exit 1 has no factor before it and exit 6 no exit behind it,
# so 1.19 against 0.91. In absolute terms every exit counts less after
# the training, exit 1 a little, exits 4 to 6 much. So the *share* of the early exits grows here, in one training: that
# of exit 1 from 18 to 22 %. In that the coupling resembles the second phase.
#
# The second cell trains your schedule, five seeds with AdamW. Until it passes it trains the library's `cosine`, as on
# the saved page.
#
# **Predict.** Will yours be ahead of `linear` at exit 1, at exit 6, over all exits?

# %%
name, schedule = ("yours", answer_3) if check_3(answer_3) else ("cosine", named("cosine"))
own = five(schedule)
rows = [gain_at(exit, f"{name} over linear", own, linear) for exit in (1, 6, None)]
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=280)

# %% [markdown]
# The saved page's `cosine` has the ends of `linear` and another path between them. Over all exits it is 0.2 points
# ahead, and that interval begins just above 0. (Of three independent intervals at least one lies beside 0 by chance in
# one of seven cases.) At exits 1 and 6 no effect of the path is shown, and up to 1.3 points at exit 1 are not excluded.
# What did yours change, the ends or the path?
#
# ## What you cannot conclude
#
# - *That `linear` is worth having in this CNN.* After 24 epochs it gains at exit 1; over all exits no gain is shown.
#   `early-only` gains more there with four of five seeds.
# - *That SGD's order of schedules lasts.* It was measured after eight epochs only, as was the coupling.
# - *That one schedule beats another in general.* A small CNN, two lengths, one recipe per optimiser: the learning rates
#   were not searched per schedule, but chosen after a few trials on the same 5,000 images. Others may change the order.
# - *That a loss weight never matters under AdamW.* It matters where exits share weights, in the trunk. Only an exit's
#   own weights do not feel a constant factor. They do feel one that changes during the training.
# - *That SGD cannot train two phases.* One learning rate and one cycle were tried here.
# - *That the method is this far ahead of naive exits in general.* The leads shrink from eight to 24 epochs. After 24
#   the first naive exits are not trained to the end, either (01). Naive exits that are were not compared.
# - *Which part of the method does it*, from the last figure: head, bypass and weights change at once there. The table
#   of exits separates head and bypass from the weights at exit 1, but not from each other. 02 and 03 take them apart.
# - *That the numbers of the release are the best ones.* They are the authors'; no search was made here for better ones.
#
# The CNN's numbers are read on 5,000 bundled images that trained nothing, the study's on the 10,000 test images.
#
# ## Words
#
# | word | here |
# |---|---|
# | loss weight λ_k(e) | the factor of exit k's loss in epoch e |
# | schedule | the loss weights as a function of the epoch |
# | two phases | deep exits count most at first, early exits later |
# | control | a training that lacks what is tested: `uniform`, `deep-only`, `early-only` |
# | coupling | an image's loss at an exit is multiplied by the sigmoid of its loss at the exit before |
# | static net | a network with a single exit, which all images take |
# | 95 % interval | made so that in about 95 of 100 repetitions it contains the true value |
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
