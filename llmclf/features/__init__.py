"""What labelled rows can be learned from besides the scores of label words: hidden states, words, embeddings of their texts.

May import ``backends``, ``tables``, ``numerics``, ``answer_cache`` and what lies below them; it knows no calibrator. ``sets``
reads ``features=``. Another kind of features is a scikit-learn transformer of texts in a module of its own.
"""

from .embeddings import Embeddings

__all__ = ["Embeddings"]
