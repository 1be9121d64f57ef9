"""`llmclf fit` and `llmclf predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..errors import InputError
from ..numerics.class_matching import as_code
from ..tables.values import is_missing, rows_named
from .console import say, say_aside
from .flags import EmbeddingOption, embedding_options, takes_model_options
from .hand_labels.flags import FitInclusionColumn
from .hand_labels.reading import read_inclusion, warn_of_unused_inclusion
from .options import (
    CacheOption,
    Chat,
    Delimiter,
    Encoding,
    GroupColumn,
    Labels,
    Model,
    OnError,
    Prefix,
    PromptOption,
    Scoring,
    TextColumn,
    Trust,
    UnescapeFormulas,
    column,
    cured_by_flags,
    open_cache,
    open_with,
    parse_features,
    parse_labels,
    parse_prompt,
)

if TYPE_CHECKING:
    from ..calibration import SelectedThreshold
    from ..classifier import LLMClassifier


@takes_model_options
def fit(
    *,
    ctx: typer.Context,
    train: Annotated[
        Path, typer.Argument(metavar="TRAIN", help="Labelled rows: a .csv, .tsv, .jsonl or .parquet file.")
    ],
    label_column: Annotated[str, typer.Option(metavar="COLUMN", help="The column that holds the class of every row.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the classifier is saved: a new folder.")
    ],
    text_column: TextColumn = None,
    group_column: GroupColumn = None,
    inclusion_column: FitInclusionColumn = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = False,
    shots: Annotated[
        int, typer.Option(min=0, help="How many labelled rows are put into every prompt as examples.")
    ] = 0,
    calibrator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How probabilities are calibrated, on the rows that are not shots: auto, temperature, "
            "bias_temperature, vector, matrix, platt, beta, isotonic, venn_abers or none.",
        ),
    ] = "auto",
    features: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="What is learned from besides the scores of the label words, on the rows that are not shots: auto, states, "
            'tfidf, "states,tfidf" or none. All is pooled; --calibrator then says how the label scores are calibrated.',
        ),
    ] = "none",
    bias: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How a preference for some labels is removed without looking at the labels of the rows: contextual, domain, "
            "generative, batch, ucpa or none.",
        ),
    ] = "none",
    scoring: Scoring = "sum",
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Choose the confidence from which rows are accepted so that at most this share of them is wrong, such as 0.05. "
            "predict then adds the column accepted. By default no threshold is chosen.",
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Confidence with which --max-error holds.")] = 0.95,
    model: Model = "smollm2",
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    cache: CacheOption = None,
    on_error: OnError = "raise",
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    seed: Annotated[int, typer.Option(help="Seed: another number draws other shots.")] = 0,
) -> None:
    """Choose shots and fit a calibrator on labelled rows, and save the classifier for predict --classifier.

    \b
    Example:
      llmclf fit train.csv --text-column review --label-column mood -o moods
    """
    from ..calibration import PooledCalibrator
    from ..calibration.selective import check_selectable
    from ..classifier import LLMClassifier
    from ..saved_folder import check_folder
    from ..tables.files import read_table
    from ..tables.text_files import TextFormat

    frame = read_table(train, TextFormat(delimiter, encoding, bool(unescape_formulas)))
    y = labelled_column(frame, label_column)
    groups = None if group_column is None else column(frame, group_column, "--group-column")
    inclusion = labelled_inclusion(frame, inclusion_column)
    X = frame.drop(columns=label_column) if text_column is None else column(frame, text_column, "--text-column")
    # Checked first: none of this should fail after hours of scoring.
    check_folder(output)
    open_cache(cache)
    if max_error is not None:
        if inclusion is not None and (inclusion != inclusion[0]).any():
            raise InputError(
                "--max-error is chosen on the rows of the fit, which must be drawn like those to be accepted, and the "
                f"probabilities in {inclusion_column!r} differ; fit without it, and choose the threshold on other rows, by "
                "report or LLMClassifier.fit_threshold(X, y, inclusion=...)"
            )
        if calibrator == features == "none":
            raise InputError("--max-error needs a calibrator, on whose cross-fitted probabilities it is chosen")
        check_selectable(max(0, len(frame) - shots), max_error, confidence)
    elif is_given(ctx, "confidence"):
        raise InputError(f"--confidence {confidence} says how sure --max-error is to hold; give --max-error as well")
    clf = LLMClassifier(
        open_with(model, backend_options),
        labels=typed_labels(parse_labels(labels), y),
        prompt=parse_prompt(prompt, chat),
        n_shots=shots,
        scoring=scoring,
        bias=None if bias == "none" else bias,
        calibrator=None if calibrator == "none" else calibrator,
        features=None if features == "none" else parse_features(features),
        cache=cache,
        on_error=on_error,
        random_state=seed,
    )
    clf.fit(X, y, groups=groups, inclusion=inclusion)
    clf.save(output)
    names = ", ".join(map(str, clf.classes_.tolist()))
    say(f"fitted on {len(frame)} rows of the classes {names}; saved in {output}")
    if isinstance(clf.calibrator_, PooledCalibrator):
        say(f"calibrator: {clf.calibrator_.name} {clf.calibrator_.choice_}")
    if max_error is not None:
        chosen = clf.fit_threshold(max_error=max_error, confidence=confidence).threshold_
        assert chosen is not None
        clf.save(output)
        say(_promise(chosen))


@takes_model_options
def predict(
    *,
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows to label: a .csv, .tsv, .jsonl or .parquet file.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="The same rows with their labels: .csv, .tsv, .jsonl or .parquet.")
    ],
    text_column: TextColumn = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = False,
    scoring: Scoring = "sum",
    model: Model = "smollm2",
    backend_options: dict[str, Any],  # typer sees the flags of the options in its place
    classifier: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder that fit saved; it stands for --labels, --prompt, --chat, --scoring and --model.",
        ),
    ] = None,
    embedding_option: EmbeddingOption = None,
    trust: Trust = False,
    cache: CacheOption = None,
    on_error: OnError = "raise",
    prefix: Prefix = None,
    escape_formulas: Annotated[
        bool,
        typer.Option(
            "--escape-formulas",
            help="Write an apostrophe before every cell of a CSV output that a spreadsheet would run as a formula.",
        ),
    ] = False,
    unescape_formulas: UnescapeFormulas = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
) -> None:
    """Add the columns label, confidence and p_CLASS (the probability of each class) to a table.

    A classifier that was fitted with --max-error also adds accepted: whether the confidence is high enough, and one that is
    certified adds certificate: the id. With --on-error missing, a row that cannot be scored has no label, and the column error
    says why.

    \b
    Example:
      llmclf predict in.csv out.csv --text-column review --labels good,bad
    """
    from ..certificates.status import NONE, certificate_status
    from ..tables.added_columns import CERTIFICATE, added_names
    from ..tables.bad_rows import named_rows
    from ..tables.endings import check_suffix
    from ..tables.files import check_writable, read_table, write_table
    from ..tables.formulas import FormulaCells
    from ..tables.text_files import TextFormat

    check_suffix(target)
    clf, certified = None, NONE
    of_embeddings = embedding_options(embedding_option, "--classifier FOLDER" if classifier is None else None)
    if classifier is not None:
        clf = saved_classifier(ctx, classifier, cache, backend_options, of_embeddings, trust)
        certified = certificate_status(clf.pipeline_)
        certified.warn()
    parsed = parse_labels(labels)
    if clf is None and parsed is None:
        raise InputError("predict needs the classes: give --labels a,b,c or --classifier FOLDER")
    frame = read_table(source, TextFormat(delimiter, encoding, bool(unescape_formulas)))
    X = frame if text_column is None else column(frame, text_column, "--text-column")
    if clf is None:
        from ..classifier import LLMClassifier

        backend = open_with(model, backend_options)
        clf = LLMClassifier(
            backend, labels=parsed, prompt=parse_prompt(prompt, chat), scoring=scoring, cache=cache, on_error=on_error
        )
        clf.fit(X)
    clf.set_params(on_error=on_error)
    classes = clf.classes_.tolist()
    kinds: dict[str, Any] = {
        "label": [classes[i % len(classes)] for i in range(len(frame))],
        "confidence": 0.5,
        **({} if clf.threshold_ is None else {"accepted": True}),
        **{f"p_{label}": 0.5 for label in classes},
        **({"error": "not asked yet"} if on_error == "missing" else {}),
        **({} if certified.id is None else {CERTIFICATE: certified.id}),
    }
    names = added_names(list(frame.columns), list(kinds), prefix=prefix, where=repr(str(source)))
    # Checked first: none of this should fail after hours of scoring.
    check_writable(frame.assign(**{names[name]: value for name, value in kinds.items()}), target)
    open_cache(cache)
    pipeline, rows = clf.pipeline_and_rows(X)
    pipeline.check_model_identity()
    answers = pipeline.scorer.answers(rows)
    scores = pipeline.scores(rows, answers)
    answers, decisions = scores.reasons(answers), pipeline.decide(scores)
    values: dict[str, Any] = {
        "label": decisions.label,
        "confidence": decisions.confidence,
        "accepted": decisions.accepted,
        **{f"p_{label}": column for label, column in zip(classes, decisions.probabilities.T, strict=True)},
        "error": [answer.error for answer in answers],
        CERTIFICATE: certified.id,
    }
    formulas = FormulaCells(escape_formulas)
    write_table(frame.assign(**{new: values[name] for name, new in names.items()}), target, formulas=formulas)
    formulas.warn(repr(str(target)))
    n_failed = int(decisions.missing.sum())
    if n_failed:
        reasons = {number: answer.error for number, answer in enumerate(answers) if answer.error is not None}
        say_aside(f"{n_failed} of {len(frame)} rows could not be scored ({named_rows(reasons)})", "warning:", "yellow")
    say(f"labelled {len(frame) - n_failed}{f' of {len(frame)}' if n_failed else ''} rows; written to {target}")


def labelled_column(frame: Any, name: str) -> Any:
    """The column of the classes, which every row must have."""
    y = column(frame, name, "--label-column")
    empty = [row for row, value in enumerate(y) if is_missing(value) or (isinstance(value, str) and not value.strip())]
    if empty:
        raise InputError(f"--label-column {name!r} is empty in {rows_named(empty)}; drop the rows without a label")
    return y


def labelled_inclusion(frame: Any, name: str | None) -> Any:
    """The inclusion probabilities (n,) in the column `name`, of rows that are all labelled; None without one.

    Raises
    ------
    InputError

    Warns
    -----
    EstimationWarning
        There is such a column, and no name.
    """
    from ..metrics import inclusion_weights

    rows = np.arange(len(frame))
    warn_of_unused_inclusion(frame, name, rows)
    if name is None:
        return None
    inclusion = read_inclusion(frame, name, rows)
    inclusion_weights(inclusion, len(frame))
    return inclusion


def saved_classifier(
    ctx: typer.Context,
    folder: Path,
    cache: Path | None,
    options: dict[str, Any],
    of_embeddings: dict[str, Any],
    trust: bool,
) -> LLMClassifier:
    """The classifier of a folder, unless options were given that it would ignore."""
    for name in ("labels", "prompt", "chat", "scoring", "model"):
        if is_given(ctx, name):
            raise InputError(f"--{name} belongs to a new classifier; --classifier {str(folder)!r} has its own")
    from ..loading import load

    with cured_by_flags():
        return load(folder, cache=cache, model_options=options, embedding_options=of_embeddings, trust=trust)


def is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _promise(chosen: SelectedThreshold) -> str:
    """The effect of the threshold, in one line."""
    budget = f"at most {100 * chosen.max_error:.4g} % of them wrong ({100 * chosen.confidence:.4g} % confidence"
    if not chosen.n_accepted:
        return f"accepts no rows: at no confidence are {budget})"
    share = f"{100 * chosen.coverage:.3g} % of {chosen.n_rows}"
    return f"accepts rows from confidence {chosen.threshold:.4g} on: {share}, {budget}, approximately, as cross-fitted)"


def typed_labels(labels: dict[str, list[str]] | None, y: Any) -> dict[Any, list[str]] | None:
    """Labels as the table has them: a JSONL file may hold the number 1 where a command line can only say "1"."""
    if labels is None:
        return None
    codes = {name: as_code(name) for name in labels}
    values = [as_code(value) for value in y if not isinstance(value, str)]
    are_truths = {isinstance(value, bool) for value in (*values, *codes.values())}
    if len(values) < len(y) or None in (*values, *codes.values()) or len(are_truths) > 1:
        return labels
    return {codes[name]: words for name, words in labels.items()}
