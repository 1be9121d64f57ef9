"""A labelling job as a file: the same names as the flags of `llmclf label`, in TOML, checked before anything is read.

`JobFile` says what a job is told, once: a key's type in a file and its flag on the command line. What a server is told comes from
the options of the backends.
"""

from __future__ import annotations

import os
import re
import reprlib
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ..backends.options import OptionField
from ..errors import InputError, RenamedWarning, warn
from ..files.bounded_json import MOST_LEVELS
from ..files.faults import file_fault
from .flags import server_options, value_type
from .options import Delimiter, Encoding, Labels, Prefix, PromptOption, TextColumn, UnescapeFormulas

_MOST_BYTES = 1_000_000  # of a job file
_TOML_MARK = re.compile(r"[\"'#.\n=,{}\[\]]")
_TOML_SKIPPED = re.compile(  # a comment, or a text of each kind
    r'#[^\n]*+|"{3}(?:[^"\\]|\\.|"(?!""))*+"{3,5}|"(?:[^"\\\n]|\\.)*+"'
    r"|'{3}(?:[^']|'(?!''))*+'{3,5}|'[^'\n]*+'",
    re.DOTALL,
)
Words = list[str] | str
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Flag:
    """How a key is given on the command line: annotations for typer; None where a command does not have it."""

    label: Any
    estimate: Any = None


def _both(annotation: Any) -> Flag:
    return Flag(annotation, annotation)


def _path(text: str) -> Any:
    return Annotated[Path | None, typer.Option(metavar="FILE", help=text)]


def _switch(name: str, text: str) -> Any:
    return Annotated[bool | None, typer.Option(name, help=text)]


class JobFile(BaseModel):
    """What a labelling job is told, besides what its server is told."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input: Annotated[
        str | None,
        _both(
            Annotated[
                str | None,
                typer.Argument(
                    metavar="INPUT",
                    help="Rows to label: a .csv, .tsv, .jsonl or .parquet file, a folder of them, a Delta table, a pattern in "
                    "quotes, an address such as 's3://bucket/reviews.csv', or an SQL table such as 'postgresql+psycopg://host/db?table=reviews'.",
                ),
            ]
        ),
    ] = None
    output: Annotated[
        str | None,
        Flag(
            Annotated[
                str | None,
                typer.Argument(
                    metavar="OUTPUT",
                    help="The same rows with their labels: a file, a folder (a file per input file), a Delta table (NAME.delta), "
                    "the address of an object store, or an SQL table.",
                ),
            ]
        ),
    ] = None
    id_column: Annotated[
        str | None,
        _both(
            Annotated[
                str | None,
                typer.Option(
                    metavar="COLUMN",
                    help="The column whose values tell rows apart; none may be missing, and no two may be equal.",
                ),
            ]
        ),
    ] = None
    shard: Annotated[
        str | None,
        _both(
            Annotated[
                str | None,
                typer.Option(
                    metavar="I/N",
                    help="Only the rows of part I of N (1/8 to 8/8), by a hash of their ids: each machine takes one, with a "
                    "journal of its own; see journal merge.",
                ),
            ]
        ),
    ] = None
    text_column: Annotated[str | None, _both(TextColumn)] = None
    labels: Annotated[str | list[str] | dict[str, Words] | None, _both(Labels)] = None
    prompt: Annotated[str | None, _both(PromptOption)] = None
    chat: Annotated[bool | None, _both(_switch("--chat", "Ask through the model's chat template."))] = None
    scoring: Annotated[
        str | None,
        _both(
            Annotated[
                str | None, typer.Option(metavar="NAME", help="sum (the default), mean, bytes or pmi; see predict.")
            ]
        ),
    ] = None
    model: Annotated[
        str | None,
        _both(
            Annotated[
                str | None,
                typer.Option(
                    metavar="MODEL",
                    help="smollm2 (the default), hf:org/name[@revision], hf:FOLDER, gguf:FILE, or a server's: openai:NAME, "
                    "anthropic:NAME, gemini:NAME, mistral:NAME, ollama:NAME (and other providers), systemone:NAME, "
                    "decisions:NAME.",
                ),
            ]
        ),
    ] = None
    model_options: dict[str, Any] = Field(default_factory=dict)
    classifier: Annotated[
        str | None,
        _both(
            Annotated[
                str | None,
                typer.Option(
                    metavar="FOLDER",
                    help="A folder that fit saved: its model, prompt, labels, calibrator and threshold. If labels, prompt "
                    "or model are given too, they must be the same.",
                ),
            ]
        ),
    ] = None
    embedding_options: dict[str, Any] = Field(default_factory=dict)
    threshold: Annotated[
        float | None,
        Field(ge=0),
        Flag(
            Annotated[
                float | None,
                typer.Option(
                    min=0.0,
                    help="Rows at least as confident are marked as accepted. Default: the classifier's own threshold.",
                ),
            ]
        ),
    ] = None
    journal: Annotated[
        str | None,
        Flag(
            _path("Where answers are kept as they come. Default: OUTPUT and '.journal'."),
            _path("A job's journal: what it has answered is not counted."),
        ),
    ] = None
    resume: Annotated[
        bool, Flag(_switch("--resume", "Go on with the journal if there is one: nothing that it holds is asked again."))
    ] = False
    retry_failed: Annotated[
        bool, Flag(_switch("--retry-failed", "Go on with the journal, and ask again what failed."))
    ] = False
    max_errors: Annotated[
        int | None,
        Field(ge=0),
        Flag(
            Annotated[int | None, typer.Option(min=0, metavar="N", help="Stop once more than N questions have failed.")]
        ),
    ] = None
    logprobs: Annotated[bool, Flag(_switch("--logprobs", "Add logprob_CLASS, the score of each class, in nats."))] = (
        False
    )
    audit: Annotated[
        Count | None,
        Flag(
            Annotated[
                int | None,
                typer.Option(
                    min=1,
                    metavar="N",
                    help="Mark N rows to be labelled by hand, drawn with known probabilities: adds audit, audit_inclusion and "
                    "audit_stratum.",
                ),
            ]
        ),
    ] = None
    audit_goal: Annotated[
        Literal["share", "threshold", "calibration", "accuracy"] | None,
        Flag(
            Annotated[
                str | None,
                typer.Option(
                    metavar="share|threshold|calibration|accuracy",
                    help="With --audit: what the labels by hand are for. Default: share.",
                ),
            ]
        ),
    ] = None
    audit_seed: Annotated[
        int | None,
        Field(ge=0),
        Flag(
            Annotated[
                int | None, typer.Option(min=0, metavar="N", help="With --audit: decides which rows. Default: 0.")
            ]
        ),
    ] = None
    prefix: Annotated[str | None, _both(Prefix)] = None
    if_exists: Annotated[
        Literal["fail", "replace", "append", "merge-on-id"] | None,
        Flag(
            Annotated[
                str | None,
                typer.Option(
                    metavar="fail|replace|append|merge-on-id",
                    help="What becomes of an output that is there and is not this job's own. append and merge-on-id keep its "
                    "rows; one with the id of a row of the table is an error, or replaced. Default: fail.",
                ),
            ]
        ),
    ] = None
    escape_formulas: Annotated[
        bool,
        Flag(
            _switch(
                "--escape-formulas",
                "Write an apostrophe before every cell of a CSV output that a spreadsheet would run as a formula.",
            )
        ),
    ] = False
    unescape_formulas: Annotated[bool, _both(UnescapeFormulas)] = False
    delimiter: Annotated[str | None, _both(Delimiter)] = None
    encoding: Annotated[str | None, _both(Encoding)] = None
    summary: Annotated[str | None, Flag(_path("Write what the job did, in numbers, as JSON, however it ends."))] = None
    log_format: Annotated[
        Literal["text", "json"] | None,
        Flag(
            Annotated[
                str | None,
                typer.Option(
                    metavar="text|json",
                    help="json: standard error has one JSON object a line, and nothing else. Default: text.",
                ),
            ]
        ),
    ] = None
    log_every: Annotated[
        float | None,
        Field(gt=0),
        Flag(
            Annotated[
                float | None,
                typer.Option(
                    metavar="SECONDS", help="With --log-format json: how often progress is logged. Default: 10."
                ),
            ]
        ),
    ] = None
    heartbeat: Annotated[
        str | None, Flag(_path("Replace this file every few seconds by one that says, as JSON, how far the job is."))
    ] = None
    metrics_port: Annotated[
        str | int | None,
        Flag(
            Annotated[
                str | None,
                typer.Option(
                    metavar="[HOST:]PORT", help="Serve metrics for Prometheus there. Default of HOST: 127.0.0.1."
                ),
            ]
        ),
    ] = None
    batch_api: Annotated[
        bool,
        Flag(
            _switch(
                "--batch-api",
                "Ask through the provider's batches, which take up to a day and often cost half; for models openai:NAME and "
                "others that speak its protocols, and for anthropic:NAME.",
            )
        ),
    ] = False
    ray: Annotated[
        str | None,
        Flag(
            Annotated[
                str | None,
                typer.Option(
                    metavar="ADDRESS",
                    help="Ask by the actors of a Ray cluster: 'local', 'auto' (the cluster of this machine) or HOST:PORT.",
                ),
            ]
        ),
    ] = None
    actors: Annotated[
        Count | None,
        Flag(
            Annotated[
                int | None, typer.Option(min=1, help="With --ray: how many actors, each with a model. Default: 2.")
            ]
        ),
    ] = None
    actor_gpus: Annotated[
        float | None,
        Field(ge=0),
        Flag(Annotated[float | None, typer.Option(min=0.0, help="With --ray: GPUs of each actor. Default: 0.")]),
    ] = None

    @property
    def options(self) -> dict[str, Any]:
        """Options of the model's backend."""
        values = self.model_dump(include=set(server_options()), exclude_none=True)
        twice = sorted(set(values) & set(self.model_options))
        if twice:
            raise InputError(f"{twice[0]!r} is given twice: by itself and as an option of the model; leave one out")
        return {**self.model_options, **values}


def _key_of(field: OptionField) -> tuple[Any, None]:
    kind, option = value_type(field), field.option
    if isinstance(typing.get_origin(kind), type) and issubclass(typing.get_origin(kind), Mapping):
        kind = dict[typing.get_args(kind)]  # type: ignore[misc]
    return Annotated[kind | None, Field(ge=option.least, gt=option.above, le=option.most)], None


_server_keys: dict[str, Any] = {name: _key_of(field) for name, field in server_options().items()}
JobConfig: type[JobFile] = create_model(
    "JobConfig",
    __base__=JobFile,
    __doc__="""What a labelling job is told; see `llmclf label --help` for what each means.

    Examples
    --------
    >>> JobConfig(input="in.csv", output="out.csv", labels="good,bad").labels
    'good,bad'
    """,
    __module__=__name__,
    **_server_keys,
)


def read_config(path: str | os.PathLike[str] | None, flags: Mapping[str, Any]) -> JobFile:
    """A job file with flags over it.

    Parameters
    ----------
    path : path or None
        None: the flags alone.
    flags : mapping
        Those that are not None replace what the file says.

    Returns
    -------
    JobFile
        A `JobConfig`.

    Raises
    ------
    InputError
        The file cannot be read, has a key that no job has, or a value that does not fit; the message names both.

    Warns
    -----
    RenamedWarning
        A key has its name of an earlier version.

    Examples
    --------
    >>> read_config(None, {"input": "in.csv", "rpm": 0})
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: rpm=0: input should be greater than or equal to 1
    """
    values: dict[str, Any] = {}
    where = "" if path is None else f"the job file {str(path)!r}: "
    if path is not None:
        file = Path(path).expanduser()
        fault = file_fault(file) if file.is_file() and file.stat().st_size else None
        if fault is not None:
            raise InputError(f"the job file {str(path)!r} {fault}")
        try:
            values = _read_toml(file)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the job file {str(path)!r} cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"the job file {str(path)!r} is not TOML: {error}") from error
        except ValueError as error:
            raise InputError(f"the job file {str(path)!r} cannot be read: {error}") from error
        _rename_calibrator(values, f"{where}the key calibrator is now called classifier")
    given = {name: value for name, value in flags.items() if value is not None}
    _rename_calibrator(given, "--calibrator FOLDER is now called --classifier FOLDER")
    try:
        return JobConfig.model_validate({**values, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(JobConfig.model_fields))
            raise InputError(f"{where}unknown key {name!r}; known: {known}") from None
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise InputError(f"{where}{name}={reprlib.repr(first['input'])}: {message}") from None


def _read_toml(file: Path) -> dict[str, Any]:
    """The values of a TOML file that is no larger and no deeper than a job's.

    Raises
    ------
    OSError, UnicodeDecodeError, tomllib.TOMLDecodeError
    ValueError
        It is too large, or nested too deeply.
    """
    size = file.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes; expected at most {_MOST_BYTES:,}")
    text = file.read_text(encoding="utf-8")
    too_deep = f"it is nested too deeply (more than {MOST_LEVELS} levels)"
    # The parser's memory grows with the square of the parts of a key.
    if _most_dots(text) > MOST_LEVELS:
        raise ValueError(too_deep)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(too_deep) from None


def _most_dots(text: str) -> int:
    """The most dots in one key of a TOML document, or in one of its numbers."""
    most = dots = place = 0
    while (mark := _TOML_MARK.search(text, place)) is not None:
        place = mark.end()
        if mark[0] in ("'", '"', "#"):
            skipped = _TOML_SKIPPED.match(text, mark.start())
            if skipped is None:  # a text without an end, which the parser will name
                return most
            place = skipped.end()
        else:
            dots = dots + 1 if mark[0] == "." else 0
            most = max(most, dots)
    return most


def _rename_calibrator(values: dict[str, Any], message: str) -> None:
    """A folder was given as a calibrator in earlier versions; elsewhere a calibrator is a name."""
    if "calibrator" not in values:
        return
    folder = values.pop("calibrator")
    if "classifier" in values:
        raise InputError(f"{message}, and both are given; leave calibrator out")
    values["classifier"] = folder
    warn(f"{message}; the next version will not read the old name", RenamedWarning)
