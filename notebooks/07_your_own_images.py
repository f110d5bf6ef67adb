# %% [markdown]
# # 7 · Your own images
#
# *I have a folder of photographs. How do I get from there to a threshold slider, and to an answer about a new
# photograph?*
#
# **Goal.** Check a folder of images, train an early-exit model on it, record it, evaluate it, predict images that it
# has never seen, open it in the app and deploy it: in Python, and on the command line.
#
# **Time.** 20 minutes to read and answer, about two minutes to run.
#
# **Before.** [00](00_quickstart.ipynb). The method is [DMPO](https://arxiv.org/abs/2511.03245); words stand at the end.

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/07_your_own_images.ipynb)

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
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

import dmpo_explore as dx
from dmpo_explore.course.exercises.your_own_images import check_1, check_2, check_3
from dmpo_explore.course.interactive import live, numbers, slider
from dmpo_explore.course.own_images import make_images

workspace = tempfile.TemporaryDirectory()  # goes away with this notebook; for real work, stay in your own folder
os.chdir(workspace.name)
os.environ["DMPO_EXPLORE_RUNS"] = "runs"
print(make_images(Path(".")))

# %% [markdown]
# ## A folder is a data set
#
# One subfolder per class is all it takes. Above, a hundred images a class were saved in `images/`, and five others of
# each in `new/`, which we keep for the end. Where Caltech-101 is on your computer they are photographs of it.
# Elsewhere, and on the saved page, they are **cuts of six pictures**, each picture a class: brick, grass, gravel,
# coffee, coins, the moon. Put your own images there instead. Without folders named `train`, `val` and `test` the
# images are divided 80/10/10, always in the same way.

# %%
splits = {split: dx.load_images("images", split) for split in ("train", "val", "test")}
per_class = {split: pd.Series(images.labels).value_counts().sort_index() for split, images in splits.items()}
pd.DataFrame(per_class).set_axis(splits["train"].class_names).T

# %% [markdown]
# **Check it before you train.** `dmpo-explore data images` looks for what spoils a training: unreadable files, the same
# image in two splits, classes that are too small. In Python:
#
# **Predict.** Our cuts overlap, and those of a class come from one picture. Will the check report it?

# %%
check = dx.data.check_data(dx.DataConfig("images"))
print(f"{check.n_images} images, ready: {check.ready}, largest class over smallest: {check.imbalance}")
print("\n".join(finding.text for finding in check.findings) or "no findings")

# %% [markdown]
# No findings. The check compares whole files and looks. Two cuts that share half of their pixels are two images to
# it. Only *you* know which images belong together. Keep that in mind for the test accuracy below.
#
# **The model's input.** Every image is resized to a square and cut into patches of 14 pixels. The side is the simplest
# control of compute.
#
# **Predict.** From which side on can you tell what it is? How much compute does twice the side take?


# %% tags=["live"]
def model_input(image, side):
    pixels = dx.load_images("images", "train")[image]
    resized = dx.data.make_transform(dx.Preprocess(side, mean=(0, 0, 0), std=(1, 1, 1)))(pixels)
    views = {"the file": pixels.mean(axis=-1), "the model's input": resized.mean(dim=0)}
    figure = dx.figures.matrix_figure(views, scale="image", shared=False)
    return figure, f"side {side}: {(side // 14) ** 2} patches, {3 * side**2:,} numbers"


every = slider("image", 0, len(dx.load_images("images", "train")) - 1, 100)
live(model_input, side=slider("side", 14, 112, 42, 14), image=every)

# %% [markdown]
# Twice the side is four times the patches, and at least four times the compute. We take 42 pixels here, 9 patches, so
# that a CPU is done in a minute.
#
# ## Train
#
# On the command line: `dmpo-explore train --data images --image-size 42 --epochs 1 --batch-size 32 --no-flip --name
# mine`. In Python the same thing is a config and one call, which returns the run. (The first time, 90 MB of backbone
# weights are fetched.)
#
# **Predict.** The backbone stays frozen; a small tuning and four exits are trained, for one epoch on 480 images. How
# many of the 60 validation images will the first exit have correct: a third, or nearly all?

# %%
config = dx.Config(
    dx.DataConfig("images"), dx.ModelConfig(image_size=42), dx.TrainingConfig(epochs=1, batch_size=32, flip=False)
)
dx.fetch_weights(config.model.backbone)
run = dx.train(config, "mine")
run.history().filter(like="accuracy").tail(1).T.set_axis(["validation, after the last epoch"], axis=1)

# %% [markdown]
# Nearly all: one epoch is enough for these cuts, already at the first exit. (Of photographs it is not.)
#
# `flip=False` (`--no-flip`) turns mirrored images off in both ways of training, so that the two commands do the same.
# Which augmentations keep the class depends on your images: a mirrored brick is a brick, a mirrored digit is none.
#
# ## Record, then evaluate
#
# Recording runs all exits over a split, once: `dmpo-explore record mine`. After that the model is not needed any more.

# %%
for split in ("val", "test"):
    dx.record_run(run, split)
test = run.record("test")
by_exit = {"mine, on test": test.correct.mean(axis=0)}
dx.figures.depth_figure(by_exit, "accuracy").update_yaxes(range=[0.4, 1.02], tickformat=".0%")

# %% [markdown]
# A flat line: the first exit has all 60 test images correct, so nothing is left for later ones to gain. Where later
# exits gain, `dx.figures.trade_off_figure` draws accuracy over compute, and the app has it as a slider. Thresholds
# are fitted on val and applied to test. (On the command line: `dmpo-explore evaluate mine --flops 0.5`.)

# %%
policy = dx.fit_policy(run.record("val"), flops=0.5)
summary = dx.apply(policy, test).summary()
pd.Series({name: summary[name] for name in ("images", "accuracy", "flops_fraction", "mean_exit")}, name="test").round(3)

# %% tags=["numbers"]
numbers(
    training_images=len(splits["train"]),
    validation_images=len(splits["val"]),
    test_images=test.n_images,
    flops_of_exit_1=float(test.flops_fraction[0]),
    flops_of_exit_4=float(test.flops_fraction[-1]),
)

# %% [markdown]
# ## Images that it has never seen
#
# The test split is drawn from the same folder. The honest question is another one: `new/` holds images that no
# training, validation or threshold has read (of the six pictures: cuts from the right quarter, from which no cut to
# train on is).
#
# **Predict.** Will the accuracy on them be that of the test split?

# %%
model = run.model(device="cpu")
transform = dx.data.make_transform(model.preprocess)
files = sorted(Path("new").glob("*/*.png"))
pixels = torch.stack([transform(np.asarray(Image.open(file).convert("RGB"))) for file in files])
result = dx.infer(model, pixels, policy)  # stops at each image's exit
labels = np.array([test.meta.class_names.index(file.parent.name) for file in files])
answers = pd.DataFrame(
    {
        "class": np.array(test.meta.class_names)[labels],
        "predicted": np.array(test.meta.class_names)[result.label],
        "exit": result.exit + 1,
        "confidence": result.confidence.round(2),
    },
    index=[file.name for file in files],
)
answers.iloc[::5]

# %%
correct = result.label == labels
pd.Series({"new images": correct.mean(), "test split": dx.apply(policy, test).correct.mean()}, name="accuracy").round(2)

# %% [markdown]
# All thirty cuts are correct, and all exit at exit 1: six textures are easy. That is no proof of 100 %. With thirty
# of thirty correct, the true accuracy is above 90 % with 95 % confidence (the *rule of three*: 1 − 3/30), for other
# cuts of *these six pictures*. The honest test of a brick detector is another wall. With photographs of Caltech-101
# every image is another object, and the numbers are lower.
#
# On the command line: `dmpo-explore predict mine new --flops 0.5`, for files of any folder.
#
# ## The app, and other machines
#
# `dmpo-explore app` (or `scripts/app`) opens all runs under `runs/` in the browser: drag the threshold and see *which*
# of your images exit where. Start it in the folder where you trained, or point `DMPO_EXPLORE_RUNS` to it.
#
# `dmpo-explore export mine --output exported` writes ONNX files that run without torch (it needs
# `pip install "dmpo-explore[onnx]"`); `dx.OnnxEngine` stops at each image's exit as the model does here.
#
# ## Several processes
#
# `torchrun` starts one process per GPU; each takes its share of every batch. It works on a CPU too. Here is one epoch
# of a tiny model in two processes:

# %%
# !OMP_NUM_THREADS=1 python -m torch.distributed.run --standalone --nproc_per_node 2 -m dmpo_explore.cli train \
#     --data images --backbone test_vit --weights random --image-size 32 --exits 2 --epochs 1 \
#     --no-flip --device cpu --name two > train.log 2>&1 || cat train.log
print("there are now the runs", sorted(p.name for p in Path("runs").iterdir()))

# %% [markdown]
# Two processes, one run. `batch_size` counts the images of all processes together, so the same command trains the
# same model on more of them. (`accelerate launch --cpu --num_processes 2` looks alike but starts a single process.)
#
# ## Try it: three exercises
#
# **1.** If `make_images` had saved 50 images a class, how many would be for training? (It takes `count=`; use another
# folder.)

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# There are six classes.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Eight of ten images are for training, class by class.
#
# </details>
#
# <details markdown="1"><summary>Solution 1</summary>
#
# ```python
# answer_1 = 6 * 50 * 8 // 10
# ```
#
# </details>

# %% [markdown]
# **2.** Write the command line, as a string, that trains on the folder `images` for one epoch, with exits behind
# blocks 4, 8 and 12, without mirrored images, as the run `three`. `!dmpo-explore train --help` lists the options.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# `--exits` takes block numbers with commas between them.
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# The command under *Train* has nearly all of it: another `--name`, and `--exits`.
#
# </details>
#
# <details markdown="1"><summary>Solution 2</summary>
#
# ```python
# answer_2 = "dmpo-explore train --data images --exits 4,8,12 --epochs 1 --no-flip --name three"
# ```
#
# </details>

# %% [markdown]
# **3.** The compute of a ViT grows with every patch. How many times as many patches does an image have at a side of
# 112 pixels as at 42?

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# <details markdown="1"><summary>Hint 1</summary>
#
# How many patches of 14 pixels are there along each side?
#
# </details>
#
# <details markdown="1"><summary>Hint 2</summary>
#
# Eight along one side, three along the other; square both.
#
# </details>
#
# <details markdown="1"><summary>Solution 3</summary>
#
# ```python
# answer_3 = (112 // 14) ** 2 / (42 // 14) ** 2
# ```
#
# </details>

# %% [markdown]
# ## What you cannot conclude
#
# - *That your model is this good.* There are 60 test images, so one of them is 1.7 points. Report an interval
#   (`dx.bootstrap_difference`) or collect more.
# - *That a random division is a fair test.* If several images show the same thing, as our cuts do, put them into the
#   same split yourself: make folders `train`, `val`, `test`.
# - *That fewer FLOPs are worth it.* For six textures a small model would do; try one before you train this.
# - *That more processes learn more.* They are faster, where there are cores or GPUs for them; nothing else.
#
# ## Words
#
# | word | is |
# |---|---|
# | train, val, test | images to learn from; to choose and fit thresholds on; to read last |
# | record | the scores of all exits for a split, computed once |
# | policy | the rule that decides at which exit an image stops |
# | flip | training on mirrored images as well |
# | export | the model as files for another machine |
#
# **To read on.** [DMPO](https://arxiv.org/abs/2511.03245) · [Caltech-101](https://doi.org/10.22002/D1.20086) · [the
# pictures of scikit-image](https://scikit-image.org/docs/stable/api/skimage.data.html) · [LoRA, the
# tuning](https://arxiv.org/abs/2106.09685)
#
# Next: [08 · Which images exit early, and why?](08_which_images_exit_early.ipynb)
