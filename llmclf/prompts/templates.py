"""Sandboxed templates, and the marks that keep data and the author's own text apart while a template is rendered."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import jinja2
from jinja2 import meta, nodes

from ..errors import PromptError
from .limited_templates import LimitedEnvironment, limited, work_of
from .limits import MOST_SOURCE, MOST_TOKENS
from .rendered import Span, Turn
from .row_values import COMMON, mark_common

BUILTIN_NAMES = frozenset({"fields", "label_words"})
"""The names that every template knows besides the fields of the row."""
MARK_NAME = "data mark"
"""The name of the `Mark` of a rendering in its context; no template can name it, and so give it another value."""


_QUOTED = 1000  # characters of a template that a message quotes whole


class Mark:
    """Brackets around every value that a template prints, which separate data from template afterwards.

    They hold a random number, so that no text can contain them, in characters without upper and lower case, so that they
    pass through nearly all filters.
    """

    def __init__(self) -> None:
        nonce = "".join(chr(0xE100 + byte) for byte in secrets.token_bytes(8))
        self._stem = f"\ue000{nonce}"
        self.opening, self.closing = f"{self._stem}\ue001", f"{self._stem}\ue002"
        self._common = f"{self._stem}\ue003"

    def wrap(self, value: str) -> str:
        return f"{self._common if isinstance(value, _Common) else self.opening}{value}{self.closing}"

    def split(self, text: str) -> tuple[Span, ...]:
        return merge_spans(span for span, _ in self.pieces(text))

    def pieces(self, text: str) -> list[tuple[Span, bool]]:
        """The pieces between the marks, and whether each is the row's own: data that is not the same for all rows."""
        # Not a regular expression: each mark would need a new one, and compiling it would take longer than all the rest.
        before, *pieces = text.split(self._stem)
        spans = [(Span(before, False), False)]
        opened: list[str] = []
        for piece in pieces:
            if piece[0] != self.closing[-1]:
                opened.append(piece[0])
            elif opened:
                opened.pop()
            spans.append((Span(piece[1:], bool(opened)), self.opening[-1] in opened))
        return spans


def mark_turns(turns: Sequence[Turn]) -> tuple[list[dict[str, str]], Mark]:
    """Chat messages whose data spans are bracketed, and the mark that splits the rendered chat into spans again."""
    mark = Mark()
    messages = [
        {
            "role": str(turn.role),
            "content": "".join(mark.wrap(span.text) if span.is_data else span.text for span in turn.spans),
        }
        for turn in turns
    ]
    return messages, mark


class _Common(str):
    """A value that is the same for all rows."""


def _as_common(value: Any) -> Any:
    return value if isinstance(value, jinja2.Undefined) else _Common(value)


@jinja2.pass_context
def _mark_data(context: jinja2.runtime.Context, value: Any) -> Any:
    mark = context.parent[MARK_NAME]
    # An undefined value must reach jinja2 unchanged: printing it raises the error that names it.
    if isinstance(value, jinja2.Undefined):
        return value
    work = work_of(context)
    work.step(work.size(value))
    if mark is None:
        return str(value)
    return mark.wrap(value if isinstance(value, _Common) else str(value))


_ENVIRONMENT = LimitedEnvironment(
    undefined=jinja2.StrictUndefined, finalize=_mark_data, keep_trailing_newline=True, autoescape=False
)
_ENVIRONMENT.filters[COMMON] = _as_common


@lru_cache(maxsize=256)
def compile_template(source: str) -> jinja2.Template:
    """A template that can be rendered with a `Work` and a `Mark`.

    Raises
    ------
    PromptError
        It is not a valid one, or too long, or nested too deeply.
    """
    if len(source) > MOST_SOURCE:
        raise PromptError(
            f"the template {shortened(source)} has {len(source):,} characters; expected at most {MOST_SOURCE:,}"
        )
    try:
        if sum(1 for _ in islice(_ENVIRONMENT.lex(source), MOST_TOKENS + 1)) > MOST_TOKENS:
            raise PromptError(
                f"the template {shortened(source)} has more than {MOST_TOKENS:,} names, operators and pieces of text; write "
                "lists into the table, or loop over label_words"
            )
        return _ENVIRONMENT.from_string(limited(mark_common(_ENVIRONMENT.parse(source))))
    except jinja2.TemplateSyntaxError as error:
        raise PromptError(
            f"the template {shortened(source)} is not a valid jinja2 template: {error.message} (line {error.lineno})"
        ) from error
    except (RecursionError, MemoryError, SyntaxError) as error:
        # Python itself refuses to compile more than about a hundred blocks or brackets within one another.
        raise PromptError(
            f"the template {shortened(source)} has blocks or expressions that are nested too deeply; write it flatter"
        ) from error
    except (ArithmeticError, ValueError) as error:
        raise PromptError(f"the template {shortened(source)} is not a valid jinja2 template: {error}") from error


def shortened(source: str) -> str:
    """A template as a message quotes it: the beginning and the end of a long one."""
    return repr(source) if len(source) <= _QUOTED else f"{source[: _QUOTED // 2]!r} ... {source[-_QUOTED // 2 :]!r}"


def parse_template(source: str) -> nodes.Template:
    """The syntax tree of a template.

    Raises
    ------
    PromptError
        It is not a valid one.
    """
    compile_template(source)
    return _ENVIRONMENT.parse(source)


@lru_cache(maxsize=256)
def template_variables(source: str) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(parse_template(source)))


@lru_cache(maxsize=256)
def plain_pieces(source: str) -> tuple[Span, ...] | None:
    """The pieces of a template that is only text and fields; a data span holds a field's name. None for any other template."""
    pieces: list[Span] = []
    for output in parse_template(source).body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if isinstance(node, nodes.TemplateData):
                pieces.append(Span(node.data, False))
            elif isinstance(node, nodes.Name) and node.name not in BUILTIN_NAMES:
                pieces.append(Span(node.name, True))
            else:
                return None
    return tuple(pieces)


@lru_cache(maxsize=256)
def captures_output(source: str) -> bool:
    """Whether a template can handle its own output as a value: set blocks, filter blocks, macros, recursive loops."""
    tree = parse_template(source)
    kinds: tuple[type[nodes.Node], ...] = (
        nodes.AssignBlock,
        nodes.FilterBlock,
        nodes.Macro,
        nodes.CallBlock,
        nodes.Block,
    )
    return any(tree.find(kind) for kind in kinds) or any(loop.recursive for loop in tree.find_all(nodes.For))


def ending(source: str) -> str:
    """The literal text after the last tag of a template, without the line break that ends the field before it."""
    return re.split(r"\}\}|%\}|#\}", source)[-1].lstrip()


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
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


def quoted(names: Iterable[Any]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
