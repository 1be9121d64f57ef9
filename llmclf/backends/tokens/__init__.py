"""Internal: from prompts and completions to token ids, and the trie of a row's completions.

May import ``prompts`` and the modules directly in ``backends``, but none of its packages. A tokenizer of another kind is one
more module with an ``Encoder``.
"""

from .codec import Encoder, TokenCodec, TokenRow
from .label_trie import LabelTrie, label_trie

__all__ = ["Encoder", "LabelTrie", "TokenCodec", "TokenRow", "label_trie"]
