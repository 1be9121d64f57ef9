"""What somebody may have meant by a model string that names nothing."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from .providers import PROVIDERS

_OF_PROVIDERS = {
    "openai": r"(chatgpt|gpt-?[3-9]|o[1345](-|$)|text-|davinci)",
    "anthropic": r"claude",
    "gemini": r"gemini",
    "mistral": r"(open-)?mi(s|x)tral-|ministral|magistral|codestral",
    "xai": r"grok",
}
"""How the names of a provider's own models begin."""
_ELSEWHERE = re.compile(r"(gpt-oss|command-|deepseek-|sonar|nova-)", re.IGNORECASE)
_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_TAGGED = re.compile(r"[\w./-]+:[\w.-]+")
_HUB_ADDRESS = re.compile(r"https?://[\w.]+/([\w.-]+/[\w.-]+)(?:/(?:tree|blob|resolve)/\S*)?")
_SCHEMES = ("hf", "gguf", "systemone", "decisions", *PROVIDERS)
_OTHER_SCHEMES = {
    "huggingface": "hf",
    "hub": "hf",
    "transformers": "hf",
    "llama.cpp": "llamacpp",
    "llama-server": "llamacpp",
    "local": "hf",
    "claude": "anthropic",
    "google": "gemini",
    "grok": "xai",
    "x-ai": "xai",
    "lm-studio": "lmstudio",
}
_SERVERS = {"sglang": "http://localhost:30000/v1"}
_VENDORS = {"google": "gemini", "x-ai": "xai", "anthropic": "anthropic"}
"""The provider of a model named ``VENDOR/NAME``, as some programs write it."""


def model_hint(name: str) -> str:
    """A question that begins with "did you mean", or nothing.

    Examples
    --------
    >>> model_hint("org/name")
    "did you mean 'hf:org/name'?"
    >>> model_hint("llama3:8b")
    "did you mean 'ollama:llama3:8b'?"
    """
    text = name.strip()
    if not text:
        return ""
    scheme, colon, rest = text.partition(":")
    return (
        _of_address(text)
        or _of_path(text)
        or (_of_scheme(scheme.lower(), rest.strip()) if colon else "")
        or _of_name(text)
    )


def _mean(model: str, more: str = "") -> str:
    return f"did you mean {model!r}{more}?"


def _server(name: str, address: str | None) -> str:
    return _mean(f"openai:{name}", "" if address is None else f" with base_url={address!r}")


def _of_address(text: str) -> str:
    hub = _HUB_ADDRESS.search(text)
    # A model's page has two names in its path; a server's address rather ends in a version, or has a port.
    if hub and not re.search(r"/(v\d+|api)\b", text):
        return _mean(f"hf:{hub.group(1)}")
    address = re.search(r"https?://\S+", text)
    if address is None:
        return ""
    return (
        f"a server's address goes elsewhere: did you mean 'openai:NAME' with base_url={address.group()!r} (--base-url)?"
    )


def _of_path(text: str) -> str:
    """Of a path, with or without the wrong prefix."""
    scheme, _, rest = text.partition(":")
    has_scheme = rest and scheme.lower() in {*_SCHEMES, *_OTHER_SCHEMES}
    for candidate in (rest, text) if has_scheme else (text,):
        if candidate.lower().endswith(".gguf"):
            return "" if text == f"gguf:{candidate}" else _mean(f"gguf:{candidate}")
        path = Path(candidate).expanduser()
        if path.is_dir():
            if (path / "config.json").is_file():
                return "" if text == f"hf:{candidate}" else _mean(f"hf:{candidate}")
            files = sorted(path.glob("*.gguf"))
            if files:
                return _mean(f"gguf:{files[0]}")
        elif path.is_file():
            if path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".json"):
                return _mean(f"hf:{path.parent}", ", the folder that holds the file")
            with path.open("rb") as stream:
                return _mean(f"gguf:{candidate}") if stream.read(4) == b"GGUF" else ""
    return ""


def _of_scheme(scheme: str, rest: str) -> str:
    if not rest:
        return ""
    if scheme in _SERVERS:
        return _server(rest, _SERVERS[scheme])
    known = _OTHER_SCHEMES.get(scheme) or next(iter(difflib.get_close_matches(scheme, _SCHEMES, 1, 0.85)), None)
    if known is not None:
        return _mean(f"{known}:{rest}")
    return ""


def _of_name(text: str) -> str:
    vendor, slash, rest = text.partition("/")
    if slash and rest and vendor.lower() in ("openai", "azure"):
        return _mean(f"{vendor.lower()}:{rest}")
    # The same vendors have open weights on the hub, of other names.
    owner = _VENDORS.get(vendor.lower())
    if owner is not None and owner == _provider(rest):
        return _mean(f"{owner}:{rest}")
    if "/" not in text and text.lower().startswith("smol"):
        return _mean("smollm2")
    provider = _provider(text)
    if provider is not None and "/" not in text:
        return _mean(f"{provider}:{text}")
    if _ELSEWHERE.match(text):
        return _server(text, "https://...")
    if _HUB.fullmatch(text):
        return _mean(f"hf:{text}")
    if _TAGGED.fullmatch(text) and text.partition(":")[0] not in _SCHEMES:
        return _mean(f"ollama:{text}")
    close = difflib.get_close_matches(text.lower(), ("smollm2",), 1, 0.6)
    if close:
        return _mean(close[0])
    if re.fullmatch(r"[\w.-]+", text):
        return (
            f"did you mean 'ollama:{text}' (a model of Ollama), 'openai:{text}' (of another server) or 'hf:ORG/{text}' (of the "
            "hub)?"
        )
    return ""


def _provider(text: str) -> str | None:
    """The provider whose own models have names like this."""
    known = (scheme for scheme, pattern in _OF_PROVIDERS.items() if re.match(pattern, text, re.IGNORECASE))
    return next(known, None) if text else None
