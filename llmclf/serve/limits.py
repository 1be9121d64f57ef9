"""How much one request, and all of them together, may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import InputError


@dataclass(frozen=True)
class Limits:
    """Each has a clear refusal, before anything is asked of the model.

    Attributes
    ----------
    body_bytes : int
        Of a body, as it is sent and as it is when it is unpacked.
    rows : int
        Rows of a request to ``/v1/classify``.
    questions : int
        Questions of a request to the other two.
    choices : int
        Options of a question; System One allows no more than 255.
    text_characters : int
        Of a text, and of all that is said about a question.
    body_seconds : float
        In which a body, and before it the head of a request, has to arrive.
    answer_seconds : float
        That a request may wait for its answer, the queue included; and then as long again for its client to read it.
    waiting_rows : int
        Rows that may wait for the model, of all requests together.
    pass_rows : int
        Rows that the model is asked about at once.
    pass_seconds : float
        After which a pass counts as stuck, and the process of the model is started anew.
    connections : int
        That may be open at once; requests on more are refused, and twice as many are closed unheard.
    stop_seconds : float
        That accepted requests are given at the end.
    """

    body_bytes: int = 4_000_000
    rows: int = 512
    questions: int = 400
    choices: int = 255
    text_characters: int = 200_000
    body_seconds: float = 20.0
    answer_seconds: float = 60.0
    waiting_rows: int = 2048
    pass_rows: int = 32
    pass_seconds: float = 300.0
    connections: int = 1024
    stop_seconds: float = 60.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not value > 0:
                raise InputError(f"{one.name}={value!r}: expected a number above 0")
        if self.choices > 255:
            raise InputError(f"choices={self.choices!r}: expected at most 255, which is what the protocols allow")
