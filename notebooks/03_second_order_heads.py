# %% [markdown]
# # 3 · Second-order heads
#
# What do early predictors gain from *how features vary together* over an image, and how much compute does it take?
#
# **Goal.** Follow one image from mean pooling to covariance, see Newton–Schulz compute a matrix square root and Moment
# Probing build its matrices, and compare compute with gain.
#
# **Time.** 20 minutes to read, less than a minute to run.
#
# **Before.** [01](01_the_conflict.ipynb) for probes. A little linear algebra: covariance, eigenvalues.
#
# ![One stage of the network: trunk, bypass, predictor and exit; today: its predictor](network/predictor.svg)

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/03_second_order_heads.ipynb)

# %% tags=["install"]
# Installs the project where it is missing, as in Colab. Elsewhere this cell does nothing.
import importlib.util
import os
import subprocess
import sys

if not importlib.util.find_spec("dmpo_explore"):
    clone = ["git", "clone", "-q", "--depth=1", "https://github.com/-owner-/dmpo-explore", "dmpo-explore"]
    subprocess.run(clone, check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "./dmpo-explore[notebooks]"], check=True)
    os.chdir("dmpo-explore/notebooks")
    sys.path.insert(0, os.getcwd())

# %% tags=["setup"]
from dataclasses import replace

import pandas as pd
import torch

import dmpo_explore as dx
from exercises.second_order_heads import check_1, check_2, check_3
from interactive import live, numbers, slider

run = dx.load_run("demo")
config = run.config.model
dx.fetch_weights(config.backbone)
model = run.model()

stage = model.stages[0]  # exit 1, behind two blocks
image = run.inputs("test", [8])
with torch.no_grad():
    raw = stage.trunk(model.embed(image))
    read, _ = stage.bypass(raw)
    normed = stage.norm(read)  # (1, 26, 384): a class token and 25 patch tokens
    reduced = stage.predictor.reduce(normed[:, stage.prefix :])  # (1, 25, 48)
sigma = dx.models.covariance(reduced)

# %% [markdown]
# That early exits read second-order statistics is the paper's (abstract). `moment` follows Moment Probing in the
# authors' release; `covariance`, this run's predictor, is ours, with the signed square root ([Lin et al.
# 2015](https://arxiv.org/abs/1504.07889)) or, as here, the matrix square root of iSQRT-COV ([Li et al.
# 2018](https://arxiv.org/abs/1712.01034)).
#
# ## From a mean to a covariance
#
# At exit 1 the image is 25 patch tokens, reduced by a learnt projection from 384 to 48 channels. Mean pooling keeps
# one number per channel. The covariance keeps one per *pair* of channels: do they rise and fall together over the
# patches?
#
# **Predict.** Two images have the same patches in another order: which of mean and covariance distinguishes them?

# %%
dx.figures.matrix_figure({"the image": image[0].mean(dim=0)}, scale="image").update_layout(height=240)

# %%
panels = {"25 tokens × 48 channels": reduced[0], "their mean": reduced.mean(dim=1)}
dx.figures.matrix_figure(panels, shared=False).update_layout(height=240)

# %%
dx.figures.matrix_figure(
    {"covariance Σ, 48 × 48": sigma[0], "signed square root of each entry": dx.models.signed_sqrt(sigma)[0]},
    shared=False,
)

# %% [markdown]
# Neither: both are invariant to *where* a patch is. The covariance keeps which features occur together. A
# few channels of large variance dominate Σ (left); the signed square root (right) evens that out, entry by entry.
#
# ## The matrix square root, by multiplications only
#
# iSQRT-COV takes the root of Σ as a *matrix*: √Σ · √Σ = Σ, so every eigenvalue becomes its root. Eigenvalue solvers are
# slow on GPUs; **Newton–Schulz** needs products only. With A = Σ / tr Σ, start from Y = A, Z = I and repeat
# Y ← ½ Y (3I − ZY), Z ← ½ (3I − ZY) Z. The answer is √(tr Σ) · Y.
#
# **Predict.** 25 tokens, 48 channels: how many eigenvalues of Σ can be above zero? For which of them will five
# iterations be accurate?

# %% tags=["setup"]
values, vectors = torch.linalg.eigh(sigma[0].double())
root = vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T  # exact
floor = values.max() * 1e-6  # below this a float32 covariance is rounding

# %%
fifth = torch.linalg.eigvalsh(dx.models.newton_schulz(sigma.double(), 5)[0])
dx.figures.spectrum_figure(
    {"Σ": values[values > floor], "√Σ, exact": values[values > floor].sqrt(), "5 iterations": fifth[-24:]}
)

# %% [markdown]
# 24: centring takes one dimension from 25 tokens. The root lifts small directions towards large ones, which is the
# point: they reach the classifier. Five iterations, as in this run's predictors, are accurate for the large ones and
# too low for the small ones.
#
# **Predict.** How many iterations until there is no visible difference to the exact root?


# %% tags=["live"]
def iterate(n):
    now = dx.models.newton_schulz(sigma.double(), n)[0]
    error = float((now - root).norm() / root.norm())
    panels = {f"after {n}": now, "exact √Σ": root, "difference × 10": 10 * (now - root)}
    return dx.figures.matrix_figure(panels), f"{n} iterations: relative error {error:.1%}"


live(iterate, n=slider("iterations", 1, 15, 5))

# %% [markdown]
# ## Moment Probing, step by step
#
# The release's head does not take the covariance of all channels, and it reads the trunk itself, before bypass and
# exit norm. It projects the tokens, splits them into four *heads*, normalises each, subtracts one number per head,
# and takes the **cross** moments of neighbouring heads; each column is scaled to unit length. That gives three
# matrices, an image with three channels, and two small convolutions (stride 2) shrink it to a vector. No bundled run
# has such a head, so its weights here are *random*: look at the shapes, not at the patterns.
#
# **Predict.** A covariance is symmetric. Are these matrices?

# %%
torch.manual_seed(0)
moment = dx.models.MomentPredictor(stage.width, 10, stage.grid, stage.prefix, read="both")
with torch.no_grad():
    projected = moment.reduce(raw[:, stage.prefix :])  # (1, 25, 256)
    heads = moment.norm(projected.reshape(1, 25, moment.heads, -1))  # (1, 25, 4, 64)
    moments = dx.models.cross_moments(heads)  # (1, 3, 64, 64)
    small = moment.convs(moments)  # (1, 3, 15, 15)
dx.figures.matrix_figure({f"heads {i + 1} and {i + 2}, 64 × 64": moments[0, i] for i in range(3)})

# %%
dx.figures.matrix_figure({f"channel {i + 1}, 15 × 15": small[0, i] for i in range(3)}).update_layout(height=300)

# %% [markdown]
# Three different sets of channels meet, so nothing is symmetric: `moments` has 3 · 64² = 12,288 numbers, the vector
# behind the convolutions 3 · 15² = 675, the upper triangle of our covariance 48 · 49 / 2 = 1,176.
#
# ## Its compute
#
# **Predict.** Rank the heads by compute: linear on class token and mean, covariance with the signed root, covariance
# with Newton–Schulz, Moment Probing. Two transformer blocks at this size take about 190 MFLOPs.

# %%
shape = (stage.width, 10, stage.grid, stage.prefix)
kinds = {
    "linear": dx.models.LinearPredictor(stage.width, 10, stage.prefix, "both"),
    "covariance, signed root": dx.models.CovariancePredictor(*shape, normalisation="sqrt"),
    "covariance, Newton–Schulz": dx.models.CovariancePredictor(*shape, normalisation="isqrt"),
    "moment": moment,
}
compute = pd.DataFrame(
    {
        "name": list(kinds),
        "flops": [dx.models.count_flops(head, normed) for head in kinds.values()],
        "parameters": [sum(p.numel() for p in head.parameters()) for head in kinds.values()],
    }
)
compute

# %% [markdown]
# ## What it gains
#
# A fair question needs the *same* tokens and probes that were fitted on the same images. Take the **untuned**
# backbone (no exit has shaped it), reduce patch tokens to 48 principal components, and let ridge probes predict the
# label from the mean, from the covariance (signed root, and Newton–Schulz), and from mean and covariance together.
# 300 test images, half fit, half test; averaged over three random halves.
#
# **Predict.** Where will the covariance help: at the first exits, in the middle, or at the last?

# %%
images, labels = run.inputs("test", range(300)), run.record("test").labels[:300]
untuned = dx.build_model(replace(config, tuning="none", bypass="none", predictor="linear"), 10)
tokens = dx.stage_tokens(untuned, images)


ROOTS = dx.models.signed_sqrt, dx.models.newton_schulz


def features(stage):
    patches = tokens.patches(stage)
    small = patches @ torch.pca_lowrank(patches.flatten(0, 1), 48)[2]  # without labels, so from all images
    second, isqrt = (dx.models.upper_triangle(root(dx.models.covariance(small))) for root in ROOTS)
    first = patches.mean(dim=1)
    return {"mean": first, "signed root": second, "Newton–Schulz": isqrt, "mean + root": torch.cat((first, second), 1)}


# %%
torch.manual_seed(0)
halves = [dx.inspection.half_of(300, seed) for seed in range(3)]
gains = pd.DataFrame(
    {name: sum(dx.inspection.ridge_accuracy(x, labels, h) for h in halves) / 3 for name, x in features(k).items()}
    for k in range(6)
)
dx.figures.depth_figure(gains.to_dict("list"), "accuracy").update_yaxes(tickformat=".0%")

# %% [markdown]
# At the first exits the covariance is several points more accurate than the mean, from the same tokens; behind them the
# gain shrinks to the noise level of 150 test images. That fits the paper's design: second order for the
# *early* predictors, a plain linear one at the end. For scale, exit 1's compute and gain in one figure:

# %%
found = [gains[name][0] for name in ("mean", "signed root", "Newton–Schulz")]
dx.figures.predictor_compute_figure(compute.iloc[:3].assign(accuracy=found))

# %% [markdown]
# (The linear predictor's FLOPs are for class token and mean, its probe reads the mean alone; the covariance predictors
# read class token and mean as well. No point for `moment`: random convolutions say nothing about a trained one.)

# %% tags=["numbers"]
five = dx.models.newton_schulz(sigma.double(), 5)[0]
numbers(
    linear_flops=int(compute["flops"][0]),
    covariance_flops=int(compute["flops"][1]),
    newton_schulz_flops=int(compute["flops"][2]),
    moment_flops=int(compute["flops"][3]),
    covariance_parameters=int(compute["parameters"][1]),
    moment_parameters=int(compute["parameters"][3]),
    error_after_5=float((five - root).norm() / root.norm()),
)

# %% [markdown]
# ## In trained models, three times
#
# [The study](../benchmarks/RESULTS.md) trained `dmpo` and the same model with linear predictors three times each, on
# 2,000 images: points of test accuracy that second order adds, with a 95 % interval over test images and a cross
# for every training.
#
# **Predict.** Which exit gains most?

# %%
gains = pd.read_csv("../benchmarks/results/gains.csv", dtype={"seeds": str})
dx.figures.gains_figure(gains[gains["question"].str.startswith("gain of second-order")])

# %% [markdown]
# The first exit, by nearly three points: after two blocks mean and class token alone carry too little. At 30 % of
# the compute it is more than a point. The first line is the *score*, the mean over all budgets from 30 to 100 %: where
# the budget allows deeper exits, less is left to gain, and in one of the three trainings next to nothing.
# At the last exit, linear in both models, the three trainings do not even agree on the sign.
#
# ## Try it: three exercises
#
# **1.** The second-order layer W2 has one weight per entry of the upper triangle (diagonal included) and class. With
# 10 classes and at most 10,000 weights, how many channels can the covariance have?

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# **2.** Write the covariance of tokens: a function from a tensor (N, d) to (d, d), over the N tokens, divided by N.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** Why divide by the trace? Give a symmetric 2 × 2 tensor with positive eigenvalues for which the iteration from
# Y = Σ, Z = I, *without* the division, diverges.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - What second order is worth in a trained model, from the *probes*: ridge probes on an untuned backbone are not
#   trained heads. The study's runs are, on one data set and one backbone.
# - That the signed root and Newton–Schulz differ, in either direction: 150 images test them, so about ± 3 % each.
# - That Moment Probing is better or worse than our covariance: none was trained here.
# - Anything about speed: FLOPs leave out what is done element by element, and Newton–Schulz is many small products.
#
# Next: [04 · Two phases](04_phase_schedule.ipynb)
