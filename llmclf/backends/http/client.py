"""One server: an asynchronous client with limits, retries and counts.

aiohttp carries the requests. Retries are made here, within the limits and the budget. Every reply is read and checked here as
well: a status of 200 promises nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import BudgetError, LlmclfError, ServerError, StoreError
from ..usage import Usage
from .file_transfers import Download, Upload, receive, request
from .key_echoes import without_key
from .options import ServerOptions
from .proxies import Proxy, proxy_for
from .rate_limits import RateLimits
from .replies import BadReplyError, error_message, meant_status, retry_after, stated_error, token_counts, visible_text
from .reply_limits import ReplyLimitError, ReplyLimits
from .transport import Transport, parsed_url, proxy_refusal, was_unreachable
from .usage import cost_of

if TYPE_CHECKING:
    import aiohttp
    import yarl

T = TypeVar("T")
REQUESTS_LOG = logging.getLogger("llmclf.requests")
"""Told, at the level INFO, why a request is repeated."""
Body = Mapping[str, Any] | Upload | Download | None

_HEALING = {408, 409, 425, 429}
_ROW_STATUS = {400, 413, 422}  # this request was refused; others may pass
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds between two attempts, where the server says nothing
_LONGEST_OBEYED = 600.0  # seconds; a server that asks for more will not answer soon
_SHOWN = 300  # characters of an address that a server names
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
    reply_limits : ReplyLimits
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.usage = Usage(cost=None if options.price is None else 0.0)
        self._limits = RateLimits(options.rpm, options.tpm)
        self.reply_limits = ReplyLimits(options.max_reply_mb, options.base_url)
        self._reserved = 0.0
        self._n_reserved = 0
        self._users = 0
        self._transport: Transport | None = None
        self._proxy: Proxy | None = None

    async def __aenter__(self) -> Client:
        if not self._users:
            self._limits.open()
            self._slots = asyncio.Semaphore(self.options.concurrency)
            self._settled = asyncio.Event()
            self._large_turn = asyncio.Lock()
            self._proxy = proxy_for(self.options)
            self._transport = Transport(self.options, self._proxy)
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        import anyio

        self._users -= 1
        if not self._users and self._transport is not None:
            transport, self._transport = self._transport, None
            with anyio.CancelScope(shield=True):  # a cancelled task closes its connections all the same
                await transport.close()

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
            REQUESTS_LOG.info("%s", outcome.message)
            await asyncio.sleep(outcome.delay or backoff(attempt))
        assert isinstance(outcome, _Failure)
        if outcome.heals and retries:
            outcome = replace(outcome, message=f"{outcome.message}, after {retries + 1} attempts")
        raise outcome.error()

    async def _attempt(
        self,
        url: yarl.URL,
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
            except LlmclfError as error:
                error.args = tuple(self.without_key(list(error.args)))
                raise
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
                    f"could cost {worst:.6g}; raise max_cost to go on",
                    limit=self.options.max_cost,
                    needed=worst,
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

    async def _send(self, url: yarl.URL, body: Body) -> Any | _Failure:
        """One request: the parsed JSON of a reply with status 200, or what went wrong."""
        assert self._transport is not None
        content: bytes | bytearray | None = None
        try:
            async with (
                asyncio.timeout(self.options.timeout) as limit,
                request(self._transport, url, body, limit) as response,
            ):
                if 300 <= response.status < 400:
                    return self._redirected(response)
                if isinstance(body, Download) and 200 <= response.status < 300:
                    return await receive(response, body, limit)
                content = await self.reply_limits.content(response, self._large_turn)
        except StoreError:
            raise
        except ReplyLimitError as error:
            if 200 <= response.status < 300:
                return _Failure(str(error), response.status, may_cost=True)
        except TimeoutError:
            return _Failure(f"no reply within {self.options.timeout:g} s", heals=True, may_cost=True)
        except Exception as error:  # any of them: their frames hold the key
            refused = proxy_refusal(error)
            through = "" if self._proxy is None else f" through the proxy in {self._proxy.variable}"
            if was_unreachable(error):
                reason = f"the server cannot be reached at {self.options.base_url}{through}"
                return _Failure(reason, heals=True, is_final=True)
            if refused is not None:
                reason = f"the server cannot be reached at {self.options.base_url}{through}, which answered {refused}"
                return _Failure(reason, heals=not 400 <= refused < 500, is_final=True)
            reason = f"the connection broke before the reply was complete ({type(error).__name__})"
            return _Failure(reason, heals=True, may_cost=True)
        try:
            answer = self._read(response.status, response.headers, content)
            if isinstance(answer, _Failure):
                return answer
            if isinstance(body, Mapping) and isinstance(answer, dict):
                # Of these only names are kept, such as that of the model; to look at all of it would take time with every answer.
                return {name: self._name(value) for name, value in answer.items()}
            return self.without_key(answer)
        except Exception as error:  # such as a lack of memory: the frames hold the reply, which may repeat the key
            reason = f"the server's reply cannot be read ({type(error).__name__})"
            return _Failure(reason, response.status, may_cost=True)

    def _read(self, status: int, headers: Mapping[str, str], content: bytes | bytearray | None) -> Any | _Failure:
        """What a reply says; of a refusal that was too long to be read, there is no content."""
        is_good = 200 <= status < 300
        if content is None:
            return self.refusal(status, None, headers)
        try:
            parsed = self.reply_limits.parse(content)
        except ReplyLimitError as error:
            if not is_good:
                return self.refusal(status, None, headers)
            return _Failure(str(error), status, heals=error.heals, may_cost=True)
        except ValueError:
            if not is_good:
                return self.refusal(status, None, headers)
            kind = self.without_key(_printable(headers.get("content-type", "no content type")[:80]))
            words = self.without_key(visible_text(content)) if kind.startswith("text/") else ""
            reason = f"the server's reply is not JSON ({kind}){': ' if words else ''}{words}"
            return _Failure(reason, 200, heals=True, may_cost=True)
        if not is_good or stated_error(parsed) is not None:
            return self.refusal(status, parsed, headers)
        return parsed

    def _name(self, value: Any) -> Any:
        return self.without_key(value) if isinstance(value, str) else value

    def _redirected(self, response: aiohttp.ClientResponse) -> _Failure:
        """A reply that says to ask elsewhere: nothing goes there, since the caller has not named that place."""
        asked = str(response.url)
        try:
            parts = urllib.parse.urlsplit(urllib.parse.urljoin(asked, response.headers.get("location", "")))
            # Neither a name nor a query, which may hold the text.
            there = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        except ValueError:
            there = "an address that cannot be read"
        shown = _printable(there[:_SHOWN])
        return _Failure(
            f"the server answered {response.status}, a redirection from {asked} to {self.without_key(shown)}; nothing was "
            "sent there: if that is the right place, change base_url=",
            response.status,
            is_final=True,
        )

    def without_key(self, body: T) -> T:
        """A text or JSON value in which the key, wherever a server wrote it, is replaced."""
        return without_key(body, self.options.api_key_env)

    def unusable(self, error: BadReplyError, reply: Any) -> str:
        """Why a reply with a good status is no answer: what is wrong with it, and what the server says itself."""
        words = error_message(reply) if isinstance(reply, Mapping) else ""
        return self.without_key(
            f"the server's reply cannot be used: {error}" + (f"; the server says: {words}" if words else "")
        )

    def refusal(self, status: int, body: Any, headers: Mapping[str, str]) -> _Failure:
        """What a reply means that is an error by its status, or by what it says (`stated_error`)."""
        is_good = 200 <= status < 300
        message = self.without_key(error_message(stated_error(body) if is_good else body))
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
            meant if is_good or meant == 401 else status,
            heals,
            is_final=not heals and meant not in _ROW_STATUS,
            delay=delay,
            may_cost=is_good,
        )


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def backoff(attempt: int) -> float:
    """Seconds before the next attempt: doubled each time, minus up to a quarter at random so that not all return at once."""
    wait: float = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.75, 1.0)
    return wait
