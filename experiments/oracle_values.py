"""The values that other packages give for the data of the golden values, as JSON. Runs in their environment, not in ours.

    python experiments/oracle_values.py            values, one entry per package and quantity
    python experiments/oracle_values.py --speed    seconds of temperature scaling and calibration error, medians of five

A package that is not installed, or whose call fails, gets its error as the value.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings

import numpy as np


def gold_multi():
    """3000 rows of over-confident, biased log-probabilities of four classes."""
    rng = np.random.default_rng(20260101)
    truth = rng.normal(size=(3000, 4)) * 1.5 + np.array([0.4, 0.0, -0.3, 0.1])
    truth -= np.log(np.exp(truth).sum(axis=1, keepdims=True))
    y = (np.exp(truth).cumsum(axis=1) < rng.random(3000)[:, None]).sum(axis=1).clip(0, 3)
    scores = truth / 0.45 + np.array([0.8, 0.0, -0.5, 0.2])
    scores -= scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), y


def gold_binary(n=2000, seed=7):
    """An over-confident probability of class 1."""
    rng = np.random.default_rng(seed)
    t = rng.normal(0, 1.4, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-t))).astype(int)
    return 1 / (1 + np.exp(-(1.9 * t + 0.3))), y


def speed_data():
    """100,000 rows of over-confident log-probabilities of ten classes."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(100_000, 10)) * 1.5
    truth -= np.log(np.exp(truth).sum(axis=1, keepdims=True))
    y = (np.exp(truth).cumsum(axis=1) < rng.random(100_000)[:, None]).sum(axis=1).clip(0, 9)
    scores = truth / 0.6
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), y


def values():
    scores, y = gold_multi()
    proba = np.exp(scores)
    confidence, right = proba.max(axis=1), (proba.argmax(axis=1) == y).astype(int)
    p, b = gold_binary(3000, 11)
    p2, b2 = gold_binary()

    def log_loss(q):
        return -np.log(q[np.arange(len(y)), y]).mean()

    def netcal_ece(name, **options):
        from netcal import metrics

        return getattr(metrics, name)(**options)

    def netcal_temperature():
        from netcal.scaling import TemperatureScaling

        fitted = TemperatureScaling()
        fitted.fit(proba, y)
        return 1 / float(np.ravel(fitted.temperature)[0])

    def probmetrics_loss(name, **options):
        from probmetrics.calibrators import get_calibrator

        fitted = get_calibrator(name, **options)
        fitted.fit(proba, y)
        return log_loss(fitted.predict_proba(proba))

    def u_c(name, *args, **options):
        import calibration

        return getattr(calibration, name)(*args, **options)

    def decompose(scoring):
        from model_diagnostics import scoring as module

        table = module.decompose(b2, p2, scoring_function=getattr(module, scoring)())
        return [float(table[column][0]) for column in ("miscalibration", "discrimination", "uncertainty")]

    def mapie(name):
        from mapie.metrics import calibration

        return getattr(calibration, name)(b2, p2)

    def venn_abers():
        from venn_abers import VennAbers

        fitted = VennAbers()
        fitted.fit(np.column_stack([1 - p2, p2])[:1000], b2[:1000])
        proba, interval = fitted.predict_proba(np.column_stack([1 - p2, p2])[1000:1001])
        return [*map(float, interval[0]), float(proba[0, 1])]

    def betacal():
        from betacal import BetaCalibration

        fitted = BetaCalibration("abm").fit(p2.reshape(-1, 1), b2)
        return fitted.predict(p2[:50]).tolist()

    def em():
        from quapy.method.aggregative import EMQ

        return np.asarray(EMQ.EM(np.full(4, 0.25), proba, epsilon=1e-12)[0]).tolist()

    def lac():
        from mapie.classification import SplitConformalClassifier
        from sklearn.base import BaseEstimator, ClassifierMixin

        class Given(ClassifierMixin, BaseEstimator):
            def fit(self, X, y):
                self.classes_ = np.arange(4)
                return self

            def predict_proba(self, X):
                return np.asarray(X)

            def predict(self, X):
                return self.predict_proba(X).argmax(axis=1)

            def __sklearn_is_fitted__(self):
                return True

        given = Given().fit(proba, y)
        conformal = SplitConformalClassifier(given, confidence_level=0.9, conformity_score="lac", prefit=True)
        conformal.conformalize(proba[:1000], y[:1000])
        _, sets = conformal.predict_set(proba[1000:])
        sets = np.asarray(sets).reshape(2000, 4)
        return [float(sets[np.arange(2000), y[1000:]].mean()), float(sets.sum(axis=1).mean())]

    def relplot():
        from relplot import smECE

        return [float(smECE(confidence, right)), float(smECE(p2, b2))]

    def sklearn_d2(name):
        from sklearn import metrics

        return getattr(metrics, name)(y, proba)

    def sklearn_logistic():
        from scipy.special import logit
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=np.inf, tol=1e-12).fit(logit(p2)[:, None], b2)
        return [float(fitted.coef_[0, 0]), float(fitted.intercept_[0])]

    two = np.column_stack([1 - p, p])
    return {
        "confidence ECE / netcal": lambda: netcal_ece("ECE", bins=15).measure(proba, y),
        "confidence ECE / uncertainty-calibration": lambda: u_c("get_ece", proba, y),
        "binary ECE / netcal": lambda: netcal_ece("ECE", bins=15).measure(p, b),
        "binary MCE / netcal": lambda: netcal_ece("MCE", bins=15).measure(p, b),
        "binary equal-mass ECE / netcal": lambda: netcal_ece("ECE", bins=15, equal_intervals=False).measure(p, b),
        "temperature / netcal": netcal_temperature,
        "temperature log loss / probmetrics": lambda: probmetrics_loss("temp-scaling"),
        "debiased L2 / uncertainty-calibration": lambda: u_c(
            "lower_bound_scaling_ce", two, b, p=2, debias=True, num_bins=15, mode="marginal"
        ),
        "CORP Brier parts / model-diagnostics": lambda: decompose("SquaredError"),
        "CORP log parts / model-diagnostics": lambda: decompose("LogLoss"),
        "Spiegelhalter z / MAPIE": lambda: mapie("spiegelhalter_statistic"),
        "KS / MAPIE": lambda: mapie("kolmogorov_smirnov_statistic"),
        "Kuiper / MAPIE": lambda: mapie("kuiper_statistic"),
        "smECE (coarse mesh) / relplot": relplot,
        "Venn-Abers p0, p1, p / venn-abers": venn_abers,
        "beta map / betacal": betacal,
        "EM prior / quapy": em,
        "LAC coverage, size / MAPIE": lac,
        "D2 Brier / scikit-learn": lambda: sklearn_d2("d2_brier_score"),
        "D2 log loss / scikit-learn": lambda: sklearn_d2("d2_log_loss_score"),
        "slope, intercept / scikit-learn": sklearn_logistic,
    }


def speeds():
    scores, y = speed_data()
    proba = np.exp(scores)

    def netcal_temperature():
        from netcal.scaling import TemperatureScaling

        TemperatureScaling().fit(proba, y)

    def probmetrics_temperature():
        from probmetrics.calibrators import get_calibrator

        get_calibrator("temp-scaling").fit(proba, y)

    def netcal_ece():
        from netcal.metrics import ECE

        ECE(15).measure(proba, y)

    def u_c_ece():
        import calibration

        calibration.get_ece(proba, y)

    return {
        "temperature / netcal": netcal_temperature,
        "temperature / probmetrics": probmetrics_temperature,
        "ECE / netcal": netcal_ece,
        "ECE / uncertainty-calibration": u_c_ece,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    results = {}
    stdout, sys.stdout = sys.stdout, sys.stderr  # some packages print
    for name, job in (speeds() if args.speed else values()).items():
        try:
            if args.speed:
                job()
                seconds = []
                for _ in range(5):
                    began = time.perf_counter()
                    job()
                    seconds.append(time.perf_counter() - began)
                results[name] = float(np.median(seconds))
            else:
                value = job()
                results[name] = value if isinstance(value, list) else float(value)
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"[:200]
    sys.stdout = stdout
    print(json.dumps(results))


if __name__ == "__main__":
    main()
