"""The command line: `llmclf demo | fit | predict | label | estimate | report | race | inspect | probe | cache`.

May import every other package; no other package imports it. Another command is a function in a module here, registered
below; options that several commands share go into ``options`` or ``flags``. ``python docs/write_cli.py`` then writes its
reference.
"""

from __future__ import annotations

import signal
import sys
import warnings
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import InputError, LlmclfError
from . import cache, classify, demo, inspect, label, probe, race, report
from .console import say, say_aside, show_warning

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
app.command(short_help="Say whether predictions can be trusted, in one HTML file.")(report.report)
app.command(short_help="Show what labelled rows buy, and whether a language model is worth its price.")(race.race)
app.command(short_help="Show why a text gets its label.")(inspect.inspect)
app.command(short_help="Say what a server's log-probabilities are good for.")(probe.probe)
cache_app.command(short_help="Show how much a cache holds.")(cache.info)
cache_app.command(short_help="Forget all scores of a cache.")(cache.clear)
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Run the command line. A user's error ends with one line and exit code 2, a failure with 1, Ctrl-C with 130."""
    warnings.showwarning = show_warning
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except InputError as error:
        _fail(error, 2)
    except LlmclfError as error:
        _fail(error, 1)


def _interrupt(*_: Any) -> None:
    # An exit, not KeyboardInterrupt, which typer would report as an ordinary failure.
    say_aside("interrupted; with --cache, what was scored so far is kept")
    raise SystemExit(130)


def _fail(error: Exception, code: int) -> None:
    say_aside(str(error), "error:", "bold red")
    sys.exit(code)
