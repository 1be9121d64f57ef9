"""Prices: measured, or unknown."""

from __future__ import annotations

import time

import pytest

from llmclf.backends.usage import Usage
from llmclf.calibration.pool.prices import Price
from llmclf.fitting.measuring import measured


class Server:
    """Something that charges for what it does."""

    def __init__(self, cost=None, tokens=0):
        self.usage = Usage(cost=None if cost is None else 1.0)
        self._cost, self._tokens = cost, tokens

    def work(self):
        self.usage.requests += 1
        self.usage.tokens_in += self._tokens
        if self._cost is not None:
            self.usage.cost += self._cost
        return "done"


def test_local_work_has_a_speed_and_no_charge():
    """Seconds for a row."""
    result, price = measured(lambda: time.sleep(0.02) or "done", 4)
    assert result == "done"
    assert 1 < price.rows_per_second <= 200
    assert price.cost is price.tokens is None


def test_what_was_not_asked_has_no_price():
    """All answers came from a cache."""
    assert measured(lambda: None, 0)[1] == Price()
    server = Server(cost=0.5)
    assert measured(lambda: None, 0, server)[1].cost is None


def test_a_servers_charge_is_that_of_a_thousand_rows():
    """What was counted before does not count."""
    server = Server(cost=0.5, tokens=300)
    _, price = measured(server.work, 20, server)
    assert (price.cost, price.tokens) == (pytest.approx(25.0), pytest.approx(15_000))


def test_without_a_price_table_the_cost_is_unknown():
    """The tokens are counted all the same, if the server counts them."""
    server = Server(tokens=300)
    assert measured(server.work, 20, server)[1].cost is None
    assert measured(server.work, 20, server)[1].tokens == pytest.approx(15_000)
    silent = Server(cost=0.1)
    assert measured(silent.work, 20, silent)[1].tokens is None


def test_a_server_that_was_not_asked_charges_nothing():
    """Its own cache answered."""
    server = Server(cost=0.5)
    assert measured(lambda: None, 20, server)[1].charges == ()


@pytest.mark.parametrize(
    ("first", "second", "cost"),
    [
        (Price(1.0), Price(1.0), None),
        (Price(1.0, ((2.0, None),)), Price(1.0), 2.0),
        (Price(1.0, ((2.0, None),)), Price(1.0, ((3.0, None),)), 5.0),
        (Price(1.0, ((2.0, None),)), Price(1.0, ((None, 7.0),)), None),
    ],
)
def test_two_prices_together(first, second, cost):
    """The sum of what servers charge; unknown where one of them is unknown."""
    assert (first + second).cost == cost
    assert (first + second).seconds == 2.0
    assert (first + Price()).seconds is None
