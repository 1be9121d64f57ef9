"""A labelling job as a file: the same names as the flags of `llmclf label`, in TOML, checked before anything is read."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError

Words = list[str] | str
Count = Annotated[int, Field(ge=1)]


class JobConfig(BaseModel):
    """What a labelling job is told; see `llmclf label --help` for what each means.

    Examples
    --------
    >>> JobConfig(input="in.csv", output="out.csv", labels="good,bad").labels
    'good,bad'
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input: str | None = None
    output: str | None = None
    id_column: str | None = None
    text_column: str | None = None
    labels: str | list[str] | dict[str, Words] | None = None
    prompt: str | None = None
    chat: bool | None = None
    scoring: str | None = None
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    model_options: dict[str, Any] = Field(default_factory=dict)
    calibrator: str | None = None
    threshold: Annotated[float, Field(ge=0)] | None = None
    journal: str | None = None
    resume: bool = False
    retry_failed: bool = False
    max_errors: Annotated[int, Field(ge=0)] | None = None
    concurrency: Count | None = None
    rpm: Count | None = None
    tpm: Count | None = None
    price: dict[str, float] | None = None
    max_cost: Annotated[float, Field(gt=0)] | None = None
    logprobs: bool = False
    summary: str | None = None
    batch_api: bool = False
    ray: str | None = None
    actors: Count | None = None
    actor_gpus: Annotated[float, Field(ge=0)] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Options of the model's backend."""
        own = ("base_url", "api_key_env", "concurrency", "rpm", "tpm", "price", "max_cost")
        given = {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        twice = sorted(set(given) & set(self.model_options))
        if twice:
            raise InputError(f"{twice[0]!r} is given twice: by itself and as an option of the model; leave one out")
        return {**self.model_options, **given}


def read_config(path: str | os.PathLike[str] | None, flags: Mapping[str, Any]) -> JobConfig:
    """A job file with flags over it.

    Parameters
    ----------
    path : path or None
        None: the flags alone.
    flags : mapping
        Those that are not None replace what the file says.

    Raises
    ------
    InputError
        The file cannot be read, has a key that no job has, or a value that does not fit; the message names both.

    Examples
    --------
    >>> read_config(None, {"input": "in.csv", "rpm": 0})
    Traceback (most recent call last):
    ...
    llmclf.errors.InputError: rpm=0: input should be greater than or equal to 1
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the job file {str(path)!r} cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"the job file {str(path)!r} is no TOML: {error}") from error
    where = "" if path is None else f"the job file {str(path)!r}: "
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return JobConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(JobConfig.model_fields))
            raise InputError(f"{where}unknown key {name!r}; known: {known}") from None
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise InputError(f"{where}{name}={first['input']!r}: {message}") from None
