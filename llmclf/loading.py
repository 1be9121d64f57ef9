"""Reading saved classifiers. A folder may come from anybody: nothing in it is executed, and no key goes where it alone says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .backends import Backend
from .backends.base import BehindServer
from .backends.http.options import check_saved_address
from .backends.requests import SCORE_VERSION
from .classifier import LLMClassifier
from .errors import ModelNameError, StoreError, UnknownOptionError
from .features.sets import saved_embeddings
from .pipeline import FORMAT, FittedPipeline
from .saved_folder import read_folder


def load(
    folder: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    check_model: bool = True,
    model_options: Mapping[str, Any] | None = None,
    embedding_options: Mapping[str, Any] | None = None,
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
        Options of the model's backend that replace the saved ones: the ``base_url`` of a server that has moved, say. A key is
        sent to a saved address on another machine only if ``api_key_env`` names its variable here: a folder may come from
        anybody.
    embedding_options : mapping, optional
        The same for the server of the classifier's `Embeddings`.

    Raises
    ------
    StoreError
        The folder holds no saved classifier, or one that cannot be read.

    Examples
    --------
    >>> load("no/such/folder")
    Traceback (most recent call last):
    ...
    llmclf.errors.StoreError: 'no/such/folder' holds no saved classifier (no classifier.json); give a folder that save wrote
    """
    columns, pipeline = _read(folder, cache, check_model, model_options, embedding_options)
    return LLMClassifier.from_pipeline(pipeline, **columns)


def load_pipeline(
    folder: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    check_model: bool = True,
    model_options: Mapping[str, Any] | None = None,
    embedding_options: Mapping[str, Any] | None = None,
) -> FittedPipeline:
    """Read the pipeline of a classifier that `LLMClassifier.save` wrote, without the estimator around it.

    Parameters
    ----------
    folder, cache, check_model, model_options, embedding_options : as `load` has them

    Raises
    ------
    StoreError
        As `load`.
    """
    return _read(folder, cache, check_model, model_options, embedding_options)[1]


def _read(
    folder: str | os.PathLike[str],
    cache: str | os.PathLike[str] | None,
    check_model: bool,
    model_options: Mapping[str, Any] | None,
    embedding_options: Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any], FittedPipeline]:
    """Number and names of the columns of a saved classifier, and its pipeline."""
    values = read_folder(folder)
    if (values.get("format"), values.get("score_version")) != (FORMAT, SCORE_VERSION):
        raise StoreError(f"{str(folder)!r} was written by another version of llmclf; fit and save it again")
    # Refuses to send a key where the folder alone says, which is no damage.
    embeddings = saved_embeddings(values.get("features"), cache, embedding_options)
    try:
        n_columns = values["n_features_in"]
        columns = {
            "n_features_in": None if n_columns is None else int(n_columns),
            "feature_names_in": values["feature_names_in"],
        }
        pipeline = FittedPipeline.from_dict(
            values, model_options=model_options, cache=cache, check_model=check_model, embeddings=embeddings
        )
    except (ModelNameError, UnknownOptionError):
        raise  # the folder is sound; its model is not on this machine
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"the classifier in {str(folder)!r} is damaged: {error!r}") from error
    _check_key(pipeline.backend, values["model_options"], model_options or {})
    return columns, pipeline


def _check_key(backend: Backend, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to send a key to an address that a folder alone names."""
    if isinstance(backend, BehindServer):
        name = backend.server_options.api_key_env
        check_saved_address(
            backend.server_options,
            saved,
            given,
            what="the saved classifier",
            cure=f"load(folder, model_options={{'api_key_env': {name!r}}})",
        )
