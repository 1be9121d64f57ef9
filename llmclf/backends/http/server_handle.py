"""What every backend behind a server is told: where it is, the name of its key, its limits and its prices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from ...errors import InputError, ModelNameError
from ..handle import Handle
from .options import ServerOptions

_LIMITS = ("timeout", "max_retries", "concurrency", "rpm", "tpm", "price", "max_cost")


class ServerHandle(Handle):
    """A handle to a model behind a server; see `llmclf.backends.http.options.ServerOptions` for what its options mean.

    Attributes
    ----------
    model : str
        The model's name on the server: the model string without its scheme.
    """

    server_option_names = ("base_url", "api_key_env", *_LIMITS)
    passing_options = frozenset({"api_key_env", *_LIMITS})
    scheme: ClassVar[str]
    url_variable: ClassVar[str]
    key_variable: ClassVar[str]
    default_url: ClassVar[str | None] = None

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None,
        api_key_env: str | None,
        timeout: float | None,
        max_retries: int | None,
        concurrency: int | None,
        rpm: int | None,
        tpm: int | None,
        price: Mapping[str, float] | None,
        max_cost: float | None,
    ) -> None:
        super().__init__()
        scheme, _, self.model = str(name).partition(":")
        if scheme != self.scheme or not self.model:
            raise ModelNameError(f"model={name!r}: expected '{self.scheme}:NAME' with the model's name on the server")
        if api_key_env is not None and not isinstance(api_key_env, str):
            raise InputError(
                f"api_key_env={api_key_env!r}: expected the name of an environment variable, '' to send no key, or None"
            )
        self.name = name
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.timeout = timeout
        self.max_retries = max_retries
        self.concurrency = concurrency
        self.rpm = rpm
        self.tpm = tpm
        self.price = dict(price) if isinstance(price, Mapping) else price
        self.max_cost = max_cost
        _ = self.server_options

    @property
    def description(self) -> dict[str, Any]:
        return {**super().description, "base_url": self.server_options.base_url}

    @property
    def server_options(self) -> ServerOptions:
        """The options with what the environment says, checked; the key itself is read when it is used."""
        url = self.base_url if self.base_url is not None else os.environ.get(self.url_variable) or self.default_url
        if not url:
            raise InputError(
                f"{self.name!r}: no server is named; give base_url='http://localhost:8000/v1', say, or set the environment "
                f"variable {self.url_variable}"
            )
        key = self.api_key_env or None
        if self.api_key_env is None and os.environ.get(self.key_variable):
            key = self.key_variable
        given: dict[str, Any] = {name: getattr(self, name) for name in _LIMITS if getattr(self, name) is not None}
        return ServerOptions(url, key, **given)
