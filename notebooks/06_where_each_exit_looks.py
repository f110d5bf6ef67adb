# %% [markdown]
# # 6 · Where each exit looks
#
# *Do early and late exits use the same parts of an image, and can a map that shows it be trusted?*
#
# **Goal.** Read an attribution in ten lines of [Captum](https://captum.ai), and see what its baseline does to it. Write
# another one yourself and compare the exits of one model with it. Measure trunk and bypass over 100 images, and test a
# map before you believe it.
#
# **Time.** 40 minutes to read; an hour and a half with the build, the predictions and the exercises. Two minutes to
# run. The section marked *optional* may be skipped.
#
# **Before.** [00](00_quickstart.ipynb); what a bypass is: [02](02_bypass_decomposition.ipynb). Words are at the end and
# in the [glossary](../docs/glossary.md); the method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% tags=["network"]
import dmpo_explore as dx

dx.course.network("all")

# %% tags=["setup"]
from copy import deepcopy
from functools import partial
from itertools import accumulate, islice

import numpy as np
import pandas as pd
import timm
import torch
from captum.attr import IntegratedGradients
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import spearmanr
from scipy.stats import t as student

import dmpo_explore as dx
from dmpo_explore.course.exercises.where_each_exit_looks import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import live, numbers, slider

run = dx.load_run("fashion")  # a trained model that comes with the project
record = run.record("test")
names = record.meta.class_names
exit_names = [f"exit {k + 1}" for k in range(record.n_exits)]
last = record.n_exits - 1
dx.fetch_weights(run.config.model.backbone)
model = run.model(device="cpu")
images = run.image_set("test")

# %% [markdown]
# ## Ten lines of Captum, on a photograph
#
# First a network with one exit: EfficientNet-Lite0 with its 1,000 classes of ImageNet, and a photograph. (Where
# Caltech-101 is on your computer, the photographs come from there. The saved pages show the public-domain ones of
# scikit-image.)
#
# **Integrated gradients** ([Sundararajan et al. 2017](https://arxiv.org/abs/1703.01365)) goes in a straight line from a
# *baseline*, here black, to the image. It adds up how the logit of a class changes with every pixel on the way:
#
#     attribution of pixel i = (xᵢ − bᵢ) · mean over the path of ∂logit / ∂xᵢ
#
# **Predict.** The attributions of all pixels are added up. To which number should they come?

# %%
cnn = timm.create_model("tf_efficientnet_lite0").eval()
cnn.load_state_dict(load_file(dx.fetch_weights("tf_efficientnet_lite0")))
cnn.requires_grad_(False)
preprocess = timm.data.create_transform(**timm.data.resolve_data_config({}, model=cnn))
class_of = timm.data.ImageNetInfo().index_to_description

title, picture = next(iter(dx.course.photographs(1).items()))
photo = preprocess(Image.fromarray(picture))[None]  # (1, 3, 224, 224), values from -1 to 1
black = torch.full_like(photo, -1.0)

# %%
target = int(cnn(photo).argmax())
captum = IntegratedGradients(cnn)
found, delta = captum.attribute(
    photo, black, target=target, n_steps=200, internal_batch_size=10, return_convergence_delta=True
)
heat = found.sum(dim=1)[0].detach()  # the three colour channels of a pixel, added up
difference = cnn(photo)[0, target] - cnn(black)[0, target]
print(f"{title}: {class_of(target)}")
print(f"sum of the map {float(heat.sum()):.2f}, logit of the image minus that of the baseline {float(difference):.2f}")
print(f"delta {float(delta):+.2f}")

# %% [markdown]
# A map of integrated gradients is *complete*: it divides the logit's difference among the pixels. The path is a sum of
# steps, so there is an error, the **delta**: here, with 200 steps, it is 0.27 of 9.95 logits on the saved page. (What
# fewer steps do comes below.) Summed over cells of 16 × 16 pixels, over the photograph:

# %%
seen = ((photo[0].permute(1, 2, 0) + 1) * 127.5).byte().numpy()  # as the network received it
cells = dx.attribution.to_cells(heat.numpy(), (14, 14))
dx.figures.exit_maps_figure(seen, cells[None], [class_of(target)]).update_layout(height=330, width=400)

# %% [markdown]
# Orange is evidence *for* the class, blue against it. The colours end at the scale's limit; a few cells lie beyond it.
#
# ## The same at an exit, and the library's function
#
# An exit is a function of the image like any other network: `model(x)[:, k]` are the logits of exit k + 1. So Captum
# needs only another function. The library does that; it also checks the delta, takes more steps where it is too large,
# and leaves the model as it was.
#
# **Predict.** By how much may the two maps below differ?

# %%
x = run.inputs("test", [0])[0]  # an ankle boot, 70 pixels wide
theirs = dx.attribute(model, x, exit=0)

at_exit_1 = IntegratedGradients(lambda images: model(images)[:, 0])
nothing = dx.attribution.make_baseline(model, x[None], "black")
ours = at_exit_1.attribute(x[None], nothing, target=theirs.target, n_steps=theirs.steps, internal_batch_size=32)
largest = float(np.abs(ours.sum(dim=1)[0].detach().numpy() - theirs.heat).max())
assert largest < 1e-4
print("the largest difference is below 1e-4")

# %% [markdown]
# ## What does the model answer on the baseline?
#
# A baseline is to stand for *no evidence*. Three are usual: black, the mean colour, and the image's own blur. Give them
# to the model as images.
#
# **Predict.** On a black image, will the probabilities be spread over the ten classes of clothing?


# %%
def answer(logits):
    best = logits.softmax(dim=-1).max(dim=-1)
    return [f"{names[c]} {p:.0%}" for c, p in zip(best.indices, best.values, strict=True)]


kinds = ("black", "mean", "blur")
baselines = torch.cat([dx.attribution.make_baseline(model, x[None], kind) for kind in kinds])
with torch.no_grad():
    on_nothing = model(torch.cat((x[None], baselines)))
pd.DataFrame([answer(row) for row in on_nothing], index=("the image", *kinds), columns=exit_names)

# %% [markdown]
# None of the three is neutral for this model, and the exits disagree about each. Exit 2 takes *black* for a sandal,
# with 81 %. On the *mean* colour the answers go elsewhere. The *blur* is still an ankle boot or a sneaker at every
# exit: it keeps the shape.
#
# This decides what a map can show. Take image 290, a sandal. Against black the logit of *Sandal* starts high already:
# the map of exit 2 has to divide what is *left*, and shows evidence against the sandal where there may be none.
#
# **Predict.** How much of the logit of *Sandal* at exit 2 does black alone have?

# %%
sandal, SANDAL = run.inputs("test", [290])[0], names.index("Sandal")
against = {k: dx.attribute(model, sandal, 1, target=SANDAL, baseline=k) for k in kinds}
rows = {k: {"logit of the image": a.logit, "difference": a.difference, "delta": a.delta} for k, a in against.items()}
table = pd.DataFrame.from_dict(rows, orient="index")
table.insert(1, "logit of the baseline", table["logit of the image"] - table["difference"])
table["negative part"] = [float(-a.tokens.clip(max=0).sum() / np.abs(a.tokens).sum()) for a in against.values()]
table.round(2)

# %%
found = np.stack([a.tokens for a in against.values()])
dx.figures.patch_maps_figure(images[290], found, kinds, ["sandal"], own_scales=True)

# %% [markdown]
# Black alone has *more* of the logit, 5.39, than the sandal, 5.05. So a map against black divides a difference of
# −0.34, and more than half of what it shows is evidence *against* a sandal. Against the blur, whose logit is 0.25,
# there are 4.80 logits to divide, and less than a quarter is negative. The values in the patches are logits; full
# colour is the largest of each map. Against the mean colour the two strongest patches are empty background.
#
# One image, one exit, one class, three maps, and each adds up to its own difference. None is incorrect: each answers
# *compared with what?* So name the baseline with every map and look at the model's answer to it first. Do not read a
# sign that changes with the baseline. (The photograph's map was one against black, too. For image 0, below, the
# class is not the last exit's answer to black.)
#
# ## Six exits
#
# The CNN has one exit. From here on it is `fashion` with its six, on garments; six exits on photographs come below. Now
# one class at all six exits: the class that the last one predicts, against black.
#
# **Predict.** Will the first exit, two blocks deep, use the same places as the last one, twelve blocks deep?

# %%
maps = dx.compare_exits(model, x)
tokens = np.stack([a.tokens for a in maps.attributions])
dx.figures.patch_maps_figure(images[0], tokens, exit_names, ["ankle boot"])

# %% [markdown]
# Only in part, for this boot. Exit 1 has its strongest evidence at the toe, 3.5 logits, and exit 2 in the patch behind
# it, 3.7. From exit 4 on it is the front of the shaft, and the toe is second. Maps are summed over the 25 patches that
# the model reads, and all panels share one scale.
#
# **Predict.** The same with 16 steps on the path: how large can the error be?

# %%
few = dx.attribution.integrate_exits(model, x[None], nothing, maps.target, steps=16, batch=16)
own = [a.delta for a in maps.attributions]  # with the steps that the library took
deltas = {"delta, 16 steps": [delta for _, delta in few], "delta, library's steps": own}
pd.DataFrame({**deltas, "logit difference": [a.difference for a in maps.attributions]}, index=exit_names).round(2)

# %% [markdown]
# More than three logits at the last exit, of a difference of nearly fifteen. Nothing in a map shows its error; only its
# delta does. So `dx.attribute` refuses fewer than 50 steps. (The cell above calls a function below it, which does not
# check.)
#
# One image is an anecdote. So take forty, and a method without gradients.
#
# ## Build it
#
# *Feature ablation*: hide one patch, and see what the logit loses. It needs no gradient, no path and no steps, so it
# has no delta either. It still has a baseline: what is shown where the patch is hidden.
#
# Write it for one image and all exits at once. Replace the dots; the cell below the hints has a solution, and what
# passes is used.


# %% tags=["build"]
def drops_of(model, x, hidden, patch):
    # model(images) → logits (B, K, C); x and the baseline hidden: (3, side, side); patch: pixels of a patch's side.
    # c is the class that the LAST exit predicts for x. Return (K, patches), numpy, patches row by row:
    # the logit of c at every exit, less the same where one patch of x shows `hidden` instead.
    return ...


check_build(drops_of)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# All hidden versions are one batch: `x.repeat(n, 1, 1, 1)` has n copies. With `side = x.shape[-1] // patch` patches in
# a row, patch n starts at the pixel row `patch * (n // side)` and at the column `patch * (n % side)`.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Under `torch.no_grad()`, `model(x[None])[0]` is (K, C), and the batch gives (patches, K, C). With the class c,
# `whole[:, c] - lost[..., c]` is (patches, K): transpose it.
#
# </details>


# %% tags=["build", "solution"]
def solution(model, x, hidden, patch):
    side = x.shape[-1] // patch
    without_one = x.repeat(side * side, 1, 1, 1)
    for n in range(side * side):
        rows = slice(patch * (n // side), patch * (n // side + 1))
        columns = slice(patch * (n % side), patch * (n % side + 1))
        without_one[n, :, rows, columns] = hidden[:, rows, columns]
    with torch.no_grad():
        whole, lost = model(x[None])[0], model(without_one)
    c = whole[-1].argmax()
    return (whole[:, c] - lost[..., c]).T.numpy()


drops_of = drops_of if check_build(drops_of) else solution
check_build(drops_of)

# %% [markdown]
# **Test it** on the ankle boot, beside the library's `feature_ablation`:

# %% tags=["setup"]
hidden = dx.compare_exits(model, run.inputs("test", [0])[0], method="feature_ablation")
drops = np.stack([a.tokens for a in hidden.attributions])  # (6, 5, 5)

# %%
assert np.abs(drops_of(model, x, nothing[0], 14).reshape(drops.shape) - drops).max() < 1e-4
print("the largest difference is below 1e-4")

# %% [markdown]
# Now the forty. First four of them, by your function. Every map has its own scale, for late exits have larger logits.
#
# **Predict.** Do the strongest patches move from exit to exit for these, too?

# %%
forty = np.stack([drops_of(model, one, nothing[0], 14) for one in run.inputs("test", range(40))])  # (40, 6, 25)
garments = ["Pullover", "Trouser", "Bag", "Sandal"]
four = [int(np.flatnonzero(record.labels[:40] == names.index(name))[0]) for name in garments]
shown = [images[i] for i in four], forty[four].reshape(4, -1, 5, 5)
dx.figures.patch_maps_figure(*shown, exit_names, garments, own_scales=True)

# %% [markdown]
# They do, as far as four images can show. At exit 1 the bag's evidence is at the middle of its upper edge, from exit 4
# on at the right end of it. The pullover's moves from a column on the left to the hem. The trousers' stays around the
# gap between the legs, but moves down. The sandal's gathers from the whole sole in fewer patches.
#
# The cosine between two maps measures how far two exits use the same places: 1 is the same. But 0 is not chance.
# Clothes lie in the middle of their images, and most patches count *for* the class. So any two maps are alike to a
# degree. Two controls: the later exit's map of *another* image, as a mean over the 39 others. And the image's own map
# with the patches of its garment in a random order, as an expected value. (Hiding a black patch changes nothing, so
# black patches are 0 in every map. They stay where they are.)
#
# **Predict.** Which cosine will be higher: that of exits 1 and 6 for the same image, or that of neighbouring exits for
# two different images?

# %%
worn = np.abs(forty).max(axis=1) > 1e-3  # (40, 25): patches that show some of the garment
unit = forty / np.linalg.norm(forty, axis=2, keepdims=True)
cosines = unit @ unit.transpose(0, 2, 1)  # (40, 6, 6)


# %%
def with_interval(values):
    mean, half = values.mean(), student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def compared(a, b):
    every = unit[:, a] @ unit[:, b].T  # (40, 40): a row's map of exit a with a column's map of exit b
    same, other = every.diagonal(), (every.sum(axis=1) - every.diagonal()) / 39
    shuffled = unit[:, a].sum(axis=1) * unit[:, b].sum(axis=1) / worn.sum(axis=1)
    columns = {"same image": same, "another image": other, "same less another": same - other, "shuffled": shuffled}
    return {name: with_interval(values) for name, values in columns.items()}


pairs = [(k, k + 1) for k in range(last)] + [(0, last)]
pd.DataFrame({f"exits {a + 1} and {b + 1}": compared(a, b) for a, b in pairs}).T

# %%
neighbours = np.stack([cosines[:, k, k + 1] for k in range(last)], axis=1)  # (40, 5)
print(f"exits 5 and 6, less exits 4 and 5: {with_interval(neighbours[:, 4] - neighbours[:, 3])}")

# %% [markdown]
# The first exit and the last have a cosine of 0.57 for the same image. No neighbours have more than 0.39 for two
# different images. With another image it is 0.25, with the garment's patches shuffled 0.34, and the intervals are
# apart. So early and late exits use the same places in part, and more than the garment's outline alone would make them.
#
# Exits 4 and 5 are more alike than exits 1 and 2: 0.90 against 0.71, and the intervals are apart. Of the likeness of
# exits 1 and 2 a good part is chance: shuffled patches have 0.48. The last exit departs a little: exits 5 and 6 are
# less alike than exits 4 and 5, by 0.04 [0.01, 0.07].
#
# Drag the exit yourself: the same for the ankle boot.


# %% tags=["live"]
def strongest(exit, patches):
    size, look = np.abs(drops[exit - 1]), {"scale": np.abs(drops).max(), "unit": "logits lost"}
    shown = np.where(size >= np.sort(size.ravel())[-patches], drops[exit - 1], 0)
    figure = dx.figures.patch_maps_figure(images[0], shown[None], [f"exit {exit}"], ["ankle boot"], **look)
    line = f"The {patches} strongest patches of exit {exit} hold {np.abs(shown).sum() / size.sum():.0%} of the total."
    return figure.update_layout(height=figure.layout.height + 80), line  # room for the line


live(strongest, exit=slider("exit", 1, record.n_exits, 1), patches=slider("patches", 1, drops[0].size, 5))

# %% [markdown]
# ## Six exits on a photograph
#
# `caltech` comes with the project, too: the same method on Caltech-101, 101 classes, images of 140 pixels, exits
# after blocks 3, 4, 5, 6, 8 and 12. Any photograph will do for it. Four of scikit-image: a cat, a cup of coffee seen
# from above, a rocket, a man with a camera on a tripod. Caltech-101 has cups, cameras and wild cats, but no rocket.
#
# **Predict.** Which exit is the first to recognise the cup?

# %%
photo_run = dx.load_run("caltech")
photo_model = photo_run.model(device="cpu")
to_input = dx.data.make_transform(photo_run.preprocess())
pictures = dx.course.public_photographs(4)
photos = torch.stack([to_input(picture) for picture in pictures.values()])  # (4, 3, 140, 140)
with torch.no_grad():
    surest = photo_model(photos).softmax(dim=-1).max(dim=-1)  # (4, 6)
answers = [
    [f"{photo_run.class_names[c]} {p:.0%}" for c, p in zip(classes, sure, strict=True)]
    for classes, sure in zip(surest.indices.tolist(), surest.values.tolist(), strict=True)
]
pd.DataFrame(answers, index=["cat", "cup", "rocket", "camera"], columns=exit_names)

# %% [markdown]
# Only the last. The five before it predict a yin and yang, exit 1 with 61 %. At the threshold for 30 % of the compute,
# 0.243, the image therefore exits there, and is incorrect. The last exit is correct: an *early-exit error*. No exit
# finds the camera. House cat and rocket have no class, yet the probabilities are shared out among the 101 classes.
#
# Your function again, on the cup, with patches of 28 × 28 pixels, so that there are 25 as before:

# %%
black_photo = dx.attribution.make_baseline(photo_model, photos[1:2], "black")[0]
of_cup = drops_of(photo_model, photos[1], black_photo, 28).reshape(-1, 5, 5)
dx.figures.patch_maps_figure(pictures["coffee"], of_cup, exit_names, ["cup"], own_scales=True)

# %% [markdown]
# The last exit has its strongest evidence at the lower half of the cup, 0.7 and 0.4 logits. Exits 3 and 4 have it all
# around, most in the bottom row, where there is only saucer and table. The logit of *cup* is 6.0 at the last exit and
# −0.6 at the first. So exit 1 has little evidence for a cup to lose. One photograph is an anecdote, like the boot.
#
# ## Through the trunk or through the bypass, over 100 images
#
# An exit reads the trunk's tokens *plus* what its bypass adds. Captum takes a function of two inputs, too: the exit's
# predictor as a function of trunk and bypass. So the same logit difference is divided into two parts, which may have
# opposite signs. All 100 images run at once, for the class that the last exit predicts, against black and against the
# mean colour. (For one image the library has `dx.attribute_pathways`, which takes more steps where they are needed.)
#
# **Predict.** At which exits will the bypass matter most? The last one has none.

# %% tags=["build"]
hundred = run.inputs("test", list(range(100)))
with torch.no_grad():
    walked = list(model.walk(hundred))  # an output per exit
    dark = {kinds[i]: list(model.walk(baselines[i : i + 1])) for i in (0, 1)}  # black and mean
targets = walked[last].logits.argmax(dim=1)


def divided(seen, dark):
    """Parts of trunk and bypass (100, 2) and the convergence delta (100,)."""
    inputs = [(one.tokens, one.read - one.tokens) for one in (seen, dark)]
    captum = IntegratedGradients(lambda trunk, bypass: seen.stage.classify(trunk + bypass, trunk))
    options = {"n_steps": 32, "internal_batch_size": 400, "return_convergence_delta": True}
    parts, delta = captum.attribute(inputs[0], inputs[1], target=targets, **options)
    return torch.stack([part.flatten(1).sum(1) for part in parts], dim=1).detach().numpy(), delta.numpy()


halves = {kind: [divided(*pair) for pair in zip(walked, each, strict=True)] for kind, each in dark.items()}
parts = {kind: np.stack([part for part, _ in each]) for kind, each in halves.items()}  # (6, 100, 2)
deltas_of_100 = {kind: np.stack([delta for _, delta in each]) for kind, each in halves.items()}

# %%
columns = {}
for kind in parts:
    share = np.abs(parts[kind][..., 1]) / np.abs(parts[kind]).sum(axis=2)  # (6, 100)
    columns[f"bypass, mean share against {kind}"] = [with_interval(row) for row in share]
    columns[f"largest |delta|, {kind}"] = [f"{size:.0e}" for size in np.abs(deltas_of_100[kind]).max(axis=1)]
pd.DataFrame(columns, index=exit_names)

# %%
sums = parts["black"].mean(axis=1)
dx.figures.pathways_figure(sums[:, 0], sums[:, 1], exit_names, sums.sum(axis=1) - deltas_of_100["black"].mean(axis=1))

# %% [markdown]
# About half of the evidence at exit 2 comes through the bypass, two fifths at exit 1, and less at every later exit. The
# baseline matters little here: against the mean colour every share is within 3 points of that against black. The
# largest deltas are far below these logits: 32 steps are enough where the path runs through a predictor only. The bars
# are means over the 100 images against black, with their signs; the diamonds are the mean difference, to which they
# add up.
#
# ## Can the map be trusted?
#
# Show the patches one after another, the most important first: the class's probability should rise early (*insertion*).
# Hide them in the same order: it should fall early (*deletion*). A random order is the control. (It holds black
# patches, too, whose turn changes nothing, so it is easy to beat.)
#
# Ten images, at exit 1, where most images stop, and for the class that the last exit predicts.
#
# **Predict.** Which order will be the best: hiding patches one by one, integrated gradients, or the plain gradient
# (*saliency*)?

# %%
methods = ("feature_ablation", "integrated_gradients", "saliency")
asked = list(zip(hundred[:10], targets.tolist(), strict=False))
ten = {m: [dx.attribute(model, one, 0, target=c, method=m) for one, c in asked] for m in methods}
random_orders = {"feature_ablation": 0, "integrated_gradients": 0, "saliency": 4}  # one control for all three
checked = {
    m: [a.quality(samples=0, perturbations=0, orders=random_orders[m]) for a in found] for m, found in ten.items()
}


areas = ("insertion_area", "deletion_area")


def of(method, name):
    return np.array([getattr(quality, name) for quality in checked[method]])  # (10,)


rows = {m: {n: with_interval(of(m, n)) for n in areas} for m in methods}
chance = {n: with_interval(of("saliency", f"random_{n}")) for n in areas}
pd.DataFrame(rows | {"a random order": chance}).T

# %%
pairs = [(methods[0], methods[1]), (methods[1], methods[2])]
rows = {f"{a} less {b}": [with_interval(of(a, n) - of(b, n)) for n in areas] for a, b in pairs}
control = [with_interval(of("saliency", n) - of("saliency", f"random_{n}")) for n in areas]
pd.DataFrame(rows | {"saliency less a random order": control}, index=areas).T

# %%
dx.figures.insertion_deletion_figure(ten["feature_ablation"][0].quality(samples=0, perturbations=0))

# %% [markdown]
# In the orders of ablation and of integrated gradients the insertion areas are 0.82 and 0.78. Between the two no
# difference is shown in deletion, and hardly one in insertion. Integrated gradients are ahead of saliency by 0.32, and
# the interval excludes 0. And saliency? In its order no area is shown to be better than in a random one: both intervals
# include 0. A likely reason: saliency has no sign, so a patch against the class counts like one for it. It also ranks
# black patches, where hiding changes nothing. (Ablation has an advantage: insertion and deletion hide patches exactly
# as it does.) The tables are over ten images, the curves are those of the first.
#
# ## Optional: a network with random weights
#
# One more test ([Adebayo et al. 2018](https://arxiv.org/abs/1810.03292)): a map that shows what was *learned* must
# change when the weights are random. The same ten images go through the same network with random weights. All layers
# get new ones, drawn once; class token, position embeddings and the exits' scales stay as trained. How far do its maps
# rank the 25 patches as before?
#
# **Predict.** With random weights, will the rank correlation of integrated gradients be near 0?

# %%
untrained = deepcopy(model)
torch.manual_seed(0)
for module in untrained.modules():
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
again = {m: [dx.attribute(untrained, one, 0, target=c, method=m) for one, c in asked] for m in methods}


def ranked_alike(a, b, patches):
    return with_interval(np.array([spearmanr(p[w], q[w])[0] for p, q, w in zip(a, b, patches, strict=True)]))


garment = worn[:10].reshape(10, 5, 5)
everywhere = np.ones_like(garment)
old, new = ({m: np.stack([a.tokens for a in each[m]]) for m in methods} for each in (ten, again))
rows = {
    m: {
        "values": ranked_alike(old[m], new[m], everywhere),
        "sizes": ranked_alike(np.abs(old[m]), np.abs(new[m]), everywhere),
        "sizes, on the garment": ranked_alike(np.abs(old[m]), np.abs(new[m]), garment),
    }
    for m in methods
}
pd.DataFrame(rows).T

# %% [markdown]
# Yes, for the *values*: what counts for the class and what against it is ranked in another order, for ablation, too.
# Both intervals include 0. Not for their *sizes*: 0.67 and 0.59. One reason is that a black patch is 0 with any
# weights. On the garment alone it is 0.39 and 0.29, which still excludes 0. Another likely reason: integrated gradients
# multiply by the difference from the baseline, and ablation puts the baseline in. So bright patches tend to come out
# large. So a map's *outline* of a garment is no evidence that anything was learned. Saliency does neither. Its ranks
# are rather reversed, and on the garment no relation is shown.

# %% tags=["numbers"]
numbers(
    logit_difference_at_last_exit=float(hidden.attributions[last].difference),
    strongest_patch_at_last_exit=int(np.abs(drops[last]).argmax()),
    black_taken_for_a_sandal_at_exit_2=float(on_nothing[1, 1].softmax(dim=0)[SANDAL]),
)

# %% [markdown]
# ## Try it: three exercises
#
# **1.** Write integrated gradients yourself: a function of `f` (images → one number each), an image `x` (1, …), a
# baseline `b` of the same shape, and the number of steps. It returns attributions of the shape of `x`. Any rule for the
# points on the path will do; the middles of equal intervals need the fewest.

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# The formula is at the top: `(x - b)` times the mean gradient at points `b + t · (x - b)`, t between 0 and 1.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# All points are one batch: `t` of shape (steps, 1, …), the middles of equal intervals.
# `torch.autograd.grad(f(path).sum(), path)` returns the gradients of all of them.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# def answer_1(f, x, b, steps):
#     t = ((torch.arange(steps) + 0.5) / steps).view(-1, *[1] * (x.dim() - 1)).to(x)
#     path = (b + t * (x - b)).requires_grad_()
#     (gradients,) = torch.autograd.grad(f(path).sum(), path)
#     return (x - b) * gradients.mean(dim=0)
# ```
#
# </details>

# %% [markdown]
# **2.** Write the *insertion curve*: a function of `f` (images → one probability each), an image x, a baseline b and a
# map of patches (h, w). Both images are (3, S, S). The curve starts at the baseline and shows one patch of x after
# another, that with the largest value first. Return the h·w + 1 probabilities with 0, 1, … all patches shown, as a
# numpy array.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `np.argsort(-tokens.ravel())` has the patches, the largest first. Patch n is in row `n // w` and column `n % w`; it is
# S // h pixels high.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Start with `shown = b.clone()` and a list that holds it. Copy a patch from x, append `shown.clone()`. In the end
# `f(torch.stack(images))` answers for all of them.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# def answer_2(f, x, b, tokens):
#     size, shown = x.shape[-1] // tokens.shape[0], b.clone()
#     images = [shown.clone()]
#     for n in np.argsort(-tokens.ravel()):
#         row, column = size * (n // tokens.shape[1]), size * (n % tokens.shape[1])
#         shown[:, row : row + size, column : column + size] = x[:, row : row + size, column : column + size]
#         images.append(shown.clone())
#     with torch.no_grad():
#         return f(torch.stack(images)).numpy()
# ```
#
# </details>

# %% [markdown]
# **Use yours** for the question of this notebook: show patches at exit 1, in three orders. They are those of its own
# map, of the last exit's map, and four random ones of the garment's patches, averaged. Patches are hidden in the same
# orders: with x and b exchanged, your function gives the *deletion* curve. All is over twenty images. (The maps are
# those of your `drops_of`. Until your curve passes, a solution is used.)
#
# **Predict.** Does the last exit's map order the patches nearly as well for exit 1 as exit 1's own map does?


# %%
def with_patch(image, other, n, patch=14):  # the image, with patch n of the other one
    row, column = (patch * place for place in divmod(int(n), image.shape[-1] // patch))
    image = image.clone()
    image[:, row : row + patch, column : column + patch] = other[:, row : row + patch, column : column + patch]
    return image


def logits_of(exit, pixels):  # runs the network only up to this exit
    with torch.no_grad():
        return next(islice(model.walk(pixels), exit, None)).logits


def one_by_one(image, other, order):  # the image, then with one more patch of the other one each time
    return torch.stack([*accumulate(order, lambda one, n: with_patch(one, other, n), initial=image)])


# %%
def areas_of(row, tokens):  # insertion and deletion at exit 1
    x, b, c = hundred[row], nothing[0], int(targets[row])
    grid, f = tokens.reshape(5, 5), lambda pixels: logits_of(0, pixels).softmax(dim=-1)[:, c]
    return [np.trapezoid(np.asarray(inserted(f, *pair, grid)), dx=1 / 25) for pair in ((x, b), (b, x))]


def curve(f, x, b, tokens):
    return f(one_by_one(b, x, np.argsort(-tokens.ravel())))


inserted = answer_2 if check_2(answer_2) else curve
noise = np.where(worn[:20], np.random.default_rng(0).random(size=(4, 20, 25)), -1)  # black patches come last
orders = {"its own map": forty[None, :20, 0], "the last exit's map": forty[None, :20, last], "a random order": noise}
found = {name: np.mean([[*map(areas_of, range(20), one)] for one in each], axis=0) for name, each in orders.items()}
own, late, chance = found.values()  # (20, 2) each
rows = found | {"its own less the last exit's": own - late, "the last exit's less a random order": late - chance}
rows = {name: [with_interval(values) for values in each.T] for name, each in rows.items()}
pd.DataFrame(rows, index=["insertion area", "deletion area"]).T

# %% [markdown]
# Not as well. In the last exit's order the insertion area is 0.67, which is 0.12 less than in exit 1's own. The
# deletion area is 0.11 more, which is worse. Both intervals exclude 0. But its order is better than a random one in
# insertion, by 0.08 [0.03, 0.12]. In deletion no difference is shown: the interval includes 0. (An exit's own ablation
# map has an advantage by this measure: it was made by hiding patches at that exit.)

# %% [markdown]
# **3.** A map measures every patch *alone*. What do patches do together? Write the greedy search: a function of `f`
# (images → logits (B, C)), an image `x` and a baseline `b`, both (3, S, S), a class and the pixels of a patch's side.
# It hides one patch after another, each time the one whose loss leaves the class the lowest logit, until the largest
# logit is another class's. Return the numbers of the hidden patches in order (row by row, from 0).

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# What is hidden stays hidden: each round starts from the image that the last round left. So a patch that counted for
# little alone may count for more now.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# In every round make one version of the current image per patch that is left, and let `f` see them as one batch. The
# loop ends when `f(current[None])[0].argmax() != target`, or when no patch is left.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# def answer_3(f, x, b, target, patch):
#     side, hidden = x.shape[-1] // patch, []
#     while len(hidden) < side * side and f(x[None])[0].argmax() == target:
#         left = [n for n in range(side * side) if n not in hidden]
#         tried = x.repeat(len(left), 1, 1, 1)
#         for image, n in zip(tried, left, strict=True):
#             rows = slice(patch * (n // side), patch * (n // side + 1))
#             columns = slice(patch * (n % side), patch * (n % side + 1))
#             image[:, rows, columns] = b[:, rows, columns]
#         best = int(f(tried)[:, target].argmin())
#         x, hidden = tried[best], [*hidden, left[best]]
#     return hidden
# ```
#
# </details>
#
# **Use yours.** How many patches must be hidden until an exit answers with another class? Once by the search, once in
# the order of the exit's own map. These are ten images for which both exits predict the same class, and not one that
# they predict for black. (Until yours passes, a solution is used.)
#
# **Predict.** Which exit needs more hidden patches? And will the search need fewer than the map's order?


# %%
def greedy(f, x, b, target, patch, order=()):
    left = [n for n in range(25) if n not in order]
    if not left or f(x[None])[0].argmax() != target:
        return order
    best = left[int(f(torch.stack([with_patch(x, b, n) for n in left]))[:, target].argmin())]
    return greedy(f, with_patch(x, b, best), b, target, patch, (*order, best))


def needed(row, exit):  # by the search, and in the order of the map
    f, x, b, c = partial(logits_of, exit), hundred[row], nothing[0], int(targets[row])
    changed = f(one_by_one(x, b, np.argsort(-forty[row, exit]))).argmax(dim=1) != c
    return len(search(f, x, b, c, 14)), int(changed.int().argmax())


search = answer_3 if check_3(answer_3) else greedy
on_black = {names[int(c)] for c in on_nothing[1].argmax(dim=-1)}  # with these classes nothing need ever change
rows = [i for i in range(40) if (record.prediction[i, [0, last]] == int(targets[i])).all()]
ten_rows = [i for i in rows if names[int(targets[i])] not in on_black][:10]
counts = np.array([[needed(i, exit) for exit in (0, last)] for i in ten_rows])  # (10, 2, 2)
ways = {
    "by the search": counts[..., 0],
    "in the map's order": counts[..., 1],
    "difference": counts[..., 1] - counts[..., 0],
}
of_exits = {"exit 1": (1, 0), f"exit {last + 1}": (0, 1), f"exit {last + 1} less exit 1": (-1, 1)}
pd.DataFrame({way: {name: with_interval(n @ np.array(w)) for name, w in of_exits.items()} for way, n in ways.items()})

# %% [markdown]
# By the search 4.8 patches are enough at exit 1, and 4.0 at exit 6: no difference between the exits is shown. In the
# map's order it takes more, 5.9 and 8.9. But with ten images both differences to the search include 0. At the last exit
# it is 4.9 [−0.2, 10.0]; thirty images would give a narrower interval.
#
# **So, where does each exit look?** Early and late exits use the same places in part. The maps of exits 1 and 6 have a
# cosine of 0.57 over forty images, and 0.34 with shuffled patches. The last exit's order of patches is of some use at
# exit 1, but of less than its own.
#
# **And can such a map be trusted?** Its *order* is of use here: by insertion and deletion ablation and integrated
# gradients are far ahead of saliency, which is not shown to beat chance. Not in its sign, which depends on the
# baseline. Nor in its outline, which random weights show, too.

# %% [markdown]
# ## What you cannot conclude
#
# - *That orange pixels caused the prediction.* A map is relative to its baseline. Against black, a black pixel can
#   never matter, though a model may well read the dark background.
# - *That a map of exit 1 explains why an image exited.* It explains one logit; exiting depends on all of them.
# - *That the bypass alone could do what its share shows.* It is computed from the trunk; the shares show the path of
#   the evidence.
# - *That photographs are like the four above.* They are there to look at; no number here is about Caltech-101.
# - *That what holds for ten or forty images holds for 10,000.* The shares of trunk and bypass are means over 100
#   images. Their intervals are over images of one model; another training may give others.
#
# ## Words
#
# | word | here |
# |---|---|
# | attribution | a share of a logit for every pixel or patch |
# | baseline | the image that stands for no evidence |
# | completeness | the attributions add up to logit of the image − logit of the baseline |
# | delta | the error of that sum |
# | insertion, deletion | the class's probability while patches are shown or hidden in the map's order |
# | trunk, bypass | the tokens that the next stage reads; what is added for the predictor alone |
# | 95 % interval | made so that in about 95 of 100 repetitions it contains the true value |
#
# ## References
#
# - The method: [Decoupled Multi-Predictor Optimization](https://arxiv.org/abs/2511.03245), ICCV 2025.
# - [Integrated gradients](https://arxiv.org/abs/1703.01365), Sundararajan et al. 2017. Their baselines: [Visualizing
#   the impact of feature attribution baselines](https://distill.pub/2020/attribution-baselines/), Sturmfels et al.
#   2020.
# - Insertion and deletion: [RISE](https://arxiv.org/abs/1806.07421), Petsiuk et al. 2018.
# - Sanity checks for saliency maps: [Adebayo et al. 2018](https://arxiv.org/abs/1810.03292).
# - Saliency: [Simonyan et al. 2013](https://arxiv.org/abs/1312.6034). Hiding patches: [Zeiler & Fergus
#   2014](https://arxiv.org/abs/1311.2901).
# - The library: [Captum](https://arxiv.org/abs/2009.07896), Kokhlikyan et al. 2020.
#
# Next: [07 · Your own images](07_your_own_images.ipynb)
