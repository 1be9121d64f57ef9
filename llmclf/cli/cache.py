"""`llmclf cache`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..downloads import cache_dir
from ..errors import InputError
from .console import say

if TYPE_CHECKING:
    from ..scoring.score_cache import ScoreCache


def info(path: Annotated[Path, typer.Argument(metavar="FILE", help="The score cache.")]) -> None:
    """Show how many scores a cache holds, how large it is, and how old they are."""
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
        raise InputError(f"{str(path)!r} is not a file; give the path that was given as --cache")
    from ..scoring.score_cache import ScoreCache

    return ScoreCache(path)
