"""What a certificate says, as values of JSON: each field once, with its type, from which the schema follows."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_serializer,
    model_validator,
)

FORMAT = 2
"""Of certificates; another number is another version's."""

ClassValue = StrictBool | StrictInt | StrictFloat | StrictStr
Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def moment(text: str) -> datetime:
    """The time that a certificate writes, with its time zone.

    Raises
    ------
    ValueError
        It is no time, or has no time zone.

    Examples
    --------
    >>> moment("2026-11-30T12:00:00+00:00").isoformat()
    '2026-11-30T12:00:00+00:00'
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return time


def _is_moment(text: str) -> str:
    moment(text)
    return text


Moment = Annotated[str, AfterValidator(_is_moment)]


class Record(BaseModel):
    """Values of JSON that are checked, all of them, and never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Estimate(Record):
    """A share and its interval; all are null where there is no row to tell."""

    value: Share | None
    low: Share | None
    high: Share | None


class Classifier(Record):
    """Which classifier was judged."""

    sha256: Annotated[Hash, Field(description="Of the file classifier.json, which names its arrays by their hashes.")]
    pipeline_sha256: Annotated[Hash, Field(description="Of all that it decides by, wherever its model is reached.")]
    classes: Annotated[list[ClassValue], Field(min_length=2)]
    words: list[list[str]]
    prompt: dict[str, Any]
    n_shots: Count
    scoring: str
    processing: dict[str, Any] | None
    bias: str | None
    calibrator: str | None
    recalibration: str | None
    prior: Annotated[bool, Field(description="Whether its probabilities were moved to other class frequencies.")]
    features: list[str]
    n_calibration_rows: Count


class JudgedRows(Record):
    """Which rows judged it."""

    sha256: Annotated[Hash, Field(description="Of what the classifier read of the rows, with their classes.")]
    n: Count
    n_groups: Annotated[Count, Field(description="Of rows that belong together, copies of a text among them.")]
    n_unscored: Annotated[Count, Field(description="Rows without a probability, which are never accepted.")]
    n_undecided: Count
    is_grouped: Annotated[bool, Field(description="Whether some rows belong together.")]
    is_uneven: Annotated[bool, Field(description="Whether rows were drawn with different probabilities.")]
    n_even: Annotated[Count, Field(description="Those of them that count as drawn with the same probability.")]


class Guarantee(Record):
    """What is promised of future rows that are accepted."""

    max_error: OpenShare
    confidence: OpenShare
    threshold: Annotated[Share, Field(description="Rows at least as confident are accepted.")]
    threshold_from: Annotated[
        Literal["before", "these rows"], Field(description="Whether it was there before, or chosen on the judged rows.")
    ]
    n_accepted: Annotated[Count, Field(description="Accepted rows that the bound rests on.")]
    n_wrong: Count
    error: Share
    error_bound: Annotated[Share, Field(description="At most this share of future accepted rows is wrong.")]
    coverage: Annotated[Estimate, Field(description="The share of all rows that is accepted.")]


class CalibrationTest(Record):
    """Whether a calibrated model could have given these probabilities."""

    error: float
    null_mean: float
    p_value: Share


class Part(Record):
    """A class, by what was predicted, or a group of rows."""

    partition: Annotated[str, Field(description="'predicted class', or the name of a partition into groups.")]
    name: str
    n_rows: Count
    n_accepted: Count
    n_wrong: Count
    error: Annotated[Estimate, Field(description="Of accepted rows; the intervals of all parts hold together.")]
    coverage: Estimate
    p_value: Annotated[
        Share | None, Field(description="Against 'more are wrong than promised', corrected for the number of parts.")
    ]
    finding: Annotated[
        Literal["kept", "open", "broken"],
        Field(description="Whether the rows show that the promise is kept there, that it is broken, or neither."),
    ]


class Canary(Record):
    """Rows whose scores tell the model from another one."""

    kind: Literal["texts", "hashes"]
    rows: Annotated[list[dict[str, Any]] | None, Field(description="What the classifier reads of them.")]
    hashes: list[Hash]
    scores: Annotated[list[list[float | None]], Field(description="Log-scores of the classes; null is minus infinity.")]
    probabilities: list[list[Share]]
    score_noise: Annotated[float, Field(ge=0, description="How far the scores moved when the model was asked again.")]
    probability_noise: Annotated[float, Field(ge=0)]
    lower: Annotated[
        list[list[float | None]] | None,
        Field(
            description="Bounds on the scores, where a server shows no more; null is minus infinity. Absent where all are exact."
        ),
    ] = None
    upper: Annotated[
        list[list[float | None]] | None,
        Field(description="Null is plus infinity, or minus infinity where the score is."),
    ] = None

    @model_serializer(mode="wrap")
    def _without_absent(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without bounds nothing is written of them."""
        return {
            name: value for name, value in values(self).items() if name not in ("lower", "upper") or value is not None
        }

    @model_validator(mode="after")
    def _is_one_table(self) -> Self:
        tables = [one for one in (self.scores, self.probabilities, self.lower, self.upper) if one is not None]
        lengths = {len(self.hashes), *(len(one) for one in tables)}
        widths = {len(row) for one in tables for row in one}
        if (self.lower is None) != (self.upper is None):
            raise ValueError("it has bounds on one side alone")
        lengths |= set() if self.rows is None else {len(self.rows)}
        if len(lengths) != 1 or len(widths) != 1 or (self.rows is None) != (self.kind == "hashes"):
            raise ValueError("its rows, hashes, scores and probabilities do not belong together")
        return self


class Reference(Record):
    """The file with what each judged row got."""

    file: Annotated[str, Field(pattern=r"^certificate-[0-9a-f]{32}\.npy$")]
    sha256: Hash


class Attempts(Record):
    """How often rows were judged for this folder; see `llmclf.certificates.attempts`."""

    n: Annotated[int, Field(ge=1, description="All that are known, this one included.")]
    n_not_shown: Annotated[Count, Field(description="Earlier ones that did not show what was asked.")]
    n_sharing: Annotated[
        Count, Field(description="Earlier judgements on rows that this one has, too, or shares with others.")
    ]
    spent: Annotated[Share, Field(description="With what probability these may promise too much.")]
    level: Annotated[OpenShare, Field(description="With what probability this one may: that was left to it.")]
    n_judged_before: Annotated[
        Count, Field(description="Rows that were judged before and therefore count as wrong where they are accepted.")
    ]
    confidence_of_all: Annotated[
        Share,
        Field(description="That neither this nor an earlier attempt that failed, on whatever rows, promised too much."),
    ]
    record: Annotated[list[Hash], Field(description="Of each attempt in the file certificate-attempts.json.")]


class Content(Record):
    """All that a certificate says, and its signature is about."""

    format: Literal[2]
    llmclf: str
    issued: Moment
    expires: Moment | None
    classifier: Classifier
    model: dict[str, Any]
    rows: JudgedRows
    guarantee: Guarantee
    calibration: CalibrationTest
    parts: list[Part]
    n_statements: Annotated[Count, Field(description="How many statements on parts hold together.")]
    assumptions: list[str]
    canary: Canary
    reference: Reference
    attempts: Attempts

    @model_validator(mode="after")
    def _is_about_one_classifier(self) -> Self:
        n_classes = len(self.classifier.classes)
        if len(self.classifier.words) != n_classes or len(self.canary.probabilities[0]) != n_classes:
            raise ValueError(f"it has {n_classes} classes, and words or probabilities of another number")
        return self


class Signature(Record):
    """Who says so."""

    algorithm: Literal["Ed25519"]
    public_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    value: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


class File(Record):
    """The file certificate.json."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="The beginning of sha256.")]
    sha256: Annotated[Hash, Field(description="Of the content as JSON with sorted keys and without spaces.")]
    content: Content
    signature: Signature | None


def schema() -> dict[str, Any]:
    """The JSON schema of ``certificate.json``, which lies beside this module as ``certificate.schema.json``.

    Examples
    --------
    >>> schema()["required"]
    ['id', 'sha256', 'content', 'signature']
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **File.model_json_schema()}
