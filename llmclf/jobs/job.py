"""A labelling job: plan, ask, write. Whatever happens in between, what was answered is in the journal."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import __version__
from ..arrays import Floats
from ..backends import RowScores
from ..backends.base import NamesModel, Streams, shares_beginnings
from ..certificates.status import NONE, CertificateStatus
from ..errors import BudgetError, InputError, JobError, ModelError, StoreError
from ..progress import Monitor
from ..tables.added_columns import CERTIFICATE, added_names
from ..tables.formats import CHUNK
from .asking.base import Asking, Here
from .audit import COLUMNS as AUDIT_COLUMNS
from .audit import Audit, AuditDraw
from .feature_reading import FeatureReading
from .ids import row_ids
from .journal.answer_codec import AnswerBlock
from .journal.inspection import DAMAGED
from .journal.journal import Journal
from .journal.plan import Counts, Plan
from .recipe import MODEL, Recipe
from .summary import Summary
from .tables.column_kinds import ColumnKinds
from .tables.existing import IfExists, refuse_existing
from .tables.layout import Layout, Sink, Written
from .tables.sources import Source, at_least

_ROW_BYTES, _LABEL_BYTES = 200, 30  # of a row, and of one of its labels, in journal and output
_NUMBER_BYTES = 8  # of what a head makes of a row, for each class
_LOG_BYTES, _WRITE_BYTES = 4_200_000, 3 * 4120  # of SQLite's log before it is emptied, and of one write to it
_KEY_BYTES = 40  # of an answered question in the plan


@dataclass(frozen=True)
class Options:
    """What a caller may choose about a run.

    Attributes
    ----------
    id_column : str or None
    retry_failed : bool
        Ask again what was answered with an error.
    max_errors : int or None
        Stop once more questions than this have failed in this run.
    logprobs : bool
        Write each class's log-probability, too.
    prefix : str or None
        Begins the names of all added columns; see `llmclf.tables.added_columns.added_names`.
    max_cost : float or None
        What all runs of the job together may cost.
    if_exists : str
        What becomes of an output that is there already.
    audit : Audit or None
        Which rows of the output are marked to be checked.
    certificate : CertificateStatus
        Whether what is accepted is certified.
    """

    id_column: str | None = None
    retry_failed: bool = False
    max_errors: int | None = None
    logprobs: bool = False
    prefix: str | None = None
    max_cost: float | None = None
    if_exists: IfExists = "fail"
    audit: Audit | None = None
    certificate: CertificateStatus = NONE


class Job:
    """One run of a job on an open journal.

    Parameters
    ----------
    source : Source
    sink : Sink
    recipe : Recipe
    journal : Journal
    options : Options
    monitor : Monitor

    Attributes
    ----------
    columns : ColumnKinds
        Of the table, once it was read.
    names : dict of str
        What each added column is called there.
    """

    def __init__(
        self, source: Source, sink: Sink, recipe: Recipe, journal: Journal, options: Options, monitor: Monitor
    ) -> None:
        self.source = source
        self.sink = sink
        self.recipe = recipe
        self.journal = journal
        self.options = options
        self.monitor = monitor
        self.columns = ColumnKinds()
        self.names: dict[str, str] = {}
        backend = recipe.backend
        self._names_models = journal.names_models or (isinstance(backend, NamesModel) and backend.accept_model_change)
        self._began = time.monotonic()
        self._usage: dict[str, Any] = {}
        self._counts: Counts | None = None
        self._n_asked = self._n_failed = 0

    def run(self, asking: Asking | None = None) -> Summary:
        """Plan, ask and write.

        Parameters
        ----------
        asking : Asking, optional
            Another way to ask than from this process.

        Raises
        ------
        InputError, StoreError
            Before anything is spent: what is wrong with table, output or journal.
        JobError
            The model or its server gave up, the budget is spent, or too much has failed.
        """
        if asking is not None:
            asking.check(self.recipe)
        fingerprint = self.recipe.fingerprint()
        self.journal.begin(fingerprint)
        with Plan(self.journal, self.recipe.scorer.n_completions, self.recipe.n_heads) as plan:
            self.prepare(plan)
            self._counts = plan.counts
            self.monitor.plan(asdict(plan.counts))
            if plan.counts.todo:
                reading = FeatureReading(self.recipe, plan)
                self.recipe = reading.recipe
                self.meet()
                self.ask(plan, asking or Here(self.recipe.backend), reading)
                plan.learn()
            elif self.journal.identity is not None:
                self.recipe.pipeline.check_model_identity(self.journal.identity)
            return self.write(plan, fingerprint)

    # --- plan ----------------------------------------------------------------------------------------------------------

    def prepare(self, plan: Plan) -> None:
        """Read the table once: check it, and find out what is to be asked."""
        refuse_existing(self.sink, self.journal.outputs, self.options.if_exists)
        self.monitor.say(f"reading {self.source.name}")
        sample = None
        n_rows = 0
        compares_choices = self.recipe.pipeline.scoring == "pmi" and self.recipe.has_choices
        for frame in self.source.chunks():
            self.columns.add(frame)
            if not len(frame):
                continue
            if sample is None:
                sample = frame.head(100)
            questions = self.recipe.questions(frame)
            ids = self._ids(frame, n_rows)
            plan.add(questions, ids, self.recipe.digest(frame, ids))
            if compares_choices:
                for question in questions:
                    plan.add_extra(self.recipe.extra_questions(question.record))
            n_rows += len(frame)
        if sample is None:
            raise InputError(f"{self.source.name} has no rows")
        plan.add_extra(self.recipe.extra_questions())
        self.names = added_names(
            self.columns.names,
            list(self._kinds()),
            prefix=self.options.prefix,
            where=self.source.name,
        )
        added = self.added_kinds()
        plan.finish(
            has_ids=self.options.id_column is not None,
            finds_ids=self.options.if_exists in ("append", "merge-on-id"),
            retry_failed=self.options.retry_failed,
            in_order=not shares_beginnings(self.recipe.backend),
        )
        if plan.counts.unaskable == n_rows:
            raise InputError(f"none of the {n_rows} rows can be asked about; {plan.first_problem()}")
        if self.recipe.heads is not None and plan.counts.todo:
            questions = self.recipe.questions(sample)
            self.recipe.heads.check([question.record for question in questions if question.record is not None])
        nothing = AnswerBlock.missing(
            len(sample), self.recipe.scorer.n_completions, "not asked yet", self.recipe.n_heads
        )
        labels = self.recipe.label(
            nothing, records=[None] * len(sample), unconditional=nothing, logprobs=self.options.logprobs
        )
        self._name_deciders(labels, nothing)
        if self.options.audit is not None:
            proba = np.full((len(sample), len(self.recipe.classes)), np.nan)
            labels = labels.assign(**self.options.audit.draw([proba], proba.shape[1]).columns(proba))
        self.sink.check(
            Layout(self.columns, added, known_ids=plan.known_ids), self._joined(sample, labels), self.source.chunks()
        )
        self._check_disk(plan, len(added))

    def added_kinds(self) -> dict[str, str]:
        """Names and kinds of the added columns."""
        return {self.names[name]: kind for name, kind in self._kinds().items()}

    def _kinds(self) -> dict[str, str]:
        kinds = self.recipe.added_columns(self.options.logprobs, names_models=self._names_models)
        kinds |= {} if self.options.certificate.id is None else {CERTIFICATE: "str"}
        return kinds | (AUDIT_COLUMNS if self.options.audit is not None else {})

    def _ids(self, frame: pd.DataFrame, start: int) -> list[str] | None:
        name = self.options.id_column
        return None if name is None else row_ids(frame, name, start)

    def _check_disk(self, plan: Plan, n_added: int) -> None:
        """Refuse a job whose journal (with its log), plan and output would not fit on the disk."""
        n_labels = len(self.recipe.pipeline.labels.all_words)
        journal = plan.counts.todo * (_ROW_BYTES + _LABEL_BYTES * n_labels + _NUMBER_BYTES * self.recipe.n_heads)
        # A server's answers are written a few at a time, and each write puts whole pages into the log.
        log = min(
            _LOG_BYTES, plan.counts.todo * _WRITE_BYTES if isinstance(self.recipe.backend, Streams) else journal // 4
        )
        # The plan is on the disk by now; it still learns which question each answer belongs to.
        journal += log + plan.counts.todo * _KEY_BYTES
        needs: dict[int, tuple[Path, float]] = {}
        output = sum(file.stat().st_size for file in self.source.files) + plan.counts.rows * _LABEL_BYTES * n_added
        wanted: list[tuple[Path | None, float]] = [(self.journal.path.parent, journal), (self.sink.folder(), output)]
        for folder, size in wanted:
            if folder is not None and folder.exists():
                device = os.stat(folder).st_dev
                before = needs.get(device, (folder, 0.0))
                needs[device] = before[0], before[1] + size
        for place, total in needs.values():
            free = shutil.disk_usage(place).free
            if total > free:
                raise StoreError(
                    f"the disk of {str(place)!r} has {free / 1e6:,.0f} MB free, and journal, plan and output need about "
                    f"{total / 1e6:,.0f} MB; make room, or put journal and output elsewhere"
                )

    # --- ask -----------------------------------------------------------------------------------------------------------

    def meet(self) -> None:
        """Find out which model answers, and refuse another than before."""
        backend = self.recipe.backend
        identity = backend.identity()
        if not isinstance(backend, NamesModel):
            self.journal.meet(identity)
        else:
            accepts = backend.accept_model_change
            self.journal.meet(identity, backend.answering_model(), accepts_change=accepts)
            if accepts:
                # Bias and calibrator belong to the model that answered first.
                identity = {
                    **identity,
                    **{k: v for k, v in (self.journal.identity or {}).items() if k == "answered_by"},
                }
        self.recipe.pipeline.check_model_identity(identity)

    def ask(self, plan: Plan, asking: Asking, reading: FeatureReading) -> None:
        """Ask what is to be asked; every answer is in the journal before another is asked for in its place."""
        n_failed, limit = 0, self.options.max_errors
        self.monitor.begin(plan.counts.todo, "labelling")
        try:
            for answers in asking.answers(self.recipe, plan):
                answers, heads = reading.read(answers, asking.usage())
                self._usage = reading.usage(asking.usage())
                self.journal.add(answers, self._usage, heads)
                failed = [scores.error for _, scores in answers if scores.error is not None]
                n_failed += len(failed)
                self._n_asked, self._n_failed = self._n_asked + len(answers), n_failed
                self.monitor.used(self._usage)
                self.monitor.failed(failed)
                self.monitor.advance(len(answers), len(failed), self._usage.get("cost"))
                if limit is not None and n_failed > limit:
                    raise ModelError(
                        f"{n_failed} questions have failed, more than max_errors={limit}; the last: {failed[-1]}"
                    )
        except ModelError as error:
            self._usage = reading.usage(asking.usage())
            self.journal.add([], self._usage)
            raise JobError(f"{self._of_budget(error)}; {self.kept()}") from error
        finally:
            self.monitor.end()

    def _of_budget(self, error: ModelError) -> str:
        """What stopped the job, in the numbers of the job where it is the budget: a run knows only its own part of that."""
        limit = self.options.max_cost
        if limit is None or not isinstance(error, BudgetError):
            return str(error)
        spent = self.journal.spent()
        account = f"all runs of this job have spent {spent:.6g}, and {max(0.0, limit - spent):.6g} is left"
        if error.limit is None or error.limit != self.recipe.max_cost:  # that of embeddings, say
            return f"{error}; of max_cost={limit:g} {account}"
        return (
            f"max_cost={limit:g} is reached: {account}; the next request could cost {error.needed:.6g}; raise max_cost to "
            "go on"
        )

    def kept(self) -> str:
        """What the journal holds, and how to continue."""
        n = self.journal.n_answers()
        if not n:
            return "nothing was answered yet"
        return f"{n} answers are kept in the journal {self.journal.path}; continue with resume (--resume)"

    # --- write ---------------------------------------------------------------------------------------------------------

    def write(self, plan: Plan, fingerprint: Mapping[str, Any]) -> Summary:
        """Write all rows with their labels."""
        identity = self.journal.identity or {}
        digest = hashlib.sha256(json.dumps([fingerprint, identity], sort_keys=True).encode()).hexdigest()[:16]
        certificate = self.options.certificate
        described = {
            "version": __version__,
            "fingerprint": digest,
            "model": identity,
            "job": dict(fingerprint),
            "certificate": certificate.to_dict(),
        }
        added = self.added_kinds()
        inherited = {part.name: part.metadata for part in self.source.parts if part.metadata is not None}
        metadata = {"llmclf": json.dumps(described, sort_keys=True)}
        layout = Layout(self.columns, added, metadata, inherited, plan.known_ids)
        tally = _Tally(has_threshold=self.recipe.has_threshold)
        self.monitor.begin(plan.counts.rows, "writing")
        try:
            self._write(self._parts(plan, tally, self._audit_draw(plan)), layout)
        finally:
            self.monitor.end()
        if plan.damaged:
            self.journal.add((key, RowScores((), error=DAMAGED)) for key in dict.fromkeys(plan.damaged))
        counts = plan.counts
        return Summary(
            input=self.source.name,
            output=self.sink.name,
            journal=str(self.journal.path),
            rows=counts.rows,
            labelled=counts.rows - tally.failed,
            failed=tally.failed,
            questions=counts.questions,
            answered_before=counts.answered + (0 if self.options.retry_failed else counts.failed),
            asked=counts.todo,
            accepted=tally.accepted,
            classes={str(name): tally.classes.get(name, 0) for name in self.recipe.classes},
            truncated=tally.truncated,
            undecided=tally.undecided,
            seconds=time.monotonic() - self._began,
            usage=self._usage,
            total_cost=self.journal.spent() if self._usage.get("cost") is not None else None,
            max_cost=self.options.max_cost,
            model=identity,
            fingerprint=digest,
            input_version=self.source.version,
            output_version=self.sink.version,
            **self._certified,
        )

    def _write(self, parts: Written, layout: Layout) -> None:
        """Write the output. If all of it is the job's, a later run may replace it, as long as nobody else changes it."""
        sink, if_exists = self.sink, self.options.if_exists
        refuse_existing(sink, self.journal.outputs, if_exists)
        is_noted = bool(sink.place) and if_exists in ("fail", "replace")
        if is_noted:
            # Known as the job's before it is there: the process may end at any moment.
            self.journal.note_output(sink.place, None)
        sink.write(parts, layout)
        if is_noted and (mark := sink.mark()) is not None:
            self.journal.note_output(sink.place, mark)

    def unfinished(self, outcome: str, error: str | None) -> Summary:
        """What a run has done that did not come to its end."""
        counts = self._counts or Counts(0, 0, 0, 0, 0, 0)
        return Summary.unfinished(
            outcome,
            error,
            input=self.source.name,
            output=self.sink.name,
            journal=str(self.journal.path),
            rows=counts.rows,
            failed=self._n_failed,
            questions=counts.questions,
            answered_before=counts.answered + (0 if self.options.retry_failed else counts.failed),
            asked=self._n_asked,
            seconds=time.monotonic() - self._began,
            usage=self._usage,
            max_cost=self.options.max_cost,
            **self._certified,
        )

    @property
    def _certified(self) -> dict[str, Any]:
        """What a summary says of the certificate."""
        certificate = self.options.certificate
        return {"certificate": certificate.id, "certificate_status": certificate.status}

    def _audit_draw(self, plan: Plan) -> AuditDraw | None:
        """Which rows are to be checked, by all answers."""
        if self.options.audit is None:
            return None
        n_rows = plan.counts.rows
        pieces = (self._answered(plan, start, min(start + CHUNK, n_rows)) for start in range(0, n_rows, CHUNK))
        return self.options.audit.draw(map(self._proba, pieces), len(self.recipe.classes))

    def _proba(self, labels: pd.DataFrame) -> Floats:
        """The probabilities (n, K) among a piece's labels, NaN where a row could not be labelled."""
        proba: Floats = labels[[f"p_{name}" for name in self.recipe.classes]].to_numpy(dtype=np.float64)
        return proba

    def _parts(self, plan: Plan, tally: _Tally, draw: AuditDraw | None) -> Written:
        place = 0

        def finished(read: Callable[[int], Iterator[pd.DataFrame]]) -> Iterator[pd.DataFrame]:
            nonlocal place
            # A file without rows still becomes one with all columns.
            for frame in at_least(pd.DataFrame(columns=self.columns.names, dtype=object), read(CHUNK)):
                labels = self._labels(plan, frame, place)
                tally.add(labels)
                if draw is not None:
                    labels = labels.assign(**draw.columns(self._proba(labels)))
                self.monitor.advance(len(frame))
                place += len(frame)
                yield self._joined(frame, labels)

        for part in self.source.parts:
            yield part.name, finished(part.read)
        if place != plan.counts.rows:
            raise InputError(f"{self.source.name} had {plan.counts.rows} rows and now has {place}; {_CHANGED}")

    def _labels(self, plan: Plan, frame: pd.DataFrame, place: int) -> pd.DataFrame:
        if len(frame) and self.recipe.digest(frame, self._ids(frame, place)) != plan.digest(place):
            raise InputError(f"{self.source.name} has changed while it was labelled (rows {place} and on); {_CHANGED}")
        return self._answered(plan, place, place + len(frame))

    def _answered(self, plan: Plan, start: int, stop: int) -> pd.DataFrame:
        """The labels of some rows, by their places, from the answers to them."""
        records, answers = plan.block(start, stop)
        unconditional = None
        if self.recipe.pipeline.scoring == "pmi":
            unconditional = plan.answers([self._unconditional(record) for record in records])
        labels = self.recipe.label(
            answers, records=records, unconditional=unconditional, logprobs=self.options.logprobs
        )
        self._name_deciders(labels, answers)
        return labels

    def _name_deciders(self, labels: pd.DataFrame, answers: AnswerBlock) -> None:
        """Add under which certificate rows are decided, and where it may not be the same for all, which model answered."""
        if self.options.certificate.id is not None:
            labels[CERTIFICATE] = pd.Series([self.options.certificate.id] * len(labels), dtype=object)
        if self._names_models:
            first = str(self.journal.first_model or "") or None
            labels[MODEL] = pd.Series(
                [
                    None if error is not None else name or first
                    for name, error in zip(answers.models, answers.errors, strict=True)
                ],
                dtype=object,
            )

    def _unconditional(self, record: bytes | None) -> bytes | None:
        """The key of what a row's scores are compared with."""
        extra = self.recipe.extra_questions(record if self.recipe.has_choices else None)
        return next((question.key for question in extra), None)

    def _joined(self, frame: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
        rows = frame.reset_index(drop=True)
        if list(rows.columns) != self.columns.names:
            rows = rows.reindex(columns=self.columns.names)
        return pd.concat([rows, labels.rename(columns=self.names)], axis=1)


_CHANGED = "run the job again with resume (--resume): only rows that have changed are asked"


class _Tally:
    """Counts over the rows that were written."""

    def __init__(self, *, has_threshold: bool) -> None:
        self.failed = self.truncated = self.undecided = 0
        self.accepted: int | None = 0 if has_threshold else None
        self.classes: Counter[Any] = Counter()

    def add(self, labels: pd.DataFrame) -> None:
        self.failed += int(np.isnan(labels["confidence"].to_numpy()).sum())
        self.truncated += int(labels["truncated"].sum())
        self.undecided += int(labels["undecided"].sum())
        self.classes.update(value for value in labels["label"].tolist() if value is not None)
        if self.accepted is not None:
            self.accepted += sum(value is True for value in labels["accepted"].tolist())
