# %% [markdown]
# # 1 · The conflict
#
# Why not simply put a predictor behind every stage of a network?
#
# **Goal.** Write a small CNN with six exits, train it, and see its last exit lose to the same network without the early
# ones. Find out where the damage is. Then ask why a pre-trained transformer hardly suffers, and what may be different
# on photographs.
#
# **Time.** An hour or more to read and write, about two minutes to run. A good place to pause: *A pre-trained
# transformer*.
#
# **Before.** [00](00_quickstart.ipynb). You can write an `nn.Module`. The second half needs the backbone's weights,
# which a cell there fetches. Words are at the end and in the [glossary](../docs/glossary.md); the method is
# [DMPO](https://arxiv.org/abs/2511.03245).

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
import inspect
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.course import on_tokens, small_cnn
from dmpo_explore.course.exercises.the_conflict import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import live, numbers, slider

runs = {name: dx.load_run(name) for name in ("demo", "demo-naive", "demo-single")}
threads = torch.get_num_threads()
torch.set_num_threads(1)  # such small convolutions gain nothing from a second one
data, test = small_cnn.halves(runs["demo"])  # 2,000 images of 14 × 14 pixels to train on, 5,000 others to test on
kept = dx.course.study_table("small-cnn")  # a benchmark's results, of the same networks

# %% [markdown]
# ## Build it
#
# A network with early exits is an ordinary network that answers more than once. Ours has six stages, a convolution
# each, and a linear exit behind each stage reads the mean of every channel:
#
#     image → stage 1 → stage 2 → stage 3 → stage 4 → stage 5 → stage 6
#                ↓         ↓         ↓         ↓         ↓         ↓
#             exit 1    exit 2    exit 3    exit 4    exit 5    exit 6
#
# One backward pass trains all of it, with the loss L = Σ λ_k · ℓ_k: the cross-entropy ℓ_k of exit k, times its *loss
# weight* λ_k.
#
# Replace the dots. `at` lists the stages that have an exit, from 0: `at=[5]` is an ordinary network with one classifier
# at its end. The cell below the hints has a solution; if yours passes, the notebook trains *yours*.


# %% tags=["build"]
class EarlyExitCNN(nn.Module):
    def __init__(self, at=range(6)):
        super().__init__()
        channels, strides = (12, 12, 16, 16, 32, 32), (2, 1, 1, 1, 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b, stride in zip((1, *channels[:-1]), channels, strides, strict=True)
        )
        self.at = tuple(at)
        self.exits = ...  # an nn.ModuleList: for every stage in `at` a linear layer, from its channels to 10 classes

    def forward(self, x):  # images (B, 1, h, w) → logits (B, K, 10) of the K exits
        return ...

    def loss(self, x, labels, weights):  # Σ λ_k · ℓ_k, with K weights
        return ...


check_build(EarlyExitCNN)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `x.mean(dim=(2, 3))` turns (B, channels, h, w) into (B, channels). All stages run, whichever of them have an exit.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# In `forward`, loop over the stages and keep the mean of each in a list. Then `torch.stack([...], dim=1)` of the exits'
# logits. In `loss`, `F.cross_entropy(logits[:, k], labels)` is ℓ_k for k = 0 … K − 1.
#
# </details>


# %% tags=["build", "solution"]
class Solution(nn.Module):
    def __init__(self, at=range(6)):
        super().__init__()
        channels, strides = (12, 12, 16, 16, 32, 32), (2, 1, 1, 1, 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b, stride in zip((1, *channels[:-1]), channels, strides, strict=True)
        )
        self.at = tuple(at)
        self.exits = nn.ModuleList(nn.Linear(channels[k], 10) for k in self.at)

    def forward(self, x):
        means = []
        for stage in self.stages:
            x = stage(x)
            means.append(x.mean(dim=(2, 3)))
        return torch.stack([exit(means[k]) for exit, k in zip(self.exits, self.at, strict=True)], dim=1)

    def loss(self, x, labels, weights):
        logits = self(x)
        return sum(weights[k] * F.cross_entropy(logits[:, k], labels) for k in range(len(self.at)))


EarlyExitCNN = EarlyExitCNN if check_build(EarlyExitCNN) else Solution
check_build(EarlyExitCNN)

# %% [markdown]
# **Test it** as one tests a layer: the same weights, the same images, and the course's network and the library's loss
# beside it.

# %%
theirs, ours = small_cnn.EarlyExitCNN().double(), EarlyExitCNN().double()
ours.load_state_dict(theirs.state_dict())
few, answers, weights = test.pixels[:50].double(), test.labels[:50], (1.0, 0.5, 0.0, 2.0, 1.0, 3.0)
loss, _ = dx.training.weighted_loss(theirs(few), answers, weights)
assert float((ours(few) - theirs(few)).detach().abs().max()) < 1e-6
assert abs(float((ours.loss(few, answers, weights) - loss).detach())) < 1e-6
print("largest difference is below 1e-6")

# %% [markdown]
# ## Train it: one exit, or six
#
# The training loop has nothing special. In [04](04_phase_schedule.ipynb) you will write its step yourself.

# %%
print(inspect.getsource(small_cnn.train))

# %% [markdown]
# Two networks with the same trunk, each with three seeds: one has its last exit alone, the other has six exits that
# count alike (*uniform* weights).
#
# **Predict.** More exits give the trunk more feedback: the early stages are trained directly, not through four layers
# behind them. Will the *last* exit of the network with six be better than the network with one, as good, or poorer?


# %%
def trained(at, seed):
    torch.manual_seed(seed)
    net = EarlyExitCNN(at)
    small_cnn.train(net, data, lambda epoch, epochs, n_exits: [1.0] * n_exits, small_cnn.adam(net))
    return net


one_exit = [trained([5], seed) for seed in range(3)]
six_exits = [trained(range(6), seed) for seed in range(3)]

# %%
one, six = (np.stack([small_cnn.correct(net, test) for net in nets]) for nets in (one_exit, six_exits))
shown = {"six exits, uniform": six.mean(axis=1), "one exit": one.mean(axis=1)[:, 0]}
dx.figures.seeds_figure(shown, "accuracy on test").update_yaxes(tickformat=".0%")

# %%
behind = on_tokens.gain("last of six exits over one exit", six[:, :, 5], one[:, :, 0])
assert (six[:, :, 5].mean(axis=1) < one[:, :, 0].mean(axis=1)).all()
dx.figures.gains_figure(pd.DataFrame([behind])).update_layout(height=220)

# %% [markdown]
# It is poorer in each of the three trainings, by four points on average. The line is the mean of three seeds, the band
# reaches from the lowest to the highest; in the second figure a cross is one seed, the bar a 95 % interval over the
# test images.
#
# So there is a conflict, and not a small one: with early exits the last one is worse, and the
# first exits are poor all the same.
#
# Does it only train more slowly? [A benchmark](../benchmarks/small_cnn.py) trained the same networks three times as
# long. It also trained a *narrow* network (4 to 8 channels) on 5,000 images for 16 epochs, which is five times the
# steps. Its table comes with the course; each number is the mean of three seeds. Its eight-epoch trainings differ
# from yours by a few tenths: they were another run. An *arm* is one of the kinds of training that a study compares:
# here one exit and six exits.
#
# **Predict.** In which of the two will the gap close?

# %%
last = kept[kept["exit"].eq(6) & kept["early"].eq(1) & kept["arm"].isin(["one exit", "six exits"])]
gap = 100 * last.pivot_table(index=["network", "epochs", "seed"], columns="arm", values="accuracy")
table = gap.groupby(["network", "epochs"]).mean()
points = (gap["six exits"] - gap["one exit"]).groupby(["network", "epochs"])
table["six less one, by seed"] = points.agg(lambda seeds: " ".join(f"{seed:+.1f}" for seed in seeds))
early = kept[kept["exit"].isin([2, 3, 4]) & kept["early"].eq(1) & kept["arm"].eq("six exits")]
means = 100 * early.pivot_table(index=["network", "epochs"], columns="exit", values="accuracy")
table["exits 2, 3, 4 of six"] = [" ".join(f"{mean:.0f}" for mean in row) for row in means.loc[table.index].to_numpy()]
table.round(1)

# %% [markdown]
# In the small network it closes: after 24 epochs nothing is lost that three seeds agree on. There six exits only made
# training *slower*. The narrow one has a gap of three points, although it was trained for five times the steps. It
# looks as if exits conflict over something scarce: steps of training, or channels that they share. Where both are
# plenty it may not show. (The narrow network also saw more images, so this is a guess.)
#
# ## How much do the early exits count?
#
# The benchmark put one factor in front of the five early losses: at 0.03 they hardly count, at 3 they count three times
# as much as the last. Three seeds each.
#
# **Predict.** Move the slider up. Which exits gain, and is there a factor at which no exit loses?

# %% tags=["setup"]
factors = sorted(kept.loc[kept["arm"].eq("six exits"), "early"].unique())


@cache
def seeds_of(arm, early=1.0):
    rows = kept[kept["arm"].eq(arm) & kept["early"].eq(early) & kept["epochs"].eq(8)]  # of the small network
    return rows.pivot(index="seed", columns="exit", values="accuracy").to_numpy()


# %% tags=["live"]
def counted(step):
    early, single = seeds_of("six exits", factors[step - 1]), seeds_of("one exit")[:, 0]
    figure = dx.figures.seeds_figure({"six exits": early, "one exit": single}, "accuracy on test")
    figure.update_yaxes(range=[0.1, 0.9], tickformat=".0%")
    one, six, alone = *100 * early.mean(axis=0)[[0, 5]], 100 * single.mean()
    return figure, f"early losses × {factors[step - 1]:g}: exit 1 {one:.1f} %, exit 6 {six:.1f} %, alone {alone:.1f} %"


live(counted, step=slider("factor", 1, len(factors), 4))

# %% [markdown]
# All five positions of the slider in one table, accuracy in per cent:

# %%
exits = [f"exit {k}" for k in range(1, 7)]
by_factor = {f"early losses × {early:g}": seeds_of("six exits", early) for early in factors}
table = pd.DataFrame([100 * seeds.mean(axis=0) for seeds in by_factor.values()], list(by_factor), exits).round(1)
less = [100 * (seeds[:, 5] - seeds_of("one exit")[:, 0]) for seeds in by_factor.values()]
table["exit 6 less one exit, by seed"] = [" ".join(f"{points:+.1f}" for points in row) for row in less]
table

# %% [markdown]
# As the factor grows, exits 1 to 4 gain at every step on average over seeds, and exits 5 and 6 lose. Single seeds do
# not always. Exit 2 gains over twenty points in all. At 0.03 and at 0.1 the seeds do not agree that the last exit
# loses anything; from 0.3 on it loses with every seed. (A factor in front of *all* six losses is another question:
# [04](04_phase_schedule.ipynb).)
#
# ## Where is the damage?
#
# The paper's answer: shallow features then have two tasks. They have to be *discriminative*, so that an exit right
# behind them can tell the classes apart. And they have to stay *representative*, so that deeper stages find what they
# need. If that is all, the damage is in the **shallow stages**, and better deep stages cannot repair it.
#
# That can be tested. Take the first three stages of each network and freeze them. Put new stages 4 to 6 behind them,
# with one exit at the end, and train those alone. There are no early exits any more; only what the first three stages
# *were trained for* differs.
#
# **Predict.** The new stages 4 to 6 are trained twice: on the first three of the network with one exit, and on those
# of the network with six. Will both reach the same accuracy?

# %%
anew = {name: seeds_of(f"rest anew, on {name}")[:, 0] for name in ("one exit", "six exits")}
pd.DataFrame({name: [*100 * hits, 100 * hits.mean()] for name, hits in anew.items()}, index=[*"012", "mean"]).round(1)

# %% [markdown]
# No: 80.1 against 81.3 on average, poorer with each seed, but with one by a tenth of a point only. So a part of the
# damage seems to sit in the first three stages: about one point of the four. Most of it came back when the deeper
# stages were trained once more, with one exit and on finished features. Which of the two did it is not tested. The
# paper's account fits, but it is not the whole of what happens in this network.
#
# ## Then leave the trunk alone?
#
# The other way out: train the network with one exit, freeze it, and only then add exits that learn to read what is
# there. Its last exit loses nothing, by construction.
#
# **Predict.** What will the early exits be like, compared with those that trained the trunk?

# %%
choices = {
    "six exits, uniform": seeds_of("six exits"),
    "exits on a finished trunk": seeds_of("exits on a finished trunk"),
}
choices["one exit"] = seeds_of("one exit")[:, 0]
dx.figures.seeds_figure(choices, "accuracy on test").update_yaxes(tickformat=".0%")

# %%
finished = seeds_of("exits on a finished trunk").mean(axis=0)
over = [100 * (seeds_of("six exits", early).mean(axis=0) - finished) for early in factors]
table = pd.DataFrame(over, list(by_factor), exits)
table.rename_axis("points over a finished trunk", axis=1).round(1)

# %% [markdown]
# With a factor of 1, exits 2 to 4 are 12 to 20 points better if they trained the trunk. Exits 5 and 6 are 3.7 and 4.0
# points poorer.
#
# That is the dilemma of a *short* training. Train the trunk with all exits, and the last one loses; leave it alone, and
# the early exits have little to read. A small factor lies between the two: with 0.1, exits 3 and 4 keep 11 and 8
# points. A longer training is another way out, in the small network only: look at the table of epochs again.
#
# DMPO takes a third. It gives early exits a *bypass* and richer statistics ([02](02_bypass_decomposition.ipynb),
# [03](03_second_order_heads.ipynb)), so that they need less of the trunk. And it trains in *two phases* of loss
# weights ([04](04_phase_schedule.ipynb)).
#
# ## A pre-trained transformer
#
# Now the models of this project. Three share the same frozen ViT-S/14. Beside its own weights it has a few trainable
# ones, the *tuning*. Here that is LoRA: to a frozen matrix W a product B·A of two thin ones is added, and only A and B
# are trained. All three were trained on the same 10,000 Fashion-MNIST images:
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
# **Predict.** The small CNN lost four points. Will the last exit of `demo-naive` lose as much against `demo-single`?

# %%
names = {"demo": "demo (DMPO)", "demo-naive": "demo-naive", "demo-single": "demo-single"}
correct = {name: run.record("test").correct for name, run in runs.items()}
accuracy = {name: hits.mean(axis=0) for name, hits in correct.items()}
levels = {names[name]: accuracy[name][None] for name in ("demo", "demo-naive")} | {
    "demo-single": accuracy["demo-single"]
}
dx.figures.seeds_figure(levels, "accuracy on test").update_yaxes(tickformat=".0%")

# %%
end = {name: hits[None, :, -1] for name, hits in correct.items()}
rows = [
    on_tokens.gain(f"last exit, {name} over demo-single", end[name], end["demo-single"])
    for name in ("demo", "demo-naive")
]
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=260)

# %% [markdown]
# Hardly: 0.3 points, and the interval includes 0. There is one training of each, so the interval is over images only.
# [The study](../benchmarks/RESULTS.md) has three seeds of smaller trainings. There naive exits with equilibrium lose
# 0.2 points, and the interval includes 0; the same without it lose 0.5, and arms that read only the class token or
# the mean 0.8 to 1.6; those intervals exclude 0. DMPO's first two exits are far better than the naive ones. Its last
# one cannot be distinguished from the single model's, either.
#
# Why do naive exits lose so little here? Two possible reasons can be looked at; neither is tested.
#
# **They can move little.** The backbone is frozen. What the exits share is the tuning:

# %%
dx.fetch_weights(runs["demo"].config.model.backbone)
weights = {"all": list(runs["demo-naive"].model().named_parameters())}
weights["shared by the exits and trained"] = [w for w in weights["all"] if w[1].requires_grad and ".trunk." in w[0]]
pd.DataFrame({"weights": {part: f"{sum(weight.numel() for _, weight in of):,}" for part, of in weights.items()}})

# %% [markdown]
# The CNN could change everything that its exits share; this model 2.7 % of its weights.
#
# **What deep stages need may be there already.** Pre-training made features for many tasks, and a small tuning undoes
# only a part of that. Probes show what became of it.
#
# ## What a stage represents
#
# A **probe** is the simplest reader: a ridge regression on frozen tokens. It predicts two things from the tokens that
# the trunk passes on after every two blocks:
#
# - *low level*: the mean grey of the patch that a token stands for (representative: what a deeper stage may need);
# - *label*: the class of the image, from the mean of its patch tokens (discriminative: what an exit needs here).
#
# Half of 240 bundled test images fit the probes, the other half tests them; nothing about the models is chosen by it.
# The fourth line, `untuned`, is the backbone without any tuning. `demo-single` has no early exits, so its trunk is cut
# at the same blocks by `block_view`.
#
# **Predict.** With depth, which of the two gets easier and which harder? Which trunk loses low-level detail first: the
# naive or DMPO's?

# %% tags=["setup"]
torch.set_num_threads(threads)
config = runs["demo"].config.model
dx.fetch_weights(config.backbone)
images, labels = runs["demo"].inputs("test", range(240)), torch.tensor(runs["demo"].record("test").labels[:240])
fitted = dx.inspection.half_of(len(images))  # probes are fitted on this half and tested on the other
untuned = dx.build_model(replace(config, tuning="none", bypass="none", predictor="linear"), 10)
models = {name: run.model() for name, run in runs.items()} | {"untuned": untuned}


@cache
def tokens(name):
    model = models[name]
    return dx.stage_tokens(dx.inspection.block_view(model, 2) if name == "demo-single" else model, images)


# %%
trunks = {name: dx.probe_stages(tokens(name), images, labels, sources=["trunk"]) for name in models}
dx.figures.probe_figure(trunks)

# %% [markdown]
# Left, up is *worse*: the probe's error in the grey mean is larger (the axis is logarithmic). Right, up is better; 120
# images test it, so the 95 % interval of a point is ± 5 points at 93 % and ± 9 at 55 %.
#
# With depth the grey mean gets harder to read in all four. The label gets easier in the tuned ones up to exit 5, and
# in the untuned one up to exit 4. The naive trunk fits its exits: the label is easy to read early,
# and at every depth it has lost more of the image than the others. So the direction is the paper's, only the damage at
# the end is small. DMPO's trunk keeps more of the image than the naive one at every depth; at the end it lies halfway
# between it and the single model's, which has no early exit. Its early exits do not read the trunk alone, nor only its
# mean: [02](02_bypass_decomposition.ipynb) and [03](03_second_order_heads.ipynb) show what the two parts add.
#
# That *representative* can be measured by patch means is our choice. The same, made visible: one linear probe per stage
# predicts all 14 × 14 pixels of a patch from its token.
#
# **Predict.** After twelve blocks and with one token per patch, can you still recognise the garment?

# %% tags=["setup"]
grey = images.mean(dim=1).numpy()
unfitted = [i for i in range(len(images)) if not fitted[i]]  # images that no probe was fitted on


@cache
def reconstructed(name, stage):
    return dx.inspection.reconstruct(tokens(name).patches(stage), images, (5, 5), fitted)


def unexplained(name, stage):
    error = (grey - reconstructed(name, stage))[~fitted]
    return float((error**2).sum() / ((grey - grey[~fitted].mean())[~fitted] ** 2).sum())


# %% tags=["live"]
def what_is_left(exit, image):
    shown = ["demo", "demo-naive", "demo-single"]
    panels = {"image": grey[unfitted[image]]} | {name: reconstructed(name, exit - 1)[unfitted[image]] for name in shown}
    line = ", ".join(f"{name} {unexplained(name, exit - 1):.1%}" for name in shown)
    figure = dx.figures.matrix_figure(panels, scale="image").update_layout(height=320)
    return figure, f"exit {exit} · pixel variance not explained: {line}"


live(what_is_left, exit=slider("exit", 1, 6, 6), image=slider("image", 0, 39, 8))

# %% [markdown]
# The line above the images is over all 120 images that were not fitted: the share of the pixels' variance that the
# probe does not explain. The garment can still be recognised. Drag the exit, or read that share for all of them:

# %%
shares = {name: [100 * unexplained(name, stage) for stage in range(6)] for name in runs}
pd.DataFrame(shares, exits).T.rename_axis("% not explained", axis=1).round(1)

# %% [markdown]
# All three blur with depth. At every exit the naive trunk has lost the most, and DMPO's lies between the two. There
# is one training of each, so another training might change small differences.
#
# ## Do the gradients conflict?
#
# Every loss has a gradient with respect to the weights that exits share. Take the gradient of an early exit's loss and
# that of the last one's, and measure the cosine: 1 is the same direction, 0 is unrelated, below 0 one step undoes the
# other (a *conflict* in the sense of [Yu et al. 2020](https://arxiv.org/abs/2001.06782)).
#
# First your CNN, trained as above, on 500 of its training images and the weights of the first stage: a row per seed.
#
# **Predict.** Which exit agrees least with the last one? Is any cosine negative?


# %%
def cosines(net):
    logits = net.train()(data.pixels[:500])
    losses = [F.cross_entropy(logits[:, k], data.labels[:500]) for k in range(6)]
    shared = net.stages[0][0].weight
    slopes = [torch.autograd.grad(loss, shared, retain_graph=True)[0].flatten() for loss in losses]
    return [float(F.cosine_similarity(slope, slopes[5], dim=0)) for slope in slopes[:5]]


pd.DataFrame([cosines(net) for net in six_exits], columns=[f"exit {k}" for k in range(1, 6)]).round(2)

# %% [markdown]
# In each training exit 1 or exit 2 agrees least, and its cosine is negative: there a step for that exit undoes a part
# of a step for the last one. Exits 4 and 5 agree with it in all three. (It is a snapshot of three networks at the end
# of training. The last digits, and even the sign of a small cosine, may differ on another processor.)
#
# Then the transformer. [The study](../benchmarks/RESULTS.md) trained such models on 2,000 images, three times each,
# with adapters as their tuning. It measured these cosines after every epoch, on 64 validation images. Of its arms the
# figure has `dmpo`, the same with uniform loss weights, the same without bypass, and `naive-both`: linear exits,
# uniform weights, and no equilibrium.
#
# **Predict.** From the first epoch to the last: will the exits agree more with the last one, or less? And is an
# outright conflict, below 0, where training *begins* or where it ends?

# %%
gradients = dx.course.study_table("gradients")
arms = ("dmpo", "naive-both", "dmpo-uniform", "dmpo-no-bypass")
dx.figures.gradient_epochs_figure({arm: gradients[gradients["arm"] == arm] for arm in arms})

# %%
ends = gradients[gradients["epoch"].isin([1, 6])].rename(columns={"seed": "mean over exits 1 to 5, seed"})
ends.pivot_table(index="arm", columns=["epoch", "mean over exits 1 to 5, seed"], values="cosine").round(2)

# %% [markdown]
# Each line is the mean of three trainings. Most rise: exit 2 the most in three of the four arms, exit 5 in the other.
# Exit 1 hardly moves. What lies below 0 on average lies there in the first three epochs and not far. The lowest is
# exit 2 of `dmpo` after the first epoch.
#
# At the end the naive exits agree *more* with the last one than those of `dmpo`: with each seed, 0.33 to 0.45 against
# 0.25 to 0.30. Is agreement then the aim? Look at what became of the trunk. **CKA** (centred kernel alignment)
# compares two sets of features of the same inputs: 1 if they are equal up to rotation and scale, 0 if they are
# uncorrelated. Here the bundled models' patch tokens are compared with the untuned backbone's.
#
# **Predict.** Whose trunk is least like the untuned one?

# %%
plain = [tokens("untuned").patches(stage).flatten(0, 1) for stage in range(6)]
like = {name: [dx.linear_cka(tokens(name).patches(k).flatten(0, 1), plain[k]) for k in range(6)] for name in runs}
pd.DataFrame(like, exits).T.rename_axis("CKA with the untuned trunk", axis=1).round(2)

# %% [markdown]
# The naive one, from exit 1 to exit 4; at exits 5 and 6 it is level with DMPO's. The single model's is most like it
# from exit 2 on. In the study `naive-both` is lowest with every seed: 0.83, against 0.92 and 0.93. The seeds do not
# order `dmpo` and `single`. So more agreement need not mean a better preserved trunk. The arm whose exits agree more
# is the one whose trunk has moved further.
#
# ## On photographs
#
# Fashion-MNIST is easy for this backbone: after four of twelve blocks a linear probe finds 86 % of what it ever finds.
# What if depth matters? Caltech-101 has 101 classes of photographs. [Its rows](../benchmarks/PHOTOS.md) are
# **preliminary**: one seed, read on 867 validation images, and no naive arm has been trained yet.
#
# **Predict.** Label probes on the untuned backbone: which share of its best accuracy has it after a quarter of the
# blocks, on small grey garments and on photographs?

# %%
photos = dx.course.study_table("photos-probes")
plain = photos[photos["image_size"].eq(98) & photos["merge"].eq(0)].set_index("block")["accuracy"]
garments = trunks["untuned"].set_index("exit")["label"].set_axis(range(2, 13, 2))
curves = {"Fashion-MNIST": garments / garments.max(), "photographs": plain / plain.max()}
table = pd.DataFrame(curves).reindex(range(2, 13))
lines = {name: table[name].interpolate(limit_area="inside").to_numpy()[None] for name in table}
blocks = [f"block {block}" for block in table.index]
dx.figures.seeds_figure(lines, "share of its best", x=blocks).update_yaxes(tickformat=".0%")

# %% [markdown]
# After three of twelve blocks a probe finds three quarters of what it ever finds on garments, but less than three
# fifths on photographs; there it gains up to block 11. (Between exits the garments' line is interpolated. It rests on
# 120 images, the photographs' on 867.)
#
# So *here* an early exit on photographs needs more than shallow features hold. (The two also differ in the number of
# classes, the pixels, and the images that fit the probe.) And what did training give? DMPO's
# four exits against a full model with one linear exit, points of accuracy on val:
#
# **Predict.** Will DMPO's last exit be as good as the full model, as on Fashion-MNIST?

# %%
dx.figures.gains_figure(dx.course.study_table("photos")).update_layout(
    height=300, xaxis_title="points of val accuracy over the full model"
)

# %% [markdown]
# It is 1.3 points behind, and the interval includes 0: one seed cannot tell. The exit at half of the compute is seven
# points behind, the first one, at a quarter, nineteen. On Fashion-MNIST `demo`'s first exit is two points behind its
# single model.
#
# So the conflict may be larger where depth matters, and these rows do not show it: for that, naive exits have to be
# trained on photographs, with several seeds. What they do show is that early exits have far more to gain there.

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
# **1.** *Gradient equilibrium*, the trick of `demo-naive`. Behind stage i of K, the gradient of exit i is multiplied by
# 1/(K − i + 1). What comes back from the deeper stages is multiplied by (K − i)/(K − i + 1). So the gradient of exit 3
# is scaled three times before it reaches stage 1. Write a function of K and a stage (from 1). It returns K numbers: the
# factor with which each exit's gradient reaches the weights of that stage.

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# An exit before the stage does not reach it at all. On the way from exit k to stage s lie the branches k, k − 1, … s.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Multiply them on paper for K = 3 and stage 1. What cancels?
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# def answer_1(n_exits, stage):
#     left = n_exits - stage + 1  # exits at this stage or behind it: the product telescopes to 1 / left
#     return [0.0 if exit < stage else 1 / left for exit in range(1, n_exits + 1)]
# ```
#
# </details>

# %% [markdown]
# **2.** *Gradient surgery* (Yu et al. 2020): where two gradients conflict, take from the first its part along the
# second; where they do not, leave it alone. Write a function of two vectors (tensors) that returns the changed first
# one.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# They conflict where `first @ second` is negative.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# The part of a along b is (a·b / b·b) b. What is left has no part along b.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# def answer_2(first, second):
#     along = first @ second / (second @ second)
#     return first - along * second if along < 0 else first
# ```
#
# </details>

# %% [markdown]
# **3.** Write the probe yourself, a *ridge classifier*. It is a function of features (B, D), labels (B,), a mask (B,)
# of the images to fit on, and a penalty λ. It returns the accuracy on the other images:
#
# - standardise: subtract the fitted images' mean, divide by their standard deviation;
# - targets Y: one column per class, 1 where the image has it and else 0, less the mean of the fitted rows;
# - weights W = (XᵀX + λI)⁻¹ XᵀY, from the fitted images alone;
# - the prediction is the class with the largest entry of xW + the mean that was taken from Y.

# %% tags=["exercise"]
answer_3 = ...  # called as answer_3(features, labels, fitted, 100.0), with numpy arrays
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `np.unique(labels)` has the classes; `labels[:, None] == classes` is Y. `np.linalg.solve(A, B)` is A⁻¹B.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# All means, deviations and weights come from `features[fitted]`. The accuracy is read on `~fitted` alone: a probe with
# more features than images is always good on those that it was fitted on.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# def answer_3(features, labels, fitted, penalty):
#     x = (features - features[fitted].mean(axis=0)) / features[fitted].std(axis=0)
#     classes = np.unique(labels)
#     y = (labels[:, None] == classes).astype(float)
#     mean = y[fitted].mean(axis=0)
#     squares = x[fitted].T @ x[fitted] + penalty * np.eye(x.shape[1])
#     weights = np.linalg.solve(squares, x[fitted].T @ (y[fitted] - mean))
#     predicted = classes[(x[~fitted] @ weights + mean).argmax(axis=1)]
#     return (predicted == labels[~fitted]).mean()
# ```
#
# </details>

# %% [markdown]
# **Use yours.** The label probes above read the mean of the patch tokens. Here one is fitted for every *position*, at
# exits 1 and 6 of `demo-naive`. Once yours passes, this cell takes it; until then scikit-learn's.
#
# **Predict.** At exit 1: which of the 25 patches has the most about the label, a middle one with the garment, or one at
# the border? Is the class token better than all of them? And what changes at exit 6?


# %%
def sklearns(features, labels, fitted, penalty):
    probe = make_pipeline(StandardScaler(), RidgeClassifier(penalty)).fit(features[fitted], labels[fitted])
    return probe.score(features[~fitted], labels[~fitted])


read = answer_3 if check_3(answer_3) else sklearns
at = {exit: tokens("demo-naive").trunk[exit - 1].double().numpy() for exit in (1, 6)}  # (240, 26, 384)
found = {k: [100 * read(x[:, n], labels.numpy(), fitted, 100.0) for n in range(26)] for k, x in at.items()}
panels = {f"exit {k}, accuracy in %": np.array(each[1:]).reshape(5, 5) for k, each in found.items()}
dx.figures.matrix_figure(panels, scale="size").update_layout(height=360)

# %%
border = np.ones((5, 5), bool)
border[1:-1, 1:-1] = False
patches = {k: np.array(each[1:]).reshape(5, 5) for k, each in found.items()}
rows = {
    "class token": {k: each[0] for k, each in found.items()},
    "the 16 at the border, mean": {k: each[border].mean() for k, each in patches.items()},
    "the 9 within, mean": {k: each[~border].mean() for k, each in patches.items()},
    "best patch of 25": {k: each.max() for k, each in patches.items()},
    "mean of the patch tokens": {
        k: 100 * read(x[:, 1:].mean(axis=1), labels.numpy(), fitted, 100.0) for k, x in at.items()
    },
}
pd.DataFrame(rows).T.add_prefix("exit ").round(1)

# %% [markdown]
# Behind two blocks no position alone has as much as their mean: 74 % against 67 % at the best of 25, which was even
# chosen on the images that test it. The class token is no better than the average patch. Which patch is best cannot be
# seen on 120 images, where a point is ± 9. Nor can it be seen whether the border, 57 %, is ahead of the middle, 54 %.
# Behind twelve blocks every patch has about as much as the mean. A likely reason is attention: each block mixes the
# positions, and twelve have spread the label over all of them. An early exit has to collect it itself, so *what it
# reads* matters there. That is the subject of [03](03_second_order_heads.ipynb).
#
# ## What you cannot conclude
#
# - *That early exits cost every network several points.* With three times the epochs this one lost nothing; a narrower
#   one did. Its learning rate and epochs were chosen after a few trials on the same 5,000 images.
# - *That the shallow stages hold all of the damage*, from stages trained again: about one point of four came from the
#   first three, and three seeds are few.
# - *How large the conflict is on photographs.* No naive arm was trained there. `dmpo` differs from the full model in
#   exits, bypass, predictors and loss weights at once, with one seed.
# - *Which part of DMPO preserved the trunk*, from three runs that differ in bypass, predictor and loss weights at once.
# - *What the next stage uses*, from a probe: it shows what can be read linearly.
# - *That exits harm each other*, from a negative cosine in a trained model: where a sum of losses has come to rest, its
#   parts cancel. Nor does a positive one prove the contrary.
#
# ## Words
#
# | word | here |
# |---|---|
# | exit | a classifier behind a stage; an image may stop there |
# | trunk | the stages themselves, which all deeper exits share |
# | representative | holding what deeper stages need |
# | discriminative | telling the classes apart by a linear classifier |
# | loss weight λ_k | the factor of exit k's loss in the sum |
# | arm | one of the kinds of training that a study compares |
# | tuning | the few weights trained beside a frozen backbone |
# | LoRA | a tuning: trained products of two thin matrices, added to frozen ones |
# | CKA | similarity of two layers' features, from 0 to 1 |
# | probe | a linear model on frozen features, to see what they hold |
#
# ## References
#
# - The method: [Decoupled Multi-Predictor Optimization](https://arxiv.org/abs/2511.03245), ICCV 2025. The conflict of
#   *representative* and *discriminative* is its starting point.
# - The conflict in CNNs, and dense connections as another answer: [Huang et al. 2018,
#   MSDNet](https://arxiv.org/abs/1703.09844).
# - Gradient equilibrium: [Li et al. 2019](https://arxiv.org/abs/1908.06294). Gradient surgery: [Yu et al.
#   2020](https://arxiv.org/abs/2001.06782).
# - Stages of one network in another: [Yosinski et al. 2014](https://arxiv.org/abs/1411.1792). Probes: [Alain and Bengio
#   2016](https://arxiv.org/abs/1610.01644).
#
# Next: [02 · Trunk against bypass](02_bypass_decomposition.ipynb)
