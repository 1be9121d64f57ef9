"""Which tokens of a vocabulary act, whether a tokenizer says so or not, and copies of a tokenizer that read them as text.

A token acts if its text is more than text to the model: it opens a turn, a thought or a call of a tool, or ends an answer. Many
tokenizers flag only some of these as special; the others are added tokens without a flag, or stand in the base vocabulary,
where nothing but a whole word finds them.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

_MARKUP = re.compile(
    r"<[^<>\s]{1,60}>|\[/?[A-Za-z_][A-Za-z_0-9 :|-]{1,60}\]|◁[^◁▷]{1,60}▷|\{/?[A-Z_]{2,60}\}|<\|[^<>]{1,60}\|>|«[^«»]{1,60}»"
)
"""How control tokens are written: a name in brackets."""
BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""The name of a byte, which a vocabulary may hold as a token."""
_FORMATTING = re.compile(
    r"</?(?:table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|p|br|hr|div|span|a|ul|ol|li|img|blockquote|strong|em|b|i|u|sub|sup|"
    r"code|pre)/?>"
)
"""Tags of HTML that some vocabularies hold as text."""


def acting_tokens(tokenizer: Any) -> dict[str, int]:
    """The texts of the tokens that act, and their ids.

    These are all that are flagged special; all added tokens that are written in brackets, or that the chat template names; and
    tokens in brackets of the base vocabulary that its own merges cannot make of text, or that the chat template names. Added
    words, white space and formatting tags are text.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    """
    templates = tokenizer.chat_template or ""
    template = templates if isinstance(templates, str) else " ".join(map(str, templates.values()))
    found = dict.fromkeys(tokenizer.all_special_tokens)
    for token in tokenizer.added_tokens_decoder.values():
        if token.special or _acts(str(token), template):
            found[str(token)] = None
    core = _core(tokenizer)
    made = _made_of_text(core)
    for text in tokenizer.get_vocab():
        if is_markup(text):
            is_text = made is not None and text in made and text not in template
            if not is_text:
                found.setdefault(text)
    # The tokens of bytes stand for characters that the vocabulary lacks, and cannot be told from commands by their ids.
    return {text: tokenizer.convert_tokens_to_ids(text) for text in found if text.strip() and not BYTE.fullmatch(text)}


def unknown_ids(tokenizer: Any) -> set[int]:
    """The ids that stand for whatever a vocabulary lacks, as the tokenizer or its model names them."""
    core = _core(tokenizer) or {}
    named = core.get("unk_token")
    ids = {tokenizer.unk_token_id, core.get("unk_id"), tokenizer.convert_tokens_to_ids(named) if named else None}
    return {int(token) for token in ids if token is not None}


def is_markup(text: str) -> bool:
    """Whether a text is written as control tokens are, and is neither a byte's name nor a tag of HTML's formatting.

    Examples
    --------
    >>> [is_markup(text) for text in ("<think>", "[INST]", "<|im_end|>", "<br>", "<0x0A>", "[0]", "a<b")]
    [True, True, True, False, False, False, False]
    """
    return bool(_MARKUP.fullmatch(text)) and not BYTE.fullmatch(text) and not _FORMATTING.fullmatch(text)


def plain_copy(backend: Any) -> Any:
    """A copy of a fast tokenizer that neither pads nor cuts, in which every token acts."""
    encoder = copy.deepcopy(backend)
    encoder.no_padding()
    encoder.no_truncation()
    encoder.encode_special_tokens = False
    return encoder


def literal_copy(backend: Any, acting_ids: Collection[int], place: str) -> Any:
    """A copy of a fast tokenizer without the added tokens that act.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
    acting_ids : collection of int
    place : {"first", "after", "inner"}
        Of the text that it reads: the beginning, directly after a control token, or within a word. SentencePiece marks the
        first word of a text; a piece that follows a control token is not the first, and one within a word has no mark at all.
    """
    from tokenizers import Tokenizer

    values = json.loads(backend.to_str())
    values["added_tokens"] = [
        token
        for token in values["added_tokens"]
        if token["id"] not in acting_ids and not BYTE.fullmatch(token["content"])
    ]
    values["post_processor"] = values["padding"] = values["truncation"] = None
    if place != "first":
        for part in ("normalizer", "pre_tokenizer"):
            values[part] = _without_prefix(values[part], is_inner=place == "inner")
    return Tokenizer.from_str(json.dumps(values))


def _acts(text: str, template: str) -> bool:
    if not text.strip(" \t\n\r\u2581") or _FORMATTING.fullmatch(text):
        return False
    return _MARKUP.fullmatch(text) is not None or (
        len(text.strip()) > 2 and not text.strip().isalnum() and text in template
    )


def _core(tokenizer: Any) -> Mapping[str, Any] | None:
    """The model of a fast tokenizer, as JSON values."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model: Mapping[str, Any] | None = None if backend is None else json.loads(backend.to_str())["model"]
    return model


def _made_of_text(core: Mapping[str, Any] | None) -> set[str] | None:
    """The tokens that a vocabulary's own rules make of ordinary text; None where they cannot be told from others."""
    if core is None:
        return None
    if core.get("type") == "BPE" and not core.get("ignore_merges"):
        return {"".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1) for merge in core["merges"]}
    if core.get("type") == "Unigram":
        # SentencePiece gives pieces that it has learned a log-probability, and those that a user has defined none.
        return {text for text, score in core["vocab"] if score < 0}
    return None


def _without_prefix(part: Any, *, is_inner: bool) -> Any:
    """A normalizer or pre-tokenizer that puts no space before a text."""
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind == "Metaspace" and (is_inner or part.get("prepend_scheme") == "first"):
        return {**part, "prepend_scheme": "never", "add_prefix_space": False}
    if kind == "ByteLevel" and is_inner:
        return {**part, "add_prefix_space": False}
    if kind == "Prepend" and is_inner:
        return {"type": "Sequence", "normalizers": []}
    if kind == "Sequence":
        return {
            key: [_without_prefix(child, is_inner=is_inner) for child in value] if isinstance(value, list) else value
            for key, value in part.items()
        }
    return part
