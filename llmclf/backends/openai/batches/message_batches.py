"""Anthropic's Message Batches: the requests go up with the call that makes the batch, and its results come down as lines.

A batch has no mark by which its maker recognises it. One whose creation was never confirmed is recognised by when it was made
and by its number of requests, among those that belong to nobody else. Should that be another's, none of its results is taken,
since each result names its request by a hash of it.
"""

from __future__ import annotations

import datetime
import json
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, BinaryIO

from ...http.replies import mapping, meant_status, sequence, string
from ...http.reply_limits import ReplyLimitError, ReplyLimits
from .endpoints import BatchEndpoints
from .file_format import BatchState, ResultLine, read_id
from .store import BatchRecord

_BEFORE, _AFTER = 120.0, 1800.0  # seconds around the upload in which a batch may have been made, by the server's clock
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
_RESULTS = "results"


class MessageBatches(BatchEndpoints):
    """``/v1/messages/batches``."""

    path = "//v1/messages/batches"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._requests: dict[
            str, list[dict[str, Any]]
        ] = {}  # of batches that are being created, by their records' file

    async def upload(self, file: BinaryIO, name: str) -> str:
        file.seek(0)
        lines = [json.loads(line) for line in file]
        known_by = f"{len(lines)} at {time.time():.0f}"
        self._requests = {known_by: [{"custom_id": line["custom_id"], "params": line["body"]} for line in lines]}
        return known_by

    def creation(self, record: BatchRecord) -> dict[str, Any]:
        return {"requests": self._requests[record.file_id]}

    def read(self, reply: Any) -> BatchState:
        values = mapping(self.client.without_key(reply), "the batch")
        status = string(values.get("processing_status"), "the batch's processing_status").lower()[:50]
        stated = mapping(values.get("request_counts"), "request_counts")
        counts = {name: stated[name] if type(stated.get(name)) is int else 0 for name in _COUNTS}
        created = values.get("created_at")
        return BatchState(
            id=read_id(values),
            status="completed" if status == "ended" else status,
            mark="",
            input_file_id=created if isinstance(created, str) else "",
            files=(_RESULTS,) if status == "ended" else (),
            total=sum(counts.values()),
            done=counts["succeeded"],
            failed=counts["errored"],
            code="",
            message="",
        )

    def read_page(self, reply: Any) -> tuple[list[BatchState], str]:
        page = mapping(reply, "the list of batches")
        batches = [self.read(item) for item in sequence(page.get("data"), "data")]
        has_more = bool(page.get("has_more")) and bool(batches)
        return batches, f"&after_id={urllib.parse.quote(batches[-1].id, safe='')}" if has_more else ""

    def is_made_of(self, batch: BatchState, record: BatchRecord) -> bool:
        n, _, uploaded = record.file_id.partition(" at ")
        created = _seconds(batch.input_file_id)
        if created is None or not uploaded.isdecimal():
            return False
        return n == str(batch.total) and -_BEFORE <= created - int(uploaded) <= _AFTER

    def content_path(self, batch: BatchState, file: str) -> str:
        return f"{self.path}/{urllib.parse.quote(batch.id, safe='')}/{_RESULTS}"

    def read_line(self, raw: bytes, limits: ReplyLimits) -> ResultLine | None:
        return read_message_line(raw, limits)


def read_message_line(raw: bytes, limits: ReplyLimits) -> ResultLine | None:
    """A line of results; None for anything else.

    Examples
    --------
    >>> limits = ReplyLimits(64, "https://api.example.com")
    >>> line = b'{"custom_id": "a1", "result": {"type": "succeeded", "message": {"content": []}}}'
    >>> read_message_line(line, limits)
    ResultLine(custom_id='a1', status=200, body={'content': []})
    >>> read_message_line(b'{"custom_id": "a1", "result": {"type": "expired"}}', limits).message
    'expired'
    """
    try:
        values = limits.parse(raw)
    except (ReplyLimitError, ValueError):
        return None
    custom_id = values.get("custom_id") if isinstance(values, dict) else None
    result = values.get("result") if isinstance(values, dict) else None
    if not isinstance(custom_id, str) or not isinstance(result, Mapping):
        return None
    kind, message, error = result.get("type"), result.get("message"), result.get("error")
    if kind == "succeeded":
        return ResultLine(custom_id, 200, message) if isinstance(message, dict) else None
    if kind == "errored":
        return ResultLine(custom_id, meant_status(200, error), error) if isinstance(error, dict) else None
    return ResultLine(custom_id, None, {"code": kind}) if isinstance(kind, str) else None


def _seconds(text: str) -> float | None:
    """The time that a text is, in seconds since 1970."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
