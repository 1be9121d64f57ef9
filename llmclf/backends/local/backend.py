"""A language model in this process: each batch is one token trie, in which every distinct token is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from ...prompts.rendered import RenderedPrompt, Span, Turn
from ..base import CountsTokens, ProcessesLogits, SharesBeginnings, ShowsDistributions, ShowsStates
from ..handle import Handle
from ..nested_labels import without_longer
from ..options import describe_options, one_of, option, positive_count, takes_earlier_name
from ..requests import Request, RowScores, check_requests
from ..tokens.codec import TokenCodec
from ..tokens.transformers_encoder import streamed_texts, token_texts
from .checkpoint import check_embedded
from .generation import Generation, LogitsProcessor, check_generation, end_ids
from .hidden_states import Taken
from .loaded_model import LoadedModel, open_model
from .route_checks import changes_with_length
from .trie_view import TrieView
from .weights import check_memory


@takes_earlier_name("model", "name")
@describe_options
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LocalBackend(Handle, ShowsDistributions, ShowsStates, ProcessesLogits, SharesBeginnings, CountsTokens):
    """Score completions with a transformers model.

    The handle is a description. Weights are loaded at the first call, once per process, however many handles describe the same
    model. Threads that share a model take turns.

    Parameters
    ----------
    name : str
        ``"smollm2"``, ``"hf:org/name[@revision]"``, ``"hf:folder"`` or ``"gguf:path"``.
    """

    device: str | None = option(
        None,
        help='"cpu", "cuda", "cuda:1" or "mps"; by default the first of cuda, mps and cpu that is there.',
        moves_scores=False,
    )
    dtype: str | None = option(
        None,
        help='"float32", "bfloat16" or "float16"; by default float32 on a CPU, else what the weights are stored in. The softmax '
        "is float32 always. On an x86 CPU, bfloat16 is that of the products in linear layers, all else is float32, and the "
        "processor has to have AVX512-BF16 or AMX.",
        check=one_of("float32", "bfloat16", "float16"),
    )
    batch_tokens: int | None = option(
        None,
        help="Largest number of token columns in one forward pass. More does not change a score. By default 1,024 on a CPU "
        '(2,048 with memory="file"), 4,096 on mps, 16,384 on cuda.',
        moves_scores=False,
        check=positive_count,
    )
    context_length: int | None = option(
        None,
        help="Largest number of tokens the model may read; by default what its configuration says.",
        check=positive_count,
    )
    memory: str | None = option(
        None,
        help='Where the weights of a GGUF file are: "decoded" once, in memory and in the cache folder, or in the "file", from '
        "which each pass decodes them layer by layer, on a CPU. That takes little more memory than the file has, and gives the "
        'same scores more slowly. By default "file" where decoded weights would be more than half of the free memory.',
        moves_scores=False,
        check=one_of("file", "decoded"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.name, self.device, self.dtype, self.memory)

    @property
    def processes_logits(self) -> bool:
        """True: whole distributions are seen, so guidance, logit bias and temperature can act on them."""
        return True

    @property
    def shares_beginnings(self) -> bool:
        """True: rows that begin alike cost less together, so many of them are worth sorting."""
        return True

    @property
    def shows_states(self) -> bool:
        """True: hidden states are read from the passes that score, wherever the architecture shows them to plain calls."""
        return True

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer in use."""
        return self._loaded.tokenizer

    @property
    def model(self) -> Any:
        """The transformers model in use.

        On a CPU its linear layers are packed ones, and a gated layer calls their products itself, so that hooks of the layers
        inside it are not called; those of the gated layer and of all others are.
        """
        return self._loaded.model

    @property
    def route(self) -> str:
        """How rows of few tokens are scored: by a token ``"trie"``, else in batches of ``"pairs"``, else each pair ``"single"``.

        Each is compared with plain calls. Longer rows are compared when the first one is asked, and may take a slower route.
        """
        return self._loaded.route

    @property
    def _loaded(self) -> LoadedModel:
        return self.open_once(lambda: open_model(self.name, self.device, self.dtype, self.memory))

    def identity(self) -> dict[str, Any]:
        loaded = self._loaded
        return {
            "backend": "local",
            "model": self.name,
            "weights": loaded.weights_hash,
            "dtype": loaded.dtype_name,
            "context_length": self.context_length,
            # Earlier versions scored such models by what stood beside a row, so their answers are not mixed with these.
            **({"lengths": "as alone"} if changes_with_length(loaded.model.config) else {}),
        }

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests, processes_logits=True, shows_states=True)
        if not requests:
            return
        loaded = self._loaded
        rows = self._codec.with_common(requests, self._codec.encode(requests))
        check_embedded(loaded.model, loaded.tokenizer, rows)
        budget = self.batch_tokens or loaded.batch_tokens
        states: Taken = {}
        for place, logprobs in loaded.score(rows, budget, states):
            row = rows[place]
            vector = states.pop(place, None)
            error = None
            if not all(np.isfinite(values).all() for values in logprobs):
                error = "the model gave no finite log-probability (NaN or infinite logits); its weights may be broken"
            elif vector is not None and not np.isfinite(vector).all():
                error = "the model gave no finite hidden states (NaN or infinite); use another dtype, or no states"
            answers = tuple(tuple(values.tolist()) for values in logprobs)
            if row.excludes_longer and not error:
                answers = without_longer(row.targets, answers)
            yield (
                place,
                RowScores(
                    () if error else answers,
                    characters_cut=row.characters_cut,
                    healed=row.healed,
                    terminated=row.terminated,
                    error=error,
                    state_parts=() if error else row.states,
                    states=None if error else vector,
                ),
            )

    def view(self, request: Request) -> TrieView:
        """One request as the model sees it: tokens, label trie, and the logits at every place where a label token is predicted.

        Raises
        ------
        PromptError
            The request cannot be tokenised; see `TokenCodec.encode`.
        """
        check_requests([request], processes_logits=True, shows_states=True)
        row = self._codec.encode([request])[0]
        check_embedded(self.model, self.tokenizer, [row])
        return self._loaded.view(row)

    def next_logits(self, prompt: str | RenderedPrompt | Sequence[int]) -> tuple[tuple[int, ...], np.ndarray]:
        """The tokens of a prompt, and the model's logits (vocabulary,) of what comes next."""
        ids = self._prompt_ids(prompt)
        return ids, self._loaded.next_logits(ids)

    @property
    def end_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return end_ids(self.model, self.tokenizer)

    @property
    def reads(self) -> int:
        """The largest number of tokens that the model reads at once."""
        return self._codec.context_length

    def ends_answer(self, token_id: int) -> bool:
        """Whether a token ends an answer."""
        return token_id in self.end_ids

    def room_after(self, n_tokens: int) -> int:
        """How many more tokens the model can read after so many; 0 or less where it can read none."""
        return self.reads - n_tokens

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the texts have together, without special tokens."""
        return sum(map(len, self.tokenizer(list(texts), add_special_tokens=False)["input_ids"])) if texts else 0

    def prompt_size(self, prompt: RenderedPrompt) -> int:
        """How many tokens the model reads of a prompt, with what its chat template writes."""
        return len(self._codec.prompt(prompt))

    def chat_frame(self, prompt: RenderedPrompt) -> str | None:
        """What the model's chat template writes around the turns of a prompt, now; None for plain text."""
        return self._codec.frame(prompt)

    def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """What each token adds to a text; for parts of characters, their bytes."""
        return token_texts(self.tokenizer, token_ids)

    def joined_texts(self, token_ids: Sequence[int]) -> list[str]:
        """What each token adds to the text of those before it; a character of several tokens belongs to the last of them."""
        return streamed_texts(self.tokenizer, token_ids)

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
        """Let the model continue a prompt.

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
            Seeds the drawing of tokens. None takes the likeliest token, and of equal ones the lowest id: greedy decoding.
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
            The model's logits are not a distribution.

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
        return self._loaded.generate(ids, n, max_tokens, processors, seed, texts)

    @property
    def _codec(self) -> TokenCodec:
        return self._loaded.codec(self.context_length)

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
            raise InputError("the prompt is empty; give the model at least one character to continue")
        if len(ids) > self._codec.context_length:
            raise InputError(
                f"the prompt has {len(ids)} tokens, and the model reads {self._codec.context_length}; shorten it"
            )
        return ids


def _rendered(prompt: str | RenderedPrompt) -> RenderedPrompt:
    return RenderedPrompt((Turn(None, (Span(prompt, False),)),)) if isinstance(prompt, str) else prompt
