"""`llmclf certify`, `llmclf verify` and `llmclf recalibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError, NotCertifiedError
from ...tables.predictions import read_number
from ..classify import labelled_column
from ..console import say, say_aside, say_json
from ..flags import EmbeddingOption, embedding_options, takes_model_options
from ..options import (
    CacheOption,
    ClusterColumn,
    Delimiter,
    Encoding,
    GroupColumn,
    OnError,
    TextColumn,
    Trust,
    UnescapeFormulas,
    column,
    cured_by_flags,
    open_cache,
)

if TYPE_CHECKING:
    from ...classifier import LLMClassifier

NOT_CERTIFIED = 3
"""With which certify ends if the rows do not show what was to be promised."""

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a saved classifier.")]
Labelled = Annotated[
    Path,
    typer.Argument(
        metavar="LABELLED",
        help="Rows with their true classes, drawn at random from the rows to come: .csv, .tsv, .jsonl or .parquet.",
    ),
]
LabelColumn = Annotated[str, typer.Option(metavar="COLUMN", help="The column that holds the true class of every row.")]
InclusionColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="With what probability each row was drawn. Default: all with the same."),
]


@takes_model_options
def certify(
    *,
    folder: Folder,
    labelled: Labelled,
    label_column: LabelColumn,
    max_error: Annotated[
        float, typer.Option(metavar="SHARE", help="Promise that at most this share of accepted rows is wrong.")
    ],
    text_column: TextColumn = None,
    confidence: Annotated[float, typer.Option(help="Confidence of the promise and of all intervals.")] = 0.95,
    threshold: Annotated[
        str,
        typer.Option(
            metavar="fitted|selected",
            help="Judge the threshold that the classifier has, or choose the lowest one that these rows allow, which pays for "
            "having tried all, and keep it in the folder.",
        ),
    ] = "fitted",
    group_column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Look at each value of this column by itself; may be given again."),
    ] = None,
    cluster_column: ClusterColumn = None,
    inclusion_column: InclusionColumn = None,
    canary: Annotated[
        str,
        typer.Option(
            metavar="texts|hashes",
            help="Keep 50 rows as they are, or their hashes alone. With hashes, verify needs the same rows again (--rows).",
        ),
    ] = "texts",
    expires: Annotated[
        str,
        typer.Option(
            metavar="DAYS|DATE|never",
            help="After how many days, or on which date, it expires: with the last second of that date, UTC.",
        ),
    ] = "365",
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Sign with this private Ed25519 key (PEM or OpenSSH), which is read and nothing else."
        ),
    ] = None,
    key_password_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="The environment variable that holds the key's password.")
    ] = None,
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    embedding_option: EmbeddingOption = None,
    trust: Trust = False,
    cache: CacheOption = None,
    on_error: OnError = "raise",
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Promise that few accepted rows will be wrong, if labelled rows that nothing was fitted on show it.

    Writes certificate.json, certificate.html and the judged rows' probabilities into the folder. Exit codes: 0 it is certified, 3
    the rows do not show it (the message says what they show), 2 the rows or an argument cannot be used, 1 anything else.
    Copies of a text count as one row.

    \b
    Example:
      llmclf certify moods fresh.csv --text-column review --label-column mood --max-error 0.1
    """
    frame = _table(labelled, delimiter, encoding, unescape_formulas)
    y = labelled_column(frame, label_column)
    slices = {name: column(frame, name, "--group-column").tolist() for name in group_column or []}
    clusters = None if cluster_column is None else column(frame, cluster_column, "--cluster-column").tolist()
    clf = _classifier(folder, cache, backend_options, embedding_option, trust, on_error)
    try:
        certificate = clf.certify(
            _rows(clf, frame, text_column, label_column),
            y,
            max_error=max_error,
            confidence=confidence,
            threshold=threshold,
            groups=slices or None,
            clusters=clusters,
            inclusion=_inclusion(frame, inclusion_column),
            folder=folder,
            canary=canary,
            expires=_expires(expires),
            key=key,
            key_password_env=key_password_env,
        )
    except NotCertifiedError as error:
        say_aside(str(error), "error:", "bold red")
        raise SystemExit(NOT_CERTIFIED) from None
    from ...certificates.page import promise

    broken = [part for part in certificate.content.parts if part.finding == "broken"]
    say(promise(certificate))
    say(
        f"certificate {certificate.id}, {'not signed' if certificate.signature is None else 'signed'}; written to "
        f"{folder / 'certificate.json'} and {folder / 'certificate.html'}"
    )
    for part in broken:
        say_aside(f"more are wrong where {part.partition} is {part.name!r}; see the page", "warning:", "yellow")


@takes_model_options
def verify(
    *,
    folder: Folder,
    public_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The public Ed25519 key (PEM or OpenSSH) that must have signed. Without it a signature shows that nothing was "
            "changed since, and not who signed.",
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE", help="The rows that were certified on, if the certificate keeps hashes of its canary rows."
        ),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of that table that holds the texts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a sentence.")] = False,
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    embedding_option: EmbeddingOption = None,
    trust: Trust = False,
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Say whether a classifier is still the one that was certified; its model is asked about 50 rows.

    Exit codes: 0 the same model, all scores the same to 1e-6; 3 the same within the noise of its route; 4 another model; 5 the
    certificate has expired; 6 the classifier's files have changed; 7 the certificate is broken; 8 its signature is wrong, of
    another key or absent; 9 there is no certificate; 1 the model cannot be asked; 2 an argument is wrong, such as a FOLDER that
    does not exist.

    \b
    Example:
      llmclf verify moods
    """
    from ...loading import verify as verified

    X = None
    if rows is not None:
        frame = _table(rows, delimiter, encoding, unescape_formulas)
        X = frame if text_column is None else column(frame, text_column, "--text-column")
    with cured_by_flags():
        found = verified(
            folder,
            public_key=public_key,
            X=X,
            model_options=backend_options,
            embedding_options=embedding_options(embedding_option),
            trust=trust,
        )
    if as_json:
        say_json(json.dumps(found.to_dict()))
    elif found.exit_code in (0, NOT_CERTIFIED):
        say(found.message)
    else:
        say_aside(found.message, f"{found.outcome}:", "bold red")
    if found.exit_code:
        raise SystemExit(found.exit_code)


@takes_model_options
def recalibrate(
    *,
    folder: Folder,
    labelled: Labelled,
    label_column: LabelColumn,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="Where the classifier is saved; the same folder will do."
        ),
    ],
    text_column: TextColumn = None,
    group_column: GroupColumn = None,
    inclusion_column: InclusionColumn = None,
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    embedding_option: EmbeddingOption = None,
    trust: Trust = False,
    cache: CacheOption = None,
    on_error: OnError = "raise",
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Put the probabilities of a saved classifier right by new labelled rows; the model is asked about these alone.

    The threshold and the certificate belonged to other probabilities and go: choose and certify anew, on other rows.

    \b
    Example:
      llmclf recalibrate moods fresh.csv --text-column review --label-column mood -o moods-again
    """
    from ...saved_folder import check_folder

    frame = _table(labelled, delimiter, encoding, unescape_formulas)
    y = labelled_column(frame, label_column)
    groups = None if group_column is None else column(frame, group_column, "--group-column")
    check_folder(output)
    clf = _classifier(folder, cache, backend_options, embedding_option, trust, on_error)
    clf.recalibrate(
        _rows(clf, frame, text_column, label_column),
        y,
        groups=groups,
        inclusion=_inclusion(frame, inclusion_column),
    )
    clf.save(output)
    say(f"recalibrated on {len(clf.calibration_rows_)} rows; saved in {output}")


def _table(path: Path, delimiter: str | None, encoding: str | None, unescape_formulas: bool | None) -> Any:
    from ...tables.files import read_table
    from ...tables.text_files import TextFormat

    return read_table(path, TextFormat(delimiter, encoding, bool(unescape_formulas)))


def _classifier(
    folder: Path,
    cache: Path | None,
    options: dict[str, Any],
    embedding_option: list[str] | None,
    trust: bool,
    on_error: str,
) -> LLMClassifier:
    from ...loading import load

    of_embeddings = embedding_options(embedding_option)
    with cured_by_flags():
        clf = load(folder, cache=cache, model_options=options, embedding_options=of_embeddings, trust=trust)
    clf.set_params(on_error=on_error)
    open_cache(cache)
    return clf


def _rows(clf: LLMClassifier, frame: Any, text_column: str | None, label_column: str) -> Any:
    """What the classifier is asked about: the texts of a column, or the table without its answers."""
    is_table = clf.pipeline_.is_table
    if is_table != (text_column is None):
        then = "a table: leave --text-column out" if is_table else "texts: name their column with --text-column"
        raise InputError(f"the classifier was fitted on {then}")
    return frame.drop(columns=label_column) if text_column is None else column(frame, text_column, "--text-column")


def _inclusion(frame: Any, name: str | None) -> Any:
    if name is None:
        return None
    values = column(frame, name, "--inclusion-column").tolist()
    return [read_number(value, name, row) for row, value in enumerate(values)]


def _expires(text: str) -> Any:
    if text == "never":
        return None
    return int(text) if text.isascii() and text.isdigit() else text
