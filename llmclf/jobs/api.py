"""`label_table` and `estimate_table`: what a caller says of a job becomes table, output, recipe and journal."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..backends import Backend, open_backend
from ..backends.handle import Handle
from ..backends.http.server_handle import ServerHandle
from ..certificates.status import certificate_status
from ..checks import is_number, is_whole_number
from ..classifier import LLMClassifier
from ..errors import BudgetError, InputError, SavedAddressError, type_of
from ..files.orderly_end import orderly_end, side_files
from ..fitting.answer_columns import warn_of_shown_answers, without_answers
from ..fitting.doubtful_prompts import warn_of_doubtful_prompt
from ..labels import LabelSet, label_set
from ..loading import load_pipeline
from ..pipeline import FittedPipeline
from ..progress import Together, monitor
from ..prompts.prompt import Prompt
from ..prompts.rendered import TEXT_FIELD
from ..tables.rows import Rows
from ..tables.text_files import TextFormat
from .asking.base import Asking
from .audit import Audit
from .estimate import JobEstimate, estimate
from .job import Job, Options
from .journal.journal import Journal
from .recipe import Recipe
from .shards import Shard
from .summary import Summary
from .tables.existing import IfExists, check_if_exists
from .tables.output_lock import output_lock
from .tables.sinks import FrameSink, open_sink
from .tables.sources import Source, open_source, spools
from .tables.sql import is_sql_url
from .tables.stores import is_store_address
from .telemetry.telemetry import Telemetry


@dataclass(frozen=True)
class JobResult:
    """The outcome of `label_table`.

    Attributes
    ----------
    summary : Summary
    table : data frame or None
        The labelled table, in the library of the one that was given, where no output was named.
    """

    summary: Summary
    table: Any = None

    def __repr__(self) -> str:
        """The summary's line, and how large the table is."""
        shape = "" if self.table is None else f"; table: {len(self.table)} rows, {len(self.table.columns)} columns"
        return f"<JobResult: {self.summary.line}{shape}>"


def label_table(
    table: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    id_column: str | None = None,
    shard: str | None = None,
    text_column: str | None = None,
    labels: Any = None,
    model: str | Backend | None = None,
    prompt: str | Prompt | None = None,
    scoring: str | None = None,
    classifier: LLMClassifier | FittedPipeline | str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    journal: str | os.PathLike[str] | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    max_errors: int | None = None,
    accept_model_change: bool = False,
    logprobs: bool = False,
    audit: int | None = None,
    audit_goal: str = "share",
    audit_seed: int = 0,
    prefix: str | None = None,
    if_exists: IfExists = "fail",
    escape_formulas: bool = False,
    unescape_formulas: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
    show_progress: bool = False,
    asking: Asking | None = None,
    trust: bool = False,
    summary: str | os.PathLike[str] | None = None,
    heartbeat: str | os.PathLike[str] | None = None,
    metrics_port: int | str | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    log_every: float = 10.0,
) -> JobResult:
    """Label a table of any size: lose nothing, pay for nothing twice, and continue where it stopped.

    Every answer is written to a journal, and is on the disk before the next question takes its place. A job that was killed,
    ran out of budget or lost its server continues with ``resume=True``; answered questions are not asked again. Equal rows are
    asked once. The output keeps the rows' order, and appears whole or not at all.

    Parameters
    ----------
    table : path, folder, glob pattern, address, SQLAlchemy URL with ``?table=``, data frame or Arrow stream
        CSV, TSV, JSON Lines or Parquet; all but Parquet may be compressed, as in ``reviews.csv.gz``. An address begins with
        ``s3://``, ``gs://``, ``az://`` or ``https://``; with a ``/`` at its end it is a folder. A folder with a Delta log is a
        Delta table. A data frame is pandas', polars' or pyarrow's.
    output : path, folder, address of an object store or SQLAlchemy URL with ``?table=``, optional
        By its suffix; ``.delta`` makes a Delta table. A folder gets a file per input file. None returns a data frame.
    id_column : str, optional
        A column whose values are all different. Without it the row's number and a hash of what the model sees of it serve.
    text_column : str, optional
        The column that a prompt calls ``text``; without it the prompt names columns.
    shard : str, optional
        Label only the rows of one part of the table, such as ``"3/8"``, the third of eight: each machine takes a part, with a
        journal of its own; `merge_journals` brings them together, and a last run with that journal, without `shard`, writes
        all rows and asks nothing. Which rows a part has follows from their ids, so `id_column` is needed.
    labels, model, prompt, scoring : as `LLMClassifier` has them
        For a model alone, without examples and calibrator.
    classifier : LLMClassifier, FittedPipeline or folder, optional
        A fitted one, its pipeline, or a folder that `LLMClassifier.save` wrote: its prompt, labels, calibrator and threshold are
        used. What is given besides must say the same. What it has learned of a row's features is journalled as a few numbers. A
        transformer of your own that reads a table gets all columns of the fit, with the types of the fit, and rows are equal if
        all these are.
    threshold : float, optional
        Rows at least as confident count as accepted; by default the classifier's.
    journal : path, optional
        By default the output's path and ``.journal``; a temporary one where there is no output.
    resume : bool
        Go on with the journal if there is one; without it, a journal that is there is refused.
    retry_failed : bool
        Ask again what was answered with an error, and continue the journal.
    max_errors : int, optional
        Stop once more questions have failed in this run.
    accept_model_change : bool
        Go on when the model's server lets another model answer than before, which otherwise stops the job, and write which model
        has answered each row, by the server's name for it, as ``model``. An option of the model's backend, too.
    logprobs : bool
        Also write each class's summed log-probability, ``logprob_CLASS``.
    audit : int, optional
        Mark this many rows of the output to be labelled by hand (all, if there are fewer), drawn with known probabilities as
        `llmclf.estimation.next_rows` draws them: ``audit`` says whether the row is drawn, ``audit_inclusion`` with what
        probability, and ``audit_stratum`` from which part. With `shard` each part is drawn from by itself.
    audit_goal : {"share", "threshold", "calibration", "accuracy"}
        What the labels by hand are for.
    audit_seed : int
        Decides which rows are drawn; the same answers and the same seed mark the same rows.
    prefix : str, optional
        Begins the name of every added column. By default an added column whose name the table has already is called
        ``predicted_NAME``, and a warning says so; a table that has ``p_CLASS`` already is refused.
    if_exists : {"fail", "replace", "append", "merge-on-id"}
        What becomes of an output that is there already and that this job has not written, or that has changed since: an error,
        a new one in its place, or its rows stay. Then, by their ids in `id_column`, rows of the table that are there already
        are an error (append) or replace those (merge-on-id), and columns and their types must be the same. A job's own output
        is known by the journal, and replaced.
    escape_formulas : bool
        Write an apostrophe before every cell of a CSV output that a spreadsheet would run as a formula, column names included.
        By default a warning says how many there are.
    unescape_formulas : bool
        The CSV input was written with `escape_formulas`: read it as it was before.
    delimiter : str, optional
        What stands between the cells of the CSV input, such as ``";"``. Outputs have commas, and tabs where they end with .tsv.
    encoding : str, optional
        That of the input's text, such as ``"cp1252"``; by default UTF-8, which is that of all outputs.
    show_progress : bool
        A bar on a terminal, lines elsewhere, on standard error.
    asking : Asking, optional
        Another way to ask than from this process; see `llmclf.jobs.asking` and `llmclf.jobs.asking.ray`.
    trust : bool
        Of a classifier that is a folder: follow what it says about servers; see `llmclf.load`.
    summary : path, optional
        Where the summary goes as JSON, however the job ends.
    heartbeat : path, optional
        A file that is replaced every few seconds by one that says, as JSON, how far the job is.
    metrics_port : int or str, optional
        Serve metrics for Prometheus on this port of this machine, or on ``"HOST:PORT"``.
    log : callable, optional
        Called with each event of the job, a dictionary of JSON values; from another thread as well.
    log_every : float
        Seconds between two events of progress.

    Returns
    -------
    JobResult

    Raises
    ------
    InputError, StoreError
        Before anything is spent: the table (ids that are missing or twice there, an absent column), the output (cannot be
        written, too little disk), or the journal (another job's, or in use) cannot be used.
    JobError
        The model or its server gave up, the budget is spent, or too much failed. The journal keeps what was answered.

    Warns
    -----
    CertificateWarning
        The classifier's certificate is expired or broken, or about another threshold. The summary and the metadata of Parquet
        and Delta outputs say which certificate the labels have, and whether it is valid.

    Examples
    --------
    >>> from llmclf.backends import FakeBackend
    >>> frame = pd.DataFrame({"id": [7, 8], "text": ["A fine film.", "Far too long."]})
    >>> result = label_table(frame, text_column="text", labels=["good", "bad"], model=FakeBackend())
    >>> result.summary.labelled, list(result.table.columns)[:4]
    (2, ['id', 'text', 'label', 'confidence'])
    """
    if max_errors is not None and not is_whole_number(max_errors, 0):
        raise InputError(f"max_errors={max_errors!r}: expected a whole number of at least 0, or None for no limit")
    _check_threshold(threshold)
    part = None if shard is None else Shard.parsed(shard, id_column)
    text = TextFormat(delimiter, encoding, unescape_formulas)
    check_if_exists(if_exists, id_column, output)
    drawn = None
    if audit is not None:
        drawn = Audit.checked(audit, audit_goal, audit_seed, "" if part is None else f"{part}:")
    with (
        orderly_end("SIGTERM", "SIGHUP"),
        Telemetry(
            summary=summary, heartbeat=heartbeat, metrics_port=metrics_port, log=log, log_every=log_every
        ) as telemetry,
        _journal(journal, output, resume=resume or retry_failed) as opened,
        _source(table, opened, text) as whole,
    ):
        source = whole if part is None else part.of_source(whole)
        recipe = _recipe(source, classifier, labels, model, prompt, scoring, text_column, threshold, trust)
        if accept_model_change:
            recipe = _accepting(recipe)
        certificate = certificate_status(recipe.pipeline, threshold)
        certificate.warn()
        options = Options(
            id_column, retry_failed, max_errors, logprobs, prefix, recipe.max_cost, if_exists, drawn, certificate
        )
        recipe = _within_budget(recipe, opened)
        sink = open_sink(
            output,
            source,
            opened.name,
            _beside(opened, "output"),
            escape_formulas=escape_formulas,
            if_exists=if_exists,
            id_column=id_column,
        )
        with output_lock(sink):
            job = Job(source, sink, recipe, opened, options, Together(monitor(show_progress), telemetry))
            telemetry.summary_of = job.unfinished
            telemetry.start(
                {
                    "input": source.name,
                    "output": sink.name,
                    "journal": str(opened.path),
                    "model": recipe.backend.name
                    if isinstance(recipe.backend, Handle)
                    else type(recipe.backend).__name__,
                }
            )
            done = job.run(asking)
            telemetry.finished = done
        if not isinstance(sink, FrameSink):
            return JobResult(done)
        ours = None if part is None else part.mask(whole)
        return JobResult(done, _like(table, ours, sink.frame, list(job.names.values())))


def estimate_table(
    table: Any,
    *,
    id_column: str | None = None,
    shard: str | None = None,
    text_column: str | None = None,
    labels: Any = None,
    model: str | Backend | None = None,
    prompt: str | Prompt | None = None,
    scoring: str | None = None,
    classifier: LLMClassifier | FittedPipeline | str | os.PathLike[str] | None = None,
    journal: str | os.PathLike[str] | None = None,
    seconds_per_request: float = 1.0,
    prefix: str | None = None,
    trust: bool = False,
    probe: bool = False,
    unescape_formulas: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> JobEstimate:
    """What labelling a table would take: rows, questions, tokens, cost and time. No row is sent to a server.

    Parameters
    ----------
    table, id_column, shard, text_column, labels, model, prompt, scoring, classifier : as `label_table` has them
    journal : path, optional
        What is answered in it is not counted.
    seconds_per_request : float
        How long a server takes for a request; limits and number of requests under way do the rest.
    prefix : str, optional
        As `label_table` has it: what that would refuse, this refuses.
    trust : bool
        As `label_table` has it.
    probe : bool
        Ask the server the few small questions that a job begins with, so that the way in which rows are asked is known. Without
        it nothing is sent, and that way is assumed.
    unescape_formulas, delimiter, encoding : as `label_table` has them

    Returns
    -------
    JobEstimate

    Examples
    --------
    >>> frame = pd.DataFrame({"text": ["A fine film."] * 3 + ["Far too long."]})
    >>> backend = open_backend("openai:any", base_url="http://localhost:8000/v1", price={"input": 1.0, "output": 2.0})
    >>> job = estimate_table(frame, text_column="text", labels=["good", "bad"], model=backend)
    >>> job.rows, job.questions, job.cost < 0.001
    (4, 2, True)
    """
    part = None if shard is None else Shard.parsed(shard, id_column)
    text = TextFormat(delimiter, encoding, unescape_formulas)
    with tempfile.TemporaryDirectory() as folder:
        is_there = journal is not None and Path(journal).expanduser().exists()
        path = journal if is_there and journal is not None else Path(folder) / "estimate.journal"
        with Journal(path, resume=True) as opened, _source(table, opened, text) as whole:
            source = whole if part is None else part.of_source(whole)
            recipe = _recipe(source, classifier, labels, model, prompt, scoring, text_column, None, trust)
            job = Job(source, FrameSink(), recipe, opened, Options(id_column, prefix=prefix), monitor(False))
            if probe:
                recipe.backend.identity()
            return estimate(job, seconds_per_request)


@contextmanager
def _journal(path: Any, output: Any, *, resume: bool) -> Iterator[Journal]:
    if path is None and output is None:
        with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "labels.journal") as opened:
            yield opened
        return
    with Journal(path if path is not None else journal_path(output), resume=resume) as opened:
        yield opened


def journal_path(output: str | os.PathLike[str]) -> Path:
    """Where the journal of a job is kept if nobody says otherwise: beside its output.

    Raises
    ------
    InputError
        The output is an SQL table, or in an object store.
    """
    if (isinstance(output, str) and is_sql_url(output)) or is_store_address(output):
        where = "in an object store" if is_store_address(output) else "an SQL table"
        raise InputError(f"the output is {where}, so say where the job's journal goes: journal= (--journal FILE)")
    text = str(Path(output).expanduser()).rstrip(os.sep)
    return Path(f"{text}.journal")


@contextmanager
def _source(table: Any, journal: Journal, text: TextFormat) -> Iterator[Source]:
    """The table, and what was put aside of it for the time of the job."""
    spool, sent = _beside(journal, "input"), _beside(journal, "output")
    with side_files(*spools(spool), sent):
        yield open_source(table, spool, text)


def _beside(journal: Journal, what: str) -> Path:
    """A name beside the journal for what is put aside during a run."""
    return journal.path.with_name(f"{journal.path.name}-{what}")


def _recipe(
    source: Source,
    classifier: Any,
    labels: Any,
    model: Any,
    prompt: Any,
    scoring: str | None,
    text_column: str | None,
    threshold: float | None,
    trust: bool,
) -> Recipe:
    first = next(source.chunks(100), None)
    columns = [] if first is None else [str(name) for name in first.columns]
    if not columns:
        raise InputError(f"{source.name} has no rows")
    if isinstance(prompt, str):
        prompt = Prompt(prompt)
    if classifier is None:
        if labels is None:
            raise InputError("labels are missing: give labels=[...] (--labels a,b,c), or a fitted classifier")
        backend = open_backend(model if model is not None else "smollm2")
        assert first is not None
        prompt = prompt or Prompt()
        words = label_set(labels, prompt.words)
        if text_column is None:
            columns = list(without_answers(_rows(first), prompt, None, words).field_names)
        recipe = Recipe.zero_shot(
            backend, labels, prompt, columns, text_column, scoring=scoring or "sum", threshold=threshold
        )
        rows = _rows(first if text_column is None else first[[text_column]].set_axis([TEXT_FIELD], axis=1))
        askable = next((row for row in rows.records if recipe.scorer.problem(row) is None), None)
        if askable is not None:
            warn_of_shown_answers(recipe.pipeline, rows, None)
            warn_of_doubtful_prompt(recipe.pipeline, askable)
        return recipe
    pipeline = _pipeline(classifier, trust)
    _check_same(pipeline, labels, model, prompt, scoring)
    return Recipe.of_pipeline(pipeline, columns, text_column, threshold)


def _rows(frame: pd.DataFrame) -> Rows:
    """The rows of a piece of the table, with its columns' own names."""
    return Rows(frame.to_dict("records"), tuple(map(str, frame.columns)), True)


def _pipeline(classifier: Any, trust: bool) -> FittedPipeline:
    if isinstance(classifier, FittedPipeline):
        return classifier
    if isinstance(classifier, LLMClassifier):
        return classifier.current_pipeline()
    if not isinstance(classifier, (str, os.PathLike)):
        raise InputError(
            f"classifier={classifier!r} is {type_of(classifier)}; expected a fitted LLMClassifier, its pipeline, or the "
            "folder of a saved one"
        )
    try:
        return load_pipeline(classifier, trust=trust)
    except SavedAddressError as error:
        cure = "trust=True, or load(folder, ...) with the options of its servers as classifier="
        raise SavedAddressError(error.problem, cure, error.words, error.options_of) from None


def _check_same(pipeline: FittedPipeline, labels: Any, model: Any, prompt: Prompt | None, scoring: str | None) -> None:
    """What is said of a fitted classifier besides must be true of it."""
    said: Mapping[str, tuple[Any, Any]] = {
        "labels": (None if labels is None else label_set(labels), pipeline.labels),
        "model": (None if model is None else open_backend(model), pipeline.backend),
        "prompt": (prompt, replace(pipeline.prompt, words=None)),
        "scoring": (scoring, pipeline.scoring),
    }
    for name, (given, fitted) in said.items():
        # A command line and a job file say "1" where the classifier's class is 1.
        is_same = given.is_task_of(fitted) if isinstance(given, LabelSet) else given == fitted
        if given is not None and not is_same:
            raise InputError(
                f"{name}={given!r} is not the classifier's, which is {fitted!r}; leave it out, or fit a new classifier"
            )


def _within_budget(recipe: Recipe, journal: Journal) -> Recipe:
    """The limit on the cost is that of the job, not of one run of it."""
    limit, spent = recipe.max_cost, journal.spent()
    if not spent or limit is None or not isinstance(recipe.backend, Handle):
        return recipe
    if spent >= limit:
        raise BudgetError(
            f"max_cost={limit:g} is reached: earlier runs of this job have spent {spent:.6g}, and 0 is left; raise it to continue"
        )
    return recipe.with_option("max_cost", limit - spent)


def _accepting(recipe: Recipe) -> Recipe:
    """The same, which goes on with another model."""
    if not isinstance(recipe.backend, ServerHandle):
        raise InputError(
            f"accept_model_change=True: the model {recipe.backend!r} is not behind a server that could change it; leave it out"
        )
    return recipe.with_option("accept_model_change", True)


def _check_threshold(threshold: Any) -> None:
    if threshold is not None and not (is_number(threshold) and threshold >= 0):
        raise InputError(f"threshold={threshold!r}: expected a confidence between 0 and 1, or None")


def _like(table: Any, ours: NDArray[np.bool_] | None, labelled: pd.DataFrame | None, added: list[str]) -> Any:
    """The labels beside the caller's rows, or those of them that are ours, in their library; else as a pandas data frame."""
    assert labelled is not None
    if isinstance(table, pd.DataFrame):
        rows = table if ours is None else table[ours]
        return rows.assign(**{name: labelled[name].to_numpy() for name in added})
    native = (
        nw.from_native(table, pass_through=True, eager_only=True)
        if not isinstance(table, (str, os.PathLike))
        else table
    )
    if not isinstance(native, nw.DataFrame):
        return labelled
    if ours is not None:
        native = native.filter(ours.tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns of None are still untyped
        columns = [
            nw.new_series(name, [None if pd.isna(v) else v for v in labelled[name]], backend=native.implementation)
            for name in added
        ]
    return native.with_columns(*columns).to_native()
