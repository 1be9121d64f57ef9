"""Groups of rows, such as years: their names, and differences between the estimates of two of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Floats, Integers
from ..errors import EstimationWarning, InputError, listed, warn
from ..numerics.groups import group_numbers
from .sample_checks import once_for_all


class Estimates(NamedTuple):
    """The estimates (M,) of one group, such as the shares of its classes.

    Attributes
    ----------
    value, low, high : ndarray (M,)
        Estimates with their intervals, which a caller has made for the level of a difference; NaN where nothing is known.
    contributions : ndarray (number of units, M)
        As `LabelledSample.contributions`, of the errors of the estimates.
    """

    value: Floats
    low: Floats
    high: Floats
    contributions: Floats


def sorted_groups(groups: Iterable[Any], n_rows: int) -> tuple[list[Any], Integers]:
    """The groups' names, sorted where they can be, and the number of each row's group (n_rows,)."""
    # Times would become nanoseconds.
    values = once_for_all(groups)
    if isinstance(groups, np.ndarray) and groups.dtype.kind not in "mM":
        values = groups.tolist()
    numbers = group_numbers(values, n_rows)
    first = np.unique(numbers, return_index=True)[1]
    names = [values[i] for i in first.tolist()]
    try:
        order = sorted(range(len(names)), key=names.__getitem__)
    except TypeError:
        return names, numbers
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names))
    return [names[i] for i in order], place[numbers]


def warn_of_small_groups(names: list[Any], numbers: Integers) -> None:
    """Warn of groups with fewer than ten of the labelled rows, whose groups are `numbers` (n,)."""
    counts = np.bincount(numbers, minlength=len(names))
    small = [f"{name!r} ({count})" for name, count in zip(names, counts.tolist(), strict=True) if count < 10]
    if small:
        warn(
            f"fewer than ten labelled rows in the groups {listed(small)}; their intervals hold, and are wide. Label more "
            "there, or join groups",
            EstimationWarning,
        )


def check_groups(groups: Mapping[Any, Any], function: str) -> None:
    """Refuse what needs groups where there are none.

    Raises
    ------
    InputError
    """
    if not groups:
        raise InputError(f"there are no groups; give the group of each row to {function} as groups=")


def group_pairs(names: list[Any], contrasts: str) -> list[tuple[Any, Any]]:
    """The pairs (group, reference) that are compared.

    Raises
    ------
    InputError
        There are no two groups, or no such contrasts.

    Examples
    --------
    >>> group_pairs([2023, 2024, 2025], "previous"), group_pairs([2023, 2024, 2025], "first")
    ([(2024, 2023), (2025, 2024)], [(2024, 2023), (2025, 2023)])
    """
    if len(names) < 2:
        raise InputError(f"there is one group, {names[0]!r}; a difference needs two")
    if contrasts == "pairs":
        return [(later, earlier) for earlier, later in itertools.combinations(names, 2)]
    if contrasts == "previous":
        return [(later, earlier) for earlier, later in itertools.pairwise(names)]
    if contrasts == "first":
        return [(name, names[0]) for name in names[1:]]
    raise InputError(f"contrasts={contrasts!r} (--differences); expected 'pairs', 'previous' or 'first'")


def difference_records(
    estimates: Mapping[Any, Estimates], pairs: list[tuple[Any, Any]], what: str, names: list[Any], widest: Floats
) -> list[dict[str, Any]]:
    """A record per pair and estimate: the group less the reference, with an interval from those of both.

    The method of variance estimates recovery (Newcombe 1998, "Interval estimation for the difference between independent
    proportions"); with clusters in both groups, with their correlation (Zou & Donner 2008).

    Parameters
    ----------
    estimates : mapping of group to Estimates
    pairs : list of (group, reference)
    what : str
        What `names` are called.
    names : list (M,)
        Of the estimates.
    widest : ndarray (M,)
        The largest difference that there can be.

    Examples
    --------
    >>> one, other = (Estimates(np.array([v]), np.array([v - 0.1]), np.array([v + 0.1]), np.eye(2)[:, [k]])
    ...     for k, v in enumerate([0.5, 0.2]))
    >>> (record,) = difference_records({"a": one, "b": other}, [("a", "b")], "class", ["x"], np.ones(1))
    >>> round(record["difference"], 3), round(record["low"], 3), record["differs"]
    (0.3, 0.159, True)
    """
    records = []
    for group, reference in pairs:
        one, other = estimates[group], estimates[reference]
        correlation = _correlations(one.contributions, other.contributions)
        difference = one.value - other.value
        below = _recovered(one.value - one.low, other.high - other.value, correlation)
        above = _recovered(one.high - one.value, other.value - other.low, correlation)
        for k, name in enumerate(names):
            is_known = bool(np.isfinite(difference[k]))
            low = max(-widest[k], difference[k] - below[k]) if is_known else -widest[k]
            high = min(widest[k], difference[k] + above[k]) if is_known else widest[k]
            records.append(
                {
                    what: name,
                    "difference": float(difference[k]),
                    "low": float(low),
                    "high": float(high),
                    "group": group,
                    "reference": reference,
                    "differs": not low <= 0.0 <= high,
                }
            )
    return records


def aligned(table: list[list[str]], n_names: int) -> str:
    """Cells in columns: the names on the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < n_names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def _correlations(one: Floats, other: Floats) -> Floats:
    """The correlations (M,) of two groups' estimates, which share units if clusters lie in both."""
    if one.shape != other.shape:
        return np.zeros(one.shape[1])
    together = np.einsum("uk,uk->k", one, other)
    scale = np.sqrt(np.einsum("uk,uk->k", one, one) * np.einsum("uk,uk->k", other, other))
    result: Floats = np.clip(np.divide(together, scale, out=np.zeros_like(scale), where=scale > 0), -1.0, 1.0)
    return result


def _recovered(first: Floats, second: Floats, correlation: Floats) -> Floats:
    result: Floats = np.sqrt(np.maximum(0.0, first**2 - 2.0 * correlation * first * second + second**2))
    return result
