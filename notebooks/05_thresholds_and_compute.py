# %% [markdown]
# # 5 · Thresholds and compute
#
# *Which policy decides when to stop, how good is that decision, and how much compute is really used?*
#
# **Goal.** Compare exit policies, fit them on validation images, set planned against used compute, and see how far
# confidence can be trusted at each exit.
# **Time.** 20 minutes to read, half a minute to run.
# **Before.** [00](00_quickstart.ipynb).

# %% [markdown] tags=["colab"]
# [Open in Colab](https://colab.research.google.com/github/-owner-/dmpo-explore/blob/main/notebooks/05_thresholds_and_compute.ipynb)

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
from dmpo_explore.course.exercises.thresholds_and_compute import check_1, check_2, check_3
from dmpo_explore.course.interactive import choice, live, numbers, slider

demo, naive = dx.load_run("demo"), dx.load_run("demo-naive")
calibration, test = demo.record("calibration"), demo.record("test")
curves = {name: dx.trade_off(test, name) for name in ("confidence", "entropy", "margin", "patience")}

# %% [markdown]
# ## Exit policies
#
# A policy reads the scores of the exits so far and decides *exit* or *continue*. It may read how probable the best
# class is (`confidence`), its lead over the second (`margin`), how spread out the probabilities are (`entropy`), or
# whether the exits agree (`patience`). Two are controls: `random` reads no scores, `oracle` reads the labels.
#
# **Predict.** Order the policies by accuracy. How much room is there between the best of them and the oracle?

# %%
dx.figures.trade_off_figure(curves | {name: dx.trade_off(test, name) for name in ("random", "oracle")})

# %% [markdown]
# The three that read probabilities lie close together: *which* score you read hardly matters here. Patience cannot
# exit before two exits have agreed, so it needs compute; where there is some, it is the best of them. And the oracle
# is far above all: some exit is correct much more often than any policy can detect.
#
# ## From a target to a threshold
#
# A threshold is not a target. A target is *at most 30 % of the compute*. So the threshold is fitted on calibration,
# the most accurate one within the budget there, and applied to test, once. The dot is the result on test.
#
# **Predict.** Raise the budget from 20 % to 100 %. Will the dot follow to the right end of the curve?


# %% tags=["live"]
def fitted(policy, budget):
    chosen = dx.fit_policy(calibration, policy, flops=budget)
    seen = dx.summarise(test, chosen.exits(test))
    line = f"{policy}, at most {budget:.0%}: threshold {chosen.thresholds[0]:.4g}, used {seen['flops_fraction']:.1%},"
    return dx.figures.trade_off_figure({policy: curves[policy]}, seen), f"{line} accuracy {seen['accuracy']:.2%}"


live(fitted, budget=slider("budget", 0.18, 1.1, 0.3, 0.01), policy=choice("policy", list(curves)))

# %% [markdown]
# It stops early: on calibration more compute brought nothing, so the fit does not use it. A budget is a constraint:
# compute *may* be used.
#
# ## Planned and used compute
#
# Papers often plan: *60 % of the images exit at exit 1, 20 % at exit 2, …*, and report the compute of the plan. What
# the model then uses on other images is another number. Below, five plans; each is turned into thresholds on
# calibration.
#
# **Predict.** Which line stays on the diagonal: thresholds fitted on `demo`'s own calibration images, or thresholds
# fitted on those of `demo-naive`, a model of the same shape, and borrowed?


# %%
def planned(share, source):
    shares = np.array([(1 - share) ** k * share for k in range(5)] + [(1 - share) ** 5])
    borrowed = dx.fit_policy(source.record("calibration"), shares=shares)
    return {"nominal": shares @ test.flops_fraction, "realised": dx.apply(borrowed, test).flops_fraction.mean()}


plans = (0.2, 0.35, 0.5, 0.65, 0.8)
tables = {run.name: pd.DataFrame([planned(share, run) for share in plans]) for run in (demo, naive)}
dx.figures.nominal_figure({f"thresholds of {name}": table for name, table in tables.items()})

# %% [markdown]
# A threshold belongs to the model, and to the kind of images, on which it was fitted. That is why everything in this
# project shows *used* compute.
#
# ## One threshold or one per exit?
#
# With six exits there are five thresholds to set, and one value for all of them is a restriction.
#
# **Predict.** How much does that freedom gain: on calibration, where it was fitted, and on test?


# %%
def gained(budget):
    kinds = {"one": False, "five": True}
    policies = {kind: dx.fit_policy(calibration, flops=budget, per_exit=each) for kind, each in kinds.items()}
    exits = {(where, kind): policies[kind].exits(records[where]) for where in records for kind in kinds}
    return {f"{w}, {kind}": dx.summarise(records[w], found)["accuracy"] for (w, kind), found in exits.items()}


records, budgets = {"calibration": calibration, "test": test}, (0.22, 0.26, 0.3, 0.4)
pd.DataFrame([gained(budget) for budget in budgets], index=pd.Index(budgets, name="budget")).round(4)

# %% [markdown]
# On calibration it cannot lose, for one threshold is a special case of five. The last two columns count: on test
# a third of the gain or more is left, but there the five thresholds also spend more compute than the one.
#
# ## Is an exit's confidence its accuracy?
#
# One threshold for all exits assumes that 80 % means the same at each. Count: of all predictions with about 80 %
# confidence, how many are correct? On the diagonal, 80 % of them.
#
# **Predict.** Which exit will lie farthest from its diagonal? On which side?

# %%
temperatures = dx.fitting.fit_temperatures(calibration)
after = dx.fitting.tempered_record(test, temperatures)
both = {
    "as trained": dx.analysis.reliability_table(test, 10),
    "with temperature": dx.analysis.reliability_table(after, 10),
}
dx.figures.reliability_figure(both).update_layout(height=560)

# %% [markdown]
# A *temperature* divides the logits of an exit before the softmax; it is fitted on calibration, one per exit, and
# changes no prediction, only its confidence. The calibration error is the mean distance from the diagonal:

# %%
errors = {"as trained": dx.analysis.calibration_error(test), "with temperature": dx.analysis.calibration_error(after)}
table = pd.DataFrame(errors, index=[f"exit {k + 1}" for k in range(test.n_exits)])
table.assign(temperature=temperatures).round(3)

# %% [markdown]
# ## Flips, and the oracle
#
# From one exit to the next some predictions become correct, others incorrect.
#
# **Predict.** From exit 5 to exit 6: more of these or more of those?

# %%
dx.figures.flips_figure(test.correct)

# %% [markdown]
# More compute corrects some predictions and loses others, and at the end of this model it loses more. A correct early
# prediction that is lost later is called *overthinking*. The oracle avoids it; that is where its lead comes from:

# %% tags=["numbers"]
seen = dx.summarise(test, dx.fit_policy(calibration, flops=0.3).exits(test))
numbers(
    accuracy_at_30_percent=seen["accuracy"],
    compute_used=seen["flops_fraction"],
    overthinking=seen["overthought"],
    some_exit_is_correct=float(test.correct.any(axis=1).mean()),
    calibration_error_exit_1=float(dx.analysis.calibration_error(test)[0]),
    calibration_error_exit_1_tempered=float(dx.analysis.calibration_error(after)[0]),
)

# %% [markdown]
# ## Try it: three exercises
#
# **1.** A user runs `demo-naive` with `entropy` and accepts a drop of at most half a point against its last exit, with
# as little compute as possible. Fit that on calibration. Which share of the compute does it use on test?

# %% tags=["exercise"]
answer_1 = ...
check_1(answer_1)

# %% [markdown]
# **2.** With `demo` at `flops=0.3`: which share of the test images was correct at exit 1 already, and exited later?

# %% tags=["exercise"]
answer_2 = ...
check_2(answer_2)

# %% [markdown]
# **3.** Write the rule yourself: a function of one image's K confidences (an array) and a threshold that returns the
# exit at which the image exits, counted from 0. At the last exit all remaining images exit.

# %% tags=["exercise"]
answer_3 = ...
check_3(answer_3)

# %% [markdown]
# ## What you cannot conclude
#
# - *That confidence, margin and entropy are always alike.* They are for ten classes and this model; with a thousand
#   classes and other losses they part.
# - *That the oracle can be reached.* It picks among six predictions by the label; some of its hits are chance.
# - *That temperatures improve the trade-off.* They calibrate confidence; whether the correct images exit early is
#   another matter.
# - *That calibration represents every future image.* All of this holds for images drawn like calibration. Under
#   distribution shift, for example blur, both accuracy and compute change: `scripts/bench` lists benchmarks that
#   measure it.
#
# Next: [06 · Where each exit looks](06_where_each_exit_looks.ipynb).
