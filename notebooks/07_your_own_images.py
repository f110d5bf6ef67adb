# %% [markdown]
# # 7 · Your own images
#
# *I have a folder of images. How do I get from there to a threshold slider, and to an answer about a new image?*
#
# **Goal.** Check a folder of images and train DMPO and naive exits on it. Compare them with simpler models on a test
# split that is read once. Write the loop that runs no stage behind an image's exit. Learn the commands that do the
# same.
#
# **Time.** 40 minutes to read; about 90 with the build, the predictions and the exercises. Two minutes to run.
#
# **Before.** [00](00_quickstart.ipynb). Words are at the end and in the [glossary](../docs/glossary.md); the
# method is [DMPO](https://arxiv.org/abs/2511.03245).

# %% tags=["network"]
import dmpo_explore as dx

dx.course.network("all")

# %% [markdown]
# What the drawing shows is what a training on your own images builds, if you change nothing: the default config is
# DMPO, with bypass, second-order heads and two phases of loss weights.

# %% tags=["setup"]
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import dmpo_explore as dx
from dmpo_explore.course.exercises.your_own_images import check_1, check_2, check_3, check_build
from dmpo_explore.course.interactive import live, numbers, slider
from dmpo_explore.course.on_tokens import gain
from dmpo_explore.course.own_images import new_images, recorded, start, trained
from dmpo_explore.course.rivals import beside_rivals, points_ahead, random_mixture

FOLDER = None  # or "~/my-photos", a folder with one folder of images per class

images, what = start(FOLDER)
print(what)

# %% [markdown]
# ## A folder is a data set
#
# One subfolder per class is all it takes. **For your own images** write their folder into `FOLDER` above: all cells
# below run on them. The two trainings are then kept in `runs/`, beside that folder. The next time they are opened, not
# trained again. If you change a setting, the error names the folder to delete.
#
# Without it there are example images: six classes in `images/`, and five others of each in `new/`, which we keep for
# the end. They and the trainings go away with the notebook. Where Caltech-101 is on your computer they are photographs
# of it. Elsewhere, and on the saved page, they are **clothes**: bundled images of Fashion-MNIST, each of another piece,
# and only 28 pixels wide. Two classes are shoes, one is dresses; three are upper clothes that are hard to distinguish.
# All numbers in the texts below are those of the saved page; with other images the questions stay.
#
# Every image gets into one of four parts, always the same one. With `calibration=True` they have 60, 10, 10 and 20 %:
#
# | part | what it may decide |
# |---|---|
# | train | the weights |
# | val | which model, which exit, how many epochs |
# | calibration | the threshold |
# | test | nothing; it is read once, at the end |
#
# Why four? Whatever chooses on a part makes the numbers of that part too good. Of the 540 images of a class that train
# has here, we take 160, so that a CPU is done in a minute. Without `train_size` all are taken.

# %% tags=["setup"]
folder = str(images)
each = np.bincount(dx.load_images(folder, "train", calibration=True).labels)  # images of every class
data = dx.DataConfig(folder, train_size=len(each) * int(min(160, each.min())), calibration=True)
chosen = {"train_size": data.train_size, "calibration": True}
splits = {split: dx.load_images(folder, split, **chosen) for split in ("train", "val", "calibration", "test")}
per_class = {split: pd.Series(part.labels).value_counts().sort_index() for split, part in splits.items()}
classes = splits["train"].class_names
pd.DataFrame(per_class).set_axis(classes).T

# %% [markdown]
# **Check it before you train.** `dmpo-explore data images` looks for what spoils a training: unreadable files, the same
# image in two parts, classes that are too small. In Python:

# %%
check = dx.data.check_data(data)
print(f"{check.n_images} images, ready: {check.ready}, largest class over smallest: {check.imbalance:.2f}")
print("\n".join(finding.text for finding in check.findings) or "no findings")

# %% [markdown]
# No findings, for the 520 images of each class that are taken: the other 380 were not checked. And the check compares
# files. Two photographs of one object, from two sides, are two images to it. Only *you* can see which images belong
# together: they must be in the same part (exercise 2).
#
# **The model's input.** Every image is resized to a square and cut into patches of 14 pixels. The side is the simplest
# control of compute.
#
# **Predict.** From which side on can you tell what it is? How much compute does twice the side take?


# %% tags=["live"]
def model_input(image, side):
    pixels = splits["train"][image]
    resized = dx.data.make_transform(dx.Preprocess(side, mean=(0, 0, 0), std=(1, 1, 1)))(pixels)
    views = {"the file": pixels.mean(axis=-1), "the model's input": resized.mean(dim=0)}
    figure = dx.figures.matrix_figure(views, scale="image", shared=False)
    return figure, f"side {side}: {(side // 14) ** 2} patches, {3 * side**2:,} numbers"


every = slider("image", 0, len(splits["train"]) - 1, 100)
live(model_input, side=slider("side", 14, 112, 42, 14), image=every)


# %%
def compute_of(side):
    plain = dx.ModelConfig(image_size=side, weights="random")
    model, reference = dx.build_model(plain, len(each)), dx.models.build_reference(plain, len(each))
    flops = dx.models.measure_flops(model, reference).reference
    return {"patches": (side // 14) ** 2, "GFLOPs of the plain backbone": flops / 1e9}


pd.DataFrame({side: compute_of(side) for side in (42, 84)}).T.rename_axis("side").round(2)

# %% [markdown]
# Twice the side is four times the patches, and nearly four times the compute. From which side on can one tell what it
# is? At 42 the saved page's coat has its collar and both sleeves. A side of 14 has half of the file's pixels each way.
# In the coats that we tried the outline is still there, the buttons are not; from 28 on they are. The files of the
# clothes have 28 pixels. A larger side shows nothing that is not in them; it only gives finer patches. We take 42
# pixels, 9 patches, so that a CPU is done in a minute. Photographs hold more; for them a larger side may pay.
#
# ## Train: the method, and naive exits
#
# On the command line: `dmpo-explore train --data images --image-size 42 --exits 1,2,4,8 --epochs 2 --batch-size 32
# --no-flip --train-size 960 --calibration --name mine`. In Python the same thing is a config and one call, which
# returns the run. (The first time, 90 MB of backbone weights are fetched.)
#
# Is the method worth it on *your* images? That takes a second training, without its three parts: no bypass, linear
# predictors, uniform loss weights. Everything else is the same. Such a model is called *naive*.
#
# The exits come after blocks 1, 2, 4 and 8 of the twelve; blocks 9 to 12 are left out, so as to save time. If your
# photographs need more depth, leave `exits` out: then there are four, after blocks 3, 6, 9 and 12. The rows *ridge on
# block 2* and *ridge on block 8* below then read blocks 6 and 12.
#
# **Predict.** Guessing one class has one image in six correct. Exit 1 is one block deep: how many will it have correct
# in either model? And will the naive model's exit 4 be better or poorer than DMPO's?

# %% tags=["setup"]
config = dx.Config(
    data,
    dx.ModelConfig(exits=(1, 2, 4, 8), image_size=42),
    dx.TrainingConfig(epochs=2, batch_size=32, flip=False, precision="bf16"),
)
dx.fetch_weights(config.model.backbone)
runs = {"DMPO": trained(config, "mine")}
calibration = recorded(runs["DMPO"], "calibration")  # all exits' scores, once: dmpo-explore record mine

# %%
plain = replace(config.model, bypass="none", predictor="linear")
naive_config = replace(config, model=plain, training=replace(config.training, schedule="uniform"))
runs["naive"] = trained(naive_config, "naive")
recorded(runs["naive"], "calibration")
for run in runs.values():
    recorded(run, "val")
val = {name: run.record("val") for name, run in runs.items()}
dx.figures.depth_figure(
    {name: record.correct.mean(axis=0) for name, record in val.items()}, "accuracy on val"
).update_yaxes(range=[0.4, 1.02], tickformat=".0%")


# %%
dmpo_val, naive_val = (val[name].correct.T for name in ("DMPO", "naive"))
ahead = {f"exit {k + 1}": points_ahead(dmpo_val[k], naive_val[k], digits=1) for k in range(4)}
compute = {name: [f"{share:.0%}" for share in record.flops_fraction] for name, record in val.items()}
table = pd.DataFrame({"DMPO ahead by, points": ahead})
table.assign(**{f"compute of {name}": shares for name, shares in compute.items()})

# %% [markdown]
# Two of three at exit 1 for the naive model, three of four for DMPO. DMPO is 9.1 points ahead at exit 1, 9.6 at exit 2,
# 4.1 at exit 3, and at exit 4 no difference is shown. The brackets are a 95 % interval over the val images, from a
# *bootstrap* as in [00](00_quickstart.ipynb). DMPO's exits take slightly more compute, 1 to 3 points of the plain
# backbone's. One training of each: another seed may change it, and for your images only your own trainings can show it.
#
# `flip=False` (`--no-flip`) turns mirrored images off. Which augmentations keep the class depends on your images: a
# mirrored shoe is still a shoe, a mirrored digit or word is none. Whether mirroring helps, only a training shows.
#
# ## A threshold for a budget
#
# An image exits at the first exit whose confidence reaches the threshold. Drag it: the shares of each class move. This
# is read on calibration, where the threshold is chosen.
#
# **Predict.** Which classes will exit at exit 1, and which at the last?

# %% tags=["live"]
exit_names = [f"exit {k + 1}" for k in range(calibration.n_exits)]


def at(threshold):
    moved = dx.apply(dx.fit_policy(calibration, threshold=threshold), calibration)
    figure = dx.figures.class_exit_figure(calibration.labels, moved.exits, classes, exit_names)
    line = f"{moved.correct.mean():.0%} correct with {moved.summary()['flops_fraction']:.0%} of the compute"
    return figure, line


live(at, threshold=slider("threshold", 0.2, 1.0, 0.9, 0.01))

# %% [markdown]
# At 0.9 sneakers, dresses and sandals mostly exit at exit 1. Coats, pullovers and shirts are alike: most of them go to
# the last exit.
#
# Now give each model a budget: at most a quarter of the plain backbone's compute. (On the command line: `dmpo-explore
# evaluate mine --flops 0.25`, which fits on calibration and reads test.)

# %%
BUDGET = 0.25
policies = {name: dx.fit_policy(run.record("calibration"), flops=BUDGET) for name, run in runs.items()}
pd.Series({name: policy.thresholds[0] for name, policy in policies.items()}, name="threshold").to_frame().T.round(3)

# %% [markdown]
# ## What is simpler, and as good?
#
# An accuracy alone is hard to read. Before test is read, name the rivals:
#
# - the *naive* model, with a policy for the same budget;
# - a *fixed exit* for all images: the most accurate one on val within the budget;
# - a *random mixture* of two exits, with as much compute as the policy uses;
# - a **ridge** classifier, a linear model that is fitted in a second. It reads the *pixels* of the model's input, or
#   the *frozen* backbone before any training: the mean patch token behind block 2 or block 8. Its penalty is chosen on
#   the training images;
# - the **majority class**, the chance level. (Here all classes are equally large, so the first one, *Coat*, is taken.)
#
# **Predict.** Order them. Which of them will the policy not beat?

# %%
untrained = dx.build_model(config.model, len(classes)).eval()
prepare = dx.data.make_transform(untrained.preprocess)


@torch.no_grad()
def views(images):
    inputs = torch.stack([prepare(images[i]) for i in range(len(images))])
    tokens = [stage.tokens[:, 1:].mean(dim=1) for part in inputs.split(200) for stage in untrained.walk(part)]
    behind = {block: torch.cat(tokens[k::4]) for k, block in enumerate((1, 2, 4, 8))}
    found = {"pixels": inputs.mean(dim=1).flatten(1), "block 2": behind[2], "block 8": behind[8]}
    return {f"ridge on {name}": view.numpy() for name, view in found.items()}


def ridge(view, others):
    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 7)))
    return probe.fit(view, splits["train"].labels).predict(others)


within = val["DMPO"].flops_fraction <= BUDGET
fixed = int(np.where(within, val["DMPO"].correct.mean(axis=0), -1).argmax())
print("the fixed exit, chosen on val:", exit_names[fixed])

# %% [markdown]
# ## Test, once
#
# All choices are made. Here the models answer on test for the first time. Only the random mixture is set there, to the
# policy's compute:

# %%
tests = {name: recorded(run, "test") for name, run in runs.items()}
test, naive_test = tests["DMPO"], tests["naive"]
outcome, naive_outcome = (dx.apply(policies[name], tests[name]) for name in tests)
used = float(outcome.flops_fraction.mean())
seen, asked = views(splits["train"]), views(splits["test"])
read = {name: ridge(seen[name], asked[name]) == test.labels for name in seen}

# %%
plain_exits = naive_test.flops_fraction  # blocks and a linear layer, as a ridge behind a block takes
pixel_flops = 2 * seen["ridge on pixels"].shape[1] * len(classes)  # a multiplication and an addition per weight
compute = {"ridge on pixels": pixel_flops / naive_test.meta.reference_flops}
compute |= {"ridge on block 2": plain_exits[1], "ridge on block 8": plain_exits[3]}
fixed_for_all, majority = f"{exit_names[fixed]} for all", np.bincount(splits["train"].labels).argmax() == test.labels
rivals = {"naive, its policy": (naive_outcome.correct, naive_outcome.flops_fraction.mean())}
rivals |= {fixed_for_all: (test.correct[:, fixed], test.flops_fraction[fixed])}
rivals |= dict([random_mixture(test, used)])
rivals |= {name: (hits, compute[name]) for name, hits in read.items()} | {"majority class": (majority, 0.0)}


def interval_of(a, b, comparisons):
    """95 % for all of so many comparisons together (Bonferroni), in points."""
    points, z = 100 * (a.astype(float) - b), NormalDist().inv_cdf(1 - 0.025 / comparisons)
    half = z * points.std() / len(points) ** 0.5
    return f"[{points.mean() - half:+.1f}, {points.mean() + half:+.1f}]"


table = beside_rivals("DMPO, its policy", (outcome.correct, used), rivals, digits=1).round(3)
table.assign(**{"for twelve": ["", *(interval_of(outcome.correct, hits, 12) for hits, _ in rivals.values())]})

# %% [markdown]
# With a quarter of the compute the policy has 84 % of the test images correct. It is ahead of the naive model with the
# same budget by 4.4 points, and of exit 2 for all by 3.6. So in these two trainings the method is ahead of naive exits.
# (The naive policy even uses a little more than its budget: the threshold was fitted on other images.)
#
# Does choosing image by image pay? Exit 2 for all uses 19 % of the compute, the policy 25 %: that is not equal. The
# fair rival is the row *random*. It sends 31 % of the images, drawn at random, to exit 3 and stops the others at exit
# 2. That takes as much compute as the policy. It is 2.5 points behind, and the interval lies above 0.
#
# But these are seven comparisons, and the next section makes five more. Twelve at once ask for wider intervals: 2.9
# standard errors to each side in place of 1.96 (Bonferroni). They are the last column. All but the one of block 8 lie
# above 0 there, too. Those of the random row and of block 2 begin close to it.
#
# A ridge behind block 2 takes two blocks and a linear layer, 17.5 % of the compute, and nothing of the backbone was
# trained. It has 81.0 % correct. DMPO's exit 2 has 80.7 % with 19.3 %. A difference of 0.3 points is far less than
# these intervals can show. So for exit 2 alone no gain of the training is shown over a ridge.
#
# And the policy is not shown to beat a ridge on the *pre-trained*, untuned backbone behind block 8: that interval
# includes 0. But that ridge needs all eight blocks for every image, two thirds of the compute. What the policy is shown
# to save is compute. Compare with your images; with photographs the order may be another one.
#
# ## The rival without a network
#
# One row deserves a second look. The ridge on *pixels* runs no part of the network: it multiplies 42 · 42 grey values
# by the weights of six classes. That is 0.021 MFLOPs, rounded to 0 in the table; the plain backbone takes 431.
#
# **Predict.** Which of these is shown to be better than that ridge: any of DMPO's four exits, the naive policy, DMPO's
# policy?

# %%
on_pixels = read["ridge on pixels"]
print(f"ridge on pixels: {on_pixels.mean():.1%} correct with {compute['ridge on pixels']:.3%} of the compute,", end=" ")
print(f"{pixel_flops / 1e6:.3f} of {naive_test.meta.reference_flops / 1e6:.0f} MFLOPs")
beside = {f"DMPO, {exit_names[k]} for all": (test.correct[:, k], test.flops_fraction[k]) for k in range(4)}
beside |= {"naive, its policy": rivals["naive, its policy"], "DMPO, its policy": (outcome.correct, used)}
rows = {name: {"accuracy": hits.mean(), "compute": took} for name, (hits, took) in beside.items()}
over = {name: points_ahead(hits, on_pixels, digits=1) for name, (hits, _) in beside.items()}
wider = {name: interval_of(hits, on_pixels, 12) for name, (hits, _) in beside.items()}
pd.DataFrame(rows).T.round(3).assign(**{"over the ridge on pixels, points": over, "for twelve": wider})

# %% [markdown]
# Exits 3 and 4 are, and DMPO's policy: 4.6 to 4.8 points, also by the interval for twelve. The others are not. The
# naive policy uses a quarter of the compute, and 0.5 points ahead [−1.9, +2.8] is no difference shown. Exit 2 is 1.2
# points ahead [−0.9, +3.2], exit 1 is 1.3 behind [−3.6, +0.8]. So the first two exits, one and two blocks deep, are not
# shown to gain anything over a linear model of pixels.
#
# How can pixels do so well? These garments are grey, upright, centred and of one size. A pixel means much the same in
# all of them, and a linear model can use that. And the network is a toy: four of its twelve blocks are left out, an
# image has nine patches, and it had two epochs of 960 images.
#
# **With your own images, begin with this row**: on val, before any threshold is chosen. Take `views(splits["val"])` in
# place of those of test. If your exits are level with it, more images, more epochs, a larger side or deeper exits may
# help. If they stay level, use the ridge. It takes a twenty-thousandth of the backbone's compute. And a ridge is not
# the strongest model of pixels: name another, such as an SVM, among your rivals.
#
# And photographs? A benchmark of the repository has a ridge on the pixels of Caltech-101: 101 classes, 2,500 training
# images of 98 pixels, the 867 val images, one training ([Photographs](../benchmarks/PHOTOS.md)). Both in one figure:

# %%
photos = dx.course.study_table("photos-pixels")
photos["question"] = "photographs, " + photos["question"]
clothes = [gain(f"clothes, exit {k + 1}", test.correct[None, :, k], on_pixels[None]) for k in range(4)]
figure = dx.figures.gains_figure(pd.concat([pd.DataFrame(clothes), photos])).update_layout(height=340)
figure.update_xaxes(title="points of accuracy over a ridge on pixels")

# %% [markdown]
# On these photographs a ridge on pixels is far behind: exit 1 is 35 points ahead of it on val, exit 4 is 53. Things in
# photographs differ in place, size and background, so a single pixel means little. That exits 1 and 2 are not shown to
# beat it belongs to the clothes. Your images may lie anywhere between, and the row takes seconds to measure.
#
# (One training on each. The network for photographs has all twelve blocks, and exits after 3, 6, 9 and 12. So its exit
# 1 is deeper than exit 2 here.)

# %% tags=["numbers"]
numbers(
    training_images=len(splits["train"]),
    validation_images=len(splits["val"]),
    calibration_images=len(splits["calibration"]),
    test_images=test.n_images,
    flops_of_exit_1=float(test.flops_fraction[0]),
    flops_of_exit_4=float(test.flops_fraction[-1]),
)

# %% [markdown]
# ## Images that it has never read
#
# `new/` has five images of each class that no training and no threshold has read. It is a rehearsal of use: files in,
# answers out. A record has the scores of all exits. In use there is no record, and the point is *not* to compute all
# exits. So:
#
# **Build it.** `model.walk(images)` runs the stages one after another, lazily: a stage runs when its output is taken
# from the iterator. Write the loop for one image that ends at its exit. Replace the dots; the cell below the hints has
# a solution.


# %% tags=["build"]
def exit_early(model, image, threshold):
    # image: (3, side, side). model.walk takes a batch (B, 3, side, side); an output has .logits (B, classes).
    # Exit where the largest softmax probability first reaches the threshold, else at the last exit.
    # Return the class and the exit, two whole numbers counted from 0. Stages behind that exit must not run.
    return ...


check_build(exit_early)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `for exit, output in enumerate(model.walk(image[None])):` takes one output after another. A `return` in it
# leaves the rest uncomputed; `list(...)` would compute all of them.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# `output.logits.softmax(dim=-1)[0]` has the probabilities. Return from inside the loop if the largest one reaches the
# threshold, or if this is the last exit: `exit == model.n_exits - 1`. Put `torch.no_grad()` around it.
#
# </details>


# %% tags=["build", "solution"]
def solution(model, image, threshold):
    with torch.no_grad():
        for exit, output in enumerate(model.walk(image[None])):
            probability = output.logits.softmax(dim=-1)[0]
            if probability.max() >= threshold or exit == model.n_exits - 1:
                return int(probability.argmax()), exit


exit_early = exit_early if check_build(exit_early) else solution
check_build(exit_early)

# %% [markdown]
# The library's loop, `dx.infer`, does it for a batch: images that have exited are removed from it. Here both run on the
# new images:

# %%
model, policy = runs["DMPO"].model(device="cpu"), policies["DMPO"]
transform = dx.data.make_transform(model.preprocess)
new = new_images(images, splits["test"])  # where `new/` is missing, five test images of each class
pixels = torch.stack([transform(image) for image in new.values()])
result = dx.infer(model, pixels, policy)  # runs no stage behind an image's exit
yours = [exit_early(model, image, policy.thresholds[0]) for image in pixels]
assert yours == list(zip(result.label.tolist(), result.exit.tolist(), strict=True))  # the same classes and exits
answers = pd.DataFrame(
    {
        "predicted": np.array(classes)[result.label],
        "exit": result.exit + 1,
        "confidence": result.confidence.round(2),
    },
    index=list(new),
)
print(sum(row.predicted == name.split("/")[0] for name, row in answers.iterrows()), "of", len(answers), "are correct")
answers.iloc[::5]

# %% [markdown]
# Of the thirty new images 25 are correct. (Thirty are too few to conclude more.)
#
# On the command line: `dmpo-explore predict mine new --flops 0.25`, for files of any folder.
#
# ## The app, and other machines
#
# `dmpo-explore app` (or `scripts/app`) opens all runs under `runs/` in the browser: drag the threshold and see *which*
# of your images exit where. Start it in the folder where you trained, or point `DMPO_EXPLORE_RUNS` to it.
#
# `dmpo-explore export mine --out exported` writes ONNX files that run without torch (it needs
# `pip install "dmpo-explore[onnx]"`); `dx.OnnxEngine` runs no stage behind an image's exit, as the model does here.
#
# [Several GPUs](../docs/scale.md) train one run with one process each.
#
# ## Try it: three exercises
#
# **1.** *How many test images do you need?* Write a function of two arrays (B,) bool and of a gain in points. The
# arrays hold whether each image is correct under a, and under b. The 95 % interval of the difference is 1.96 standard
# errors to each side. For how many test images is that no larger than the gain? (Images are paired: both models answer
# the same ones.)

# %% tags=["exercise"]
answer_1 = ...  # called as answer_1(outcome.correct, test.correct[:, fixed], 1.0)
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# For each image the difference is 1, 0 or −1. What is the standard error of its mean over n images?
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# A gain of one point is 0.01. n grows with the square of what you want to see: half the gain takes four times as many.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# def answer_1(a, b, gain):
#     deviation = 100 * (a.astype(float) - b).std()  # in points, of a single image
#     return int(np.ceil((1.96 * deviation / gain) ** 2))
# ```
#
# </details>

# %% [markdown]
# **2.** *Images that belong together.* Ten photographs of one dog must not be divided between train and test. Write a
# function of groups (B,), the number of the object that each image shows, a share, and a seed. It returns a mask (B,):
# True for test. No group is in both, the mask has the share of the *images* as nearly as 5 points, and another seed
# gives another mask. Groups differ in size: some objects have one image, some forty.

# %% tags=["exercise"]
answer_2 = ...  # called as answer_2(groups, 0.2, 0)
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# Do not draw images, draw groups. A fifth of the groups is not a fifth of the images.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Go through the groups in a random order and take one if the images so far, with it, are not too many.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# def answer_2(groups, share, seed):
#     names, sizes = np.unique(groups, return_counts=True)
#     taken, room = [], share * len(groups)
#     for i in np.random.default_rng(seed).permutation(len(names)):
#         if sizes[i] <= room:
#             taken.append(names[i])
#             room -= sizes[i]
#     return np.isin(groups, taken)
# ```
#
# </details>

# %% [markdown]
# **3.** Most comparisons above have an interval by `dx.bootstrap_difference`. Write it yourself, the *paired
# bootstrap*: a function of two arrays, (B,) bool: whether each image is correct under a, and under b. Draw B images
# with replacement, 2,000 times; each time take the accuracy of a less that of b *on the same drawn images*. It returns
# three numbers: the difference on the images themselves, then the 2.5 % and the 97.5 % quantile of the 2,000.

# %% tags=["exercise"]
answer_3 = ...  # called as answer_3(outcome.correct, test.correct[:, fixed])
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `np.random.default_rng(0).integers(B, size=(2000, B))` has the numbers of the drawn images, a row per resample.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# *Paired* means that a row indexes both arrays, or their difference: `a.astype(float) - b` is 1, 0 or −1 for an image.
# `np.quantile(values, [0.025, 0.975])` has both ends.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# def answer_3(a, b):
#     difference = a.astype(float) - b
#     drawn = np.random.default_rng(0).integers(len(a), size=(2000, len(a)))
#     low, high = np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975])
#     return difference.mean(), low, high
# ```
#
# </details>

# %% [markdown]
# **Use yours.** Once they pass, this cell takes yours; until then the library's interval and the solution of exercise
# 1. Beside it stands the interval that a and b would have if each drew images of its own, *unpaired*.
#
# **Predict.** Is the paired interval the narrower one in all three rows? And how many test images would show one point?


# %%
def needed(a, b, gain):
    return int(np.ceil((1.96 * 100 * (a.astype(float) - b).std() / gain) ** 2))


def unpaired(a, b):
    draws = [np.random.default_rng(seed).binomial(len(x), x.mean(), 2000) / len(x) for seed, x in enumerate((a, b))]
    return a.mean() - b.mean(), *np.quantile(draws[0] - draws[1], [0.025, 0.975])


interval = answer_3 if check_3(answer_3) else dx.bootstrap_difference
enough = answer_1 if check_1(answer_1) else needed
rows = {}
for name in ("naive, its policy", fixed_for_all, "majority class"):
    a, b = outcome.correct, rivals[name][0]
    found = {
        kind: [100 * part for part in how(a, b)] for kind, how in {"paired": interval, "unpaired": unpaired}.items()
    }
    rows[name] = {kind: "{:+.1f} [{:+.1f}, {:+.1f}]".format(*of) for kind, of in found.items()}
    rows[name] |= {f"width, {kind}": round(of[2] - of[1], 1) for kind, of in found.items()}
    rows[name]["images for one point"] = enough(a, b, 1.0)
print(f"the policy has {outcome.correct[majority].mean():.0%} of the majority class correct,", end=" ")
print(f"{outcome.correct[~majority].mean():.0%} of the others")
pd.DataFrame(rows).T

# %% [markdown]
# Not in all. Policy and exit 2 tend to be correct on the same images, the two models' policies, too. What they share
# cancels, and the paired interval is two thirds as wide. But the policy has 74 % of the majority class correct, and 86
# % of the other classes. So it tends to be incorrect where that baseline is correct, and the paired interval is the
# *wider* one. Pairing is no trick to narrow an interval. It belongs in all rows, because the images are the same.
#
# And to show a single point over exit 2 for all, 1,080 images are not enough: it takes four thousand.
#
# ## What you cannot conclude
#
# - *That your model is this good.* Report an interval (`dx.bootstrap_difference`), and the number of test images.
# - *That DMPO beats naive exits by this much.* One training of each: another seed moves both. The interval is over
#   images only.
# - *That choosing image by image pays by this much.* It is 2.5 points ahead of a random choice, in one training. Even
#   the same seed trains a little differently on another computer.
# - *That a random division is a fair test.* If several images show the same thing, put them into one part yourself:
#   make folders `train`, `val`, `calibration` and `test`.
# - *That you may go back now.* Who changes a choice after reading test has made it a second val.
# - *That clothes of 28 pixels stand for photographs.* Depth, size of the input and baselines differ there. Exit 2 is
#   not shown to beat a ridge on pixels here; there exit 1 is far ahead of one.
#
# ## Words
#
# | word | here |
# |---|---|
# | train, val, calibration, test | to learn from; to choose a model on; to fit thresholds on; to read last |
# | naive | linear exits with equal loss weights, without bypass |
# | ridge | a linear classifier with a penalty on its squared weights |
# | baseline | the simplest model that a result is compared with: a class, a linear model |
# | 95 % interval | made so that in about 95 of 100 repetitions it contains the true value; here by a *bootstrap* (00) |
# | record | the scores of all exits for a part, computed once |
# | policy | the rule that decides at which exit an image exits |
# | flip | training on mirrored images as well |
# | export | the model as files for another machine |
#
# ## References
#
# - The method: [Decoupled Multi-Predictor Optimization](https://arxiv.org/abs/2511.03245), ICCV 2025.
# - The tuning: [LoRA](https://arxiv.org/abs/2106.09685), Hu et al. 2021.
# - Budgets for a batch of images: [MSDNet](https://arxiv.org/abs/1703.09844), Huang et al. 2018.
# - The images: [Caltech-101](https://doi.org/10.22002/D1.20086), CC BY 4.0, where it is on your computer; else
#   [Fashion-MNIST](https://arxiv.org/abs/1708.07747), MIT licence.
#
# Next: [08 · Which images exit early, and why?](08_which_images_exit_early.ipynb)
