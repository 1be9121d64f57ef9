"""Whether two descriptions of a model mean the same scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CalibrationWarning, ModelError, warn

_PASSING = ("base_url", "probe", "tokenizer", "context_length")
_ROUTE_FACTS = ("route", "use_route")
_OLD_ROUTES = {"named tokens": "named_tokens"}
"""Names of routes that older versions wrote into saved classifiers, journals and caches, and today's."""


def current_spelling(route: Any) -> Any:
    """Today's name of a route; whatever is not an old name comes back as it is.

    Examples
    --------
    >>> current_spelling("named tokens"), current_spelling("echo"), current_spelling(None)
    ('named_tokens', 'echo', None)
    """
    return _OLD_ROUTES.get(route, route) if isinstance(route, str) else route


def current_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts about a model that an older version may have written, with today's names of routes.

    Examples
    --------
    >>> current_facts({"model": "a", "use_route": "named tokens"})
    {'model': 'a', 'use_route': 'named_tokens'}
    """
    return {name: current_spelling(value) if name in _ROUTE_FACTS else value for name, value in facts.items()}


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first fact on which scores depend, wherever the model is reached, in which two identities differ; None if in none.

    Examples
    --------
    >>> differing({"model": "a", "base_url": "http://one"}, {"model": "a", "base_url": "http://two"})
    >>> differing({"model": "a", "dtype": "float32"}, {"model": "a", "dtype": "bfloat16"})
    'dtype'
    """
    then, now = current_facts(then), current_facts(now)
    names = sorted({*then, *now} - set(_PASSING))
    return next((name for name in names if not agree(name, then.get(name), now.get(name))), None)


def agree(name: str, then: Any, now: Any) -> bool:
    """Whether two values of a fact can mean the same; an earlier version did not know the commit of a model from the hub.

    Examples
    --------
    >>> agree("weights", "org/name@", "org/name@12ab"), agree("weights", "org/name@34cd", "org/name@12ab")
    (True, False)
    """
    if name == "weights" and isinstance(then, str) and isinstance(now, str) and then.endswith("@"):
        return now.startswith(then)
    return bool(then == now)


def check_same_model(then: Mapping[str, Any], now: Mapping[str, Any], *, is_strict: bool) -> None:
    """Refuse another model than the one that bias, calibrator and threshold belong to, or warn of it.

    Raises
    ------
    ModelError
        It is another, and `is_strict`.

    Warns
    -----
    CalibrationWarning
        It is another, and not `is_strict`.
    """
    name = differing(then, now)
    if name is None:
        return
    message = (
        f"bias, calibrator and threshold belong to another model: its {name} was {then.get(name)!r} and is "
        f"{now.get(name)!r}; fit again on this model"
    )
    if is_strict:
        raise ModelError(f"{message}, or read the saved classifier with load(folder, check_model=False)")
    warn(message, CalibrationWarning)
