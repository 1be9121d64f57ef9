"""Object stores and the web: what a job reads is brought to this machine first, what it writes is sent when it is whole."""

from __future__ import annotations

import datetime
import fnmatch
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ...backends.http.addresses import is_loopback
from ...errors import InputError, MissingDependencyError, StoreError
from ...tables.endings import EXPECTED, check_suffix, is_table_name
from .delta import LOG
from .sql.urls import is_sql_url

STORES = ("s3", "gs", "az")
WEB = ("https", "http")
"""Addresses that can be read alone."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.:-]*)://")
_AS_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/?(?!/)")
_LONGEST = datetime.timedelta(hours=6)  # of one request: a table may be large
_PIECE = 1 << 20  # bytes
_MARKS = "*?["  # of a pattern


def is_store_address(table: Any) -> bool:
    """Whether a table or an output is named by an address of an object store or of the web.

    Parameters
    ----------
    table : str, path, or anything else, which is none

    Raises
    ------
    InputError
        It is written like an address, but of a kind that cannot be used; or it is a `Path` made of one.

    Examples
    --------
    >>> [is_store_address(text) for text in ("s3://bucket/reviews.csv", "reviews.csv", "sqlite:///f.db?table=reviews")]
    [True, False, False]
    """
    if isinstance(table, PurePath):
        spoilt = _AS_PATH.match(str(table))
        if spoilt is not None and spoilt[1].lower() in (*STORES, *WEB) and len(table.parts) > 1:
            raise InputError(
                f"{str(table)!r} is an address that was made a Path, which lost a slash; give it as text, "
                f"'{spoilt[1]}://...'"
            )
        return False
    match = _ADDRESS.match(table) if isinstance(table, str) else None
    if match is None or is_sql_url(table):
        return False
    if match[1].lower() not in (*STORES, *WEB):
        raise InputError(
            f"{_shown(table)!r} begins with {match[0]!r}; expected a path, or an address that begins with "
            f"{', '.join(f'{scheme}://' for scheme in (*STORES, 'https'))}"
        )
    return True


@dataclass(frozen=True)
class Place:
    """An object, a pattern of objects, or (with a / at the end) a folder of objects in a store.

    Attributes
    ----------
    store : object
        Of the package obstore.
    root : str
        The store's address.
    path : str
        Inside the store.
    name : str
        For messages: the address without what may be a secret.
    is_web : bool
    """

    store: Any
    root: str
    path: str
    name: str
    is_web: bool

    @classmethod
    def at(cls, address: str) -> Place:
        """The place at an address; nothing is asked yet.

        Raises
        ------
        InputError
            It is no whole address.
        MissingDependencyError
            Without obstore.
        """
        obstore = _obstore()
        scheme = address.partition("://")[0].lower()
        name = _shown(address)
        try:
            parts = urllib.parse.urlsplit(address)
            is_whole = bool(parts.hostname) and address.isprintable()
        except ValueError:
            is_whole = False
        if not is_whole or parts.username or parts.password:
            raise InputError(
                f"{name!r} is no address of a table; expected '{scheme}://{'host' if scheme in WEB else 'bucket'}/path.csv', "
                "without user name and password: keys come from the environment"
            )
        # Without TLS only where the address, or that of the store's server in the environment, says so.
        options: dict[str, Any] = {"timeout": _LONGEST, "allow_http": True}
        if scheme in WEB:
            if urllib.request.getproxies() and is_loopback(parts.hostname or ""):
                # No proxy for this machine; that is all of the hosts that are asked, and there is no plainer way to say it.
                options |= {"proxy_url": "http://127.0.0.1", "proxy_excludes": parts.hostname}
            with _faults(name):
                return cls(obstore.store.HTTPStore.from_url(address, client_options=options), name, "", name, True)
        path = address.partition("://")[2].partition("/")[2]
        if any(part in (".", "..") for part in path.split("/")):
            raise InputError(f"{name!r} has a part '.' or '..', which names no object")
        with _faults(name):
            root = f"{scheme}://{parts.netloc}"
            return cls(obstore.store.from_url(root, client_options=options), root, path, name, False)

    def address(self, path: str) -> str:
        """The address of an object of this store, always written alike."""
        return f"{self.root}/{path}"

    def objects(self) -> list[tuple[str, int | None]]:
        """Paths and sizes of the tables that are meant, in the order of their names.

        Raises
        ------
        InputError
            There is none.
        """
        if self.is_web:
            return [("", None)]
        if self.path and not self.path.endswith("/") and not any(mark in self.path for mark in _MARKS):
            with _faults(self.name):
                return [(self.path, _obstore().head(self.store, self.path)["size"])]
        pattern = f"{self.path}*" if self.path.endswith("/") or not self.path else self.path
        # Only what stands before the first mark narrows the search.
        before = re.split(r"[*?\[]", pattern)[0].rpartition("/")[0]
        with _faults(self.name):
            pages = _obstore().list(self.store, before or None)
            known = [(one["path"], one["size"]) for page in pages for one in page]
        found = sorted((path, size) for path, size in known if _is_table(path) and _matches(path, pattern))
        if not found:
            raise InputError(f"{self.name!r} holds no object that ends with {EXPECTED}")
        return found

    def is_delta(self) -> bool:
        """Whether a Delta table is there.

        Raises
        ------
        StoreError
        """
        if self.is_web or any(mark in self.path for mark in _MARKS):
            return False
        folder = self.path.rstrip("/")
        with _faults(self.name):
            pages = _obstore().list(self.store, f"{folder}/{LOG}" if folder else LOG)
            return any(True for page in pages for _ in page)

    def bring(self, path: str, target: Path) -> None:
        """Write an object's bytes to a file of this machine.

        Raises
        ------
        InputError, StoreError
            It is not there; it cannot be read whole.
        """
        with _faults(self.name):
            found = _obstore().get(self.store, path)
            size = found.meta["size"]
            with target.open("wb") as stream:
                for piece in found.stream(min_chunk_size=_PIECE):
                    stream.write(piece)
            if target.stat().st_size != size:
                raise StoreError(f"{self.name!r} has {size} bytes, and {target.stat().st_size} came; try again")

    def has(self, path: str) -> bool:
        """Whether there is such an object.

        Raises
        ------
        StoreError
        """
        with _faults(self.name):
            try:
                _obstore().head(self.store, path)
            except FileNotFoundError:
                return False
        return True

    def send(self, file: Path, path: str) -> None:
        """Make an object of a file; it appears whole, in place of an older one.

        Raises
        ------
        StoreError
        """
        with _faults(self.name):
            _obstore().put(self.store, path, file)

    def try_writing(self, path: str) -> None:
        """Write an object and remove it again.

        Raises
        ------
        StoreError
        """
        with _faults(self.name):
            _obstore().put(self.store, path, b"")
            _obstore().delete(self.store, path)


def bring_all(place: Place, folder: Path) -> list[tuple[Path, str]]:
    """The tables at a place as files of this machine, each in a folder of its own under its own name, and their addresses.

    Parameters
    ----------
    place : Place
        With a / at its end, or with ``*``, ``?`` or ``[...]``, it names several tables.
    folder : path
        Made if it is missing, for its owner alone.

    Raises
    ------
    InputError, StoreError
    """
    wanted = place.objects()
    if place.is_web:
        path = urllib.parse.unquote(urllib.parse.urlsplit(place.name).path)
        names = [path.rpartition("/")[2]]
    else:
        names = [path.rpartition("/")[2] for path, _ in wanted]
    for name in names:
        check_suffix(name, place.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    needed, free = sum(size or 0 for _, size in wanted), shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{place.name!r} has {needed / 1e6:,.0f} MB, which are brought to {str(folder.parent)!r} first, and its disk has "
            f"{free / 1e6:,.0f} MB free; make room, or put the journal elsewhere"
        )
    files = []
    for number, ((path, _), name) in enumerate(zip(wanted, names, strict=True)):
        own = folder / f"{number:06d}"
        own.mkdir(mode=0o700)
        place.bring(path, own / name)
        files.append((own / name, place.address(path)))
    return files


def check_can_be_output(address: str) -> None:
    """Refuse an address that can only be read, and one that is a pattern.

    Raises
    ------
    InputError
    """
    if address.partition("://")[0].lower() in WEB:
        raise InputError(
            f"{_shown(address)!r} can be read, and not written; give a path, or an address that begins with "
            f"{', '.join(f'{scheme}://' for scheme in STORES)}"
        )
    if any(mark in address for mark in _MARKS):
        raise InputError(f"{_shown(address)!r} is a pattern; give the output one address, or that of a folder")


def _is_table(path: str) -> bool:
    name = path.rpartition("/")[2]
    return is_table_name(name) and "\0" not in name


def _matches(path: str, pattern: str) -> bool:
    """As `glob.glob` matches files, with ``**`` for any number of folders."""

    def match(names: Sequence[str], marks: Sequence[str]) -> bool:
        if not marks:
            return not names
        if marks[0] == "**":
            return match(names, marks[1:]) or (bool(names) and match(names[1:], marks))
        return bool(names) and fnmatch.fnmatchcase(names[0], marks[0]) and match(names[1:], marks[1:])

    marks = pattern.split("/")
    # Several in a row say no more than one, and cost more.
    once = [mark for place, mark in enumerate(marks) if mark != "**" or marks[place - 1 : place] != ["**"]]
    return match(path.split("/"), once)


def _shown(address: str) -> str:
    """An address without what may be a secret: user name, password, and on the web all behind the path."""
    scheme, _, rest = address.partition("://")
    is_pattern_of_objects = scheme.lower() in STORES
    host, slash, path = (rest if is_pattern_of_objects else re.split(r"[?#]", rest)[0]).partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _obstore() -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise MissingDependencyError(
            "tables in object stores and on the web need obstore; run: pip install 'llmclf[stores]'"
        ) from error
    return obstore


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """A store's errors as ours, without addresses that hold a secret."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{name!r} does not exist, or may not be seen with these credentials") from _brief(error, name)
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise StoreError(
            f"{name!r} may not be used with the credentials of this environment (AWS_ACCESS_KEY_ID, "
            "GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY and their like); set those of an account that may"
        ) from _brief(error, name)
    except (BaseError, OSError, ValueError) as error:
        if isinstance(error, (InputError, StoreError)):
            raise
        raise StoreError(f"{name!r} cannot be reached: {_brief(error, name)}") from None


def _brief(error: Exception, name: str) -> Exception:
    """The first sentence of an error of obstore: no state of its machinery, and no address with a signature."""
    text = str(error).partition("\n")[0].strip()
    return RuntimeError(re.sub(r"\b[A-Za-z][A-Za-z0-9+.-]{0,30}://\S+", lambda _: name, text))
