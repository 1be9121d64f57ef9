"""A backend's description: what is copied, compared, pickled and shown, without anything that it has opened."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

T = TypeVar("T")

_LOCK = threading.Lock()
_SHARED: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def shared(key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """The one object of this process for a key, made at the first call and kept as long as somebody holds it.

    Handles that describe the same thing so share its connections, limits and counts. Threads may call this at once; `make`
    should be quick, since all others wait for it.

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
        found: T | None = _SHARED.get(key)
        if found is None:
            found = make()
            _SHARED[key] = found
        return found


class Handle:
    """A model string and options. Copies share what is open, pickles keep the description alone.

    Attributes
    ----------
    name : str
        The model string, as `open_backend` takes it.
    option_names : tuple of str
        The options; each is an attribute of the same name, None where it has its default.
    passing_options : frozenset of str
        Those of them on which no score depends: how fast, how often, where.
    """

    option_names: ClassVar[tuple[str, ...]] = ()
    passing_options: ClassVar[frozenset[str]] = frozenset()
    name: str

    def __init__(self) -> None:
        self._held: Any = None

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from their defaults; with `name` they describe this backend."""
        return {name: getattr(self, name) for name in self.option_names if getattr(self, name) is not None}

    @property
    def description(self) -> dict[str, Any]:
        """What the scores depend on, as far as it is known before anything is opened."""
        return {
            "model": self.name,
            **{name: value for name, value in self.options.items() if name not in self.passing_options},
        }

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

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def _key(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.name, repr(sorted(self.options.items())))
