"""Flags of the command line from the options of backends, so that a new option of a server is a flag without another word."""

from __future__ import annotations

import functools
import inspect
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer

from ..backends.http.server_handle import SERVERS
from ..backends.options import Commands, OptionField, options_of
from ..errors import InputError

ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="An option of the model's backend, such as tokenizer=FOLDER, device=cpu or top_calls=8; may be given again.",
    ),
]

EmbeddingOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="An option of the server that makes the classifier's embeddings, such as base_url=http://host/v1 or "
        "api_key_env=VARIABLE, in place of the saved one; may be given again.",
    ),
]


def server_options(commands: Commands | None = None) -> dict[str, OptionField]:
    """The options of all kinds of servers that have a flag, by name.

    Parameters
    ----------
    commands : {"model", "job"}, optional
        Only those of these commands.
    """
    options: dict[str, OptionField] = {}
    for kind in SERVERS.values():
        for field in options_of(kind):
            if field.option.commands is not None and commands in (None, field.option.commands):
                options.setdefault(field.name, field)
    return options


def value_type(field: OptionField) -> Any:
    """An option's type, without None."""
    inner = [one for one in typing.get_args(field.type) if one is not type(None)]
    is_union = typing.get_origin(field.type) in (typing.Union, types.UnionType)
    return inner[0] if is_union and len(inner) == 1 else field.type


def flag_of(field: OptionField) -> Any:
    """The annotation that makes an option a flag."""
    kind, option = value_type(field), field.option
    if kind is bool:
        return Annotated[bool | None, typer.Option(f"--{field.name.replace('_', '-')}", help=option.help)]
    shown = kind if kind in (str, int, float, bool) and option.parse is None else str
    help_text = option.help if field.default is None else f"{option.help} Default: {field.default:g}."
    ends = {"min": option.least, "max": option.most}
    limits: dict[str, Any] = {} if shown is str else {name: shown(end) for name, end in ends.items() if end is not None}
    return Annotated[shown | None, typer.Option(metavar=option.metavar, help=help_text, **limits)]


def parsed_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of option flags that were given."""
    options = server_options()
    values = {}
    for name, value in given.items():
        if name not in options or value is None:
            continue
        field = options[name]
        if field.option.parse is not None:
            value = field.option.parse(value)
        elif isinstance(value, str) and value_type(field) is not str:
            value = toml_value(value)
        values[name] = value
    return values


def model_options(given: Iterable[str] | None) -> dict[str, Any]:
    """What ``--model-option`` says."""
    return named_options(given, "--model-option")


def embedding_options(given: Iterable[str] | None, missing: str | None = None) -> dict[str, Any]:
    """What ``--embedding-option`` says.

    Parameters
    ----------
    given : iterable of str, optional
    missing : str, optional
        How a saved classifier is named, where none is.

    Raises
    ------
    InputError
        An option is not NAME=VALUE, or belongs to a classifier that is not named.

    Examples
    --------
    >>> embedding_options(["rpm=60"], "--classifier FOLDER")
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: --embedding-option 'rpm=60' belongs to a saved classifier; give --classifier FOLDER, too
    """
    texts = list(given or ())
    if texts and missing is not None:
        raise InputError(f"--embedding-option {texts[0]!r} belongs to a saved classifier; give {missing}, too")
    return named_options(texts, "--embedding-option")


def named_options(given: Iterable[str] | None, flag: str) -> dict[str, Any]:
    """What a flag of the form NAME=VALUE says; a value is read as TOML, and as it is where it is not TOML.

    Examples
    --------
    >>> named_options(["timeout=5", "base_url=http://localhost:8000/v1"], "--embedding-option")
    {'timeout': 5, 'base_url': 'http://localhost:8000/v1'}
    """
    options: dict[str, Any] = {}
    for text in given or ():
        name, is_given, value = text.partition("=")
        if not is_given or not name.isidentifier():
            raise InputError(f"{flag} {text!r}: expected NAME=VALUE, such as concurrency=64")
        options[name] = toml_value(value)
    return options


def toml_value(text: str) -> Any:
    """A text read as a TOML value, or the text itself where it is not one."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parameter(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """A parameter of a command."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def flags_of(options: Mapping[str, OptionField]) -> list[inspect.Parameter]:
    """The parameters that these options are, and ``--model-option`` for all others."""
    flags = [parameter(field.name, flag_of(field)) for field in options.values()]
    return [*flags, parameter("model_option", ModelOption)]


def with_parameters(function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Let typer see these parameters instead of the function's own."""
    shown = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    function.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in shown}


def takes_model_options(function: Callable[..., None]) -> Callable[..., None]:
    """A decorator for commands that open a model: the parameter `backend_options` becomes the flags of its options."""
    parameters_before = inspect.signature(function, eval_str=True).parameters

    @functools.wraps(function)
    def command(**given: Any) -> None:
        options = {**parsed_flags(given), **model_options(given["model_option"])}
        rest = {name: value for name, value in given.items() if name in parameters_before}
        function(**rest, backend_options=options)

    parameters: list[inspect.Parameter] = []
    for name, one in parameters_before.items():
        parameters += flags_of(server_options("model")) if name == "backend_options" else [one]
    with_parameters(command, parameters)
    return command
