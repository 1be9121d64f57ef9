"""What somebody may have meant by a model string that names nothing."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

_OLLAMA = "http://localhost:11434/v1"
_HOSTED = re.compile(
    r"(chatgpt|gpt-?[345]|gpt-oss|o[1345](-|$)|text-|davinci|claude|gemini|command-|mistral-(tiny|small|medium|large)|deepseek-|"
    r"grok|sonar|nova-)",
    re.IGNORECASE,
)
_OF_OPENAI = re.compile(r"(chatgpt|gpt-?[345]|o[1345](-|$)|text-|davinci)", re.IGNORECASE)
_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_TAGGED = re.compile(r"[\w./-]+:[\w.-]+")
_HUB_ADDRESS = re.compile(r"https?://[\w.]+/([\w.-]+/[\w.-]+)(?:/(?:tree|blob|resolve)/\S*)?")
_SCHEMES = ("hf", "gguf", "openai", "systemone", "decisions")
_OTHER_SCHEMES = {
    "huggingface": "hf",
    "hub": "hf",
    "transformers": "hf",
    "llamacpp": "gguf",
    "llama.cpp": "gguf",
    "local": "hf",
}
_SERVERS = {
    "ollama": _OLLAMA,
    "vllm": "http://localhost:8000/v1",
    "sglang": "http://localhost:30000/v1",
    "lmstudio": "http://localhost:1234/v1",
}


def model_hint(name: str) -> str:
    """A question that begins with "did you mean", or nothing.

    Examples
    --------
    >>> model_hint("org/name")
    "did you mean 'hf:org/name'?"
    >>> model_hint("llama3:8b")
    "for Ollama, did you mean 'openai:llama3:8b' with base_url='http://localhost:11434/v1'?"
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
    known = _OTHER_SCHEMES.get(scheme) or next(iter(difflib.get_close_matches(scheme, _SCHEMES, 1, 0.75)), None)
    if known is not None:
        return _mean(f"{known}:{rest}")
    return ""


def _of_name(text: str) -> str:
    vendor, slash, rest = text.partition("/")
    if slash and rest and (vendor.lower() in ("openai", "azure") or _OF_OPENAI.match(rest)):
        return _server(rest, None)
    if "/" not in text and text.lower().startswith("smol"):
        return _mean("smollm2")
    if _HOSTED.match(text):
        return _server(text, None if _OF_OPENAI.match(text) else "https://...")
    if _HUB.fullmatch(text):
        return _mean(f"hf:{text}")
    if _TAGGED.fullmatch(text) and text.partition(":")[0] not in _SCHEMES:
        return f"for Ollama, {_server(text, _OLLAMA)}"
    close = difflib.get_close_matches(text.lower(), ("smollm2",), 1, 0.6)
    if close:
        return _mean(close[0])
    if re.fullmatch(r"[\w.-]+", text):
        return f"did you mean 'openai:{text}' (a model of a server) or 'hf:ORG/{text}' (one of the hub)?"
    return ""
