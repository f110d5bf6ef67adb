# %% [markdown]
# # 7 · Your own images
#
# *I have a folder of images. How do I get from there to a threshold slider?*
#
# **Goal.** Train an early-exit model on a folder of images, record it, evaluate it, open it in the app: in Python, and
# on the command line.
# **Time.** 10 minutes to read, a minute to run.
# **Before.** [00](00_quickstart.ipynb).

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

import pandas as pd

import dmpo_explore as dx
from dmpo_explore.course.exercises.your_own_images import check_1, check_2, check_3
from dmpo_explore.course.interactive import live, numbers, slider
from dmpo_explore.course.own_images import make_images

workspace = tempfile.TemporaryDirectory()  # goes away with this notebook; for real work, stay in your own folder
os.chdir(workspace.name)
os.environ["DMPO_EXPLORE_RUNS"] = "runs"
folder = make_images(Path("images"))

# %% [markdown]
# ## A folder is a data set
#
# One subfolder per class is all it takes. (We saved 400 of scikit-learn's digits there; put your own images instead.)
# Without folders named `train`, `val` and `test` the images are divided 80/10/10, always in the same way.

# %%
splits = {split: dx.load_images("images", split) for split in ("train", "val", "test")}
per_class = {split: pd.Series(images.labels).value_counts().sort_index() for split, images in splits.items()}
pd.DataFrame(per_class).set_axis(splits["train"].class_names).T

# %% [markdown]
# **The model's input.** Every image is resized to a square and cut into patches of 14 pixels. The side is the simplest
# control of compute.
#
# **Predict.** The files have 8 × 8 pixels. At which side is the digit as clear as in the file? How much compute does
# twice the side take?


# %% tags=["live"]
def model_input(image, side):
    pixels = dx.load_images("images", "train")[image]
    resized = dx.data.make_transform(dx.Preprocess(side, mean=(0, 0, 0), std=(1, 1, 1)))(pixels)
    views = {"the file": pixels[..., 0], "the model's input": resized[0]}
    figure = dx.figures.matrix_figure(views, scale="image", shared=False)
    return figure, f"side {side}: {(side // 14) ** 2} patches, {3 * side**2:,} numbers"


live(model_input, side=slider("side", 14, 112, 42, 14), image=slider("image", 0, 300, 17))

# %% [markdown]
# ## Train
#
# On the command line: `dmpo-explore train --data images --image-size 42 --epochs 2 --batch-size 32 --name mine`. In
# Python the same thing is a config and one call, which returns the run. (The first time, 90 MB of backbone weights are
# fetched.)
#
# **Predict.** The backbone was trained on photographs, never on 8 × 8 digits, and stays frozen. How many of the ten
# classes will the four exits distinguish after two epochs on 320 images: half of them, or nearly all?

# %%
config = dx.Config(
    dx.DataConfig("images"), dx.ModelConfig(image_size=42), dx.TrainingConfig(epochs=2, batch_size=32, flip=False)
)
dx.fetch_weights(config.model.backbone)
run = dx.train(config, "mine")
dx.figures.history_figure(run.history())

# %% [markdown]
# `flip=False` is not a detail: a mirrored digit is another digit, or none. Which augmentations
# keep the class depends on your images.
#
# ## Record, then evaluate
#
# Recording runs all exits over a split, once: `dmpo-explore record mine`. After that the model is not needed any more.

# %%
for split in ("val", "test"):
    dx.record_run(run, split)
dx.figures.trade_off_figure({"mine, on test": dx.trade_off(run.record("test"))})

# %% [markdown]
# Every step of this staircase is one of 40 test images, so do not read much into it. These digits are easy: the first
# exit is nearly always correct. The FLOPs of every exit were counted too; they do not depend on the training:

# %% tags=["numbers"]
test = run.record("test")
numbers(
    training_images=len(splits["train"]),
    validation_images=len(splits["val"]),
    test_images=test.n_images,
    flops_of_exit_1=float(test.flops_fraction[0]),
    flops_of_exit_4=float(test.flops_fraction[-1]),
)

# %% [markdown]
# The same on the command line. Thresholds from val, evaluated on test:

# %%
# !dmpo-explore evaluate mine --flops 0.5

# %% [markdown]
# And new images, from any folder, by the early-exit loop:

# %%
# !dmpo-explore predict mine images/seven --flops 0.5 2> predict.log | head -6

# %% [markdown]
# ## The app
#
# `dmpo-explore app` (or `scripts/app`) opens all runs under `runs/` in the browser: drag the threshold and see *which*
# of your images exit where. Start it in the folder where you trained, or point `DMPO_EXPLORE_RUNS` to it.
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
# **1.** If `make_images` had saved 1,000 images, how many would be for training? (It takes `count=`; use another
# folder.)

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# **2.** Write the command line, as a string, that trains on the folder `images` for one epoch, with exits behind
# blocks 4, 8 and 12, as the run `three`. `!dmpo-explore train --help` lists the options.

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** The compute of a ViT grows with every patch. How many times as many patches does an image have at a side of
# 112 pixels as at 42?

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - *That your model is this good.* There are 40 test images, so one of them is 2.5 points. Report an interval
#   (`dx.bootstrap_difference`) or collect more.
# - *That a random division is a fair test.* If several images show the same thing, put them into the same split
#   yourself: make folders `train`, `val`, `test`.
# - *That fewer FLOPs are worth it.* For ten classes of digits a linear model would do; try one before you train this.
# - *That more processes learn more.* They are faster, where there are cores or GPUs for them; nothing else.
#
# That was the path. Back to the [overview](README.md).
