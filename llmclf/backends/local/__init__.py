"""A causal language model of transformers in this process: weights, the label trie in one forward pass, generation.

Users import `LocalBackend`; the rest is internal. May import ``backends.tokens``, ``backends.answers``, the modules directly in
``backends``, ``downloads`` and ``logits``, but neither ``http`` nor a server's package. Another way to lay out or attend to a
batch is one more module here. ``gguf`` has what reads GGUF files without decoding all of them, ``answers`` what asks a model in
words.
"""

from .backend import LocalBackend

__all__ = ["LocalBackend"]
