"""Which fields of a row reach the text that a template makes, and how people write a field who learned it elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from jinja2 import nodes

from .row_values import is_field_names
from .templates import parse_template, template_variables

_CONDITIONS = (nodes.If, nodes.CondExpr, nodes.Include, nodes.Extends)
# Format strings, string.Template, printf, and the brackets of brief descriptions; `name` stands for a field's name.
_HABITS = (
    r"\{{ *name(?:[.!:\[][^{{}}]*| *)\}}",
    r"\$name\b",
    r"%\(name\)[sdrf]",
    r"<<? *name *>?>",
    r"\[\[? *name *\]?\]",
)


@lru_cache(maxsize=256)
def shown_variables(source: str) -> frozenset[str]:
    """The variables from outside that what a template writes depends on: printed, looped over, or asked in a condition.

    A field that is only assigned, or stands in a comment or a raw block, is not shown; nor are the values of ``fields`` where a
    template takes its names alone.

    Examples
    --------
    >>> sorted(shown_variables("{% set t = text | trim %}{% if long %}{{ t }}{% endif %}{% set u = user %}"))
    ['long', 'text']
    """
    tree = parse_template(source)
    shown: set[str] = set()
    flows: list[tuple[set[str], set[str]]] = []  # names that are assigned, and the names that they are made of
    _collect(tree, shown, flows)
    grows = True
    while grows:
        before = len(shown)
        for targets, sources in flows:
            if targets & shown:
                shown |= sources
        grows = len(shown) > before
    return template_variables(source) & shown


def placeholders(source: str, names: Sequence[str]) -> list[str]:
    """What looks as if it were meant to be a field, and is plain text to a template: ``{text}``, ``$text``, ``%(text)s``.

    Examples
    --------
    >>> placeholders("Tweet: {text}\\nBy: $user\\nOn: {{ date }}", ["text", "user", "date"])
    ['{text}', '$user']
    """
    plain = "\0".join(_plain_texts(source))
    found = []
    for name in names:
        for habit in _HABITS:
            # Two braces or brackets of something else are not those of a field.
            pattern = rf"(?<![{{$\w]){habit.format().replace('name', re.escape(name))}(?!\}})"
            found += [(match.start(), match.group()) for match in re.finditer(pattern, plain)]
        found += [(match.start(), match.group()) for match in re.finditer(rf"\$\{{ *{re.escape(name)} *\}}", plain)]
    return list(dict.fromkeys(text for _, text in sorted(found)))


def bare_placeholders(source: str) -> list[str]:
    """The same without a name, or with one that no field has: ``{}``, ``%s``, ``{tweet}``.

    Examples
    --------
    >>> bare_placeholders("Tweet: {tweet}\\nEmotion:")
    ['{tweet}']
    """
    plain = "\0".join(_plain_texts(source))
    pattern = r"\{\{? *(?:[A-Za-z_]\w*(?:[.!:\[][^{}]*| *)|\d+ *)?\}?\}|\$\{?[A-Za-z_]\w*\}?|%(?:\([A-Za-z_]\w*\))?s\b"
    brackets = r"<<?[A-Za-z_]\w*>?>|\[\[?[A-Za-z_]\w*\]?\]"
    return list(dict.fromkeys(re.findall(pattern, plain) or re.findall(brackets, plain)))


def _plain_texts(source: str) -> Iterator[str]:
    tree = parse_template(source)
    yield from (node.data for node in tree.find_all(nodes.TemplateData))
    yield from (node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))


def _collect(node: nodes.Node, shown: set[str], flows: list[tuple[set[str], set[str]]]) -> None:
    """Note the names that a node writes or asks, and what it assigns; values that are only assigned are not shown."""
    if isinstance(node, nodes.Assign):
        flows.append((_names(node.target), _names(node.node)))
        return
    if isinstance(node, nodes.With):
        flows += [(_names(target), _names(value)) for target, value in zip(node.targets, node.values, strict=True)]
        for child in node.body:
            _collect(child, shown, flows)
        return
    if isinstance(node, (nodes.AssignBlock, nodes.Macro)):
        inner: set[str] = set()
        for child in node.body:
            _collect(child, inner, flows)
        filtering = node.filter if isinstance(node, nodes.AssignBlock) else None
        target = {node.name} if isinstance(node, nodes.Macro) else _names(node.target)
        flows.append((target, inner | (_names(filtering) if filtering is not None else set())))
        return
    if isinstance(node, nodes.For):
        body: set[str] = set()
        for child in (*node.body, *node.else_):
            _collect(child, body, flows)
        writes = any(_writes(child) for child in (*node.body, *node.else_))
        sources = _names(node.iter) if not is_field_names(node.iter) else set()
        flows.append((_names(node.target), sources))
        shown |= body
        # How often something is written depends on the list, too, unless the list is that of the columns.
        if writes:
            shown |= sources | (_names(node.test) if node.test is not None else set())
        return
    if isinstance(node, nodes.Output):
        for child in node.nodes:
            shown |= _names(child)
        return
    if isinstance(node, _CONDITIONS):
        shown |= _names(node.test) if isinstance(node, nodes.If) else _names(node)
    elif isinstance(node, (nodes.FilterBlock, nodes.CallBlock)):
        shown |= _names(node.filter if isinstance(node, nodes.FilterBlock) else node.call)
    for child in node.iter_child_nodes():
        if not isinstance(child, nodes.Expr):
            _collect(child, shown, flows)


def _writes(node: nodes.Node) -> bool:
    return isinstance(node, (nodes.Output, nodes.CallBlock)) or node.find(nodes.Output) is not None


def _names(node: nodes.Node) -> set[str]:
    """The names in an expression, without a ``fields`` that gives no value."""
    if isinstance(node, (nodes.Call, nodes.Filter)) and is_field_names(node):
        return set()
    if isinstance(node, nodes.Name):
        return {node.name}
    if isinstance(node, nodes.NSRef):
        return {node.name}
    return {name for child in node.iter_child_nodes() for name in _names(child)}
