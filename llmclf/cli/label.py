"""`llmclf label` and `llmclf estimate`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .console import say, say_aside
from .options import (
    ApiKeyEnv,
    BaseUrl,
    Labels,
    ModelOption,
    PromptOption,
    TextColumn,
    model_options,
    open_with,
    parse_labels,
    parse_prompt,
)

if TYPE_CHECKING:
    from .job_file import JobConfig

SOME_FAILED = 3
"""The exit code of a job that was finished, with rows that could not be labelled."""

Input = Annotated[
    str | None,
    typer.Argument(
        metavar="INPUT",
        help="Rows to label: a .csv, .jsonl or .parquet file, a folder of them, a pattern in quotes, or an SQL table such as "
        "'postgresql+psycopg://host/db?table=reviews'.",
    ),
]
Output = Annotated[
    str | None,
    typer.Argument(
        metavar="OUTPUT",
        help="The same rows with their labels: a file, a folder (a file per input file), or an SQL table.",
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="The column whose values tell rows apart; they must be there and different."),
]
Job = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A job in TOML: the options below with underscores (id_column = 'id'). Options given here go first.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="smollm2 (the default), hf:org/name[@revision], hf:FOLDER, gguf:FILE, or a server's: openai:NAME, systemone:NAME, "
        "decisions:NAME.",
    ),
]
Calibrator = Annotated[
    str | None,
    typer.Option(
        "--calibrator",
        "--classifier",
        metavar="FOLDER",
        help="A folder that fit saved: its model, prompt, labels, calibrator and threshold. Labels, prompt and model given "
        "besides must be the same.",
    ),
]
Scoring = Annotated[
    str | None, typer.Option(metavar="NAME", help="sum (the default), mean, bytes or pmi; see predict.")
]
Chat = Annotated[bool | None, typer.Option("--chat", help="Ask through the model's chat template.")]
Price = Annotated[
    str | None,
    typer.Option(
        metavar="IN,OUT[,CACHED]", help="The price of a million tokens read, written, and read from the server's cache."
    ),
]
Journal = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where answers are kept as they come. Default: OUTPUT and '.journal'."),
]
Concurrency = Annotated[int | None, typer.Option(min=1, help="Most requests under way at once.")]
Rpm = Annotated[int | None, typer.Option(min=1, help="Most requests in any minute.")]
Tpm = Annotated[int | None, typer.Option(min=1, help="Most tokens in any minute.")]


def label(
    ctx: typer.Context,
    input: Input = None,
    output: Output = None,
    job: Job = None,
    input_option: Annotated[str | None, typer.Option("--input", metavar="INPUT", help="The same as INPUT.")] = None,
    output_option: Annotated[str | None, typer.Option("--output", metavar="OUTPUT", help="The same as OUTPUT.")] = None,
    id_column: IdColumn = None,
    text_column: TextColumn = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = None,
    scoring: Scoring = None,
    model: ModelName = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    model_option: ModelOption = None,
    calibrator: Calibrator = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0.0, help="Rows at least as confident are marked as accepted. Default: the classifier's own."),
    ] = None,
    journal: Journal = None,
    resume: Annotated[
        bool | None,
        typer.Option("--resume", help="Go on with the journal if there is one: nothing that it holds is asked again."),
    ] = None,
    retry_failed: Annotated[
        bool | None,
        typer.Option("--retry-failed", help="Go on with the journal, and ask again what failed."),
    ] = None,
    max_errors: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Stop once more than N questions have failed.")
    ] = None,
    concurrency: Concurrency = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    price: Price = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Stop before the job, all its runs together, costs more; needs --price.")
    ] = None,
    logprobs: Annotated[
        bool | None, typer.Option("--logprobs", help="Add logprob_CLASS, the score of each class, in nats.")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the job did, in numbers, as JSON.")
    ] = None,
    batch_api: Annotated[
        bool | None,
        typer.Option(
            "--batch-api",
            help="Ask through the server's /v1/batches, which takes up to a day and often costs half; for models openai:NAME.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ask by the actors of a Ray cluster: 'local', 'auto' (that of this machine) or HOST:PORT.",
        ),
    ] = None,
    actors: Annotated[
        int | None, typer.Option(min=1, help="With --ray: how many actors, each with a model (2).")
    ] = None,
    actor_gpus: Annotated[float | None, typer.Option(min=0.0, help="With --ray: GPUs of each actor (0).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Label a table of any size; go on where it stopped, whatever stopped it.

    \b
    Adds label, confidence, accepted, p_CLASS, label_mass, truncated, undecided and error to every row. Exit codes: 0 all rows are
    labelled, 3 some could not be, 1 the job stopped, 2 something given is wrong, 130 interrupted.
    \b
    Example:
      llmclf label reviews.csv labelled.parquet --id-column id --text-column review --labels good,bad --resume
    """
    from ..jobs import label_table
    from ..jobs.api import journal_path

    config = _config(
        ctx, job, {"input": _one("INPUT", input, input_option), "output": _one("OUTPUT", output, output_option)}
    )
    if config.input is None or config.output is None:
        raise InputError(
            "label needs a table and a place for the labels: llmclf label INPUT OUTPUT, or both in the job file"
        )
    if config.summary is not None:
        from ..atomic_files import check_file

        check_file(config.summary)
    # Ctrl-C is an exception here, so that the journal is closed and the user told how to go on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = label_table(
            config.input,
            config.output,
            id_column=config.id_column,
            journal=config.journal,
            resume=config.resume,
            retry_failed=config.retry_failed,
            max_errors=config.max_errors,
            threshold=config.threshold,
            logprobs=config.logprobs,
            show_progress=not quiet,
            asking=_asking(config, quiet),
            **_recipe(config),
        )
    except KeyboardInterrupt:
        where = Path(config.journal) if config.journal else journal_path(config.output)
        if where.expanduser().exists():
            kept = f"what was answered is in {where}; the same command with --resume goes on from there"
        else:
            kept = "nothing was answered yet"
        say_aside(f"interrupted; {kept}")
        raise SystemExit(130) from None
    if config.summary is not None:
        from ..atomic_files import write_text

        write_text(result.summary.to_json(), config.summary)
    say(result.summary.line)
    if result.summary.failed:
        raise SystemExit(SOME_FAILED)


def estimate(
    ctx: typer.Context,
    input: Input = None,
    job: Job = None,
    text_column: TextColumn = None,
    labels: Labels = None,
    prompt: PromptOption = None,
    chat: Chat = None,
    scoring: Scoring = None,
    model: ModelName = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    model_option: ModelOption = None,
    calibrator: Calibrator = None,
    journal: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A job's journal: what it has answered is not counted.")
    ] = None,
    concurrency: Concurrency = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    price: Price = None,
    seconds_per_request: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long the server takes for a request.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Say it as JSON.")] = False,
) -> None:
    """Say what labelling a table would take: rows, tokens, cost and time. A server is not asked.

    \b
    Example:
      llmclf estimate reviews.csv --text-column review --labels good,bad --model openai:NAME --price 0.10,0.40
    """
    import json

    from ..jobs import estimate_table
    from ..progress import duration

    config = _config(ctx, job, {})
    if config.input is None:
        raise InputError("estimate needs a table: llmclf estimate INPUT, or input in the job file")
    found = estimate_table(
        config.input, journal=config.journal, seconds_per_request=seconds_per_request, **_recipe(config)
    )
    if as_json:
        say(json.dumps(found.to_dict()))
        return
    say(f"rows: {found.rows:,}, of which {found.unaskable:,} cannot be asked about")
    say(f"different questions: {found.questions:,}, to be asked: {found.todo:,}")
    if found.requests is not None:
        say(f"requests: about {found.requests:,}")
    if found.tokens_in is not None:
        how = "counted with the model's tokenizer" if found.is_counted else "at four bytes a token"
        say(f"tokens: about {found.tokens_in:,} read and {found.tokens_out:,} written ({how})")
    say(
        "cost: unknown without --price"
        if found.cost is None and found.requests is not None
        else f"cost: {found.cost or 0:.4g}"
    )
    say(f"time: about {duration(found.seconds)} ({found.assumption})")


def _config(ctx: typer.Context, job: Path | None, more: dict[str, Any]) -> JobConfig:
    """The job file, and over it what was said on the command line: options are called as the file's keys are."""
    from .job_file import JobConfig, read_config

    flags = {name: value for name, value in ctx.params.items() if name in JobConfig.model_fields}
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
    flags["price"] = _price(flags["price"])
    flags["model_options"] = model_options(None, None, ctx.params["model_option"]) or None
    return read_config(job, {**flags, **more})


def _recipe(config: JobConfig) -> dict[str, Any]:
    """What a job's configuration says of model, labels and prompt, as `label_table` takes it."""
    chosen: dict[str, Any] = {
        "text_column": config.text_column,
        "labels": parse_labels(config.labels) if isinstance(config.labels, str) else config.labels,
        "scoring": config.scoring,
        "prompt": parse_prompt(config.prompt, bool(config.chat)),
    }
    if config.calibrator is not None:
        from ..loading import load

        options = config.options
        if config.model is not None:
            chosen["model"] = config.model
        return {**chosen, "classifier": load(config.calibrator, model_options=options)}
    return {**chosen, "model": open_with(config.model or "smollm2", config.options)}


def _asking(config: JobConfig, quiet: bool) -> Any:
    """How the questions are asked; None from this process."""
    if config.ray is None and (config.actors is not None or config.actor_gpus is not None):
        raise InputError("--actors and --actor-gpus belong to --ray ADDRESS")
    if config.ray is not None and config.batch_api:
        raise InputError("--ray and --batch-api are two ways to ask; choose one")
    if config.ray is not None:
        from ..jobs.asking.ray import RayAsking

        return RayAsking(config.ray, actors=config.actors or 2, num_gpus=config.actor_gpus or 0)
    if config.batch_api:
        from ..jobs.asking.batches import BatchAsking

        return BatchAsking(report=(lambda _: None) if quiet else say_aside)
    return None


def _one(name: str, first: str | None, second: str | None) -> str | None:
    if first is not None and second is not None:
        raise InputError(f"{name} is given twice: {first!r} and --{name.lower()} {second!r}")
    return first if first is not None else second


def _price(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (2, 3):
        raise InputError(f"--price {text!r}: expected two or three numbers, such as 0.10,0.40")
    return dict(zip(("input", "output", "cached"), values, strict=False))
