"""A server's life: what it serves is checked, the port taken, the models opened, and at the end what was accepted answered."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backends import open_backend
from ..errors import InputError, LlmclfError, MissingDependencyError, StoreError
from ..files.orderly_end import handlers_kept
from ..loading import load_pipeline, reads_embeddings
from ..monitoring import Watch
from .access import Access
from .decision_records import DecisionRecords
from .event_log import EventLog
from .gathering import Gatherer
from .limits import Limits
from .measures import Measures
from .model.supervision import COMMAND, ModelProcess
from .promises import Promise, PromisesKept
from .questions import Answer
from .served import Catalogue, Served, ServedClassifier, ServedModel, lanes, version_of
from .watched import WatchedLogs

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_KEEP_ALIVE = 30  # seconds that an idle connection stays open
_BACKLOG = 2048
_LEAST_WRITING = 2.0  # seconds that the log of decisions is given at the end, where the answers have taken all
_CHECK = 1.0  # seconds between two looks at the passes under way, and at certificates


@dataclass(frozen=True)
class ModelToServe:
    """A model that answers any question.

    Attributes
    ----------
    name : str
        As `llmclf.open_backend` takes it.
    options : mapping
    chat : bool
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    chat: bool = False


@dataclass(frozen=True)
class Serving:
    """What is served, and how.

    Attributes
    ----------
    folders : sequence of Path
        Saved classifiers; each is called as its folder is.
    model : ModelToServe, optional
    host : str
    port : int
        0 takes any that is free.
    access : Access
    limits : Limits
    log : EventLog
    folder_options, embedding_options : mapping
        Options of the folders' models, and of their embeddings, that replace the saved ones.
    trust : bool
        As `llmclf.load` has it.
    decisions : Path, optional
        The folder of the log of decisions.
    hidden : sequence of str
        Environment variables that the process of the models does not get: the server's own key.
    command : sequence of str
        The program of that process.
    """

    folders: Sequence[Path]
    model: ModelToServe | None
    host: str
    port: int
    access: Access
    limits: Limits
    log: EventLog
    folder_options: Mapping[str, Any] = field(default_factory=dict)
    embedding_options: Mapping[str, Any] = field(default_factory=dict)
    trust: bool = False
    decisions: Path | None = None
    hidden: Sequence[str] = ()
    command: Sequence[str] = COMMAND


def serve(serving: Serving, on_listening: Callable[[str, int], None] = lambda host, port: None) -> None:
    """Serve until a signal asks for the end.

    Parameters
    ----------
    serving : Serving
    on_listening : callable
        Gets host and port once these are taken.

    Raises
    ------
    LlmclfError
        A folder is no classifier, the port is taken, the log of decisions cannot be written, or a model cannot be opened.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("serving needs starlette and uvicorn; run: pip install 'llmclf[serve]'") from error
    from .connections import allow_files

    allow_files(serving.limits)
    served, lane_sizes, config = _opened(serving)
    listener = _listener(serving.host, serving.port)
    with listener, handlers_kept(*_SIGNALS):
        classifiers = [one for one in served if isinstance(one, ServedClassifier)]
        records = None if serving.decisions is None else DecisionRecords(serving.decisions, classifiers, serving.log)
        on_listening(serving.host, listener.getsockname()[1])
        asyncio.run(_serve(serving, Catalogue(served), lane_sizes, config, listener, records))


def _opened(serving: Serving) -> tuple[list[Served], dict[str, int], dict[str, Any]]:
    """What is served, the lanes, and what the process of the models is to open."""
    paths = [Path(folder).expanduser().resolve() for folder in serving.folders]
    embedding_options = _embedding_options(paths, serving.embedding_options)
    pipelines = [
        load_pipeline(
            path,
            model_options=serving.folder_options,
            embedding_options=embedding_options[path],
            trust=serving.trust,
            check_model=True,
        )
        for path in paths
    ]
    backends = [pipeline.backend for pipeline in pipelines]
    if serving.model is not None:
        backends.append(open_backend(serving.model.name, **serving.model.options))
    names, lane_sizes = lanes(backends)
    served: list[Served] = []
    for path, pipeline, lane in zip(paths, pipelines, names, strict=False):
        promise = Promise.of(path)
        served.append(ServedClassifier(path.name, path, pipeline, *version_of(path), lane, promise))
        status = promise.to_dict()
        serving.log.event(
            "serves",
            model=path.name,
            version=served[-1].version,
            **{f"certificate_{k}": v for k, v in status.items()},
            fault=promise.fault or None,
        )
    config: dict[str, Any] = {
        "lanes": lane_sizes,
        "classifiers": [
            {
                "name": path.name,
                "lane": lane,
                "folder": str(path),
                "model_options": dict(serving.folder_options),
                "embedding_options": dict(embedding_options[path]),
                "trust": serving.trust,
            }
            for path, lane in zip(paths, names, strict=False)
        ],
        "models": [],
    }
    if serving.model is not None:
        one = serving.model
        served.append(ServedModel(one.name, backends[-1], one.options, serving.limits, one.chat, names[-1]))
        config["models"].append(
            {
                "name": one.name,
                "lane": names[-1],
                "model": one.name,
                "model_options": dict(one.options),
                "chat": one.chat,
            }
        )
    Catalogue(served)  # two of the same name are refused before anything is opened
    return served, lane_sizes, config


def _embedding_options(paths: Sequence[Path], given: Mapping[str, Any]) -> dict[Path, Mapping[str, Any]]:
    """Options go to the classifiers that have embeddings; where none has any, to all, so that the first refuses them."""
    takers = [path for path in paths if given and reads_embeddings(path)] or paths
    return {path: given if path in takers else {} for path in paths}


async def _serve(
    serving: Serving,
    catalogue: Catalogue,
    lane_sizes: Mapping[str, int],
    config: Mapping[str, Any],
    listener: socket.socket,
    records: DecisionRecords | None,
) -> None:
    import uvicorn

    from .application import ServedApplication
    from .connections import QuietServer, limited

    limits, log = serving.limits, serving.log

    def gauges() -> Iterator[tuple[str, str, Mapping[str, str], float]]:
        yield "llmclf_serve_waiting_rows", "Rows that wait for the model.", {}, gatherer.waiting_rows
        yield "llmclf_serve_passes", "Passes under way.", {}, gatherer.passes
        yield "llmclf_serve_model_ready", "1 while the models are open.", {}, float(process.is_ready)
        yield "llmclf_serve_model_starts", "How often the process of the models was started.", {}, process.starts
        if records is not None:
            yield from records.gauges()
        for one in catalogue:
            status = one.facts["certificate"]["status"]
            labels = {"model": one.name, "version": one.version, "certificate": status}
            yield "llmclf_serve_model", "1 for each model that is served.", labels, 1.0
        yield from watched.gauges()

    measures = Measures(gauges)
    gatherer = Gatherer(lane_sizes, limits, measures)

    def changed(is_ready: bool) -> None:
        if is_ready:
            versions = process.versions
            for one in catalogue:
                if isinstance(one, ServedModel):
                    one.versions.update(versions)
        log.event("model_ready" if is_ready else "model_died", pid=process.pid, starts=process.starts)
        gatherer.process_changed(is_ready)

    process = ModelProcess(config, gatherer.answered, changed, hidden=serving.hidden, command=serving.command)
    gatherer.attach(process)
    certified = (
        {}
        if records is None
        else {
            one.name: Watch(records.logs[one.name], one.promise.certificate)
            for one in catalogue
            if isinstance(one, ServedClassifier) and one.promise.certificate is not None
        }
    )
    watched = WatchedLogs(certified, log)
    promises = PromisesKept({one.name: one.promise for one in catalogue if isinstance(one, ServedClassifier)})
    is_stopping = False
    end = math.inf  # of what is waited for, on the clock of time.monotonic

    def reason() -> str:
        if is_stopping:
            return "the server is about to stop"
        return "" if process.is_ready else "the models are being opened"

    application = ServedApplication(
        catalogue,
        gatherer,
        limits,
        serving.access,
        measures,
        log,
        is_ready=reason,
        is_full=lambda: len(server.server_state.connections) > limits.connections,
        record=_ignored if records is None else records.note,
    )
    server = QuietServer(
        uvicorn.Config(
            application,
            http=limited(limits, measures.refused),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=limits.stop_seconds,  # type: ignore[arg-type]
            backlog=_BACKLOG,
        )
    )
    failures: list[LlmclfError] = []

    def first(error: LlmclfError | None) -> None:
        if error is not None:
            failures.append(error)
            server.should_exit = True

    def stop(name: str) -> None:
        nonlocal is_stopping, end
        end = time.monotonic() + (0.0 if is_stopping else limits.stop_seconds)
        log.event("stopping", signal=name, waiting_rows=gatherer.waiting_rows)
        server.force_exit = is_stopping
        server.should_exit = is_stopping = True

    try:
        with _signals(stop):
            async with _running(process.run(first)), _running(_watch(gatherer, promises, log)):
                await server.serve([listener])
    finally:
        watched.close()
        if records is not None:
            records.close(max(_LEAST_WRITING, min(limits.stop_seconds, end - time.monotonic())))
    log.event("stopped")
    if failures:
        raise failures[0]


def _ignored(name: str, answers: Sequence[Answer]) -> None:
    """Decisions of which no log is kept."""


async def _watch(gatherer: Gatherer, promises: PromisesKept, log: EventLog) -> None:
    while True:
        await asyncio.sleep(_CHECK)
        seconds = gatherer.oldest_pass
        if gatherer.check_passes():
            log.event("model_stuck", seconds=round(seconds, 1))
        for name, one in promises.expired().items():
            log.event("certificate_expired", model=name, certificate_id=one.id)


@asynccontextmanager
async def _running(work: Any) -> AsyncIterator[None]:
    """A task for as long as the block lasts."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def _signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Signals that the caller does not ignore ask for the end; a second one does not wait for anything."""
    loop, taken = asyncio.get_running_loop(), []
    if threading.current_thread() is threading.main_thread():
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                with suppress(NotImplementedError):  # where there are no such handlers, uvicorn's way has to do
                    loop.add_signal_handler(number, stop, name)
                    taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _listener(host: str, port: int) -> socket.socket:
    """The port, taken before anything is opened.

    Raises
    ------
    InputError
        The host has no address.
    StoreError
        The port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host!r} is no address of this machine ({error}); try 127.0.0.1") from error
    try:
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # Connections inherit it. A reply is more than one packet, and the last of them would wait for a client's late receipt.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"port {port} of {host} cannot be taken ({reason}); end what listens there, or give another --port"
        ) from error
