"""Reading saved classifiers. A folder may come from anybody: nothing in it is executed, and nothing goes where it alone says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from .backends.requests import SCORE_VERSION
from .certificates.certificate import certificate_of, page_fault, record_fault
from .certificates.signatures import check_signature
from .certificates.verification import Verification, verification
from .checks import checked_names, is_whole_number
from .classifier import LLMClassifier
from .errors import (
    CertificateError,
    InputError,
    LlmclfError,
    ModelNameError,
    SavedAddressError,
    StoreError,
    UnknownOptionError,
    listed,
)
from .features import Embeddings
from .features.sets import saved_embeddings
from .pipeline import FORMATS, FittedPipeline
from .prompts.rendered import TEXT_FIELD
from .saved_folder import damaged, holds_classifier, read_folder
from .tables.rows import read_rows

_DAMAGE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading values that nobody wrote may raise: `InputError` where a check says so, else Python's own errors."""


def load(
    folder: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    check_model: bool = True,
    model_options: Mapping[str, Any] | None = None,
    embedding_options: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> LLMClassifier:
    """Read a classifier that `LLMClassifier.save` wrote. Nothing in the folder is executed.

    Parameters
    ----------
    folder : path
    cache : path, optional
        The score cache to use; a cache is not part of what was saved.
    check_model : bool
        Whether bias, calibrator and threshold refuse another model than the one they belong to; if not, a warning says so.
    model_options : mapping, optional
        Options of the model's backend that replace the saved ones: the ``base_url`` of a server that has moved, say.
    embedding_options : mapping, optional
        The same for the server of the classifier's `Embeddings`.
    trust : bool
        Follow what the folder says about servers. A folder may come from anybody, so otherwise texts go to a saved address on
        another machine only if ``base_url`` says it here, too, or the environment variable for addresses (OPENAI_BASE_URL) does;
        a key goes to no saved address without that; and another key than the usual one (OPENAI_API_KEY) only if ``api_key_env``
        names its variable here.

    Raises
    ------
    SavedAddressError
        The folder alone says where texts or a key would go.
    StoreError
        The folder holds no saved classifier, one that another version wrote, or one that is damaged: `save` cannot have written
        these values, or they do not fit each other. The message names the file.

    Examples
    --------
    >>> load("no/such/folder")
    Traceback (most recent call last):
    ...
    llmclf.errors.StoreError: 'no/such/folder' holds no saved classifier (no classifier.json); give a folder that save wrote
    """
    columns, pipeline = _read(folder, cache, check_model, model_options, embedding_options, trust)
    return LLMClassifier.from_pipeline(pipeline, **columns)


def load_pipeline(
    folder: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    check_model: bool = True,
    model_options: Mapping[str, Any] | None = None,
    embedding_options: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> FittedPipeline:
    """Read the pipeline of a classifier that `LLMClassifier.save` wrote, without the estimator around it.

    Parameters
    ----------
    folder, cache, check_model, model_options, embedding_options, trust : as `load` has them

    Raises
    ------
    SavedAddressError, StoreError
        As `load`.
    """
    return _read(folder, cache, check_model, model_options, embedding_options, trust)[1]


def reads_embeddings(folder: str | os.PathLike[str]) -> bool:
    """Whether a saved classifier has embeddings, whose server's options ``embedding_options`` of `load` replaces.

    Raises
    ------
    StoreError
        As `load`.
    """
    values = read_folder(folder)
    _check_version(folder, values)
    return bool(_embeddings_as_saved(folder, values.get("features")))


def verify(
    folder: str | os.PathLike[str],
    *,
    public_key: str | os.PathLike[str] | None = None,
    X: Any = None,
    model_options: Mapping[str, Any] | None = None,
    embedding_options: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Verification:
    """Whether the classifier in a folder is still the one that its certificate is about; its model is asked about 50 rows.

    Looked at, in this order: whether the certificate is whole, whether the classifier's files are those that were certified,
    whether the signature is right, whether the record of earlier attempts is the one that was signed, whether the page says what
    the certificate says (where another version of llmclf wrote both, a page that differs is only mentioned), whether the model
    gives the canary rows the scores that it gave them then, and the date. The first that is wrong is the outcome; that the
    model is the same within its noise is said where nothing is wrong.

    Parameters
    ----------
    folder : path
    public_key : path, optional
        The file of the Ed25519 key (PEM or OpenSSH) that must have signed the certificate. Without it, a signature is only
        checked against the key that the certificate itself names, which does not show who signed.
    X : texts or table rows, optional
        The rows that the certificate was made on, where it keeps only hashes of its canary rows.
    model_options, embedding_options, trust : as `load` has them

    Returns
    -------
    Verification
        With ``outcome``, ``message``, ``exit_code`` and ``comparison``; see `llmclf.certificates.Verification`.

    Raises
    ------
    InputError
        There is no such folder; the public key cannot be read; or the canary rows are hashes, and their rows are not given.
    SavedAddressError, StoreError
        As `load`.
    ModelError
        The model cannot be opened or asked.

    Examples
    --------
    >>> import tempfile
    >>> verify(tempfile.mkdtemp()).outcome
    'none'
    """
    is_classifier = holds_classifier(folder)
    try:
        certificate = certificate_of(folder)
        if certificate is None and not is_classifier:
            return Verification("none", f"{str(folder)!r} holds no saved classifier; give a folder that save wrote")
        if certificate is None:
            return Verification("none", f"{str(folder)!r} has no certificate; certify makes one")
        signed_by = check_signature(certificate, public_key)
    except CertificateError as error:
        return Verification.of_broken(error)
    fault = record_fault(certificate, folder)
    if fault is not None:
        return Verification("broken", fault, certificate, signed_by)
    fault = page_fault(certificate, folder)
    if fault is not None and certificate.content.llmclf == version("llmclf"):
        return Verification("broken", fault, certificate, signed_by)
    pipeline = load_pipeline(
        folder,
        check_model=False,
        model_options=model_options,
        embedding_options=embedding_options,
        trust=trust,
    )
    rows = None if X is None else read_rows(X, keep_bad=True)
    found = verification(certificate, pipeline, rows, signed_by)
    return found if fault is None else replace(found, message=f"{found.message}; {fault}")


def _read(
    folder: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None,
    check_model: bool,
    model_options: Mapping[str, Any] | None,
    embedding_options: Mapping[str, Any] | None,
    trust: bool,
) -> tuple[Mapping[str, Any], FittedPipeline]:
    """Number and names of the columns of a saved classifier, and its pipeline."""
    values = read_folder(folder)
    _check_version(folder, values)
    embeddings = _embeddings(folder, values.get("features"), cache, embedding_options, trust)
    try:
        columns = _columns(values)
        pipeline = FittedPipeline.from_dict(
            values,
            model_options=model_options,
            cache=cache,
            check_model=check_model,
            embeddings=embeddings,
            trust=trust,
        )
        if pipeline.features is not None and pipeline.corrections.calibrator is None:
            raise InputError("it reads features, and has no pool that learned from them")
    except SavedAddressError:
        raise
    except _DAMAGE as error:
        if isinstance(error, (ModelNameError, UnknownOptionError)) and isinstance(values.get("model"), str):
            raise  # the folder is sound; its model is not on this machine
        raise damaged(folder, _reason(error)) from error
    return columns, replace(pipeline, folder=os.path.abspath(os.path.expanduser(folder)))


def _check_version(folder: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Refuse a folder of a version that writes other values or asks other questions."""
    form, scores = values.get("format"), values.get("score_version")
    if not is_whole_number(form) or not is_whole_number(scores):
        raise damaged(folder, f"format={form!r}, score_version={scores!r}; expected whole numbers")
    if form in FORMATS and scores == SCORE_VERSION:
        return
    is_newer = form > max(FORMATS) or scores > SCORE_VERSION
    cure = "update llmclf, or fit and save it again" if is_newer else "fit and save it again"
    raise StoreError(
        f"{str(folder)!r} was written by {'a newer' if is_newer else 'an older'} version of llmclf (format {form}, score "
        f"version {scores}; this one reads formats {listed(map(str, FORMATS))}, score version {SCORE_VERSION}); {cure}"
    )


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Number and names of the columns, as scikit-learn notes them."""
    number, names = values["n_features_in"], values["feature_names_in"]
    if number is not None and not is_whole_number(number, 1):
        raise InputError(f"n_features_in={number!r}; expected a whole number or null")
    if names is not None and len(checked_names(names, "feature_names_in")) != number:
        raise InputError(f"feature_names_in={names!r}; expected {number} names")
    if values["is_table"] is True and values["field_names"] == [TEXT_FIELD] and number is None:
        raise InputError(
            f"is_table=True, field_names={[TEXT_FIELD]!r}, n_features_in=None; texts have these, and no table"
        )
    return {"n_features_in": number, "feature_names_in": names}


def _embeddings(
    folder: str | os.PathLike[str],
    features: Any,
    cache: str | os.PathLike[str] | None,
    options: Mapping[str, Any] | None,
    trust: bool,
) -> list[Embeddings]:
    """The embeddings among saved features; nothing goes where the folder alone says."""
    _embeddings_as_saved(folder, features)  # so that errors below are those of the options
    try:
        found = saved_embeddings(features, cache, options, trust=trust)
    except SavedAddressError as error:
        cure = f"load(folder, trust=True), or load(folder, embedding_options={error.words!r})"
        raise SavedAddressError(error.problem, cure, error.words, "embeddings") from None
    if options and not found:
        raise UnknownOptionError(
            f"the classifier in {os.fspath(folder)!r} has no embeddings, so nothing takes embedding_options={dict(options)!r} "
            "(--embedding-option); leave them out"
        )
    return found


def _embeddings_as_saved(folder: str | os.PathLike[str], features: Any) -> list[Embeddings]:
    """The embeddings among saved features; nobody may ask their servers."""
    try:
        return saved_embeddings(features, trust=True)
    except _DAMAGE as error:
        if isinstance(error, (ModelNameError, UnknownOptionError)):
            raise  # the folder is sound, as above
        raise damaged(folder, _reason(error)) from error


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, LlmclfError) else repr(error)
