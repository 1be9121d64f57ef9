"""A backend's description: what is copied, compared, pickled and shown, without anything that it has opened."""

from __future__ import annotations

import difflib
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from ..errors import UnknownOptionError
from .options import check_options, fill_in, options_of

T = TypeVar("T")

_LOCK = threading.Lock()
_SHARED: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def shared(key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """The one object of this process for a key, made at the first call and kept as long as somebody holds it.

    Handles that describe the same thing share its connections, limits and counts in this way. Threads may call this at once;
    `make` should be quick, since all others wait for it.

    Parameters
    ----------
    key : tuple
        Hashable, and everything that tells two objects apart.
    make : callable

    Examples
    --------
    >>> class Connection: pass
    >>> first = shared(("http://localhost", 8), Connection)
    >>> shared(("http://localhost", 8), Connection) is first
    True
    """
    with _LOCK:
        existing: T | None = _SHARED.get(key)
        if existing is None:
            existing = make()
            _SHARED[key] = existing
        return existing


@dataclass(frozen=True, eq=False, repr=False)
class Handle:
    """A model string and options. Copies share what is open, pickles keep the description alone.

    A subclass is a frozen dataclass too, and its options are fields made by `llmclf.backends.options.option`.

    Parameters
    ----------
    name : str
        The model string, as `open_backend` takes it.
    """

    name: str
    _held: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        fill_in(self)
        check_options(self)

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults; with `name` they describe this backend."""
        values = ((option, getattr(self, option.name)) for option in options_of(type(self)))
        return {option.name: value for option, value in values if value != option.default}

    @property
    def description(self) -> dict[str, Any]:
        """What the scores depend on, as far as it is known before anything is opened."""
        ignored = {option.name for option in options_of(type(self)) if not option.option.moves_scores}
        return {"model": self.name, **{name: value for name, value in self.options.items() if name not in ignored}}

    def open_once(self, make: Callable[[], T]) -> T:
        """What this handle has opened; `make` opens it at the first call."""
        if self._held is None:
            object.__setattr__(self, "_held", make())
        opened: T = self._held
        return opened

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({self.name!r}{options})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __getstate__(self) -> dict[str, Any]:
        # Whoever opens a pickle loads weights or connects on its own machine.
        return {**self.__dict__, "_held": None}

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def _key(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.name, repr(sorted(self.options.items())))


def check_option_names(kind: type[Handle], model: str, names: Iterable[str]) -> None:
    """Refuse options that a backend does not have.

    Raises
    ------
    UnknownOptionError
    """
    known = [option.name for option in options_of(kind)]
    unknown = sorted(set(names) - set(known))
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UnknownOptionError(
            f"the model {model!r} does not have the option {unknown[0]!r}{hint} ({kind.__name__} has {', '.join(known)})"
        )
