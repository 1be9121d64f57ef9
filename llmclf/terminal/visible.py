"""Text without anything that a reader cannot see: control sequences, marks that turn the order of letters, hidden letters.

Servers, files, folders and tables may hold any text. Shown as it is, it could recolour a terminal, draw over what stands there,
pretend to be another line, or hide words.
"""

from __future__ import annotations

import re
import unicodedata

_UNSEEN = re.compile(
    "["
    "\x00-\x09\x0b-\x1f\x7f-\x9f"  # controls, without the line break
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # hyphens, joiners, fillers and selectors without a form of their own
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff"  # halves of pairs, which no terminal can be sent
    "\ufe00-\ufe0f"
    "\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"  # tags, and more selectors
    "]"
)
_JOINERS = "\u200c\u200d"
_EMOJI_SELECTOR = "\ufe0f"
_FIRST_JOINED = 0x0590  # the scripts of Europe come before it, and need no joiners


def visible(text: str) -> str:
    r"""A text whose unseen characters are written as Python writes them; line breaks stay.

    What other characters need stays: joiners within Arabic and Indic words and within emoji, and one variation selector after
    a character. A text without unseen characters is returned as it is, and so is what this has returned.

    Parameters
    ----------
    text : str

    Returns
    -------
    str

    Examples
    --------
    >>> print(visible("\x1b[2Jgone \u202ecod.exe"), visible("naïve 東京 👩\u200d🚀"))
    \x1b[2Jgone \u202ecod.exe naïve 東京 👩‍🚀
    """
    return _UNSEEN.sub(lambda found: found[0] if _is_needed(found) else _in_python(found[0]), text)


def visible_line(text: str) -> str:
    r"""The same on one line: a line break is written out, too, so that no text can pretend to be a line of its own.

    Examples
    --------
    >>> print(visible_line("a.csv\nerror: all is lost"))
    a.csv\nerror: all is lost
    """
    return visible(text).replace("\n", "\\n")


def visible_json(text: str) -> str:
    r"""The same for a JSON document, which stands for the same values as before.

    Examples
    --------
    >>> print(visible_json('["\x7f\u202e"]'))
    ["\u007f\u202e"]
    """
    return _UNSEEN.sub(lambda found: found[0] if _is_needed(found) else _in_json(found[0]), text)


def _is_needed(found: re.Match[str]) -> bool:
    """Whether an unseen character forms the ones beside it."""
    text, place, character = found.string, found.start(), found[0]
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if character in _JOINERS:
        return (_takes_joiners(before) or before == _EMOJI_SELECTOR) and _takes_joiners(after)
    if "\ufe00" <= character <= "\ufe0f":
        return before.isprintable() and not before.isspace() and before != "" and not _UNSEEN.match(before)
    if "\U000e0100" <= character <= "\U000e01ef" or "\u180b" <= character <= "\u180d" or character == "\u180f":
        return before != "" and unicodedata.category(before) == "Lo"  # forms of Chinese and Mongolian letters
    return False


def _takes_joiners(character: str) -> bool:
    """Whether a character is a letter or mark of a script whose letters join, or a picture."""
    if not character or ord(character) < _FIRST_JOINED or _UNSEEN.match(character):
        return False
    return unicodedata.category(character)[0] in "LM" or unicodedata.category(character) in ("So", "Sk")


def _in_python(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))
