"""The words and parts of words of texts, in any language."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..checks import checked_names
from ..errors import InputError
from ..numerics.row_features import TermCounts

_KINDS: tuple[tuple[str, tuple[int, int]], ...] = (("word", (1, 2)), ("char_wb", (2, 4)))
"""Words and pairs of words; and two to four neighbouring characters within words, which also serve languages without spaces."""

_WORD = r"(?u)\b\w+\b"


@dataclass(frozen=True, eq=False)
class Vocabularies:
    """The terms of some texts, by which other texts are counted. There is no list of words to leave out.

    Attributes
    ----------
    terms : mapping of kind to sequence of str
        Of ``"word"`` and ``"char_wb"``, sorted.

    Examples
    --------
    >>> known = Vocabularies.of(["a fine film", "a bore"])
    >>> known.terms["word"]
    ['a', 'a bore', 'a fine', 'bore', 'film', 'fine', 'fine film']
    >>> known.counts(["fine, fine!"]).counts[0].toarray().tolist()
    [[0, 0, 0, 0, 0, 2, 0]]
    """

    terms: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Vocabularies:
        """The vocabularies of some texts.

        Raises
        ------
        InputError
            The texts have no words.
        """
        terms = {}
        for kind, lengths in _KINDS:
            try:
                terms[kind] = sorted(_counter(kind, lengths).fit(texts).vocabulary_)
            except ValueError:  # no text has a term of this kind
                continue
        if not terms:
            raise InputError("features='tfidf' needs words, and none of the labelled texts has any; leave it out")
        return cls(terms)

    def counts(self, texts: Sequence[str]) -> TermCounts:
        """How often each term occurs in each text."""
        return TermCounts([counter.transform(texts).tocsr() for counter in self._counters])

    @cached_property
    def _counters(self) -> list[Any]:
        """One for each kind, kept: to learn the terms by heart takes longer than to count those of a text."""
        lengths = dict(_KINDS)
        return [_counter(kind, lengths[kind], terms) for kind, terms in self.terms.items()]

    def __getstate__(self) -> dict[str, Any]:
        return {"terms": self.terms}

    def to_dict(self) -> dict[str, Any]:
        """The terms, ready for JSON."""
        return {kind: list(terms) for kind, terms in self.terms.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Vocabularies:
        """The inverse of `to_dict`.

        Raises
        ------
        InputError
            These are no vocabularies that texts can have.
        """
        known = dict(_KINDS)
        if not isinstance(values, Mapping) or not values or not set(values) <= set(known):
            raise InputError(f"vocabularies={reprlib.repr(values)}; expected some of {sorted(known)}")
        # In the order of the fit, whatever that of the keys is.
        terms = {kind: checked_names(values[kind], f"the vocabulary {kind!r}") for kind in known if kind in values}
        for kind, own in terms.items():
            if not own or list(own) != sorted(own):
                raise InputError(
                    f"the vocabulary {kind!r} is empty or not sorted, so that its terms are not those of the fit"
                )
        return cls({kind: list(own) for kind, own in terms.items()})


def _counter(kind: str, lengths: tuple[int, int], terms: Sequence[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    pattern = {"token_pattern": _WORD} if kind == "word" else {}
    return CountVectorizer(analyzer=kind, ngram_range=lengths, vocabulary=terms, **pattern)
