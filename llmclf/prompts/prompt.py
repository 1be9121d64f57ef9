"""From a table row to a prompt: a sandboxed template, an instruction, shots and label words.

A template is written by the person who builds the classifier; the row is data. The two are never mixed: a template is
rendered once, values are not rendered again, and every piece of the result records whether it came from the template
or from the data, so that a backend can keep control tokens in the data from acting as control tokens.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import jinja2

from ..errors import PromptError, RowError, type_of
from .limited_templates import WORK
from .limits import Work
from .rendered import TEXT_FIELD, RenderedPrompt, Span, Turn
from .shown_fields import bare_placeholders, placeholders, shown_variables
from .templates import (
    BUILTIN_NAMES,
    MARK_NAME,
    Mark,
    captures_output,
    compile_template,
    ending,
    merge_spans,
    plain_pieces,
    quoted,
    shortened,
    template_variables,
)

_TEXT_TEMPLATE = "Text: {{ text }}\nLabel:"
_TABLE_TEMPLATE = "{% for name, value in fields.items() %}{{ name }}: {{ value }}\n{% endfor %}Label:"
_TERMINATORS = ("auto", "eos", "eos_if_nested")  # any other is text
_DEFAULT_INSTRUCTION = "Give each text one of these labels: {{ label_words | join(', ') }}."


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
    terminator : {"auto", "eos", "eos_if_nested"}, str or None
        What ends an answer. If one label begins with another ("neutral news", "neutral"), the shorter one is always at
        least as probable, so the two are not exclusive events. ``"auto"`` makes them so: the shorter label stands for the answers
        that do not go on to the longer one, and no other score changes. ``"eos"`` adds the model's end-of-answer token to every
        label, ``"eos_if_nested"`` does so only where one label begins with another, any other string is added to the words as
        text, and None adds nothing.
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
                raise PromptError(f"Prompt({name}={value!r}) is {type_of(value)}; expected {expected}")
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
        ending = self.terminator if self.terminator not in (None, *_TERMINATORS) else ""
        return f"{self.answer_delimiter}{word}{ending}"

    def request_terminator(self, completions: Sequence[str]) -> str | None:
        """How a backend is to tell completions of which one begins another apart; see `llmclf.backends.requests.Request`.

        Examples
        --------
        >>> Prompt().request_terminator([" neutral", " neutral news"]), Prompt(terminator="eos").request_terminator([" a", " ab"])
        ('longest', 'eos')
        """
        if self.terminator == "eos":
            return "eos"
        if self.terminator == "auto" and nested_words(completions):
            return "longest"
        # Where no text begins another, this means the same, and is the name under which answers were kept before.
        return "auto" if self.terminator in _TERMINATORS else None

    @property
    def answer_delimiter(self) -> str:
        if self.delimiter is not None:
            return self.delimiter
        return "" if self.chat else " "

    def to_dict(self) -> dict[str, Any]:
        """The parameters; words as pairs, since classes need not be strings."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        # Earlier versions called "auto" what is now "eos_if_nested".
        if self.terminator == "auto":
            values["nested"] = "longest"
        elif self.terminator == "eos_if_nested":
            values["terminator"] = "auto"
        if self.words is not None:
            values["words"] = [[key, word if isinstance(word, str) else list(word)] for key, word in self.words.items()]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Prompt:
        """The inverse of `to_dict`; a terminator ``"auto"`` that an earlier version wrote keeps its meaning."""
        if not isinstance(values, Mapping) or not isinstance(values.get("chat", False), bool):
            raise PromptError(
                f"{reprlib.repr(values)} are no parameters of a prompt; expected a dict, whose 'chat' is true or false"
            )
        values = dict(values)
        nested = values.pop("nested", None)
        if nested not in (None, "longest"):
            raise PromptError(f"nested={nested!r}; expected 'longest', or nothing")
        if nested is None and values.get("terminator") == "auto":
            values["terminator"] = "eos_if_nested"
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        if len(known) != len(values):
            raise PromptError(
                f"unknown prompt parameters {sorted(set(values) - set(known))}; known: {sorted(cls.__dataclass_fields__)}"
            )
        absent = sorted(set(cls.__dataclass_fields__) - set(known))
        if absent:  # every version has written all
            raise PromptError(f"the prompt lacks the parameter {absent[0]!r}")
        if known.get("words") is not None:
            known["words"] = dict(known["words"])
        return cls(**known)


def nested_words(words: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of words of which the first begins the second, in whatever case.

    Examples
    --------
    >>> nested_words(["neutral news", "good", "neutral"])
    [('neutral', 'neutral news')]
    """
    ordered = sorted({word.casefold(): word for word in words}.items())
    pairs = []
    for at, (key, word) in enumerate(ordered):
        for longer, other in ordered[at + 1 :]:
            if not longer.startswith(key):
                break
            pairs.append((word, other))
    return pairs


class PromptRenderer:
    """Renders rows with one prompt, one set of label words and one list of shots.

    Whatever does not depend on the row (instruction and shots) is rendered once. If a template captures its own output and
    then changes it (for example, trims a set block), data and template can no longer be separated, and all that it renders
    counts as data.
    """

    def __init__(
        self,
        prompt: Prompt,
        label_words: Sequence[str],
        shots: Sequence[tuple[Mapping[str, Any], str]],
        field_names: Sequence[str],
    ) -> None:
        self.prompt = prompt
        self.label_words = list(label_words)
        self.field_names = tuple(field_names)
        is_text = tuple(field_names) == (TEXT_FIELD,)
        self._source = (
            prompt.template if prompt.template is not None else (_TEXT_TEMPLATE if is_text else _TABLE_TEMPLATE)
        )
        self.used_fields = self._check_fields(field_names)
        self.text_field = self._find_text_field(field_names)
        self.may_fail = prompt.template is not None and plain_pieces(self._source) is None
        """Whether the template does more than show fields, so that it may fail for some rows."""
        self._shots = tuple(shots)
        self._head = self._render_head(self._shots)
        self._head_length = len(self._head[0].text) if self._head else 0
        self._head_turns: tuple[Turn, ...] | None = None

    def render(self, row: Mapping[str, Any], n_characters: int | None = None) -> RenderedPrompt:
        """The prompt of one row; `n_characters` cuts the row's text field to that many characters."""
        text = row.get(self.text_field) if self.text_field is not None else None
        text_length = len(text) if isinstance(text, str) else 0
        pieces = self._pieces(self._source, self._cut(row, n_characters))
        body = merge_spans(span for span, _ in pieces)
        start = 0
        if self.prompt.chat:
            turns = (*self._head, Turn("user", body))
        else:
            turns = (Turn(None, merge_spans((*self._head[0].spans, *body)) if self._head else body),)
            start = self._head_length
        return RenderedPrompt(turns, text_length, self, row, n_characters, _row_ranges(pieces, start))

    def conversation(self, row: Mapping[str, Any], n_characters: int | None = None) -> tuple[Turn, ...]:
        """The prompt of one row as turns, whatever ``Prompt(chat=...)`` says; see `RenderedPrompt.conversation`."""
        if self._head_turns is None:
            self._head_turns = self._head if self.prompt.chat else self._render_head_turns(self._shots)
        return (*self._head_turns, Turn("user", self._render(self._source, self._cut(row, n_characters))))

    def _cut(self, row: Mapping[str, Any], n_characters: int | None) -> Mapping[str, Any]:
        """The row with its text field cut to `n_characters`, unless that is None."""
        if n_characters is None:
            return row
        text = row.get(self.text_field) if self.text_field is not None else None
        if self.text_field is None or not isinstance(text, str):
            raise RowError(
                "the prompt is longer than the model's context and no field may be shortened; "
                "name one with Prompt(text_field=...)"
            )
        return {**row, self.text_field: text[:n_characters]}

    def render_unconditional(self) -> RenderedPrompt:
        """The prompt of the task without a row, for pointwise mutual information and for guidance."""
        source = self.prompt.unconditional
        if source is None:
            source = ending(self._source)
            if not source:
                raise PromptError(
                    "scoring='pmi' and guidance need a prompt without the row, and nothing follows the last field of the "
                    f"template {self._source!r}; give one with Prompt(unconditional=...)"
                )
        spans = self._render(source, {})
        return RenderedPrompt((Turn("user" if self.prompt.chat else None, spans),))

    def opening(self) -> tuple[RenderedPrompt, str]:
        """The prompt up to its field, for a model that writes the field itself, and the text that follows the field.

        Raises
        ------
        PromptError
            The prompt is a chat, or does not show exactly one field, once.
        """
        body = self._render(self._source, dict.fromkeys(self.used_fields, "x"))
        positions = [position for position, span in enumerate(body) if span.is_data]
        if self.prompt.chat or len(self.used_fields) != 1 or len(positions) != 1:
            raise PromptError(
                "a model can write the text of a row only if the prompt is not a chat and shows exactly one field, once; this "
                f"prompt shows {quoted(self.used_fields)}. bias='domain' makes texts from the words of the training rows instead"
            )
        head = self._head[0].spans if self._head else ()
        before, after = merge_spans((*head, *body[: positions[0]])), body[positions[0] + 1 :]
        # The space between a cue and its text belongs to the text's first token.
        if before and before[-1].text.strip():
            before = (*before[:-1], Span(before[-1].text.rstrip(" "), before[-1].is_data))
        following = after[0].text if after and after[0].text.strip() else self.prompt.separator
        return RenderedPrompt((Turn(None, before),)), following

    def _check_fields(self, field_names: Sequence[str]) -> tuple[str, ...]:
        wanted = template_variables(self._source)
        missing = sorted(wanted - set(field_names) - BUILTIN_NAMES)
        if missing:
            raise PromptError(
                f"the template uses {quoted(missing)}, which the rows do not have; their fields: {quoted(field_names)}"
            )
        for name, source in (("instruction", self.prompt.instruction), ("unconditional", self.prompt.unconditional)):
            extra = sorted(template_variables(source or "") - {"label_words"})
            if extra:
                raise PromptError(
                    f"Prompt({name}=...) uses {quoted(extra)}, but it is the same for all rows and can use label_words alone; "
                    "move the field into the template"
                )
        choices = self.prompt.choices
        if choices is not None and choices not in field_names:
            raise PromptError(
                f"Prompt(choices={choices!r}) does not name a field of the rows; their fields: {quoted(field_names)}"
            )
        return tuple(name for name in field_names if name in wanted or "fields" in wanted)

    def check_shows_row(self) -> None:
        """Refuse a template that writes the same for every row, unless each row brings its own choices.

        Raises
        ------
        PromptError
            With a hint where a field is written as another language writes it.
        """
        shown = shown_variables(self._source) & {*self.field_names, "fields"}
        if not shown and self.prompt.choices is None:
            raise PromptError(_shows_nothing(self._source, self.field_names))

    def likely_mistakes(self) -> list[str]:
        """What of the prompt is probably not meant so, in words: a field that is written as another language writes it."""
        shown = shown_variables(self._source)
        names = [name for name in self.field_names if name not in shown] if "fields" not in shown else []
        sources = (
            ("template", self.prompt.template, [*names, "label_words"]),
            ("instruction", self.prompt.instruction, ["label_words"]),
            ("unconditional", self.prompt.unconditional, ["label_words"]),
        )
        return [
            f"Prompt({name}=...) says {quoted(found)}, which is plain text to a template; a value is written in two braces, "
            f"as in {{{{ {wanted[0]} }}}}"
            for name, source, wanted in sources
            if source is not None and (found := placeholders(source, wanted))
        ]

    def _find_text_field(self, field_names: Sequence[str]) -> str | None:
        named = self.prompt.text_field
        if named is not None:
            if named not in field_names:
                raise PromptError(
                    f"Prompt(text_field={named!r}) does not name a field of the rows; their fields: {quoted(field_names)}"
                )
            if named not in self.used_fields:
                raise PromptError(
                    f"Prompt(text_field={named!r}) names a field that the template does not use; "
                    f"it uses {quoted(self.used_fields)}"
                )
            return named
        if TEXT_FIELD in self.used_fields:
            return TEXT_FIELD
        return self.used_fields[0] if len(self.used_fields) == 1 else None

    def _render_head(self, shots: Sequence[tuple[Mapping[str, Any], str]]) -> tuple[Turn, ...]:
        prompt = self.prompt
        if prompt.chat:
            return self._render_head_turns(shots)
        instruction = self._render_instruction()
        spans: list[Span] = [*instruction, Span(prompt.separator, False)] if instruction else []
        for row, word in shots:
            spans += [*self._render(self._source, row), Span(prompt.answer_delimiter, False), Span(word, True)]
            spans.append(Span(prompt.separator, False))
        return (Turn(None, merge_spans(spans)),) if spans else ()

    def _render_head_turns(self, shots: Sequence[tuple[Mapping[str, Any], str]]) -> tuple[Turn, ...]:
        instruction = self._render_instruction()
        head = [Turn("system", instruction)] if instruction else []
        for row, word in shots:
            head += [Turn("user", self._render(self._source, row)), Turn("assistant", (Span(word, True),))]
        return tuple(head)

    def _render_instruction(self) -> tuple[Span, ...]:
        source = self.prompt.instruction
        if source is None and self.prompt.template is None and self.prompt.choices is None:
            source = _DEFAULT_INSTRUCTION
        return self._render(source, {}) if source else ()

    def _render(self, source: str, row: Mapping[str, Any]) -> tuple[Span, ...]:
        return merge_spans(span for span, _ in self._pieces(source, row))

    def _pieces(self, source: str, row: Mapping[str, Any]) -> Sequence[tuple[Span, bool]]:
        """What a template writes, piece by piece, and whether each piece is the row's own data."""
        pieces = plain_pieces(source)
        if pieces is not None:
            # Most templates are text and fields, which need no template engine and no marks.
            with suppress(KeyError):  # where the row lacks a field, the engine raises an error that names it
                return [
                    (Span(str(row[piece.text]), True), True) if piece.is_data else (piece, False) for piece in pieces
                ]
        mark = Mark()
        marked = mark.pieces(self._render_text(source, row, mark))
        if captures_output(source):
            # A template may cut, count or trim what it captures, and the marks with it.
            text = self._render_text(source, row, None)
            if "".join(span.text for span, _ in marked) != text:
                return [(Span(text, True), True)]
        return marked

    def _render_text(self, source: str, row: Mapping[str, Any], mark: Mark | None) -> str:
        # In the order of the fit, and only what the renderer was told of: other columns of a table (one that holds the answer,
        # say) must not change its prompts.
        fields = {name: row[name] for name in self.field_names if name in row}
        work = Work(sum(len(value) for value in row.values() if isinstance(value, str)))
        names = {"label_words": self.label_words, "fields": fields, **fields, MARK_NAME: mark, WORK: work}
        try:
            return compile_template(source).render(names)
        except PromptError:
            raise
        except jinja2.UndefinedError as error:
            raise PromptError(
                f"the template {shortened(source)} could not be rendered: {error}; the row's fields: {quoted(row)}"
            ) from error
        except RecursionError as error:
            raise PromptError(
                f"the template {shortened(source)} could not be rendered: it calls itself without end, or shows values that are "
                "nested too deeply"
            ) from error
        except MemoryError as error:
            raise PromptError(
                f"the template {shortened(source)} could not be rendered: there is not enough memory for what it makes"
            ) from error
        except Exception as error:  # it calls methods of any values, which may raise anything
            raise PromptError(f"the template {shortened(source)} could not be rendered: {error}") from error


def _row_ranges(pieces: Iterable[tuple[Span, bool]], start: int) -> tuple[tuple[int, int], ...]:
    """The ranges of characters that are the row's own, where the first piece begins at character `start`."""
    ranges: list[tuple[int, int]] = []
    for span, is_row in pieces:
        stop = start + len(span.text)
        if is_row and stop > start:
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], stop)
            else:
                ranges.append((start, stop))
        start = stop
    return tuple(ranges)


def _shows_nothing(source: str, field_names: Sequence[str]) -> str:
    """Why a template that shows nothing of a row is refused, with the cure."""
    found = placeholders(source, field_names) or bare_placeholders(source)
    example = f"{{{{ {TEXT_FIELD if TEXT_FIELD in field_names or not field_names else field_names[0]} }}}}"
    hint = f"{quoted(found)} is plain text to it; " if found else ""
    return (
        f"the template {source!r} shows nothing of the row, so every row would get the same answer; {hint}write a field in two "
        f"braces, as in {example} (fields: {quoted(field_names)})"
    )
