"""The lines of a batch's files, and the state of a batch. Everything that a server sends is checked before it counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ...http.replies import error_message, expect, mapping, string
from ...http.reply_limits import ReplyLimitError, ReplyLimits

MARK = "llmclf"
"""The name under which a batch's mark stands in its metadata."""

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_LONGEST_ID = 500


def request_id(path: str, body: Mapping[str, Any]) -> str:
    """The custom_id of a request: the same for the same body, whichever process asks.

    Examples
    --------
    >>> request_id("/completions", {"prompt": "a", "n": 1}) == request_id("/completions", {"n": 1, "prompt": "a"})
    True
    """
    return sha256(f"{path}\n{_canonical(body)}".encode()).hexdigest()[:32]


def request_line(custom_id: str, path: str, body: Mapping[str, Any]) -> bytes:
    """One line of a request file.

    Examples
    --------
    >>> request_line("a1", "/completions", {"prompt": "x"})
    b'{"body":{"prompt":"x"},"custom_id":"a1","method":"POST","url":"/v1/completions"}\\n'
    """
    whole = {"custom_id": custom_id, "method": "POST", "url": f"/v1{path}", "body": body}
    return f"{_canonical(whole)}\n".encode()


@dataclass(frozen=True)
class ResultLine:
    """One line of an output or error file.

    Attributes
    ----------
    custom_id : str
    status : int or None
        The request's HTTP status; None where the request was never processed (its batch expired, say).
    body : Any
        The reply; where `status` is None, what the server says instead.
    """

    custom_id: str
    status: int | None
    body: Any

    @property
    def message(self) -> str:
        """Why there is no answer."""
        code = self.body.get("code") if isinstance(self.body, Mapping) else None
        words = [code if isinstance(code, str) else "", error_message(self.body)]
        return ": ".join(filter(None, words)) or "the server does not say why"


def read_result_line(raw: bytes, limits: ReplyLimits) -> ResultLine | None:
    """A line that came back; None for anything else, and for one that is more than a reply may be.

    Examples
    --------
    >>> limits = ReplyLimits(64, "http://localhost:8000/v1")
    >>> line = b'{"custom_id": "a1", "response": {"status_code": 200, "body": {"choices": []}}, "error": null}'
    >>> read_result_line(line, limits)
    ResultLine(custom_id='a1', status=200, body={'choices': []})
    >>> read_result_line(b'{"custom_id": "a1", "response": null, "error": {"code": "batch_expired"}}', limits).message
    'batch_expired'
    >>> read_result_line(b'{"custom_id": "a1", "resp', limits)
    """
    try:
        values = limits.parse(raw)
    except (ReplyLimitError, ValueError):
        return None
    custom_id = values.get("custom_id") if isinstance(values, dict) else None
    if not isinstance(custom_id, str):
        return None
    response, error = values.get("response"), values.get("error")
    if isinstance(response, dict):
        status, body = response.get("status_code"), response.get("body")
        if type(status) is not int or not (isinstance(body, dict) or status != 200):
            return None
        return ResultLine(custom_id, status, body)
    return ResultLine(custom_id, None, error) if isinstance(error, dict) else None


@dataclass(frozen=True)
class BatchState:
    """What a server says about a batch.

    Attributes
    ----------
    id, status : str
    mark : str
        The text in its metadata by which its maker recognises it.
    input_file_id : str
    files : tuple of str
        The ids of its output file and its error file, as far as they exist.
    total, done, failed : int
        Numbers of requests.
    code, message : str
        Why it failed.
    """

    id: str
    status: str
    mark: str
    input_file_id: str
    files: tuple[str, ...]
    total: int
    done: int
    failed: int
    code: str
    message: str

    @property
    def is_over(self) -> bool:
        return self.status in _ENDED

    @property
    def lacks_answers(self) -> bool:
        """Whether the server counts answers but does not say where they are yet."""
        return self.is_over and self.done > 0 and not self.files

    @classmethod
    def read(cls, reply: Any) -> BatchState:
        """Read a batch object.

        Raises
        ------
        BadReplyError

        Examples
        --------
        >>> BatchState.read({"id": "batch_1", "status": "in_progress", "request_counts": {"total": 3, "completed": 1}}).done
        1
        """
        values = mapping(reply, "the batch")
        counts = values.get("request_counts")
        counts = counts if isinstance(counts, Mapping) else {}
        marks = values.get("metadata")
        errors = values.get("errors")
        listed = errors.get("data") if isinstance(errors, Mapping) else errors
        listed = [error for error in listed if isinstance(error, Mapping)] if isinstance(listed, list) else []
        files = [values.get("output_file_id"), values.get("error_file_id")]
        return cls(
            id=read_id(values),
            status=string(values.get("status"), "the batch's status").lower()[:50],
            mark=str(marks.get(MARK) or "") if isinstance(marks, Mapping) else "",
            input_file_id=str(values.get("input_file_id") or ""),
            files=tuple(file for file in files if isinstance(file, str) and file),
            total=_count(counts.get("total")),
            done=_count(counts.get("completed")),
            failed=_count(counts.get("failed")),
            code=next((str(error["code"]) for error in listed if error.get("code")), ""),
            message="; ".join(map(_error_text, listed[:3])) or error_message(errors),
        )


def read_id(reply: Any) -> str:
    """The id of a file or a batch."""
    name = string(mapping(reply, "the reply").get("id"), "the id")
    expect(0 < len(name) <= _LONGEST_ID and name.isprintable(), "the id is empty, too long or not printable")
    return name


def _error_text(error: Mapping[str, Any]) -> str:
    line = error.get("line")
    where = f"line {line}: " if isinstance(line, int) else ""
    return where + (error_message(error) or str(error.get("code") or "no reason given"))[:300]


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
