"""A language model in this process: one token trie per batch, every distinct token computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from ...errors import InputError
from ...prompts.rendered import RenderedPrompt, Span, Turn
from ..base import Request, RowScores, check_requests
from ..handle import Handle
from ..tokens.codec import TokenCodec, TokenRow
from ..tokens.transformers_encoder import token_texts
from .generation import Generation, LogitsProcessor, check_generation, end_ids, generate
from .loaded_model import LoadedModel, open_model
from .trie_view import TrieView

_BATCH_TOKENS = {"cpu": 512, "mps": 4096, "cuda": 16384}


class LocalBackend(Handle):
    """Score completions with a transformers model.

    The handle is a description; weights are loaded at the first call, once per process whatever the number of handles
    that describe the same model. Threads that share a model take turns.

    Parameters
    ----------
    model : str
        ``"smollm2"``, ``"hf:org/name[@revision]"``, ``"hf:folder"`` or ``"gguf:path"``.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; by default the first of cuda, mps and cpu that is there.
    dtype : str, optional
        ``"float32"``, ``"bfloat16"`` or ``"float16"``; by default float32 on a CPU, else what the weights are stored in.
        The softmax is float32 always.
    batch_tokens : int, optional
        Most token columns in one forward pass. More does not change a score.
    context_length : int, optional
        Most tokens the model may read; by default what its configuration says.
    """

    option_names = ("device", "dtype", "batch_tokens", "context_length")
    passing_options = frozenset({"device", "batch_tokens"})
    shares_beginnings: ClassVar[bool] = True
    """Rows that begin alike cost less together, so who has many of them sorts them."""
    processes_logits: ClassVar[bool] = True
    """Whole distributions are seen, so guidance, logit bias and temperature can act on them."""

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        context_length: int | None = None,
    ) -> None:
        for name, value in (("batch_tokens", batch_tokens), ("context_length", context_length)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name}={value!r}: expected a positive whole number, or None for the default")
        if dtype not in (None, "float32", "bfloat16", "float16"):
            raise InputError(f"dtype={dtype!r}: expected 'float32', 'bfloat16', 'float16' or None")
        super().__init__()
        self.name = model
        self.device = device
        self.dtype = dtype
        self.batch_tokens = batch_tokens
        self.context_length = context_length

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer in use."""
        return self._engine.tokenizer

    @property
    def model(self) -> Any:
        """The transformers model in use."""
        return self._engine.model

    @property
    def route(self) -> str:
        """``"trie"``, or ``"pairs"`` where the model's architecture allows no shared prefix."""
        return self._engine.route

    @property
    def _engine(self) -> LoadedModel:
        if self._held is None:
            self._held = open_model(self.name, self.device, self.dtype)
        held: LoadedModel = self._held
        return held

    def identity(self) -> dict[str, Any]:
        engine = self._engine
        return {
            "backend": "local",
            "model": self.name,
            "weights": engine.weights_hash,
            "dtype": engine.dtype_name,
            "context_length": self.context_length,
        }

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests, processes_logits=True)
        if not requests:
            return
        engine = self._engine
        rows = self._codec.encode(requests)
        budget = self.batch_tokens or _BATCH_TOKENS[engine.model.device.type]
        for place, logprobs in engine.score(rows, budget):
            row = rows[place]
            error = None
            if not all(np.isfinite(values).all() for values in logprobs):
                error = "the model gave no finite log-probability (NaN or infinite logits); its weights may be broken"
            yield (
                place,
                RowScores(
                    () if error else tuple(tuple(values.tolist()) for values in logprobs),
                    characters_cut=row.characters_cut,
                    healed=row.healed,
                    terminated=row.terminated,
                    error=error,
                ),
            )

    def view(self, request: Request) -> TrieView:
        """One request as the model sees it: tokens, label trie, and the logits at every place where a label token is predicted.

        Raises
        ------
        PromptError
            The request cannot be tokenised so; see `TokenCodec.encode`.
        """
        check_requests([request], processes_logits=True)
        row = self._codec.encode([request])[0]
        return self._engine.view(row)

    def next_logits(self, prompt: str | RenderedPrompt | Sequence[int]) -> tuple[tuple[int, ...], np.ndarray]:
        """The tokens of a prompt, and the model's logits (vocabulary,) of what comes next."""
        ids = self._prompt_ids(prompt)
        return ids, self._engine.trie_logits(TokenRow(ids, ((0,),)))[0]

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return end_ids(self.model, self.tokenizer)

    @property
    def reads(self) -> int:
        """The most tokens that the model reads at once."""
        return self._codec.context_length

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """What each token adds to a text; for a part of a character, the token as the vocabulary has it."""
        return token_texts(self.tokenizer, token_ids)

    def token_of(self, prompt: str | RenderedPrompt, text: str) -> int:
        """The id of the one token that a text is directly after a prompt.

        Raises
        ------
        PromptError
            It is several tokens.
        """
        return self._codec.token(_rendered(prompt), text)

    def generate(
        self,
        prompt: str | RenderedPrompt | Sequence[int],
        max_tokens: int = 64,
        processors: Sequence[LogitsProcessor] = (),
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Generation:
        """Let the model go on after a prompt.

        Parameters
        ----------
        prompt : str, RenderedPrompt or sequence of int
            In a str, which counts as the author's own, control tokens act; in the data of a rendered prompt they are text.
            Numbers are the prompt's tokens.
        max_tokens : int
        processors : sequence of callables ``f(logits, token_ids) -> logits``, default=()
            Applied one after the other to the logits (vocabulary,) of each step; `token_ids` are prompt and answer so far.
            `llmclf.logits.chain` makes them.
        seed : int, optional
            Tokens are drawn with it. None takes the likeliest token, the lowest id of equal ones: greedy decoding.
        stop : str or sequence of str
            The answer ends before the first of these texts.

        Returns
        -------
        Generation
            Tokens, text, log-probabilities, running perplexity and what ended it.

        Raises
        ------
        InputError
            A value cannot be used, or prompt and answer do not fit the model's context.
        ModelError
            The model's logits are no distribution.

        Examples
        --------
        >>> from llmclf import open_backend
        >>> answer = open_backend("smollm2").generate("The capital of France is", max_tokens=1)  # doctest: +SKIP
        >>> answer.text, answer.finish_reason  # doctest: +SKIP
        (' Paris', 'length')
        """
        return self.generate_many(prompt, 1, max_tokens, processors, seed, stop)[0]

    def generate_many(
        self,
        prompt: str | RenderedPrompt | Sequence[int],
        n: int,
        max_tokens: int = 64,
        processors: Sequence[LogitsProcessor] = (),
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> list[Generation]:
        """`n` answers to one prompt, computed side by side; see `generate`."""
        texts = check_generation(max_tokens, n, seed, stop)
        if not isinstance(processors, Iterable):
            raise InputError(f"processors={processors!r}: expected a list of functions; llmclf.logits.chain makes one")
        ids = self._prompt_ids(prompt)
        length = self._codec.context_length
        if len(ids) + max_tokens - 1 > length:  # the last token is not read
            raise InputError(
                f"the prompt's {len(ids)} tokens and max_tokens={max_tokens} exceed the model's context of {length}; shorten one "
                "of them"
            )
        engine = self._engine
        return generate(
            engine.model,
            engine.tokenizer,
            engine.lock,
            ids,
            n=n,
            max_tokens=max_tokens,
            processors=processors,
            seed=seed,
            stop=texts,
        )

    @property
    def _codec(self) -> TokenCodec:
        return self._engine.codec(self.context_length)

    def _prompt_ids(self, prompt: str | RenderedPrompt | Sequence[int]) -> tuple[int, ...]:
        if isinstance(prompt, (str, RenderedPrompt)):
            ids = tuple(self._codec.prompt(_rendered(prompt)))
        else:
            if not isinstance(prompt, Sequence) or not all(isinstance(token, (int, np.integer)) for token in prompt):
                raise InputError(f"prompt={prompt!r}: expected a text, a rendered prompt or a list of token ids")
            ids = tuple(int(token) for token in prompt)
            n = self.model.get_input_embeddings().num_embeddings
            unknown = [token for token in ids if not 0 <= token < n]
            if unknown:
                raise InputError(f"the prompt holds the token {unknown[0]}, and the model's vocabulary has {n}")
        if not ids:
            raise InputError("the prompt is empty; give at least one character for the model to go on from")
        if len(ids) > self._codec.context_length:
            raise InputError(
                f"the prompt has {len(ids)} tokens, and the model reads {self._codec.context_length}; shorten it"
            )
        return ids


def _rendered(prompt: str | RenderedPrompt) -> RenderedPrompt:
    return RenderedPrompt((Turn(None, (Span(prompt, False),)),)) if isinstance(prompt, str) else prompt
