# %% [markdown]
# # Extra · Where each exit looks
#
# *Do early and late exits read the same parts of a photograph, and how far can a map be trusted that says so?*
#
# **Today.** You build an attribution of all exits at once, compare its maps from exit to exit, and see how much of an
# exit's evidence comes through the bypass. Each map comes with a question and with a check. 45 minutes, of which the
# cells take one or two.
#
# **Before.** [3 · Bypass](3_bypass.ipynb). Words are in the [glossary](../docs/glossary.md).

# %% tags=["drawing"]
import dmpo_explore as dx

dx.course.network("all")

# %% tags=["setup"]
import numpy as np
import plotly.graph_objects as go
import torch
from captum.attr import IntegratedGradients
from scipy.stats import t as student

from dmpo_explore.course import checks
from dmpo_explore.course.interactive import Guess, Live, widgets

run = dx.load_run("demo")
dx.fetch_weights(run.config.model.backbone)  # 90 MB, the first time
model, test, photographs = run.model(device="cpu"), run.record("test"), run.image_set("test")
names, exit_names = test.meta.class_names, [f"exit {k + 1}" for k in range(test.n_exits)]
last = test.n_exits - 1


def with_interval(values):  # (n,) → mean, and half of its 95 % interval by Student's t
    return values.mean(), student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5


# %% [markdown]
# ## One map, in six lines of Captum
#
# **Question.** Which parts of the photograph does exit 1 hold *for* sour milk?
#
# An exit is a function of the image like any other network. **Integrated gradients** ([Sundararajan et al.
# 2017](https://arxiv.org/abs/1703.01365)) goes in a straight line from a *baseline*, here a black image, to the
# photograph, and adds up how the logit of a class follows each pixel:
#
#     value of pixel i = (xᵢ − bᵢ) · mean over the path of ∂logit / ∂xᵢ

# %%
milk = 840
x, label = run.inputs("test", [milk]), int(test.labels[milk])  # (1, 3, 84, 84)
black = dx.attribution.make_baseline(model, x, "black")
exit_1 = IntegratedGradients(lambda images: next(model.walk(images)).logits)
options = {"target": label, "n_steps": 50, "internal_batch_size": 25, "return_convergence_delta": True}
found, delta = exit_1.attribute(x, black, **options)
assert abs(float(delta)) < 1e-3
patches = dx.attribution.to_cells(found.sum(dim=1)[0].numpy(), (6, 6))  # 84 pixels are 6 patches of 14

# %%
dx.figures.patch_maps_figure(photographs[milk], patches[None], ["exit 1"], [names[label]])

# %% [markdown]
# Orange speaks *for* the class, blue against it. The model reads the photograph as 6 × 6 patches, so the map has one
# value for each. The carton counts, and the shelf behind it hardly. **Check:** are these numbers a share of anything?

# %% tags=["guess"]
total = Guess("All values are added up. To what?", "1", "the logit", "the logit less that of black", "nothing special")
total

# %%
with torch.no_grad():
    logit, of_black = (float(next(model.walk(image)).logits[0, label]) for image in (x, black))
sums = {"sum of the map": patches.sum(), "logit": logit, "logit less that of black": logit - of_black}
figure = go.Figure().add_bar(x=list(sums), y=list(sums.values()), texttemplate="%{y:.2f}", width=0.5)
total.on(figure.update_layout(template="none", height=300))

# %% [markdown]
# The map is *complete*: it divides the difference between photograph and baseline among the pixels. The error of the
# sum is called **delta**, here less than a thousandth. If it is not small, take more steps or do not read the map.
#
# ## Compared with what?
#
# **Question.** A baseline is to stand for *no evidence*. Is there such an image? Ask the model what it makes of three.

# %% tags=["guess"]
dark = Guess("What does exit 2 see in a black image?", "all 81 alike", "aubergine", "orange", "garlic")
dark

# %%
kinds = ("black", "mean", "blur")
baselines = torch.cat([dx.attribution.make_baseline(model, x, kind) for kind in kinds])
with torch.no_grad():
    sure, best = model(torch.cat((x, baselines))).softmax(dim=-1).max(dim=-1)  # (4, 6)
rows = ("the photograph", *kinds)
said = zip(best.tolist(), sure.tolist(), strict=True)
texts = [[f"{names[c][:15]}<br>{p:.0%}" for c, p in zip(*row, strict=True)] for row in said]
figure = go.Figure().add_heatmap(z=sure, x=exit_names, y=rows, text=texts, texttemplate="%{text}", zmin=0, zmax=1)
figure.update_traces(colorscale="Blues", textfont_size=11, showscale=False).update_yaxes(autorange="reversed")
dark.on(figure.update_layout(template="none", height=300, margin={"l": 120, "t": 40, "b": 40}))

# %% [markdown]
# No baseline is neutral. Exit 2 takes black for oranges, exit 1 for garlic, the last exit for an aubergine. The
# blurred photograph makes it least sure; black is kept here because it is the same for all photographs. A map against
# black says how the photograph differs *from that*. So name the baseline with each map, and read no sign that changes
# with it.
#
# ## Build a map of all exits
#
# **Question.** Do early and late exits use the same places? **Feature ablation** needs no gradient, no path and so no
# delta: hide one patch and see what the logit loses. Hidden means: the baseline is shown there. Write it for one
# photograph and all exits at once.


# %% tags=["build"]
def drops_of(model, x, hidden, patch):
    # model(images) → logits (B, K, C); x and the baseline `hidden`: (3, side, side); patch: pixels of a patch's side
    # c is the class that the LAST exit predicts for x. Return (K, patches), numpy, patches row by row:
    # the logit of c at every exit, less the same where one patch of x shows `hidden` instead
    ### BEGIN SOLUTION
    side = x.shape[-1] // patch
    without_one = x.repeat(side * side, 1, 1, 1)
    for n in range(side * side):
        row, column = patch * (n // side), patch * (n % side)
        here = slice(row, row + patch), slice(column, column + patch)
        without_one[n][:, *here] = hidden[:, *here]
    with torch.no_grad():
        whole, lost = model(x[None])[0], model(without_one)
    c = whole[-1].argmax()
    return (whole[:, c] - lost[..., c]).T.numpy()
    ### END SOLUTION


checks.drops(drops_of)

# %% [markdown]
# <details markdown="1"><summary>Hint</summary>
#
# `x.repeat(n, 1, 1, 1)` has n copies: all hidden versions are one batch. Patch n begins at the pixel row `patch * (n //
# side)` and the column `patch * (n % side)`. Under `torch.no_grad()`, `model(x[None])[0]` is (K, C) and the batch gives
# (patches, K, C).
#
# </details>
#
# Sixteen photographs, drawn evenly from the test images. One hidden patch moves the early exits more than the last, as
# the printed line says. So each map is divided by the sum of its absolute values, and shows a patch's *share*. Look at
# all sixteen.

# %%
rows = list(range(40, 1300, 80))
sixteen, hidden = run.inputs("test", rows), black[0]
drops = np.stack([drops_of(model, one, hidden, 14) for one in sixteen])  # (16, 6, 36)
sizes = zip(exit_names, np.abs(drops).mean(axis=(0, 2)), strict=True)
print("a hidden patch moves the logit:", ", ".join(f"{name} by {size:.2f}" for name, size in sizes))
shares = 100 * drops / np.abs(drops).sum(axis=2, keepdims=True)


# %% tags=["live"]
def all_exits(photograph):
    row = rows[photograph]
    panel = [photographs[row]], shares[photograph].reshape(1, 6, 6, 6), exit_names, [""]
    figure = dx.figures.patch_maps_figure(*panel, unit="share, %", scale=25)
    return figure.update_layout(height=figure.layout.height + 80), names[test.labels[row]]


Live(all_exits, photograph=widgets.IntSlider(7, 0, 15))

# %% [markdown]
# On the apple juice each exit finds the carton, and exit 6 a part of it: two patches with name and picture hold much of
# its map. On the leek, number 13, exits 2 to 4 spread over the bundle, and exit 6 relies on little of it. The
# **cosine** of two maps says how far they use the same places; 1 is the same.

# %% tags=["guess"]
alike = Guess("What is the cosine of the maps of exits 1 and 6, as a mean over the sixteen?", 0.0, 1.0)
alike


# %%
blurred = (dx.attribution.make_baseline(model, one[None], "blur")[0] for one in sixteen)
drops_blurred = np.stack([drops_of(model, *pair, 14) for pair in zip(sixteen, blurred, strict=True)])
unit, unit_blurred = (of / np.linalg.norm(of, axis=2, keepdims=True) for of in (drops, drops_blurred))
one_and_six = unit[:, 0] @ unit[:, last].T  # (16, 16): exit 1 of the row's photograph, exit 6 of the column's
same = one_and_six.diagonal()
two = (one_and_six.sum(axis=1) - same) / (len(rows) - 1)
shuffled = unit[:, 0].sum(axis=1) * unit[:, last].sum(axis=1) / 36  # the mean over all orders
lines = {f"exit {k + 1}, black and blur": (unit[:, k] * unit_blurred[:, k]).sum(axis=1) for k in (0, last)}
lines |= {f"exits {k + 1} and {k + 2}": (unit[:, k] * unit[:, k + 1]).sum(axis=1) for k in range(last)}
lines |= {"exits 1 and 6": same, "… of two photographs": two, "… patches shuffled": shuffled}
lines |= {"same less shuffled": same - shuffled, "same less two photographs": same - two}
means, halves = zip(*(with_interval(values) for values in lines.values()), strict=True)
figure = go.Figure().add_scatter(x=means, y=list(lines), error_x={"array": halves}, mode="markers", marker_size=10)
figure.update_layout(template="none", margin={"l": 190, "t": 40}).update_xaxes(range=[-0.1, 1], title="cosine")
alike.on(figure.update_yaxes(autorange="reversed"), "x")

# %% [markdown]
# Neighbouring exits are alike, exits 1 and 6 are so in part. Is 0.3 much? **Check:** something to compare it with,
# above and below. Above: two maps of *one* exit, by black patches and by blurred ones, agree to 0.58 at exit 1 and to
# 0.67 at exit 6, the first two rows. (Two maps with one baseline can agree more, as exits 2 and 3 do.) So 0.3 is
# little. Below: the map of *another* photograph has 0.1, for goods tend to lie in the middle, and so has the same map
# with its patches in a random order. The last two rows are the differences, photograph by photograph. Against shuffled
# patches the interval stays well above 0; against other photographs it just includes it. So exits 1 and 6 may share
# some places, and by far not all.
#
# ## Through the trunk, or through the bypass?
#
# **Question.** An exit reads the trunk's tokens *plus* what its bypass adds (lesson 3). Which of the two does its logit
# come from? Captum takes a function of two inputs, too: exit norm and predictor, of trunk and bypass. So the difference
# to black falls into two parts. 48 photographs, for the class that the last exit predicts.

# %% tags=["guess"]
through = Guess("Which share comes through the bypass at exit 1?", 0.0, 1.0)
through

# %%
many = run.inputs("test", list(range(10, 1300, 27)))
with torch.no_grad():
    walked, dark_walk = list(model.walk(many)), list(model.walk(black))
    inputs = [[(out.tokens, out.read - out.tokens) for out in walk] for walk in (walked, dark_walk)]
    predicted = walked[last].logits.argmax(dim=1)


def parts_of(k):  # → (48, 2): of trunk and of bypass, and the largest error of their sum
    ways = IntegratedGradients(lambda trunk, bypass: walked[k].stage.classify(trunk + bypass, trunk))
    options = {"target": predicted, "n_steps": 50, "internal_batch_size": 400, "return_convergence_delta": True}
    parts, delta = ways.attribute(inputs[0][k], inputs[1][k], **options)
    return torch.stack([part.flatten(1).sum(dim=1) for part in parts], dim=1).detach().numpy(), delta.abs().max()


parts, errors = zip(*(parts_of(k) for k in range(test.n_exits)), strict=True)
bypass = np.abs(np.stack(parts))[..., 1] / np.abs(np.stack(parts)).sum(axis=2)  # (6, 48)
means, halves = zip(*(with_interval(values) for values in bypass), strict=True)
assert max(errors) < 1e-3  # the check: both parts add up to the difference

# %%
figure = go.Figure().add_bar(x=exit_names, y=means, error_y={"array": halves}, width=0.6)
through.on(figure.update_layout(template="none", yaxis_title="share through the bypass", yaxis_tickformat=".0%"))

# %% [markdown]
# Two thirds at exit 1, and less at every later exit; the last has no bypass. (What an exit *could* read from the trunk
# alone is another question, lesson 3.) **Check:** the parts add up to the difference, with an error below a thousandth
# of a logit.
#
# ## Can the map be trusted?
#
# **Question.** Does a map show what the *exit* uses? Test it: start from black and show exit 1 two patches more at a
# time, the map's most important first. Its confidence in the class should rise early. (*Insertion*, [Petsiuk et al.
# 2018](https://arxiv.org/abs/1806.07421).) Three orders: exit 1's own map, that of the last exit, and chance.

# %% tags=["guess"]
needed = Guess("In its own order: after how many of 36 patches is it as sure as with all of them?", 0, 36)
needed


# %%
def insertion(one, order, c):  # probability of class c at exit 1 with 0, 2, 4, … 36 patches shown
    images = [hidden.clone()]
    for pair in order.reshape(18, 2):
        images.append(images[-1].clone())
        for n in pair:
            here = slice(14 * (n // 6), 14 * (n // 6) + 14), slice(14 * (n % 6), 14 * (n % 6) + 14)
            images[-1][:, *here] = one[:, *here]
    with torch.no_grad():
        return next(model.walk(torch.stack(images))).logits.softmax(dim=1)[:, c].numpy()


chance = np.random.default_rng(0).permuted(np.tile(np.arange(36), (16, 1)), axis=1)
orders = {"its own map": np.argsort(-drops[:, 0]), "the last exit's map": np.argsort(-drops[:, last]), "chance": chance}
targets = model(sixteen)[:, -1].argmax(dim=1).tolist()
curves = {name: np.stack([*map(insertion, sixteen, order, targets)]) for name, order in orders.items()}

# %%
figure = go.Figure()
for name, curve in curves.items():
    area, half = with_interval(curve.mean(axis=1))
    figure.add_scatter(x=np.arange(0, 37, 2), y=curve.mean(axis=0), name=f"{name}: area {area:.2f} ± {half:.2f}")
figure.update_layout(template="none", legend={"x": 0.02, "y": 0.98}).update_xaxes(title="patches shown")
needed.on(figure.update_yaxes(title="confidence of exit 1 in the class"), "x")

# %%
for better, worse in (("its own map", "the last exit's map"), ("the last exit's map", "chance")):
    gain, half = with_interval((curves[better] - curves[worse]).mean(axis=1))
    print(f"area of {better}, less that of {worse}: {gain:+.3f} ± {half:.3f}")

# %% [markdown]
# It does not rise early: half of the confidence takes about 18 patches, half of all. In its own map's order 28 are
# enough, and with 32 it is *surer* than with all: the last patches speak against the class, as the map says. The last
# exit's map orders them worse for exit 1; over chance it gains little, and with sixteen photographs the interval of
# that gain ends just about at 0. So a map belongs to its exit. (Exit 1's map has an advantage in this test: it was
# made by hiding patches, too.)
#
# <div class="admonition note" markdown="1"><p><b>What you cannot conclude.</b></p>
#
# - *That orange caused the answer.* A map compares with its baseline. Against black, dark patches count for little,
#   whatever the model reads in them.
# - *That exit 1 stopped because of these patches.* A map explains one logit. Stopping depends on all 81.
# - *That the bypass could do it alone.* It is computed from the trunk; the shares show the way of the evidence.
# - *That patches act one by one.* Two that say the same can each be hidden without loss.
# - *Anything beyond this model.* 16 and 48 photographs, one training. The intervals are over photographs.
#
# </div>
#
# **In your own words:** what must stand beside a map before you believe it?
#
# **Try it.** Find a photograph that exit 1 and exit 6 answer differently. Write down what both maps should show; then
# look.
#
# Back to [6 · Decide](6_decide.ipynb). More ways to look: [Look inside](../docs/look-inside.md).
