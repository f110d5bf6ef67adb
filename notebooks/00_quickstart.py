# %% [markdown]
# # 0 · Quickstart
#
# *Does every image need all of a model's compute?*
#
# **Goal.** See one image pass through every exit of an early-exit model and let a threshold decide where it exits.
# Read what that saves on 10,000 images, and what an ordinary model gives for as much. Then try a photo of your own.
#
# **Time.** 20 minutes to read and predict, 45 with the exercises; a minute to run. For your photo, five minutes more.
#
# **Before.** You know what a classifier and a softmax are. Nothing else. Words are at the end and in
# the [glossary](../docs/glossary.md); the method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% tags=["network"]
import dmpo_explore as dx

dx.course.network("exit")

# %% [markdown]
# This is one stage of the network; there are six in a row. Today only the marked box matters: an *exit*. (In the
# drawing the *predictor* gives the class, and at *exit* the image may stop. In the text an *exit* is both.) The other
# parts, and *representative* and *discriminative*, are the subjects of 01 to 04.

# %% tags=["setup"]
import numpy as np
import pandas as pd
import torch

import dmpo_explore as dx
from dmpo_explore.course import garment
from dmpo_explore.course.exercises.quickstart import check_1, check_2, check_3
from dmpo_explore.course.interactive import choice, live, numbers, slider, widgets
from dmpo_explore.course.moving import travel
from dmpo_explore.course.rivals import beside_rivals, random_mixture

run = dx.load_run("fashion")  # a trained model that comes with the project
record, calibration = run.record("test"), run.record("calibration")
records = {"calibration": calibration, "test": record}
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
).update_layout(title={"text": f"label: {names[record.labels[image]]}", "font": {"size": 15}, "x": 0.01})

# %% [markdown]
# Blue is correct, hatched orange is incorrect. The first exit is incorrect. The second is correct with low
# confidence, 55 %. The fourth is the most confident: a later exit is not always a more confident one.
#
# ## A threshold decides
#
# Computing all six exits takes the whole model's compute. So we stop at the first exit whose confidence reaches a
# threshold; the exits behind it, faint below, are never computed. (Compute is counted in FLOPs, additions and
# multiplications. 100 % is the plain backbone, the network without our parts. The exits' own FLOPs are counted too, so
# exit 6 takes 103 %.)
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
# these are the shares of *all* of a class at the threshold 0.7:

# %%
at = dx.fit_policy(calibration, threshold=0.7).exits(record)
classes = [names[label] for label in record.labels]
shares = pd.DataFrame({"beyond exit 1": at > 0, "at the last exit": at == record.n_exits - 1})
shares.groupby(classes).mean().sort_values("beyond exit 1").T.round(3)

# %% [markdown]
# Most images of every class exit at exit 1. Of trousers nearly all do; of shirts nearly a third continues. Shirts are
# first at the last exit, too, with 7 %. [08](08_which_images_exit_early.ipynb) looks at what these images have in
# common.
#
# ## Ten thousand images
#
# One image is no evidence. Which threshold is a good one? We set a target, *at most 30 % of the plain backbone's
# compute*, and fit the threshold on 5,000 calibration images. The test images take no part in that fit; only its result
# is read there.
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
# (A **95 % interval** is made so that in about 95 of 100 repetitions, with other images, it contains the true value.
# Here the images are drawn again and again with replacement, a *bootstrap*. The difference is computed each time, and
# 95 of 100 results lie in the interval. Where it includes 0, these images do not show a difference.)
#
# So: a quarter of the compute, and an accuracy that cannot be distinguished from the last exit's. 30 % is a limit:
# within it the fit takes the threshold with the best accuracy on calibration, here a cheaper one.
#
# But does it take a policy? A simpler way to save compute is to stop *all* images at the same exit. And does it take
# this method, DMPO? Two rivals have the same backbone and training images. `fashion-naive` has ordinary linear exits.
# `fashion-single` has no exits.
#
# A third rival is chance. It sends images drawn at random to exit 2 and stops the others at exit 1. It draws as many as
# make its compute *equal* to the policy's.
#
# **Predict.** Which is the cheapest fixed exit whose accuracy cannot be distinguished from the policy's? And how many
# points is the policy ahead of `fashion-naive`, and of chance?

# %%
naive, single = dx.load_run("fashion-naive"), dx.load_run("fashion-single").record("test")
naive_policy = dx.fit_policy(naive.record("calibration"), flops=0.30)  # the same budget, its own calibration images
naive_outcome = dx.apply(naive_policy, naive.record("test"))
used = summary["flops_fraction"]

rivals = {f"all at exit {k + 1}": (hits, record.flops_fraction[k]) for k, hits in enumerate(record.correct.T)}
rivals |= dict([random_mixture(record, used)])
rivals["fashion-naive"] = (naive_outcome.correct, naive_outcome.flops_fraction.mean())
rivals["fashion-single"] = (single.correct[:, 0], single.flops_fraction[0])
beside_rivals("policy", (correct, used), rivals).round(3)

# %% [markdown]
# Exit 2, with 91.1 % at 35 % of the compute; the policy needs 24 %. At exits 3, 5 and 6 the intervals include 0, too.
# Against exit 4 for all the policy loses 0.4 points: the best fixed exit (by these test images) is slightly better, at
# nearly three times the compute.
#
# The row *random* is the fair control: equal compute, but the images that go deeper are drawn. So choosing them by
# confidence gains 1.4 points here.
#
# `fashion-naive` is 1.3 points behind, though it uses more compute. At a budget of 20 % it is four points behind:
# [05](05_thresholds_and_compute.ipynb) draws the whole curve. From `fashion-single` at full compute the policy cannot
# be distinguished. These two rows are what the method claims. They are **preliminary**: one training of each model. The
# rival that is missing here, a shorter net without exits, stands in 05 as well.
#
# The first exit is good after two of twelve blocks: 89.3 %. In this model that exit has a *bypass*, a side path of its
# own ([02](02_bypass_decomposition.ipynb)), and reads how features vary together
# ([03](03_second_order_heads.ipynb)). The loss weights, the method's other half, are the question of
# [04](04_phase_schedule.ipynb).
#
# ## Watch them
#
# The first 40 test images, one after another, with that threshold. Where an image drops down, it exits; the blocks to
# the right are not computed for it. A solid blue frame is a correct prediction, a dashed orange one is incorrect.
#
# **Predict.** How many of the 40 will drop at exit 1?

# %%
travel(images, dx.apply(policy, record), range(40))

# %% [markdown]
# 34: 85 of 100 here, too. Four exit at exit 2. Two travel farther, and both are incorrect where they exit.
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
# **Novelty** compares the exits' scores with those of calibration images: 99 % means that 99 of 100 of those have
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
# It is a sandal for exit 1, and a sandal with 84 % for exit 2, where it exits. Exits 3 to 5 would make it a bag, exit 4
# at 98 %; the last one returns to a sandal, at 83 %. The exits contradict each other twice. (Bars are grey where the
# label is unknown.) The two drawings side by side:

# %%
drawn = {name: answers(garment.like_fashion_mnist(garment.uploaded((), name))) for name in ("T-shirt", "wheel")}
table = pd.DataFrame(index=list(drawn))
table["exits at exit"] = [fitted.exits(one)[0] + 1 for one in drawn.values()]
table["predictions"] = [", ".join(dict.fromkeys(names_of(one.prediction[0]))) for one in drawn.values()]
table["novelty"] = [f"{detector.score(one):.0%}" for one in drawn.values()]
table

# %% [markdown]
# A classifier has no answer "none of these". At its own exit the wheel's confidence, 84 %, does not warn. (At exit 1,
# where 85 of 100 test images exit, its 69 % is below the threshold.) The novelty does warn of this wheel: it is 100 %.
# The T-shirt's is 80 %, and it is a T-shirt for every exit. Two drawings are no test of the novelty score.
#
# Was your photo correct? If not, look at the small image first: is the piece whole, light on black, upright?
#
# A model for *your* classes: [07](07_your_own_images.ipynb).

# %% [markdown]
# ## Try it: three exercises
#
# Replace the three dots; the check shows whether your answer is correct.
#
# **1.** The policy is two points ahead of exit 1 for all images. That is a difference of two larger numbers. How many
# of the 10,000 test images are correct by the policy and incorrect at exit 1, and how many the other way round? Give
# both: `gained, lost`.

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `correct` is true where the policy is correct, `record.correct[:, 0]` where exit 1 is. `~mask` turns a mask round.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `a & ~b` is true where a is and b is not; the sum of a mask counts.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# first = record.correct[:, 0]
# answer_1 = (correct & ~first).sum(), (first & ~correct).sum()  # their difference is the two points
# ```
#
# </details>

# %% [markdown]
# **2.** *Overthinking*: exit 1 is correct and the last exit is incorrect. *Correction* is the opposite. Over all images
# the deeper exits correct more than they overthink. For which classes is it the other way round? Give the list of
# their names.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# Count both for the images of one class: `record.labels == c` is true for those of class c, and `names[c]` is its name.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Overthinking less correction is a difference of two columns of `record.correct`, summed over the class.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# first, last = record.correct[:, 0].astype(int), record.correct[:, -1].astype(int)
# lost = [(first - last)[record.labels == c].sum() for c in range(len(record.meta.class_names))]
# answer_2 = [name for name, number in zip(record.meta.class_names, lost) if number > 0]
# ```
#
# </details>

# %% [markdown]
# **3.** Another target: *as accurate as the last exit*. Write a function from a record to a threshold. On that record
# the policy with this threshold is at least as accurate as the last exit, at as little compute as possible. Your
# function is called with calibration records; the cell after the hints reads the test images, last.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `dx.trade_off(record)` is a table with a row per threshold: `threshold`, `accuracy`, `flops_fraction`. The last
# exit's accuracy is `record.correct[:, -1].mean()`.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Keep the rows that are accurate enough. Of these take the one with the smallest `flops_fraction`.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# def answer_3(record):
#     table = dx.trade_off(record)
#     enough = table[table["accuracy"] >= record.correct[:, -1].mean()]
#     return enough.sort_values("flops_fraction")["threshold"].iloc[0]
# ```
#
# </details>

# %% [markdown]
# **Test yours.** The library has this target, too: an accuracy drop of 0. The cell fits it on calibration and reads
# test. Once yours passes, it stands beside it.
#
# **Predict.** On calibration the threshold is as accurate as the last exit. Will it be on test?

# %%
targets = {"the library's": dx.fit_policy(calibration, accuracy_drop=0.0)}
if check_3(answer_3):
    targets |= {"yours": dx.fit_policy(calibration, threshold=float(answer_3(calibration)))}
rows = {}
for (name, chosen), (split, of) in [(one, other) for one in targets.items() for other in records.items()]:
    seen = dx.apply(chosen, of)
    over = "{:+.2f} [{:+.2f}, {:+.2f}]".format(
        *(100 * x for x in dx.bootstrap_difference(seen.correct, of.correct[:, -1]))
    )
    rows[name, split] = {"threshold": f"{chosen.thresholds[0]:.3f}", "points over the last exit": over}
    rows[name, split] |= {"compute": f"{seen.flops_fraction.mean():.1%}"}
pd.DataFrame(rows).T

# %% [markdown]
# No. On calibration the difference is 0, as it should be. On test the policy is 0.7 points *behind* the last exit, and
# the interval lies below 0. The target was met by the cheapest threshold of many. Such a choice favours one that was
# lucky on these images. What is *just* met on calibration leaves no room for that. Yours may have a slightly different
# threshold, for it searched a table of them; look at its row for test. [05](05_thresholds_and_compute.ipynb) and
# [Control a risk](../docs/control-a-risk.md) show how to leave some room.

# %% [markdown]
# ## What you cannot conclude
#
# - *That DMPO beats naive exits by 1.3 points.* This is one data set, one backbone and one training of each model. The
#   interval is over images; another training would give another number.
# - *That it takes exits.* A shorter net without any may be as good: [05](05_thresholds_and_compute.ipynb) has that
#   rival.
# - *That a quarter of the FLOPs is a quarter of the seconds*: small batches, memory, and images that are removed from a
#   batch take time, too.
# - *That a confident prediction is a correct one.* Look at the orange parts of the bars;
#   [05](05_thresholds_and_compute.ipynb) measures how far confidence can be trusted.
# - *That this threshold suits other images.* It was fitted and tested on images of one distribution. Your photo is not
#   of that distribution, however carefully it is cut out.
#
# ## Words
#
# | word | here |
# |---|---|
# | backbone, block | the pre-trained network, and one of its twelve equal layers |
# | exit | a classifier behind a part of the network; as a verb: to stop there |
# | confidence | the softmax probability of the predicted class |
# | threshold | the confidence from which on an image exits |
# | compute | FLOPs of everything that ran, as a share of the plain backbone's |
# | calibration | images that thresholds are fitted on; nothing was trained on them |
# | 95 % interval | made so that in about 95 of 100 repetitions it contains the true value |
# | bootstrap | the same images drawn again with replacement, often, to see how far a result varies |
# | naive exits | linear exits with equal loss weights: the control |
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
