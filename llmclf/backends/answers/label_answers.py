"""Which label a short answer is. What is not one label by the rules below is none.

An answer is a label if it is that label's words, after the steps below, the first that fits:

1. as it is written, without the white space around it;
2. in any case (Unicode's case folding) and composition (NFC), with any white space between words;
3. also without punctuation, quotes and Markdown at both ends, of the answer and of the label. Signs that give words another
   meaning stay: "C#", ">5", "-1", ".5" and "5%" are not "C", "5" and "1".

Of several lines the first that is not blank is the answer, since models like to add a reason below; if another line is another
label, the answer is none. If nothing fits, one of the lead-ins (``Answer:``, ``The label is``, ...; `LEAD_INS`) is taken off,
once, and the steps are tried again. A step counts only where no two labels are alike after it: "US" and "us" differ in
their case alone, so step 2 tells nothing of them.

A label in a sentence ("not positive"), several labels, and a part of a label are none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

LEAD_INS = (
    "answer",
    "label",
    "class",
    "category",
    "classification",
    "choice",
    "option",
    "topic",
    "sentiment",
    "intent",
)
"""Words that may stand before a label, with or without "the" or "final", and followed by a colon or "is"."""

_LEAD_IN = re.compile(
    rf"(?:the\s+)?(?:final\s+|correct\s+|best\s+)?(?:{'|'.join(LEAD_INS)})(?:[\s*_`]*:|\s+is\b[\s:]*)\s*", re.IGNORECASE
)
_BULLET = re.compile(r"[-–—•>#*+]+\s+")
_SOFT = ("Ps", "Pe", "Pi", "Pf", "Po", "Pc")
_MEANT = frozenset("%‰#&@/\\")
_LONGEST = 10_000  # characters of an answer that are looked at
_LONGEST_LEAD_IN = 100


def _plain(text: str) -> str:
    return text.strip()


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def _bare(text: str) -> str:
    folded = _folded(text)
    bullet = _BULLET.match(folded)
    start, stop = 0 if bullet is None else bullet.end(), len(folded)
    while start < stop and (folded[start] == " " or _is_soft(folded[start])):
        if folded[start] in ".," and folded[start + 1 : start + 2].isdecimal():
            break
        start += 1
    while stop > start and (folded[stop - 1] == " " or _is_soft(folded[stop - 1])):
        stop -= 1
    return folded[start:stop]


def _is_soft(sign: str) -> bool:
    """Whether a sign at an end of words says nothing of their meaning."""
    return sign == "`" or (unicodedata.category(sign) in _SOFT and sign not in _MEANT)


_STEPS: tuple[Callable[[str], str], ...] = (_plain, _folded, _bare)


class LabelReader:
    """Reads answers for fixed labels.

    Parameters
    ----------
    labels : sequence of str
        Not blank, and different in more than white space around them.

    Examples
    --------
    >>> reader = LabelReader(["neutral", "neutral news", "positive"])
    >>> [reader.place(text) for text in ("Neutral.", "**neutral news**", "The answer is: Positive", "not positive", "neutr")]
    [0, 1, 2, None, None]
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._steps: list[tuple[Callable[[str], str], dict[str, int]]] = []
        for step in _STEPS:
            places = {step(label): place for place, label in enumerate(labels)}
            if len(places) == len(labels) and "" not in places:
                self._steps.append((step, places))

    def place(self, answer: str) -> int | None:
        """The label that an answer is, by its place among the labels; None if it is none."""
        lines = [line for line in answer[:_LONGEST].splitlines() if line.strip()]
        if not lines:
            return None
        first, *others = lines
        found = self._whole(answer[:_LONGEST]) if others else None
        if found is not None:
            return found
        found = self._whole(first)
        if found is None:
            start = len(first) - len(first.lstrip(" \t*_`#>-\"'"))
            after = _LEAD_IN.match(first, start, start + _LONGEST_LEAD_IN)
            found = self._whole(first[after.end() :]) if after is not None else None
        return found if all(self._whole(line) in (None, found) for line in others) else None

    def _whole(self, text: str) -> int | None:
        for step, places in self._steps:
            place = places.get(step(text))
            if place is not None:
                return place
        return None


@lru_cache(maxsize=256)
def label_reader(labels: tuple[str, ...]) -> LabelReader:
    """The reader of some labels, made once."""
    return LabelReader(labels)
