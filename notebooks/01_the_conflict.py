# %% [markdown]
# # 1 · The conflict
#
# Why not simply put a predictor behind every second block of a backbone?
#
# **Goal.** Measure what each stage of a network represents, how early predictors change it, and how DMPO preserves it.
#
# **Time.** 20 minutes to read, about a minute to run.
#
# **Before.** [00](00_quickstart.ipynb). The backbone's weights are needed (`dmpo-explore fetch`).

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/01_the_conflict.ipynb)

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

dx.course.network("trunk")

# %% tags=["setup"]
from dataclasses import replace
from functools import cache

import torch

import dmpo_explore as dx
from dmpo_explore.course.exercises.the_conflict import check_1, check_2, check_3
from dmpo_explore.course.interactive import live, numbers, slider

runs = {name: dx.load_run(name) for name in ("demo", "demo-naive", "demo-single")}
config = runs["demo"].config.model
dx.fetch_weights(config.backbone)

images = runs["demo"].inputs("test", range(240))
labels = torch.tensor(runs["demo"].record("test").labels[:240])
fitted = dx.inspection.half_of(len(images))  # probes are fitted on this half and tested on the other

# %% [markdown]
# Three models share the same frozen ViT-S/14 with the same few trainable weights beside its own (the *tuning*, here
# LoRA), trained on the same 10,000 Fashion-MNIST images:
#
# | name | exits | predictors | loss weights |
# |---|---|---|---|
# | `demo-single` | one, at the end | linear | – |
# | `demo-naive` | after every two blocks | linear | uniform |
# | `demo` (DMPO) | after every two blocks | bypass + second order | two phases |
#
# `demo-naive` is no straw man: its gradients are scaled where an exit branches off, so that none dominates the others
# (*gradient equilibrium*, [Li et al. 2019](https://arxiv.org/abs/1908.06294)).
#
# ## Every exit trains the shared weights
#
# All exits of `demo-naive` train the same tuning towards features from which a label can be read, the first ones after
# two blocks. The records hold the result on all 10,000 test images.
#
# **Predict.** Will the *last* exit of `demo-naive` be as good as `demo-single`, which has the same last predictor?

# %%
accuracy = {name: run.record("test").correct.mean(axis=0) for name, run in runs.items()}
lines = {"demo (DMPO)": accuracy["demo"], "demo-naive": accuracy["demo-naive"]}
lines["demo-single"] = [float("nan")] * 5 + list(accuracy["demo-single"])
dx.figures.depth_figure(lines, "accuracy on test").update_yaxes(tickformat=".0%")

# %% [markdown]
# The earlier a naive exit sits, the poorer it is. The last one lies 0.3 points below the single model, less than the
# sampling error of these test images. DMPO's early exits are far better, and its deep ones are no worse than the
# single model though their weights in the loss end low. Probes of the stages show what happened inside.
#
# ## What a stage represents
#
# A **probe** is the simplest reader: a ridge regression on frozen tokens. It predicts two things from the tokens that
# the trunk passes on after every two blocks:
#
# - *low level*: the mean grey of the patch that a token stands for (what a deeper stage may still need);
# - *label*: the class of the image, from the mean of its patch tokens (what an exit needs here).
#
# Half of 240 bundled test images fit the probes, the other half tests them; nothing about the models is chosen by it.
# The fourth line, `untuned`, is the backbone without any tuning. `demo-single` has no early exits, so its trunk is cut
# at the same blocks by `block_view`.
#
# **Predict.** With depth, which of the two gets easier and which harder? Which trunk loses low-level detail first:
# the naive or DMPO's?

# %% tags=["setup"]
untuned = dx.build_model(replace(config, tuning="none", bypass="none", predictor="linear"), 10)
models = {"untuned": untuned} | {name: run.model() for name, run in runs.items()}


@cache
def tokens(name):
    model = models[name]
    return dx.stage_tokens(dx.inspection.block_view(model, 2) if name == "demo-single" else model, images)


# %%
trunks = {name: dx.probe_stages(tokens(name), images, labels, sources=["trunk"]) for name in models}
dx.figures.probe_figure(trunks)

# %% [markdown]
# Left, up is *worse*: the probe's error in the grey mean is larger (the axis is logarithmic). Right, up is better.
#
# The naive trunk fits its exits: the label is easy to read early, and at every depth it has lost more of the image than
# the others. DMPO's trunk keeps nearly as much of the image as the single model's, which has no early exit. Its early
# exits are good all the same, because they do not read the trunk alone:
# [02](02_bypass_decomposition.ipynb) shows what the bypass adds.
#
# This is what the paper calls *representative* against *discriminative* ability. That the first can be measured by
# patch means is our choice.
#
# ## What is left of the image
#
# The same, made visible: one linear probe per stage predicts all 14 × 14 pixels of a patch from its token.
#
# **Predict.** After twelve blocks and with one token per patch, can you still recognise the garment?

# %% tags=["setup"]
grey = images.mean(dim=1).numpy()
shown = [i for i in range(len(images)) if not fitted[i]]  # images that no probe was fitted on


@cache
def reconstructed(name, stage):
    return dx.inspection.reconstruct(tokens(name).patches(stage), images, (5, 5), fitted)


def unexplained(name, stage):
    error = (grey - reconstructed(name, stage))[~fitted]
    return float((error**2).sum() / ((grey - grey[~fitted].mean())[~fitted] ** 2).sum())


# %% tags=["live"]
def what_is_left(exit, image):
    names = ["demo-single", "demo-naive", "demo"]
    panels = {"image": grey[shown[image]]} | {name: reconstructed(name, exit - 1)[shown[image]] for name in names}
    line = ", ".join(f"{name} {unexplained(name, exit - 1):.1%}" for name in names)
    figure = dx.figures.matrix_figure(panels, scale="image").update_layout(height=320)
    return figure, f"exit {exit} · pixel variance not explained: {line}"


live(what_is_left, exit=slider("exit", 1, 6, 6), image=slider("image", 0, 39, 8))

# %% [markdown]
# The line above the images is over all 120 images that were not fitted: the share of the pixels' variance that the
# probe does not explain. Drag the exit: all three blur with depth, the naive trunk first and most. At the very end
# DMPO's lies between the two.
#
# ## The conflict in the gradients
#
# Every loss has a gradient with respect to the tuned weights. For each early exit, take the gradient of its loss and
# that of the last exit's loss *on the tuned weights that both use*, and measure the cosine: 1 is the same direction, 0
# is unrelated, below 0 one step undoes the other (a *conflict* in the sense of [Yu et al.
# 2020](https://arxiv.org/abs/2001.06782)).
#
# **Predict.** At the start of training, with fresh predictors: positive, around zero or negative? And in the trained
# naive model: which exit agrees least with the last one?

# %%
few = slice(0, 64)
torch.manual_seed(0)
fresh = dx.build_model(runs["demo-naive"].config.model, 10)
compared = {"naive, before training": fresh, "naive, trained": models["demo-naive"], "DMPO, trained": models["demo"]}
conflicts = {name: dx.gradient_conflict(model, images[few], labels[few]) for name, model in compared.items()}
dx.figures.gradient_conflict_figure(conflicts)

# %% [markdown]
# Before training, the gradients are close to unrelated. In trained models the deep exits agree with the last one; the
# first one's gradient is still nearly unrelated to it and the second one's little more, so those exits share little of
# its objective. An outright conflict, a cosine well below 0, is **not** what these models show on these images; early
# exits use the shared weights for another objective. The table gives the share of the batches in which the two
# gradients pointed against each other (`opposed`): none.

# %%
conflicts["naive, trained"].round(3)

# %% [markdown]
# ## Along a whole training, three times
#
# [The study](../benchmarks/RESULTS.md) trained such models, with adapters as their tuning, three times each and
# measured these cosines after every epoch (64 validation images; mean over the three trainings).
#
# **Predict.** From the first epoch to the last: will the exits agree more with the last one, or less? And is
# an outright conflict, below 0, where training *begins* or where it ends?

# %%
gradients = dx.course.study_table("gradients")
arms = ("naive-both", "dmpo-uniform", "dmpo-no-bypass", "dmpo")
dx.figures.gradient_epochs_figure({arm: gradients[gradients["arm"] == arm] for arm in arms})

# %% [markdown]
# Most lines rise, those of the deep exits most of all; the first exits hardly move. What lies below 0 on average lies
# there early and not far: exit 2 of `dmpo` after the first epoch, when its loss counts a hundredth. At the end the
# naive exits agree *more* with the last one than those of `dmpo` (0.39 against 0.28, mean over the early exits; more
# in each of the three trainings). So agreement is not the aim in itself: the trunk that naive exits share has moved
# further from the untuned backbone (CKA 0.83, mean over the early stages; `dmpo` 0.92; the single model, which has no
# early exits, 0.93).

# %% tags=["numbers"]
deep = {name: table.iloc[-1] for name, table in trunks.items()}
numbers(
    naive_exit_1=float(accuracy["demo-naive"][0]),
    dmpo_exit_1=float(accuracy["demo"][0]),
    naive_last=float(accuracy["demo-naive"][-1]),
    single_last=float(accuracy["demo-single"][-1]),
    low_level_missed_naive=1 - float(deep["demo-naive"]["low_level"]),
    low_level_missed_dmpo=1 - float(deep["demo"]["low_level"]),
)

# %% [markdown]
# ## Try it: three exercises
#
# **1.** By the records of all test images: at which exit (counted from 1) is `demo-naive` furthest behind `demo`?

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# **2.** *Gradient surgery* (Yu et al. 2020): where two gradients conflict, take from the first its part along the
# second; where they do not, leave it alone. Write a function of two vectors (tensors) that returns the changed first
# one.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** The label probe above read the mean patch token. Let it read the *class token* (position 0) of the trunk
# behind exit 1 of `demo-naive` instead: what is its accuracy on the held-out half?
# (`dx.inspection.ridge_accuracy`.)

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - One run each, one data set, one backbone: whether the gaps between lines are larger than those between seeds is a
#   question for [the study](../benchmarks/RESULTS.md), not for this notebook. 120 images test a label probe, so its
#   points are off by ± 3 % or so.
# - A probe shows what *can* be read linearly, not what the next stage uses, and not what a deeper probe could read.
# - `demo` differs from `demo-naive` in bypass, predictor *and* loss weights at once. Which of them preserved the
#   trunk cannot be concluded from these three runs.
# - The gradients are snapshots on 64 images. Where a sum of losses has come to rest the parts cancel, so a negative
#   cosine in a trained model would not prove that exits harm each other, nor does a positive one prove the contrary.
#
# Next: [02 · Trunk against bypass](02_bypass_decomposition.ipynb)
