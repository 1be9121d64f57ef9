"""Why a request gets no answer: said once, and written by each protocol in its own form."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class RefusalError(Exception):
    """A request that is refused, or fails.

    Attributes
    ----------
    status : int
        Of HTTP, as System One has it; a protocol may have another one for the same kind.
    kind : str
        A fixed name of what is wrong, which programs may compare.
    message : str
        What was given, what was expected and the cure. It never holds a text or a key.
    place : tuple of str or int
        Where in the body: names of fields and places in lists.
    headers : dict of str to str
        Of the reply, besides those that all have.
    """

    status: int
    kind: str
    message: str
    place: tuple[str | int, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


def invalid(message: str, *place: str | int, kind: str = "invalid_value") -> RefusalError:
    """A body that is not as it should be.

    Examples
    --------
    >>> invalid("expected a text", "state").status
    422
    """
    return RefusalError(422, kind, message, place)


def unknown_model(name: str, known: str) -> RefusalError:
    """A model that is not served here."""
    return RefusalError(404, "model_not_found", f"the model {name!r} is not served here; served: {known}", ("model",))


def too_large(message: str, *place: str | int) -> RefusalError:
    """A body, or a part of it, that is beyond a limit."""
    return RefusalError(413, "too_large", message, place)


def unavailable(message: str, *, kind: str = "model_unavailable", seconds: float = 1.0) -> RefusalError:
    """Nothing is wrong with the request, and it may be sent again after some seconds."""
    return RefusalError(503, kind, message, headers=retry_after(seconds))


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when to ask again, in whole seconds.

    Examples
    --------
    >>> retry_after(0.2), retry_after(90.0)
    ({'Retry-After': '1'}, {'Retry-After': '60'})
    """
    return {"Retry-After": str(max(1, min(60, round(seconds))))}
