"""`llmclf cache`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from ..downloads import cache_dir
from ..errors import InputError
from ..scoring.score_cache import ScoreCache
from .console import say


def info(path: Annotated[Path, typer.Argument(metavar="FILE", help="The score cache.")]) -> None:
    """Show how many scores a cache holds, how large it is, and from when they are."""
    held = _existing_cache(path).info()
    say(f"{held['path']}: {held['rows']} rows of scores, {held['bytes'] / 1e6:.1f} MB")
    if held["rows"]:
        first, last = (
            datetime.datetime.fromtimestamp(held[name]).isoformat(" ", "minutes") for name in ("oldest", "newest")
        )
        say(f"from {first} to {last}")
    say(f"models and data are kept in {cache_dir()}")


def clear(path: Annotated[Path, typer.Argument(metavar="FILE", help="The score cache.")]) -> None:
    """Forget all scores of a cache, without asking; the file stays, empty."""
    removed = _existing_cache(path).clear()
    say(f"removed {removed} rows of scores from {path}")


def _existing_cache(path: Path) -> ScoreCache:
    if not path.is_file():
        raise InputError(f"{str(path)!r} is no file; give the path that was given as --cache")
    return ScoreCache(path)
