"""`llmclf serve`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import InputError
from ..console import say, say_aside
from ..flags import EmbeddingOption, embedding_options, takes_model_options
from ..options import Chat, Trust, cured_by_flags

__all__ = ["serve"]


@takes_model_options
def serve(
    *,
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER ...]", help="Classifiers that fit saved; each is served under its folder's name."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Also serve this model, without calibration, for questions that bring their own labels: smollm2, "
            "hf:org/name, gguf:FILE, or a server's.",
        ),
    ] = None,
    chat: Chat = False,
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    embedding_option: EmbeddingOption = None,
    trust: Trust = False,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; other machines need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any that is free.")] = 8000,
    access_key_env: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE",
            help="The environment variable that holds the key which clients have to send as Authorization: Bearer KEY.",
        ),
    ] = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Let whoever reaches the server ask, from other machines, too.")
    ] = False,
    max_body_mb: Annotated[float, typer.Option(help="Most megabytes of a request, packed or not.")] = 4.0,
    max_rows: Annotated[int, typer.Option(min=1, help="Most rows of a request to /v1/classify.")] = 512,
    max_text_characters: Annotated[int, typer.Option(min=1, help="Most characters of a text.")] = 200_000,
    max_waiting_rows: Annotated[
        int, typer.Option(min=1, help="Most rows that may wait for the model; more are refused with status 429.")
    ] = 2048,
    max_connections: Annotated[int, typer.Option(min=1, help="Most connections that may be open.")] = 1024,
    pass_rows: Annotated[int, typer.Option(min=1, help="Most rows that the model is asked about at once.")] = 32,
    body_seconds: Annotated[float, typer.Option(help="In which a request has to arrive.")] = 20.0,
    answer_seconds: Annotated[float, typer.Option(help="After which a request without an answer is given up.")] = 60.0,
    pass_seconds: Annotated[
        float | None,
        typer.Option(
            help="After which the model counts as stuck in what it was asked at once, and its process is started anew. Default: "
            "300, or --answer-seconds where that is more."
        ),
    ] = None,
    stop_seconds: Annotated[float, typer.Option(help="That accepted requests are given after SIGTERM.")] = 60.0,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Keep each decision of the classifiers here, scores without texts, for llmclf watch."
        ),
    ] = None,
    log_format: Annotated[
        str, typer.Option(metavar="text|json", help="How each request is logged on standard error.")
    ] = "text",
    log_texts: Annotated[
        bool, typer.Option("--log-texts", help="Log what clients send, too: texts that may be anybody's business.")
    ] = False,
) -> None:
    """Serve classifiers over HTTP: /v1/systemone, /v1/decisions, /v1/classify, /v1/models, /docs, /healthz, /readyz, /metrics.

    A classifier answers with its own classes, calibrated; a model given by --model with the labels of each request, uncalibrated.
    Options of a model, such as --base-url, are those of --model where it is given, else of the classifiers' models. On SIGTERM
    nothing new is accepted, and what was accepted is answered. A signal's end has the exit code 0.

    \b
    Example:
      llmclf serve moods --port 8000
    """
    from ...serve.access import opened
    from ...serve.event_log import EventLog
    from ...serve.limits import Limits
    from ...serve.server import ModelToServe, Serving
    from ...serve.server import serve as run

    if log_format not in ("text", "json"):
        raise InputError(f"--log-format {log_format!r}: expected 'text' or 'json'")
    of_embeddings = embedding_options(embedding_option, None if folders else "its FOLDER")
    if chat and model is None:
        raise InputError("--chat belongs to --model, and none is given: a saved classifier has what it was fitted with")
    if log is not None and not folders:
        raise InputError(f"--log {str(log)!r} keeps the decisions of classifiers; give the FOLDER of one, too")
    if pass_seconds is None:
        pass_seconds = max(Limits.pass_seconds, answer_seconds)
    seconds = {"body": body_seconds, "answer": answer_seconds, "pass": pass_seconds, "stop": stop_seconds}
    _check_above_0("--max-body-mb", max_body_mb, "megabytes")
    for name, value in seconds.items():
        _check_above_0(f"--{name}-seconds", value, "seconds")
    access = opened(host, access_key_env, without_key=without_key)
    limits = Limits(
        body_bytes=math.ceil(max_body_mb * 1e6),
        rows=max_rows,
        text_characters=max_text_characters,
        waiting_rows=max_waiting_rows,
        pass_rows=pass_rows,
        body_seconds=body_seconds,
        answer_seconds=answer_seconds,
        pass_seconds=pass_seconds,
        connections=max_connections,
        stop_seconds=stop_seconds,
    )
    with _events(log_format == "json") as write, cured_by_flags():
        run(
            Serving(
                folders or [],
                None if model is None else ModelToServe(model, backend_options, chat),
                host,
                port,
                access,
                limits,
                EventLog(write, shows_texts=log_texts),
                folder_options=backend_options if model is None else {},
                embedding_options=of_embeddings,
                trust=trust,
                decisions=log,
                hidden=[] if access_key_env is None else [access_key_env],
            ),
            lambda host, port: say(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}"),
        )


def _check_above_0(flag: str, value: float, unit: str) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"{flag} {value!r}: expected a number of {unit} above 0")


@contextmanager
def _events(are_json: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What writes an event: as JSON, with whatever else is written to standard error, or as a line for people."""
    if not are_json:
        yield _write_line
        return
    from ...jobs.telemetry.state import SCHEMA, timestamp
    from ..json_log import json_log

    with json_log() as write:
        yield lambda event: write({"schema": SCHEMA, **event, "time": timestamp(event["time"]), "run": ""})


def _write_line(event: dict[str, Any]) -> None:
    """An event for people: its name, and its fields."""
    fields = " ".join(f"{name}={value}" for name, value in event.items() if name not in ("event", "time"))
    say_aside(f"{event['event']} {fields}".rstrip())
