"""A labelling job on several machines: its questions asked by the actors of a Ray Data pipeline.

The driver plans, keeps the journal and writes the output, by the code of any other job, so that the result is the same row
for row. What takes the time, the asking, is a Ray Data pipeline: chunks of questions go through ``map_batches`` with a pool
of actors, each with a model of its own, or a connection to a server. An actor sends its answers row by row and continues
once they are in the journal. When a node is lost Ray repeats its chunks, and a chunk holds only what has no answer yet:
Ray's own checkpoints, which are per block, would repeat finished calls.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from ...backends import RowScores
from ...backends.base import BehindServer, NamesModel
from ...backends.identity import differing
from ...backends.streaming import stream
from ...checks import is_number, is_whole_number
from ...errors import BudgetError, InputError, LlmclfError, MissingDependencyError, ModelError
from ...files.orderly_end import handlers_kept
from ...pipeline import FittedPipeline
from ..journal.plan import Plan, read_questions
from ..recipe import Recipe
from .base import Kept, answered, used

_PAGE = 500  # questions that an actor gets at once: at most so many wait for a slow one
_MOST_BLOCKS = 1000  # that the pages are handed out in
_PATIENCE_S = 1800.0  # for room, and for an answer; a cluster may have to start machines, and they to fetch a model


class RayAsking:
    """Asks a plan's questions by a pool of Ray actors.

    Parameters
    ----------
    address : str
        ``"local"`` starts Ray on this machine alone; ``"auto"`` or ``"HOST:PORT"`` joins a cluster of which this machine is a
        part. A Ray that is running in this process already is used as it is.
    actors : int
        How many; each opens the model, and each has its share of ``rpm``, ``tpm`` and ``max_cost``.
    num_cpus, num_gpus : float
        What each actor takes of its machine.
    page : int
        Questions that an actor gets at once.

    Examples
    --------
    >>> from llmclf.jobs import label_table
    >>> asking = RayAsking("auto", actors=8, num_gpus=1)
    >>> label_table("in/", "out/", text_column="text", labels=["good", "bad"], asking=asking)  # doctest: +SKIP
    """

    def __init__(
        self, address: str = "local", *, actors: int = 2, num_cpus: float = 1, num_gpus: float = 0, page: int = _PAGE
    ) -> None:
        if not isinstance(address, str) or not address or address.startswith("ray://"):
            raise InputError(
                f"address={address!r}: expected 'local', 'auto' or HOST:PORT of a cluster that this machine is part of"
            )
        for name, value in (("actors", actors), ("page", page)):
            if not is_whole_number(value, 1):
                raise InputError(f"{name}={value!r}: expected a positive whole number")
        for name, amount in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
            if not is_number(amount) or not amount >= 0:
                raise InputError(f"{name}={amount!r}: expected a number of at least 0")
        self.address = address
        self.actors = actors
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.page = page
        self._usage: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"RayAsking({self.address!r}, actors={self.actors})"

    def usage(self) -> dict[str, Any]:
        """Requests, tokens and cost of all actors so far."""
        return dict(self._usage)

    def check(self, recipe: Recipe) -> None:
        """See `llmclf.jobs.asking.base.Asking`.

        Raises
        ------
        InputError
            A limit leaves an actor nothing.
        MissingDependencyError
            Ray is not installed.
        """
        _ray()
        _shares(recipe.backend, self.actors)

    def answers(self, recipe: Recipe, plan: Plan) -> Iterator[list[Kept]]:
        """See `llmclf.jobs.asking.base.Asking`."""
        ray = _ray()
        task = {
            # What becomes of the answers is the driver's business.
            "pipeline": recipe.pipeline.uncorrected().to_dict(),
            "options": _shares(recipe.backend, self.actors),
            "identity": recipe.backend.identity(),
        }
        is_ours = not ray.is_initialized()
        if is_ours:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            with handlers_kept("SIGTERM"):  # Ray's own would end the process without a word
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        # What went wrong comes as an exception; how Ray plans its work is not for the job's user.
        log = logging.getLogger("ray.data")
        level = log.level
        log.setLevel(logging.CRITICAL)
        try:
            yield from self._answers(ray, task, plan)
        finally:
            log.setLevel(level)
            if is_ours:
                ray.shutdown()

    def _answers(self, ray: Any, task: Mapping[str, Any], plan: Plan) -> Iterator[list[Kept]]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._find_room()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        mailbox = ray.remote(num_cpus=0, scheduling_strategy=here, max_concurrency=10_000)(_Mailbox).remote(
            str(plan.path), plan.counts.todo, self.page
        )
        failure: list[BaseException] = []
        pipeline = threading.Thread(target=self._run, args=(ray, task, mailbox, plan.counts.todo, failure), daemon=True)
        pipeline.start()
        actors: list[Any] = []
        try:
            while True:
                try:
                    answers, self._usage = ray.get(mailbox.take.remote(), timeout=_PATIENCE_S)
                except ray.exceptions.GetTimeoutError:
                    raise ModelError(
                        f"no actor has answered for {_PATIENCE_S:.0f} s; see the actors' logs, and what the cluster has free, "
                        "for instance by `ray status`"
                    ) from None
                if not answers:
                    break
                yield answers
        finally:
            with suppress(ray.exceptions.RayError):
                actors = ray.get(mailbox.actors.remote(), timeout=60)
            # Whoever stops listening stops the actors: without a mailbox they have nowhere to put an answer.
            ray.kill(mailbox)
            pipeline.join(60)
            # Ray would keep those of a pipeline that failed, and what they take of their machines, for as long as anything
            # knows of the exception.
            for actor in actors:
                ray.kill(actor)
        if failure:
            raise ModelError(f"the actors stopped: {_cause(failure[0])}") from failure[0]

    def _find_room(self) -> None:
        """Wait until an actor can be placed: a pipeline would wait without a word, and could not be stopped."""
        from ray.util.placement_group import placement_group, remove_placement_group

        needed = {name: amount for name, amount in (("CPU", self.num_cpus), ("GPU", self.num_gpus)) if amount > 0}
        if not needed:
            return
        room = placement_group([needed])
        try:
            is_there = room.wait(_PATIENCE_S)
        finally:
            remove_placement_group(room)
        if not is_there:
            raise ModelError(
                f"no actor could be placed for {_PATIENCE_S:.0f} s: each takes num_cpus={self.num_cpus!r} and "
                f"num_gpus={self.num_gpus!r} of a machine; see what the cluster has free, for instance by `ray status`"
            )

    def _run(self, ray: Any, task: Mapping[str, Any], mailbox: Any, n_todo: int, failure: list[BaseException]) -> None:
        from ray.data import ActorPoolStrategy

        n_pages = -(-n_todo // self.page)
        try:
            # Items, not a range: that would be read by tasks, for which actors that take the whole cluster leave no room.
            numbers = [{"id": number} for number in range(n_pages)]
            pages = ray.data.from_items(numbers, override_num_blocks=min(n_pages, _MOST_BLOCKS)).map_batches(
                _Asker,
                fn_constructor_args=(dict(task), mailbox),
                compute=ActorPoolStrategy(size=min(self.actors, n_pages), max_tasks_in_flight_per_actor=1),
                batch_size=1,
                num_cpus=self.num_cpus,
                num_gpus=self.num_gpus or None,
            )
            pages.context.enable_progress_bars = False
            pages.context.execution_no_progress_timeout_s = -1  # it counts pages, of which one may take long
            for _ in pages.iter_batches(batch_size=None):
                pass
        except BaseException as error:  # whatever it is, the driver has to hear of it
            failure.append(error)
        finally:
            try:
                ray.get(mailbox.close.remote())
            except Exception as error:  # the mailbox may be gone, when the driver stops first
                failure.append(error)


class _Mailbox:
    """Between the actors and the journal: gives out questions, takes answers, and releases an actor once its answer is stored.

    It runs beside the driver, whose plan it reads.
    """

    def __init__(self, plan: str, n_todo: int, page: int) -> None:
        self._plan, self._page = plan, page
        self._finished = bytearray(n_todo + 1)
        self._box: list[Kept] = []
        self._n_put = self._n_handed = self._n_safe = 0
        self._usage: dict[str, dict[str, Any]] = {}
        self._actors: dict[str, Any] = {}
        self._closed = False
        self._changed = asyncio.Condition()

    async def enter(self, name: str, actor: Any) -> None:
        """An actor has started, for the first time or again."""
        self._actors[name] = actor

    async def actors(self) -> list[Any]:
        """Handles of all that ever started."""
        return list(self._actors.values())

    async def page(self, number: int) -> list[tuple[int, bytes, bytes]]:
        """Number, key and record of the questions of a page without an answer yet."""
        with closing(sqlite3.connect(self._plan)) as connection:
            rows = read_questions(connection, number * self._page, self._page)
        return [row for row in rows if not self._finished[row[0]]]

    async def put(self, answers: list[tuple[int, bytes, RowScores]], actor: str, usage: dict[str, Any]) -> None:
        """Take in answers; returns once they are in the journal."""
        async with self._changed:
            for n, key, scores in answers:
                if not self._finished[n]:  # else another actor was thought dead and was not
                    self._finished[n] = 1
                    self._box.append((key, scores))
                    self._n_put += 1
            self._usage[actor] = usage
            ticket = self._n_put
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._n_safe >= ticket)

    async def spent(self, actor: str) -> float:
        """What all lives of an actor have cost so far."""
        lives = (usage for name, usage in self._usage.items() if name.partition(".")[0] == actor)
        return sum(usage.get("cost") or 0.0 for usage in lives)

    async def take(self) -> tuple[list[Kept], dict[str, Any]]:
        """The answers that are there, at least one; none when all is done. Those of the last call are safe now."""
        async with self._changed:
            self._n_safe = self._n_handed
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._box or self._closed)
            taken, self._box = self._box, []
            self._n_handed += len(taken)
            return taken, _total(self._usage.values())

    async def close(self) -> None:
        """Nothing more will be put in."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Asker:
    """An actor: a model, and the pages that it is handed."""

    def __init__(self, task: Mapping[str, Any], mailbox: Any) -> None:
        import ray

        context = ray.get_runtime_context()
        actor = context.get_actor_id()
        ray.get(mailbox.enter.remote(actor, context.current_actor))
        options = dict(task["options"])
        if "max_cost" in options:
            # An actor that is started again has what its earlier lives left of its share.
            options["max_cost"] -= ray.get(mailbox.spent.remote(actor))
            if options["max_cost"] <= 0:
                raise BudgetError(f"an actor's share of max_cost, {task['options']['max_cost']:.6g}, is spent")
        # The values are those of the driver's own pipeline, whose caller has said where to ask.
        self._recipe = Recipe(FittedPipeline.from_dict(task["pipeline"], model_options=options, trust=True))
        self._mailbox = mailbox
        self._name = f"{actor}.{os.urandom(8).hex()}"  # of this start of the actor: each start counts its own usage
        identity, then = self._recipe.backend.identity(), task["identity"]
        backend = self._recipe.backend
        self._model = ""
        if isinstance(backend, NamesModel) and backend.accept_model_change:
            self._model = str(backend.answering_model())
            then = {**then, "answered_by": identity.get("answered_by")}
        name = differing(then, identity)
        if name is not None:
            raise ModelError(
                f"another model answers on this node: its {name} is {identity.get(name)!r}, and the driver's is "
                f"{task['identity'].get(name)!r}"
            )

    def __call__(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        import ray

        for number in batch["id"].tolist():
            rows = ray.get(self._mailbox.page.remote(number))
            keys = {n: key for n, key, _ in rows}
            pairs = [(n, record) for n, _, record in rows]
            backend = self._recipe.backend
            for group in answered(self._recipe.request, pairs, partial(stream, backend, n_requests=len(pairs))):
                # Another model may answer here than at the driver's first reply.
                answers = [
                    (n, keys[n], replace(scores, model=scores.model or self._model or None)) for n, scores in group
                ]
                ray.get(self._mailbox.put.remote(answers, self._name, used(backend)))
        return batch


def _shares(backend: Any, actors: int) -> dict[str, Any]:
    """Options of each actor's backend: limits are the job's, so each actor has its share."""
    if not isinstance(backend, BehindServer):
        return {}
    limits = backend.server_options
    shares: dict[str, float] = {}
    for name, limit in (("rpm", limits.rpm), ("tpm", limits.tpm)):
        if limit is not None and limit < actors:
            raise InputError(
                f"{name}={limit!r} cannot be shared by {actors} actors; use fewer actors or a higher limit"
            )
        if limit is not None:
            shares[name] = limit // actors
    if limits.max_cost is not None:
        shares["max_cost"] = limits.max_cost / actors
    return shares


def _total(usages: Any) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            total[name] = value if total.get(name) is None else total[name] + (value or 0)
    return total


def _cause(error: BaseException) -> str:
    """What an actor raised, without the traces of the machinery around it."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, LlmclfError) and not hasattr(inner, "cause"):
            return str(inner)
        cause = getattr(inner, "cause", None)
        inner = cause if isinstance(cause, BaseException) and cause is not inner else inner.__cause__
    # Ray may hand on the text of an error alone.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line.partition(": ")[2] for line in lines if line.startswith("llmclf.errors.")]
    return (named or lines or [type(error).__name__])[-1]


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            f"a job on several machines needs Ray ({error}); run: pip install 'llmclf[ray]'"
        ) from error
    return ray
