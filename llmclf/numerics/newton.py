"""Newton steps that give a convex minimum its last digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Floats


def polished(
    value_and_gradient: Callable[[Floats], tuple[float, Floats]],
    hessian: Callable[[Floats], Floats],
    parameters: Floats,
    lows: Floats | None = None,
    highs: Floats | None = None,
) -> Floats:
    """Newton steps within bounds, each halved until it improves, from a point near the minimum of a convex function."""
    lows = np.full(parameters.size, -np.inf) if lows is None else lows
    highs = np.full(parameters.size, np.inf) if highs is None else highs
    value, gradient = value_and_gradient(parameters)
    for _ in range(50):
        free = (lows < parameters) & (parameters < highs)
        steepness = np.abs(gradient[free]).max(initial=0.0)
        if steepness < 1e-15:
            break
        # Some directions may change no probability (a constant added to all biases), so the Hessian may be singular.
        step = np.zeros(parameters.size)
        step[free] = np.linalg.lstsq(hessian(parameters)[np.ix_(free, free)], -gradient[free])[0]
        for halvings in range(30):
            candidate = np.clip(parameters + step / 2.0**halvings, lows, highs)
            new_value, new_gradient = value_and_gradient(candidate)
            # Near the minimum, the digits of the value no longer change, but those of the gradient do.
            flatter = np.abs(new_gradient[free]).max(initial=0.0) < 0.5 * steepness
            if new_value < value or (flatter and new_value <= value + 1e-14 * abs(value)):
                break
        else:
            break
        parameters, value, gradient = candidate, new_value, new_gradient
    return parameters
