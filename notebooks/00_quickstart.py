# %% [markdown]
# # 0 · Quickstart
#
# *Does every image need all of a model's compute?*
#
# **Goal.** See one image pass through every exit of an early-exit model and let a threshold decide where it exits.
# Read what that saves on 10,000 images. Then try it on a photo of your own.
#
# **Time.** 15 minutes to read, a minute to run. For your photo, five minutes more.
#
# **Before.** You know what a classifier and a softmax are. Nothing else. Words are at the end and in
# the [glossary](../docs/glossary.md); the method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/00_quickstart.ipynb)

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

dx.course.network("exit")

# %% tags=["setup"]
import numpy as np
import pandas as pd
import torch

import dmpo_explore as dx
from dmpo_explore.course import garment
from dmpo_explore.course.exercises.quickstart import check_1, check_2, check_3
from dmpo_explore.course.interactive import choice, live, numbers, slider, widgets
from dmpo_explore.course.moving import travel

run = dx.load_run("demo")  # a trained model that comes with the project
record, calibration = run.record("test"), run.record("calibration")
images, names = run.image_set("test"), record.meta.class_names
names_of = np.array(names).take  # labels → their names

# %% [markdown]
# ## Six predictions for one image
#
# The model is a vision transformer with twelve blocks and a small classifier, an *exit*, behind every second one. Each
# exit predicts the same thing, the image's class, with a confidence. These scores were recorded once, for every test
# image; we only read them.
#
# **Predict.** Here is a sandal, 28 pixels wide. Will the first exit be correct? Which one will be the most confident?

# %%
image = 290
predictions = names_of(record.prediction[image])
dx.figures.exit_predictions_figure(
    images[image], predictions, record.confidence[image], record.correct[image], exit=record.n_exits - 1
)

# %% [markdown]
# Blue is correct, hatched orange is incorrect. The first exit is incorrect. The second is correct with low
# confidence; the fourth is the most confident. Later exits are mostly better, not always more confident.
#
# ## A threshold decides
#
# Computing all six exits takes the whole model's compute. So we stop at the first exit whose confidence reaches a
# threshold; the exits behind it, faint below, are never computed. (Compute is counted as a share of the plain
# backbone's FLOPs.)
#
# **Predict.** Before you move the lower slider: which way must the threshold go for this image to exit *earlier*? Then
# look at twenty images with the upper one. Which kinds of clothes exit at exit 1, which at the last exit?


# %% tags=["live"]
def exit_of(image, threshold):
    exit = dx.fit_policy(calibration, threshold=threshold).exits(record)[image]
    shown = images[image], names_of(record.prediction[image]), record.confidence[image], record.correct[image]
    place = f"exits at exit {exit + 1}, {record.flops_fraction[exit]:.0%} compute"
    line = f"{names[record.labels[image]]}, threshold {threshold:.2f}: {place}"
    return dx.figures.exit_predictions_figure(*shown, exit, threshold), line


live(exit_of, image=slider("image", 0, 299, 290), threshold=slider("threshold", 0.3, 1.0, 0.7))

# %% [markdown]
# It must go *down*: with a lower threshold less confidence is enough. And the kinds of clothes? Twenty images are few;
# this is the share of *all* of a class that continues beyond exit 1 at the threshold 0.7:

# %%
beyond = dx.fit_policy(calibration, threshold=0.7).exits(record) > 0
classes = [names[label] for label in record.labels]
pd.Series(beyond).groupby(classes).mean().sort_values().rename("beyond exit 1").to_frame().T.round(2)

# %% [markdown]
# Most images of every class exit at exit 1. Of trousers nearly all do; of shirts nearly a third continues.
# [08](08_which_images_exit_early.ipynb) explains why.
#
# ## Ten thousand images
#
# One image is no evidence. Which threshold is a good one? We set a target, *at most 30 % of the plain backbone's
# compute*, and fit the threshold on 5,000 calibration images. Then, and only then, we look at the test images.
#
# **Predict.** What share of them will exit at exit 1? How many points of accuracy will be lost?

# %%
policy = dx.fit_policy(calibration, flops=0.30)
exits = policy.exits(record)
correct = dx.apply(policy, record).correct
dx.figures.exit_histogram_figure(exits, correct, [f"exit {k + 1}" for k in range(record.n_exits)])

# %% [markdown]
# 85 of 100 images exit at exit 1, and most of those predictions are correct. In numbers:

# %% tags=["numbers"]
summary = dx.summarise(record, exits)
numbers(
    threshold=policy.thresholds[0],
    accuracy=summary["accuracy"],
    accuracy_at_the_last_exit=summary["full_accuracy"],
    compute=summary["flops_fraction"],
    mean_exit=summary["mean_exit"],
    share_at_exit_1=summary["exit_shares"][0],
)

# %%
points = [100 * part for part in dx.bootstrap_difference(correct, record.correct[:, -1])]
print("accuracy minus that of the last exit: {:+.2f} points, 95 % interval {:+.2f} to {:+.2f}".format(*points))

# %% [markdown]
# A quarter of the compute, and an accuracy that cannot be distinguished from the last exit's on these images: the
# interval includes 0. That needs a first exit that is good after two of twelve blocks. In this model it has help: a
# bypass ([02](02_bypass_decomposition.ipynb)) and a second-order predictor ([03](03_second_order_heads.ipynb)). Its
# loss weights, the method's other half, are the question of [04](04_phase_schedule.ipynb).
#
# ## Watch them
#
# The first 40 test images, one after another, with that threshold. Where an image drops down, it exits; the blocks to
# the right are not computed for it.
#
# **Predict.** How many of the 40 will drop at exit 1?

# %%
travel(images, dx.apply(policy, record), range(40))

# %% [markdown]
# 34: 85 of 100 here, too. Four exit at exit 2, and two travel farther without becoming correct.
#
# ## And it really stops
#
# So far we simulated: every exit had been recorded in advance. `dx.infer` runs the early-exit loop: block by block,
# and an image is removed from the batch as soon as it exits. (The first time, this cell fetches 90 MB of backbone
# weights.)
#
# **Predict.** Will each image exit where it exits in the simulation?

# %%
dx.fetch_weights(run.config.model.backbone)
model = run.model(device="cpu")
one_of_each = [int((exits == k).argmax()) for k in range(record.n_exits)]  # the first image that exits at each exit
executed = dx.infer(model, run.inputs("test", one_of_each), policy)
pd.DataFrame({"image": one_of_each, "simulated exit": exits[one_of_each] + 1, "executed exit": executed.exit + 1})

# %% [markdown]
# Yes, all six. That is a check, and no proof. The record simulates; the loop executes the same decisions.
#
# ## Your own photo
#
# Take a photo of a piece of clothing: flat, whole, on a plain floor or bed, in good light. It is made to look like the
# training images: grey, light on black, cut out, 28 pixels. Then the model predicts, with the threshold from above.
# Without a photo a drawing is used: a T-shirt or a wheel.
#
# **Novelty** compares the exits' logits with those of calibration images: 99 % means that 99 of 100 of those have
# nearer neighbours ([kNN, Sun et al. 2022](https://arxiv.org/abs/2204.06507)).
#
# **Predict.** A wheel is none of the ten classes. What will the model answer, and how confident will it be?

# %% tags=["setup"]
dx.fetch_weights(run.config.model.backbone)
photo_model, transform = run.model(device="cpu"), dx.data.make_transform(run.preprocess())
detector, fitted = dx.analysis.novelty_detector(calibration), dx.fit_policy(calibration, flops=0.30)


def answers(pixels):
    with torch.no_grad():
        logits = photo_model(transform(pixels)[None]).numpy()  # (1, 6, 10)
    return dx.ExitRecord(labels=np.array([-1]), **dx.policies.scores(logits), meta=record.meta, logits=logits)


# %% tags=["live"]
def your_photo(photo, drawing):
    small = garment.like_fashion_mnist(garment.uploaded(photo, drawing))
    one = answers(small)
    exit, novelty = fitted.exits(one)[0], detector.score(one)
    shown = small, names_of(one.prediction[0]), one.confidence[0], None, exit, fitted.thresholds[0]
    return dx.figures.exit_predictions_figure(*shown), f"exits at exit {exit + 1}; novelty {novelty:.1%}"


button = widgets.FileUpload(accept="image/*", description="your photo")
live(your_photo, photo=button, drawing=choice("or a drawing", ["T-shirt", "wheel"], "wheel"))

# %% [markdown]
# It is a sandal for exit 1, and a sandal with 84 % for exit 2, where it exits; two exits later it would be a bag, at
# 98 %. A classifier has no answer "none of these", and confidence does not warn. The novelty does for this wheel: it
# is 100 %. For the T-shirt, which is a T-shirt at every exit, it is 80 %. (Bars are grey where the label is unknown.)
# Was your photo correct? If not, look at the small image first: is the piece whole, light on black, upright?
#
# A model for *your* classes: [07](07_your_own_images.ipynb).

# %% [markdown]
# ## Try it: three exercises
#
# Replace the three dots; the check shows whether your answer is correct.
#
# **1.** With the policy from above, how many of the 10,000 test images exit at the last exit?

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `exits` has the exit of every image, counted from 0.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `exits == 5` is true for the last of six exits; the sum of a mask counts.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# answer_1 = (exits == 5).sum()
# ```
#
# </details>

# %% [markdown]
# **2.** Find an image with *overthinking*: exit 1 is correct and the last exit is incorrect. Give its number (its row
# in `record.correct`).

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `record.correct[:, 0]` is true where exit 1 is correct, `~record.correct[:, -1]` where the last one is not.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `np.flatnonzero(mask)` gives the numbers of the images for which a mask is true.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# answer_2 = np.flatnonzero(record.correct[:, 0] & ~record.correct[:, -1])[0]
# ```
#
# </details>

# %% [markdown]
# **3.** Find a threshold for these two targets **on calibration**: at most 22 % of the compute, and an accuracy of at
# least 91.5 %. `dx.trade_off(calibration)` may help.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `dx.trade_off(calibration)` is a table with a row per threshold: `threshold`, `accuracy`, `flops_fraction`.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Keep the rows with `flops_fraction <= 0.22` and `accuracy >= 0.915`, and take one of their thresholds.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# table = dx.trade_off(calibration)
# answer_3 = table[(table["flops_fraction"] <= 0.22) & (table["accuracy"] >= 0.915)]["threshold"].iloc[0]
# ```
#
# </details>

# %% [markdown]
# ## What you cannot conclude
#
# - *That early exits make models better.* This is one data set, one backbone and one seed; [01](01_the_conflict.ipynb)
#   shows a model with exits that is no better than one without.
# - *That a quarter of the FLOPs is a quarter of the seconds.* FLOPs count multiplications. Small batches, memory and
#   batch compaction take time too.
# - *That a confident prediction is a correct one.* Look at the orange parts of the bars;
#   [05](05_thresholds_and_compute.ipynb) measures how far confidence can be trusted.
# - *That this threshold suits other images.* It was fitted and tested on images of one distribution. Your photo is not
#   of that distribution, however carefully it is cut out.
#
# ## Words
#
# | word | here |
# |---|---|
# | exit | a classifier behind a part of the network; as a verb: to stop there |
# | confidence | the softmax probability of the predicted class |
# | threshold | the confidence from which on an image exits |
# | compute | FLOPs of everything that ran, as a share of the plain backbone's |
# | calibration | images that thresholds are fitted on; nothing was trained on them |
# | record | the scores of all exits for all images of a split, computed once |
# | novelty | how far an image is from its nearest calibration images |
#
# ## References
#
# - The method: [DMPO](https://arxiv.org/abs/2511.03245), 2025. Early exits:
#   [BranchyNet](https://arxiv.org/abs/1709.01686), 2016.
# - The images: [Fashion-MNIST](https://arxiv.org/abs/1708.07747), 2017, MIT licence.
#
# You can drag the same slider in the app: `scripts/app`.
#
# Next: [01 · The conflict](01_the_conflict.ipynb)
