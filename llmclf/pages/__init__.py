"""Internal: self-contained HTML pages, which load nothing from the network and run only their own script.

May import ``atomic_files`` and ``errors`` alone. What all pages share goes here; the template, the style and the script of
one page go into the package that shows it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ..atomic_files import write_text


def render_page(folder: Traversable, template: str, *, style: str, script: str | None, **content: Any) -> str:
    """Render a template with its style sheet and its script inside; all three files lie in `folder`.

    The style that all pages share comes first. Everything in `content` is escaped. A template includes ``head.html.j2``, which
    writes its `title` and the `policy`, so that the browser applies and runs the contents of these files and nothing else.
    """
    common = (resources.files(__package__) / "base.css").read_text(encoding="utf-8")
    styles = common + (folder / style).read_text(encoding="utf-8")
    code = "" if script is None else (folder / script).read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, loader=FunctionLoader(partial(_template, folder))
    )
    return environment.get_template(template).render(
        # The tags hold exactly the text that was hashed, so the browser accepts that text and no other.
        policy=(
            f"default-src 'none'; style-src {_hash(styles)}; script-src {_hash(code) if code else repr('none')}; "
            "base-uri 'none'; form-action 'none'"
        ),
        style=Markup(styles),
        script=Markup(code),
        **content,
    )


def written(text: str, path: str | os.PathLike[str] | None) -> str:
    """The text with lone surrogates replaced, which UTF-8 cannot encode; also written to a file if a path is given."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if path is not None:
        write_text(text, path)
    return text


def in_notebook(page: str, title: str) -> str:
    """A page inside another one, in a frame of its own: the styles and scripts of one do not affect the other."""
    return (
        f'<iframe title="{html.escape(title, quote=True)}" sandbox="allow-scripts" '
        f'style="width:100%;height:48rem;border:1px solid #ccc" srcdoc="{html.escape(page, quote=True)}"></iframe>'
    )


def _template(folder: Traversable, name: str) -> str:
    """The text of a template of a page, or of one that all pages share."""
    own = folder / name
    shared = resources.files(__package__) / name
    return (own if own.is_file() else shared).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
