"""What every contender of throughput.py is: it is opened, told its cases, and scores rows of one of them while the clock runs.

The environments of other packages read this module, too, so it imports the standard library alone.
"""

from __future__ import annotations

import platform
import resource
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

# Where each contender stands. What follows a colon in a contender's name is its variant: a type of numbers, say.
MODULES = {
    "llmclf": ("throughput_local", "Llmclf"),
    "pairs": ("throughput_local", "Pairs"),
    "cappr": ("throughput_local", "Cappr"),
    "lm-eval": ("throughput_local", "LmEval"),
    "limit": ("throughput_limit", "Limit"),
    "llama": ("throughput_llama", "LlamaTree"),
    "grammar": ("throughput_servers", "LlamaServer"),
    "vllm": ("throughput_servers", "Vllm"),
    "latency": ("throughput_latency", "Latency"),
}


@dataclass(frozen=True)
class Opening:
    """What a contender is opened with.

    Attributes
    ----------
    variant : str
        What follows the colon in its name.
    path : str
        The model's folder or file.
    threads : int
    server_python : str
        The interpreter of the environment that holds its server, if it asks one.
    """

    variant: str
    path: str
    threads: int
    server_python: str = ""


@dataclass
class Case:
    """Prompts as lists of (text, is data), and what every contender derives from them outside of the measured time.

    `shared` is the text that all prompts begin with, where instruction or shots give them one.
    """

    name: str
    spans: list[list[tuple[str, bool]]]
    completions: list[str]
    shared: str
    cappr_batch: int
    prompts: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.prompts = ["".join(text for text, _ in spans) for spans in self.spans]


Sums = list[list[float]]
"""The summed log-probability of every completion, for every row."""


class Contender:
    """A way to score the rows of a case."""

    packages: tuple[str, ...] = ()

    def versions(self) -> dict[str, str]:
        return {package: metadata.version(package) for package in self.packages}

    def prepare(self, case: Case) -> None:
        """What is done once per case, before the clock runs."""

    def score(self, case: Case, rows: range) -> Sums:
        raise NotImplementedError

    def run(self, case: Case, rows: range, warm_up: Case, n_checked: int) -> dict[str, Any]:
        """Seconds and peak memory of one run, and the scores of its first rows."""
        # One row with another prompt: wakes idle threads, and displaces what an earlier run left in the cache.
        self.score(warm_up, range(1))
        reset_peak()
        began = time.perf_counter()
        sums = self.score(case, rows)
        seconds = time.perf_counter() - began
        return {"rows": len(rows), "seconds": seconds, "peak_bytes": peak_bytes(), "scores": sums[:n_checked]}

    def close(self) -> None:
        """End what was started."""


def grouped(values: list[float], size: int) -> Sums:
    return [values[start : start + size] for start in range(0, len(values), size)]


def reset_peak() -> None:
    """Reset the peak memory, where the system can (Linux); elsewhere it is that of the whole process."""
    for process in _family():
        with suppress(OSError):
            (process / "clear_refs").write_text("5")


def peak_bytes() -> int:
    """The peak memory of this process and of the servers that it started."""
    peaks = [_high_water_mark(process) for process in _family()]
    if any(peaks):
        return sum(peaks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _high_water_mark(process: Path) -> int:
    with suppress(OSError):
        for line in (process / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _family() -> list[Path]:
    """This process and all that descend from it, as folders of /proc; none where there is no /proc."""
    own = Path("/proc/self").resolve()
    if not own.is_dir():
        return []
    children: dict[str, list[Path]] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            parent = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("PPid:"))
            children.setdefault(parent, []).append(status.parent)
    family, waiting = [], [own]
    while waiting:
        family.append(waiting.pop())
        waiting += children.get(family[-1].name, [])
    return family
