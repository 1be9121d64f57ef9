"""What a job would take, before anything is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..backends import Backend, Request
from ..backends.base import BehindServer, CountsTokens, EstimatesCost, ServerLimits
from ..backends.usage import Estimate
from ..errors import InputError
from .journal.plan import Plan

if TYPE_CHECKING:
    from .job import Job

_SAMPLE = 5000  # questions whose tokens are counted
_TIMED = 32  # questions that a local model is asked to see how long it takes


@dataclass(frozen=True)
class JobEstimate:
    """What labelling a table would take.

    Attributes
    ----------
    rows, unaskable : int
        Rows of the table, and those that cannot be asked about (an empty text, say).
    questions, todo : int
        Different questions of the others, and those that the journal does not answer.
    requests : int or None
        To a server; None for a model in this process.
    tokens_in, tokens_out : int or None
    cost : float or None
        In the unit of the price table; None without one.
    seconds : float
    assumption : str
        What the time rests on.
    is_counted : bool
        The tokens were counted with the model's tokenizer; else there are about four bytes of text to a token.
    features : Estimate or None
        What of requests, tokens and cost is for embeddings that a classifier has learned from; None where none are asked of
        a server.
    """

    rows: int
    unaskable: int
    questions: int
    todo: int
    requests: int | None
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None
    seconds: float
    assumption: str
    is_counted: bool
    features: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def estimate(job: Job, seconds_per_request: float) -> JobEstimate:
    """Plan a job without running it; see `estimate_table`."""
    if not 0 < seconds_per_request < float("inf"):
        raise InputError(f"seconds_per_request={seconds_per_request!r}: expected a positive number")
    job.journal.begin(job.recipe.fingerprint())
    with Plan(job.journal, job.recipe.scorer.n_completions, job.recipe.n_heads) as plan:
        job.prepare(plan)
        counts = plan.counts
        step = max(1, counts.todo // _SAMPLE)
        records = [record for _, record in islice(plan.todo(), 0, None, step)]
    sample = [job.recipe.request(record) for record in records]
    known: dict[str, Any] = {
        "rows": counts.rows,
        "unaskable": counts.unaskable,
        "questions": counts.questions,
        "todo": counts.todo,
    }
    share = counts.todo / max(1, len(sample))
    backend = job.recipe.backend
    if isinstance(backend, EstimatesCost) and isinstance(backend, BehindServer):
        found = _of_server(backend.estimate(sample), backend.server_options, share, known, seconds_per_request)
    else:
        found = _of_local(backend, sample, share, known)
    heads = job.recipe.heads
    asked = None if heads is None else heads.estimate([record for record in records if job.recipe.is_row(record)])
    return found if asked is None else _with_features(found, _scaled(asked, share), seconds_per_request)


def _scaled(asked: Estimate, share: float) -> Estimate:
    return replace(
        asked,
        rows=round(asked.rows * share),
        requests=round(asked.requests * share),
        tokens_in=round(asked.tokens_in * share),
        tokens_out=round(asked.tokens_out * share),
        cost=None if asked.cost is None else asked.cost * share,
    )


def _with_features(found: JobEstimate, features: Estimate, latency: float) -> JobEstimate:
    """An estimate with what is asked for features, one request after the other, since they are read as the answers come.

    A server's answers may come one by one, and then each needs a request of its own.
    """
    is_free = found.requests is None  # a model in this process
    costs = (0.0 if is_free else found.cost, features.cost)
    return replace(
        found,
        requests=(found.requests or 0) + features.requests,
        tokens_in=(found.tokens_in or 0) + features.tokens_in,
        tokens_out=(found.tokens_out or 0) + features.tokens_out,
        cost=None if None in costs else sum(cost for cost in costs if cost is not None),
        seconds=found.seconds + features.requests * latency,
        assumption=f"{found.assumption}; at least {features.requests} requests for features, one by one, {latency:g} s each",
        is_counted=found.is_counted and features.is_counted,
        features=features,
    )


def _of_server(
    asked: Estimate, options: ServerLimits, share: float, known: dict[str, Any], latency: float
) -> JobEstimate:
    asked = _scaled(asked, share)
    requests, tokens_in, tokens_out = asked.requests, asked.tokens_in, asked.tokens_out
    times = {
        f"{latency:g} s a request and {options.concurrency} requests at once": requests * latency / options.concurrency,
        f"rpm={options.rpm}": 60.0 * requests / options.rpm if options.rpm else 0.0,
        f"tpm={options.tpm}": 60.0 * (tokens_in + tokens_out) / options.tpm if options.tpm else 0.0,
    }
    slowest = max(times, key=lambda name: times[name])
    return JobEstimate(
        **known,
        requests=requests,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost=asked.cost,
        seconds=times[slowest],
        assumption="; ".join([slowest, *_of_route(asked)]),
        is_counted=asked.is_counted,
    )


def _of_route(asked: Estimate) -> Iterator[str]:
    yield f"route {asked.route!r}" + (", assumed: probe the server to know it (--probe)" if asked.is_assumed else "")
    if asked.is_at_most:
        yield "some rows may take less"


def _of_local(backend: Backend, sample: list[Request], share: float, known: dict[str, Any]) -> JobEstimate:
    """A model in this process costs nothing to try: the time of a few questions gives the time of all."""
    tokens_in = None
    if sample and isinstance(backend, CountsTokens):
        tokens_in = round(share * backend.count_tokens([request.prompt.text for request in sample]))
    seconds = 0.0
    timed = sample[:: max(1, len(sample) // _TIMED)][:_TIMED]
    if timed:
        list(backend.score(timed[:1]))  # what happens once is not counted for each
        began = time.perf_counter()
        list(backend.score(timed))
        seconds = (time.perf_counter() - began) / len(timed) * known["todo"]
    return JobEstimate(
        **known,
        requests=None,
        tokens_in=tokens_in,
        tokens_out=0 if tokens_in is not None else None,
        cost=None,
        seconds=seconds,
        assumption=f"{len(timed)} rows were tried on this machine",
        is_counted=tokens_in is not None,
    )
