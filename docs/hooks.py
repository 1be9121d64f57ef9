"""Puts the pages of experiments/ into the site.

A page links to them by their path in the repository (`../experiments/NAME` or `../../experiments/NAME`), so that the
links work where the repository is browsed, too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SHOWN = {".md", ".png"}


def on_files(files: Any, *, config: Any) -> Any:
    """Add the results and pictures of experiments/."""
    for path in sorted(EXPERIMENTS.iterdir()):
        if path.suffix in SHOWN:
            name = "index.md" if path.name == "README.md" else path.name
            files.append(File.generated(config, f"experiments/{name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn the repository's paths of experiments/ into the site's."""
    depth = page.file.src_uri.count("/")
    in_repository, in_site = (
        "../" * (depth + 1) + "experiments/",
        "../" * depth + "experiments/",
    )
    pattern = rf"(\]\(|src=\"){re.escape(in_repository)}(README\.md)?"
    return re.sub(
        pattern, lambda link: link[1] + in_site + ("index.md" if link[2] else ""), markdown
    )
