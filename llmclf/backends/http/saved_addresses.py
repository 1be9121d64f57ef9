"""The one rule for what a file says about servers: where to ask and which key to send is followed at the caller's word only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import SavedAddressError
from .addresses import origin
from .environment_headers import VARIABLES
from .server_handle import NamedServer


def check_saved_address(
    handle: NamedServer,
    saved: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    what: str,
    cure: Callable[[Mapping[str, str]], str],
) -> None:
    """Refuse to send texts or a key to a server that only a file names: files come from anybody.

    The caller's word for an address is that address among `given`, or in the variable of the environment that names one (its
    scheme, host and port count). For a provider's usual address it is a key of it in the environment, too; OpenAI's is what is
    asked without any word. A server of this machine needs no word for texts. A key needs one for its address, wherever that is,
    and one for itself: its variable among `given`, or it is the variable that would be used without any file. What the
    environment adds to all requests needs one for the address, too.

    Parameters
    ----------
    handle : NamedServer
        The model's as it would be asked.
    saved, given : mapping
        The options in the file, and those of the caller, which take precedence.
    what : str
        What was saved, for the message.
    cure : callable
        From the options that would be the caller's word to how they are given, for the message.

    Raises
    ------
    SavedAddressError
    """
    options = handle.server_options
    address, key = options.base_url, options.api_key_env
    is_usual = saved.get("base_url") is None and (key is not None or options.is_local or handle.provider.openai_headers)
    is_said = is_usual or "base_url" in given or _is_said(address, handle.provider.url_variable)
    is_key_said = key is None or "api_key_env" in given or key == handle.provider.key_variable
    if is_said and is_key_said:
        return
    headers = [name for name in VARIABLES if handle.provider.openai_headers and os.environ.get(name)]
    if key is None and not headers and options.is_local:
        return
    words = {} if is_said else {"base_url": address}
    if key is not None and (not is_said or not is_key_said):
        words["api_key_env"] = key
    sent = f"the key in {key}" if key is not None else f"what is in {headers[0]}" if headers else "texts"
    problem = f"{what} would send {sent} to {address}, and nobody else has said so"
    note = "" if key is None else "; api_key_env '' sends no key"
    if key is None and handle.provider.key_variable and not options.is_local:
        note = f"; or set {handle.provider.key_variable}, if you are a customer there"
    raise SavedAddressError(problem, cure(words) + note, words)


def _is_said(address: str, variable: str) -> bool:
    """Whether a variable of the environment names the server of an address."""
    try:
        return origin(os.environ.get(variable, "")) == origin(address)
    except ValueError:  # what stands there is no address
        return False
