"""Do other packages still give the values that the tests hold as constants? Recomputes both sides and compares.

    python experiments/oracles.py --python .bench/oracles/bin/python

The other packages have their own environment (see the Makefile). Fails if a value differs by more than its tolerance. Packages
that are not installed are listed and skipped. Writes oracles.md beside itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from oracle_values import gold_binary, gold_multi

from llmclf.calibration import (
    BetaCalibrator,
    BiasCorrector,
    ConformalClassifier,
    TemperatureCalibrator,
    VennAbersCalibrator,
)
from llmclf.metrics import (
    calibration_slope,
    calibration_test,
    corp_decomposition,
    debiased_calibration_error,
    expected_calibration_error,
    log_loss,
    maximum_calibration_error,
    skill_score,
    smooth_calibration_error,
    spiegelhalter_test,
)

HERE = Path(__file__).resolve().parent


def ours() -> dict[str, tuple[object, float]]:
    """Our value of each quantity, and the tolerance for the values of other packages."""
    scores, y = gold_multi()
    proba = np.exp(scores)
    p, b = gold_binary(3000, 11)
    p2, b2 = gold_binary()
    scores2 = np.log(np.column_stack([1 - p2, p2]))
    temperature = TemperatureCalibrator().fit(scores, y)
    venn = VennAbersCalibrator().fit(scores2[:1000], b2[:1000])
    lower, upper = venn.predict_interval(scores2[1000:1001])
    conformal = ConformalClassifier().fit(proba[:1000], y[:1000])
    sets = conformal.predict_set(proba[1000:])

    def corp(score):
        parts = corp_decomposition(b2, p2, pos_label=1, score=score)
        return [parts.miscalibration, parts.discrimination, parts.uncertainty]

    def statistic(name):
        return calibration_test(b2, p2, pos_label=1, statistic=name, n_resamples=1, random_state=0).error

    return {
        "confidence ECE": (expected_calibration_error(y, proba), 1e-9),
        "binary ECE": (expected_calibration_error(b, p, pos_label=1), 1e-9),
        "binary MCE": (maximum_calibration_error(b, p, pos_label=1), 1e-9),
        "binary equal-mass ECE": (expected_calibration_error(b, p, pos_label=1, strategy="mass"), 1e-9),
        "temperature": (temperature.temperature_, 1e-5),
        "temperature log loss": (log_loss(y, temperature.predict_proba(scores)), 1e-8),
        "debiased L2": (debiased_calibration_error(b, p, pos_label=1), 1e-9),
        "CORP Brier parts": (corp("brier"), 1e-9),
        "CORP log parts": (corp("log"), 1e-8),
        "Spiegelhalter z": (spiegelhalter_test(b2, p2, pos_label=1)[0], 1e-9),
        "KS": (statistic("ks"), 1e-6),
        "Kuiper": (statistic("kuiper"), 1e-6),
        "smECE (coarse mesh)": (
            [smooth_calibration_error(y, proba), smooth_calibration_error(b2, p2, pos_label=1)],
            2e-3,
        ),
        "Venn-Abers p0, p1, p": ([lower[0, 1], upper[0, 1], venn.predict_proba(scores2[1000:1001])[0, 1]], 1e-9),
        "beta map": (BetaCalibrator().fit(scores2, b2).predict_proba(scores2[:50])[:, 1], 1e-3),
        "EM prior": (BiasCorrector("em").fit(scores).prior_, 1e-8),
        "LAC coverage, size": ([sets[np.arange(2000), y[1000:]].mean(), sets.sum(axis=1).mean()], 1e-9),
        "D2 Brier": (skill_score(y, proba, score="brier"), 1e-9),
        "D2 log loss": (skill_score(y, proba), 1e-9),
        "slope, intercept": (list(calibration_slope(b2, p2, pos_label=1)), 1e-7),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter with the other packages")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    run = subprocess.run([args.python, HERE / "oracle_values.py"], stdout=subprocess.PIPE, check=True, text=True)
    theirs, mine = json.loads(run.stdout.splitlines()[-1]), ours()
    lines = ["| quantity | package | ours | largest difference | allowed |", "|---|---|--:|--:|--:|"]
    wrong, absent = [], []
    for name, value in theirs.items():
        quantity, package = name.split(" / ")
        if isinstance(value, str):
            absent.append(f"{name} ({value})")
            continue
        our_value, tolerance = mine[quantity]
        difference = float(np.abs(np.subtract(our_value, value)).max())
        if not difference <= tolerance:
            wrong.append(name)
        lines.append(f"| {quantity} | {package} | {np.ravel(our_value)[0]:.10g} | {difference:.1e} | {tolerance:.0e} |")
    text = [
        "# Golden values against other packages",
        "",
        "The first number of each quantity, and the largest difference over all of its numbers. Written by `oracles.py`.",
        "",
        *lines,
        "",
    ]
    text += [f"Not compared: {entry}." for entry in absent]
    (HERE / "oracles.md").write_text("\n".join(text).rstrip() + "\n")
    print("\n".join(text))
    print(f"differ: {', '.join(wrong)}" if wrong else "all agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
