"""Writes reference/architectures.md from what tiny models do: `python docs/write_architectures.py`. A test compares the two."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "reference" / "architectures.md"
HEAD = """\
# Architectures of local models

How a local model scores, by its architecture. Each line was measured on a tiny random model: of the {n} architectures for which
transformers {version} has a causal language model, {n_scored} were scored in float32, on prompts of {lengths} tokens in one call
and in batches of {batches} tokens, and compared with plain calls of transformers, one prompt and completion at a time. No token's
log-probability was more than 0.0001 nats off. [Why it is fast](../explanation/scores.md#why-it-is-fast) says when which route is
chosen.

- **trie**: one token trie for all rows and labels of a batch.
- **pairs**: batches of (prompt, completion) pairs of one length: slower.
- **trie, then pairs**: the trie up to the length at which attention or positions change in a way that it cannot follow, and pairs
  for longer rows. The models here change at {window} tokens, or at the {stretch} from which their positions are stretched; for a
  real model the length is that of its configuration, such as 8,192 for the attention chunks of Llama 4.
- **single**: one pair at a time.
- **refused**: plain calls give no score of a label: a token's prediction depends on the tokens after it, or on chance.
- **not tried**: no tiny model could be made here. When such a model is opened, it is checked like any other.

*Writes by cache* says whether `generate` reads each token once; otherwise it reads everything again for each token.

<!-- Written by docs/write_architectures.py from tests/architectures.py. -->

| architecture | scores by | writes by cache |
|---|---|---|
"""


def architectures_page(findings: Mapping[str, Any] | None = None) -> str:
    """The page, as text, from the findings of each architecture; by default they are made."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import transformers
    from architectures import (
        BATCHES,
        LENGTHS,
        STRETCH,
        VARIANTS,
        WINDOW,
        architectures,
        finding,
    )

    names = sorted([*architectures(), *VARIANTS])
    if findings is None:
        findings = {name: finding(name) for name in names}
    head = HEAD.format(
        n_scored=sum(bool(findings[name].routes) for name in architectures()),
        n=len(architectures()),
        version=transformers.__version__,
        lengths=_listed(LENGTHS),
        batches=_listed(BATCHES),
        window=WINDOW,
        stretch=STRETCH,
    )
    return head + "".join(_line(name, findings[name]) for name in names)


def _line(name: str, found: Any) -> str:
    if not found.routes:
        return f"| {name} | {found.why_not} | |\n"
    return f"| {name} | {', then '.join(dict.fromkeys(found.routes))} | {'yes' if found.reads_on else 'no'} |\n"


def _listed(numbers: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


if __name__ == "__main__":
    PAGE.write_text(architectures_page(), encoding="utf-8")
