"""What a fitted classifier does about its promise: it is certified, and put right when that no longer holds."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..arrays import Integers
from ..errors import CertificateError, CertificateWarning, InputError, StoreError, warn
from ..fitting.recalibration import recalibrated
from ..fitting.row_groups import read_groups
from ..metrics import inclusion_weights
from ..pipeline import FittedPipeline
from ..saved_folder import check_folder, classifier_sha256, read_folder, write_folder, written_sha256
from ..tables.rows import Rows
from .certificate import ATTEMPTS, FILE, Certificate, certificate_of, record_fault, remove_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .attempts import Attempt, AttemptRecord
    from .issuing import Check, Issued


class Certifiable:
    """The methods of a fitted classifier that make a certificate, and those that make one void."""

    pipeline_: FittedPipeline
    _attempts: AttemptRecord | None = None
    """Those that are known to this object; `_known_attempts` has those of its folder, too."""

    if TYPE_CHECKING:

        def _labelled(self, X: Any, y: Any) -> tuple[FittedPipeline, Rows, Integers]: ...

        def _saved_values(self, pipeline: FittedPipeline) -> dict[str, Any]: ...

        def current_pipeline(self) -> FittedPipeline: ...

    def certify(
        self,
        X: Any,
        y: Any,
        *,
        max_error: float,
        confidence: float = 0.95,
        threshold: str = "fitted",
        groups: Any = None,
        clusters: Any = None,
        inclusion: Any = None,
        folder: str | os.PathLike[str] | None = None,
        canary: str = "texts",
        expires: Any = 365,
        key: str | os.PathLike[str] | None = None,
        key_password_env: str | None = None,
    ) -> Certificate:
        """Promise that few accepted rows will be wrong, if labelled rows that nothing was fitted on show it.

        With probability `confidence` over the draw of these rows, at most the share `max_error` of all future rows that the
        classifier accepts is wrong. The certificate says on which rows that was shown, of which classifier and model, and what it
        assumes; how the error, its bound and the share of accepted rows came out; whether the probabilities are calibrated; and
        what is known of each predicted class and each group, with intervals that hold together. It keeps a canary of 50
        rows with their scores, by which `llmclf.verify` tells the model from another one.

        Parameters
        ----------
        X : n texts or table rows
            Drawn at random from the rows to come, with true classes. Rows that the calibrator, the examples in the prompt or the
            threshold have seen are refused.
        y : n classes
        max_error : float in (0, 1)
            The share of wrong rows that is allowed among the accepted ones.
        confidence : float in (0, 1)
            Earlier attempts on rows that are among these have a part of what is missing to 1; this one is judged with the rest.
            To promise less on the very same rows is no further attempt.
        threshold : {"fitted", "selected"}
            ``"fitted"`` judges the threshold that the classifier has; the bound is exact (Clopper & Pearson 1934).
            ``"selected"`` chooses the lowest threshold that these very rows allow, as `llmclf.calibration.select_threshold` does,
            which pays for having tried all; the classifier then has it.
        groups : array-like (n,), DataFrame or dict, optional
            Groups to look at one by one; for a table, names of its columns will do. Give all that are of interest at once: other
            groups of the same rows are a further attempt.
        clusters : (n,), or the name of a table's column, optional
            What each row belongs to, such as its author: the rows of a cluster count as one. Copies of a text always belong
            together.
        inclusion : (n,), optional
            With what probability each row was drawn, as `llmclf.estimation.next_rows` says it. Of unequal ones, rows that were
            drawn more often are left out at random.
        folder : path, optional
            Where the certificate is written: the folder of this very classifier, or a new one, in which it is saved first.
            The hashes of all judged rows are written there, too (``certificate-attempts.json``), whatever the outcome where a
            classifier was saved before; else this object remembers them until it is saved.
        canary : {"texts", "hashes"}
            Whether the certificate keeps the canary rows themselves, or their hashes alone. With hashes, the same rows have to
            be given again to verify it; and whoever can guess a row can tell from its hash that it is there.
        expires : int, str, date, datetime, timedelta or None
            After how many days, or when; None: never.
        key : path, optional
            The file of a private Ed25519 key (PEM or OpenSSH) with which the certificate is signed. It is only read.
        key_password_env : str, optional
            The name of the environment variable that holds the key's password.

        Returns
        -------
        Certificate

        Raises
        ------
        InputError
            Before the model is asked: an argument cannot be used; there are too few rows, and the message says how many are
            needed; something was fitted on some of the rows; earlier attempts on some of them leave nothing of the confidence
            (`llmclf.certificates.attempts` has the mathematics); or the folder holds something else. Afterwards: others have
            certified on some of the rows meanwhile, and left less of the confidence than these were judged with.
        CertificateError
            The record of judged rows is broken, or another process holds it for a long time.
        NotCertifiedError
            The rows do not show it. The message says what they show, and about how many rows might be enough.
        MissingDependencyError
            A key is given, and cryptography is not installed.

        Examples
        --------
        >>> from llmclf import LLMClassifier
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["a", "b"]).fit(["any text"])
        >>> clf.certify(["a text"] * 50, ["a"] * 50, max_error=0.05)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        llmclf.errors.InputError: 50 labelled rows cannot show that at most 0.05 of the accepted ones are wrong with ...
        """
        from .attempts import record_lock
        from .issuing import Promise, issue

        pipeline, rows, columns = self._labelled(X, y)
        if folder is not None:
            self._check_is_saved_in(folder, pipeline)
        promise = Promise(max_error, confidence, threshold, canary, expires, key, key_password_env)
        was_saved = folder is not None and _is_classifier(folder)
        with record_lock(one for one in self._places(folder) if _is_classifier(one)):
            record = self._known_attempts(folder)
        issued = issue(
            pipeline,
            rows,
            columns,
            promise,
            record=record,
            remember=lambda attempt, check: self._remember(attempt, folder, check),
            groups=groups,
            clusters=clusters,
            inclusion=inclusion,
        )
        if folder is None:
            certificate = issued.draft.certificate(written_sha256(self._saved_values(issued.pipeline)))
        else:
            certificate = self._write_certificate(folder, pipeline, issued, is_new=not was_saved)
        if threshold == "selected":
            self.pipeline_ = issued.pipeline
        if folder is not None:
            self.pipeline_ = replace(self.pipeline_, folder=os.path.abspath(os.path.expanduser(folder)))
        return certificate

    def recalibrate(self, X: Any, y: Any, *, groups: Any = None, inclusion: Any = None) -> Self:
        """Put the probabilities right by new labelled rows, without asking the model about the rows of the fit.

        Everything that was fitted stays; one step more is fitted on the new rows alone, an `AutoCalibrator` of the probabilities
        so far (`recalibration_`), which replaces that of an earlier call. So what the labels of the fit have taught is kept,
        words and states included, and rows of one call do not count in the next: give those that are like the rows to come.
        The threshold belonged to other probabilities and is gone, and so is the certificate: choose and certify anew, on rows
        that were not given here.

        Parameters
        ----------
        X : n texts or table rows
            At least 20, drawn from the rows to come, that neither the calibrator nor the examples have seen.
        y : n classes
        groups : (n,), or the name of a table's column, optional
            As in `LLMClassifier.fit`.
        inclusion : (n,), optional
            With what probability each row was drawn, as `llmclf.estimation.next_rows` says it.

        Returns
        -------
        LLMClassifier
            This one.

        Raises
        ------
        InputError
            There are fewer than 20 rows; or the calibrator has seen some, or some are shots.

        Warns
        -----
        CalibrationWarning
            Rows were left out; or the classifier had a threshold.
        CertificateWarning
            It had a certificate.

        Examples
        --------
        >>> from llmclf import LLMClassifier
        >>> from llmclf.backends import FakeBackend
        >>> clf = LLMClassifier(FakeBackend(), labels=["a", "b"]).fit(["any text"])
        >>> X, y = [f"text {i}" for i in range(200)], ["a", "b", "b", "b"] * 50
        >>> bool(0.7 < clf.recalibrate(X, y).predict_proba(X)[:, 1].mean() < 0.8)
        True
        """
        pipeline, rows, columns = self._labelled(X, y)
        weights = None if inclusion is None else inclusion_weights(inclusion, len(rows))
        if self._has_attempts(pipeline.folder):
            self._attempts = self._known_attempts(pipeline.folder)
        again = recalibrated(pipeline, rows, columns, sample_weight=weights, groups=read_groups(groups, rows))
        if pipeline.folder is not None and (Path(pipeline.folder) / FILE).exists():
            warn(
                f"the certificate in {pipeline.folder!r} is about the classifier as it was before this recalibration, and says "
                "nothing of this one; save it, choose a threshold, and certify it again",
                CertificateWarning,
            )
        self.pipeline_ = again
        return self

    def _write(self, folder: str | os.PathLike[str]) -> None:
        """Save the classifier; the certificate of another one that lies there goes, and the record of judged rows stays."""
        write_folder(folder, self._saved_values(self.current_pipeline()))
        try:
            certificate_of(folder)
        except CertificateError as error:
            remove_certificate(folder)
            warn(f"a certificate is removed from {os.fspath(folder)!r}: {error}", CertificateWarning)
        if self._has_attempts(self.pipeline_.folder):
            from .attempts import record_lock

            try:
                with record_lock([folder]):
                    self._known_attempts(folder).write(folder)
            except CertificateError as error:
                warn(
                    f"the classifier is saved, and what was judged before is not noted beside it: {error}",
                    CertificateWarning,
                )

    def _write_certificate(
        self, folder: str | os.PathLike[str], judged: FittedPipeline, issued: Issued, *, is_new: bool
    ) -> Certificate:
        """The certificate of the pipeline that was judged, written beside it; in a new folder the pipeline is saved first."""
        from .attempts import record_lock

        if not _is_classifier(folder):
            write_folder(folder, self._saved_values(judged))
        with record_lock([folder]):  # others may have certified there since
            self._check_is_saved_in(folder, judged)
            known = self._known_attempts(folder)
            if is_new:
                issued.check(known)
            if issued.pipeline is not judged:
                options = read_folder(folder)["model_options"]
                write_folder(folder, {**self._saved_values(issued.pipeline), "model_options": options})
            known.write(folder)
            certificate = issued.draft.certificate(classifier_sha256(folder))
            certificate.save(folder)
        return certificate

    def _has_attempts(self, folder: str | os.PathLike[str] | None) -> bool:
        """Whether anything is known of earlier attempts, without the cost of reading it."""
        return self._attempts is not None or (folder is not None and (Path(folder) / ATTEMPTS).exists())

    def _known_attempts(self, folder: str | os.PathLike[str] | None) -> AttemptRecord:
        """The attempts that this object, the folder it was read from, and another one know.

        Raises
        ------
        CertificateError
            A record is broken, or lacks what the certificate beside it knew.
        """
        from .attempts import AttemptRecord

        record = AttemptRecord()
        for place in self._places(folder):
            _check_record(place)
            record = record.joined(AttemptRecord.read(place))
        return record if self._attempts is None else record.joined(self._attempts)

    def _remember(self, attempt: Attempt, folder: str | os.PathLike[str] | None, check: Check) -> AttemptRecord:
        """Note an attempt in this object, and wherever a classifier lies that it is about or stands for.

        Returns
        -------
        AttemptRecord
            What was known before it.

        Raises
        ------
        InputError
            What others have noted meanwhile does not pass the check; then this attempt is not noted.
        """
        from .attempts import record_lock

        places = [place for place in self._places(folder) if _is_classifier(place)]
        with record_lock(places):
            before = self._known_attempts(folder)
            check(before)
            self._attempts = before.added(attempt)
            for place in places:
                try:
                    self._attempts.write(place)
                except OSError as error:
                    warn(
                        f"that these rows were judged cannot be noted in {place!r} ({error}), so only this object remembers it; "
                        "judge none of them again",
                        CertificateWarning,
                    )
        return before

    def _places(self, folder: str | os.PathLike[str] | None) -> list[str]:
        """The folder that this object was read from, and another one, if there are any."""
        given = [one for one in (self.pipeline_.folder, folder) if one is not None]
        return list(dict.fromkeys(os.path.abspath(os.path.expanduser(one)) for one in given))

    def _check_is_saved_in(self, folder: str | os.PathLike[str], pipeline: FittedPipeline) -> None:
        """Refuse a folder that holds another classifier, or anything else."""
        check_folder(folder)
        if not _is_classifier(folder):
            return
        own, there = self._saved_values(pipeline), read_folder(folder)
        if _hash(own) != _hash(there):
            raise InputError(
                f"{os.fspath(folder)!r} holds another classifier than this one, or one that an earlier version of llmclf wrote; "
                "save this one there first, or give another folder"
            )


def _check_record(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder whose certificate knew of attempts that are no longer in its record.

    Raises
    ------
    CertificateError
    """
    try:
        certificate = certificate_of(folder)
    except (CertificateError, StoreError):  # which says nothing that could be relied on
        return
    fault = None if certificate is None else record_fault(certificate, folder)
    if fault is not None:
        raise CertificateError(fault)


def _is_classifier(folder: str | os.PathLike[str]) -> bool:
    try:
        classifier_sha256(folder)
    except StoreError:
        return False
    return True


def _hash(values: Mapping[str, Any]) -> str:
    """That of a saved classifier, wherever its model is reached."""
    return written_sha256({**values, "model_options": None})
