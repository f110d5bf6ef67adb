# %% [markdown]
# # 4 · The phase schedule
#
# *One trunk, six predictors: which loss should count, and when?*
#
# **Goal.** Draw the loss weights λ_k(e), see what each of the two phases does to each exit, and train a small model
# with both and with either in under a minute.
# **Time.** 15 minutes to read, a minute to run.
# **Before.** [00](00_quickstart.ipynb); [01](01_the_conflict.ipynb) shows the conflict that this is an answer to.

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
import torch

import dmpo_explore as dx
from dmpo_explore.course.exercises.phase_schedule import check_1, check_2, check_3
from dmpo_explore.course.interactive import choice, live, numbers, slider

EPOCHS = 100  # as in the authors' release

# %% [markdown]
# ## Two phases
#
# The loss is a sum over the exits, L(e) = Σ λ_k(e) · ℓ_k. With every λ_k = 1 the early exits shape the shallow
# features from the first step, though the deep exits depend on them. DMPO weights the deep exits first and the early
# ones later; the weights of the authors' release cross in straight lines.
#
# **Predict.** The weights of exit 1 and of the last exit start far apart and change places. After how many of the 100
# epochs do they cross: before the middle, in the middle, or after it?


# %% tags=["live"]
def drawn(schedule, ratio, exits, epoch):
    weights = [dx.training.loss_weights(schedule, e, EPOCHS, exits, phase_ratio=ratio) for e in range(EPOCHS)]
    shown = "  ".join(f"{weight:.2f}" for weight in weights[epoch - 1])
    return dx.figures.schedule_figure(
        weights, epoch - 1
    ), f"{schedule}, epoch {epoch}: λ = {shown}, sum {sum(weights[epoch - 1]):.2f}"


live(
    drawn,
    epoch=slider("epoch", 1, EPOCHS, 63),
    ratio=slider("first phase", 0.0, 1.0, 0.5),
    exits=slider("exits", 1, 8, 4),
    schedule=choice("schedule", list(dx.training.SCHEDULES), "linear"),
)

# %% [markdown]
# *first phase* is the share of epochs before a hard switch: only `switch` and `mixed` use it. `linear` has the
# release's numbers, for four exits; for other numbers of exits they are resampled by depth, which is our choice, as are
# the shapes of `cosine` and `exponential`. `deep-only` and `early-only` are one phase without the other: controls.
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
# After the middle: the early exits get less than half of the time, and the last exit's weight never goes to zero.
#
# ## What it did to a real run
#
# `demo` was trained for four epochs with these weights, stretched over its six exits.
#
# **Predict.** In the first epoch exit 1 has a weight of 0.01. Where will its accuracy be after that epoch: at chance
# (10 %), or higher? And exit 6, whose weight falls from 2.00 to 0.27: will it get worse?

# %%
dx.figures.history_figure(dx.load_run("demo").history())

# %% [markdown]
# Left: the weights cross over. Right: after an epoch with a weight of 0.01 exit 1 is far from chance (below we shall
# see why). Exit 6 goes on improving while its weight falls, but the exits before it overtake it. Everything improves
# as the learning rate falls, so this figure alone does not show the effect of the weights. For that we have to train
# the same model with other weights.

# %% [markdown]
# ## Train it yourself
#
# scikit-learn's 8 × 8 digits and a vision transformer small enough to be trained from scratch: 600 images,
# eight epochs, three exits. Three times the same seed, the same images in the same order; only the weights differ: the
# release's cross-over, and each of its two phases alone.
#
# **Predict.** Under `deep-only` the loss of exit 1 counts a hundredth, for all eight epochs. How far will its accuracy
# stay behind that of `early-only`, where it counts one and a half: 5, 20 or 50 points?

# %%
data = dx.DataConfig("digits", train_size=600)
tiny = dx.ModelConfig("test_vit", "random", image_size=32, exits=(2, 4, 6), tuning="full", bypass_width=16, channels=16)


def trained(schedule):
    rates = {"tuning_lr": 3e-3, "predictor_lr": 4e-3, "batch_size": 32, "flip": False, "precision": "no"}
    settings = dx.TrainingConfig(epochs=8, schedule=schedule, **rates)
    return [result.accuracy for result in dx.train_epochs(dx.Config(data, tiny, settings), schedule)]


accuracy = {schedule: trained(schedule) for schedule in ("linear", "deep-only", "early-only")}
over_time = {schedule: [exits[0] for exits in epochs] for schedule, epochs in accuracy.items()}
dx.figures.depth_figure(over_time, "accuracy of exit 1 on val", x=[f"epoch {e}" for e in range(1, 9)])

# %% [markdown]
# A weight 150 times smaller, and hardly a difference. Were you surprised? The reason is the optimiser: AdamW divides
# every step by the size of recent gradients. A predictor that only its own exit trains is invariant to a
# factor in front of its loss. Here is the same parabola, once with each weight:

# %%
paths = {}
for weight in (0.01, 1.5):
    w = torch.ones(1, requires_grad=True)
    optimiser, paths[f"λ = {weight}"] = torch.optim.AdamW([w], lr=0.1, weight_decay=0.0), []
    for _ in range(8):
        optimiser.zero_grad()
        (weight * w**2).sum().backward()
        optimiser.step()
        paths[f"λ = {weight}"].append(w.item())
dx.figures.depth_figure(paths, "w after each step", x=[f"step {e}" for e in range(1, 9)])

# %% [markdown]
# So a loss weight does not set *how fast an exit learns*. It sets *which exit dominates where exits share parameters*:
# in the trunk. Look at all the exits together, at the end.
#
# **Predict.** Where will `early-only` be worse than the other two, if anywhere?

# %%
dx.figures.depth_figure({schedule: epochs[-1] for schedule, epochs in accuracy.items()}, "accuracy on val, last epoch")

# %% [markdown]
# Under `early-only` the deep exits hardly shape the trunk, and its right end shows it, faintly. With 143 validation
# images one image is 0.7 points: take the order of the lines with care, and read on.
#
# ## On a pre-trained backbone, three times
#
# [The study](../benchmarks/RESULTS.md) trained `dmpo` with `linear` and with `uniform` weights three times each, on
# 2,000 images of Fashion-MNIST: points of test accuracy that the two phases add, with a 95 % interval over test
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
# the three trainings. The first exit, whose weight rises to 1.5, does not gain in every training: one lost. A gain
# this small, on one data set, is no general result.
#
# ## Try it: three exercises
#
# **1.** In which epoch of 100 (counted from 1) is exit 1's weight first above exit 4's, if the schedule is
# `exponential` and there are four exits?

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# **2.** `switch` gives exit 1 a weight of 0.01 in the first phase and of 1.5 in the second. Which `phase_ratio` gives
# it a weight of 1 *on average* over 100 epochs (to within 0.01)?

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** Write a schedule of your own: a function of `(epoch, epochs, n_exits)`, epochs counted from 0, that returns
# `n_exits` weights. None is negative, they sum to 3 in every epoch, the last exit outweighs the first in the first
# epoch, and the first outweighs the last in the final one. It should work for any two or more exits.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - *That one schedule beats another.* One seed and 143 validation images: three points are noise here. Change `seed=`
#   in `TrainingConfig` and look how far the lines move.
# - *That phases matter as little, or as much, on a frozen, pre-trained backbone*, from the digits: this tiny one learns
#   everything. The study's figure above is about such a backbone.
# - *That another optimiser is invariant too.* With plain SGD a factor in the loss is a factor in the step.
# - *That the numbers of the release are the best ones.* They are the authors'; no search was made here for better ones.
# - *Anything about test accuracy.* Every number above was read on validation images, on purpose.
#
# Next: [05 · Thresholds and compute](05_thresholds_and_compute.ipynb).
