"""One request as a local model sees it, for whoever wants to look: tokens, label trie, logits."""

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import Floats
from ..tokens.codec import TokenRow
from ..tokens.label_trie import LabelTrie


@dataclass(frozen=True, eq=False)
class TrieView:
    """Tokens of one request and the model's logits wherever a label token is predicted.

    Attributes
    ----------
    row : TokenRow
    trie : LabelTrie
        Node i of it is predicted from row ``i + 1`` of the logits, its root's children from row 0.
    logits : ndarray (1 + n_nodes, vocabulary)
        The model's own.
    unconditional : ndarray of the same shape, or None
        The same after the prompt without the row, where the request is guided.
    """

    row: TokenRow
    trie: LabelTrie
    logits: Floats
    unconditional: Floats | None = None

    @property
    def processed(self) -> Floats:
        """The logits after what the request does to them."""
        processing = self.row.processing
        return self.logits if processing is None else processing.apply(self.logits, self.unconditional)
