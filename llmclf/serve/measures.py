"""What Prometheus is told: counts and times by route, model and outcome, and never a text or a key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import MissingDependencyError
from .questions import Answer

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """Counters and histograms, in a registry of their own.

    Parameters
    ----------
    gauges : callable
        Gives what is read when the metrics are fetched: (name, help, labels, value).
    """

    def __init__(self, gauges: Callable[[], Iterable[tuple[str, str, Mapping[str, str], float]]]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError as error:
            raise MissingDependencyError("serving needs prometheus-client; run: pip install 'llmclf[serve]'") from error
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "llmclf_serve_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "llmclf_serve_request_seconds",
            "From the first byte to the answer, in seconds.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = Counter(
            "llmclf_serve_rows",
            "Rows by model and outcome: accepted, abstained, answered (without a threshold) or failed.",
            ["model", "outcome"],
            registry=registry,
        )
        self._undecided = Counter(
            "llmclf_serve_undecided_rows", "Rows whose class is undecided.", ["model"], registry=registry
        )
        self._pass_rows = Histogram(
            "llmclf_serve_pass_rows", "Rows that went to the model together.", buckets=_ROWS, registry=registry
        )
        self._pass_seconds = Histogram(
            "llmclf_serve_pass_seconds",
            "How long the model took for such rows.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._left = Counter(
            "llmclf_serve_clients_gone", "Requests whose client hung up before the answer.", registry=registry
        )
        self._refused = Counter(
            "llmclf_serve_connections_refused",
            "Connections that were refused before a request: too_many_connections, request_timeout or invalid_http.",
            ["reason"],
            registry=registry,
        )
        registry.register(_Gauges(gauges))

    def finished(self, route: str, status: int, seconds: float) -> None:
        """A request has its answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def gone(self) -> None:
        """A client hung up."""
        self._left.inc()

    def refused(self, reason: str) -> None:
        """A connection was refused before it had a request."""
        self._refused.labels(reason).inc()

    def answered(self, model: str, answers: Sequence[Answer]) -> None:
        """Rows of a request have their answers."""
        for answer in answers:
            outcome = {True: "accepted", False: "abstained", None: "answered"}[answer.accepted]
            self._rows.labels(model, "failed" if answer.kind else outcome).inc()
            if answer.undecided:
                self._undecided.labels(model).inc()

    def passed(self, rows: int, seconds: float) -> None:
        """A pass of the model is over."""
        self._pass_rows.observe(rows)
        self._pass_seconds.observe(seconds)

    def page(self) -> tuple[bytes, str]:
        """The metrics as they are fetched, and their media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Gauges:
    def __init__(self, gauges: Callable[[], Iterable[tuple[str, str, Mapping[str, str], float]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import GaugeMetricFamily

        families: dict[str, Any] = {}
        for name, text, labels, value in self._gauges():
            family = families.setdefault(name, GaugeMetricFamily(name, text, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        return families.values()
