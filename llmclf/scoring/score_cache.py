"""The score cache: answers of a model, kept in SQLite, so that no text is asked twice.

A key is made of everything the answer depends on: the version of the scores, the model's identity, the prompt piece by piece,
what a chat template writes around it, the completions, the terminator and what is done to the logits. A value is the JSON of the
token log-probabilities. What is common to all caches is in `llmclf.answer_cache`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..answer_cache import AnswerCache, key_of
from ..backends.requests import SCORE_VERSION, Request, RowScores
from ..errors import InputError
from ..prompts.rendered import RenderedPrompt


def request_key(identity: Mapping[str, Any], request: Request, frame: str | None = None) -> str:
    """The cache key of one request to one model.

    `frame` is what the model's chat template writes around the turns; None for plain text.

    Strings are kept code point by code point, and every part keeps its type and its place: ``("a|b", "c")`` and
    ``("a", "b|c")``, composed and decomposed accents, ``1`` and ``"1"`` all give different keys.
    """
    parts = {
        "version": SCORE_VERSION,
        "identity": identity,
        "turns": _turns(request.prompt),
        # Which part of a long prompt is shortened is not a part of its text.
        "text": [request.prompt.text_field, request.prompt.text_length],
        "completions": request.completions,
        "terminator": request.terminator,
    }
    if frame is not None:
        parts["frame"] = frame
    if request.processing is not None:
        without_row = request.processing.unconditional
        parts["processing"] = [request.processing.to_dict(), None if without_row is None else _turns(without_row)]
    return key_of(parts)


def _turns(prompt: RenderedPrompt) -> list[Any]:
    return [[turn.role, [[span.text, span.is_data] for span in turn.spans]] for turn in prompt.turns]


class ScoreCache(AnswerCache[RowScores]):
    """A file of scores that several threads and processes may use at once.

    Parameters
    ----------
    path : path
        Made when missing, readable by its owner alone.

    Raises
    ------
    StoreError
        The file cannot be opened, or is something else than a cache.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> cache = ScoreCache(pathlib.Path(tempfile.mkdtemp()) / "scores.sqlite")
    >>> cache.put([("key", RowScores(((-0.5,),)))])
    >>> cache.get(["key", "other"])["key"].sums
    (-0.5,)
    """

    table = "scores"
    kind = "score cache"

    def pack(self, answer: RowScores) -> str:
        try:
            return json.dumps(answer.to_json(), separators=(",", ":"), allow_nan=False)
        except ValueError as error:
            raise InputError(f"{answer!r} cannot be kept: expected finite log-probabilities") from error

    def unpack(self, value: Any) -> RowScores | None:
        try:
            return RowScores.from_json(json.loads(value)) if isinstance(value, str) else None
        except (ValueError, OverflowError, RecursionError):
            return None
