"""Labels that begin other labels: "neutral" and "neutral news" are exclusive events only where it counts how the answer goes on.

The shorter label then stands for the answers that begin with it and do not go on to a longer one::

    p(short, and nothing longer) = p(short) - sum of p(longer) over the nearest longer labels
                                 = p(short) * (1 - sum of p(rest of longer | short))

No end has to be scored for that, so the scores of all other labels stay as they are. The alternative, an end-of-answer token
after every label, asks how probable it is that the model stops there: after a prompt in plain text hardly ever, and for each
label with another probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

_MOST = 1.0 - 2.0**-24  # the largest probability below 1 that float32 arithmetic tells from 1


@lru_cache(maxsize=4096)
def longer_labels(completions: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Of each completion, the places of the nearest ones that begin with it and go on.

    Parameters
    ----------
    completions : tuple of tuples of int
        No two of them equal.

    Examples
    --------
    >>> longer_labels(((5,), (5, 7), (5, 7, 9), (6,)))
    ((1,), (2,), (), ())
    """
    # In sorted order whatever begins with a completion stands directly behind it, nearer ones before what goes on from them.
    order = sorted(range(len(completions)), key=lambda place: completions[place])
    longer: list[tuple[int, ...]] = [()] * len(completions)
    for at, place in enumerate(order):
        short = completions[place]
        nearest: list[int] = []
        for other in order[at + 1 :]:
            if completions[other][: len(short)] != short:
                break
            before = completions[nearest[-1]] if nearest else None
            if before is None or completions[other][: len(before)] != before:
                nearest.append(other)
        longer[place] = tuple(nearest)
    return tuple(longer)


def without_longer(
    completions: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]]
) -> tuple[tuple[float, ...], ...]:
    """Log-probabilities of the tokens of each completion, where a shorter one excludes the longer ones that it begins.

    Its last token then stands for "this token, and after it no longer label".

    Parameters
    ----------
    completions : sequence of C sequences of int
    logprobs : sequence of C sequences of float
        log p(token j of completion k | prompt and the tokens before it), in nats.

    Returns
    -------
    tuple of C tuples of float

    Examples
    --------
    >>> import math
    >>> exclusive = without_longer([(5,), (5, 7), (6,)], [(math.log(0.5),), (math.log(0.5), math.log(0.2)), (math.log(0.3),)])
    >>> [round(math.exp(math.fsum(values)), 3) for values in exclusive]
    [0.4, 0.1, 0.3]
    """
    values = [tuple(map(float, own)) for own in logprobs]
    exclusive = list(values)
    for place, longer in enumerate(longer_labels(tuple(map(tuple, completions)))):
        if longer:
            n = len(values[place])
            rest = math.fsum(math.exp(math.fsum(values[other][n:])) for other in longer)
            exclusive[place] = (*values[place][:-1], values[place][-1] + math.log1p(-min(rest, _MOST)))
    return tuple(exclusive)
