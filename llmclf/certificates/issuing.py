"""Making a certificate: what is refused before anything is asked, what is asked, and what is written down."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Integers
from ..calibration import SelectedThreshold
from ..calibration.selective import check_selectable
from ..errors import CalibrationWarning, InputError, NotCertifiedError, warn
from ..fitting.evaluation import named_columns
from ..fitting.row_groups import read_groups, text_keys
from ..fitting.seen_rows import SeenRows, row_fingerprints
from ..logits import logsumexp
from ..metrics import inclusion_weights
from ..numerics.groups import group_numbers
from ..pipeline import FittedPipeline
from ..report.evidence import partitions
from ..saved_folder import array_bytes, written_sha256
from ..tables.rows import Rows
from .assumptions import assumptions
from .attempts import Attempt, AttemptRecord, Standing, row_hashes
from .canary import KINDS, Asked, make_canary, rows_hash
from .certificate import Certificate, ReferenceRows, signed_bytes
from .content import FORMAT, Attempts, Classifier, Content, Guarantee, JudgedRows, Reference
from .expiry import expiry
from .judging import CLASSES, LabelledRows, calibration_of, guarantee_before, guarantee_selected, parts_of
from .signatures import private_key, signature_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

THRESHOLDS = ("fitted", "selected")


@dataclass(frozen=True)
class Promise:
    """What a certificate is to promise, and how it is to be written.

    Attributes
    ----------
    max_error, confidence : float
    threshold : {"fitted", "selected"}
    canary : {"texts", "hashes"}
    expires : as `llmclf.certificates.expiry.expiry` takes it
    key : path or None
    key_password_env : str or None
    """

    max_error: float
    confidence: float
    threshold: str
    canary: str
    expires: Any
    key: str | os.PathLike[str] | None = None
    key_password_env: str | None = None


Check = Callable[[AttemptRecord], None]
"""Raises InputError where a record leaves less to an attempt than it was judged with."""


class Issued(NamedTuple):
    """A certificate that names no classifier's file yet, the pipeline that it is about, and what its attempt was judged with."""

    draft: Draft
    pipeline: FittedPipeline
    check: Check


@dataclass(frozen=True, eq=False)
class Draft:
    """All of a certificate but which file the classifier is in.

    Attributes
    ----------
    content : dict
        The fields of `Content` without ``classifier``.
    classifier : dict
        The fields of `Classifier` without ``sha256``.
    reference : ReferenceRows
    key : private key, or None
    """

    content: Mapping[str, Any]
    classifier: Mapping[str, Any]
    reference: ReferenceRows
    key: Ed25519PrivateKey | None

    def certificate(self, classifier_sha256: str) -> Certificate:
        """The certificate of the classifier whose JSON has this hash."""
        classifier = Classifier(sha256=classifier_sha256, **self.classifier)
        content = Content(classifier=classifier, **self.content)
        signature = None if self.key is None else signature_of(content, self.key)
        return Certificate(content, self.reference, signature)


def issue(
    pipeline: FittedPipeline,
    rows: Rows,
    columns: Integers,
    promise: Promise,
    *,
    record: AttemptRecord,
    remember: Callable[[Attempt, Check], AttemptRecord],
    groups: Any = None,
    clusters: Any = None,
    inclusion: Any = None,
) -> Issued:
    """Judge labelled rows (n,) and write down what they show; see `llmclf.LLMClassifier.certify`.

    Earlier attempts are in `record`. `remember` is told of this one as soon as its outcome is known; it returns those that are
    known by then, after a check that they leave as much to this one.

    Raises
    ------
    InputError
        Before anything is asked: an argument cannot be used, the rows are too few, something was fitted on some of them, or
        they were judged before. Afterwards: they were judged meanwhile.
    NotCertifiedError
        The rows do not show what was to be promised.

    Warns
    -----
    CalibrationWarning
        Some rows could not be scored.
    """
    issued = datetime.now(UTC).replace(microsecond=0)
    _check_promise(promise)
    end = expiry(promise.expires, issued)
    key = None if promise.key is None else private_key(promise.key, promise.key_password_env)
    slices = partitions(named_columns(groups, rows), len(rows))
    if CLASSES in slices:
        raise InputError(
            f"groups has the name {CLASSES!r}, which is that of the parts by what is predicted; give them another name"
        )
    given = read_groups(clusters, rows, "clusters")
    drawn = _inclusion(inclusion, len(rows))
    seen = SeenRows.among(rows, pipeline)
    _check_unseen(seen, pipeline, rows, promise)
    members = seen.groups(rows, pipeline, given)
    check_selectable(len(rows), promise.max_error, promise.confidence, members)
    threshold = _fitted_threshold(pipeline) if promise.threshold == "fitted" else None
    truth = [pipeline.labels.classes[column] for column in columns.tolist()]
    digest = rows_hash(rows, pipeline.read_fields, truth)
    hashes = row_hashes(rows.records, pipeline.read_fields)
    judgement = _judgement(pipeline, digest, hashes, columns, promise, members, drawn, slices)
    standing = record.standing(hashes, judgement, 1.0 - promise.confidence)
    shared = replace(promise, confidence=1.0 - standing.level) if standing.n_sharing else promise
    check_selectable(len(rows), promise.max_error, shared.confidence, members)
    pipeline.check_model_identity()

    answers = pipeline.scorer.answers(rows)
    scores = pipeline.scores(rows, answers)
    known = Asked.of_scores(pipeline, scores)
    names = [str(label) for label in pipeline.labels.classes]
    judged = LabelledRows(known.probabilities, columns, names, members, drawn, slices)
    _check_scored(judged, shared)
    bounded = judged.counted_wrong(standing.again)

    def check(now: AttemptRecord) -> None:
        now.check_still_stands(standing, hashes, judgement, 1.0 - promise.confidence)

    def tried(outcome: Literal["certified", "not shown"]) -> tuple[Attempt, AttemptRecord]:
        attempt = Attempt(
            judged=issued.isoformat(),
            judgement=judgement,
            rows=hashes,
            n=len(rows),
            max_error=promise.max_error,
            level=standing.level,
            outcome=outcome,
        )
        return attempt, remember(attempt, check)

    try:
        guarantee = _guarantee(bounded, threshold, shared)
    except NotCertifiedError as error:
        tried("not shown")
        raise _with_attempts(error, standing) from None
    guarantee = guarantee.model_copy(update={"confidence": promise.confidence})
    attempt, record = tried("certified")
    attempts = _attempts(record, attempt, standing, hashes, promise)
    if threshold is None:
        pipeline = _with_threshold(pipeline, guarantee, judged, rows)
    mass = np.exp(logsumexp(pipeline.scorer.class_scores(rows, "sum", answers), axis=1)).clip(0.0, 1.0)
    undecided = pipeline.undecided(scores)
    accepted = judged.accepted(guarantee.threshold)
    groups_of_rows = members if len(np.unique(members)) < len(rows) else None
    reference = ReferenceRows(known.probabilities, accepted, mass, undecided, judged.is_right, groups_of_rows)
    reference_digest = sha256(array_bytes(reference.to_array())).hexdigest()
    parts = parts_of(bounded, guarantee.threshold, promise.max_error, shared.confidence)
    about = JudgedRows(
        sha256=digest,
        n=len(rows),
        n_groups=len(np.unique(members)),
        n_unscored=int((~judged.is_scored).sum()),
        n_undecided=int(undecided.sum()),
        is_grouped=len(np.unique(members)) < len(rows),
        is_uneven=drawn is not None,
        n_even=int(judged.is_even.sum()),
    )
    content = {
        "format": FORMAT,
        "llmclf": version("llmclf"),
        "issued": issued.isoformat(),
        "expires": None if end is None else end.isoformat(),
        "model": dict(pipeline.backend.identity()),
        "rows": about,
        "guarantee": guarantee,
        "calibration": calibration_of(judged),
        "parts": parts,
        "n_statements": len(parts),
        "assumptions": assumptions(about, guarantee, parts, attempts),
        "canary": make_canary(pipeline, rows, known, promise.canary),
        "reference": Reference(file=f"certificate-{reference_digest[:32]}.npy", sha256=reference_digest),
        "attempts": attempts,
    }
    return Issued(Draft(content, _described(pipeline), reference, key), pipeline, check)


def _judgement(
    pipeline: FittedPipeline,
    rows: str,
    hashes: list[str],
    columns: Integers,
    promise: Promise,
    members: Integers,
    drawn: Floats | None,
    slices: Mapping[str, NDArray[Any]],
) -> str:
    """The hash of all that the outcome follows from, whatever the order of the rows.

    That is one bound, whatever is promised; or one selected threshold; and what is found of each group.
    """
    is_selected = promise.threshold == "selected"
    decides = replace(pipeline, threshold=None, threshold_fingerprints=()) if is_selected else pipeline
    # Copies of a text may have other classes, chances and groups, which then say which of them comes first.
    ranks = [np.unique(slices[name], return_inverse=True)[1] for name in sorted(slices)]
    order = np.lexsort((*ranks, np.zeros(len(hashes)) if drawn is None else drawn, columns, np.array(hashes)))
    together = group_numbers(members[order], len(hashes)).astype(np.float64)
    values = {
        "classifier": pipeline_sha256(decides),
        "rows": rows,
        "members": sha256(array_bytes(together)).hexdigest(),
        "drawn": None if drawn is None else sha256(array_bytes(drawn[order])).hexdigest(),
        **({"partitions": {name: names[order].tolist() for name, names in slices.items()}} if slices else {}),
        "selected": [promise.max_error, promise.confidence] if is_selected else None,
    }
    return sha256(signed_bytes(values)).hexdigest()


def _guarantee(rows: LabelledRows, threshold: float | None, promise: Promise) -> Guarantee:
    if threshold is None:
        return guarantee_selected(rows, promise.max_error, promise.confidence)
    return guarantee_before(rows, threshold, promise.max_error, promise.confidence)


def _attempts(
    record: AttemptRecord, attempt: Attempt, standing: Standing, hashes: list[str], promise: Promise
) -> Attempts:
    """What a certificate says of the attempts until and with its own."""
    elsewhere = sum(record.failed_elsewhere(hashes, attempt.judgement))
    return Attempts(
        n=len(record) + 1,
        n_not_shown=sum(one.outcome == "not shown" for one in record.attempts),
        n_sharing=standing.n_sharing,
        spent=standing.spent,
        level=standing.level,
        n_judged_before=int(standing.again.sum()),
        confidence_of_all=max(0.0, promise.confidence - elsewhere),
        record=record.added(attempt).hashes,
    )


def _with_attempts(error: NotCertifiedError, standing: Standing) -> NotCertifiedError:
    """The same, with what earlier attempts have cost."""
    note = ""
    if standing.n_sharing:
        note = (
            f"; {standing.n_sharing} earlier attempts on these rows have used {standing.spent:.4g} of what may go wrong"
        )
    if standing.again.any():
        note = f"; {int(standing.again.sum())} rows that were judged before count as wrong where they are accepted"
    return NotCertifiedError(f"{error}{note}", error.reached)


def pipeline_sha256(pipeline: FittedPipeline) -> str:
    """The hash of all that a pipeline decides by; where its model is reached is left out.

    Raises
    ------
    InputError
        The pipeline cannot be saved.
    """
    return written_sha256({**pipeline.to_dict(), "model_options": None})


def _check_promise(promise: Promise) -> None:
    if promise.threshold not in THRESHOLDS:
        raise InputError(f"threshold={promise.threshold!r}; expected one of {', '.join(map(repr, THRESHOLDS))}")
    if promise.canary not in KINDS:
        raise InputError(f"canary={promise.canary!r}; expected one of {', '.join(map(repr, KINDS))}")
    if promise.key is None and promise.key_password_env is not None:
        raise InputError(f"key_password_env={promise.key_password_env!r} belongs to a key; give its file, too, as key")


def _inclusion(inclusion: Any, n_rows: int) -> Floats | None:
    """With what probability each row was drawn; None where all had the same."""
    if inclusion is None or (inclusion_weights(inclusion, n_rows) == 1.0).all():
        return None
    return np.asarray(inclusion, dtype=np.float64)


def _check_unseen(seen: SeenRows, pipeline: FittedPipeline, rows: Rows, promise: Promise) -> None:
    """Refuse rows that something was fitted on: a certificate keeps its promise to the letter."""
    chosen_on = set(pipeline.threshold_fingerprints) if promise.threshold == "fitted" else set()
    known = row_fingerprints(pipeline, rows)
    fields = pipeline.scorer.shown_fields
    shots = set(text_keys([row for row, _ in pipeline.shots], fields))
    n_shots = sum(one in shots for one in text_keys(rows.records, fields)) if shots else 0
    counts = {
        "stand in the prompt as examples": n_shots,
        "the calibrator was fitted on": seen.n_calibrated + int(seen.is_earlier.sum()),
        "the threshold was chosen on": sum(one in chosen_on for one in known),
    }
    found = [f"{n} {what}" if what.startswith("stand") else f"{what} {n}" for what, n in counts.items() if n]
    if found:
        raise InputError(
            f"of these {len(rows)} rows {', '.join(found)}, so they cannot show what the classifier does with others; certify on "
            "rows that nothing was fitted on"
        )


def _fitted_threshold(pipeline: FittedPipeline) -> float:
    chosen = pipeline.threshold
    if chosen is None:
        raise InputError(
            "the classifier has no threshold yet; choose it on other rows, with fit_threshold, or on these, with "
            "threshold='selected'"
        )
    if not chosen.n_accepted:
        raise InputError(
            "the classifier's threshold accepts no row, so there is nothing to promise; choose another on other rows, with "
            "fit_threshold, or on these, with threshold='selected'"
        )
    return float(chosen.threshold)


def _check_scored(judged: LabelledRows, promise: Promise) -> None:
    n_lost = int((~judged.is_scored).sum())
    if n_lost:
        warn(
            f"{n_lost} of these {len(judged)} rows could not be scored; they count as not accepted (score_rows says why)",
            CalibrationWarning,
        )
    scored = judged.is_scored
    check_selectable(int(scored.sum()), promise.max_error, promise.confidence, judged.members[scored])


def _with_threshold(pipeline: FittedPipeline, guarantee: Guarantee, judged: LabelledRows, rows: Rows) -> FittedPipeline:
    """The pipeline with the threshold that was selected."""
    chosen = SelectedThreshold(
        guarantee.threshold,
        float(guarantee.coverage.value or 0.0),
        guarantee.error,
        guarantee.error_bound,
        guarantee.n_accepted,
        int(judged.is_scored.sum()),
        guarantee.max_error,
        guarantee.confidence,
    )
    is_first = not pipeline.corrections.changes_scores
    return replace(
        pipeline,
        threshold=chosen,
        threshold_fingerprints=row_fingerprints(pipeline, rows),
        calibrated_on=pipeline.calibrated_on or pipeline.backend.identity(),
        fitted_on_scores=pipeline.kind_of_scores if is_first else pipeline.fitted_on_scores,
    )


def _described(pipeline: FittedPipeline) -> dict[str, Any]:
    values, corrections = pipeline.to_dict(), pipeline.corrections
    return {
        "pipeline_sha256": pipeline_sha256(pipeline),
        "classes": values["classes"],
        "words": values["words"],
        "prompt": values["prompt"],
        "n_shots": len(pipeline.shots),
        "scoring": pipeline.scoring,
        "processing": values["processing"],
        "bias": _name(corrections.bias),
        "calibrator": _name(corrections.calibrator),
        "recalibration": _name(corrections.recalibration),
        "prior": corrections.log_prior is not None,
        "features": [] if pipeline.features is None else [reader.name for reader in pipeline.features.readers],
        "n_calibration_rows": len(pipeline.calibration_rows.fingerprints),
    }


def _name(correction: Any) -> str | None:
    if correction is None:
        return None
    name = getattr(correction, "name", None) or getattr(correction, "method", None)
    return name if isinstance(name, str) else type(correction).__name__
