"""The routes, as an ASGI application: check the head, read the body, ask, answer; all in the protocol's own form."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from .access import Access
from .bodies import ArrivingBody, read_body
from .event_log import EventLog, request_id
from .gathering import Gatherer
from .limits import Limits
from .measures import Measures
from .openapi import document, page
from .protocols.base import Asked, WireProtocol, reply_name
from .protocols.classify import Classify
from .protocols.decisions import Decisions
from .protocols.system_one import SystemOne, is_system_one
from .questions import Answer, Ask
from .refusals import RefusalError, unavailable
from .served import Catalogue

_CLIENT_GONE = 499  # what nginx logs where a client hung up
_OPEN = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})  # without a key
_ROUTES = frozenset({*_OPEN, "/v1/systemone", "/v1/decisions", "/v1/classify", "/v1/models", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_AT_ONCE = ("request_timeout", "stopped")  # refusals for which the rest of a body is not waited for

Record = Callable[[str, Sequence[Answer]], None]


class ServedApplication:
    """All routes.

    Parameters
    ----------
    catalogue : Catalogue
    gatherer : Gatherer
    limits : Limits
    access : Access
    measures : Measures
    log : EventLog
    is_ready : callable
        Gives why the server is not ready; empty where it is.
    is_full : callable
        Whether more connections are open than there should be; their requests are refused then.
    record : callable
        Gets name and answers of each request that was answered; see `llmclf.serve.decision_records`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        gatherer: Gatherer,
        limits: Limits,
        access: Access,
        measures: Measures,
        log: EventLog,
        *,
        is_ready: Callable[[], str],
        is_full: Callable[[], bool],
        record: Record,
    ) -> None:
        self._catalogue, self._gatherer, self._limits = catalogue, gatherer, limits
        self._access, self._measures, self._log = access, measures, log
        self._is_ready, self._is_full, self._record = is_ready, is_full, record
        self._protocols: dict[str, WireProtocol] = {
            "/v1/systemone": SystemOne(),
            "/v1/decisions": Decisions(),
            "/v1/classify": Classify(),
        }
        self._plain = Classify()  # how refusals of all other routes are written
        routes = [
            *(Route(path, self._answer, methods=["POST"]) for path in self._protocols),
            Route("/v1/models", self._models),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", self._docs),
        ]
        self._routes = Router(routes=routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began, status, is_gone = time.perf_counter(), 0, False
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        own_id = request_id(headers)
        note: dict[str, Any] = {}
        scope["llmclf"] = {"id": own_id, "headers": headers, "note": note}
        scope["app"] = self  # so that the router raises what it does not know, and writes nothing itself
        body = ArrivingBody(scope, receive)

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                if "error" in note and note["error"] not in _AT_ONCE:
                    await body.discard()
                status = message["status"]
                own = own_id.encode("ascii")
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", own),
                    (b"x-typesafe-request-id", own),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            try:
                self._access.check_host(headers)
                if self._is_full() and scope["path"] != "/healthz":
                    raise unavailable(
                        f"{self._limits.connections:,} connections are open already; ask again later, and keep fewer open",
                        kind="too_many_connections",
                    )
                if scope["path"] not in _OPEN:
                    self._access.check_key(headers)
                await self._routes(scope, body, named)
            except RefusalError as refusal:
                await self._refused(scope, refusal)(scope, body, named)
            except HTTPException as error:
                await self._refused(scope, _no_route(error))(scope, body, named)
        except ClientDisconnect:
            is_gone = True
        except asyncio.CancelledError:  # the server does not wait for what it has accepted any more
            if not status:
                end = unavailable("the server stops, and did not answer in time; ask again later", kind="stopped")
                await self._refused(scope, end)(scope, body, named)
            raise
        except Exception as error:  # a fault of ours; the client learns its number and nothing else
            self._log.event("fault", request_id=own_id, kind=type(error).__name__, where=_where(error))
            if not status:
                fault = RefusalError(
                    500, "internal_error", "the server failed on this request; its log has the request's id"
                )
                await self._refused(scope, fault)(scope, body, named)
        finally:
            route = scope["path"] if scope["path"] in _ROUTES else "other"
            seconds = time.perf_counter() - began
            if is_gone or not status:
                self._measures.gone()
            self._measures.finished(route, status or _CLIENT_GONE, seconds)
            if route not in ("/healthz", "/readyz", "/metrics") or status >= 400:
                self._log.event(
                    "request",
                    request_id=own_id,
                    method=scope["method"] if scope["method"] in _METHODS else "other",
                    route=route,
                    status=status or _CLIENT_GONE,
                    milliseconds=round(1000 * seconds, 2),
                    client=scope["client"][0] if scope.get("client") else None,
                    **note,
                )

    # --- the routes ------------------------------------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Response:
        """Any of the three protocols."""
        own = request.scope["llmclf"]
        protocol, note = self._protocols[request.scope["path"]], own["note"]
        try:
            body = await read_body(own["headers"], request.stream(), self._limits)
            if is_system_one(body):
                protocol = self._protocols["/v1/systemone"]
            if self._log.shows_texts:
                note["body"] = body
            asked = protocol.read(body, self._catalogue, self._limits)
            note.update(model=asked.served.name, rows=len(asked.asks))
            # Nobody else chooses or guesses it: a client's own id may come twice, for one text or for two.
            decision = uuid.uuid4().hex
            answers = asked.identified(await self._asked(asked, request.receive), decision)
            try:
                reply = protocol.write(asked, answers, own["id"])
            except RefusalError as refusal:
                if refusal.status < 500:
                    # The row is to blame, and was decided upon; one that may be asked again was not.
                    self._decided(asked, answers)
                    note["decision"] = decision
                raise
        except RefusalError as refusal:
            note["error"] = refusal.kind
            return _json(*protocol.refuse(refusal, own["id"]), refusal.headers)
        self._decided(asked, answers)
        note["decision"] = decision
        return _json(200, reply)

    def _decided(self, asked: Asked, answers: Sequence[Answer]) -> None:
        """Count and keep what was decided."""
        decided = answers[: asked.n_decisions]
        self._measures.answered(asked.served.name, decided)
        self._record(asked.served.name, decided)

    async def _asked(self, asked: Asked, receive: Receive) -> list[Answer]:
        """The answers; the asking ends where the client hangs up, so that the model works for nobody in vain."""
        asks = [ask for ask in asked.asks if isinstance(ask, Ask)]
        if asked.is_one_ask:
            asks = asks[:1]
        answering = asyncio.ensure_future(self._gatherer.answers(asked.served.lane, asks))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientDisconnect
            answers = answering.result()
        finally:
            for task in (answering, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, RefusalError):
                    await task
        fresh = iter(answers * len(asked.asks) if asked.is_one_ask else answers)
        return [next(fresh) if isinstance(ask, Ask) else ask for ask in asked.asks]

    async def _models(self, request: Request) -> Response:
        """In the forms of System One and of OpenAI at once, which do not contradict each other."""
        models, data = [], []
        for one in self._catalogue:
            released = one.released.isoformat()
            # Clients that introduce themselves with a question of their own learn here who would answer.
            facts = {"x_answers_as": reply_name(one), "x_llmclf": one.facts}
            models.append({"name": one.name, "description": one.description, "release_date": released, **facts})
            created = int(time.mktime(one.released.timetuple()))
            data.append({"id": one.name, "object": "model", "created": created, "owned_by": "llmclf", **facts})
        return _json(200, {"models": models, "object": "list", "data": data})

    async def _healthz(self, request: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def _readyz(self, request: Request) -> Response:
        reason = self._is_ready()
        if reason:
            return _json(503, {"status": "not ready", "reason": reason})
        # How many, and not whose: nobody needs a key to see this.
        statuses = [one.facts["certificate"]["status"] for one in self._catalogue]
        bad = {status: statuses.count(status) for status in ("expired", "broken") if status in statuses}
        return _json(200, {"status": "ready", **({"certificates": bad} if bad else {})})

    async def _metrics(self, request: Request) -> Response:
        content, media_type = self._measures.page()
        return Response(content, headers={"content-type": media_type})

    async def _openapi(self, request: Request) -> Response:
        return _json(200, document(self._limits, needs_key=self._access.needs_key))

    async def _docs(self, request: Request) -> Response:
        return HTMLResponse(page(document(self._limits, needs_key=self._access.needs_key)))

    def _refused(self, scope: Scope, refusal: RefusalError) -> Response:
        """A refusal in the form of the route's protocol."""
        own = scope["llmclf"]
        own["note"]["error"] = refusal.kind
        protocol = self._protocols.get(scope["path"], self._plain)
        return _json(*protocol.refuse(refusal, own["id"]), {**refusal.headers, "Connection": "close"})


def _no_route(error: HTTPException) -> RefusalError:
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return RefusalError(405, "method_not_allowed", f"expected the method {allowed}", headers={"Allow": allowed})
    return RefusalError(error.status_code, "not_found", "no such route; GET /docs shows those that there are")


async def _left(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(content, status, dict(headers or {}), "application/json")


def _where(error: BaseException) -> list[str]:
    """Files and lines of an error, without its words, which may quote a text."""
    return [f"{one.filename}:{one.lineno} {one.name}" for one in traceback.extract_tb(error.__traceback__)]
