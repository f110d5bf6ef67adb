# %% [markdown]
# # 3 · Bypass
#
# *How does an early exit get something of its own, which no later stage reads?*
#
# **Today.** You build the bypass, put it beside a finished trunk, and see what passes through it. 45 minutes, of which
# the cells take one or two. You need to know what a convolution is.
#
# **Before.** [Lesson 2](2_why_it_is_hard.ipynb): a trunk that learns for the last exit does little for the first. Words
# are in the [glossary](../docs/glossary.md).

# %% tags=["drawing"]
import dmpo_explore as dx

dx.course.network("bypass")

# %% [markdown]
# The marked box is today's. Look at the arrows: it reads the trunk, its exit reads it, and no later stage does.

# %% tags=["setup"]
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from captum.attr import FeatureAblation, IntegratedGradients
from torch import nn
from torch.nn import functional as F

from dmpo_explore.course import checks, mine, parts, training
from dmpo_explore.course.interactive import Guess, Live, widgets

camera = dx.course.Camera()
train, val = camera.train, camera.val
my = mine("Stage")
my

# %% [markdown]
# ## Build the bypass
#
# Each token is normalised, squeezed to a few numbers, mixed with its neighbours, and widened again. What comes out is
# *added* to the token:
#
#     x + Up(GELU(Conv3×3(Down(LayerNorm(x)))))
#
# The convolution is *depthwise*: one 3 × 3 filter for each of the few numbers. It works on the patches, which lie row
# by row behind the class token. The class token has no neighbours, so it skips the convolution and nothing else. `up`
# starts at zero: in the beginning the exit reads the trunk as if there were no bypass.
#
# That the trunk never reads it back is the idea of the paper (DMPO, [arXiv
# 2511.03245](https://arxiv.org/abs/2511.03245)). The bypass of the authors' partial release is two layers on the class
# token; this one, with a convolution over the patches, is ours.


# %% tags=["build"]
class Bypass(nn.Module):
    def __init__(self, width=160, hidden=32, grid=(5, 5)):
        super().__init__()
        self.grid = grid
        # self.norm, self.down, self.conv (padding 1, one filter per channel), self.up (zero weight and bias)
        ### BEGIN SOLUTION
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        ### END SOLUTION

    def forward(self, x):
        # x (B, 1 + rows · columns, width), the class token first; return the same shape
        ### BEGIN SOLUTION
        hidden = self.down(self.norm(x))  # (B, 26, hidden)
        patches = hidden[:, 1:].transpose(1, 2).unflatten(2, self.grid)  # (B, hidden, 5, 5)
        mixed = self.conv(patches).flatten(2).transpose(1, 2)  # (B, 25, hidden)
        return x + self.up(F.gelu(torch.cat((hidden[:, :1], mixed), dim=1)))
        ### END SOLUTION


checks.bypass(Bypass)

# %% [markdown]
# <details><summary>Hint 1: the layers</summary>
#
# `nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)` is depthwise; `nn.init.zeros_(self.up.weight)` sets a weight
# to zero, and there is a bias, too.
#
# </details>
#
# <details><summary>Hint 2: from tokens to an image and back</summary>
#
# `patches.transpose(1, 2).unflatten(2, self.grid)` makes (B, 25, hidden) a picture (B, hidden, 5, 5);
# `picture.flatten(2).transpose(1, 2)` leads back; `torch.cat((cls, mixed), dim=1)` puts the class token in front.
#
# </details>
#
# ## Beside a finished trunk
#
# As in lesson 2, train the trunk for the last exit alone, then freeze it. Exit 1 now stands on its first stage, once
# bare and once with your bypass. Two **controls** have as many weights and cannot tell one patch from another: your
# bypass, given the mean in place of every patch; and no bypass, but two layers *behind* the mean.


# %%
def four_exits():
    return parts.EarlyExitNet([my.Stage() for _ in range(4)])


class OnTheMean(Bypass):
    def forward(self, x):
        mean = x[:, 1:].mean(dim=1, keepdim=True).expand_as(x[:, 1:])
        return super().forward(torch.cat((x[:, :1], mean), dim=1))


def exit_1(trunk, bypass=nn.Identity, predictor=parts.MeanPredictor):
    return parts.EarlyExitNet([trunk.stages[0].requires_grad_(False)], [bypass()], [predictor()])


kinds = {"bare": {}, "bypass on the mean": {"bypass": OnTheMean},
         "two layers": {"predictor": lambda: parts.MeanPredictor(hidden=99)}, "bypass": {"bypass": Bypass}}  # fmt: skip
trunks = [training.train(four_exits, train, lambda *_: (0, 0, 0, 1), seed=seed) for seed in range(3)]

# %% tags=["guess"]
more = Guess("How many points does the bypass add to the bare exit 1?", 0, 25)
more

# %%
trained = {}
for name, kind in kinds.items():
    trained[name] = [training.train(lambda t=t, k=kind: exit_1(t, **k), train, seed=s) for s, t in enumerate(trunks)]
    print(f"three trainings: {name}")
hits = {name: np.stack([training.correct(net, val)[0] for net in nets]) for name, nets in trained.items()}
table = pd.DataFrame({"correct on val, %": {name: 100 * hit.mean() for name, hit in hits.items()}})
table["weights"] = [sum(p.numel() for p in nets[0].parameters() if p.requires_grad) for nets in trained.values()]
table.round(1)

# %%
controls = ["bypass on the mean", "two layers"]
pairs = [("bypass", "bare"), *((name, "bare") for name in controls), *(("bypass", name) for name in controls)]
rows = [dx.analysis.gain(f"{one} over {other}", hits[one], hits[other]) for one, other in pairs]
figure = dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=320)
more.on(figure.update_xaxes(title="points on val, exit 1"), axis="x")

# %% [markdown]
# The bypass adds 7.7 points (4.8 to 10.6). In lesson 2 exit 1 got 5 by pulling at the trunk; this time the trunk stood
# still.
#
# Is it the weights? The controls gain, too: the bypass on the mean 4.9 points, two layers 6.5. Yours is 2.8 ahead of
# the one (−1.7 to 7.4) and 1.2 of the other (−2.7 to 5.2); both intervals include 0, so three trainings do not tell it
# from either. Nothing here says that an exit must read single patches; *something non-linear of its own* may do. But
# two layers behind the mean come too late for lesson 4: its predictor needs the tokens *before* the mean.
#
# And the last exit? It answers as before: the trunk was frozen, and what stands beside it is read by its own exit
# alone. (Lesson 5 trains all parts together. There the *gradient* of an early exit still flows through its bypass into
# the trunk; what stays out of the trunk is what the bypass computes.)

# %% [markdown]
# ## What passes where
#
# `camera.look` runs the backbone, so the exits read pixels. Cover one patch of a photograph after the other with black,
# and see how far the logit of the true class falls: *occlusion*, here by Captum's `FeatureAblation`. Orange patches
# speak for the class, blue ones against it; one scale for all maps.

# %%
better = np.flatnonzero(hits["bypass"][0] & ~hits["bare"][0])  # sorted by class, so three from all over it
photographs = better[len(better) // 6 :: len(better) // 3][:3]
x, labels = camera.inputs("val", photographs), val.labels[photographs]
black = dx.attribution.make_baseline(camera.backbone, x, "black")
patch = torch.arange(25).view(5, 5).repeat_interleave(14, dim=0).repeat_interleave(14, dim=1)  # of each pixel


def covered(net):  # (B, 5, 5): what exit 1 loses with each patch
    cover = FeatureAblation(lambda images: net(camera.look(images, exits=1))[:, 0])
    options = {"target": labels, "feature_mask": patch.expand(1, 3, 70, 70), "perturbations_per_eval": 25}
    return cover.attribute(x, black, **options)[:, 0, ::14, ::14]


nets = {name: trained[name][0] for name in ("bare", "bypass on the mean", "bypass")}
maps = np.stack([covered(net) for net in nets.values()], axis=1)
pictures, names = [val.images[i] for i in photographs], [camera.names[c][:22] for c in labels]
dx.figures.patch_maps_figure(pictures, maps, list(nets), names)

# %% [markdown]
# The bare exit finds a little evidence almost everywhere. With the bypass the melon stands out. On the juice it marks
# the carton and the shelf beside it, and the control does so more strongly, although it reads a mean alone: a peaked
# map does not show that an exit reads single patches. On the garlic, which fills the picture, no place stands out.
# (Three photographs, taken evenly from those where the exit with bypass is correct and the bare one is not; so they
# speak for the bypass.)
#
# The next figure divides a logit in another way. An exit reads trunk *plus* bypass. **Integrated gradients** go in
# small steps from a black photograph's inputs to this one's, and add up how the logit follows each of the two. The
# shares add up to the logit, less that of a black photograph.

# %% tags=["guess"]
share = Guess("Of the evidence for the true class at exit 1, which part comes through the bypass, in %?", 0, 100)
share

# %%
net = nets["bypass"].requires_grad_(False)
answer = nn.Sequential(net.norms[0], net.predictors[0])


def ways(tokens):  # what exit 1 reads of the trunk, and what the bypass adds to it
    read = net.stages[0](tokens)[1]
    return read, net.bypasses[0](read) - read


many = np.flatnonzero(hits["bypass"][0])
many = many[np.linspace(0, len(many) - 1, 24).astype(int)]  # of photographs that are correct
both = IntegratedGradients(lambda trunk, bypass: answer(trunk + bypass))
inputs, without = ways(val.tokens[0, many].float()), ways(camera.look(black[:1], exits=1)[0])
found = both.attribute(inputs, without, target=val.labels[many], n_steps=64)
trunk, bypass = (of.sum(dim=(1, 2)).detach().numpy() for of in found)
order = np.argsort(bypass / (trunk + bypass))
figure = dx.figures.pathways_figure(trunk[order], bypass[order], [f"{i}" for i in range(1, len(many) + 1)])
figure.update_xaxes(title=f"{len(many)} photographs that exit 1 classifies correctly")

# %%
share_of = np.abs(bypass) / (np.abs(trunk) + np.abs(bypass))
if share.value is not None:
    print(f"your guess: {share.value:.0f} %")
print(f"through the bypass, both signs counted: {share_of.mean():.0%}")

# %% [markdown]
# Nearly all of the evidence comes through the bypass, for this exit on a trunk that was trained for another. (The
# [extra](extra_where_each_exit_looks.ipynb) finds two thirds at exit 1 of `demo`, whose trunk was trained along.) That
# says how the logit of *one* class comes about. It does not say what the exit can do with one way alone.
#
# ## Turn it down
#
# So let the exit read trunk + share × bypass. At 1 it is the exit that was trained, at 0 the bypass is off. Before you
# drag: how many photographs will it recognise at 0, beside the 39 % of the bare exit? (This is the first training; the
# mean of three was 40.)


# %% tags=["live"]
def with_share(share):
    ways = {f"trunk + {share:.2f} × bypass": read + share * added, "bypass alone": added}
    bars = {name: 100 * float((answer(x).argmax(dim=-1) == val.labels).float().mean()) for name, x in ways.items()}
    bars |= {f"{name}, as trained": 100 * hits[name][0].mean() for name in ("bare", "bypass")}
    figure = go.Figure().add_bar(x=list(bars), y=list(bars.values()), texttemplate="%{y:.0f}", width=0.5)
    return figure.update_layout(template="none").update_yaxes(range=[0, 70], title="correct on val, %")


read, added = ways(val.tokens[0].float())
Live(with_share, share=widgets.FloatSlider(0, max=1.5, step=0.05))

# %% [markdown]
# With the bypass off it classifies 25 % correctly, far less than the bare exit: its linear layer has learnt to read
# with it. With the bypass alone it is nearly as good as with both, 45 and 47 %. To know what a part is worth, train
# without it; to know what a trained model depends on, turn it off.
#
# ## Its price, and what the study found
#
# <details><summary>Multiply it out: how many multiplications does the bypass take for a photograph?</summary>
#
# Down and Up: 26 tokens × 160 × 32, twice; the convolution: 25 patches × 32 × 9. Together 273,440, about 0.27 million.
# Two blocks of the backbone take 26 × 12 × 384² each and a little for attention: 93 million.
#
# </details>
#
# The study trained whole networks with the bypass and without it, on two data sets, and read their accuracy at 30 and
# 40 % of the compute:

# %%
claims = dx.course.study_table("claims")
claims = claims[claims["question"].str.startswith("bypass,")]
dx.figures.gains_figure(claims.assign(question=claims["study"] + ": " + claims["question"]))

# %% [markdown]
# *Added* to naive exits the bypass gains on both data sets, most on photographs (*caltech*): 6 points at 30 % of the
# compute. *Left out* means: how much DMPO loses without it. At these budgets it is not missed there: the intervals lie
# around 0 on both. (At exit 1 of Fashion-MNIST it is, by 1.3 points. And with 1,000 training images of birds or
# Caltech-101, in a [later study](../docs/results.md#which-part-does-it), by 4 points at 30 %.) A likely reason is the
# predictor of the next lesson, which the whole method has: it too makes something non-linear of each patch before the
# mean is taken. Whether one can stand in for the other in our small network, you see there.
#
# <div class="admonition note" markdown="1"><p><b>What you cannot conclude.</b></p>
#
# - *That the bypass must be this one, or read single patches.* Both controls come close.
# - *That a model needs its bypass*, from turning it down: the exit has learnt to read with it.
# - *That an orange patch is what the bypass has recognised.* A map says which patches the logit depends on, and a black
#   patch is something that the network has never seen.
#
# </div>
#
# **Try it.** Put the 25 patches in another order before the convolution, and back behind it. Do neighbours matter?
#
# Next: [4 · Second-order predictors](4_second_order.ipynb)
