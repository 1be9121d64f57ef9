"""Internal: each distinct text is asked about once, and not at all where the cache, or what was asked before, knows it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Embedder, ServedEmbedder
from ..backends.remembering import Memory
from ..errors import ModelError
from ..progress import track
from .vector_cache import NamedVector, VectorCache, vector_key

_STORE_EVERY = 64  # vectors, so that little is lost whatever stops the work


class _Known(Protocol):
    """Vectors by the keys of their questions."""

    def get(self, keys: Sequence[str]) -> Mapping[str, NamedVector]: ...
    def put(self, items: Iterable[tuple[str, NamedVector]]) -> None: ...


def embed_once(
    embedder: Embedder, texts: Sequence[str], cache: str | os.PathLike[str] | None
) -> tuple[NDArray[np.float32], str | None]:
    """The vector (n, d) of each text as the model makes it, and the name under which the model answered, where it has one.

    Raises
    ------
    ModelError
        As the embedder; or the vectors in the cache are of another model than the one that answers now.
    StoreError
        The cache cannot be used.
    """
    distinct = list(dict.fromkeys(texts))
    memory = Memory.current()
    if memory is not None:
        memory.note(embedder)
    store = _store(cache)
    known = dict(_answers(embedder, distinct)) if store is None else _with_store(embedder, distinct, store)
    if len(known) < len(distinct):
        raise ModelError(f"{embedder!r} left {len(distinct) - len(known)} of {len(distinct)} texts without a vector")
    names = sorted({answer.answered_by for answer in known.values() if answer.answered_by is not None})
    lengths = sorted({len(answer.vector) for answer in known.values()})
    if len(names) > 1 or len(lengths) > 1:
        odd = [f"by {' and '.join(map(repr, names))}"] if len(names) > 1 else []
        odd += [f"{' and '.join(map(str, lengths))} numbers long"] if len(lengths) > 1 else []
        where = "that were asked for before" if cache is None else f"in the cache {str(cache)!r}"
        cure = "" if cache is None else "give cache= another path, and "
        raise ModelError(
            f"the vectors of {embedder!r} are {', '.join(odd)}: those {where} are of another model than the "
            f"one that answers now; {cure}fit again"
        )
    return np.stack([known[text].vector for text in texts]), names[0] if names else None


def unknown_texts(embedder: Embedder, texts: Sequence[str], cache: str | os.PathLike[str] | None) -> list[str]:
    """The distinct texts that would be asked about."""
    distinct = list(dict.fromkeys(texts))
    if cache is None:
        return distinct
    identity = embedder.identity()
    keys = {text: vector_key(identity, text) for text in distinct}
    known = VectorCache(cache).get(list(keys.values()))
    return [text for text in distinct if keys[text] not in known]


def vector_identity(embedder: Embedder, answered_by: str | None) -> dict[str, Any]:
    """What vectors depend on, with the model's own name where a server states one."""
    served: Mapping[str, Any] = {"answered_by": answered_by} if isinstance(embedder, ServedEmbedder) else {}
    return {**embedder.identity(), **served}


def _store(cache: str | os.PathLike[str] | None) -> _Known | None:
    """Where vectors are looked up and kept: in a file, else while a transformer works in memory, else nowhere."""
    return Memory.current() if cache is None else VectorCache(cache)


def _with_store(embedder: Embedder, distinct: Sequence[str], store: _Known) -> dict[str, NamedVector]:
    identity = embedder.identity()
    keys = {text: vector_key(identity, text) for text in distinct}
    kept = store.get(list(keys.values()))
    known = {text: kept[key] for text, key in keys.items() if key in kept}
    fresh: list[tuple[str, NamedVector]] = []
    try:
        with closing(_answers(embedder, [text for text in distinct if text not in known])) as answers:
            for text, answer in answers:
                known[text] = answer
                fresh.append((keys[text], answer))
                if len(fresh) >= _STORE_EVERY:
                    store.put(fresh)
                    fresh = []
    finally:
        # What was paid for is kept, also when the user or an error stops the work.
        if fresh:
            store.put(fresh)
    return known


def _answers(embedder: Embedder, texts: Sequence[str]) -> Generator[tuple[str, NamedVector], None, None]:
    """The vector of each text, as soon as it is known."""
    if not texts:
        return
    with track(embedder.embed(texts), len(texts), "embedding") as answers:
        for place, vector in answers:
            name = embedder.answered_by() if isinstance(embedder, ServedEmbedder) else None
            yield texts[place], NamedVector(vector, name)
