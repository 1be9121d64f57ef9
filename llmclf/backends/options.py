"""A backend's options as dataclass fields: name, type, default, check and help of each are written once.

Everything that shows or takes options reads them from here: signatures and help of the classes, ``open_backend``, saved
classifiers, job files and the command line.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

from ..checks import is_finite_number, is_whole_number
from ..errors import InputError, RenamedWarning, warn

T = TypeVar("T")
Commands = Literal["model", "job"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is known of an option besides its name, type and default.

    Attributes
    ----------
    help : str
        What it means, in sentences that fit Python and the command line.
    moves_scores : bool
        Whether scores depend on it. If not (how fast, how often), caches and journals ignore it.
    check : callable ``f(name, value)``, optional
        Raises `InputError` for a value that cannot be used. It is not asked about None where that is the default.
    convert : callable, optional
        Makes the value that is kept from the one that was given: today's name of an earlier spelling, say.
    commands : {"model", "job"} or None
        The commands that have a flag for it: all that open a model, or ``label`` and ``estimate`` alone, and job files. None:
        only ``--model-option`` sets it.
    metavar : str, optional
        What stands for its value in the help of a command.
    parse : callable, optional
        Makes the value from a flag's text, where it is neither a text nor a number.
    least, above, most : float, optional
        The value is at least `least`, or more than `above`, and at most `most`; job files and flags check this before anything is
        opened.
    """

    help: str
    moves_scores: bool = True
    check: Callable[[str, Any], None] | None = None
    convert: Callable[[Any], Any] | None = None
    commands: Commands | None = None
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class OptionField:
    """An option of a class."""

    name: str
    type: Any
    default: Any
    option: Option


def option(default: Any = None, /, **described: Any) -> Any:
    """A dataclass field that is an option; see `Option` for what it takes.

    Examples
    --------
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Toy:
    ...     size: int = option(3, help="How large it is.", check=whole_number(1))
    >>> [(field.name, field.default, field.option.help) for field in options_of(Toy)]
    [('size', 3, 'How large it is.')]
    """
    return dataclasses.field(default=default, metadata={"option": Option(**described)})


_OPTIONS: WeakKeyDictionary[type, tuple[OptionField, ...]] = WeakKeyDictionary()


def options_of(kind: type) -> tuple[OptionField, ...]:
    """The options of a dataclass, in the order of its fields."""
    options = _OPTIONS.get(kind)
    if options is None:
        types = typing.get_type_hints(kind)
        options = _OPTIONS[kind] = tuple(
            OptionField(field.name, types[field.name], field.default, field.metadata["option"])
            for field in dataclasses.fields(kind)
            if "option" in field.metadata
        )
    return options


def check_options(owner: Any) -> None:
    """Ask each option's check about the owner's value.

    Raises
    ------
    InputError
    """
    for field in options_of(type(owner)):
        value = getattr(owner, field.name)
        if field.option.check is not None and not (value is None and field.default is None):
            field.option.check(field.name, value)


def fill_in(owner: Any) -> None:
    """In a frozen owner under construction: defaults in the place of None, and mappings that nobody else can change."""
    for field in options_of(type(owner)):
        value = getattr(owner, field.name)
        if value is None and field.default is not None:
            object.__setattr__(owner, field.name, field.default)
        elif value is not None and field.option.convert is not None:
            object.__setattr__(owner, field.name, field.option.convert(value))
        elif isinstance(value, Mapping):
            object.__setattr__(owner, field.name, dict(value))


def describe_options(kind: type[T]) -> type[T]:
    """A class decorator: adds every option that the docstring does not explain to its section "Parameters"."""
    text = inspect.cleandoc(kind.__doc__ or "")
    title = "Parameters\n----------\n"
    if title not in text:
        head, _, tail = text.partition("\n\nExamples\n")
        text = f"{head}\n\n{title}" + (f"\nExamples\n{tail}" if tail else "")
    before, _, after = text.partition(title)
    end = re.search(r"^\w+\n-{3,}$", after, re.MULTILINE)
    section, rest = (after[: end.start()], after[end.start() :]) if end else (after, "")
    entries = [section.strip("\n")] if section.strip() else []
    for field in options_of(kind):
        if not re.search(rf"^(.*, )?{field.name}\b.* : ", section, re.MULTILINE):
            entries.append(_entry(kind, field))
    kind.__doc__ = f"{before}{title}" + "\n".join(entries) + (f"\n\n{rest}" if rest else "\n")
    return kind


def _entry(kind: type, field: OptionField) -> str:
    (written,) = (one.type for one in dataclasses.fields(kind) if one.name == field.name)
    written = written if isinstance(written, str) else inspect.formatannotation(written)
    name = written.removesuffix(" | None")
    default = "optional" if field.default is None else f"default={field.default!r}"
    return f"{field.name} : {name}, {default}\n" + textwrap.indent(textwrap.fill(field.option.help, 116), "    ")


def takes_earlier_name(old: str, new: str) -> Callable[[type[T]], type[T]]:
    """A class decorator: for one more version, the constructor takes its first parameter by its earlier name too.

    Examples
    --------
    >>> @takes_earlier_name("width", "size")
    ... @dataclass
    ... class Toy:
    ...     size: int
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     Toy(width=3).size, str(seen[0].message)
    (3, 'Toy(width=) is now called size=; the next version will not read the old name')
    """

    def decorate(kind: type[T]) -> type[T]:
        init: Callable[..., None] = kind.__init__

        @functools.wraps(init)
        def construct(self: Any, *args: Any, **given: Any) -> None:
            if old in given:
                message = f"{kind.__name__}({old}=) is now called {new}="
                if args or new in given:
                    raise InputError(f"{message}, and both are given; leave {old}= out")
                warn(f"{message}; the next version will not read the old name", RenamedWarning)
                given[new] = given.pop(old)
            init(self, *args, **given)

        kind.__init__ = construct  # type: ignore[method-assign]
        return kind

    return decorate


def whole_number(least: int, most: int | None = None) -> Callable[[str, Any], None]:
    """A check: a whole number of at least `least` and at most `most`."""
    limits = f"of at least {least}" if most is None else f"between {least} and {most}"

    def check(name: str, value: Any) -> None:
        if not (isinstance(value, int) and is_whole_number(value, least) and (most is None or value <= most)):
            raise InputError(f"{name}={value!r}: expected a whole number {limits}")

    return check


def switch(name: str, value: Any) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise InputError(f"{name}={value!r}: expected True or False")


def positive_count(name: str, value: Any) -> None:
    """A check: a positive whole number, where None stands for a default that depends on the model."""
    if not (isinstance(value, int) and is_whole_number(value, 1)):
        raise InputError(f"{name}={value!r}: expected a positive whole number, or None for the default")


def positive_seconds(name: str, value: Any) -> None:
    """A check: a positive time."""
    if not is_finite_number(value) or value <= 0:
        raise InputError(f"{name}={value!r}: expected a positive number of seconds")


def further_fields(*reserved: str) -> Callable[[str, Any], None]:
    """A check: further fields of each request, as plain JSON values; those that are `reserved` a backend sets itself."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise InputError(f"{name}={value!r}: expected a dict of further fields of each request")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}={value!r}: expected plain JSON values ({error})") from error
        taken = sorted(set(reserved) & set(value))
        if taken:
            raise InputError(f"{name} has {taken[0]!r}, which the backend sets itself; leave it out")

    return check


def one_of(*choices: str) -> Callable[[str, Any], None]:
    """A check: one of some texts, or None."""

    def check(name: str, value: Any) -> None:
        if value not in choices:
            raise InputError(f"{name}={value!r}: expected {', '.join(map(repr, choices))} or None")

    return check
