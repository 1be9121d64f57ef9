"""What is known of a provider before it is asked anything. All of it is a hint: a user's options override it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ...errors import InputError


@dataclass(frozen=True)
class Endpoint:
    """One protocol that a provider speaks, and where.

    Attributes
    ----------
    wire : str
        The protocol; see `llmclf.backends.wires.registry`.
    base_url : str or None
        None where every customer has an address of their own.
    key_header : str
        The header that carries the key; ``Authorization`` carries it as a bearer's.
    headers : tuple of pairs of str
        What every request also says.
    """

    wire: str
    base_url: str | None = None
    key_header: str = "Authorization"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Provider:
    """A provider of models, or a program that serves them.

    Attributes
    ----------
    scheme : str
        What its model strings begin with.
    title : str
        Its name.
    endpoints : tuple of Endpoint
        The preferred one first.
    url_variable : str
        The environment variable with another address than the table's.
    key_variable : str or None
        The environment variable with its key; None where a server needs none.
    top_logprobs : int
        How many of the likeliest tokens it names, at most; 0 where no model of it has named any.
    limit : str
        Its name for the largest number of tokens in an answer, in OpenAI's protocol for chats.
    takes_one_text : bool
        A completion is asked for with one text: neither several in a request, nor token ids.
    effort : str or None
        The reasoning effort without which some of its models show no log-probabilities.
    pin : mapping
        What a request needs in `extra` so that one provider behind this one answers: the field, and an example of its value.
    openai_headers : bool
        The variables of the environment that add headers for OpenAI are meant for it, too.
    example_url : str
        An address such as its users have.
    """

    scheme: str
    title: str
    endpoints: tuple[Endpoint, ...]
    url_variable: str
    key_variable: str | None = None
    top_logprobs: int = 20
    limit: str = "max_tokens"
    takes_one_text: bool = False
    effort: str | None = None
    pin: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    openai_headers: bool = False
    example_url: str = "http://localhost:8000/v1"

    def endpoint(self, wire: str | None = None) -> Endpoint:
        """The endpoint of a wire; the preferred one where none is named.

        Raises
        ------
        InputError
            The provider does not speak it.

        Examples
        --------
        >>> from llmclf.backends.providers import PROVIDERS
        >>> PROVIDERS["ollama"].endpoint("chat").base_url
        'http://localhost:11434/v1'
        """
        for endpoint in self.endpoints:
            if wire in (None, endpoint.wire):
                return endpoint
        known = ", ".join(repr(endpoint.wire) for endpoint in self.endpoints)
        raise InputError(f"wire={wire!r}: models {self.scheme}:NAME speak {known}; give one of them, or None")

    def check_extra(self, name: str, extra: Mapping[str, Any] | None) -> None:
        """Refuse requests that another provider may answer each time.

        Raises
        ------
        InputError
        """
        missing = [field for field in self.pin if field not in (extra or {})]
        if missing:
            raise InputError(
                f"{name!r}: {self.title} passes requests on to several providers, whose numbers differ; name the one that "
                f"answers: extra={dict(self.pin)!r}"
            )
