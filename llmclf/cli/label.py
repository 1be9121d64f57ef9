"""`llmclf label` and `llmclf estimate`."""

from __future__ import annotations

import gc
import inspect
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..backends.http.saved_addresses import check_saved_address
from ..backends.http.server_handle import NamedServer
from ..errors import InputError, SavedAddressError, listed
from ..files.orderly_end import Interrupted
from .console import say, say_aside, say_json
from .flags import (
    EmbeddingOption,
    embedding_options,
    flags_of,
    model_options,
    parameter,
    parsed_flags,
    server_options,
    with_parameters,
)
from .job_file import Flag, JobFile, read_config
from .options import Trust, cured_by_flags, open_with, parse_labels, parse_prompt

if TYPE_CHECKING:
    from ..classifier import LLMClassifier

SOME_FAILED = 3
"""The exit code of a finished job with rows that could not be labelled."""

_JOB = parameter(
    "job",
    Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A job in TOML: the options below with underscores (id_column = 'id'). Options given here take precedence.",
        ),
    ],
)
_OLD_CLASSIFIER = parameter("calibrator", Annotated[str | None, typer.Option(metavar="FOLDER", hidden=True)])
_TRUST = parameter("trust", Trust, False)
_MORE_OF_LABEL = [
    parameter(
        "input_option", Annotated[str | None, typer.Option("--input", metavar="INPUT", help="The same as INPUT.")]
    ),
    parameter(
        "output_option", Annotated[str | None, typer.Option("--output", metavar="OUTPUT", help="The same as OUTPUT.")]
    ),
    _OLD_CLASSIFIER,
    _TRUST,
    parameter("quiet", Annotated[bool, typer.Option("--quiet", help="Show no progress.")], False),
]
_MORE_OF_ESTIMATE = [
    _OLD_CLASSIFIER,
    _TRUST,
    parameter(
        "seconds_per_request",
        Annotated[float, typer.Option(metavar="SECONDS", help="How long the server takes for a request.")],
        1.0,
    ),
    parameter(
        "probe",
        Annotated[
            bool,
            typer.Option(
                "--probe",
                help="Ask the server a few small questions first, as label does: how it is asked is then known.",
            ),
        ],
        False,
    ),
    parameter("as_json", Annotated[bool, typer.Option("--json", help="Print JSON.")], False),
]


@dataclass(frozen=True)
class _Job:
    """A job's configuration, and the options of servers that the command line says itself: a job file may come from anybody."""

    config: JobFile
    model_options: Mapping[str, Any]
    embedding_options: Mapping[str, Any]


def _takes_job_keys(
    command: Literal["label", "estimate"], more: Sequence[inspect.Parameter]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command has a flag for each key of a job file that fits it, and `more`."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        flags: list[inspect.Parameter] = []
        for name, key in JobFile.model_fields.items():
            if name == "model_options":
                flags += flags_of(server_options())
            if name == "embedding_options":
                flags.append(parameter("embedding_option", EmbeddingOption))
            for flag in key.metadata:
                annotation = getattr(flag, command) if isinstance(flag, Flag) else None
                if annotation is not None:
                    flags.append(parameter(name, annotation))
        with_parameters(function, [_JOB, *flags, *more])
        return function

    return decorate


@_takes_job_keys("label", _MORE_OF_LABEL)
def label(job: Path | None, quiet: bool, trust: bool, **flags: Any) -> None:
    """Label a table of any size, and continue after whatever stopped it.

    Adds label, confidence, accepted, p_CLASS, label_mass, truncated, undecided and error to every row. Exit codes: 0 all rows are
    labelled, 3 some could not be, 1 the job stopped, 2 an argument or a file is wrong, 130 interrupted.

    \b
    Example:
      llmclf label reviews.csv labelled.parquet --id-column id --text-column review --labels good,bad --resume
    """
    for name in ("input", "output"):
        flags[name] = _one(name.upper(), flags[name], flags.pop(f"{name}_option"))
    with _resumable():
        told = None if flags["log_format"] == "json" else _told(job, flags)
        if told is not None and told.config.log_format != "json":
            _label(told, trust=trust, quiet=quiet, log=None)
            return
        from .json_log import json_log  # with what jobs need: other commands start without it

        with json_log() as log, _resumable():
            _label(told or _told(job, flags), trust=trust, quiet=True, log=log)


@contextmanager
def _resumable() -> Iterator[None]:
    """A signal before or after the job, whose own words name its journal, ends the block with the cure."""
    try:
        yield
    except Interrupted as end:
        say_aside(f"{end.cause}; to go on, run the same command with --resume")
        raise SystemExit(end.code) from None


@contextmanager
def _tuned() -> Iterator[None]:
    """Within the block, garbage is looked for in what the job itself makes alone, and threads take turns sooner.

    To look through all that was imported, again and again, takes a tenth of a job's time; and the thread that keeps answers would
    wait longer for the one that asks than it works.
    """
    interval = sys.getswitchinterval()
    gc.freeze()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()


def _label(job: _Job, *, trust: bool, quiet: bool, log: Callable[[dict[str, Any]], None] | None) -> None:
    from ..jobs import label_table
    from ..jobs.api import journal_path

    config = job.config
    if config.input is None or config.output is None:
        raise InputError(
            "label needs a table and a place for the labels: llmclf label INPUT OUTPUT, or both in the job file"
        )
    for name in ("audit_goal", "audit_seed"):
        if config.audit is None and getattr(config, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} needs --audit N (in a job file, {name} needs audit), or else no row is marked")
    try:
        with _tuned():
            result = label_table(
                config.input,
                config.output,
                id_column=config.id_column,
                shard=config.shard,
                journal=config.journal,
                resume=config.resume,
                retry_failed=config.retry_failed,
                max_errors=config.max_errors,
                threshold=config.threshold,
                logprobs=config.logprobs,
                audit=config.audit,
                audit_goal=config.audit_goal or "share",
                audit_seed=config.audit_seed or 0,
                prefix=config.prefix,
                if_exists=config.if_exists or "fail",
                escape_formulas=config.escape_formulas,
                unescape_formulas=config.unescape_formulas,
                delimiter=config.delimiter,
                encoding=config.encoding,
                show_progress=not quiet,
                asking=_asking(config, quiet),
                summary=config.summary,
                heartbeat=config.heartbeat,
                metrics_port=config.metrics_port,
                log=log,
                log_every=config.log_every or 10.0,
                **_recipe(job, trust),
            )
    except Interrupted as end:
        where = Path(config.journal) if config.journal else journal_path(config.output)
        if where.expanduser().exists():
            kept = f"what was answered is in {where}; the same command with --resume goes on from there"
        else:
            kept = "nothing was answered yet"
        say_aside(f"{end.cause}; {kept}")
        raise SystemExit(end.code) from None
    say(result.summary.line)
    if config.audit is not None:
        say(_audit_line(config, config.output, min(config.audit, result.summary.rows)))
    if result.summary.failed:
        raise SystemExit(SOME_FAILED)


def _audit_line(config: JobFile, output: str, n_marked: int) -> str:
    """What to do with the rows that the audit has marked."""
    prefix = config.prefix or ""
    is_file = Path(output).suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet") and "://" not in output
    words = [output if is_file else "FILE"]
    goal = config.audit_goal or "share"
    words = ["estimate-share", *words, "--truth"] if goal == "share" else ["report", *words, "--label-column"]
    command = shlex.join(["llmclf", *words, "truth", *(["--prefix", prefix] if prefix else [])])
    marked = "1 row is" if n_marked == 1 else f"{n_marked:,} rows are"
    copied = "" if is_file else ", with the table as a CSV or Parquet file"
    return f"{marked} marked {prefix}audit=True; fill in the true classes in a new column, say truth, then: {command}{copied}"


@_takes_job_keys("estimate", _MORE_OF_ESTIMATE)
def estimate(
    job: Path | None, seconds_per_request: float, probe: bool, as_json: bool, trust: bool, **flags: Any
) -> None:
    """Estimate what labelling a table would take: rows, tokens, cost and time. Without --probe nothing is sent to a server.

    \b
    Example:
      llmclf estimate reviews.csv --text-column review --labels good,bad --model openai:NAME --price 0.10,0.40
    """
    import json

    from ..jobs import estimate_table
    from ..progress import duration

    told = _told(job, flags)
    config = told.config
    if config.input is None:
        raise InputError("estimate needs a table: llmclf estimate INPUT, or input in the job file")
    estimated = estimate_table(
        config.input,
        id_column=config.id_column,
        shard=config.shard,
        journal=config.journal,
        seconds_per_request=seconds_per_request,
        prefix=config.prefix,
        unescape_formulas=config.unescape_formulas,
        delimiter=config.delimiter,
        encoding=config.encoding,
        probe=probe,
        **_recipe(told, trust),
    )
    if as_json:
        say_json(json.dumps(estimated.to_dict()))
        return
    say(f"rows: {estimated.rows:,}, of which {estimated.unaskable:,} cannot be asked about")
    say(f"different questions: {estimated.questions:,}, to be asked: {estimated.todo:,}")
    if estimated.requests is not None:
        say(f"requests: about {estimated.requests:,}")
    if estimated.tokens_in is not None:
        how = "counted with the model's tokenizer" if estimated.is_counted else "at four bytes a token"
        say(f"tokens: about {estimated.tokens_in:,} read and {estimated.tokens_out:,} written ({how})")
    part = estimated.features
    if estimated.cost is None and estimated.requests is not None:
        is_of_features = part is not None and part.cost is None
        say("cost: unknown, since the embeddings have no price" if is_of_features else "cost: unknown without --price")
    else:
        say(f"cost: {estimated.cost or 0:.4g}")
    if part is not None:
        cost = "unknown" if part.cost is None else f"{part.cost:.4g}"
        say(f"of which embeddings: at least {part.requests:,} requests, about {part.tokens_in:,} tokens; cost {cost}")
    say(f"time: about {duration(estimated.seconds)} ({estimated.assumption})")


def _told(job: Path | None, flags: dict[str, Any]) -> _Job:
    """The job file, overridden by the command line; flags have the names of the file's keys."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
    own = parsed_flags(values)
    further = model_options(values.pop("model_option"))
    of_embeddings = embedding_options(values.pop("embedding_option"))
    tables = {"model_options": further or None, "embedding_options": of_embeddings or None}
    return _Job(read_config(job, {**values, **own, **tables}), {**further, **own}, of_embeddings)


def _recipe(job: _Job, trust: bool) -> dict[str, Any]:
    """Model, labels and prompt of a job's configuration, as `label_table` takes them."""
    config = job.config
    chosen: dict[str, Any] = {
        "text_column": config.text_column,
        "labels": parse_labels(config.labels) if isinstance(config.labels, str) else config.labels,
        "scoring": config.scoring,
        "prompt": parse_prompt(config.prompt, bool(config.chat)),
    }
    options = config.options
    if config.embedding_options and config.classifier is None:
        raise InputError(
            f"embedding_options (--embedding-option) with {listed(map(repr, config.embedding_options), 5)} belong to a saved "
            "classifier; give --classifier FOLDER (in a job file, classifier), too"
        )
    with cured_by_flags():
        if config.classifier is None:
            chosen["model"] = backend = open_with(config.model or "smollm2", options)
        else:
            from ..loading import load

            if config.model is not None:
                chosen["model"] = config.model
            chosen["classifier"] = load(
                config.classifier, model_options=options, embedding_options=config.embedding_options, trust=trust
            )
            backend = chosen["classifier"].backend_
            if not trust:
                _check_embeddings(chosen["classifier"], job.embedding_options)
        if isinstance(backend, NamedServer) and not trust:
            # The classifier takes the job file's options for its caller's.
            check_saved_address(backend, backend.options, job.model_options, what="the job file", cure=repr)
    return chosen


def _check_embeddings(clf: LLMClassifier, given: Mapping[str, Any]) -> None:
    """The same for the servers of a classifier's embeddings: what it was loaded with may be the job file's word alone."""
    from ..features.sets import saved_embeddings

    features = clf.pipeline_.features
    if features is None:
        return
    try:
        saved_embeddings(features.to_dict(), None, given)
    except SavedAddressError as error:
        raise SavedAddressError(error.problem, repr(error.words), error.words, "embeddings") from None


def _asking(config: JobFile, quiet: bool) -> Any:
    """How the questions are asked; None: from this process."""
    if config.ray is None and (config.actors is not None or config.actor_gpus is not None):
        raise InputError("--actors and --actor-gpus belong to --ray ADDRESS")
    if config.ray is not None and config.batch_api:
        raise InputError("--ray and --batch-api are two ways to ask; choose one")
    if config.ray is not None:
        from ..jobs.asking.ray import RayAsking

        return RayAsking(config.ray, actors=config.actors or 2, num_gpus=config.actor_gpus or 0)
    if config.batch_api:
        from ..jobs.asking.batches import BatchAsking

        return BatchAsking(report=(lambda _: None) if quiet else say_aside)
    return None


def _one(name: str, first: str | None, second: str | None) -> str | None:
    if first is not None and second is not None:
        raise InputError(f"{name} is given twice: {first!r} and --{name.lower()} {second!r}")
    return first if first is not None else second
