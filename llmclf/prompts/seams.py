"""The seam between prompt and word: spaces that stand there twice, so that another text is scored than was meant.

Prompt and word are tokenised together, so a space at the prompt's end is harmless where it is the only one: ``"Label: "`` with an
empty delimiter is scored as ``"Label:"`` with a space. Two in a row are another text, which no model expects.
"""

from __future__ import annotations

from collections.abc import Sequence

from .prompt import Prompt
from .rendered import RenderedPrompt

_INVISIBLE = "\u200b\u2060\ufeff"
"""Characters of no width, which Unicode does not count as spaces."""


def spaces_after(text: str) -> str:
    """The spaces, line breaks and invisible characters at the end of a text."""
    kept = len(text)
    while kept and (text[kept - 1].isspace() or text[kept - 1] in _INVISIBLE):
        kept -= 1
    return text[kept:]


def spaces_before(text: str) -> str:
    """The same at its beginning."""
    return spaces_after(text[::-1])[::-1]


def author_spaces(rendered: RenderedPrompt) -> str:
    """The spaces at a plain prompt's end that its author wrote, which are the same for all rows; none in a chat."""
    spans = rendered.turns[-1].spans
    return spaces_after(spans[-1].text) if spans and not rendered.is_chat and not spans[-1].is_data else ""


def row_spaces(rendered: RenderedPrompt) -> str:
    """The spaces at a plain prompt's end that came with the row's own text."""
    spans = rendered.turns[-1].spans
    return spaces_after(spans[-1].text) if spans and not rendered.is_chat and spans[-1].is_data else ""


def doubtful_end(prompt: Prompt, spaces: str, what: str) -> str | None:
    """Why the spaces at a prompt's end are probably not meant, with the cure; None where they are harmless.

    Examples
    --------
    >>> print(doubtful_end(Prompt(), " ", "the prompt"))  # doctest: +ELLIPSIS
    the prompt ends with ' ' and the delimiter ' ' follows, so ' ' + ' ' stands before each word; leave the first out, ...
    >>> doubtful_end(Prompt(delimiter=""), " ", "the prompt")
    """
    if not spaces or not spaces_before(prompt.answer_delimiter):
        return None
    delimiter = prompt.answer_delimiter
    return (
        f"{what} ends with {spaces!r} and the delimiter {delimiter!r} follows, so {spaces!r} + {delimiter!r} stands before each "
        "word; leave the first out, or the second with Prompt(delimiter='')"
    )


def doubtful_words(prompt: Prompt, words: Sequence[str], spaces: str = "") -> list[str]:
    """Why spaces around label words are probably not meant, with the cures.

    Parameters
    ----------
    prompt : Prompt
    words : sequence of str
    spaces : str
        Those at the prompt's end.

    Examples
    --------
    >>> doubtful_words(Prompt(delimiter=""), [" good", " bad"])
    []
    """
    found = []
    before = [word for word in words if spaces_before(word)]
    # In a chat the answer begins with the word itself, unless the author chose a delimiter.
    follows = prompt.answer_delimiter or spaces or (prompt.chat and prompt.delimiter is None)
    if before and follows:
        where = (
            "a chat's answer would begin with a space"
            if prompt.chat and not prompt.answer_delimiter
            else f"{(spaces + prompt.answer_delimiter)!r} stands before it already"
        )
        found.append(
            f"the label word {before[0]!r} begins with a space, and {where}; write it without, or choose the space with "
            "Prompt(delimiter=...)"
        )
    after = [word for word in words if spaces_after(word)]
    ends = {spaces_after(word) for word in words}
    # The same line break at the end of all of them is a terminator.
    if after and not (len(ends) == 1 and "\n" in ends.pop()):
        found.append(
            f"the label word {after[0]!r} ends with a space, which is scored as a part of the answer; write it without, or give "
            "all words the same end with Prompt(terminator=...)"
        )
    return found
