r"""Labels of several waves, drawn one after the other, together: what each of them counts.

The first wave has the weights :math:`w_i`, with which it estimates a total over all rows without bias. Knowing its labels, a
second wave is drawn among the other rows, with the probabilities :math:`\pi_i`. The rows labelled before, as they are, and the
new ones, each counting :math:`1 / \pi_i`, estimate the same total, again without bias *whatever the first wave has shown*: the
second design may depend on it in any way. A mean of both estimates is unbiased, too, if its weights are fixed beforehand:

.. math:: a \sum_1 w_i y_i + (1 - a) \Bigl(\sum_1 y_i + \sum_2 y_i / \pi_i\Bigr)

So a row of the first wave counts :math:`a w_i + 1 - a`, one of the second :math:`(1 - a) / \pi_i`, and the inverse of that
serves as its inclusion probability. The share a follows from the numbers of rows alone. The two estimates are uncorrelated,
since the second one has the same mean whatever the first is, so their variances add up. A third wave takes the first two
together for its first.

To pool both waves in each stratum instead, as if the whole sample had been planned, is more common and biased: a stratum that
showed no case in the first wave gets few rows in the second, and keeps its chance result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Floats
from ..errors import InputError


def earlier_share(n_before: int, n_new: int, n_rows: int, is_random: bool = True) -> float:
    """The weight a of the estimate from the rows labelled before, by the numbers of rows alone.

    In proportion to the numbers of labels. 0 where what was labelled before was not drawn at random and counts for itself alone,
    and where so many rows are labelled that the new ones would count less than one row each.

    Examples
    --------
    >>> earlier_share(50, 150, 10_000), earlier_share(50, 150, 210), earlier_share(50, 150, 10_000, is_random=False)
    (0.25, 0.0, 0.0)
    """
    if not is_random or n_before == 0:
        return 0.0
    share = n_before / (n_before + n_new)
    # The new rows must not count less than one row each, and strata need some room to differ.
    return share if n_new <= 0.5 * (1.0 - share) * (n_rows - n_before) else 0.0


def combined_inclusion(before: Floats, new: Floats, share: float) -> tuple[Floats, Floats]:
    """What stands for the inclusion probabilities of the rows labelled before (n,) and of new ones (m,) when both are used.

    Parameters
    ----------
    before : ndarray (n,)
        Inclusion probabilities of the earlier rows, as the earlier waves together have them.
    new : ndarray (m,)
        Probabilities with which the rows of the new wave were drawn among those without a label; at most ``1 - share``.
    share : float
        See `earlier_share`.

    Returns
    -------
    before, new : ndarray (n,), ndarray (m,)

    Examples
    --------
    >>> import numpy as np
    >>> old, new = combined_inclusion(np.full(10, 0.1), np.full(30, 1 / 3), 0.25)
    >>> round(float((1 / old).sum() + (1 / new).sum()), 9)  # 100 rows
    100.0
    """
    # Rounding may leave a certain row a hair above 1.
    return np.minimum(1.0 / (share / before + 1.0 - share), 1.0), np.minimum(new / (1.0 - share), 1.0)


def joined_inclusion(waves: Sequence[tuple[Floats, int]], n_rows: int) -> list[Floats]:
    """What stands for the inclusion probabilities of the labelled rows of each wave when all are used.

    Parameters
    ----------
    waves : sequence of (ndarray (n,), int)
        In the order in which they were drawn: the probabilities with which the labelled rows of each were drawn, and how many
        rows it drew in all, labelled since or not.
    n_rows : int
        N.

    Raises
    ------
    InputError
        A wave was drawn with probabilities that it cannot have had after those before it.

    Examples
    --------
    >>> import numpy as np
    >>> first, second = joined_inclusion([(np.full(10, 0.1), 10), (np.full(30, 1 / 3), 30)], 100)
    >>> round(float((1 / first).sum() + (1 / second).sum()), 9)
    100.0
    """
    joined = [waves[0][0]]
    for number, (new, n_drawn) in enumerate(waves[1:], start=2):
        before = np.concatenate(joined)
        share = earlier_share(len(before), n_drawn, n_rows, is_drawn(before, n_rows))
        if (new > 1.0 - share + 1e-9).any():
            raise InputError(
                f"wave {number} was not drawn after {len(before)} other rows were labelled: it has inclusion probabilities up "
                f"to {new.max():.6g}, and {1.0 - share:.6g} is the most that it could have; give the waves in the order in "
                "which they were drawn, with the labels that each was drawn after"
            )
        before, new = combined_inclusion(before, new, share)
        joined = [*np.split(before, np.cumsum([len(one) for one in joined])[:-1]), new]
    return joined


def is_drawn(inclusion: Floats, n_rows: int) -> bool:
    """Whether rows with these inclusion probabilities (n,) were drawn at random, or chosen by somebody."""
    return bool((inclusion < 1.0).any()) or len(inclusion) == n_rows
