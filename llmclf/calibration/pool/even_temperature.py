"""Label scores evened out without labels, then brought to a temperature: a member of pools, and what heads start from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arrays import Floats
from ...checks import check_keys, checked_numbers
from ...logits import log_softmax
from ...numerics.solvers import fit_even_bias
from ..temperature import TemperatureCalibrator


class EvenTemperature(TemperatureCalibrator):
    r"""A bias that needs no labels, and a temperature: q = softmax((scores + b) / T).

    The bias makes the classes equally probable on average over the rows of the fit, :math:`mean_i softmax(scores_i + b) = 1/K`
    (UCPA: Estienne et al. 2023, "Unsupervised calibration through prior adaptation for text classification using large language
    models"). It removes a model's preference for some label words without a single label, which matters where there are many
    classes and few labels of each. T is then that of `TemperatureCalibrator`. Where the classes are not equally frequent it is
    wrong by their log-frequencies, so it is a member of pools and nothing on its own; `BiasCorrector` knows other frequencies.

    Attributes
    ----------
    bias_ : ndarray (K,)
        b in nats, sum 0.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.log([[0.9, 0.1], [0.6, 0.4]] * 10)
    >>> calibrator = EvenTemperature().fit(scores, ["no", "yes"] * 8 + ["yes", "no"] * 2)
    >>> calibrator.predict(scores[:2]).tolist(), calibrator.bias_.round(2).tolist()
    (['no', 'yes'], [-0.65, 0.65])
    """

    name = "ucpa_temperature"

    def fit_map(self, scores: Floats, columns: NDArray[np.intp], weights: Floats, classes: NDArray[Any]) -> str:
        logs = log_softmax(scores)
        self.bias_, _ = fit_even_bias(logs, weights / weights.sum(), np.full(classes.size, 1.0 / classes.size))
        return super().fit_map(self._even(scores), columns, weights, classes)

    def map_log_proba(self, scores: Floats) -> Floats:
        return super().map_log_proba(self._even(scores))

    def _even(self, scores: Floats) -> Floats:
        even = scores + self.bias_
        # The solver of the temperature expects a row maximum of 0.
        largest: Floats = even - even.max(axis=1, keepdims=True)
        return largest

    def _fitted(self) -> dict[str, Any]:
        return {**super()._fitted(), "bias": self.bias_.tolist()}

    def _restore(self, fitted: Any, n_classes: int) -> None:
        check_keys(fitted, ["temperature", "bias"], "'fitted'")
        super()._restore({"temperature": fitted["temperature"]}, n_classes)
        self.bias_ = checked_numbers(fitted["bias"], (n_classes,), "bias")
