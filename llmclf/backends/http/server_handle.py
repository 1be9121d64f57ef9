"""What every backend behind a server is told: where it is, the name of its key, its limits and its prices."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from ...errors import InputError, ModelNameError, RenamedWarning
from ..base import BehindServer, NamesModel
from ..handle import Handle
from ..options import describe_options, option, switch
from ..providers import Endpoint, Provider
from .options import RequestOptions, ServerOptions
from .usage import check_price

SERVERS: dict[str, type[ServerHandle]] = {}
"""The kinds of servers by the scheme of their model strings; `server` adds one."""


@dataclass(frozen=True, eq=False, repr=False)
class NamedServer(RequestOptions, Handle):
    """A handle to a model behind a server, whatever it is asked for.

    Attributes
    ----------
    scheme : str
        What a model string begins with.
    usual_provider : Provider
        Where a model is asked, unless an option or the environment says something else.
    """

    scheme: ClassVar[str]
    usual_provider: ClassVar[Provider]

    def __post_init__(self) -> None:
        scheme, _, model = str(self.name).partition(":")
        known = self.providers()
        if scheme not in known or not model:
            raise ModelNameError(
                f"model={self.name!r}: expected '{scheme if scheme in known else next(iter(known))}:NAME' with the model's name "
                "on the server"
            )
        super().__post_init__()
        check_price(self.price, self.max_cost)
        _ = self.server_options

    @classmethod
    def providers(cls) -> Mapping[str, Provider]:
        """The providers whose models this handles, by the scheme of their model strings."""
        return {cls.scheme: cls.usual_provider}

    @property
    def provider(self) -> Provider:
        """Who serves the model."""
        return self.providers()[self.name.partition(":")[0]]

    @property
    def endpoint(self) -> Endpoint:
        """The protocol in which the model is asked, and where."""
        return self.provider.endpoint()

    @property
    def model_name(self) -> str:
        """The model's name on the server: the model string without its scheme."""
        return self.name.partition(":")[2]

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "base_url": self.server_options.base_url}

    @property
    def server_options(self) -> ServerOptions:
        """The options with what the environment says, checked; the key itself is read when it is used."""
        provider, endpoint = self.provider, self.endpoint
        url = self.base_url if self.base_url is not None else os.environ.get(provider.url_variable) or endpoint.base_url
        if not url:
            raise InputError(
                f"{self.name!r}: no server is named; give base_url={provider.example_url!r}, say, or set the environment "
                f"variable {provider.url_variable}"
            )
        key = self.api_key_env or None
        if self.api_key_env is None and provider.key_variable and os.environ.get(provider.key_variable):
            key = provider.key_variable
        values = {field.name: getattr(self, field.name) for field in fields(RequestOptions)}
        return ServerOptions(
            **{**values, "base_url": url, "api_key_env": key},
            key_header=endpoint.key_header,
            headers=endpoint.headers,
            openai_headers=provider.openai_headers,
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ServerHandle(NamedServer, BehindServer, NamesModel):
    """A handle to a model behind a server that is asked for scores.

    A kind of server is a subclass with a scheme, decorated with `server`. Its fields made by `llmclf.backends.options.option` are
    options in Python, in job files, in saved classifiers and on the command line.
    """

    accept_model_change: bool = option(
        False,
        help="Go on when the server lets another model answer than before, by the name and the system fingerprint in its "
        "replies. The rows of a job then say which model has answered them. Otherwise the work stops.",
        moves_scores=False,
        check=switch,
        commands="job",
    )

    @property
    def model(self) -> str:
        """The earlier name of `model_name`."""
        warnings.warn(f"{type(self).__name__}.model is now called model_name", RenamedWarning, stacklevel=2)
        return self.model_name


S = TypeVar("S", bound=type[ServerHandle])


def server(kind: S) -> S:
    """A class decorator: makes a kind of server known to `open_backend`, job files and the command line.

    Raises
    ------
    InputError
        Another class has its scheme.
    """
    for scheme in kind.providers():
        known = SERVERS.get(scheme, kind)
        if known.__qualname__ != kind.__qualname__ or known.__module__ != kind.__module__:
            raise InputError(f"the scheme {scheme!r} belongs to {known.__name__}; give {kind.__name__} another one")
    SERVERS.update(dict.fromkeys(kind.providers(), kind))
    describe_options(kind)
    return kind
