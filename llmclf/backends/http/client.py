"""One server: an asynchronous client with limits, retries and counts.

The openai package's HTTP client carries the requests. Retries are made here, since the package's own would bypass the limits and
the budget. Every reply is read and checked here as well: a status of 200 promises nothing.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import BudgetError, ServerError, StoreError
from ..usage import Usage
from .file_transfers import Download, Upload, receive, send
from .options import ServerOptions
from .rate_limits import RateLimits
from .replies import BadReplyError, error_message, meant_status, retry_after, stated_error, token_counts, visible_text
from .transport import connect, parsed_url, unreachable_errors
from .usage import cost_of

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
Body = Mapping[str, Any] | Upload | Download | None

_HEALING = {408, 409, 425, 429}
_ROW_STATUS = {400, 413, 422}  # this request was refused; others may pass
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds between two attempts, where the server says nothing
_LONGEST_OBEYED = 600.0  # seconds; a server that asks for more will not answer soon
_ROUNDING = 1e-9  # share of the budget that sums of many small costs may be off by


@dataclass(frozen=True)
class _Failure:
    """Why an attempt gave no answer, kept free of the client's own frames, in which a key may stand.

    One that heals is worth another attempt. One that is final would happen to every other request as well.
    """

    message: str
    status: int | None = None
    heals: bool = False
    is_final: bool = False
    delay: float | None = None
    may_cost: bool = False

    def error(self) -> ServerError:
        return ServerError(self.message, status=self.status, is_final=self.is_final)


class Client:
    """Requests to one server, from the event loop of an `AsyncBridge`.

    Attributes
    ----------
    usage : Usage
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.usage = Usage(cost=None if options.price is None else 0.0)
        self._limits = RateLimits(options.rpm, options.tpm)
        self._reserved = 0.0
        self._n_reserved = 0
        self._users = 0
        self._http: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Client:
        if not self._users:
            self._limits.open()
            self._slots = asyncio.Semaphore(self.options.concurrency)
            self._settled = asyncio.Event()
            self._http = connect(self.options)
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        import anyio

        self._users -= 1
        if not self._users and self._http is not None:
            http, self._http = self._http, None
            with anyio.CancelScope(shield=True):  # a cancelled task closes its connections all the same
                await http.aclose()

    async def call(
        self,
        path: str,
        body: Body,
        read: Callable[[Any], T],
        *,
        tokens_in: int = 0,
        tokens_out: int = 0,
        max_retries: int | None = None,
        counts: Callable[[Any], tuple[int, int, int] | None] = token_counts,
    ) -> T:
        """Ask until there is an answer that `read` accepts.

        Parameters
        ----------
        path : str
            After the base URL (``"/completions"``), or after the server's root where it begins with ``"//"``.
        body : mapping, or None for a GET; or a file to send (`Upload`) or to write the reply to (`Download`)
        read : callable
            Makes the result from the parsed JSON; raises `BadReplyError` where that is not what was asked for.
        tokens_in, tokens_out : int
            Upper bounds on what the request takes, for limits and budget.
        max_retries : int, optional
            Default: that of the options.
        counts : callable
            The tokens read, of these from the server's cache, and written, that a reply counts; None where it does not: it then
            costs what it could have cost at most.

        Raises
        ------
        ServerError
            The server refuses, or still fails after the last attempt.
        BudgetError
            The request could cost more than is left.
        """
        retries = self.options.max_retries if max_retries is None else max_retries
        url = parsed_url(
            self.options.root + path[1:] if path.startswith("//") else self.options.base_url.rstrip("/") + path
        )
        for attempt in range(retries + 1):
            async with self._slots:
                outcome = await self._attempt(url, body, read, counts, tokens_in, tokens_out, is_retry=attempt > 0)
            if not isinstance(outcome, _Failure):
                return outcome
            if not outcome.heals or attempt == retries:
                break
            await asyncio.sleep(outcome.delay or backoff(attempt))
        assert isinstance(outcome, _Failure)
        if outcome.heals and retries:
            outcome = replace(outcome, message=f"{outcome.message}, after {retries + 1} attempts")
        raise outcome.error()

    async def _attempt(
        self,
        url: httpx2.URL,
        body: Body,
        read: Callable[[Any], T],
        counts: Callable[[Any], tuple[int, int, int] | None],
        tokens_in: int,
        tokens_out: int,
        *,
        is_retry: bool,
    ) -> T | _Failure:
        worst = await self.reserve(tokens_in, tokens_out)
        cost = 0.0
        try:
            begun = await self._limits.start(tokens_in + tokens_out)
            cost = worst
            self.usage.requests += 1
            self.usage.retries += is_retry
            sent = await self._send(url, body)
            if isinstance(sent, _Failure):
                cost = worst if sent.may_cost else 0.0
                if sent.heals and sent.delay is not None:
                    self._limits.hold(sent.delay)
                return sent
            counted = counts(sent)
            if counted is not None:
                cost = self.count(*counted)
                self._limits.settle(begun, counted[0] + counted[2])
            try:
                return read(sent)
            except BadReplyError as error:
                return _Failure(self.unusable(error, sent), 200, heals=True)
        finally:
            # A request that is cancelled while it is under way has still been paid for.
            self.settle(worst, cost)

    def count(self, n_read: int, n_cached: int, n_written: int) -> float:
        """Count the tokens of a reply; what they cost is returned, and counted when it is settled."""
        self.usage.tokens_in += n_read
        self.usage.tokens_cached += n_cached
        self.usage.tokens_out += n_written
        return cost_of(self.options.price, n_read, n_written, n_cached) or 0.0

    @property
    def left(self) -> float:
        """What requests may still cost, besides those under way."""
        limit = math.inf if self.options.max_cost is None else self.options.max_cost * (1.0 + _ROUNDING)
        return limit - (self.usage.cost or 0.0) - self._reserved

    async def reserve(self, tokens_in: int, tokens_out: int) -> float:
        """Set aside what a request could cost at most; wait for others where their real cost may leave enough."""
        worst = cost_of(self.options.price, tokens_in, tokens_out) or 0.0
        while worst > self.left:
            if not self._n_reserved:
                raise BudgetError(
                    f"max_cost={self.options.max_cost:g} is reached: {self.usage.cost or 0.0:.6g} is spent, and the next request "
                    f"could cost {worst:.6g}; raise max_cost to go on"
                )
            self._settled.clear()
            await self._settled.wait()
        self.hold(worst)
        return worst

    def hold(self, worst: float) -> None:
        """Set aside what has already been promised to the server, whatever is left."""
        self._reserved += worst
        self._n_reserved += 1

    def settle(self, worst: float, cost: float) -> None:
        """Replace what was set aside by what was spent."""
        self._n_reserved -= 1
        # A sum of fractions does not return to zero by itself.
        self._reserved = self._reserved - worst if self._n_reserved else 0.0
        if self.usage.cost is not None:
            self.usage.cost += cost
        self._settled.set()

    async def _send(self, url: httpx2.URL, body: Body) -> Any | _Failure:
        """One request: the parsed JSON of a reply with status 200, or what went wrong."""
        assert self._http is not None
        content = json.dumps(body).encode() if isinstance(body, Mapping) else None
        n_bytes = 0
        try:
            async with asyncio.timeout(self.options.timeout) as limit:
                if isinstance(body, Download):
                    response, n_bytes = await receive(self._http, url, body, limit)
                elif isinstance(body, Upload):
                    response = await send(self._http, url, body, limit)
                elif content is None:
                    response = await self._http.get(url)
                else:
                    response = await self._http.post(url, content=content)
        except StoreError:
            raise
        except TimeoutError:
            failure = _Failure(f"no reply within {self.options.timeout:g} s", heals=True, may_cost=True)
        except Exception as error:  # any of them: their frames hold the key
            cause = error.__cause__ or error
            if isinstance(error, unreachable_errors()) or isinstance(cause, unreachable_errors()):
                reason = f"the server cannot be reached at {self.options.base_url}"
                failure = _Failure(reason, heals=True, is_final=True)
            else:
                reason = f"the connection broke before the reply was complete ({type(cause).__name__})"
                failure = _Failure(reason, heals=True, may_cost=True)
        else:
            is_good = 200 <= response.status_code < 300
            if is_good and isinstance(body, Download):
                return n_bytes
            try:
                parsed = json.loads(response.content)
                if is_good and stated_error(parsed) is None:
                    return parsed
                return self.refusal(response.status_code, parsed, response.headers)
            except (ValueError, RecursionError):
                if not is_good:
                    return self.refusal(response.status_code, None, response.headers)
                kind = response.headers.get("content-type", "no content type")[:80]
                words = self.without_key(visible_text(response.text)) if kind.startswith("text/") else ""
                reason = f"the server's reply is not JSON ({kind}){': ' if words else ''}{words}"
                failure = _Failure(reason, 200, heals=True, may_cost=True)
        return failure

    def without_key(self, body: T) -> T:
        """A JSON value in which the key, wherever a server wrote it, is replaced."""
        return _without_key(body, self.options.api_key_env)

    def unusable(self, error: BadReplyError, reply: Any) -> str:
        """Why a reply with a good status is no answer: what is wrong with it, and what the server says itself."""
        words = error_message(self.without_key(reply)) if isinstance(reply, Mapping) else ""
        return f"the server's reply cannot be used: {error}" + (f"; the server says: {words}" if words else "")

    def refusal(self, status: int, body: Any, headers: Mapping[str, str]) -> _Failure:
        """What a reply means that is an error by its status, or by what it says (`stated_error`)."""
        body = self.without_key(body)
        is_good = 200 <= status < 300
        message = error_message(stated_error(body) if is_good else body)
        meant = meant_status(status, body)
        heals = meant in _HEALING or (meant >= 500 and meant != 501)
        if headers.get("x-should-retry") == "false":
            heals = False
        delay = retry_after(headers)
        if delay is not None and delay > _LONGEST_OBEYED:
            heals = False
            message += f" (it asks to wait for {delay:.0f} s)"
        advice = ""
        if meant in (401, 403):
            name = self.options.api_key_env
            advice = f"; check the key in the environment variable {name}" if name else "; name a key with api_key_env="
        answered = f"{status} with an error" if is_good else str(status)
        return _Failure(
            f"the server answered {answered}{': ' if message else ''}{message}{advice}",
            meant if is_good else status,
            heals,
            is_final=not heals and meant not in _ROW_STATUS,
            delay=delay,
            may_cost=is_good,
        )


def _without_key(body: T, api_key_env: str | None) -> T:
    """Some servers repeat the key that they refuse in their refusal."""
    if not os.environ.get(api_key_env or ""):
        return body
    replaced: T = json.loads(json.dumps(body).replace(json.dumps(os.environ[api_key_env or ""])[1:-1], "[key]"))
    return replaced


def backoff(attempt: int) -> float:
    """Seconds before the next attempt: doubled each time, minus up to a quarter at random so that not all return at once."""
    wait: float = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.75, 1.0)
    return wait
