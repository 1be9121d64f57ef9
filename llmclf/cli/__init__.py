"""The command line: `llmclf demo | fit | predict | label | estimate | estimate-share | next-rows | report | race | watch |
inspect | certify | verify | recalibrate | probe | serve | cache | journal`.

May import every other package; no other package imports it. Another command is a function in a module here, registered
below; options that several commands share go into ``options`` or ``flags``. ``python docs/write_cli.py`` then writes its
reference.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from typing import IO, Annotated, Protocol, runtime_checkable

import typer

from .. import __version__
from ..errors import InputError, LlmclfError
from ..files.orderly_end import INTERRUPTED, Interrupted, orderly_end
from . import cache, classify, demo, inspect, journal, label, probe, race, report
from .console import VisibleFormatter, say, say_aside, show_block, show_traceback, show_warning
from .hand_labels import estimate_share, next_rows
from .operations import certify, serve, watch

app = typer.Typer(
    help="Label texts with a language model, with probabilities that can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # in markup, [@revision] and the like would vanish from the help
)
cache_app = typer.Typer(
    help="Look at or empty a score cache (the file given as --cache).", no_args_is_help=True, rich_markup_mode=None
)

journal_app = typer.Typer(
    help="Look at a labelling job's journal, rescue what is left of a damaged one, or bring several together.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        say(f"llmclf {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Options before a command."""


app.command(short_help="Classify film reviews, before and after calibration.")(demo.demo)
app.command(short_help="Fit a classifier on labelled rows and save it.")(classify.fit)
app.command(short_help="Add labels and their probabilities to a table.")(classify.predict)
app.command(short_help="Label a table of any size, and continue where it stopped.")(label.label)
app.command(short_help="Estimate what labelling a table would take.")(label.estimate)
app.command(short_help="Estimate class shares among all rows from predictions and a few labels by hand.")(
    estimate_share.estimate_share
)
app.command(short_help="Draw the rows that people are to label next, and write a file for them to fill in.")(
    next_rows.next_rows
)
app.command(short_help="Say whether predictions can be trusted, in one HTML file.")(report.report)
app.command(short_help="Show what labelled rows buy, and whether a language model is worth its price.")(race.race)
app.command(short_help="Say whether a certificate still holds for the decisions since.")(watch.watch)
app.command(short_help="Show why a text gets its label.")(inspect.inspect)
app.command(short_help="Promise that few accepted rows are wrong, if labelled rows show it.")(certify.certify)
app.command(short_help="Say whether a classifier is still the one that was certified.")(certify.verify)
app.command(short_help="Put a saved classifier's probabilities right by new labelled rows.")(certify.recalibrate)
app.command(short_help="Say what a server's log-probabilities are good for.")(probe.probe)
app.command(short_help="Serve classifiers over HTTP to the clients of System One and OpenAI Decisions.")(serve.serve)
cache_app.command(short_help="Show how much a cache holds.")(cache.info)
cache_app.command(short_help="Forget all scores of a cache.")(cache.clear)
app.add_typer(cache_app, name="cache")
journal_app.command(short_help="Say what a journal holds, and whether it is whole.")(journal.check)
journal_app.command(short_help="Copy what can be read of a damaged journal into a new one.")(journal.salvage)
journal_app.command(short_help="Write the answers of a journal as a table.")(journal.export)
journal_app.command(short_help="Bring several journals of one job together.")(journal.merge)
app.add_typer(journal_app, name="journal")


def main() -> None:
    """Run the command line. A user's error ends with one line and exit code 2, a failure with 1, a signal with 130."""
    warnings.showwarning = show_warning
    try:
        with orderly_end("SIGINT", "SIGTERM", "SIGHUP", exit_code=INTERRUPTED):
            _run()
    except Interrupted as end:
        say_aside(f"{end.cause}; with --cache, what was scored so far is kept")
        sys.exit(end.code)
    except InputError as error:
        _fail(error, 2)
    except LlmclfError as error:
        _fail(error, 1)


@runtime_checkable
class _UsageError(Protocol):
    """What typer raises for arguments that fit no command."""

    exit_code: int

    def show(self, file: IO[str] | None = None) -> None:
        """Write usage and error."""
        ...


def _run() -> None:
    """Run a command; what typer and Python themselves would print of an error may quote foreign text, too."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(VisibleFormatter())
    try:
        code = app(standalone_mode=False)
    except LlmclfError:
        raise
    except Exception as error:
        if not isinstance(error, _UsageError):
            sys.excepthook = show_traceback
            raise
        words = io.StringIO()
        error.show(words)
        show_block(words.getvalue())
        sys.exit(error.exit_code)
    if isinstance(code, int):
        sys.exit(code)


def _fail(error: Exception, code: int) -> None:
    say_aside(str(error), "error:", "bold red")
    sys.exit(code)
