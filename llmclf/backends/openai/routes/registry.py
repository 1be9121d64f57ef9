"""The registered routes, best first, and the choice among them. Nothing outside knows a route by its name."""

from __future__ import annotations

from dataclasses import dataclass

from ....errors import CapabilityError, InputError
from ...answers.registry import by_answers
from ...identity import current_spelling
from .answered import MixedAnswers, SampledAnswers, VerbalizedAnswers
from .base import Route, RouteOptions, ServerFacts, TextRoute
from .chat import Chat
from .choice import Choice
from .echo import Echo
from .echo_text import EchoText
from .grammar import Grammar
from .named_tokens import NamedTokens
from .top_logprobs import TopLogprobs

_REGISTERED: list[type[Route]] = [
    *(Choice, Echo, NamedTokens, Grammar, EchoText),
    *(TopLogprobs, Chat),
    *(VerbalizedAnswers, SampledAnswers, MixedAnswers),
]
"""Best first: exact routes before bounded ones, those that prove their tokens before those that read texts, and last those by
answers, which are taken only on request."""


def register(route: type[Route], *, before: str | None = None) -> None:
    """Add a route; connections that are opened from now on know it.

    Parameters
    ----------
    route : subclass of Route
    before : str, optional
        The name of a route that is worse; without it, the new route comes last.

    Raises
    ------
    InputError
        The name is taken, or `before` is not the name of a route.
    """
    names = route_names()
    if route.name in names:
        raise InputError(f"a route {route.name!r} is registered already; give the new one another name")
    if before is not None and before not in names:
        raise InputError(f"before={before!r}: expected one of {', '.join(map(repr, names))}, or None")
    _REGISTERED.insert(len(names) if before is None else names.index(before), route)


def unregister(route: type[Route]) -> None:
    """Take back what `register` did; connections that are open keep the route."""
    _REGISTERED.remove(route)


def route_names() -> tuple[str, ...]:
    """The names of the routes, best first.

    Examples
    --------
    >>> route_names()
    ('choice', 'echo', 'named_tokens', 'grammar', 'echo_text', 'top_logprobs', 'chat', 'verbalized', 'sampled', 'mixed')
    """
    return tuple(route.name for route in _REGISTERED)


def check_name(use_route: str | None) -> str | None:
    """The current name of a route that a user asks for; None asks for the best.

    Raises
    ------
    InputError
        The name does not stand for a route.

    Examples
    --------
    >>> check_name("named tokens")
    'named_tokens'
    """
    name: str | None = current_spelling(use_route)
    if name is not None and name not in route_names():
        raise InputError(f"use_route={use_route!r}: expected one of {', '.join(map(repr, route_names()))}, or None")
    return name


@dataclass(frozen=True)
class RouteReport:
    """Whether a server allows a route.

    Attributes
    ----------
    name, summary : str
    is_exact : bool
    obstacle : str or None
        Why the server does not allow it; None where it does.
    on_request : bool
        Its scores are estimates from what the model writes, and it is taken only where a user names it.
    cost : str or None
        What a row takes, in words, where that does not depend on the labels.
    """

    name: str
    summary: str
    is_exact: bool
    obstacle: str | None
    on_request: bool = False
    cost: str | None = None


class Routes:
    """The routes of one connection, best first.

    Parameters
    ----------
    options : RouteOptions
    """

    def __init__(self, options: RouteOptions) -> None:
        self._routes = [route(options) for route in _REGISTERED]

    def assumed(self, *, is_tokenised: bool, is_chat: bool) -> Route:
        """The one that is assumed as long as nothing is known about the server.

        Parameters
        ----------
        is_tokenised : bool
            The model's tokenizer is at hand; otherwise rows may have to be sent as text, which takes more.
        is_chat : bool
            Whether the rows are chats.
        """
        texts = (one for one in self._routes if isinstance(one, TextRoute) and one.answers_chats == is_chat)
        return self._routes[0] if is_tokenised else next(texts, self._routes[0])

    def named(self, name: str) -> Route:
        """The route of a name."""
        return next(route for route in self._routes if route.name == name)

    def reports(self, server: ServerFacts) -> list[RouteReport]:
        """Every route, and whether the server allows it."""
        return [
            RouteReport(route.name, route.summary, route.is_exact, route.obstacle(server), route.on_request, route.cost)
            for route in self._routes
        ]

    def choose(self, server: ServerFacts, use_route: str | None) -> Route:
        """The best route that the server allows, or the one that the user asks for.

        Raises
        ------
        CapabilityError
            The server does not allow that one, or allows none.
        """
        allowed = self.allowed(server)
        notes = "; ".join(server.probe.notes) or "it did not say why"
        if use_route is not None:
            route = self.named(use_route)
            if route not in allowed:
                names = ", ".join(repr(route.name) for route in allowed) or "none"
                raise CapabilityError(
                    f"the server cannot be asked by the route {use_route!r}: {route.obstacle(server)} ({notes}); "
                    f"it allows: {names}"
                )
            return route
        unasked = [route for route in allowed if not route.on_request]
        if not unasked:
            raise CapabilityError(
                f"the server's log-probabilities cannot be trusted or do not reach a label ({notes}); use a server that shows "
                "the model's own (vLLM with its default --logprobs-mode raw_logprobs, SGLang, llama.cpp's server)"
                + (f", or {by_answers()}" if allowed else "")
            )
        return unasked[0]

    def allowed(self, server: ServerFacts) -> list[Route]:
        """The routes that a server allows, best first; those that are taken only on request included."""
        return [route for route in self._routes if route.obstacle(server) is None]
