"""Limits on what rendering a template may take: steps, characters and time, so that every template comes to an end.

Whoever wrote a template may not be whoever runs it: it comes with a folder or a job file. jinja2's sandbox keeps it from the
machine, and not from its memory and its time. Here every turn of a loop, every call, filter and operator is a step that is
counted, and every value is measured before anything is made of it. Nothing is interrupted from outside, so this works in threads.
"""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2

MOST_SOURCE = 1_000_000  # characters of a template
MOST_TOKENS = 20_000  # of a template: names, operators, brackets, and pieces of text
MOST_STEPS = 1_000_000  # of a rendering
MOST_CHARACTERS = 10_000_000  # of a value and of the prompt, beside four times those of the row
MOST_SECONDS = 2.0  # of the processor, so that a machine that sleeps or is busy makes no difference
_ITEM = 10  # characters that an item of a list counts for, besides its own
_TOGETHER = 20  # values of the largest size that a rendering may make
_MOST_NUMBER = 100_000  # widths and counts, as jinja2 limits a range
_MOST_BITS = 100_000
_MOST_SLOW = 100_000  # characters for filters whose time grows with the square of them
_SHORT = 16  # characters that may be put between any number of others
_CLOCK = 64  # steps between two looks at the clock, and thousands of characters

_COUNTED_FILTERS = frozenset({"batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"})
_SPREADING_FILTERS = frozenset({"indent", "join", "urlize", "wordwrap", "xmlattr"})
_SLOW_FILTERS = frozenset({"pprint", "striptags", "urlize", "wordwrap"})
_COUNTED_METHODS = frozenset({"center", "ljust", "rjust", "zfill", "to_bytes"})
_BACKWARD_METHODS = frozenset({"rfind", "rindex", "rpartition", "rsplit"})
_CODECS = frozenset({"utf-8", "utf8", "utf-16", "utf-32", "ascii", "latin-1"})
_PERCENT = re.compile(r"%(?:\([^()]*\))?[-#0 +]*(\*|[0-9]*)(?:\.(\*|[0-9]*))?")


class LimitError(jinja2.TemplateError):
    """A template needs more than a rendering may take."""


class Work:
    """What is left of the limits of one rendering.

    Parameters
    ----------
    n_characters : int
        Those of the row, of which a template may make more if there are more.
    """

    def __init__(self, n_characters: int = 0) -> None:
        self.most = MOST_CHARACTERS + 4 * n_characters
        self._made = self._written = self._steps = self._until_clock = 0
        self._collections = _full_collections()
        self._end = time.thread_time() + MOST_SECONDS

    def step(self, n_characters: int = 0) -> None:
        """One step, after which `n_characters` more stand in the prompt, or in a text that becomes a part of it.

        Raises
        ------
        LimitError
        """
        self._steps += 1
        self._written += n_characters
        self._until_clock -= 1 + n_characters // 1000
        if self._steps > MOST_STEPS:
            raise LimitError(f"it takes more than {MOST_STEPS:,} steps (turns of loops, calls, filters) for a row")
        if self._written > self.most:
            raise LimitError(f"it writes more than {self.most:,} characters for a row")
        if self._until_clock <= 0:
            self._until_clock = _CLOCK
            if time.thread_time() > self._end:
                self._check_collections()

    def _check_collections(self) -> None:
        """Begin once more where Python has meanwhile looked through all objects of the process, seconds if they are many.

        Raises
        ------
        LimitError
        """
        collections = _full_collections()
        if collections == self._collections:
            raise LimitError(f"it takes more than {MOST_SECONDS:g} s for a row")
        self._collections = collections
        self._end = time.thread_time() + MOST_SECONDS

    def made(self, value: Any) -> Any:
        """A value that the template has made, once it is known to be small enough.

        Raises
        ------
        LimitError
        """
        if isinstance(value, Iterator):
            return self._watched(value)
        size = self.size(value)
        self._made += size
        self._until_clock -= size // 1000
        self.check(self._made / _TOGETHER)
        return value

    def check(self, size: float) -> None:
        """Refuse what would be too large, before it is made."""
        if size > self.most:
            raise LimitError(f"it makes a value of more than {self.most:,} characters")

    def size(self, value: Any) -> int:
        """The characters of a value, with all that it holds, each as often as it is there; items of lists count, too.

        Raises
        ------
        LimitError
            There are too many to count.
        """
        if type(value) is str:  # nearly all are
            return len(value)
        total, waiting = 0, [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, (str, bytes)):
                total += len(one)
            elif isinstance(one, Mapping):
                total += _ITEM * len(one)
                waiting += [*one.keys(), *one.values()]
            elif isinstance(one, (list, tuple, set, frozenset)):
                total += _ITEM * len(one)
                waiting += one
            elif isinstance(one, int):
                total += one.bit_length() // 8
            if total > self.most:
                self.check(total)
        return total

    def _watched(self, items: Iterator[Any]) -> Iterator[Any]:
        total = 0
        for item in items:
            self.step()
            total += _ITEM + self.size(item)
            self.check(total)
            yield item


def check_filter(work: Work, name: str, value: Any, arguments: list[Any], named: Mapping[str, Any]) -> None:
    """Refuse a filter whose result would be too large, or would take too long; `named` are the arguments with names."""
    texts = [len(one) for one in arguments if isinstance(one, str)]
    if name in _COUNTED_FILTERS:
        _check_numbers(arguments)
    if name in _SPREADING_FILTERS and max(texts, default=0) > _SHORT:
        work.check(work.size(value) * max(texts))
    if name in _SLOW_FILTERS and work.size(value) > _MOST_SLOW:
        raise LimitError(f"the filter {name} takes at most {_MOST_SLOW:,} characters")
    if name == "sum" and any(isinstance(one, (list, tuple)) for one in arguments):
        raise LimitError("the filter sum adds numbers alone")
    if name == "replace" and len(arguments) > 1:
        _check_replaced(work, str(value), str(arguments[0]), str(arguments[1]))
    if name == "format":
        check_percent(work, str(value), named or arguments)


def check_method(work: Work, owner: str | bytes | int, name: str, arguments: list[Any]) -> None:
    """The same for a method of a text or a number."""
    if name in _COUNTED_METHODS:
        _check_numbers(arguments)
    if isinstance(owner, int) or not arguments:
        return
    first = arguments[0]
    if name == "expandtabs" and isinstance(first, int):
        n_tabs = owner.count("\t") if isinstance(owner, str) else owner.count(b"\t")
        work.check(n_tabs * first)
    elif name == "replace" and len(arguments) > 1:
        _check_replaced(work, owner, *arguments[:2])
    elif name == "join":
        items = first if isinstance(first, (list, tuple, Mapping, str)) else ()
        work.check(work.size(first) + len(owner) * len(items))
    elif name == "translate":
        longest = max(map(work.size, first.values()), default=0) if isinstance(first, Mapping) else 1
        work.check(len(owner) * longest)
    elif name in _BACKWARD_METHODS and isinstance(first, (str, bytes)):
        work.check(len(owner) * len(first) / 100)  # each is looked for at each place
    elif name in ("encode", "decode") and str(first).lower() not in _CODECS:
        raise LimitError(f"{name} knows {', '.join(sorted(_CODECS))} here, and not {first!r}")


def _check_replaced(work: Work, text: Any, old: Any, new: Any) -> None:
    if isinstance(new, (str, bytes)):
        work.check(text.count(old) * len(new))


def check_percent(work: Work, text: str | bytes, values: Any) -> None:
    """Refuse a format whose widths, or whose values for each of its places, are too large."""
    shown = text if isinstance(text, str) else text.decode("latin-1")
    places = _PERCENT.findall(shown)
    for number in (one for place in places for one in place if one):
        if number == "*":
            _check_numbers(values if isinstance(values, (tuple, list)) else [values])
        else:
            check_number(number)
    work.check(work.size(values) * (len(places) if isinstance(values, Mapping) else 1))


def check_product(work: Work, left: Any, right: Any) -> None:
    """Refuse a text or list that would be repeated too often, and a number that would be too large."""
    for items, times in ((left, right), (right, left)):
        if isinstance(items, (str, bytes, list, tuple)) and isinstance(times, int):
            work.check((_ITEM + work.size(items)) * times)
    if isinstance(left, int) and isinstance(right, int):
        check_bits(left.bit_length() + right.bit_length())


def check_bits(number: int) -> None:
    """Refuse a whole number of so many bits."""
    if number > _MOST_BITS:
        raise LimitError(f"it makes a number of more than {_MOST_BITS:,} bits")


def _check_numbers(values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, (int, float)) and abs(value) > _MOST_NUMBER:
            raise LimitError(f"it asks for a width or a count of more than {_MOST_NUMBER:,}")


def check_number(digits: str) -> None:
    """Refuse a width or a count, as it is written in a format."""
    if len(digits) > len(str(_MOST_NUMBER)) or int(digits) > _MOST_NUMBER:
        raise LimitError(f"it asks for a width or a count of more than {_MOST_NUMBER:,}")


def _full_collections() -> int:
    """How many times Python has looked through all objects of the process."""
    return int(gc.get_stats()[-1]["collections"])
