# %% [markdown]
# # 3 · Second-order heads
#
# What do early predictors gain from *how features vary together* over an image, and how much compute does it take?
#
# **Goal.** See what a covariance holds that a mean does not. Write a covariance head with Newton–Schulz, train it with
# and without bypass, and compare compute with gain.
#
# **Time.** 40 minutes to read and predict; 100 with the build and the exercises; about two minutes to run. The section
# marked *optional* may be skipped.
#
# **Before.** [02](02_bypass_decomposition.ipynb) for the bypass, [01](01_the_conflict.ipynb) for probes. A little
# linear algebra: covariance, eigenvalues. Words are at the end and in the [glossary](../docs/glossary.md); the method
# is [DMPO](https://arxiv.org/abs/2511.03245).

# %% tags=["network"]
import dmpo_explore as dx

dx.course.network("predictor")

# %% [markdown]
# The marked box turns tokens into logits. It reads what trunk and bypass give it; what it reads *of* them is today's
# question.

# %% tags=["setup"]
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import dmpo_explore as dx
from dmpo_explore.course import on_tokens
from dmpo_explore.course.exercises.second_order_heads import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import live, numbers, slider

run = dx.load_run("fashion")
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
# ## Two clouds with the same mean
#
# Think of one image as a cloud: a point per patch, an axis per channel. A mean head reads the centre of the cloud
# alone.
#
# **Predict.** Move the slider. What changes in the mean of the second cloud, and what in its covariance?

# %% tags=["setup"]
white = torch.randn(2, 150, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
white = white - white.mean(dim=1, keepdim=True)
white = white @ torch.linalg.inv(torch.linalg.cholesky(dx.models.covariance(white))).mT  # mean 0, Σ = I, exactly
marks = [{"color": dx.figures.MODEL_COLOURS[i], "symbol": dx.figures.SYMBOLS[i], "opacity": 0.6} for i in range(2)]


# %% tags=["live"]
def clouds(correlation):
    mix = torch.linalg.cholesky(torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64))
    dots = [dot("first cloud", white[0], marks[0]), dot("second cloud", white[1] @ mix.T, marks[1])]
    return square(dots), f"both means are (0, 0); covariance of the two channels: 0.00 and {correlation:.2f}"


def dot(name, points, mark):
    return go.Scatter(x=points[:, 0], y=points[:, 1], name=name, mode="markers", marker=mark)


def square(dots):
    figure = dx.figures.depth_figure({}, "channel 2").add_traces(dots).update_layout(height=460, width=640)
    return figure.update_xaxes(range=[-4, 4], title="channel 1").update_yaxes(range=[-4, 4])


live(clouds, correlation=slider("correlation", -0.95, 0.95, 0.8, 0.05))

# %% [markdown]
# The means stay where they are, and so do the variances of each channel: nothing linear in the mean separates the two
# clouds at any correlation. One number does, unless the correlation is 0: the entry of the covariance off its diagonal.
#
# ## From a mean to a covariance
#
# At exit 1 the image is 25 patch tokens, reduced by a learnt projection from 384 to 48 channels. Mean pooling keeps
# one number per channel. The covariance keeps one per *pair* of channels: do they rise and fall together over the
# patches?
#
# **Predict.** Two images have the same 25 tokens in another order: which of mean and covariance distinguishes them?

# %%
gap = torch.full((1, reduced.shape[2]), torch.nan)
stacked = torch.cat((reduced[0], gap, reduced.mean(dim=1)))  # the mean stands under its columns
title = "image 8, a sandal: 25 tokens × 48 channels, and below them their mean"
dx.figures.matrix_figure({title: stacked}, bar="value", axes=("token", "channel")).update_layout(height=360)

# %%
dx.figures.matrix_figure(
    {"covariance Σ, 48 × 48": sigma[0], "signed square root of each entry": dx.models.signed_sqrt(sigma)[0]},
    shared=False,
    bar="entry",
    axes=("channel", "channel"),
).update_layout(height=460)

# %% [markdown]
# Neither: both are invariant to *where* a patch is. The covariance keeps which features occur together. A few channels
# of large variance dominate Σ (left); the signed square root (right) evens that out, entry by entry.
#
# **See it.** Shuffle the 25 patch tokens of this image and compute both again: from the trunk's tokens, and from those
# behind the bypass. Its 3 × 3 convolution reads neighbours.
#
# **Predict.** Which of the four numbers are zero?

# %%
shuffled = raw.clone()
shuffled[:, 1:] = raw[:, 1:][:, torch.randperm(25, generator=torch.Generator().manual_seed(0))]


def statistics(tokens):
    with torch.no_grad():
        channels = stage.predictor.reduce(stage.norm(tokens)[:, stage.prefix :])
    return {"mean": channels.mean(dim=1), "covariance": dx.models.covariance(channels)}


def change(before, after):
    both = statistics(before), statistics(after)
    return {name: float((both[1][name] - both[0][name]).norm() / both[0][name].norm()) for name in both[0]}


changes = {"trunk": change(raw, shuffled)}
with torch.no_grad():
    changes["behind the bypass"] = change(stage.bypass(raw)[0], stage.bypass(shuffled)[0])
pd.DataFrame(changes).T.round(3)

# %% [markdown]
# The two of the trunk. On its tokens both statistics ignore the order; with the bypass in front neither does. So the
# two parts differ in what they *can* read: the covariance which features occur together in the image, the bypass also
# which are neighbours. A shuffle shows sensitivity, not use. Whether an exit gains from neighbours is another question:
# in 02 most of the bypass's gain needed none. (The trunk is no bag of patches either: its two blocks had attention and
# positions before this.)
#
# ## The matrix square root, by multiplications only
#
# iSQRT-COV takes the root of Σ as a *matrix*: √Σ · √Σ = Σ, so every eigenvalue becomes its root. Eigenvalue solvers
# are slow on GPUs; **Newton–Schulz** needs products only. Let A = Σ / tr Σ; start from Y = A and Z = I; repeat Y ← ½
# Y (3I − ZY), Z ← ½ (3I − ZY) Z. The answer is √(tr Σ) · Y. Why it stops: Y tends to √A and Z to its inverse, so ZY
# tends to I, and the factor ½(3I − ZY) becomes I. (On directions whose eigenvalue is above zero.)
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
    return dx.figures.matrix_figure(panels, bar="entry"), f"{n} iterations: relative error {error:.1%}"


live(iterate, n=slider("iterations", 1, 15, 5))

# %% [markdown]
# The error after every number of iterations, in per cent:

# %%
errors = {n: dx.models.newton_schulz(sigma.double(), n)[0] - root for n in range(1, 13)}
percent = pd.Series({n: float(100 * error.norm() / root.norm()) for n, error in errors.items()}, name="relative error")
percent.round(2).to_frame().T

# %% [markdown]
# About ten: there the error is below one per cent, and the third panel fades although it shows ten times the
# difference. Five are a compromise. As written above, an iteration takes three products of 48 × 48 matrices. The
# library leaves out those that are not needed: Z = I at the start, and the last Z is never read. How many are left for
# five iterations? The table of compute below lets you count them.
#
# ## Build it
#
# Write the head: `logits = first(mean) + second(triangle(√Σ))`. Σ is the covariance of the patch tokens reduced to
# `channels`, over the N patches of one image and divided by N. Its root takes five Newton–Schulz iterations; add 1e-6
# to the trace, so that Σ = 0 gives 0 and not 0/0. The triangle is the diagonal and what is above it, row by row.
#
# Replace the dots. The cell below the hints has a solution; if yours passes, the comparison below trains *yours*.


# %% tags=["build"]
class CovarianceHead(nn.Module):
    def __init__(self, width, channels, n_classes):
        super().__init__()
        self.first = ...
        self.reduce = ...  # no bias: a covariance would not see it
        self.second = ...  # no bias: `first` has one

    def root(self, sigma, iterations=5):
        return ...

    def forward(self, x):  # (B, 1 + N, width), the class token first
        return ...


check_build(CovarianceHead)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `patches.mT @ patches` multiplies a batch of matrices. The trace of a batch is `sigma.diagonal(dim1=1,
# dim2=2).sum(1)`; give it two more axes, `[:, None, None]`, to divide by it. `second` reads channels · (channels + 1) /
# 2 numbers.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Start from y = Σ / trace and z = I. Compute `step = (3 * eye - z @ y) / 2` once per iteration, then y = y @ step and z
# = step @ z. Return y · √trace. `rows, columns = torch.triu_indices(d, d)` picks the triangle: `x[:, rows, columns]`.
#
# </details>


# %% tags=["build", "solution"]
class Solution(nn.Module):
    def __init__(self, width, channels, n_classes):
        super().__init__()
        self.first = nn.Linear(width, n_classes)
        self.reduce = nn.Linear(width, channels, bias=False)
        self.second = nn.Linear(channels * (channels + 1) // 2, n_classes, bias=False)

    def root(self, sigma, iterations=5):
        trace = sigma.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None] + 1e-6
        eye = torch.eye(sigma.shape[1], dtype=sigma.dtype)
        y, z = sigma / trace, eye
        for _ in range(iterations):
            step = (3 * eye - z @ y) / 2
            y, z = y @ step, step @ z
        return y * trace.sqrt()

    def forward(self, x):
        patches = x[:, 1:]
        reduced = self.reduce(patches)  # (B, N, channels)
        centred = reduced - reduced.mean(dim=1, keepdim=True)
        sigma = centred.mT @ centred / centred.shape[1]  # (B, channels, channels)
        rows, columns = torch.triu_indices(sigma.shape[1], sigma.shape[1])
        return self.first(patches.mean(dim=1)) + self.second(self.root(sigma)[:, rows, columns])


CovarianceHead = CovarianceHead if check_build(CovarianceHead) else Solution
check_build(CovarianceHead)

# %% [markdown]
# **Test it** with the library's weights beside the library's head.

# %%
torch.manual_seed(0)
theirs = dx.models.CovariancePredictor(384, 10, (5, 5), 1, "mean", 48, "isqrt").double()
ours = CovarianceHead(384, 48, 10).double()
ours.load_state_dict({name.replace("first.fc", "first"): weight for name, weight in theirs.state_dict().items()})
x = torch.randn(2, 26, 384, dtype=torch.float64)
difference = float((ours(x) - theirs(x)).detach().abs().max())
assert difference < 1e-6
print("largest difference is below 1e-6")

# %% [markdown]
# ## Train it, with and without bypass
#
# As in [02](02_bypass_decomposition.ipynb): the untuned backbone's frozen tokens behind block 2, 1,500 bundled images
# to train on, 1,500 to test on. Each of the four has three seeds and 12 epochs.
#
# **Predict.** In 02 the bypass gained several points over the mean head. What does it gain over the covariance head?

# %%
untuned = dx.build_model(replace(config, tuning="none", bypass="none", predictor="linear"), 10)
frozen = on_tokens.freeze(run, untuned)
bypasses = {"without bypass": dx.models.NoBypass, "with bypass": dx.models.ConvBypass}
heads = {
    "mean": lambda: dx.models.LinearPredictor(384, 10, prefix=1, read="mean"),
    "covariance": lambda: CovarianceHead(384, 48, 10),
}

# %%
hits = {}
for bypass, head in [(bypass, head) for bypass in bypasses for head in heads]:
    make = lambda b=bypass, h=head: on_tokens.Exit(bypasses[b](384, 64, (5, 5), 1), heads[h]())  # noqa: E731
    hits[bypass, head] = on_tokens.correct(make, frozen, epochs=12)
table = pd.Series({names: 100 * hit.mean() for names, hit in hits.items()}).unstack(sort=False)
table.round(1)

# %%
neither, covariance = hits["without bypass", "mean"], hits["without bypass", "covariance"]
bypass, both = hits["with bypass", "mean"], hits["with bypass", "covariance"]
ahead = [
    on_tokens.gain("bypass, added to the mean head", bypass, neither),
    on_tokens.gain("bypass, added to the covariance head", both, covariance),
    on_tokens.gain("covariance, added without bypass", covariance, neither),
    on_tokens.gain("covariance, added behind the bypass", both, bypass),
    on_tokens.gain("both, added to the mean head", both, neither),
]
assert (covariance.mean(axis=1) > neither.mean(axis=1)).all()
dx.figures.gains_figure(pd.DataFrame(ahead)).update_layout(height=330)

# %% [markdown]
# Each part alone wins seven or eight points. On top of the other, the covariance wins 1.6 and the bypass 0.7, and
# neither interval excludes 0. (02 trains for 20 epochs. There the mean head behind the bypass has 84 %, so the 1.6
# may shrink.) They behave as **substitutes**; with three trainings that is *preliminary*. One reason may be that both
# give the exit something non-linear in the patches before they are averaged. Another may be that 84 % is about all that
# 1,500 images teach an exit at this depth.
#
# That matters wherever parts are measured by **leave-one-out**, taking one away from the whole (lines two and four).
# Each of the two looks small there: the two losses sum to about two points, and without both parts nine are lost (the
# last line). So leave-one-out *understates* each of two substitutes. The study below is leave-one-out: its
# gains are what a part adds to a model that has the other, not what it is worth alone.
#
# ## Optional: Moment Probing, by its shapes
#
# The release's head does not take the covariance of all channels, and it reads the trunk itself, before bypass and exit
# norm. It projects the tokens, splits them into four *heads*, normalises each, subtracts one number per head, and takes
# the **cross** moments of neighbouring heads; each column is scaled to unit length. That gives three matrices, an image
# with three channels, and two small convolutions (stride 2) shrink it to a vector ([Gao et al.
# 2023](https://arxiv.org/abs/2307.11342)). Shapes need no training:
#
# **Predict.** A covariance is symmetric. Are these matrices? And how many numbers does the vector have?

# %%
torch.manual_seed(0)
moment = dx.models.MomentPredictor(384, 10, (5, 5), 1, read="mean")
with torch.no_grad():
    projected = moment.reduce(untuned.stages[0].trunk(untuned.embed(image))[:, stage.prefix :])
    heads = moment.norm(projected.reshape(1, 25, moment.heads, -1))
    moments = dx.models.cross_moments(heads)
    small = moment.convs(moments)
print("symmetric:", [bool(torch.allclose(matrix, matrix.T)) for matrix in moments[0]])
steps = {
    "projected tokens": projected,
    "four heads": heads,
    "cross moments": moments,
    "behind both convolutions": small,
}
shapes = {name: [" × ".join(map(str, x.shape[1:])), x[0].numel()] for name, x in steps.items()}
pd.DataFrame(shapes, index=["shape", "numbers"]).T

# %% [markdown]
# No: different sets of channels meet. The vector has 675 numbers. The upper triangle of our covariance has 48 · 49 / 2
# = 1,176.
#
# ## Its compute
#
# **Predict.** Rank the heads by compute: linear on the mean, the same with the covariance's signed root, with its
# Newton–Schulz root, Moment Probing. Which share of the two transformer blocks before it does the largest take?

# %%
shape = (stage.width, 10, stage.grid, stage.prefix)
kinds = {
    "mean": dx.models.LinearPredictor(stage.width, 10, stage.prefix, "mean"),
    "mean + signed root": dx.models.CovariancePredictor(*shape, "mean", normalisation="sqrt"),
    "mean + Newton–Schulz": dx.models.CovariancePredictor(*shape, "mean", normalisation="isqrt"),
    "Moment Probing": dx.models.MomentPredictor(*shape, read="mean"),
}
compute = pd.DataFrame(
    {
        "name": list(kinds),
        "flops": [dx.models.count_flops(head, normed) for head in kinds.values()],
        "parameters": [sum(p.numel() for p in head.parameters()) for head in kinds.values()],
    }
)
blocks = dx.models.measure_flops(untuned, dx.models.build_reference(config, 10)).trunk[0]  # of the first two
compute.assign(share=(compute["flops"] / blocks).map("{:.2%}".format)).rename(columns={"share": "of two blocks"})

# %%
products = (compute["flops"][2] - compute["flops"][1]) / (2 * 48**3)  # a product of 48 × 48 matrices: 48³ MACs
share = 1 - compute["flops"][1] / compute["flops"][2]
print(f"Newton–Schulz adds {products:g} products to the signed root's FLOPs: {share:.0%} of its head")

# %% [markdown]
# In this order, from 0.008 to 5.7 MFLOPs. Even Moment Probing takes only 3 % of the two blocks, the covariance with
# Newton–Schulz 2 %. Seven tenths of the latter are the twelve products: one in the first iteration, two in the last,
# three in each of those between.
#
# ## What it gains
#
# A fair question needs the *same* tokens and probes that were fitted on the same images. Take the **untuned**
# backbone (no exit has shaped it). The mean keeps all 384 channels; the covariance is of 48 principal components, 1,176
# numbers. Ridge probes then predict the label: from the mean alone, and, as the heads do, from the mean *and* a root of
# the covariance. The probes are fitted on one half of 1,000 test images and tested on the other, and the other way
# round. So each image is tested once.
#
# **Predict.** Where will the covariance help: at the first exits, in the middle, or at the last?

# %%
images, labels = run.inputs("test", range(1000)), run.record("test").labels[:1000]
tokens = dx.stage_tokens(untuned, images)
probe = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 7)))
ROOTS = {"mean + signed root": dx.models.signed_sqrt, "mean + Newton–Schulz": dx.models.newton_schulz}


def sigma_of(stage):
    patches = tokens.patches(stage)
    small = patches @ torch.pca_lowrank(patches.flatten(0, 1), 48)[2]  # without labels, so from all images
    return patches.mean(dim=1), dx.models.covariance(small)


def features(mean, sigma):
    both = {name: torch.cat((mean, dx.models.upper_triangle(root(sigma))), 1) for name, root in ROOTS.items()}
    return {"mean": mean} | both


def hit(x):
    return cross_val_predict(probe, x.double().numpy(), labels, cv=2) == labels


# %%
torch.manual_seed(0)
pooled = [sigma_of(k) for k in range(6)]
correct = [{name: hit(x) for name, x in features(*of).items()} for of in pooled]
found = pd.DataFrame([{name: hits.mean() for name, hits in of.items()} for of in correct])
dx.figures.depth_figure(found.to_dict("list"), "accuracy").update_yaxes(tickformat=".0%")

# %%
rows = [
    on_tokens.gain(f"exit {k + 1}: {name}", correct[k][name][None], correct[k]["mean"][None])
    for name in ROOTS
    for k in range(6)
]
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=440, xaxis_title="points over the mean alone")

# %% [markdown]
# At exit 1 the covariance adds 5.5 points to the mean, with either root. At exits 2 to 4 it adds 2.6 to 4.6, and every
# interval excludes 0. At exit 5 only Newton–Schulz's does, and at exit 6 neither. That fits the paper's design, though
# not sharply: second order for the *early* predictors, a plain linear one at the end. (*One training* in the legend is
# one fit of a probe: no network was trained.)
#
# (Of twelve such intervals one or more would exclude 0 by chance in nearly half of the cases, if they were independent.
# Here nine do. An interval is over images; it leaves out that another half would have fitted another probe.)
#
# Which root is better? The 2.7 and 1.4 points at exit 5 are no answer: each was compared with the mean.
#
# **Predict.** At how many of the six exits will the paired difference of the two roots exclude 0?

# %%
first, second = ROOTS
rows = [on_tokens.gain(f"exit {k + 1}", correct[k][second][None], correct[k][first][None]) for k in range(6)]
of_roots = "points of Newton–Schulz over the signed root"
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=330, xaxis_title=of_roots)

# %% [markdown]
# At none. At exit 2 Newton–Schulz is 1.1 points ahead, but that interval begins at 0. Of six independent intervals one
# or more would exclude 0 by chance in a quarter of all cases. So neither root is shown to be better, though the points
# are on Newton–Schulz's side at all six exits. (The images are the same at all exits, so six times one side is no
# proof.)
#
# For scale, exit 1's compute and accuracy in one figure. It joins two objects: the compute is a *trained head's*, with
# its learnt projection from 384 to 48 channels. The accuracy is a *probe's*, on 48 principal components. (No point for
# Moment Probing: its convolutions would have to be trained.)

# %%
dx.figures.predictor_compute_figure(compute.iloc[:3].assign(accuracy=found.iloc[0].to_numpy()))

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
# 2,000 images. Its `dmpo` is not the bundled `fashion`: it has the *signed root*, and another kind of tuning (adapters
# in place of LoRA). The figure has the points of test accuracy that second order adds. The *score* is the mean over all
# budgets from 30 to 100 %. The last line is another comparison: only the root differs.
#
# **Predict.** Which exit gains most? And does it matter which root it is?

# %%
gains = dx.course.study_table("gains")
asked = gains["question"].str.startswith(("gain of second-order", "Newton–Schulz"))
dx.figures.gains_figure(gains[asked]).update_layout(height=400)

# %% [markdown]
# The first exit, by nearly three points. At 30 % of the compute it is more than a point. Both intervals lie above 0.
# The score is ahead in every training, by hardly anything in one, and its interval includes 0: **preliminary**. Where
# the budget allows deeper exits, less is left to gain. The linked page has *helps* for it. Its intervals are over
# images alone, so they are narrower. At the last exit, linear in both models, the three trainings do not even agree on
# the sign. Nor do they for the root: in the score no difference is shown. With today's recipe the study's second
# edition has 0.6 points at 30 % of the compute, in each of three trainings, and the interval includes 0. Added to plain
# linear exits, second order gains three points there.
#
# ## Try it: three exercises
#
# **1.** A covariance holds two things: how much each channel varies, and which vary together. The **correlation**
# keeps the second alone. Write it: from Σ (B, d, d) to (B, d, d), every entry divided by the standard deviations of its
# two channels. A channel that does not vary has correlation 0 with all, itself included.

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# The variances are the diagonal: `sigma.diagonal(dim1=1, dim2=2)`, (B, d). One of the two divisions is along the rows,
# the other along the columns.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# 0/0 is nan. `torch.where(condition, a, 0)` chooses entry by entry.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# def answer_1(sigma):
#     variance = sigma.diagonal(dim1=1, dim2=2)
#     scale = torch.where(variance > 0, variance.clamp_min(1e-30).rsqrt(), 0)
#     return sigma * scale[:, :, None] * scale[:, None, :]
# ```
#
# </details>

# %% [markdown]
# **Use yours** in the probes above; until it passes, this cell uses ours.
#
# **Predict.** At exits 1 and 2: is the correlation as good as the signed root, or is the lost scale missed?


# %%
def ours_of(sigma):
    scale = 1 / np.sqrt(np.diagonal(sigma, axis1=1, axis2=2))
    return sigma * torch.as_tensor(scale[:, :, None] * scale[:, None, :])


correlation, rows = (answer_1 if check_1(answer_1) else ours_of), []
for k, (mean, sigma_k) in enumerate(pooled[:2]):
    hits = hit(torch.cat((mean, dx.models.upper_triangle(correlation(sigma_k))), 1))
    for other in ("mean", "mean + signed root"):
        rows.append(
            on_tokens.gain(f"exit {k + 1}: mean + correlation over {other}", hits[None], correct[k][other][None])
        )
pd.DataFrame(rows).set_index("question").drop(columns=["seeds", "over"]).round(1)

# %% [markdown]
# At exits 1 and 2 the correlation adds 5.4 and 4.0 points to the mean, the signed root 5.5 and 3.5. Between the two,
# both intervals include 0. So that the lost scale is missed is not shown: most of what helps is *which* channels vary
# together. (The probe standardises every entry over the images, which may restore some of the scale.)

# %% [markdown]
# **2.** Give two clouds, a pair of tensors (N, 2) and (M, 2). They have the same mean and the same variance in each
# channel, and yet another covariance.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# Put four points at the corners of a square: what are its variances and its covariance?
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Now use only two opposite corners.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# square = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
# answer_2 = square, square[:2]
# ```
#
# </details>

# %% [markdown]
# **3.** Why divide by the trace? Give a symmetric 2 × 2 tensor with positive eigenvalues for which the iteration from
# Y = Σ, Z = I, *without* the division, diverges: after enough iterations its entries are no longer finite. An iteration
# that converges to another root, or swings for ever, does not count.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# Try it with a 1 × 1 matrix, a number λ: y = λ, z = 1. When is |y| larger after a step than before?
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# The first factor is (3 − λ)/2. Below 5 the product z·y stays between 0 and 5. At 5 it swings: y = 5, −5, 5 … Go
# further.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# answer_3 = torch.diag(torch.tensor([9.0, 1.0]))
# ```
#
# </details>

# %% [markdown]
# ## What you cannot conclude
#
# - What second order is worth in a trained model, from the *probes*: ridge probes on an untuned backbone are not
#   trained heads. The study's runs are, on two data sets and one backbone.
# - That Newton–Schulz is better or worse than the signed root: of six paired differences of probes none excludes 0, and
#   in the study's score no difference is shown.
# - That Moment Probing is better or worse than our covariance: only its shapes and its compute stand here.
# - That bypass and covariance are substitutes everywhere. This is **preliminary**, with three trainings. Here both read
#   *frozen* tokens of one depth, 25 patches, one data set. Where the trunk is trained along, the parts also shape what
#   they read.
# - Anything about speed: FLOPs leave out what is done element by element, and Newton–Schulz is many small products.
#
# ## Words
#
# | word | here |
# |---|---|
# | covariance Σ | of two channels: do they rise and fall together over the patches of one image |
# | second order | statistics of products of two channels; a mean is of first order |
# | signed square root | of every entry by itself, its sign kept |
# | matrix square root √Σ | the matrix whose product with itself is Σ |
# | Newton–Schulz | an iteration towards √Σ that needs matrix products only |
# | substitutes | two parts of which each gains much alone and little beside the other |
# | leave-one-out | one part is taken away from the whole model |
# | 95 % interval | made so that in about 95 of 100 repetitions it contains the true value |
#
# ## References
#
# - The method: [Decoupled Multi-Predictor Optimization](https://arxiv.org/abs/2511.03245), ICCV 2025.
# - Second-order pooling: [Lin et al. 2015](https://arxiv.org/abs/1504.07889), bilinear CNNs with the signed root; [Li
#   et al. 2018](https://arxiv.org/abs/1712.01034), iSQRT-COV. Moment Probing: [Gao et al.
#   2023](https://arxiv.org/abs/2307.11342).
# - Newton–Schulz and other roots: Higham, [*Functions of Matrices*](https://doi.org/10.1137/1.9780898717778), SIAM
#   2008, chapter 6.
#
# Next: [04 · The phase schedule](04_phase_schedule.ipynb)
