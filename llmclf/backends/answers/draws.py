"""What draws say of a distribution: smoothed shares, and bounds that hold whenever the drawing stops.

A draw is one of K labels or none of them. For one label, n draws of which k are that label have the likelihood
p^k (1 - p)^(n - k). Averaged over Jeffreys' prior Beta(1/2, 1/2), it is less than 1/a times that of the true p, at all n at once,
with a probability of at least 1 - a (Ville's inequality). So the set

    {p : p^k (1 - p)^(n - k) >= a * B(k + 1/2, n - k + 1/2) / B(1/2, 1/2)}

holds the true p with probability 1 - a, whatever decides when to stop (the prior-posterior-ratio sequence of Waudby-Smith and
Ramdas, "Confidence sequences for sampling without replacement", 2020; Jain et al., "PAC mode estimation using PPR martingale
confidence sequences", 2022). Usual intervals hold for a number of draws that was fixed before, and a rule that stops once an
interval looks good makes them too narrow. The levels are shared evenly by the K labels, so all bounds of a row hold together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...arrays import Floats

CONFIDENCE = 0.95
"""With which all bounds of a row hold together."""
_STEPS = 60  # halvings of an interval of probabilities


@dataclass(frozen=True, eq=False)
class LogShares:
    """Log-probabilities (K,) of the labels, and bounds on them, in nats. A lower bound may be minus infinity."""

    logp: Floats
    lower: Floats
    upper: Floats

    @property
    def is_decided(self) -> bool:
        """Whether the bounds say which label is the most probable one.

        Examples
        --------
        >>> share_bounds([8, 0], 8).is_decided, share_bounds([7, 0], 7).is_decided, share_bounds([8, 3], 11).is_decided
        (True, False, False)
        """
        best = int(np.argmax(self.lower))
        others = np.delete(self.upper, best)
        return not others.size or bool(self.lower[best] > others.max())


def share_bounds(counts: Sequence[int], n_draws: int, confidence: float = CONFIDENCE) -> LogShares:
    """Shares of the labels among draws, smoothed, and bounds on the labels' probabilities.

    Parameters
    ----------
    counts : sequence of K int
        How often each label was drawn; not all of them 0.
    n_draws : int
        How many draws there were; those that are no label included.
    confidence : float
        That all bounds hold together, whenever the drawing stopped.

    Returns
    -------
    LogShares
        The shares among the labels have the total pseudo-count 1, evenly spread (a Dirichlet prior with the parameters 1/K), and
        add up to the share of draws that are labels.

    Examples
    --------
    >>> found = share_bounds([8, 1], 10)
    >>> np.exp(found.logp).round(3).tolist(), round(float(np.exp(found.logp).sum()), 3)
    ([0.765, 0.135], 0.9)
    >>> np.exp(found.lower).round(3).tolist(), np.exp(found.upper).round(3).tolist()
    ([0.31, 0.0], [0.993, 0.581])
    """
    k = np.asarray(counts, dtype=np.float64)
    n_labels, size = k.sum(), len(k)
    logp = math.log(n_labels / n_draws) + np.log((k + 1.0 / size) / (n_labels + 1.0))
    level = (1.0 - confidence) / size
    bounds = [_bounds(int(count), n_draws, level) for count in counts]
    lower, upper = (np.array(side) for side in zip(*bounds, strict=True))
    # The smoothed share is an estimate, which may lie outside where there are few draws and many labels.
    return LogShares(logp, np.minimum(lower, logp), np.minimum(np.maximum(upper, logp), 0.0))


@lru_cache(maxsize=1 << 16)
def _bounds(k: int, n: int, level: float) -> tuple[float, float]:
    """Logs of the ends of the set of the module's docstring."""
    least = math.log(level) + _log_beta(k + 0.5, n - k + 0.5) - _log_beta(0.5, 0.5)
    peak = k / n

    def is_in(p: float) -> bool:
        return (k * math.log(p) if k else 0.0) + ((n - k) * math.log1p(-p) if n > k else 0.0) >= least

    def end(inside: float, outside: float) -> float:
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if is_in(middle) else (inside, middle)
        return outside

    low = -math.inf if k == 0 else math.log(end(peak, 0.0))
    high = 0.0 if k == n else math.log(end(peak, 1.0))
    return low, high


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
