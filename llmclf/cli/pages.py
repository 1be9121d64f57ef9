"""Pages that commands write, and their other forms beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def written_pages(made: Any, page: Path, json: bool, md: bool) -> list[Path]:
    """Write a report or a race as a page, and beside it as JSON and Markdown where that is wished; the files."""
    made.to_html(page)
    files = [page]
    if json:
        files.append(page.with_suffix(".json"))
        made.to_json(files[-1])
    if md:
        files.append(page.with_suffix(".md"))
        made.to_markdown(files[-1])
    return files
