"""A language model in this process that is asked as a model without log-probabilities is: by what it writes.

Its own log-probabilities are exact, and `LocalBackend` gives them. This shows what the routes by answers are worth beside them.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ....errors import InputError, RowError
from ....prompts.rendered import RenderedPrompt
from ...answers.base import AnswerRoute, one_by_one
from ...answers.first_use import warn_of_estimates
from ...answers.options import AnswerOptions, answer_settings
from ...answers.question import Question
from ...answers.registry import ANSWER_ROUTES, answer_route
from ...base import AddsToPrompt, CountsTokens, SeesTokens, WritesChats
from ...handle import Handle
from ...options import describe_options, one_of, option, positive_count
from ...requests import Request, RowScores, check_requests
from ...tokens.longest_fit import longest_fit
from ...usage import Estimate
from ..backend import LocalBackend
from ..weights import check_memory
from .writer import LocalWriter

T = TypeVar("T")
_MARGIN = 4  # tokens


@describe_options
@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LocalAnswers(AnswerOptions, Handle, SeesTokens, WritesChats, CountsTokens, AddsToPrompt):
    """Score labels by what a transformers model writes.

    Parameters
    ----------
    name : str
        As `LocalBackend` takes it.
    use_route : {"verbalized", "sampled", "mixed"}

    Examples
    --------
    >>> LocalAnswers("smollm2", use_route="sampled", n_samples=10)
    LocalAnswers('smollm2', n_samples=10, use_route='sampled')
    """

    use_route: str | None = option(None, help="The route by answers.", check=one_of(*ANSWER_ROUTES))
    device: str | None = option(None, help="As `LocalBackend` has it.", moves_scores=False)
    dtype: str | None = option(None, help="As `LocalBackend` has it.", check=one_of("float32", "bfloat16", "float16"))
    context_length: int | None = option(None, help="As `LocalBackend` has it.", check=positive_count)
    memory: str | None = option(
        None, help="As `LocalBackend` has it.", moves_scores=False, check=one_of("file", "decoded")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.name, self.device, self.dtype, self.memory)
        if self.use_route is None:
            raise InputError(
                f"{self.name!r} has options of routes by answers, and no use_route= among them; name one of "
                f"{', '.join(map(repr, ANSWER_ROUTES))}"
            )
        if self.effort is not None:
            raise InputError(f"effort={self.effort!r}: a model on this machine takes none; leave it out")
        answer_settings(self, self.use_route)

    @property
    def _backend(self) -> LocalBackend:
        return self.open_once(
            lambda: LocalBackend(
                self.name,
                device=self.device,
                dtype=self.dtype,
                context_length=self.context_length,
                memory=self.memory,
            )
        )

    @property
    def _route(self) -> AnswerRoute:
        assert self.use_route is not None
        return answer_route(self.use_route, answer_settings(self, self.use_route))

    @property
    def sees_tokens(self) -> bool:
        """False: an answer counts as a whole."""
        return False

    @property
    def route(self) -> str:
        """The route by answers."""
        return self._route.name

    def identity(self) -> dict[str, Any]:
        return {**self._backend.identity(), **self._route.identity()}

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the texts have together, without special tokens."""
        return self._backend.count_tokens(texts)

    def chat_frame(self, prompt: RenderedPrompt) -> str | None:
        """What the model's chat template writes around the turns of a prompt, now; None for plain text."""
        return self._backend.chat_frame(prompt)

    def shown_prompt(self, request: Request) -> str:
        """What the model reads in the first request about a row, without the markup of a chat template."""
        turns = self._route.first_request(self._question(request), LocalWriter(self._backend)).turns
        return "\n\n".join(turn.text for turn in turns)

    def score(self, requests: Sequence[Request]) -> Iterator[tuple[int, RowScores]]:
        check_requests(requests)
        route = self._route
        if not requests:
            return
        route.check(self._question(requests[0]))
        if _is_first(self):
            warn_of_estimates(route, repr(self.name), self._first(requests[0]), "trie")
        writer = LocalWriter(self._backend)
        for place, request in enumerate(requests):
            try:
                question, n_cut = self._fitting(request, writer)
                answer = replace(_result(route.score(question, writer, one_by_one)), characters_cut=n_cut)
            except RowError as error:
                answer = RowScores((), error=str(error))
            yield place, answer

    def _fitting(self, request: Request, writer: LocalWriter) -> tuple[Question, int]:
        """The question with as much of the row's text as fits the model's context, and how many characters that cuts off.

        Raises
        ------
        RowError
            Nothing of the text fits, or the labels cannot be told apart.
        """
        route, prompt = self._route, request.prompt

        def size(question: Question) -> int:
            return max(
                self._backend.prompt_size(RenderedPrompt(one.turns)) + one.max_tokens
                for one in route.first_requests(question, writer)
            )

        def shortened(n: int) -> Question:
            return self._question(replace(request, prompt=prompt.shortened(n)))

        question = self._question(request)
        limit = self._backend.reads - _MARGIN  # the same labels in another order may have other tokens
        if size(question) <= limit:
            return question, 0
        length = prompt.text_length
        n = longest_fit(lambda lengths: [size(shortened(n)) for n in lengths], limit, length) if length else 0
        if not n:
            raise RowError(
                f"the prompt and its answer take {size(question)} tokens, the model reads {self._backend.reads}, and its text "
                f"field has only {length} characters to give; use fewer shots, a shorter instruction, a smaller "
                "max_answer_tokens= or a model with a longer context"
            )
        return shortened(n), length - n

    def _question(self, request: Request) -> Question:
        return Question.of(request, answer_settings(self, self.use_route).seed, continues=True)

    def _first(self, request: Request) -> Estimate:
        """What a row takes."""
        context = self.count_tokens([request.prompt.text])
        labels = [self.count_tokens([completion]) for completion in request.completions]
        longest = max(len(completion.encode("utf-8", "surrogatepass")) for completion in request.completions)
        work = self._route.work(context, labels, longest)
        return Estimate(
            self.route,
            1,
            work.requests,
            work.tokens_in,
            work.tokens_out,
            None,
            is_counted=True,
            is_at_most=self._route.depends_on_answers,
        )


_WARNED: set[str] = set()
"""The descriptions of handles: a handle that is kept would keep its model open."""


def _is_first(handle: LocalAnswers) -> bool:
    """Whether nobody has been warned of a handle like this one."""
    is_first = repr(handle) not in _WARNED
    _WARNED.add(repr(handle))
    return is_first


def _result(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits, in whatever event loop its caller may be."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a local model waits for nothing")
