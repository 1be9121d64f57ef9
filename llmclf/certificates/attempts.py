r"""Which rows were judged before, and with what outcome: whoever tries until a certificate passes spends its confidence.

Let attempt :math:`j` be judged so that it promises too much with probability :math:`\alpha_j` at most. Of attempts that share
rows, any one promises too much with probability :math:`\sum_j \alpha_j` at most, however they depend on each other (Boole's
inequality). So an attempt with the confidence :math:`1 - \alpha` is judged with what the earlier ones have left of it,
:math:`\alpha - \sum_{j<k} \alpha_j` (alpha spending over attempts), and where nothing is left it is refused.

- The same classifier with the same threshold on the same rows gives one bound, which is the same whatever is promised: to promise
  less is no further attempt. To look at other groups of these rows is one, since its findings are further statements.
- Rows that nobody has judged are a draw of their own. Their attempt has all of its confidence, which is about that draw.
- A few rows among them may have been judged before, where texts come again. They count as wrong if they are accepted: for each
  drawn row, "wrong or judged before" is at least as probable as "wrong", so the bound holds, whoever chose them.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from ..atomic_files import write_text
from ..errors import CertificateError, CertificateWarning, InputError, warn
from ..files.bounded_json import parsed_json
from ..files.faults import file_fault
from ..files.file_locks import lock_file
from ..fitting.row_groups import text_keys
from ..tables.rows import Row
from .certificate import ATTEMPTS, signed_bytes
from .content import Hash, Moment, OpenShare, Record

FORMAT = 1
FEW = 0.05
"""The largest share of rows that were judged before among those of an attempt that counts as one on new rows."""
_MOST_BYTES = 256_000_000
_LEAST = 1e-9  # what rounding leaves of a confidence that is spent
_DIGITS = 8  # bytes of a row's hash
_PATIENCE_S = 30.0
_THREADS = threading.Lock()  # those that share a classifier without a folder


class Attempt(Record):
    """One time that rows were judged."""

    judged: Moment
    judgement: Annotated[
        Hash, Field(description="Of the rows with their classes, how they count, and all that decides.")
    ]
    rows: Annotated[
        list[Annotated[str, Field(pattern="^[0-9a-f]{16}$")]] | None,
        Field(
            description="A hash of what is read of each row; null: those of an earlier attempt with the same judgement."
        ),
    ]
    n: Annotated[int, Field(ge=1)]
    max_error: OpenShare
    level: Annotated[OpenShare, Field(description="With what probability it may promise too much.")]
    outcome: Literal["certified", "not shown"]

    @property
    def sha256(self) -> str:
        """By which certificates know it."""
        return hashlib.sha256(signed_bytes(self.model_dump())).hexdigest()


class AttemptsFile(Record):
    """The file ``certificate-attempts.json``."""

    format: Literal[1]
    attempts: list[Attempt]


class Standing(NamedTuple):
    """What earlier attempts leave to one on some rows (n,).

    Attributes
    ----------
    level : float
        With what probability it may promise too much.
    spent : float
        With what probability the earlier attempts that it shares rows with may.
    n_sharing : int
        How many different judgements these are.
    again : ndarray of bool (n,)
        Which rows count as wrong if they are accepted.
    """

    level: float
    spent: float
    n_sharing: int
    again: NDArray[np.bool_]


@dataclass(frozen=True)
class AttemptRecord:
    """All attempts that are known, in the order in which they were made."""

    attempts: tuple[Attempt, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.attempts)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> AttemptRecord:
        """Those of the classifiers that were saved in a folder; none where there is no record.

        Raises
        ------
        CertificateError
            The record is broken.
        """
        path = Path(folder).expanduser() / ATTEMPTS
        if not path.exists() and not path.is_symlink():
            return cls()
        fault = file_fault(path)
        if fault is not None:
            raise CertificateError(f"{str(path)!r} {fault}")
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES / 1e6:,.0f} MB")
            file = AttemptsFile.model_validate(parsed_json(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise _broken(path, f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None
        except (OSError, ValueError, MemoryError) as error:
            raise _broken(path, str(error) or "not enough memory") from error
        return cls(tuple(file.attempts))

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write it into a folder, if there is anything to write.

        Raises
        ------
        StoreError
            The folder cannot be written.
        """
        if not self.attempts:
            return
        path = Path(folder).expanduser() / ATTEMPTS
        if path.is_symlink():  # whose target may be any file of the user's, if the folder came from somebody else
            path.unlink()
        values = {"format": FORMAT, "attempts": [one.model_dump() for one in self.attempts]}
        write_text(json.dumps(values, ensure_ascii=True, allow_nan=False) + "\n", path)

    def joined(self, other: AttemptRecord) -> AttemptRecord:
        """This one, and what another one knows besides."""
        known = {one.sha256 for one in self.attempts}
        return AttemptRecord(self.attempts + tuple(one for one in other.attempts if one.sha256 not in known))

    def added(self, attempt: Attempt) -> AttemptRecord:
        """This one with a further attempt, whose rows are left out where they are known by its judgement."""
        known = any(one.judgement == attempt.judgement and one.rows is not None for one in self.attempts)
        return AttemptRecord((*self.attempts, attempt.model_copy(update={"rows": None}) if known else attempt))

    @property
    def hashes(self) -> list[str]:
        """One for each attempt."""
        return [one.sha256 for one in self.attempts]

    def standing(self, rows: Sequence[str], judgement: str, alpha: float) -> Standing:
        """What is left to an attempt with the confidence 1 - `alpha`.

        Parameters
        ----------
        rows : sequence of str (n,)
            The hashes of its rows; see `row_hashes`.
        judgement : str
            What would be judged; see `Attempt`.
        alpha : float

        Raises
        ------
        InputError
            Nothing is left.

        Examples
        --------
        >>> AttemptRecord().standing(["00", "01"], "", 0.05).level
        0.05
        """
        judged = self._rows()
        again = np.array([one in judged for one in rows], dtype=bool)
        sharing = self._sharing(rows, judgement)
        spent = sum(sharing.values())
        nothing = np.zeros(len(rows), dtype=bool)
        if not sharing or alpha - spent > _LEAST:
            return Standing(alpha - spent, spent, len(sharing), nothing)
        if again.mean() <= FEW and all(one.judgement != judgement for one in self.attempts):
            return Standing(alpha, 0.0, 0, again)
        raise InputError(
            f"{int(again.sum())} of these {len(rows)} rows were judged before, in {len(sharing)} earlier "
            f"attempt{'s' if len(sharing) > 1 else ''} whose confidence was {1.0 - spent:.4g} in all, so they cannot show "
            f"anything more with the confidence {1.0 - alpha:.4g}: whoever tries again on rows whose outcome is known promises "
            "too much too often. Certify on rows that were not judged before; or the same classifier on exactly the same rows "
            "with the same groups, where less may be promised; or with a lower confidence, which the attempts share"
        )

    def check_still_stands(self, judged_with: Standing, rows: Sequence[str], judgement: str, alpha: float) -> None:
        """Refuse an attempt that was judged with more than the other judgements in this record leave to it.

        Parameters
        ----------
        judged_with : Standing
            What was left to it before the model was asked.
        rows, judgement, alpha : as `standing` has them

        Raises
        ------
        InputError
            Others have judged some of its rows meanwhile.
        """
        others = AttemptRecord(tuple(one for one in self.attempts if one.judgement != judgement))
        try:
            now = others.standing(rows, judgement, alpha)
        except InputError:
            now = None
        if now is not None and now.level >= judged_with.level - _LEAST and not (now.again & ~judged_with.again).any():
            return
        what = "nothing" if now is None else f"{now.level:.4g}"
        raise InputError(
            f"while the model was asked about these {len(rows)} rows, others certified here on some of them: of what may go "
            f"wrong with the confidence {1.0 - alpha:.4g} they have left {what}, and this attempt was judged with "
            f"{judged_with.level:.4g}. So it does not count, and nothing is told of its outcome; certify once more, one after "
            "the other, on rows that were not judged before, or with a lower confidence, which the attempts share"
        )

    def failed_elsewhere(self, rows: Sequence[str], judgement: str) -> list[float]:
        """The levels of judgements that did not show what was asked and share no rows with an attempt."""
        sharing = self._sharing(rows, judgement)
        failed: dict[str, float] = {}
        for one in self.attempts:
            if one.judgement != judgement and one.judgement not in sharing and one.outcome == "not shown":
                failed[one.judgement] = max(one.level, failed.get(one.judgement, 0.0))
        certified = {one.judgement for one in self.attempts if one.outcome == "certified"}
        return [level for name, level in failed.items() if name not in certified]

    def _rows(self) -> set[str]:
        return {row for one in self.attempts for row in one.rows or ()}

    def _sharing(self, rows: Sequence[str], judgement: str) -> dict[str, float]:
        """The other judgements that share rows with an attempt, or with one that does, and so on, and the level of each."""
        rows_of: dict[str, set[str]] = {}
        levels: dict[str, float] = {}
        for one in self.attempts:
            rows_of.setdefault(one.judgement, set()).update(one.rows or ())
            levels[one.judgement] = max(one.level, levels.get(one.judgement, 0.0))
        reached, found = set(rows), {judgement}
        grows = True
        while grows:
            new = [name for name, members in rows_of.items() if name not in found and members & reached]
            for name in new:
                found.add(name)
                reached |= rows_of[name]
            grows = bool(new)
        return {name: level for name, level in levels.items() if name in found and name != judgement}


@contextmanager
def record_lock(folders: Iterable[str | os.PathLike[str]]) -> Iterator[None]:
    """Keep all others from changing the records of some folders, while one reads them and writes more into them.

    Where a folder is not there or cannot be written, there is nothing to keep from them.

    Raises
    ------
    CertificateError
        Another process holds a record for a long time, or the lock file cannot be made.

    Warns
    -----
    CertificateWarning
        The folder's file system has no locks.
    """
    with _THREADS, ExitStack() as held:
        for folder in sorted({os.path.realpath(os.path.expanduser(one)) for one in folders}):  # one order for all
            if not os.access(folder, os.W_OK):
                continue
            path = Path(folder, f".{ATTEMPTS}-lock")
            try:
                is_held = held.enter_context(lock_file(path, patience_s=_PATIENCE_S))
            except BlockingIOError:
                raise CertificateError(
                    f"another process has held the record of judged rows in {folder!r} for {_PATIENCE_S:.0f} s; end it, or wait, "
                    "and certify once more"
                ) from None
            except OSError as error:
                raise CertificateError(
                    f"the record of judged rows in {folder!r} cannot be locked: {error}; if nobody certifies there now, remove "
                    f"{path.name!r} and certify once more"
                ) from error
            if not is_held:
                warn(
                    f"the file system of {folder!r} has no locks, so of two that certify there at once each may have the whole "
                    "confidence; let one end before the other begins",
                    CertificateWarning,
                )
        yield


def row_hashes(records: Iterable[Row], fields: Sequence[str]) -> list[str]:
    """A short hash of what is read of each row; case, spaces and Unicode's ways to write a character make no difference.

    Examples
    --------
    >>> one, other = row_hashes([{"text": "Fine  film"}, {"text": "fine film"}], ["text"])
    >>> one == other
    True
    """
    return [hashlib.sha256(key.encode()).digest()[:_DIGITS].hex() for key in text_keys(records, fields)]


def _broken(path: Path, reason: str) -> CertificateError:
    return CertificateError(
        f"{str(path)!r} is broken: {reason}; it says which rows were judged before, so restore it, or save the classifier in "
        "another folder and certify it there on rows that were never judged"
    )
