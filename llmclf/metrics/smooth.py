"""The smooth calibration error, which does not need bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import dct, idct
from scipy.optimize import brentq

from ..arrays import Floats
from .checks import checked_event, either_weights

_CELLS = 8192  # of the interval [0, 1]; the narrowest kernel is two of them wide


def smooth_calibration_error(
    y: ArrayLike,
    proba: ArrayLike,
    *,
    pos_label: Any = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    inclusion: ArrayLike | None = None,
) -> float:
    r"""Calibration error by smoothing instead of binning (smECE).

    With residuals :math:`r_i = a_i - c_i` (1 if the event happened, minus its probability) and the Gaussian kernel
    :math:`K_s` reflected at 0 and 1, :math:`smECE_s = \int_0^1 |\sum_i w_i r_i K_s(t, c_i)| dt / \sum_i w_i`; the error is
    that of the width that equals it, :math:`s = smECE_s` (Błasiok & Nakkiran 2024, "Smooth ECE: Principled reliability
    diagrams via kernel smoothing", definition 7). Unlike a binned error, it changes continuously with the probabilities.

    Parameters
    ----------
    y, proba, pos_label, classes, sample_weight, inclusion
        As in `expected_calibration_error`.

    Returns
    -------
    float in [0, 1]
        Exact to about 1e-6; implementations on a coarse grid differ from it by up to one part in a hundred.

    Raises
    ------
    InputError
        Any argument cannot be used.

    Examples
    --------
    >>> round(smooth_calibration_error([1, 0, 1, 1], [0.75] * 4, pos_label=1), 6)
    0.0
    >>> round(smooth_calibration_error([1, 0, 0, 0], [0.75] * 4, pos_label=1), 4)
    0.5
    """
    sample_weight = either_weights(sample_weight, inclusion, y)
    p, event, weights = checked_event(y, proba, classes, sample_weight, pos_label)
    coefficients = dct(_on_cells(p, weights * (event - p) / weights.sum()), type=2)

    def smoothed(width: float) -> float:
        return float(np.abs(_smoothed(coefficients, width)).sum())

    narrowest = 2.0 / _CELLS
    if smoothed(narrowest) <= narrowest:
        return smoothed(narrowest)
    # A wider kernel never gives a larger error, and the error is at most 1, so the curves cross once.
    if smoothed(1.0) >= 1.0:
        return 1.0
    return float(brentq(lambda width: smoothed(width) - width, narrowest, 1.0, xtol=1e-12))


def smooth_curve(p: Floats, event: Floats, weights: Floats, places: Floats, width: float) -> Floats:
    """The frequency of the event near each of `places`: a kernel-weighted mean, as in `smooth_calibration_error`."""
    sums = [_smoothed(dct(_on_cells(p, values), type=2), width) for values in (weights * event, weights)]
    middles = (np.arange(_CELLS) + 0.5) / _CELLS
    happened, mass = (np.interp(places, middles, cell_sums) for cell_sums in sums)
    # Far from all rows, both are only rounding errors.
    frequency: Floats = np.clip(
        np.where(mass > 1e-9 * weights.sum() / _CELLS, happened / np.maximum(mass, 1e-300), np.nan), 0.0, 1.0
    )
    return frequency


def _smoothed(coefficients: Floats, width: float) -> Floats:
    # With reflection at both ends, the cosines are eigenfunctions of the smoothing: each is damped by its own factor.
    damped: Floats = idct(coefficients * np.exp(-0.5 * (np.pi * np.arange(_CELLS) * width) ** 2), type=2)
    return damped


def _on_cells(p: Floats, values: Floats) -> Floats:
    """Sums of `values` over equal cells of [0, 1], each value split between the two cells with the nearest midpoints."""
    position = np.clip(p * _CELLS - 0.5, 0.0, _CELLS - 1.0)
    left = np.minimum(position.astype(np.intp), _CELLS - 2)
    right_share = position - left
    cells = np.zeros(_CELLS)
    cells += np.bincount(left, values * (1 - right_share), _CELLS)
    cells += np.bincount(left + 1, values * right_share, _CELLS)
    return cells
