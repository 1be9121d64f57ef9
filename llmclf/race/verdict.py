"""The verdict of a race: which contestant to use, and whether more labels are worth their work, as far as the rows can tell.

All statements hold together with the confidence of the race: each interval that decides has its share of the error probability.
What no interval decides is said to be open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..metrics.means import MeanInterval
from .contest import Contest
from .contestants import FREQUENCIES, POOL

Difference = Callable[..., MeanInterval]

_RESAMPLES = 4000  # the ends of intervals at high levels need more than 1,000
_MORE = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Finding(NamedTuple):
    """One answer.

    Attributes
    ----------
    code : str
    text : str
        A sentence.
    """

    code: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """As JSON values."""
        return {"code": self.code, "text": self.text}


class Verdict(NamedTuple):
    """What a race says.

    Attributes
    ----------
    use : str
        The contestant to use.
    language_model : Finding
        ``"needed"``, ``"not needed"``, ``"open"``, or ``"nothing learned"``.
    more_labels : Finding
        ``"falls"``, ``"flat"`` or ``"open"``.
    """

    use: str
    language_model: Finding
    more_labels: Finding

    @property
    def text(self) -> str:
        return f"{self.language_model.text} {self.more_labels.text}"


def verdict(contest: Contest, without_model: tuple[str, ...], *, margin: float, confidence: float) -> Verdict:
    """What a contest shows.

    A third of the error probability is for the pool: does it know more than the class frequencies, and if so, more than what
    needs no language model; a third for the other contestants, each against the frequencies and the pool; a third for the curve.

    Parameters
    ----------
    contest : Contest
    without_model : tuple of str
        The contestants that need no language model, besides the class frequencies.
    margin : float
        The share of the log loss that is too little to matter.
    confidence : float
        Of all statements together.
    """
    rivals = [name for name in contest.names if name not in (FREQUENCIES, POOL)]
    third = (1.0 - confidence) / 3.0

    def compare(number: int) -> Difference:
        return partial(contest.difference, confidence_level=1.0 - third / max(1, number), n_resamples=_RESAMPLES)

    of_pool, of_rival = compare(len(without_model)), compare(2 * len(rivals))
    beats = [name for name in rivals if of_rival(FREQUENCIES, name).high < 0.0]
    against = compare(1)(FREQUENCIES, POOL)
    if against.high < 0.0:
        better = [name for name in beats if of_rival(POOL, name).high < 0.0]
        use = _best(contest, better) if better else POOL
    elif beats:
        use = _best(contest, beats)
    else:
        return Verdict(FREQUENCIES, _nothing(contest, against, margin), _more(contest, POOL, compare(1), margin))
    found = _language_model(contest, use, without_model, of_pool if use == POOL else of_rival, margin)
    if found.code == "not needed":
        use = _best(contest, without_model)
    return Verdict(use, found, _more(contest, use, compare(1), margin))


def _best(contest: Contest, names: Sequence[str]) -> str:
    return min(names, key=contest.log_loss)


def _nothing(contest: Contest, found: MeanInterval, margin: float) -> Finding:
    theirs = contest.log_loss(FREQUENCIES)
    text = (
        f"Nothing is shown to know more than the class frequencies, whose log loss is {theirs:.3f} (the pool has "
        f"{contest.log_loss(POOL):.3f} with {contest.sizes[-1]:,} labels)."
    )
    if found.low > -margin * theirs:
        return Finding("nothing learned", f"{text} That the pool gains {_percent(margin)} is ruled out.")
    return Finding("nothing learned", f"{text} These rows do not rule out a gain, of up to {-found.low:.3f}.")


def _language_model(
    contest: Contest, use: str, without_model: Sequence[str], difference: Difference, margin: float
) -> Finding:
    """Whether the one to use is worth a language model."""
    what, own = _called(use), contest.log_loss(use)
    shown = f"log loss {own:.3f}, accuracy {_percent(float(contest.judged[-1][use].right.mean()), 1)}"
    if not without_model:
        return Finding("open", f"Use {what} ({shown}). Nothing that needs no language model took part.")
    cheap = _best(contest, without_model)
    theirs = contest.log_loss(cheap)
    if use in without_model:
        pool = contest.log_loss(POOL)
        return Finding(
            "not needed", f"Use {what} ({shown}): you need no language model. The pool is worse, {pool:.3f}."
        )
    found = difference(use, cheap)
    if found.low > 0.0:
        return Finding(
            "needed",
            f"Use {what} ({shown}). {_begun(cheap)}, without a language model, has {theirs:.3f}: {_ends(found)} more.",
        )
    if found.high < margin * own:
        return Finding(
            "not needed",
            f"{_begun(cheap)} is as good here: you need no language model. Its log loss is {theirs:.3f}, that of {what} "
            f"{own:.3f}; that it is worse by {_percent(margin)} is ruled out.",
        )
    return Finding(
        "open",
        f"Use {what} for now ({shown}). Whether {cheap} ({theirs:.3f}, without a language model) is as good, these "
        f"{len(contest.rows):,} rows cannot tell: the difference is {_ends(found)}.",
    )


def _more(contest: Contest, name: str, difference: Difference, margin: float) -> Finding:
    """Whether the curve of a contestant still falls."""
    n_rows = len(contest.rows)
    if len(contest.sizes) < 2:
        return Finding("open", f"With {n_rows} rows there is no learning curve yet.")
    small, large = contest.sizes[-2:]
    found = difference(name, name, first=-2)
    change = f"from {small:,} to {large:,} labels the log loss of {_called(name)}"
    least = margin * float(contest.judged[-2][name].losses.mean())
    if found.high < 0.0 and -found.mean > least:
        more = max((size for size in _MORE if size <= n_rows / 2), default=_MORE[0])
        fell = f"fell by {-found.mean:.3f} ({-found.high:.3f} to {-found.low:.3f})"
        return Finding("falls", f"Label {more:,} more: the curve still falls; {change} {fell}.")
    if found.low > -least:
        return Finding(
            "flat", f"More labels would change little: that {change} fell by {_percent(margin)} is ruled out."
        )
    return Finding(
        "open", f"Whether more labels would help, these rows cannot tell: {change} changed by {_ends(found)}."
    )


def _called(name: str) -> str:
    return f"the {name}" if name in (POOL, FREQUENCIES) else name


def _begun(name: str) -> str:
    """A contestant at the beginning of a sentence."""
    return f"{name[0].upper()}{name[1:]}"


def _ends(found: MeanInterval) -> str:
    return f"{found.low:.3f} to {found.high:.3f}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %" if digits else f"{100 * share:.3g} %"


def plain(found: Verdict) -> dict[str, Any]:
    """The verdict as JSON values."""
    return {
        "use": found.use,
        "text": found.text,
        "language_model": found.language_model.to_dict(),
        "more_labels": found.more_labels.to_dict(),
    }
