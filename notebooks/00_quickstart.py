# %% [markdown]
# # 0 · Quickstart
#
# *Does a model have to think equally long about every picture?*
#
# **Goal.** See one image pass through every exit of an early-exit model, let a threshold decide where it leaves, and
# read what that saves on 10,000 images.
# **Time.** 10 minutes to read, half a minute to run.
# **Before.** You know what a classifier and a softmax are. Nothing else.

# %% tags=["setup"]
import numpy as np
import pandas as pd

import dmpo_explore as dx
from exercises.quickstart import check_1, check_2, check_3
from interactive import live, numbers, slider

run = dx.load_run("demo")  # a trained model that comes with the project
record, val = run.record("test"), run.record("val")
pictures, names = run.image_set("test"), record.meta.class_names

# %% [markdown]
# ## Six answers to one question
#
# The model is a vision transformer with twelve blocks and a small classifier, an *exit*, behind every second one. Each
# exit answers the same question, *what is this?*, and says how sure it is. All of that was written down once, for
# every test image; we only read it.
#
# **Predict.** Here is a sandal, 28 pixels wide. Will the first exit already know? Which one will be surest?

# %%
image = 290
names_of = np.array(names).take
answers = names_of(record.prediction[image])
dx.figures.exit_predictions_figure(
    pictures[image], answers, record.confidence[image], record.correct[image], exit=record.n_exits - 1
)

# %% [markdown]
# Blue is right, hatched orange is wrong. The first exit falls for it; one look further the answer is right, but
# hesitant; the fourth is surest of all. Later is mostly better, not always surer.
#
# ## A threshold decides
#
# Asking all six exits costs the whole model. So we stop at the first exit whose confidence reaches a threshold; the
# exits behind it, faint below, are never computed.
#
# **Predict.** Before you move the lower slider: which way must the threshold go for this image to leave *earlier*? Then
# look at twenty images with the upper one. Which kinds of clothes leave at once, which go to the end?


# %% tags=["live"]
def way_of(image, threshold):
    leaves = dx.fit_policy(val, threshold=threshold).exits(record)[image]
    seen = pictures[image], names_of(record.prediction[image]), record.confidence[image], record.correct[image]
    line = f"Image {image} shows: {names[record.labels[image]]}. With threshold {threshold:.2f} it leaves at"
    text = f"{line} exit {leaves + 1} and costs {record.flops_fraction[leaves]:.0%} of the plain backbone."
    return dx.figures.exit_predictions_figure(*seen, leaves, threshold), text


live(way_of, image=slider("image", 0, 299, 290), threshold=slider("threshold", 0.3, 1.0, 0.7))

# %% [markdown]
# ## Ten thousand images
#
# One image proves nothing. Which threshold is a good one? We ask for *at most 30 % of the plain backbone's compute* and
# let 5,000 validation images choose. Then, and only then, we look at the test images.
#
# **Predict.** What share of them will leave at exit 1? How many points of accuracy will that cost?

# %%
policy = dx.fit_policy(val, flops=0.30)
exits = policy.exits(record)
right = record.correct[range(record.n_images), exits]
dx.figures.exit_histogram_figure(exits, right, [f"exit {k + 1}" for k in range(record.n_exits)])

# %% [markdown]
# Most images leave at once, and most of those answers are right. In numbers:

# %% tags=["numbers"]
seen = dx.summarise(record, exits)
numbers(
    threshold=policy.thresholds[0],
    accuracy=seen["accuracy"],
    accuracy_at_the_last_exit=seen["full_accuracy"],
    compute=seen["flops_fraction"],
    mean_exit=seen["mean_exit"],
    share_at_exit_1=seen["exit_shares"][0],
)

# %% [markdown]
# Little more than a quarter of the compute, and as many right answers as the last exit gives. The first exits of this
# model were trained to be good; [04](04_phase_schedule.ipynb) shows how.
#
# ## And it really stops
#
# So far we simulated: every exit had been asked in advance. `dx.infer` runs the model block by block and drops an image
# as soon as it leaves. (The first time, this cell fetches 90 MB of backbone weights.)
#
# **Predict.** Will it leave where the simulation says?

# %%
dx.fetch_weights(run.config.model.backbone)
model = run.model(device="cpu")
one_of_each = [int((exits == k).argmax()) for k in range(record.n_exits)]  # the first image that leaves at each exit
really = dx.infer(model, run.inputs("test", one_of_each), policy)
pd.DataFrame({"image": one_of_each, "simulated exit": exits[one_of_each] + 1, "really left at": really.exit + 1})

# %% [markdown]
# ## Try it: three exercises
#
# Replace the three dots; the check tells you whether you are right.
#
# **1.** With the policy from above, how many of the 10,000 test images go all the way to the last exit?

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# **2.** Find an image that is *overthought*: exit 1 is right and the last exit is wrong. Give its number (its row in
# `record.correct`).

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** Find a threshold with which, **on val**, the model uses at most 22 % of the compute and is still right on at
# least 91.5 % of the images. `dx.trade_off(val)` may help.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - *That early exits make models better.* This is one data set, one backbone and one seed; [01](01_the_conflict.ipynb)
#   shows a model with exits that is no better than one without.
# - *That a quarter of the FLOPs is a quarter of the seconds.* FLOPs count multiplications. Small batches, memory and
#   the dropping of rows cost time too.
# - *That a confident answer is a right one.* Look at the orange parts of the bars;
#   [05](05_thresholds_and_compute.ipynb) measures how far confidence can be trusted.
# - *That this threshold suits other pictures.* It was chosen on images like those that it met.
#
# Next: [01 · The conflict](01_the_conflict.ipynb). Or drag the same slider in the app: `scripts/app`.
