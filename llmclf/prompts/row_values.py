"""Which of the values that a template prints are the row's own, and which are the same for all rows: label words, field names."""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import meta, nodes

COMMON = "same for all rows"
"""The filter that `mark_common` puts around a value; no template can name it."""
_NAMES_ALONE = frozenset({"count", "first", "join", "last", "length", "list", "sort", "unique"})
"""Filters that see the names in a dict and none of its values."""


def mark_common(tree: nodes.Template) -> nodes.Template:
    """Put the filter `COMMON` around every printed value that cannot come from a row: of constants, label words and field names.

    What a macro is given, or what is assigned in several ways of which one is the row's, counts as the row's.
    """
    common = _common_names(tree)
    for output in tree.find_all(nodes.Output):
        output.nodes = [
            nodes.Filter(node, COMMON, [], [], None, None, lineno=node.lineno)
            if not isinstance(node, nodes.TemplateData) and _is_common(node, common)
            else node
            for node in output.nodes
        ]
    return tree


def is_field_names(node: nodes.Node) -> bool:
    """Whether an expression is the names of the fields, without a value: ``fields``, ``fields.keys()``, ``fields | list``."""
    if isinstance(node, nodes.Name):
        return bool(node.name == "fields")
    if isinstance(node, nodes.Filter) and node.name in _NAMES_ALONE and node.node is not None:
        return is_field_names(node.node)
    return _method(node) == "keys"


def _is_items(node: nodes.Node) -> bool:
    return _method(node) == "items" or (
        isinstance(node, nodes.Filter)
        and node.name in ("items", "dictsort")
        and node.node == nodes.Name("fields", "load")
    )


def _method(node: nodes.Node) -> str | None:
    """The method of the fields that an expression calls."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and is_field_names(node.node.node):
        return str(node.node.attr)
    return None


def _common_names(tree: nodes.Template) -> set[str]:
    """The names that hold nothing of a row, wherever in the template they are assigned."""
    flows: dict[str, list[nodes.Node | None]] = {}  # what each name is made of; None is the row's
    for targets, source in _assignments(tree):
        for name in targets:
            flows.setdefault(name, []).append(source)
    # What is used before it is assigned, or outside of its loop, is a field of that name.
    common = {"label_words", *({"loop", *flows} - meta.find_undeclared_variables(tree))}
    shrinks = True
    while shrinks:
        wrong = {
            name
            for name, sources in flows.items()
            if name in common and not all(one is not None and _is_common(one, common) for one in sources)
        }
        common -= wrong
        shrinks = bool(wrong)
    return common


def _assignments(tree: nodes.Template) -> Iterator[tuple[set[str], nodes.Node | None]]:
    constant = nodes.Const(None)
    for loop in tree.find_all(nodes.For):
        target = loop.target
        if isinstance(target, nodes.Tuple) and len(target.items) == 2 and _is_items(loop.iter):
            yield _targets(target.items[0]), constant
            yield _targets(target.items[1]), None
        else:
            yield _targets(target), constant if is_field_names(loop.iter) else loop.iter
    for one in tree.find_all(nodes.Assign):
        yield _targets(one.target), one.node
    for block in tree.find_all(nodes.With):
        for target, value in zip(block.targets, block.values, strict=True):
            yield _targets(target), value
    for captured in tree.find_all(nodes.AssignBlock):
        yield _targets(captured.target), None
    for macro in tree.find_all(nodes.Macro):
        yield {macro.name, *(argument.name for argument in macro.args)}, None
    for call in tree.find_all(nodes.CallBlock):
        yield {argument.name for argument in call.args}, None
    yield {"caller", "varargs", "kwargs"}, None


def _targets(node: nodes.Node) -> set[str]:
    kinds = (nodes.Name, nodes.NSRef)
    return {one.name for one in (node, *node.find_all(kinds)) if isinstance(one, kinds)}


def _is_common(node: nodes.Node, common: set[str]) -> bool:
    if isinstance(node, nodes.Name):
        return node.name in common
    # Printed as it is, `fields` shows its values.
    return is_field_names(node) or all(_is_common(child, common) for child in node.iter_child_nodes())
