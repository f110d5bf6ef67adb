# %% [markdown]
# # 2 · Trunk against bypass
#
# What does an early predictor read from the trunk, and what from the bypass beside it?
#
# **Goal.** Write a bypass, train it on frozen tokens and see what it gains. Then take the tokens of one DMPO run apart
# into trunk and bypass and compare them with three instruments: similarity (CKA), probes, and switching the bypass off.
#
# **Time.** 40 minutes to read and predict; 100 with the build and the exercises; two to three minutes to run.
#
# **Before.** [01](01_the_conflict.ipynb) for probes and for what *representative* and *discriminative* mean. Words are
# at the end and in the [glossary](../docs/glossary.md); the method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% tags=["network"]
import dmpo_explore as dx

dx.course.network("bypass")

# %% [markdown]
# The marked box is today's part. Its arrow ends at the exit: no later stage reads what the bypass adds. (Its gradient
# does reach the trunk in training.) So the trunk can stay *representative*, while the exit reads something
# *discriminative* ([01](01_the_conflict.ipynb)).
#
# *Representative* is measured here in one way only: by CKA with the untuned backbone. That is not the same thing. A
# trunk may move away from that backbone and still serve the later stages as well, or better.

# %% tags=["setup"]
import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.course import on_tokens
from dmpo_explore.course.exercises.bypass_decomposition import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import live, numbers, slider

run = dx.load_run("fashion")
config = run.config.model
dx.fetch_weights(config.backbone)
model = run.model()

few = dx.stage_tokens(model, run.inputs("test", range(240)))  # for a slider
few_labels = torch.tensor(run.record("test").labels[:240])

# %% [markdown]
# `fashion` is used from *Where it acts* on; the build before it needs a frozen backbone only.
#
# ## Build it
#
# Write the `conv` bypass. A token has 384 numbers; it is normalised, reduced, mixed with its neighbours and widened:
#
#     x + Up(GELU(DWConv3×3(Down(LayerNorm(x)))))
#
# Tokens are (B, 1 + h·w, width): the class token, then the patches row by row. The class token has no neighbours, so it
# skips the convolution alone. `up` starts at zero: at the start the predictor reads the trunk itself.
#
# Replace the dots. The cell below the hints has a solution; if yours passes, the rest of the notebook trains *yours*.


# %% tags=["build"]
class Bypass(nn.Module):
    def __init__(self, width, hidden, grid):
        super().__init__()
        self.grid = grid
        self.norm = ...
        self.down = ...
        self.conv = ...  # depthwise: one 3 × 3 filter per channel, padding 1
        self.up = ...  # zero at the start

    def forward(self, x):
        return ...


check_build(Bypass)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)` is depthwise. `nn.init.zeros_` sets a weight to zero; `up`
# has a bias, too.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# The shapes in `forward`, with a grid of 5 × 5 and 64 inner numbers:
#
# ```text
# (B, 26, 384) → (B, 26, 64) → the patches alone (B, 25, 64) → a picture (B, 64, 5, 5) → convolved (B, 64, 5, 5)
# → (B, 25, 64) → with the class token (B, 26, 64) → (B, 26, 384)
# ```
#
# </details>
#
# <details markdown="1"><summary>Hint 3</summary>
#
# To a picture: `patches.transpose(1, 2).unflatten(2, self.grid)`. Back: `picture.flatten(2).transpose(1, 2)`. The class
# token in front again: `torch.cat((hidden[:, :1], mixed), dim=1)`.
#
# </details>


# %% tags=["build", "solution"]
class Solution(nn.Module):
    def __init__(self, width, hidden, grid):
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        hidden = self.down(self.norm(x))  # (B, 1 + h·w, hidden)
        patches = hidden[:, 1:].transpose(1, 2).unflatten(2, self.grid)  # (B, hidden, h, w)
        mixed = self.conv(patches).flatten(2).transpose(1, 2)
        hidden = torch.cat((hidden[:, :1], mixed), dim=1)
        return x + self.up(F.gelu(hidden))


Bypass = Bypass if check_build(Bypass) else Solution
check_build(Bypass)

# %% [markdown]
# **Test it** as one tests a layer: the same weights, the same input, and the library's layer beside it.

# %%
theirs, ours = dx.models.ConvBypass(384, 64, (5, 5), 1).double(), Bypass(384, 64, (5, 5)).double()
torch.manual_seed(0)
for weight in theirs.parameters():
    nn.init.normal_(weight, std=0.1)
ours.load_state_dict(theirs.state_dict())
x = torch.randn(2, 26, 384, dtype=torch.float64)
difference = float((ours(x) - theirs(x)[0]).detach().abs().max())
assert difference < 1e-6
print("largest difference is below 1e-6")

# %% [markdown]
# ## Its compute
#
# That the trunk does not read the bypass back is the paper's idea (its abstract). The shapes are ours, but for `mlp`,
# which follows the authors' release:
#
# | bypass | what it adds to the tokens | from |
# |---|---|---|
# | `conv` (default) | Up(GELU(DWConv3×3(Down(LN x)))) on all tokens: patches mix with their neighbours | ours |
# | `mlp` | Up(GELU(Down(LN x))) on the class token alone | release; residual and zero start ours |
# | `ladder` | as `conv`, and reads the previous exit's bypass too | ours |
# | `none` | nothing | – |
#
# **Predict.** The trunk behind exit 1 has two transformer blocks of width 384. Which share of their compute does the
# `conv` bypass (64 wide) take: a half, a tenth, a fiftieth?

# %%
reference = dx.models.build_reference(config, 10)
rows = {}
for kind in ("conv", "mlp", "ladder", "none"):
    flops = dx.models.measure_flops(dx.build_model(replace(config, bypass=kind, weights="random"), 10), reference)
    row = {"parameters of 5": flops.parameters["bypass"], "MFLOPs of one": flops.bypass[0] / 1e6}
    rows[kind] = row | {"of 2 blocks": flops.bypass[0] / flops.trunk[0]}
compute = pd.DataFrame.from_dict(rows, orient="index")
compute.round(4)

# %% [markdown]
# About a seventieth: 1.4 %. `mlp` takes a twenty-sixth of that, for it reads one token of 26. (1 MAC = 2 FLOPs; one
# image of 70 px, 25 patches and a class token.)
#
# ## Train it, and compare
#
# Take the untuned backbone, cut it behind block 2, and keep its tokens of 3,000 bundled images: 1,500 to train on,
# 1,500 to test on. Nothing of the backbone is trained, so an epoch takes a second or two.

# %%
untuned = dx.build_model(replace(config, tuning="none", bypass="none", predictor="linear"), 10)
frozen = on_tokens.freeze(run, untuned)
print(inspect.getsource(on_tokens.train_exit))

# %% [markdown]
# Exits of *bypass → LayerNorm → linear layer on the mean patch*, each with three seeds and 20 epochs:
#
# - **no bypass**; also with **6 epochs** and with **60**: a baseline deserves its best training before one beats it;
# - **behind the mean**: two layers in place of the linear one, with nearly as many weights as the bypass; also with a
#   **wide** inner layer of 1,024 numbers, eight times as many weights;
# - **per token**: your bypass without its convolution, so that tokens do not see their neighbours;
# - **conv**: your bypass.
#
# **Predict.** Rank the seven. How much of the gain needs the neighbours? How much is due to the weights alone?


# %% tags=["build"]
def exit_with(bypass):
    return nn.Sequential(bypass, nn.LayerNorm(384), dx.models.LinearPredictor(384, 10, prefix=1, read="mean"))


class Mean(nn.Module):
    def forward(self, x):
        return x[:, 1:].mean(dim=1)  # of the patches


def behind_the_mean(hidden=128):
    return nn.Sequential(nn.LayerNorm(384), Mean(), nn.Linear(384, hidden), nn.GELU(), nn.Linear(hidden, 10))


def per_token():
    bypass = Bypass(384, 64, (5, 5))
    bypass.conv = nn.Identity()
    return exit_with(bypass)


makers = {
    "no bypass, 6 epochs": lambda: exit_with(nn.Identity()),
    "no bypass": lambda: exit_with(nn.Identity()),
    "no bypass, 60 epochs": lambda: exit_with(nn.Identity()),
    "behind the mean": behind_the_mean,
    "behind the mean, wide": lambda: behind_the_mean(1024),
    "per token": per_token,
    "conv": lambda: exit_with(Bypass(384, 64, (5, 5))),
}
epochs = {"no bypass, 6 epochs": 6, "no bypass, 60 epochs": 60}
hits = {name: on_tokens.correct(make, frozen, epochs=epochs.get(name, 20)) for name, make in makers.items()}

# %%
blocks = rows["conv"]["MFLOPs of one"] / rows["conv"]["of 2 blocks"]
trained = pd.DataFrame({"accuracy": {name: 100 * hit.mean() for name, hit in hits.items()}})
trained["seeds"] = [" ".join(f"{100 * seed:.1f}" for seed in hit.mean(axis=1)) for hit in hits.values()]
trained["weights"] = [sum(p.numel() for p in make().parameters()) for make in makers.values()]
trained["MFLOPs"] = [dx.models.count_flops(make(), frozen.tokens[:1]) / 1e6 for make in makers.values()]
trained["of 2 blocks"] = trained["MFLOPs"] / blocks
trained.round({"accuracy": 1, "MFLOPs": 2, "of 2 blocks": 3})

# %%
pairs = [("no bypass", "no bypass, 6 epochs"), ("no bypass, 60 epochs", "no bypass")]
pairs += [("conv", "no bypass"), ("behind the mean", "no bypass"), ("behind the mean, wide", "behind the mean")]
pairs += [("per token", "no bypass"), ("conv", "per token")]
ahead = [on_tokens.gain(f"{more} over {less}", hits[more], hits[less]) for more, less in pairs]
assert all((hits["conv"].mean(axis=1) > hits[name].mean(axis=1)).all() for name in makers if "no bypass" in name)
dx.figures.gains_figure(pd.DataFrame(ahead)).update_layout(height=360)

# %% [markdown]
# The table's order, but four pairs are not distinguished: 20 and 60 epochs of the mean head, that head and the one
# *behind the mean*, the two heads behind the mean, and *conv* and *per token*. The bypass wins in every seed, by about
# eight points over the mean head with 20 epochs. Six epochs leave that head four points behind, and sixty show no
# further gain. So the eight points are no lack of epochs. Nor are they the weights alone: *behind the mean* has nearly
# as many, and gains at most four points by its interval.
#
# Six of the eight need no neighbours: *per token* has them, too. So most of the gain comes with something non-linear
# *before* the mean, where a single patch can still count. (Weights are matched here, FLOPs are not: *behind the mean*
# takes 0.10 MFLOPs, *per token* 2.56. A *wide* head behind the mean takes 0.81, and eight times the weights. It gains
# nothing more that is shown: 77.6 %. All seven share one learning rate.)
#
# With the convolution it is not quite two points more, for 0.03 MFLOPs. All three trainings are ahead, one of them by
# hardly anything, and the interval includes 0: three are few, and this is **preliminary**. The whole bypass takes under
# two per cent of the two blocks before it.
#
# This exit reads the mean alone. [03](03_second_order_heads.ipynb) gives it the covariance as well, and the bypass
# gains much less there: keep this number.
#
# ## Where it acts
#
# From here on no exit is trained. We take the trained `fashion` apart, with its tokens of 1,000 bundled test images,
# which it was not trained on. `tokens.trunk[k]` is what the trunk passes on behind exit k + 1; the next stage reads it.
# `tokens.read[k]` is trunk *plus* bypass, which the predictor reads and no later stage receives.
#
# Brackets and bars from here on are 95 % intervals over images. They hold for this run: another training may differ by
# more.
#
# Per patch: the length of what the bypass adds, as a share of the length of the trunk's token.
#
# **Predict.** Is the bypass a small correction? At which exit does it add most? Image 8 is a sandal: on the shoe, or on
# empty ground?

# %%
images = run.inputs("test", range(1000))
labels = torch.tensor(run.record("test").labels[:1000])
tokens = dx.stage_tokens(model, images)
maps = tokens.bypass_maps()
grey = images[8].mean(dim=0)
panels = {f"exit {k + 1}": maps[k][8] for k in range(5)} | {"image": (grey - grey.min()) / (grey.max() - grey.min())}
figure = dx.figures.matrix_figure(panels, scale="size", bar="bypass / trunk").update_layout(height=230)
figure.update_traces(colorscale="gray", zmax=1, selector=5)  # the image

# %%
added = [dx.analysis.seeds_interval(of.mean(dim=(1, 2))[None]) for of in maps[:5]]
pd.Series(
    {f"exit {k}": "{:.2f} [{:.2f}, {:.2f}]".format(*of) for k, of in enumerate(added, 1)},
    name="mean over 1,000 images",
)

# %% [markdown]
# No small correction: at exits 1 and 2 the bypass adds *more* than the trunk's token is long, most at exit 2, 1.25
# times. At the fifth it adds a tenth. In this image the smallest shares at exit 1 lie on the sandal or just below it;
# the largest lies on empty ground. By length the first predictors read at least as much bypass as trunk. What they
# depend on is seen below, by switching it off.
#
# ## Is the trunk still the backbone's?
#
# **Linear CKA** compares two representations of the same rows: 1 where one is a rotated and scaled copy of the other,
# 0 where they are uncorrelated ([Kornblith et al. 2019](https://arxiv.org/abs/1905.00414)). Rows here are the patch
# tokens of 100 images. There are ten such groups of images; a line is the mean of the ten.
#
# **Predict.** Compare the tuned trunks with the untuned backbone, depth by depth. Which stays closer, DMPO's or the
# naive model's?

# %%
plain = dx.stage_tokens(untuned, images)
naive = dx.stage_tokens(dx.load_run("fashion-naive").model(), images)
groups = [slice(start, start + 100) for start in range(0, 1000, 100)]


def like_untuned(of, k, group):
    return dx.linear_cka(of.patches(k)[group].flatten(0, 1), plain.patches(k)[group].flatten(0, 1))


kept = {
    name: np.array([[like_untuned(of, k, group) for k in range(6)] for group in groups])
    for name, of in {"DMPO": tokens, "naive": naive}.items()
}
lines = {name: cka.mean(axis=0) for name, cka in kept.items()}
dx.figures.depth_figure(lines, "CKA with the untuned backbone").update_yaxes(range=[0, 1])

# %%
exits = [f"exit {k}" for k in range(1, 7)]


def over_groups(values):
    """(10, K) → K means with their 95 % interval, by Student's t for ten groups."""
    half = 2.26 * values.std(axis=0, ddof=1) / len(values) ** 0.5
    ends = zip(values.mean(axis=0), half, strict=True)
    return [f"{mean:+.3f} [{mean - by:+.3f}, {mean + by:+.3f}]" for mean, by in ends]


pd.Series(over_groups(kept["DMPO"] - kept["naive"]), exits, name="CKA, DMPO less naive").to_frame()

# %% [markdown]
# DMPO's, at every exit: by 0.05 to 0.07 at exits 1 to 4, and by 0.02 to 0.03 at exits 5 and 6. The intervals are over
# groups of images: other test images should give nearly the same. But this is one run of each. The study has three
# smaller trainings of each; this is the mean over their exits 1 to 5, by seed:

# %%
evidence = dx.course.study_table("evidence")


def by_seed(number, arms):
    return evidence[evidence["arm"].isin(arms)].pivot_table(index="arm", columns="seed", values=number).round(2)


by_seed("trunk like the untuned (CKA)", ("dmpo", "naive-both", "single"))

# %% [markdown]
# The naive trunk is lowest with every seed, too. `single`, without early exits, is about as close as `dmpo`.

# %% [markdown]
# ## Does the bypass make early tokens similar to deep ones?
#
# One may expect that what an early predictor reads resembles the last stage's tokens more than the bare trunk does.
#
# **Predict.** Does the dashed line (read) lie above the solid one (trunk)?


# %%
def like_the_last(source, group):
    stages = [tokens.patches(k, source)[group] for k in range(6)]
    return dx.inspection.cka_matrix(stages, [tokens.patches(5)[group]])[:, 0]


similar = {source: np.array([like_the_last(source, group) for group in groups]) for source in ("trunk", "read")}
lines = {source: cka.mean(axis=0) for source, cka in similar.items()}
dx.figures.depth_figure(lines, "CKA with the last stage's tokens").update_yaxes(range=[0, 1])

# %%
differences = over_groups(similar["read"] - similar["trunk"])
pd.Series(differences[:5], exits[:5], name="CKA with the last stage, read less trunk").to_frame()

# %% [markdown]
# In this run it lies *below* at the first three exits, by 0.06 to 0.12: what the predictors read is less like the last
# stage than the trunk beside it. At exits 4 and 5 the difference is under 0.005. The study compared something else, in
# three trainings each: what is read in models with a bypass and in models *without* one.

# %%
by_seed("read like the last stage (CKA)", ("dmpo", "dmpo-no-bypass"))

# %% [markdown]
# There the models with a bypass are ahead with every seed. (The study's recipe differs from that of `fashion`, too.) So
# whether a bypass imitates the deep stages stays open. In neither case does the similarity show what a predictor gains.
# Probe for the label instead.
#
# In the figure a second probe stands at the left. From each patch token it predicts the mean grey of that patch,
# something *low level*. R² is the share of the grey's variance that it finds, so 1 − R² is the share that it misses.
#
# **Predict.** Which finds the label more often: a probe of the trunk's mean token, or of the mean of what the predictor
# reads? And from which of the two is less of the grey missed?

# %%
probes = dx.probe_stages(tokens, images, labels)
sources = {"trunk": probes[probes["source"] == "trunk"], "read (trunk + bypass)": probes[probes["source"] == "read"]}
dx.figures.probe_figure(sources)

# %% [markdown]
# And the differences at the right, image by image: the same probes, read less trunk, on the 500 images that test them.
# The last two rows are tested on the same images. Only their probes are fitted on fewer images: 120 of the
# *other* 500.

# %%
half = dx.inspection.half_of(1000)
probe = make_pipeline(StandardScaler(), RidgeClassifierCV(dx.inspection.probes.ALPHAS))


def probed(source, k, fitted_on):
    x, rows = tokens.patches(k, source).mean(dim=1).double().numpy(), np.flatnonzero(half)[:fitted_on]
    return probe.fit(x[rows], labels.numpy()[rows]).predict(x[~half])[None] == labels.numpy()[~half]


cases = [(k, 500) for k in range(5)] + [(0, 120), (1, 120)]
names = {case: f"exit {case[0] + 1}" + ", fitted on 120 images" * (case[1] < 500) for case in cases}
rows = [on_tokens.gain(name, *(probed(source, *case) for source in ("read", "trunk"))) for case, name in names.items()]
figure = dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=360)
figure.update_traces(name="one fit of a probe, 95 % interval over images")
figure.update_xaxes(title="points of the probe's accuracy, read ahead of trunk")

# %% [markdown]
# Where the bypass was added, the probe gains five points at exit 1 and six at exit 2. Exit 3 gains two, and its
# interval begins at 0.6; at exits 4 and 5 no gain is shown. The size of a gain depends on the probe, too: fitted on 120
# images it is eleven points at exit 1. So read the sign, and do not compare the size with that of other probes.
#
# In this run more of the grey is missed in what the first three predictors read than in the trunk (left panel): at exit
# 1 under 0.001 of its variance, against under 0.0003. Both shares are small, and no interval was computed. So in this
# run the bypass makes early tokens more discriminative *without* making them more like the last stage's. The two
# instruments differ: CKA weighs the directions in which tokens vary most, a probe finds any direction that helps.
#
# ## Switching it off
#
# Let the predictors read trunk + share × bypass. At 1 this is the model as trained, at 0 the bypass is off. **This is
# an ablation at inference:** these predictors have learnt to read with the bypass. It shows what *this* model depends
# on, not what a model trained without bypass would reach.
#
# **Predict.** Which exits break at share 0?


# %% tags=["live"]
def with_share(share):
    found = dx.inspection.read_out(model, few, share=share).argmax(dim=-1) == few_labels[:, None]
    correct = found.float().mean(dim=0)
    lines = {"trunk + share × bypass": correct, "as trained": as_trained}
    figure = dx.figures.depth_figure(lines, "accuracy on 240 images").update_yaxes(range=[0.4, 1], tickformat=".0%")
    return figure, f"share {share:.2f}: accuracy of exit 1 {correct[0]:.1%}, of exit 2 {correct[1]:.1%}"


as_trained = (dx.inspection.read_out(model, few).argmax(dim=-1) == few_labels[:, None]).float().mean(dim=0)
live(with_share, share=slider("bypass share", 0.0, 1.5, 0.0, 0.05))

# %% [markdown]
# The slider has 240 images, so as to follow at once. Here are all 1,000, as trained against share 0, image by image:


# %%
def correct_if(read):  # (6, 1000), for what the predictors read at each exit
    return (dx.inspection.read_out(model, replace(tokens, read=read)).argmax(dim=-1) == labels[:, None]).T.numpy()


on, off = correct_if(tokens.read), correct_if(tokens.trunk)
rows = [on_tokens.gain(f"exit {k + 1}", on[k, None], off[k, None]) for k in range(5)]
figure = dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=300)
figure.update_traces(name="one run, 95 % interval over images")
figure.update_xaxes(title="points of test accuracy lost with the bypass off")

# %% tags=["numbers"]
numbers(
    bypass_of_two_blocks=float(compute["of 2 blocks"]["conv"]),
    parameters_of_five=int(compute["parameters of 5"]["conv"]),
    added_at_exit_1=float(maps[0].mean()),
    added_at_exit_5=float(maps[4].mean()),
    correct_at_exit_1=float(on[0].mean()),
    correct_at_exit_1_switched_off=float(off[0].mean()),
    cka_exit_1_with_untuned=float(kept["DMPO"][:, 0].mean()),
)

# %% [markdown]
# The first two exits depend on their bypass: they lose 14 and 18.5 points. The third loses 1.9 points [0.5, 3.2]. At
# exits 4 and 5 no loss is shown, and more than 1.1 points are excluded. To *use* a share other than 1, choose it on
# `val`: these are test images, and we only describe.
#
# ## Trained without it, three times
#
# Switching off a part that others were trained with is no fair ablation. [The study](../benchmarks/RESULTS.md) trained
# `dmpo` and the same model without bypass three times each, on 2,000 images. (Its tuning and its head are variants of
# those of the bundled `fashion`.) The figure has the points of test accuracy that the bypass adds. The *score* is the
# mean over all budgets from 30 to 100 %, by which the study compares.
#
# **Predict.** Where does it add most: at the first exit, at 30 % of the compute, or at the last exit, which has none?

# %%
gains = dx.course.study_table("gains")
dx.figures.gains_figure(gains[gains["question"].str.startswith("gain of bypass")])

# %% [markdown]
# At the first exit: about a point, and that interval alone lies above 0. The score is 0.4 points ahead and every
# training is ahead, but the interval over images and trainings includes 0. (The linked page has *helps* for it: its
# intervals are over images alone, so they are narrower.) So the gain in score is **preliminary**, and only that at the
# first exit is shown. At the last exit, which has no bypass, none is seen. With today's recipe the study's second
# edition shows no gain beside second-order predictors, at 30 and 40 % of the compute. Added to plain linear exits the
# bypass alone gains nearly three points at 30 %.
#
# ## Try it: three exercises
#
# **1.** The `conv` bypass above takes 1.4 % of two blocks. How wide may it be? Write a function of a share: the largest
# whole number of hidden channels with which the FLOPs of one bypass are at most that share of the two blocks' FLOPs.

# %% tags=["exercise"]
answer_1 = ...  # called as answer_1(0.05)
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `dx.models.count_flops(module, frozen.tokens[:1])` counts a module for one image. `blocks` has the MFLOPs of the two
# blocks.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# By hand: a token takes 2 · 384 multiplications per hidden channel, a patch 9 more. FLOPs are two per multiplication.
# They grow in proportion to the hidden width.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# def answer_1(share):
#     each = 2 * (26 * 2 * 384 + 25 * 9)  # FLOPs per hidden channel: down and up for 26 tokens, 3 × 3 for 25 patches
#     return int(share * blocks * 1e6 / each)
# ```
#
# </details>

# %% [markdown]
# **2.** CKA is invariant to rotations. Find an *invertible linear* map to which it is not: a function from a tensor
# (n, p) to a tensor (n, p) after which the CKA of random rows with their image falls below 0.5.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# CKA weighs directions by their variance. What happens when one of them has nearly all of it?
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Multiply one column by a large number; leave the others alone.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# def answer_2(rows):
#     scale = torch.ones(rows.shape[1], dtype=rows.dtype)
#     scale[0] = 100
#     return rows * scale
# ```
#
# </details>

# %% [markdown]
# **3.** Share 0 is a harsh ablation: the predictors never read a bare trunk token in training. *Mean ablation* is
# milder: the bypass adds to every image the same, a mean. Write a function of `trunk` and `read`, both (B, N, D). It
# returns what the predictors then read, (B, N, D). Over what must the mean be taken, so that nothing of the single
# image remains and nothing else is lost?

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# What the bypass adds is `read - trunk`.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# The mean over the images is the one over dimension 0; `keepdim=True` lets it be added to all of them.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# def answer_3(trunk, read):
#     return trunk + (read - trunk).mean(dim=0, keepdim=True)
# ```
#
# </details>

# %% [markdown]
# **Use yours.** Once it passes, this cell lets the predictors read it; until then it uses ours. What comes back with
# the mean is an offset that they rely on. What stays lost has two causes: what the bypass finds in the single image is
# gone, and trunk plus mean is a sum that these predictors never read in training.
#
# **Predict.** At exits 1 and 2: will most of the loss come back? And with one mean over all positions?

# %%
mean_ablation = answer_3 if check_3(answer_3) else lambda trunk, read: trunk + (read - trunk).mean(dim=0)
pairs = list(zip(tokens.trunk, tokens.read, strict=True))
hit = {"as trained": on, "mean ablation": correct_if([mean_ablation(*pair) for pair in pairs])}
hit["one mean over all positions"] = correct_if([trunk + (read - trunk).mean(dim=(0, 1)) for trunk, read in pairs])
hit["bypass off"] = off
accuracy = {name: 100 * found.mean(axis=1) for name, found in hit.items()}
pd.DataFrame(accuracy, exits).T.rename_axis("% correct of 1,000", axis=1).round(1)

# %% [markdown]
# And where the loss goes, image by image:

# %%
whole, by_position, by_one, without = (found.astype(float) for found in hit.values())
contrasts = {
    "comes back with one mean": (by_one, without),
    "comes back with a mean per position": (by_position, without),
    "more by position than with one": (by_position, by_one),
    "stays lost": (whole, by_position),
    "stays lost, less what comes back": (whole - by_position, by_position - without),
}
parts = [(k, name) for k in (0, 1) for name in contrasts]
rows = [on_tokens.gain(f"exit {k + 1}: {name}", *(of[k, None] for of in contrasts[name])) for k, name in parts]
figure = dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=440)
figure.update_traces(name="one run, 95 % interval over images").update_xaxes(title="points of test accuracy")

# %% [markdown]
# With a mean per position, 6.0 of the 14.0 points come back at exit 1, and 8.2 of the 18.5 at exit 2. Both parts are
# there: 8.0 points [5.9, 10.1] and 10.3 points [8.2, 12.4] stay lost. Which part is larger is not shown: the last row
# of either exit includes 0.
#
# With one mean over all positions 2.5 and 2.7 points come back. So the offset is not the same everywhere: a mean per
# position brings back 3.5 points more [1.6, 5.2], and 5.5 points more [3.7, 7.3].
#
# How much of what stays lost is due to the single image, and how much to the unfamiliar sum? An ablation at inference
# does not separate the two.
#
# ## What you cannot conclude
#
# - That a model needs its bypass from *switching it off*: the parts that stay were trained with it. The study's
#   retrained controls are the answer to that, on two data sets and one backbone.
# - That a low CKA is bad or a high one good, or that a trunk close to its backbone serves later stages better. CKA is
#   dominated by the few directions of largest variance, and tokens of one image are not independent rows.
# - That the bypass *caused* the trunk to stay close to the backbone: DMPO's loss weights and predictors differ from the
#   naive model's too.
# - That a bypass makes early tokens less like deep ones: one run has it so, the study's comparison points the other
#   way.
# - Anything about small differences between lines: one run each, 1,000 images, one data set.
#
# ## Words
#
# | word | here |
# |---|---|
# | trunk | the blocks of the stages; the next stage reads their tokens |
# | bypass | a side path of one exit: its predictor reads trunk plus bypass, later stages the trunk alone |
# | depthwise convolution | one filter per channel; channels are not mixed |
# | linear CKA | similarity of two representations of the same rows, from 0 to 1 |
# | probe | a linear model on frozen features, to measure what they hold |
# | ablation | a part is removed: at inference, or before training |
# | score (study) | test accuracy averaged over the budgets from 30 to 100 % |
# | 95 % interval | made so that in about 95 of 100 repetitions it contains the true value |
#
# ## References
#
# - The method, and that the trunk does not read the bypass: [Decoupled Multi-Predictor
#   Optimization](https://arxiv.org/abs/2511.03245), ICCV 2025.
# - Small modules beside a frozen backbone: [Houlsby et al. 2019](https://arxiv.org/abs/1902.00751); in parallel:
#   [AdaptFormer](https://arxiv.org/abs/2205.13535), 2022.
# - Similarity: [Kornblith et al. 2019](https://arxiv.org/abs/1905.00414). Probes: [Alain and Bengio
#   2016](https://arxiv.org/abs/1610.01644).
#
# Next: [03 · Second-order heads](03_second_order_heads.ipynb)
