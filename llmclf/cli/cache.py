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
    from ..features.vector_cache import VectorCache
    from ..scoring.score_cache import ScoreCache


def info(path: Annotated[Path, typer.Argument(metavar="FILE", help="The score cache.")]) -> None:
    """Show how many scores and embeddings a cache holds, how large it is, and how old they are."""
    held = _existing_cache(path).info()
    vectors = _embeddings(path).info()
    also = f" and {vectors['rows']} embeddings" if vectors["rows"] else ""
    say(f"{held['path']}: {held['rows']} rows of scores{also}, {held['bytes'] / 1e6:.1f} MB")
    times = [one[name] for one in (held, vectors) if one["rows"] for name in ("oldest", "newest")]
    if times:
        first, last = (
            datetime.datetime.fromtimestamp(time).isoformat(" ", "minutes") for time in (min(times), max(times))
        )
        say(f"from {first} to {last}")
    say(f"models and data are kept in {cache_dir()}")


def clear(path: Annotated[Path, typer.Argument(metavar="FILE", help="The score cache.")]) -> None:
    """Forget all scores and embeddings of a cache, without asking; the file stays, empty."""
    removed = _existing_cache(path).clear()
    vectors = _embeddings(path).clear()
    say(f"removed {removed} rows of scores{f' and {vectors} embeddings' if vectors else ''} from {path}")


def _embeddings(path: Path) -> VectorCache:
    """The embeddings in a file that is known to be a cache."""
    from ..features.vector_cache import VectorCache

    return VectorCache(path)


def _existing_cache(path: Path) -> ScoreCache:
    if not path.is_file():
        raise InputError(f"{str(path)!r} is not a file; give the path that was given as --cache")
    from ..scoring.score_cache import ScoreCache

    return ScoreCache(path)
