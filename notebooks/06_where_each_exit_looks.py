# %% [markdown]
# # 6 · Where each exit looks
#
# *Do early and late exits use the same parts of an image?*
#
# **Goal.** Draw attribution maps of a class at every exit, compare the exits, and learn to test whether a map can be
# trusted; two of them cannot.
# **Time.** 20 minutes to read, one and a half minutes to run.
# **Before.** [00](00_quickstart.ipynb); what a bypass is: [02](02_bypass_decomposition.ipynb).

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/06_where_each_exit_looks.ipynb)

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

dx.course.network("all")

# %% tags=["setup"]
import numpy as np
import pandas as pd

import dmpo_explore as dx
from dmpo_explore.course.exercises.where_each_exit_looks import check_1, check_2, check_3
from dmpo_explore.course.interactive import live, numbers, slider

run = dx.load_run("demo")  # a trained model that comes with the project
record, calibration = run.record("test"), run.record("calibration")
names = record.meta.class_names
exit_names = [f"exit {k + 1}" for k in range(record.n_exits)]
dx.fetch_weights(run.config.model.backbone)
model = run.model(device="cpu")
image = 290
pixels, x = run.image_set("test")[image], run.inputs("test", [image])[0]

# %% [markdown]
# ## One sandal, six maps
#
# Image 290 is a sandal for which the first exit is incorrect. We attribute, at all six exits, the class that the
# *last* one predicts. *Integrated gradients* goes from a black image to the image in 64 steps and adds up how the
# class's logit changes with every pixel: the sum over all pixels is the whole logit difference.
#
# **Predict.** Will the first exit, two blocks deep, use the same places as the last one, twelve blocks deep?

# %%
maps = dx.compare_exits(model, x)
dx.figures.exit_maps_figure(pixels, maps.heat, exit_names)

# %% [markdown]
# **Mind the baseline.** The model takes *black* alone for a sandal: at exit 2 with 81 %, and with a higher logit (5.39)
# than this image has (5.05). What looks like evidence against the sandal there is an artefact of the baseline. Against
# the image's own blur (`baseline="blur"`) the difference at exit 2 is +4.80 instead of −0.34.
#
# Orange is evidence *for* the class, blue against it; all panels share one scale. Pixel maps are noisy. Summed over
# the 25 patches that the model reads, they are easier to compare, and still add up:

# %%
tokens = np.stack([a.tokens for a in maps.attributions])
dx.figures.exit_maps_figure(pixels, tokens, exit_names)

# %%
table = {"logit difference": [a.difference for a in maps.attributions], "sum of the map": tokens.sum(axis=(1, 2))}
table |= {"delta": [a.delta for a in maps.attributions], "steps": [a.steps for a in maps.attributions]}
pd.DataFrame(table, index=exit_names).round(2)

# %% [markdown]
# *Delta* is the error of the sum; above 5 % of the difference the library takes more steps by itself, and warns if
# that does not help. Now what each exit *adds* to the one before it. Logits have another scale at every exit, so we
# compare *shares*: each map divided by the sum of its sizes.
#
# **Predict.** Between which two neighbours will the map change most?

# %%
dx.figures.difference_maps_figure(pixels, maps.differences(shares=True), exit_names, unit="difference of shares")

# %%
pd.DataFrame(maps.similarity(), index=exit_names, columns=exit_names).round(2)

# %% [markdown]
# That table is the cosine between the maps. Neighbours among the late exits agree; the first exit uses other places.
#
# ## Drag it yourself
#
# The maps of `feature_ablation` hide one patch at a time and measure the drop of the logit: cruder, but without
# gradients. Move the exit, and how many patches are shown.


# %% tags=["setup"]
hidden = dx.compare_exits(model, x, method="feature_ablation")
drops = np.stack([a.tokens for a in hidden.attributions])


# %% tags=["live"]
def strongest(exit, patches):
    size = np.abs(drops[exit - 1])
    shown = np.where(size >= np.sort(size.ravel())[-patches], drops[exit - 1], 0)
    figure = dx.figures.exit_maps_figure(pixels, shown[None], [f"exit {exit}"], scale=np.abs(drops).max(), unit="drop")
    line = f"The {patches} strongest patches of exit {exit} hold {np.abs(shown).sum() / size.sum():.0%} of the total."
    return figure.update_layout(height=380), line


live(strongest, exit=slider("exit", 1, record.n_exits, 1), patches=slider("patches", 1, drops[0].size, 5))

# %% [markdown]
# ## Can the map be trusted?
#
# Show the patches one after another, the most important first: the class's probability should rise early
# (*insertion*). Hide them in the same order: it should fall early (*deletion*). A random order is the baseline.
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
# *Unexplained* is the share of the logit's changes under random masks that the map does not explain (0 perfect, 1 no
# better than an empty map): patches work together, so no sum over single patches does well at this exit.
# *Max-sensitivity* is how far the map moves when every input value is perturbed by up to 0.02.
#
# ## Two failures, on purpose
#
# **Predict.** Integrated gradients with 16 steps instead of 64: how large can its error be?

# %%
first = maps.attributions[0].query
few = dx.attribution.integrate_exits(model, x[None], first.baseline, maps.target, steps=16, batch=16)
deltas = {"delta, 16 steps": [delta for _, delta in few], "delta above": [a.delta for a in maps.attributions]}
pd.DataFrame({**deltas, "logit difference": [a.difference for a in maps.attributions]}, index=exit_names).round(2)

# %% [markdown]
# Nothing in a 16-step map shows its error; only its delta does. That is why the library refuses fewer than 50
# steps. It also refuses methods that run without an error but have no meaning here:

# %%
for refused in ({"method": "layer_grad_cam"}, {"method": "deep_lift"}, {"method": "token_grad_cam", "layer": 12}):
    try:
        dx.attribute(model, x, 0, **refused)
    except ValueError as error:
        print("✘", error, "\n")

# %% [markdown]
# ## Through the trunk or through the bypass?
#
# An exit reads the trunk's tokens *plus* what its bypass adds. Integrated gradients over those two inputs splits the
# same logit difference into two parts. The diamonds are the difference itself: the bars add up to it, within the
# delta. A bar below zero is evidence against the class.
#
# **Predict.** At which exits will the bypass matter most? The last one has none.

# %%
paths = dx.attribute_pathways(model, x, target=maps.target, steps=64)
dx.figures.pathways_figure(paths.trunk, paths.bypass, exit_names, paths.difference)

# %% [markdown]
# ## Which images exit early, and why
#
# Under a policy fitted on calibration, some classes exit at exit 1 nearly always, others less often. Look at the
# shares, then at two images: one that exits at the last exit and one that exits at exit 1.

# %%
policy = dx.fit_policy(calibration, flops=0.30)
exits = policy.exits(record)
early = pd.Series(exits == 0).groupby(record.labels).mean().rename(index=dict(enumerate(names))).sort_values()
early.rename("share exiting at exit 1").to_frame().round(2)

# %%
pair = [int(np.flatnonzero(exits == k)[0]) for k in (0, last)]
inputs = run.inputs("test", pair)
at_exit_1 = [dx.attribute(model, inputs[i], 0, method="feature_ablation") for i in range(2)]
predicted = [
    f"{names[a.target]} (confidence {record.confidence[i, 0]:.2f})" for a, i in zip(at_exit_1, pair, strict=True)
]
dx.figures.exit_maps_figure(
    run.image_set("test")[pair[1]], at_exit_1[1].tokens[None], [f"exits last; exit 1: {predicted[1]}"]
)

# %%
dx.figures.exit_maps_figure(
    run.image_set("test")[pair[0]], at_exit_1[0].tokens[None], [f"exits at exit 1: {predicted[0]}"]
)

# %% [markdown]
# An image exits by its confidence, which depends on *all* classes. A map of one class shows the evidence for that
# class; it does not show the second class that lowers the confidence. Its map: `target=`.

# %% tags=["numbers"]
numbers(
    exited_at_exit_1=float((exits == 0).mean()),
    shirts_exiting_at_exit_1=float(early["Shirt"]),
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
# **2.** With the policy above, which class exits at exit 1 least often? Give its name.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** Write a function that takes a map of pixels (70,70) and returns its token map (5,5) with the same sum.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - *That orange pixels caused the prediction.* A map is relative to its baseline. Against black, a black pixel can
#   never matter, though a model may well read the dark background.
# - *That a map of exit 1 explains why an image exited.* It explains one logit; exiting depends on all of them.
# - *That the bypass alone could do what its bar shows.* It is computed from the trunk; the bars show the path of the
#   evidence.
# - *That what holds for one sandal holds for 10,000 images.* Repeat it on others before you say so.
# - *That attention rollout shows evidence.* It depends on no class and no predictor; the library marks it
#   in `is_attribution`.
#
# Next: [07 Your own images](07_your_own_images.ipynb)
