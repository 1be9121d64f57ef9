"""One contender of throughput.py in a process of its own: ``python throughput_process.py NAME PATH THREADS [SERVER_PYTHON]``.

So each contender has its own environment and its own peak memory. The process reads commands and writes answers, one JSON
object per line: a case (prompts and completions) is sent once, then run as often as requested.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from typing import Any

from throughput_contenders import MODULES, Case, Contender, Opening


def main() -> None:
    name, path, threads, *rest = sys.argv[1:]
    # Libraries that print must not write between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kind, _, variant = name.partition(":")
    module, class_name = MODULES[kind]
    try:
        opened = getattr(importlib.import_module(module), class_name)
        contender: Contender = opened(Opening(variant, path, int(threads), *rest))
    except Exception as error:  # it is named in the table as absent, and the others run
        print(f"{name}: {error!r}", file=sys.stderr, flush=True)
        print(json.dumps({"error": reason(error)}), file=answers, flush=True)
        return
    print(json.dumps({"versions": contender.versions()}), file=answers, flush=True)
    try:
        serve(name, contender, answers)
    finally:
        contender.close()


def serve(name: str, contender: Contender, answers: Any) -> None:
    """Answer every command until there are no more."""
    cases: dict[str, Case] = {}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "case" in command:
                case = Case(**command["case"])
                cases[case.name] = case
                contender.prepare(case)
                answer: dict[str, Any] = {}
            else:
                gc.collect()
                rows = range(command["first"], command["first"] + command["rows"])
                answer = contender.run(cases[command["run"]], rows, cases["warm-up"], command["checked"])
        except Exception as error:  # a contender that fails is a result, and must not end the others
            answer = {"error": reason(error)}
            print(f"{name}: {error!r}", file=sys.stderr, flush=True)
        print(json.dumps(answer), file=answers, flush=True)


def reason(error: Exception) -> str:
    """What the table says of an error: llmclf's own messages are sentences, of others the type and the first line."""
    if any(kind.__name__ == "LlmclfError" for kind in type(error).__mro__):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0].strip()[:160]


if __name__ == "__main__":
    main()
