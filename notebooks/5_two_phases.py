# %% [markdown]
# # 5 · Two phases
#
# *Which exit should count, and when? And what do all parts give together?*
#
# **Today.** You build the schedule of the loss weights, put your parts together to **your DMPO** and train it beside
# naive exits. 45 minutes, of which twelve trainings take two to four, and more beside other work.
#
# **Before.** Lessons [2](2_why_it_is_hard.ipynb), [3](3_bypass.ipynb) and [4](4_second_order.ipynb). Parts that you
# built there are found by themselves; the course's stand in for those that are missing. Words are in the
# [glossary](../docs/glossary.md).

# %% tags=["drawing"]
import dmpo_explore as dx

dx.course.network("all")

# %% tags=["setup"]
import itertools

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients
from torch import nn

from dmpo_explore.course import checks, mine, parts, training
from dmpo_explore.course.camera import CONFIG
from dmpo_explore.course.interactive import Guess, Live, widgets

camera = dx.course.Camera()
train, val, test = camera.train, camera.val, camera.test
exits = [f"exit {k}" for k in range(1, 5)]
my = mine("Stage", "Bypass", "Predictor")
my

# %% [markdown]
# ## One loss, four weights
#
# Exit k has a loss ℓ_k, its cross-entropy. Naive exits add the four. DMPO weighs them, and the weights change with the
# epoch e:
#
#     L(e) = λ_1(e) ℓ_1 + λ_2(e) ℓ_2 + λ_3(e) ℓ_3 + λ_4(e) ℓ_4
#
# In the first phase the deep exits lead, so that the early stages learn to keep what those need. In the second the
# weight moves to the early exits. The authors' code goes in a straight line from one end to the other; with E epochs,
# counted from 0,
#
#     λ_k(e) = Start_k + (End_k − Start_k) · e / (E − 1)
#
# | | exit 1 | exit 2 | exit 3 | exit 4 |
# |---|---|---|---|---|
# | Start | 0.01 | 0.01 | 1.0 | 2.0 |
# | End | 1.5 | 1.0 | 0.2475 | 0.2675 |
#
# ## Build the schedule


# %% tags=["build"]
def weights(epoch, epochs):
    # epoch from 0 to epochs − 1; return four numbers, λ_1 to λ_4
    start, end = (0.01, 0.01, 1.0, 2.0), (1.5, 1.0, 0.2475, 0.2675)
    ### BEGIN SOLUTION
    share = epoch / (epochs - 1)
    return [a + (b - a) * share for a, b in zip(start, end, strict=True)]
    ### END SOLUTION


checks.weights(weights)

# %% tags=["guess"]
cross = Guess("Of 100 epochs: in which does exit 1 begin to count more than exit 4?", 1, 100)
cross


# %% tags=["live"]
def at(epoch):
    shown = ", ".join(f"λ_{k} = {value:.2f}" for k, value in enumerate(lambdas[epoch - 1], 1))
    return cross.on(dx.figures.schedule_figure(lambdas, epoch - 1), axis="x"), f"epoch {epoch}: {shown}"


lambdas = np.array([weights(epoch, 100) for epoch in range(100)])
Live(at, epoch=widgets.IntSlider(20, 1, 100))

# %% [markdown]
# In epoch 63. Until then the last exit leads, and with it the need for a state that keeps everything.
#
# One thing is easily overlooked: the **learning rate** changes over the epochs, too. It rises quickly and then falls
# almost to nothing. The weights λ say how the exits *share* a step, the learning rate how long it is. AdamW evens out
# the size of a loss. So only the ratio of the λ counts, and only in weights that several exits share: an exit's own
# bypass and predictor hardly notice it. The figure has each exit's share of λ times the learning rate.

# %%
optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], 1.0)
cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=100)
rates = []
for _ in range(100):
    rates.append(cycle.get_last_lr()[0])
    optimizer.step()
    cycle.step()
rates = np.array(rates)
second = lambdas[:, 0] > lambdas[:, 3]
print(f"exit 1 leads in {second.mean():.0%} of the epochs, and in {rates[second].sum() / rates.sum():.0%} of all rates")
shares = lambdas / lambdas.sum(axis=1, keepdims=True)
dx.figures.schedule_figure(shares * rates[:, None]).update_yaxes(title="learning rate × share of λ")

# %% [markdown]
# Exit 1 leads in 38 % of the epochs, but only 15 % of the summed learning rates fall into them. So for the trunk this
# recipe is deep-weighted for the most part, and less of two phases than the first figure suggests.
#
# ## Put it together
#
# Now assemble your network. Each of the K stages hands its state to the next one. What a stage gives its exit passes
# the bypass, the exit norm and the predictor, in this order. (Where there is no bypass, `nn.Identity` stands in.)


# %% tags=["build"]
class DMPO(nn.Module):
    def __init__(self, stages, bypasses, predictors, width=160):
        # three lists of K modules. Keep them as self.stages, self.bypasses, self.predictors (nn.ModuleList),
        # and make the exit norms, self.norms: K LayerNorms of this width
        super().__init__()
        ### BEGIN SOLUTION
        self.stages, self.bypasses = nn.ModuleList(stages), nn.ModuleList(bypasses)
        self.predictors = nn.ModuleList(predictors)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in stages)
        ### END SOLUTION

    def forward(self, tokens):
        # tokens (K, B, N, 128), those of a stage at each place; return logits (B, K, classes)
        ### BEGIN SOLUTION
        state, logits = None, []
        for k, stage in enumerate(self.stages):
            state, read = stage(tokens[k], state)
            logits.append(self.predictors[k](self.norms[k](self.bypasses[k](read))))
        return torch.stack(logits, dim=1)
        ### END SOLUTION


checks.assembled(DMPO)

# %% [markdown]
# <details><summary>Hint: the loop</summary>
#
# Start with `state = None` and an empty list. In the loop: `state, read = self.stages[k](tokens[k], state)`. Only
# `read` goes to the exit, and only `state` to the next stage. At the end `torch.stack(logits, dim=1)`.
#
# </details>
#
# The first three exits get a bypass. The last needs none: no stage comes after it. The paper speaks of early exits when
# it comes to second order; that our last exit has it, too, is our choice. Beside your DMPO train naive exits, and
# lesson 3's control, naive exits with two layers and as many weights as your bypasses and predictors have. The fourth
# has your parts without your schedule: every λ is 1.


# %%
def yours():
    bypasses = [*(my.Bypass() for _ in range(3)), nn.Identity()]
    return DMPO([my.Stage() for _ in exits], bypasses, [my.Predictor() for _ in exits])


def naive(hidden=0):
    plain = [nn.Identity() for _ in exits], [parts.MeanPredictor(hidden=hidden) for _ in exits]
    return DMPO([my.Stage() for _ in exits], *plain)


plans = {"naive exits": (naive, None), "naive, two layers": (lambda: naive(204), None),
         "your DMPO": (yours, weights), "your parts, all λ = 1": (yours, None)}  # fmt: skip

# %% tags=["guess"]
ahead = Guess("How many points will exit 1 of your DMPO be above naive exit 1?", -5, 20)
ahead

# %%
nets = {name: [] for name in plans}
for seed, (name, (make, schedule)) in itertools.product(range(3), plans.items()):
    nets[name].append(training.train(make, train, schedule, seed=seed))
    print(f"{name}, training {seed + 1} of 3")
on_val = {name: np.stack([training.correct(net, val) for net in of]) for name, of in nets.items()}

# %%
lines = {name: 100 * of.mean(axis=2) for name, of in on_val.items()}
dx.figures.seeds_figure(lines, "correct on val, %").update_yaxes(range=[0, 80])

# %% [markdown]
# On val the naive exits lie below the other three, which are close together. Now the test photographs, which nothing
# has looked at yet:

# %%
on_test = {name: np.stack([training.correct(net, test) for net in nets[name]]) for name in plans}
rows = [
    dx.analysis.gain(f"{exits[k]}, your DMPO over {other}", on_test["your DMPO"][:, k], on_test[other][:, k])
    for other in ("naive exits", "naive, two layers")
    for k in range(4)
]
figure = dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=400)
ahead.on(figure.update_xaxes(title="points on test"), axis="x")

# %%
table = pd.DataFrame({name: 100 * of.mean(axis=(0, 2)) for name, of in on_test.items()}, exits).T.round(1)
table["weights"] = [sum(p.numel() for p in of[0].parameters()) for of in nets.values()]
table

# %% [markdown]
# **Your DMPO beats naive exits at every exit**, on photographs that took no part in anything: by 10 points at exit 1
# (6.8 to 13.7), by 8, 5 and 6 at the others.
#
# But it has 2.7 times their weights. Beside naive exits with two layers and as many weights the lead is 2.9, 1.6, 0.6
# and 2.2 points, and every interval includes 0: three trainings do not tell the two apart. At exit 1 seven of the ten
# points, at the others more than half, come with *any* non-linear exit of that size. In the study's whole networks,
# naive exits with as many weights are behind DMPO by 9 points on photographs, 2 to 17 (lesson 6).
#
# ## And the two phases?
#
# Your parts with your schedule, over the same parts without it:

# %%
with_it, without = on_test["your DMPO"], on_test["your parts, all λ = 1"]
rows = [dx.analysis.gain(f"{exits[k]}, schedule over λ = 1", with_it[:, k], without[:, k]) for k in range(4)]
dx.figures.gains_figure(pd.DataFrame(rows)).update_layout(height=300).update_xaxes(title="points on test")

# %% [markdown]
# With the schedule exits 1 to 3 are level with λ = 1, to within 3.5 points, and the last is a point behind (−2.0 to
# 0.1). In whole networks the two phases are a question still open, too (lesson 6). Two reasons are possible, and
# neither was tested here: the second phase has 15 % of the learning, and exits with parts of their own need to pull
# less.
#
# ## Where does each exit look?
#
# Lesson 3 covered patches; here Captum's *integrated gradients* divide each exit's logit for the true class, less that
# of a black photograph, among the 5 × 5 patches, on one colour scale. The sum of a map is that difference (the
# assertion checks it).


# %%
def until(k):  # your DMPO, cut behind exit k
    cut = DMPO(net.stages[:k], net.bypasses[:k], net.predictors[:k]).eval()
    cut.norms = net.norms[:k]
    return cut


net, hits = nets["your DMPO"][0], on_val["your DMPO"][0]
always, late = np.flatnonzero(hits.all(axis=0)), np.flatnonzero(~hits[0] & hits[1:].all(axis=0))
photographs = [always[len(always) // 3], late[len(late) // 3]]  # correct at every exit, and at all but the first
x, labels, maps = camera.inputs("val", photographs), val.labels[photographs], []
black = dx.attribution.make_baseline(camera.backbone, x, "black")
for k in range(1, 5):
    exit_k = IntegratedGradients(lambda images, k=k: until(k)(camera.look(images, exits=k))[:, -1])
    options = {"target": labels, "n_steps": 64, "internal_batch_size": 32, "return_convergence_delta": True}
    found, delta = exit_k.attribute(x, black, **options)
    assert delta.abs().max() < 0.01
    maps.append(found.sum(dim=1).view(-1, 5, 14, 5, 14).sum(dim=(2, 4)))  # the 14 × 14 pixels of each patch
names, maps = [camera.names[c] for c in labels], torch.stack(maps, dim=1).numpy()  # (photographs, exits, 5, 5)
dx.figures.patch_maps_figure([val.images[i] for i in photographs], maps, exits, names)

# %% [markdown]
# The upper photograph is correct at every exit, the lower one at all but the first. No exit looks at one place alone.
# Two photographs are a picture and no result: how far such maps can be trusted, the
# [extra](extra_where_each_exit_looks.ipynb) tests.
#
# ## Keep it
#
# The next lesson decides where images exit. It reads what every exit answered, so keep that: for the *calibration*
# photographs, 600 more that no choice has seen, and for test. An image that exits at exit k has taken the backbone's
# blocks, the stages, and every bypass and predictor up to there.

# %%
flops = [dx.models.count_flops(lambda k=k: until(k)(camera.look(x[:1], exits=k))) for k in range(1, 5)]
plain = dx.models.measure_flops(camera.backbone, dx.models.build_reference(CONFIG, 81)).reference
about = {"flops": flops, "reference_flops": plain, "class_names": camera.names}
for split, part in (("calibration", camera.calibration), ("test", test)):
    record = dx.runs.record_logits([(training.answers(net, part), part.labels)], split=split, **about)
    record.save(f"my_parts/record/{split}", force=True)
{exit: f"{share:.0%} of the plain backbone's compute" for exit, share in zip(exits, record.flops_fraction, strict=True)}

# %% [markdown]
# <div class="admonition note" markdown="1"><p><b>What you cannot conclude.</b></p>
#
# - *That DMPO's parts are why it is ahead.* Exits with as many weights and none of these parts come close here.
# - *That it pays to keep the bypass out of the trunk*, the paper's idea. No network here hands it on; you can build
#   one, below.
# - *That a two-phase schedule is of no use, or of use.* These are twelve epochs of one recipe.
# - *What an exit thinks.* The maps say which patches its logit depends on.
#
# </div>
#
# **Try it.** Change your `DMPO` so that a later stage *does* read what the bypass adds to the state (the last 32 of
# the 160 numbers). What do you expect of exit 4, and what does it get?
#
# Next: [6 · Decide](6_decide.ipynb)
