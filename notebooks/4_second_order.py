# %% [markdown]
# # 4 · Second-order predictors
#
# *What does an early exit gain if it reads how features vary together?*
#
# **Today.** You see what a mean cannot hold, build a predictor that reads a covariance, and train it beside the plain
# one, with and without your bypass. 45 minutes, of which the cells take one or two. You need to have met covariance and
# eigenvalues.
#
# **Before.** [Lesson 3](3_bypass.ipynb): the bypass. Words are in the [glossary](../docs/glossary.md).

# %% tags=["drawing"]
import dmpo_explore as dx

dx.course.network("predictor")

# %% [markdown]
# The marked box, an exit's *predictor*, turns tokens into logits. So far it was the mean of the 25 patches and one
# linear layer: a mean predictor.

# %% tags=["setup"]
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from captum.attr import FeatureAblation
from torch import nn

from dmpo_explore.course import checks, mine, parts, training
from dmpo_explore.course.interactive import Guess, Live, widgets

camera = dx.course.Camera()
train, val = camera.train, camera.val
my = mine("Stage", "Bypass")
my

# %% [markdown]
# ## Two clouds with one centre
#
# Think of a photograph as a cloud: a point for each patch, an axis for each feature, say *red* and *round*. On a plate
# of tomatoes red patches are round ones. Beside a red box with a melon they are not. The mean is the same: some red,
# some round. Move the slider.


# %% tags=["live"]
def clouds(together):
    mix = torch.linalg.cholesky(torch.tensor([[1.0, together], [together, 1.0]], dtype=torch.float64))
    looks = zip(("red and round are independent", "they vary together"), (white[0], white[1] @ mix.T), strict=True)
    dots = [go.Scatter(x=of[:, 0], y=of[:, 1], name=name, mode="markers", opacity=0.7) for name, of in looks]
    figure = dx.figures.depth_figure({}, "round").add_traces(dots).update_layout(height=430, width=620)
    figure.update_xaxes(range=[-4, 4], title="red").update_yaxes(range=[-4, 4])
    return figure, f"means: (0, 0) and (0, 0); covariance of red and round: 0.00 and {together:.2f}"


white = torch.randn(2, 150, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
white = white - white.mean(dim=1, keepdim=True)
white = white @ torch.linalg.inv(torch.linalg.cholesky(dx.models.covariance(white))).mT  # mean 0, Σ = I, exactly
Live(clouds, together=widgets.FloatSlider(0.8, min=-0.95, max=0.95, step=0.05))

# %% [markdown]
# No linear layer on the mean can tell these clouds apart. One number can: the entry of the **covariance** beside its
# diagonal. A mean is *first-order*; products of two features, averaged over the patches, are *second-order*.
#
# ## Take a root
#
# In a covariance Σ a few directions are large, and what the others say counts for little. Its square root (as a
# matrix: √Σ · √Σ = Σ) brings them closer: every eigenvalue becomes its root. Eigenvalues are slow to compute on a GPU.
# **Newton–Schulz** needs multiplications alone:
#
#     A = Σ / tr Σ        Y = A, Z = I
#     repeat:  S = ½ (3I − Z Y)     Y ← Y S     Z ← S Z
#     √Σ ≈ √(tr Σ) · Y
#
# While it runs, Y tends to √A and Z to its inverse. Then Z Y is I, S is I, and nothing moves any more. (The division
# by the trace, the sum of the eigenvalues, puts all of them between 0 and 1; without it the rounds may diverge.)

# %% tags=["guess"]
needed = Guess("After how many rounds is the error below 10 %?", 1, 15)
needed

# %%
tokens = val.tokens[0, 60, 1:, :24].double()[None]  # the 25 patches of a photograph, 24 numbers of each
sigma = dx.models.covariance(tokens)
values, vectors = torch.linalg.eigh(sigma[0])
root = vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T  # exact
rounds = [dx.models.newton_schulz(sigma, n)[0] for n in range(1, 16)]
errors = [float((now - root).norm() / root.norm()) for now in rounds]
figure = dx.figures.depth_figure({"error": errors}, "relative error of the root", x=[str(n) for n in range(1, 16)])
needed.on(figure.update_yaxes(tickformat=".0%", rangemode="tozero").update_xaxes(title="rounds"), "x")

# %% [markdown]
# After six; five, as the library and many papers take, leave 10 %. What does the root do to the 24 directions? Here are
# the eigenvalues, the largest of each matrix set to 1.


# %% tags=["live"]
def spectra(n):
    lines = {"Σ": values.flip(0), "√Σ": values.flip(0).clamp_min(0).sqrt()}
    lines[f"after {n} rounds"] = torch.linalg.eigvalsh(rounds[n - 1]).flip(0)
    held = [f"{name} {float(of[:5].sum() / of.sum()):.0%}" for name, of in lines.items()]
    lines = {name: of / of[0] for name, of in lines.items()}
    figure = dx.figures.depth_figure(lines, "eigenvalue, the largest = 1", x=[str(n) for n in range(1, 25)])
    return figure.update_xaxes(title="direction"), f"of the sum, the five largest have: {', '.join(held)}"


Live(spectra, n=widgets.IntSlider(5, 1, 15, description="rounds"))

# %% [markdown]
# In Σ the five largest directions have 61 % of the sum, in √Σ 44 %, after five rounds 49 %: *more directions have a
# say*. The rounds get the large ones right first. Whether that helps an exit is not tested here.
#
# ## Build the predictor
#
# It is the mean predictor, plus a second linear layer that reads √Σ:
#
#     logits = first(mean of the patches) + second(triangle of √Σ)
#
# Σ is the covariance of the patches (without the class token), first reduced to 24 channels, over the N patches of one
# photograph, divided by N. Add 1e-6 to the trace, so that Σ = 0 does not divide by zero. √Σ is symmetric, so its upper
# triangle is enough: diagonal and all to the right of it, row by row.


# %% tags=["build"]
class Predictor(nn.Module):
    def __init__(self, width=160, channels=24, n_classes=81):
        super().__init__()
        # self.first; self.reduce, without bias (a covariance does not see it); self.second, without bias
        ### BEGIN SOLUTION
        self.first = nn.Linear(width, n_classes)
        self.reduce = nn.Linear(width, channels, bias=False)
        self.second = nn.Linear(channels * (channels + 1) // 2, n_classes, bias=False)
        ### END SOLUTION

    def root(self, sigma):
        # (B, channels, channels) → the same, after five rounds
        ### BEGIN SOLUTION
        trace = sigma.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None] + 1e-6
        eye = torch.eye(sigma.shape[1], dtype=sigma.dtype)
        y, z = sigma / trace, eye
        for _ in range(5):
            step = (3 * eye - z @ y) / 2
            y, z = y @ step, step @ z
        return y * trace.sqrt()
        ### END SOLUTION

    def forward(self, x):
        # x (B, 1 + N, width), the class token first; return logits (B, n_classes)
        ### BEGIN SOLUTION
        patches = x[:, 1:]
        reduced = self.reduce(patches)  # (B, N, channels)
        centred = reduced - reduced.mean(dim=1, keepdim=True)
        sigma = centred.mT @ centred / centred.shape[1]
        rows, columns = torch.triu_indices(sigma.shape[1], sigma.shape[1])
        return self.first(patches.mean(dim=1)) + self.second(self.root(sigma)[:, rows, columns])
        ### END SOLUTION


checks.predictor(Predictor)

# %% [markdown]
# <details><summary>Hint 1: a batch of matrices</summary>
#
# `x.mT @ x` multiplies the last two axes. The traces of a batch: `sigma.diagonal(dim1=1, dim2=2).sum(dim=1)`; with `[:,
# None, None]` behind it they divide a batch of matrices.
#
# </details>
#
# <details><summary>Hint 2: the triangle</summary>
#
# `rows, columns = torch.triu_indices(d, d)`, then `matrices[:, rows, columns]` is (B, d · (d + 1) / 2).
#
# </details>
#
# ## Train it
#
# Exit 1 stands on the finished trunk again, as in lesson 3, with the mean predictor or with yours. The covariance
# brings 28,140 weights along, so there is a **control** with as many (40 more) that reads the mean alone: two layers,
# as in lesson 3, and wider. All three stand once without and once with the bypass.


# %%
def four_exits():
    return parts.EarlyExitNet([my.Stage() for _ in range(4)])


def exit_1(trunk, bypass, predictor):
    return parts.EarlyExitNet([trunk.stages[0].requires_grad_(False)], [bypass()], [predictor()])


reads = {"mean": parts.MeanPredictor, "two layers": lambda: parts.MeanPredictor(hidden=170), "covariance": Predictor}
kinds = {name: (nn.Identity, read) for name, read in reads.items()}
kinds |= {f"{name}, bypass": (my.Bypass, read) for name, read in reads.items()}
trunks = [training.train(four_exits, train, lambda *_: (0, 0, 0, 1), seed=seed) for seed in range(3)]

# %% tags=["guess"]
best = Guess("Added to the plain exit: which gains more?", "the bypass", "the covariance", "about the same")
best

# %%
trained = {}
for name, kind in kinds.items():
    trained[name] = [training.train(lambda t=t, k=kind: exit_1(t, *k), train, seed=s) for s, t in enumerate(trunks)]
    print(f"three trainings: {name}")
hits = {name: np.stack([training.correct(net, val)[0] for net in nets]) for name, nets in trained.items()}
pairs = {
    "bypass, added to the plain exit": ("mean, bypass", "mean"),
    "covariance, added to the plain exit": ("covariance", "mean"),
    "bypass, added to the covariance": ("covariance, bypass", "covariance"),
    "covariance, added to the bypass": ("covariance, bypass", "mean, bypass"),
    "both": ("covariance, bypass", "mean"),
    "covariance over two layers": ("covariance", "two layers"),
    "covariance over two layers, both with bypass": ("covariance, bypass", "two layers, bypass"),
}
rows = [dx.analysis.gain(name, hits[one], hits[other]) for name, (one, other) in pairs.items()]
figure = dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=400)
best.on(figure.update_xaxes(title="points on val, exit 1"))

# %%
table = pd.DataFrame({"correct on val, %": {name: 100 * hit.mean() for name, hit in hits.items()}})
table["weights"] = [sum(p.numel() for p in nets[0].parameters() if p.requires_grad) for nets in trained.values()]
table.round(1)

# %% [markdown]
# Each gains: the covariance 6 points over the plain exit (1.7 to 9.5), the bypass 8 (4.8 to 10.6). And here they *add
# up*: on top of each other each gains about as much again, and both together 14 points, from 40 to 54 %.
#
# Is it the covariance, or its 28,140 weights? Without a bypass the covariance is 3 points *behind* two layers on the
# mean, in each training (46 against 49 %). With one it is 3 points *ahead* of them, in each training, by 1 to 7. Both
# intervals include 0, so three trainings leave both open.
#
# ## What each of them depends on
#
# Cover patches again, as in lesson 3. The mean adds up features, one by one. The covariance adds up *products* of two
# features of a patch, so a patch counts for the combinations that it has. Here for 24 photographs, evenly from all
# kinds: how many of the 25 patches does it take to hold half of the evidence, whatever its sign? Two of them are
# drawn.

# %% tags=["guess"]
wider = Guess("For which do more patches matter?", "the mean", "the covariance", "neither")
wider

# %%
both = np.flatnonzero(hits["covariance"][0] & hits["mean"][0])  # both are correct; sorted by class
some = both[np.linspace(0, len(both) - 1, 24).astype(int)]
x, labels = camera.inputs("val", some), val.labels[some]
black = dx.attribution.make_baseline(camera.backbone, x, "black")
patch = torch.arange(25).view(5, 5).repeat_interleave(14, dim=0).repeat_interleave(14, dim=1)  # of each pixel


def covered(net):  # as in lesson 3
    cover = FeatureAblation(lambda images: net(camera.look(images, exits=1))[:, 0])
    options = {"target": labels, "feature_mask": patch.expand(1, 3, 70, 70), "perturbations_per_eval": 25}
    return cover.attribute(x, black, **options)[:, 0, ::14, ::14]


maps = np.stack([covered(trained[name][0]) for name in ("mean", "covariance")], axis=1)  # (24, 2, 5, 5)
falling = np.sort(np.abs(maps).reshape(24, 2, 25))[..., ::-1].cumsum(axis=2)
halves = 1 + (falling < falling[..., -1:] / 2).sum(axis=2)
mean, low, high = dx.analysis.seeds_interval(halves[None, :, 1] - halves[None, :, 0])
print("patches that hold half, of mean and covariance:", halves.mean(axis=0).round(1))
print(f"covariance less mean: {mean:+.1f} patches [{low:+.1f}, {high:+.1f}]")
shown, names = [5, 15], [camera.names[c][:22] for c in labels]
pictures = [val.images[some[i]] for i in shown], maps[shown], ["mean", "covariance"], [names[i] for i in shown]
figure = dx.figures.patch_maps_figure(*pictures)
wider.on(figure.update_layout(margin_t=30, height=figure.layout.height + 30))

# %% [markdown]
# Neither: half of the evidence is in 8 patches under both. That one of them reads products cannot be seen in such a
# map. It shows *where*, not *which combination*.
#
# ## What the study found
#
# In whole networks, at 30 and 40 % of the compute: second-order predictors *added* to naive exits, and *left out* of
# DMPO.

# %%
claims = dx.course.study_table("claims")
second = claims[claims["question"].str.startswith("second-order")]
dx.figures.gains_figure(second.assign(question=second["study"] + ": " + second["question"]))

# %% [markdown]
# Added, they gain most on photographs at 30 % of the compute: 9 points. *Left out* is again how much DMPO loses
# without them: 4 points there, and 9 at exit 1. With them in place the bypass is not missed here (lesson 3); with
# fewer images, on birds and Caltech-101, it is, by 4 points, and they by 20 and 9 ([later
# study](../docs/results.md#which-part-does-it)). In our exit both add up all the same. So do not carry such a finding
# from one network to another.
#
# <div class="admonition note" markdown="1"><p><b>What you cannot conclude.</b></p>
#
# - *That it takes a covariance.* Alone it is not ahead of as many weights on the mean; with the bypass three trainings
#   leave it open.
# - *That the parts add up elsewhere.* This is exit 1 of a small network, read on the photographs that chose its size.
# - *That a patch with a large value is what the predictor sees.* It has never met a photograph with a black patch.
#
# </div>
#
# **Try it.** Let `second` read the triangle of Σ itself, and train it on the same three trunks. What is the root worth
# here?
#
# Next: [5 · Two phases](5_two_phases.ipynb)
