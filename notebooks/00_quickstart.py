# %% [markdown]
# # 0 · Quickstart
#
# *Does every image need all of a model's compute?*
#
# **Goal.** See one image pass through every exit of an early-exit model, let a threshold decide where it exits, and
# read what that saves on 10,000 images.
# **Time.** 10 minutes to read, half a minute to run.
# **Before.** You know what a classifier and a softmax are. Nothing else.

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

import dmpo_explore as dx
from dmpo_explore.course.exercises.quickstart import check_1, check_2, check_3
from dmpo_explore.course.interactive import live, numbers, slider

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
# threshold; the exits behind it, faint below, are never computed.
#
# **Predict.** Before you move the lower slider: which way must the threshold go for this image to exit *earlier*? Then
# look at twenty images with the upper one. Which kinds of clothes exit at exit 1, which at the last exit?


# %% tags=["live"]
def exit_of(image, threshold):
    exit = dx.fit_policy(calibration, threshold=threshold).exits(record)[image]
    shown = images[image], names_of(record.prediction[image]), record.confidence[image], record.correct[image]
    line = f"Image {image} shows: {names[record.labels[image]]}. With threshold {threshold:.2f} it exits at"
    text = f"{line} exit {exit + 1}, after {record.flops_fraction[exit]:.0%} of the plain backbone's FLOPs."
    return dx.figures.exit_predictions_figure(*shown, exit, threshold), text


live(exit_of, image=slider("image", 0, 299, 290), threshold=slider("threshold", 0.3, 1.0, 0.7))

# %% [markdown]
# ## Ten thousand images
#
# One image proves nothing. Which threshold is a good one? We set a target, *at most 30 % of the plain backbone's
# compute*, and fit the threshold on 5,000 calibration images. Then, and only then, we look at the test images.
#
# **Predict.** What share of them will exit at exit 1? How many points of accuracy will be lost?

# %%
policy = dx.fit_policy(calibration, flops=0.30)
exits = policy.exits(record)
correct = dx.apply(policy, record).correct
dx.figures.exit_histogram_figure(exits, correct, [f"exit {k + 1}" for k in range(record.n_exits)])

# %% [markdown]
# Most images exit at exit 1, and most of those predictions are correct. In numbers:

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

# %% [markdown]
# A quarter of the compute, and all but as many correct predictions as at the last exit. The first exits of this model
# were trained to be good; [04](04_phase_schedule.ipynb) shows how.
#
# ## And it really stops
#
# So far we simulated: every exit had been recorded in advance. `dx.infer` runs the early-exit loop: block by block,
# and an image is removed from the batch as soon as it exits. (The first time, this cell fetches 90 MB of backbone
# weights.)
#
# **Predict.** Will each image exit where the simulation says?

# %%
dx.fetch_weights(run.config.model.backbone)
model = run.model(device="cpu")
one_of_each = [int((exits == k).argmax()) for k in range(record.n_exits)]  # the first image that exits at each exit
executed = dx.infer(model, run.inputs("test", one_of_each), policy)
pd.DataFrame({"image": one_of_each, "simulated exit": exits[one_of_each] + 1, "executed exit": executed.exit + 1})

# %% [markdown]
# ## Try it: three exercises
#
# Replace the three dots; the check tells you whether your answer is correct.
#
# **1.** With the policy from above, how many of the 10,000 test images exit at the last exit?

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# **2.** Find an image with *overthinking*: exit 1 is correct and the last exit is incorrect. Give its number (its row
# in `record.correct`).

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** Find a threshold with which, **on calibration**, the model uses at most 22 % of the compute with an accuracy
# of at least 91.5 %. `dx.trade_off(calibration)` may help.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - *That early exits make models better.* This is one data set, one backbone and one seed; [01](01_the_conflict.ipynb)
#   shows a model with exits that is no better than one without.
# - *That a quarter of the FLOPs is a quarter of the seconds.* FLOPs count multiplications. Small batches, memory and
#   batch compaction take time too.
# - *That a confident prediction is a correct one.* Look at the orange parts of the bars;
#   [05](05_thresholds_and_compute.ipynb) measures how far confidence can be trusted.
# - *That this threshold suits other images.* It was fitted and tested on images of one distribution.
#
# Next: [01 · The conflict](01_the_conflict.ipynb). Or drag the same slider in the app: `scripts/app`.
