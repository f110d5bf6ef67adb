"""Texts of the study's report: its grids, arms, numbers and figures in words, and its limits.

In: nothing. Out: texts, from which `study_report` makes RESULTS.md.
"""

TITLES = {
    "core": "Which part helps, 2,000 training images",
    "headline": "The claim with 10,000 training images",
    "improved": "The claim with the better recipe, 10,000 training images",
    "shipped": "The claim with the bundled runs, 10,000 training images",
    "cnn": "The claim on a CNN, EfficientNet-Lite0",
    "predictor": "Other predictors",
    "schedule": "Other schedules and losses",
    "tuning": "Other tuning",
    "recipe": "Other recipes, read on val alone",
    "combined": "All changes that entered the recipe; read on val alone",
    "rank": "The same at half the rank; read on val alone",
}
SHORT = {  # of `TITLES`, for the grids that have the claims
    "core": "ViT-S/14, 2,000 images",
    "headline": "ViT-S/14, 10,000 images",
    "improved": "ViT-S/14, 10,000 images, better recipe",
    "shipped": "ViT-S/14, 10,000 images, better recipe at rank 8 (bundled)",
    "cnn": "EfficientNet-Lite0, 10,000 images",
}
CLAIMED = {  # a number of `dmpo` → what it is compared with
    "score": "score, against the strongest naive arm",
    "first exit": "first exit, against that arm's",
    "30 %": "at most 30 % of the compute, against the full single model",
    "last exit": "last exit, against the single model",
}
SETTING = "Fashion-MNIST, ViT-S/14 at 70 pixels, 2,000 training images, 6 epochs, recorded in bf16."
ONE_CHANGE = f"{SETTING} Each arm is `dmpo` with one change"
ON_VAL = "**Every number here is read on val**; test was not opened."
BESIDE = "as above, on the same seeds"
ABOUT_GRIDS = {
    "core": f"{SETTING} Exits after every two blocks.",
    "headline": "As above with 10,000 training images and 4 epochs, recorded in float32. Seed 0 of `single`, "
    "`naive-both` and `dmpo` was bundled at first and known before the rules were written.",
    "improved": "As above with LoRA on all linear maps of the backbone, for both controls as well, and the iterative "
    "matrix square root: the changes that entered by the rule below. Read on test once, at the end.",
    "shipped": "As `improved` with LoRA of rank 8 in place of 16. Seed 0 is the bundled runs `fashion`, "
    "`fashion-single` and `fashion-naive` (`naive-equilibrium`), whose weights are kept in float16. The rank was "
    "decided by bytes and by val.",
    "cnn": "EfficientNet-Lite0 at 64 pixels, exits after blocks 3, 5, 8, 11, 16; 10,000 training images, 3 epochs, "
    "recorded in float32. Seed 0 of `single` and `dmpo` is the bundled runs, which were known before the rules were "
    "written.",
    **dict.fromkeys(("predictor", "schedule", "tuning"), f"{ONE_CHANGE}; `dmpo` {BESIDE}."),
    "recipe": f"{ONE_CHANGE}. {ON_VAL}",
    "combined": f"{SETTING} `lora-all-isqrt` is `dmpo` with both changes that entered by the rule below. {ON_VAL}",
    "rank": f"{SETTING} As `combined` with LoRA of rank 8 in place of 16, which it replaces if its score lies at most "
    f"0.3 points below, mean of three seeds. {ON_VAL}",
}
ABOUT_ARMS = {
    "single": "one linear predictor behind the last block",
    "naive-cls": "an exit after every two blocks, linear, reading the class token; uniform loss weights, no bypass",
    "naive-mean": "the same, reading the mean of the patch tokens",
    "naive-both": "the same, reading both",
    "naive-equilibrium": "naive-both with gradient equilibrium (on the CNN, where nothing but the mean can be read: "
    "naive-mean with it)",
    "mixed": "naive-both; the last exit trains alone in the first half",
    "dmpo": "bypass (conv), second-order predictors (covariance), two-phase loss weights (linear)",
    "dmpo-no-bypass": "dmpo without the bypass",
    "dmpo-no-second-order": "dmpo with linear predictors",
    "dmpo-uniform": "dmpo with uniform loss weights",
}
FIGURES = {
    "gains": "Points gained, with 95 % intervals over images",
    "budgets": "Accuracy under four budgets, mean over seeds",
    "gradients": "Cosine between an early exit's gradient and the last one's, on the tuned weights that they share",
    "stages": "Every stage: linear CKA of its trunk with the untuned backbone, and scores of ridge probes",
}


BRACKETS = (
    "Points of test accuracy; in brackets a 95 % interval over the 10,000 test images; seeds are other trainings. "
    "*Ahead*: the interval and all seeds lie above 0; *behind*: below; *preliminary*: seeds are missing."
)
HOW = (
    "How arms are judged was fixed in [grids.py](_study/grids.py) before the runs; a table that was judged "
    "otherwise has that in its heading. By the *score*: test accuracy averaged over "
    "the budgets 30, 35, … 100 % of the plain backbone's "
    "compute, which is the area under accuracy by budget. A budget is the compute that may be used *at most*. Under "
    "each the best threshold on val is taken. Many models are at their best far below it, so the compute *used* is "
    "shown beside. A part *helps* if the interval lies above 0 and all seeds agree; *may help or not*, which includes "
    "0, is not the same as *useless*. The interval covers the choice of test images, not another training: that is "
    "what the seeds are for. Numbers are means over seeds, in brackets the lowest and the highest."
)
MADE = (
    "Made by `scripts/bench study GRID` and `scripts/bench training_time GRID`, then `scripts/bench study_report`; "
    "every number comes from the CSVs in [results](results). *First exit*: accuracy if all images exit there. *Area*: "
    "under the accuracy-compute curve from the first exit's compute to the last one's, so it depends on where the "
    "exits sit. *Trainable*: weights. *Training time*: seconds per image relative to `single`, measured in turn. "
    "*Calibration error*: expected, 15 bins, per cent. **Compute is counted as trained**, with LoRA unmerged, and "
    "thresholds are fitted on val: these runs are older than merged counting and calibration splits. Merged, the "
    "ViT's full depth costs 0.7 to 5 points less, the CNN's exits 4 to 7. `dmpo-moment` had an earlier form of that "
    "predictor."
)
LIMITS = (
    "One data set of small grey images, one ViT whose makers probably tuned it for saliency and whose last "
    "blocks are not its best, one CNN, at most three trainings each; learning rates were chosen for `dmpo` on val and "
    "used for all arms. `single` is linear and sits behind the last block, where this backbone is past its best: "
    "part of what `dmpo` gains over it may come from a better predictor or from a shorter network, which "
    "these runs cannot separate (the second edition, `scripts/bench second_study`, has "
    "static nets for it). The intervals are many and not corrected for it."
)
SEEN_IS = (
    "On val images, each number the mean over a run's early stages (all but the last): the cosine between an "
    "early exit's gradient and the last one's, of unweighted losses, on the tuned weights that they share, after "
    "the first and the last epoch (64 images); linear CKA of the trunk with the untuned backbone; scores of "
    "ridge probes on the trunk's patch tokens and on what the predictor reads (brightness of the image under "
    "a patch, R²; label, accuracy; 200 images fit them, 200 judge); linear CKA of what the predictor reads with "
    "the last stage (400 images). Lowest and highest seed in brackets."
)
CHOICES_ARE = (
    "Every change to `dmpo` that was tried on the core grid's data, by the points of score that it gains on val. "
    "It enters the recipe if every seed gains and the mean gain is at least 0.3 points. Thresholds are fitted and "
    "read on the same 5,000 images, of which 1,000 also chose the epoch, so all scores are a little too good. The "
    "rule reads val alone; the test figures of these grids, where they stand above, were there to be seen. The first "
    "seed decides for a change that loses on it: its others were not trained. `combined` tries together what entered; "
    "of the two LoRAs, which exclude each other, the one that gains more. A change of tuning changes how many weights "
    "are trained (*trainable* above), with exits or without: single and naive models are given it too."
)
