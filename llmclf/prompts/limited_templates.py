"""A sandbox for templates in which everything that could go on for ever, or grow without end, asks the limits first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from .limits import Work, check_bits, check_filter, check_method, check_number, check_percent, check_product

WORK = "work left"
"""The name of the `Work` of a rendering in its context; no template can name it."""

_TICK, _MEASURE, _CONCAT = "a step", "measured", "joined"  # filters that no template can name


def limited(tree: nodes.Template) -> nodes.Template:
    """A template in which every block begins with a step, and what its expressions make is measured."""
    for node in list(tree.find_all(nodes.Node)):
        for name, body in node.iter_fields():
            if name in ("body", "else_") and isinstance(body, list):
                body.insert(0, _tick(sum(map(_n_written, body)), node.lineno))
    tick = _tick(0, tree.lineno).node
    for loop in tree.find_all(nodes.For):
        if loop.test is not None:  # asked about items for which the body is not run
            loop.test = nodes.And(tick, loop.test, lineno=loop.lineno)
    changed: nodes.Template = _Measured().visit(tree)
    return changed


def _tick(n_characters: int, lineno: int) -> nodes.ExprStmt:
    return nodes.ExprStmt(_filter(nodes.Const(n_characters, lineno=lineno), _TICK), lineno=lineno)


def _n_written(node: nodes.Node) -> int:
    """The characters of the template itself that a node of a block writes."""
    if not isinstance(node, nodes.Output):
        return 0
    return sum(len(piece.data) for piece in node.nodes if isinstance(piece, nodes.TemplateData))


def _filter(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Measured(NodeTransformer):
    """Measures the values that expressions make where no call, filter or operator does it; jinja2 finds the methods by name."""

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, _MEASURE)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, _MEASURE)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return node if node.ctx != "load" else _filter(node, _MEASURE)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, _MEASURE) if isinstance(node.arg, nodes.Slice) else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), _CONCAT)


@pass_context
def _take_step(context: Context, n_characters: int) -> bool:
    work_of(context).step(n_characters)
    return True


@pass_context
def _measure(context: Context, value: Any) -> Any:
    work = work_of(context)
    work.step()
    return work.made(value)


@pass_context
def _concat(context: Context, parts: Sequence[Any]) -> str:
    work = work_of(context)
    work.step()
    work.made(parts)
    return "".join(map(str, parts))


def work_of(context: Context) -> Work:
    """What is left of the limits of the rendering that a context belongs to."""
    work: Work = context.parent[WORK]
    return work


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates end. Each is to be rendered with a `Work` of the name `WORK`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        # Nothing is computed while a template is compiled: there is no `Work` then.
        super().__init__(optimized=False, **options)
        del self.globals["lipsum"]  # any amount of text, and another at each call
        for name, function in list(self.filters.items()):
            self.filters[name] = _limited_filter(name, function)
        self.filters |= {_TICK: _take_step, _MEASURE: _measure, _CONCAT: _concat}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        work = work_of(context)
        work.step()
        if operator == "%" and isinstance(left, (str, bytes)):
            check_percent(work, left, right)
        elif operator == "*":
            check_product(work, left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            check_bits(left.bit_length() * right)
        return work.made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        work = work_of(context)
        work.step()
        if isinstance(obj, _BoundFormat):
            return work.made(obj.formatted(self, work, args, kwargs))
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, (str, bytes, int)):
            # A method may ask for all items before anything can be measured.
            args = tuple(list(work.made(one)) if isinstance(one, Iterator) else one for one in args)
            check_method(work, owner, obj.__name__, [*args, *kwargs.values()])
        elif (args or kwargs) and not isinstance(obj, jinja2.runtime.Macro):
            work.made((args, kwargs))  # what an object keeps that is made here, such as a namespace
        return work.made(super().call(context, obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        return _BoundFormat(value.__self__, value.__name__ == "format_map")


class _BoundFormat:
    """The method ``format`` or ``format_map`` of a text."""

    def __init__(self, text: str, is_map: bool) -> None:
        self._text, self._is_map = text, is_map

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        raise jinja2.exceptions.SecurityError("format is not safely callable here")

    def formatted(
        self, environment: LimitedEnvironment, work: Work, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> str:
        values, named = args, kwargs
        if self._is_map:
            if kwargs or len(args) != 1 or not isinstance(args[0], Mapping):
                raise TypeError("format_map() takes exactly one argument, a mapping")
            values, named = (), args[0]
        if isinstance(self._text, Markup):
            html = _EscapeFormatter(environment, work, escape=self._text.escape)
            return Markup(html.vformat(self._text, values, named))
        return _Formatter(environment, work).vformat(self._text, values, named)


class _Formatter(SandboxedFormatter):
    """Fields that are measured before they are formatted."""

    def __init__(self, environment: LimitedEnvironment, work: Work, **options: Any) -> None:
        super().__init__(environment, **options)
        self._work, self._total = work, 0

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        found = super().get_field(field_name, args, kwargs)
        self._work.step()
        self._total += self._work.size(found[0])
        self._work.check(self._total)
        return found

    def format_field(self, value: Any, format_spec: str) -> Any:
        for number in re.findall("[0-9]+", format_spec):
            check_number(number)
        return super().format_field(value, format_spec)


class _EscapeFormatter(_Formatter, SandboxedEscapeFormatter):
    """The same for text that is marked as HTML."""


def _limited_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes a step, and whose value and arguments are looked at before and its result after."""
    wanted = getattr(function, "jinja_pass_arg", None)

    @pass_context
    def call(context: Context, value: Any, /, *args: Any, **kwargs: Any) -> Any:
        work = work_of(context)
        work.step()
        value = work.made(value) if isinstance(value, Iterator) else value
        if name == "join" and isinstance(value, Iterator):
            value = list(value)
        check_filter(work, name, value, [*args, *kwargs.values()], kwargs)
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        passed = (value,) if wanted is None else (first[wanted.name], value)
        return work.made(function(*passed, *args, **kwargs))

    return call
