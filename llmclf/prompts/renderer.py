"""Renders rows with one prompt: a sandboxed template, an instruction, shots and label words."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import PromptError
from .rendered import TEXT_FIELD, RenderedPrompt, Span, Turn

if TYPE_CHECKING:
    from .prompt import Prompt

_TEXT_TEMPLATE = "Text: {{ text }}\nLabel:"
_TABLE_TEMPLATE = "{% for name, value in fields.items() %}{{ name }}: {{ value }}\n{% endfor %}Label:"
_DEFAULT_INSTRUCTION = "Give each text one of these labels: {{ label_words | join(', ') }}."
_BUILTIN_NAMES = frozenset({"fields", "label_words"})


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
        is_text = tuple(field_names) == (TEXT_FIELD,)
        self._source = (
            prompt.template if prompt.template is not None else (_TEXT_TEMPLATE if is_text else _TABLE_TEMPLATE)
        )
        self.used_fields = self._check_fields(field_names)
        self.text_field = self._find_text_field(field_names)
        self._shots = tuple(shots)
        self._head = self._render_head(self._shots)
        self._head_turns: tuple[Turn, ...] | None = None

    def render(self, row: Mapping[str, Any], n_characters: int | None = None) -> RenderedPrompt:
        """The prompt of one row; `n_characters` cuts the row's text field to that many characters."""
        text = row.get(self.text_field) if self.text_field is not None else None
        text_length = len(text) if isinstance(text, str) else 0
        body = self._render(self._source, self._cut(row, n_characters))
        if self.prompt.chat:
            turns = (*self._head, Turn("user", body))
        else:
            turns = (Turn(None, _merge((*self._head[0].spans, *body)) if self._head else body),)
        return RenderedPrompt(turns, text_length, self, row, n_characters)

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
            raise PromptError(
                "the prompt is longer than the model's context and no field may be shortened; "
                "name one with Prompt(text_field=...)"
            )
        return {**row, self.text_field: text[:n_characters]}

    def render_unconditional(self) -> RenderedPrompt:
        """The prompt of the task without a row, for pointwise mutual information and for guidance."""
        source = self.prompt.unconditional
        if source is None:
            source = _cue(self._source)
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
                f"prompt shows {_names(self.used_fields)}. bias='domain' makes texts from the words of the training rows instead"
            )
        head = self._head[0].spans if self._head else ()
        before, after = _merge((*head, *body[: positions[0]])), body[positions[0] + 1 :]
        # The space between a cue and its text belongs to the text's first token.
        if before and before[-1].text.strip():
            before = (*before[:-1], Span(before[-1].text.rstrip(" "), before[-1].is_data))
        following = after[0].text if after and after[0].text.strip() else self.prompt.separator
        return RenderedPrompt((Turn(None, before),)), following

    def _check_fields(self, field_names: Sequence[str]) -> tuple[str, ...]:
        wanted = _variables(self._source)
        missing = sorted(wanted - set(field_names) - _BUILTIN_NAMES)
        if missing:
            raise PromptError(
                f"the template uses {_names(missing)}, which the rows do not have; their fields: {_names(field_names)}"
            )
        for name, source in (("instruction", self.prompt.instruction), ("unconditional", self.prompt.unconditional)):
            extra = sorted(_variables(source or "") - {"label_words"})
            if extra:
                raise PromptError(
                    f"Prompt({name}=...) uses {_names(extra)}, but it is the same for all rows and can use label_words alone; "
                    "move the field into the template"
                )
        choices = self.prompt.choices
        if choices is not None and choices not in field_names:
            raise PromptError(
                f"Prompt(choices={choices!r}) does not name a field of the rows; their fields: {_names(field_names)}"
            )
        return tuple(name for name in field_names if name in wanted or "fields" in wanted)

    def _find_text_field(self, field_names: Sequence[str]) -> str | None:
        named = self.prompt.text_field
        if named is not None:
            if named not in field_names:
                raise PromptError(
                    f"Prompt(text_field={named!r}) does not name a field of the rows; their fields: {_names(field_names)}"
                )
            if named not in self.used_fields:
                raise PromptError(
                    f"Prompt(text_field={named!r}) names a field that the template does not use; "
                    f"it uses {_names(self.used_fields)}"
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
        return (Turn(None, _merge(spans)),) if spans else ()

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
        pieces = _plain_pieces(source)
        if pieces is not None:
            # Most templates are text and fields, which need no template engine and no marks.
            with suppress(KeyError):  # where the row lacks a field, the engine raises an error that names it
                return _merge([Span(str(row[piece.text]), True) if piece.is_data else piece for piece in pieces])
        mark = _Mark()
        spans = mark.split(self._render_text(source, row, mark))
        if _captures(source):
            # A template may cut, count or trim what it captures, and the marks with it.
            text = self._render_text(source, row, None)
            if "".join(span.text for span in spans) != text:
                return _merge([Span(text, True)])
        return spans

    def _render_text(self, source: str, row: Mapping[str, Any], mark: _Mark | None) -> str:
        names = {"label_words": self.label_words, "fields": dict(row), **row, _MARK_NAME: mark}
        try:
            return _compile(source).render(names)
        except jinja2.UndefinedError as error:
            raise PromptError(
                f"the template {source!r} could not be rendered: {error}; the row's fields: {_names(row)}"
            ) from error
        except (
            jinja2.TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise PromptError(f"the template {source!r} could not be rendered: {error}") from error


_MARK_NAME = "__data_mark__"


class _Mark:
    """Brackets around every value that a template prints, which separate data from template afterwards.

    They hold a random number, so that no text can contain them, in characters without upper and lower case, so that they
    pass through nearly all filters.
    """

    def __init__(self) -> None:
        nonce = "".join(chr(0xE100 + byte) for byte in secrets.token_bytes(8))
        self._stem = f"\ue000{nonce}"
        self.opening, self.closing = f"{self._stem}\ue001", f"{self._stem}\ue002"

    def wrap(self, value: str) -> str:
        return f"{self.opening}{value}{self.closing}"

    def split(self, text: str) -> tuple[Span, ...]:
        # Not a regular expression: each mark would need a new one, and compiling it would take longer than all the rest.
        before, *pieces = text.split(self._stem)
        spans = [Span(before, False)]
        depth = 0
        for piece in pieces:
            depth += 1 if piece[0] == self.opening[-1] else -1
            spans.append(Span(piece[1:], depth > 0))
        return _merge(spans)


def mark_turns(turns: Sequence[Turn]) -> tuple[list[dict[str, str]], _Mark]:
    """Chat messages whose data spans are bracketed, and the mark that splits the rendered chat into spans again."""
    mark = _Mark()
    messages = [
        {
            "role": str(turn.role),
            "content": "".join(mark.wrap(span.text) if span.is_data else span.text for span in turn.spans),
        }
        for turn in turns
    ]
    return messages, mark


@jinja2.pass_context
def _mark_data(context: jinja2.runtime.Context, value: Any) -> Any:
    mark = context.get(_MARK_NAME)
    # An undefined value must reach jinja2 unchanged: printing it raises the error that names it.
    if isinstance(value, jinja2.Undefined):
        return value
    return str(value) if mark is None else mark.wrap(str(value))


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, finalize=_mark_data, keep_trailing_newline=True, autoescape=False
)


@lru_cache(maxsize=256)
def _compile(source: str) -> jinja2.Template:
    try:
        return _ENVIRONMENT.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise PromptError(
            f"the template {source!r} is not a valid jinja2 template: {error.message} (line {error.lineno})"
        ) from error


@lru_cache(maxsize=256)
def _variables(source: str) -> frozenset[str]:
    _compile(source)
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))


@lru_cache(maxsize=256)
def _plain_pieces(source: str) -> tuple[Span, ...] | None:
    """The pieces of a template that is only text and fields; a data span holds a field's name. None for any other template."""
    _compile(source)
    pieces: list[Span] = []
    for output in _ENVIRONMENT.parse(source).body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if isinstance(node, nodes.TemplateData):
                pieces.append(Span(node.data, False))
            elif isinstance(node, nodes.Name) and node.name not in _BUILTIN_NAMES:
                pieces.append(Span(node.name, True))
            else:
                return None
    return tuple(pieces)


@lru_cache(maxsize=256)
def _captures(source: str) -> bool:
    """Whether a template can handle its own output as a value: set blocks, filter blocks, macros, recursive loops."""
    tree = _ENVIRONMENT.parse(source)
    kinds: tuple[type[nodes.Node], ...] = (
        nodes.AssignBlock,
        nodes.FilterBlock,
        nodes.Macro,
        nodes.CallBlock,
        nodes.Block,
    )
    return any(tree.find(kind) for kind in kinds) or any(loop.recursive for loop in tree.find_all(nodes.For))


def _cue(source: str) -> str:
    """The literal text after the last tag of a template, without the line break that ends the field before it."""
    return re.split(r"\}\}|%\}|#\}", source)[-1].lstrip()


def _merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Adjacent spans of the same kind joined, so that equal prompts have equal spans."""
    merged: list[Span] = []
    for span in spans:
        text, is_data = span
        if not text:
            continue
        if merged and merged[-1].is_data == is_data:
            merged[-1] = Span(merged[-1].text + text, is_data)
        else:
            merged.append(span)
    return tuple(merged)


def _names(names: Iterable[Any]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
