"""When a certificate expires, as callers say it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ..checks import is_whole_number
from ..errors import InputError, type_of

_EXPECTED = "expected a number of days, a date such as '2027-06-30', a datetime with a time zone, a timedelta, or None for never"


def expiry(expires: Any, issued: datetime) -> datetime | None:
    """The time that `expires` means for a certificate that is issued at a time; None: never.

    Parameters
    ----------
    expires : int, str, date, datetime, timedelta or None
        A number of days, or a time to come; a date ends with its last second, in UTC.
    issued : datetime
        With a time zone.

    Raises
    ------
    InputError
        It means no time, or one that has passed.

    Examples
    --------
    >>> issued = datetime(2026, 11, 30, 12, tzinfo=UTC)
    >>> expiry(365, issued).isoformat(), expiry("2026-12-31", issued).isoformat(), expiry(None, issued)
    ('2027-11-30T12:00:00+00:00', '2027-01-01T00:00:00+00:00', None)
    """
    if expires is None:
        return None
    try:
        end = _moment(expires, issued)
        if end.tzinfo is None:
            raise InputError(f"expires={expires!r} has no time zone, so nobody knows when it is; {_EXPECTED}")
        end = end.astimezone(UTC)
    except OverflowError:
        raise InputError(f"expires={expires!r} lies beyond all calendars; {_EXPECTED}") from None
    if end <= issued:
        raise InputError(f"expires={expires!r} has passed; {_EXPECTED}")
    return end.replace(microsecond=0)


def _moment(expires: Any, issued: datetime) -> datetime:
    if isinstance(expires, str):
        try:
            expires = (
                date.fromisoformat(expires) if len(expires) <= len("2027-06-30") else datetime.fromisoformat(expires)
            )
        except ValueError:
            raise InputError(f"expires={expires!r} is no date; {_EXPECTED}") from None
    if is_whole_number(expires):
        return issued + timedelta(days=int(expires))
    if isinstance(expires, timedelta):
        return issued + expires
    if isinstance(expires, datetime):
        return expires
    if isinstance(expires, date):
        return datetime.combine(expires, time(), UTC) + timedelta(days=1)
    raise InputError(f"expires={expires!r} is {type_of(expires)}; {_EXPECTED}")
