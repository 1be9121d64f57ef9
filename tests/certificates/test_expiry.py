"""When a certificate expires."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from llmclf.certificates.expiry import expiry
from llmclf.errors import InputError

ISSUED = datetime(2026, 11, 30, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "end"),
    [
        (None, None),
        (1, "2026-12-01T12:00:05+00:00"),
        ("2026-11-30", "2026-12-01T00:00:00+00:00"),
        (date(2027, 1, 31), "2027-02-01T00:00:00+00:00"),
        ("2027-01-31T10:00:00+02:00", "2027-01-31T08:00:00+00:00"),
        (datetime(2027, 1, 31, 10, tzinfo=timezone(timedelta(hours=2))), "2027-01-31T08:00:00+00:00"),
        (timedelta(hours=6), "2026-11-30T18:00:05+00:00"),
    ],
)
def test_a_time_is_read_as_its_caller_means_it(given, end):
    """Days from now, a date with all of its hours, a time of a zone, a span; None is never."""
    found = expiry(given, ISSUED)
    assert (None if found is None else found.isoformat()) == end


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (0, "has passed"),
        (-3, "has passed"),
        ("2026-11-29", "has passed"),
        ("2027-01-31T10:00:00", "no time zone"),
        (datetime(2027, 1, 31), "no time zone"),
        ("soon", "is no date"),
        ("31.01.2027", "is no date"),
        (True, "is a bool"),
        (1.5, "is a float"),
        (10**12, "beyond all calendars"),
        (timedelta.max, "beyond all calendars"),
        ("9999-12-31T23:59:59-05:00", "beyond all calendars"),
    ],
)
def test_what_is_no_time_to_come_is_refused(given, words):
    """The message names the value and what would do."""
    with pytest.raises(InputError, match=words) as caught:
        expiry(given, ISSUED)
    assert "expires=" in str(caught.value)
    assert "a number of days" in str(caught.value)
