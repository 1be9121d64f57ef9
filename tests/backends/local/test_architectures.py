"""Every architecture of transformers takes the fastest route that is exact for it, and the page of the reference says which."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from architectures import VARIANTS, architectures, finding

DOCS = Path(__file__).parents[3] / "docs"
_found = {}


def of(name):
    if name not in _found:
        _found[name] = finding(name)
    return _found[name]


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers warns of what is odd in a tiny configuration
def test_every_architecture_scores_as_plain_calls_do():
    """Whatever the route: long rows beside short ones, in any batch, are within 1e-4 nats of one plain call per pair."""
    import torch

    torch.manual_seed(0)
    wrong = {name: of(name).error for name in [*architectures(), *VARIANTS] if not of(name).error < 1e-4}
    assert wrong == {}
    routes = [of(name).routes for name in architectures()]
    assert sum(bool(taken) for taken in routes) > 0.85 * len(routes)
    assert sum(set(taken) == {"trie"} for taken in routes) > 0.5 * len(routes)


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_reference_says_which_route_each_takes():
    """reference/architectures.md is what docs/write_architectures.py writes."""
    import transformers

    page = (DOCS / "reference" / "architectures.md").read_text(encoding="utf-8")
    version = re.search(r"transformers (\S+)\s+has", page)
    if version is None or version[1] != transformers.__version__:
        pytest.skip(f"the page is about another version than the installed {transformers.__version__}")
    write = runpy.run_path(str(DOCS / "write_architectures.py"))["architectures_page"]
    written = write({name: of(name) for name in [*architectures(), *VARIANTS]})
    assert page == written, "run python docs/write_architectures.py"
