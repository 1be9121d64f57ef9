"""From a table row to a prompt: a sandboxed template, an instruction, shots and label words.

A template is written by the person who builds the classifier; the row is data. The two are never mixed: a template is
rendered once, values are not rendered again, and every piece of the result records whether it came from the template
or from the data, so that a backend can keep control tokens in the data from acting as control tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..errors import PromptError
from .rendered import TEXT_FIELD
from .renderer import PromptRenderer


@dataclass(frozen=True)
class Prompt:
    r"""How a row becomes a prompt, and how a label's words continue it.

    Parameters
    ----------
    template : str, optional
        A jinja2 template over the row's fields. The column of a one-column input is called ``text``. A template can also
        use ``fields`` (all fields of the row, by name) and ``label_words`` (the first word of every class). It should end
        with a cue for the answer, without a space, which the delimiter adds. None gives
        ``"Text: {{ text }}\nLabel:"`` for texts and one ``name: value`` line per column for tables.
    instruction : str, optional
        A template over ``label_words`` alone. It stands once, before shots and text (in a chat, as the system turn). With
        ``template=None`` it defaults to a sentence that lists the labels.
    words : dict, optional
        Class -> word, or a list of words whose probabilities are added. Classes that are not named are written as
        ``str(class)``, enum members by their value or name.
    delimiter : str, optional
        What stands between prompt and word: ``" "`` for plain text, nothing for a chat.
    separator : str
        What stands between instruction, shots and text in plain text.
    terminator : {"auto", "eos"}, str or None
        What ends an answer. If one label begins with another ("neutral news", "neutral"), the shorter one is always at
        least as probable, so the two can be compared only with an end: ``"auto"`` adds the model's end-of-answer token to
        every label of such a row, ``"eos"`` always adds it, any other string is added to the words as text, and None adds
        nothing.
    chat : bool
        Use the model's chat template: instruction as the system turn, shots as turns, the answer at the assistant's
        first token, thinking switched off.
    text_field : str, optional
        The field that may be shortened when a prompt exceeds the model's context. Default: ``text``, or the only field
        that the template uses.
    choices : str, optional
        The column that holds the row's own list of completions, one per class, in the order of the classes.
    unconditional : str, optional
        The prompt without the row, for ``scoring="pmi"`` and for guidance; a template over ``label_words``. Default: what
        follows the last field in the template ("Sentiment:").

    Examples
    --------
    >>> prompt = Prompt("Review: {{ text }}\nSentiment:", words={"pos": "positive", "neg": "negative"})
    >>> print(prompt.renderer(["positive", "negative"]).render({"text": "I laughed."}).text)
    Review: I laughed.
    Sentiment:
    """

    template: str | None = None
    instruction: str | None = None
    words: Mapping[Any, str | Sequence[str]] | None = None
    delimiter: str | None = None
    separator: str = "\n\n"
    terminator: str | None = "auto"
    chat: bool = False
    text_field: str | None = None
    choices: str | None = None
    unconditional: str | None = None

    def __post_init__(self) -> None:
        for name in sorted(self.__dataclass_fields__.keys() - {"words", "chat"}):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "separator"):
                expected = "a str" if name == "separator" else "a str or None"
                raise PromptError(f"Prompt({name}={value!r}) is a {type(value).__name__}; expected {expected}")
        if self.words is not None and not isinstance(self.words, Mapping):
            raise PromptError(f"Prompt(words={self.words!r}): expected a dict class -> word or list of words")

    def __hash__(self) -> int:
        # A dict cannot be hashed; == distinguishes prompts that differ only in their words.
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return hash((frozenset(values.pop("words") or ()), *values.values()))

    def renderer(
        self,
        label_words: Sequence[str],
        shots: Iterable[tuple[Mapping[str, Any], str]] = (),
        field_names: Sequence[str] = (TEXT_FIELD,),
    ) -> PromptRenderer:
        """A renderer for fixed label words and shots, each a row and the word that answers it."""
        return PromptRenderer(self, label_words, tuple(shots), tuple(field_names))

    def completion(self, word: str) -> str:
        """A label word as it continues the prompt: delimiter, word, and the terminator if it is text."""
        ending = self.terminator if self.terminator not in (None, "auto", "eos") else ""
        return f"{self.answer_delimiter}{word}{ending}"

    @property
    def answer_delimiter(self) -> str:
        if self.delimiter is not None:
            return self.delimiter
        return "" if self.chat else " "

    def to_dict(self) -> dict[str, Any]:
        """The parameters; words as pairs, since classes need not be strings."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if self.words is not None:
            values["words"] = [[key, word if isinstance(word, str) else list(word)] for key, word in self.words.items()]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Prompt:
        """The inverse of `to_dict`."""
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        if len(known) != len(values):
            raise PromptError(
                f"unknown prompt parameters {sorted(set(values) - set(known))}; known: {sorted(cls.__dataclass_fields__)}"
            )
        if known.get("words") is not None:
            known["words"] = dict(known["words"])
        return cls(**known)
