# %% [markdown]
# # 3 · Bypass
#
# *How does an early exit get something of its own, which no later stage reads?*
#
# **Today.** You build the bypass, put it beside a finished trunk, and see what passes through it. 45 minutes; the
# cells run in about a minute. You need to know what a convolution is.
#
# **Before.** [Lesson 2](2_why_it_is_hard.ipynb): a trunk that learns for the last exit does little for the first.
# Words are in the [glossary](../docs/glossary.md).

# %% tags=["drawing"]
import dmpo_explore as dx

dx.course.network("bypass")

# %% [markdown]
# The marked box is today's. Look at the arrows: it reads the trunk, its exit reads it, and no later stage does.

# %% tags=["setup"]
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

import dmpo_explore as dx
from dmpo_explore.course import checks, guess, mine, parts, training
from dmpo_explore.course.interactive import live, slider

camera = dx.course.Camera()
train, val = camera.train, camera.val
exits = [f"exit {k}" for k in range(1, 5)]
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
# 2511.03245](https://arxiv.org/abs/2511.03245)). What is inside is not public; this shape is ours.


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
# `nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)` is depthwise; `nn.init.zeros_(self.up.weight)` sets a
# weight to zero, and there is a bias, too.
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
# bare and once with your bypass. Two more are **controls**, with as many weights, that cannot tell one patch from
# another. The first is your bypass itself, but every patch is replaced by the mean of all. The second has no bypass
# and two layers *behind* the mean.


# %%
def network(bypass=nn.Identity):
    early = [bypass() for _ in range(3)]
    heads = [parts.MeanHead() for _ in exits]
    return parts.EarlyExitNet([my.Stage() for _ in exits], [*early, nn.Identity()], heads)


trunks = [training.train(network, train, training.only(3), seed=seed) for seed in range(3)]


# %%
class OnTheMean(Bypass):
    def forward(self, x):
        mean = x[:, 1:].mean(dim=1, keepdim=True).expand_as(x[:, 1:])
        return super().forward(torch.cat((x[:, :1], mean), dim=1))


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(160, 99), nn.GELU(), nn.Linear(99, 81))

    def forward(self, x):
        return self.layers(x[:, 1:].mean(dim=1))


def exit_1(trunk, bypass=nn.Identity, head=parts.MeanHead):
    trunk.stages.requires_grad_(False)
    return parts.EarlyExitNet([trunk.stages[0]], [bypass()], [head()])


kinds = {"bare": {}, "bypass on the mean": {"bypass": OnTheMean}, "two layers": {"head": TwoLayers},
         "bypass": {"bypass": Bypass}}  # fmt: skip

# %% tags=["guess"]
more = guess("How many points does the bypass add to the bare exit 1?", 0, 25)
more

# %%
trained = {
    name: [training.train(lambda t=t, k=kind: exit_1(t, **k), train.at(0), seed=seed) for seed, t in enumerate(trunks)]
    for name, kind in kinds.items()
}
hits = {name: np.stack([training.correct(net, val.at(0))[0] for net in nets]) for name, nets in trained.items()}
table = pd.DataFrame({"correct on val, %": {name: 100 * hit.mean() for name, hit in hits.items()}})
table["weights"] = [sum(p.numel() for p in nets[0].parameters() if p.requires_grad) for nets in trained.values()]
table.round(1)

# %%
controls = ["bypass on the mean", "two layers"]
pairs = [("bypass", "bare"), *((name, "bare") for name in controls), *(("bypass", name) for name in controls)]
rows = [training.gain(f"{one} over {other}", hits[one], hits[other]) for one, other in pairs]
figure = dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=320)
more.on(figure.update_xaxes(title="points on val, exit 1"), axis="x")

# %% [markdown]
# The bypass adds 7 points (0.2 to 14.2; every one of the three trainings gains at least 4). In lesson 2 exit 1 got 5
# by pulling at the trunk; this time the trunk stood still.
#
# Is it the weights? On the mean, the same bypass gains 2 points, and yours is 5 ahead of it (2.7 to 7.9). So in this
# shape it pays to read single patches. And yet it is not told apart from two layers behind the mean: 1.3 points, −4
# to +7. So nothing here says that an exit must read single patches; *something non-linear of its own* may do. Two
# layers are also cheaper. They are not what the paper proposes, and they leave nothing to a head that reads more than
# a mean: lesson 4 needs the tokens.
#
# And the last exit? Its answers have not changed, bit by bit: the trunk was frozen, and what stands beside it is read
# by its own exit alone. (Lesson 5 trains all parts together. There the *gradient* of an early exit still flows
# through its bypass into the trunk; what stays out of the trunk is what the bypass computes.)

# %%
beside = network(Bypass)
beside.load_state_dict(trunks[0].state_dict(), strict=False)
beside.bypasses[0].load_state_dict(trained["bypass"][0].bypasses[0].state_dict())
before, after = (training.answers(net, val)[:, 3] for net in (trunks[0], beside))
torch.equal(before, after)

# %% [markdown]
# ## What passes where
#
# Put the three exits behind the real backbone, so that they read pixels. Then cover one patch of a photograph after
# the other with black and see how far the logit of the true class falls: *occlusion*, here by Captum's
# `FeatureAblation`. Orange patches speak for the class, blue ones against it; one scale for all maps.

# %%
models = {name: parts.on_images(trained[name][0], camera) for name in ("bare", "bypass on the mean", "bypass")}
better = np.flatnonzero(hits["bypass"][0] & ~hits["bare"][0])  # sorted by class, so three from all over it
photographs = better[len(better) // 6 :: len(better) // 3][:3]
inputs = camera.inputs("val", photographs)


def maps(model, exit=0):
    labels = val.labels[photographs].tolist()
    cover = {"exit": exit, "method": "feature_ablation"}
    found = [dx.attribute(model, x, target=c, **cover) for x, c in zip(inputs, labels, strict=True)]
    return np.stack([of.tokens for of in found])


covered = np.stack([maps(model) for model in models.values()], axis=1)  # (photographs, models, 5, 5)
pictures, names = [val.images[i] for i in photographs], [camera.names[val.labels[i]][:22] for i in photographs]
dx.figures.patch_maps_figure(pictures, covered, list(models), names)

# %% [markdown]
# The bare exit finds a little evidence almost everywhere: the mean of the patches makes every patch count alike. With
# the bypass the limes and the carton stand out, though a shelf may count as much. The control marks much as well, but
# hardly the goods: most against the mushrooms speaks a corner of the shelf. (Three photographs, taken evenly from
# those where the exit with bypass is correct and the bare one is not; so they speak for the bypass.)
#
# The next figure divides a logit in another way. An exit reads trunk *plus* bypass. Integrated gradients along both
# inputs give each of the two its share; the shares add up to the logit, less that of a black photograph.

# %% tags=["guess"]
share = guess("Of the evidence for the true class at exit 1, which part comes through the bypass, in %?", 0, 100)
share

# %%
many = np.flatnonzero(hits["bypass"][0])
many = many[np.linspace(0, len(many) - 1, 24).astype(int)]  # of photographs that are correct
found = [
    dx.attribute_pathways(models["bypass"], x, int(val.labels[i]), steps=64)
    for x, i in zip(camera.inputs("val", many), many, strict=True)
]
trunk, bypass = (np.array([getattr(of, way)[0] for of in found]) for way in ("trunk", "bypass"))
order = np.argsort(bypass / (trunk + bypass))
labels = [f"{i}" for i in range(1, len(many) + 1)]
figure = dx.figures.pathways_figure(trunk[order], bypass[order], labels)
figure.update_xaxes(title=f"{len(many)} photographs that exit 1 classifies correctly")

# %%
if share.value is not None:
    print(f"your guess: {share.value:.0f} %")
net = trained["bypass"][0]
with torch.no_grad():
    read = net.stages[0](val.tokens[0].float())[1]
    added = net.bypasses[0](read) - read


def found_with(x):  # photographs of val that the exit classifies correctly if it reads x, in %
    with torch.no_grad():
        return 100 * float((net.heads[0](net.norms[0](x)).argmax(dim=-1) == val.labels).float().mean())


pd.Series({
    "of the logit, through the bypass, signs cancelling": 100 * bypass.sum() / (trunk + bypass).sum(),
    "the same, both signs counted": 100 * (np.abs(bypass) / (np.abs(trunk) + np.abs(bypass))).mean(),
    "correct with trunk and bypass": found_with(read + added),
    "correct with the bypass alone": found_with(added),
    "correct with the trunk alone": found_with(read),
}, name="%").round(0).to_frame()  # fmt: skip

# %% [markdown]
# The numbers answer different questions. *How does the logit of one class come about?* Nearly all of it comes through
# the bypass: 97 %, or 92 % if evidence for and against is counted alike. *What can the exit do with one way alone?*
# With the bypass as much as with both, with the trunk still 28 %. That is no contradiction: a class needs no high
# logit to be the first of 81, only a higher one than the others. And the two thirds that the
# [extra](extra_where_each_exit_looks.ipynb) finds are about another exit, that of `demo`, whose trunk was trained
# along with it; both signs are counted there.
#
# ## Turn it down
#
# Let the exit read trunk + share × bypass. At 1 it is the exit that was trained, at 0 the bypass is off.


# %% tags=["live"]
def with_share(share):
    found = found_with(read + share * added)
    bars = {"with this share": found, **{name: 100 * hit[0].mean() for name, hit in hits.items()}}
    figure = dx.figures.depth_figure({}, "correct on val, %").add_bar(x=list(bars), y=list(bars.values()))
    return figure.update_yaxes(range=[0, 70]), f"share {share:.2f}: {found:.1f} % correct"


live(with_share, share=slider("share", 0.0, 1.5, 0.0, 0.05))

# %% [markdown]
# With the bypass off the exit classifies 28 % correctly, far less than the bare exit's 39 % (both of the first
# training): its linear layer has learnt to read with it. To know what a part is worth, train without it; to know what
# a trained model depends on, turn it off.
#
# ## Its price, and what the study found
#
# <details><summary>Multiply it out: how many multiplications does the bypass take for a photograph?</summary>
#
# Down and Up: 26 tokens × 160 × 32, twice; the convolution: 25 patches × 32 × 9. Together 273,440, about 0.27
# million. Two blocks of the backbone take 26 × 12 × 384² each and a little for attention: 93 million.
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
# compute. *Left out* means: how much DMPO loses without it. There it is not missed, the intervals lie around 0 on
# both. A likely reason is the head of the next lesson, which the whole method has: it too makes something non-linear
# of each patch before the mean is taken, by products where the bypass has GELU. What one brings, the other need not.
# Whether that holds in our small network, you see in lesson 4.
#
# <div class="admonition note" markdown="1"><p><b>What you cannot conclude.</b></p>
#
# - *That the bypass must be this one, or read single patches.* One control is behind it, the other is not.
# - *That a model needs its bypass*, from turning it down: the exit has learnt to read with it.
# - *That an orange patch is what the bypass has recognised.* A map says which patches the logit depends on, and a black
#   patch is something that the network has never seen.
#
# </div>
#
# ## What you have now
#
# An exit with room of its own: no later stage reads what it does there.
#
# **Try it.** Put the 25 patches in another order before the convolution, and back behind it. Do neighbours matter?
#
# Next: [4 · Second-order heads](4_second_order.ipynb)
