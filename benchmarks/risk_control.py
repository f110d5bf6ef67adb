"""Learn-then-Test risk control: violations of the bound, and the compute used. `scripts/bench risk_control [RUN]`

In: a run's calibration and test records. Out: ``benchmarks/results/risk_control.csv``, the table on
stdout. All images of both records are the population here, so that every threshold's true risk is known. From it
calibration sets are drawn with replacement, 1,000 of each size; each certifies a threshold (`fitting.risk_control`),
whose true risk is then compared with ε. Beside it the plug-in threshold: the one with the least compute before the
first whose risk on the same images exceeds ε.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

import dmpo_explore as dx
from _common.command import parser
from _common.results import RESULTS, write_table
from dmpo_explore.fitting.risk_control import RISKS, hoeffding_bentkus

SIZES = (500, 1000, 2500, 5000)
EPSILON, DELTA, RESAMPLES = 0.01, 0.05, 1000
SHOWN = [
    "risk",
    "images",
    "violations",
    "flops_fraction",
    "plug_in_violations",
    "plug_in_flops_fraction",
    "none_certified",
]
CHUNK, RISK_SHOWN = 100, ("too_early", "disagreement")


def pooled(run: dx.Run) -> dx.ExitRecord:
    """The images of calibration (val where a run has none) and test as one record, without logits."""
    held_out, test = run.record(run.fitting_split), run.record("test")
    arrays = {
        name: np.concatenate([getattr(held_out, name), getattr(test, name)])
        for name in ("labels", "prediction", "confidence", "entropy", "margin")
    }
    return dx.ExitRecord(**arrays, meta=replace(held_out.meta, split=f"{held_out.meta.split} and test", indices=None))


def losses(
    record: dx.ExitRecord, policy: dx.Policy, risk: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """(N, G) loss of every image at every threshold of the grid, and (G,) mean compute."""
    grid = policy.grid(record.n_exits, len(record.meta.class_names))
    exits = [replace(policy, thresholds=(t,)).exits(record) for t in grid]
    compute = np.array([dx.Outcome(record, e).flops_fraction.mean() for e in exits])
    return np.stack([RISKS[risk](record, e) for e in exits], axis=1).astype(np.float32), compute


def last_kept(kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(R, G) → (R,) the last threshold before the first that is not kept; the first of all is always kept."""
    kept = np.column_stack([np.ones(len(kept), bool), kept[:, 1:]])
    return np.asarray(np.where(kept.all(axis=1), kept.shape[1], kept.argmin(axis=1)) - 1)


def simulate(
    record: dx.ExitRecord, policy: dx.Policy, risk: str, images: int, resamples: int = RESAMPLES
) -> dict[str, float]:
    """True risk and compute of the thresholds that random calibration sets of so many images lead to."""
    loss, compute = losses(record, policy, risk)
    true, rng = loss.mean(axis=0, dtype=np.float64), np.random.default_rng(0)
    certified, plug_in = [], []
    for start in range(0, resamples, CHUNK):
        draws = rng.multinomial(images, np.full(len(loss), 1 / len(loss)), size=min(CHUNK, resamples - start))
        observed = (
            np.rint(draws.astype(np.float32) @ loss).astype(np.float64) / images
        )  # (R, G), whole numbers of losses
        certified.append(last_kept(hoeffding_bentkus(observed, images, EPSILON) <= DELTA))
        plug_in.append(last_kept(observed <= EPSILON))
    proved, plugged_in = np.concatenate(certified), np.concatenate(plug_in)
    violations = float((true[proved] > EPSILON).mean())
    return {
        "images": images,
        "epsilon": EPSILON,
        "delta": DELTA,
        "resamples": resamples,
        "violations": violations,
        "standard_error": float(np.sqrt(DELTA * (1 - DELTA) / resamples)),
        "none_certified": float((proved == 0).mean()),
        "true_risk": float(true[proved].mean()),
        "flops_fraction": float(compute[proved].mean()),
        "plug_in_violations": float((true[plugged_in] > EPSILON).mean()),
        "plug_in_true_risk": float(true[plugged_in].mean()),
        "plug_in_flops_fraction": float(compute[plugged_in].mean()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Simulate, write, print; exit status 1 if violations are more frequent than δ and chance allow."""
    given = parser(__doc__)
    given.add_argument("run", nargs="?", default="fashion")
    given.add_argument("--resamples", type=int, default=RESAMPLES)
    options = given.parse_args(arguments)
    if options.list:
        print("\n".join(f"{options.run} {risk}, {n} images" for risk in RISK_SHOWN for n in SIZES))
        return 0
    record = pooled(dx.load_run(options.run))
    policy = dx.POLICIES["confidence"]((0.0,))  # any threshold: its grid is tried
    rows = [
        {
            "run": options.run,
            "policy": "confidence",
            "risk": risk,
            **simulate(record, policy, risk, n, options.resamples),
        }
        for risk in RISK_SHOWN
        for n in SIZES
    ]
    table = pd.DataFrame(rows)
    write_table("risk_control", table, RESULTS)
    print(table[SHOWN].to_markdown(index=False, floatfmt=".3f"))
    holds = table["violations"] <= table["delta"] + 2 * table["standard_error"]
    print(f"\nbound holds in every row (at most {DELTA:.0%} and two standard errors): {'yes' if holds.all() else 'no'}")
    return 0 if holds.all() else 1


if __name__ == "__main__":
    sys.exit(main())
