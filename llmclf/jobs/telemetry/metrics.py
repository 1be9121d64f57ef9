"""Metrics of a running job for Prometheus, which fetches them over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import InputError, MissingDependencyError, StoreError
from .state import JobState

_STAGES = ("starting", "reading", "labelling", "writing", "ended")
_HOST = "127.0.0.1"


class Metrics:
    """A small HTTP server on a port of this machine, as long as the job lasts.

    Parameters
    ----------
    address : int or str
        A port, or ``"HOST:PORT"`` for other machines to reach it; it asks for no password.

    Examples
    --------
    >>> Metrics("0.0.0.0:9100").address, Metrics(9100).address
    (('0.0.0.0', 9100), ('127.0.0.1', 9100))
    """

    def __init__(self, address: int | str) -> None:
        host, _, port = str(address).rpartition(":")
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise InputError(f"metrics_port={address!r}: expected a port between 1 and 65535, or HOST:PORT")
        self.address = (host.strip("[]") or _HOST, int(port))
        self._server: Any = None
        self._thread: Any = None

    def open(self, state: JobState) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError as error:
            raise MissingDependencyError(
                "metrics need prometheus-client; run: pip install 'llmclf[metrics]'"
            ) from error
        registry = CollectorRegistry()  # of its own: the job's process may have metrics besides
        registry.register(_Collector(state))
        host, port = self.address
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise StoreError(
                f"metrics cannot be served on {host}:{port} ({error.strerror}); give another --metrics-port"
            ) from error

    def show(self, state: JobState) -> None:
        """Nothing: they are read when they are fetched."""

    def close(self, state: JobState) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Collector:
    """Reads the metrics of a job from its state."""

    def __init__(self, state: JobState) -> None:
        self._state = state

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        state = self._state
        facts = {name: str(state.facts[name]) for name in ("version", "model") if state.facts.get(name)}
        yield InfoMetricFamily("llmclf_job", "What runs.", value=facts)
        stages = GaugeMetricFamily("llmclf_job_stage", "1 for the stage that the job is in.", labels=["stage"])
        for stage in _STAGES:
            stages.add_metric([stage], float(stage == state.stage))
        yield stages
        gauges = {
            "rows": ("Rows of the table.", state.rows),
            "questions": ("Different questions that the rows ask.", state.questions),
            "questions_to_ask": ("Questions that the journal did not answer when the run began.", state.to_ask),
            "start_time_seconds": ("When the run began, in seconds since the epoch.", state.started),
            "last_progress_time_seconds": (
                "When something was last done, in seconds since the epoch.",
                state.progressed,
            ),
        }
        for name, (text, gauge) in gauges.items():
            if gauge is not None:
                yield GaugeMetricFamily(f"llmclf_job_{name}", text, value=gauge)
        usage = dict(state.usage)
        counters = {
            "questions_answered": ("Questions that were answered in this run.", state.answered),
            "questions_failed": ("Of these, those that were answered with an error.", state.failed),
            "rows_written": ("Rows that were written.", state.written),
            "requests": ("Requests to the server.", usage.get("requests")),
            "request_retries": ("Of these, those that repeated one that had failed.", usage.get("retries")),
            "cost": ("Cost by the price table, in its unit.", usage.get("cost")),
        }
        for name, (text, count) in counters.items():
            if count is not None:
                yield CounterMetricFamily(f"llmclf_job_{name}", text, value=count)
        if "tokens_in" in usage:
            tokens = CounterMetricFamily("llmclf_job_tokens", "Tokens by the server's count.", labels=["kind"])
            for kind, name in (("input", "tokens_in"), ("cached", "tokens_cached"), ("output", "tokens_out")):
                tokens.add_metric([kind], usage[name])
            yield tokens
