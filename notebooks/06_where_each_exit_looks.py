# %% [markdown]
# # 6 · Where each exit looks
#
# *Do early and late exits decide by the same parts of a picture?*
#
# **Goal.** Draw maps of what speaks for a class at every exit, compare the exits, and learn to ask each map whether it
# can be trusted, among them two that cannot.
# **Time.** 20 minutes to read, one and a half minutes to run.
# **Before.** [00](00_quickstart.ipynb); what a bypass is: [02](02_bypass_decomposition.ipynb).

# %% tags=["setup"]
import numpy as np
import pandas as pd

import dmpo_explore as dx
from exercises.where_each_exit_looks import check_1, check_2, check_3
from interactive import live, numbers, slider

run = dx.load_run("demo")  # a trained model that comes with the project
record, val = run.record("test"), run.record("val")
names = record.meta.class_names
exit_names = [f"exit {k + 1}" for k in range(record.n_exits)]
dx.fetch_weights(run.config.model.backbone)
model = run.model(device="cpu")
image = 290
picture, x = run.image_set("test")[image], run.inputs("test", [image])[0]

# %% [markdown]
# ## One sandal, six maps
#
# Image 290 is a sandal that the first exit takes for something else. We ask all six exits about the class that the
# *last* one names. *Integrated gradients* walks from a black picture to the image in 64 steps and adds up how the
# class's logit moves with every pixel: the sum over all pixels is the whole logit difference, so nothing is left out.
#
# **Predict.** Will the first exit, two blocks deep, look at the same places as the last one, twelve blocks deep?

# %%
maps = dx.compare_exits(model, x)
dx.figures.exit_maps_figure(picture, maps.heat, exit_names)

# %% [markdown]
# Orange speaks *for* the class, blue against it; all panels share one scale. Pixel maps are noisy. Summed over the 25
# patches that the model reads, they are easier to compare, and still add up:

# %%
tokens = np.stack([a.tokens for a in maps.attributions])
dx.figures.exit_maps_figure(picture, tokens, exit_names)

# %%
table = {"logit difference": [a.difference for a in maps.attributions], "sum of the map": tokens.sum(axis=(1, 2))}
table |= {"delta": [a.delta for a in maps.attributions], "steps": [a.steps for a in maps.attributions]}
pd.DataFrame(table, index=exit_names).round(2)

# %% [markdown]
# *Delta* is what the sum misses; above 5 % of the difference the library takes more steps by itself, and warns if that
# does not help. Now what each exit *adds* to the one before it. Logits have another scale at every exit, so we compare
# *shares*: each map divided by the sum of its sizes.
#
# **Predict.** Between which two neighbours will the map change most?

# %%
dx.figures.difference_maps_figure(picture, maps.differences(shares=True), exit_names, unit="difference of shares")

# %%
pd.DataFrame(maps.similarity(), index=exit_names, columns=exit_names).round(2)

# %% [markdown]
# That table is the cosine between the maps. Neighbours among the late exits agree; the first exit looks elsewhere.
#
# ## Drag it yourself
#
# The maps of `feature_ablation` hide one patch at a time and note what the logit loses: cruder, but no gradient is in
# it. Move the exit, and how many patches are shown.


# %% tags=["setup"]
hidden = dx.compare_exits(model, x, method="feature_ablation")
drops = np.stack([a.tokens for a in hidden.attributions])


# %% tags=["live"]
def strongest(exit, patches):
    size = np.abs(drops[exit - 1])
    shown = np.where(size >= np.sort(size.ravel())[-patches], drops[exit - 1], 0)
    figure = dx.figures.exit_maps_figure(picture, shown[None], [f"exit {exit}"], scale=np.abs(drops).max(), unit="drop")
    line = f"The {patches} strongest patches of exit {exit} hold {np.abs(shown).sum() / size.sum():.0%} of it all."
    return figure.update_layout(height=380), line


live(strongest, exit=slider("exit", 1, record.n_exits, 1), patches=slider("patches", 1, drops[0].size, 5))

# %% [markdown]
# ## Should we believe it?
#
# Show the patches one after another, the most important first: the class's probability should rise early (*insertion*).
# Hide them in the same order: it should fall early (*deletion*). A random order says what is no merit of the map.
#
# **Predict.** Which map will do better at the last exit: hiding patches, or the plain gradient (*saliency*)?

# %%
last = record.n_exits - 1
plain = dx.attribute(model, x, last, target=maps.target, method="saliency")
checked = {a.method: a.quality(samples=32, perturbations=1, orders=4) for a in (hidden.attributions[last], plain)}
dx.figures.insertion_deletion_figure(checked["feature_ablation"])

# %%
columns = ["unexplained", "max_sensitivity", "insertion_area", "random_insertion_area", "deletion_area"]
pd.DataFrame({name: {c: getattr(q, c) for c in columns} for name, q in checked.items()}).round(3)

# %% [markdown]
# *Unexplained* is the share of the logit's changes under random masks that the map gets wrong (0 perfect, 1 no better
# than an empty map): patches work together, so no sum over single patches does well at this exit. *Max-sensitivity* is
# how far the map moves when every input value trembles by up to 0.02.
#
# ## Two failures, on purpose
#
# **Predict.** Integrated gradients with 16 steps instead of 64: how wrong can its sum be?

# %%
first = maps.attributions[0].query
few = dx.attribution.integrate_exits(model, x[None], first.baseline, maps.target, steps=16, batch=16)
deltas = {"delta, 16 steps": [delta for _, delta in few], "delta above": [a.delta for a in maps.attributions]}
pd.DataFrame({**deltas, "logit difference": [a.difference for a in maps.attributions]}, index=exit_names).round(2)

# %% [markdown]
# Nothing in a 16-step map shows that it is wrong; only its delta does. That is why the library refuses fewer than 50
# steps. It also refuses what runs without an error and means nothing:

# %%
for wrong in ({"method": "layer_grad_cam"}, {"method": "deep_lift"}, {"method": "token_grad_cam", "layer": 12}):
    try:
        dx.attribute(model, x, 0, **wrong)
    except ValueError as error:
        print("✘", error, "\n")

# %% [markdown]
# ## Through the trunk or through the bypass?
#
# An exit reads the trunk's tokens *plus* what its bypass adds. Integrated gradients over those two inputs splits the
# same logit difference into two parts. The diamonds are the difference itself: the bars add up to it, within the delta.
# A bar below zero argues against the class.
#
# **Predict.** At which exits will the bypass matter most? The last one has none.

# %%
ways = dx.attribute_pathways(model, x, target=maps.target, steps=64)
dx.figures.pathways_figure(ways.trunk, ways.bypass, exit_names, ways.difference)

# %% [markdown]
# ## Which images leave early, and why
#
# Under a policy fitted on val, some classes leave at exit 1 nearly always, others less often. Look at the shares, then
# at two images: one that stays to the end and one that leaves at once.

# %%
policy = dx.fit_policy(val, flops=0.30)
exits = policy.exits(record)
early = pd.Series(exits == 0).groupby(record.labels).mean().rename(index=dict(enumerate(names))).sort_values()
early.rename("share leaving at exit 1").to_frame().round(2)

# %%
pair = [int(np.flatnonzero(exits == k)[0]) for k in (0, last)]
inputs = run.inputs("test", pair)
first_look = [dx.attribute(model, inputs[i], 0, method="feature_ablation") for i in range(2)]
said = [f"{names[a.target]} ({record.confidence[i, 0]:.2f} sure)" for a, i in zip(first_look, pair, strict=True)]
dx.figures.exit_maps_figure(
    run.image_set("test")[pair[1]], first_look[1].tokens[None], [f"stays: exit 1 says {said[1]}"]
)

# %%
dx.figures.exit_maps_figure(
    run.image_set("test")[pair[0]], first_look[0].tokens[None], [f"leaves: exit 1 says {said[0]}"]
)

# %% [markdown]
# What makes an image leave is its confidence, which weighs *all* classes. A map of one class shows what speaks for that
# class; it does not show the rival that keeps the image in the model. Ask for the rival's map with `target=`.

# %% tags=["numbers"]
numbers(
    left_at_exit_1=float((exits == 0).mean()),
    shirts_leaving_at_exit_1=float(early["Shirt"]),
    logit_difference_at_last_exit=float(hidden.attributions[last].difference),
    strongest_patch_at_last_exit=int(np.abs(drops[last]).argmax()),
)

# %% [markdown]
# ## Try it: three exercises
#
# **1.** Which exit's `feature_ablation` map of image 290 has the largest single drop? Count from 1. (`drops` holds the
# maps.)

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# **2.** With the policy above, which class leaves at exit 1 least often? Give its name.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** Write a function that takes a map of pixels (70,70) and gives its token map (5,5) so that it still adds up.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - *That orange pixels caused the answer.* A map is relative to its baseline. Against black, a black pixel can never
#   matter, though a model may well read the dark background.
# - *That a map of exit 1 explains why an image left.* It explains one logit; leaving depends on all of them.
# - *That the bypass alone could do what its bar shows.* It is computed from the trunk; the bars say which way evidence
#   took.
# - *That what holds for one sandal holds for 10,000 images.* Repeat it on others before you say so.
# - *That attention rollout shows evidence.* It knows no class and no predictor; the library says so in
#   `is_attribution`.
#
# Next: [07 Your own images](07_your_own_images.ipynb)
