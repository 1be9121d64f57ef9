"""What the runs of throughput.py say: medians, shares of the machine's limit, errors; and the table of all that."""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import throughput_latency
from throughput_cases import checked_labels

LIKELY = 1e-6  # labels with more than this share of a row's probability
TITLES = {
    "llmclf": "llmclf",
    "llmclf:bfloat16": "llmclf, bfloat16",
    "cappr": "CAPPr with its cache",
    "lm-eval": "lm-eval (HFLM)",
    "pairs": "pair by pair, plain transformers",
    "llama:float32": "llama.cpp's library over the token tree, float32 weights",
    "llama:q8_0": "llama.cpp's library over the token tree, 8-bit weights (Q8_0)",
    "llama:file": "llama.cpp's library over the token tree, the 4-bit file",
    "grammar": "llama.cpp's server, the 4-bit file (route `grammar`)",
    "vllm": "vLLM's server (its faster exact route)",
}
LIMITS = {"limit": "llmclf", "limit:bfloat16": "llmclf:bfloat16"}
# Those that matter for matrix products: x86, then ARM.
FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"),
)


def score_errors(scores: Sequence[Sequence[float]], reference: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The largest difference from the reference in nats: over all labels that it has scored, and over the likely ones."""
    actual, expected = np.array(scores), np.array(reference)[: len(scores)]
    actual = actual[:, checked_labels(actual.shape[1])]
    difference = np.abs(actual - expected)
    share = np.exp(expected - np.logaddexp.reduce(expected, axis=1, keepdims=True))
    return float(difference.max()), float(difference[share > LIKELY].max())


def summarise(
    case: str, runs: Sequence[Mapping[str, Any]], reference: Sequence[Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """Per contender rows/s of every round, how many times slower than llmclf, score errors and peak memory."""
    by_contender: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run["case"] == case:
            by_contender.setdefault(run["contender"], []).append(run)
    base = {run["round"]: run["rows"] / run["seconds"] for run in by_contender.get("llmclf", [])}
    summary: dict[str, dict[str, Any]] = {}
    for contender, own_runs in by_contender.items():
        if contender in LIMITS:
            summary[contender] = _summarise_limit(own_runs, by_contender.get(LIMITS[contender], []))
            continue
        rates = {run["round"]: run["rows"] / run["seconds"] for run in own_runs}
        ratios = [base[i] / rate for i, rate in rates.items() if i in base]
        errors = score_errors(own_runs[0]["scores"], reference)
        summary[contender] = {
            "rows": own_runs[0]["rows"],
            "rows_per_second": list(rates.values()),
            "times_slower": median(ratios) if ratios else math.nan,
            "error_all": errors[0],
            "error_likely": errors[1],
            "peak_bytes": max(run["peak_bytes"] for run in own_runs),
        }
    return summary


def _summarise_limit(limits: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds = {run["round"]: run["seconds"] for run in runs}
    n_rows = limits[0]["rows"]
    names = ("gflops_per_second", "ordinary_gflops_per_second", "gflops", "attention_gflops")
    values = {name: median(run[name] for run in limits) for name in (*names, "prefix_tokens", "own_tokens")}
    return values | {
        "label_nodes": limits[0]["label_nodes"],
        "share": [run["limit_seconds"] / seconds[run["round"]] for run in limits if run["round"] in seconds],
        "ordinary_share": [
            run["ordinary_limit_seconds"] / seconds[run["round"]] for run in limits if run["round"] in seconds
        ],
        "rows_per_second": [n_rows / run["limit_seconds"] for run in limits],
        "ordinary_rows_per_second": [n_rows / run["ordinary_limit_seconds"] for run in limits],
    }


def machine_facts(threads: int) -> dict[str, Any]:
    facts = _processor_facts()
    return {
        "processor": facts.get("model name", platform.processor() or platform.machine()),
        "flags": [flag for flag in FLAGS if flag in facts.get("flags", facts.get("Features", "")).split()],
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
    }


def _processor_facts() -> dict[str, str]:
    """What the system says of the first processor; nothing where it has no such file."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    return facts


def to_markdown(results: Mapping[str, Any], long_seconds: float) -> str:
    machine, versions = results["machine"], results["versions"]
    lines = [
        "# Throughput on a CPU",
        "",
        "How many rows per second does llmclf label, compared with other packages and with the machine's limit? Written by",
        "`throughput.py` (`make bench`). SmolLM2-135M, in float32 where nothing else is said; every contender scores the same",
        "prompts and completions.",
        "",
        f"{machine['date']}. {machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; "
        f"{machine['system']}.",
        f"The processor has {', '.join(machine['flags']) or 'none of the instructions that are looked for'}.",
        *(
            f"{TITLES[name]}: {_versions(packages)}."
            for name, packages in versions.items()
            if packages and name in TITLES
        ),
        "",
        f"Median [smallest–largest] of {results['rounds']} interleaved rounds; runs of more than {long_seconds:.0f} s are "
        "made once. Times slower: the median of the rounds' ratios. Score error: the largest difference from `ReferenceBackend`",
        f"in summed log-probability (nats), over the labels with more than {LIKELY:g} of a row's probability and over all",
        "(of the 2,000 labels, over every 20th).",
        "Peak memory: of the process and, where it asks one, its server; float32 weights (0.54 GB) included.",
        "",
        "The limit of a case is the time of its matrix products alone. They are timed beside llmclf in every round, in the",
        "shapes of the batches that llmclf makes: with PyTorch's ordinary product, and with packed weights where that is faster.",
        "Attention is counted by its operations, at the rate of the products.",
    ]
    for case in results["cases"].values():
        lines += ["", *_case_lines(case)]
    if results.get("memory"):
        lines += ["", *_memory_lines(results)]
    if results.get("latency"):
        lines += ["", *throughput_latency.to_lines(results["latency"], _spread)]
    return "\n".join(lines) + "\n"


def _case_lines(case: Mapping[str, Any]) -> list[str]:
    lines = [
        f"## {case['title']}",
        "",
        "| contender | rows/s | times slower | rows per run | error, likely labels | error, all labels | peak memory |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, title in TITLES.items():
        if name in case["absent"]:
            lines.append(f"| {title} | not run: {case['absent'][name]} | | | | | |")
        elif name in case["contenders"]:
            entry = case["contenders"][name]
            slower = "" if name == "llmclf" or math.isnan(entry["times_slower"]) else f"{entry['times_slower']:.3g}"
            lines.append(
                f"| {title} | {_spread(entry['rows_per_second'])} | {slower} | {entry['rows']} | {entry['error_likely']:.1e} | "
                f"{entry['error_all']:.1e} | {entry['peak_bytes'] / 1e9:.2f} GB |"
            )
    return lines + _limit_lines(case)


def _limit_lines(case: Mapping[str, Any]) -> list[str]:
    limits = {name: case["contenders"][name] for name in LIMITS if name in case["contenders"]}
    if not limits:
        return []
    trie = next(iter(limits.values()))
    lines = [
        "",
        f"The trie of a run: {trie['prefix_tokens']:.0f} tokens shared by all rows, then {trie['own_tokens']:.0f} tokens "
        f"and {trie['label_nodes']:.0f} inner nodes of labels per row. What its operations alone would allow:",
        "",
        "| numbers | ordinary product: GFLOP/s | rows/s | llmclf reaches | packed product: GFLOP/s | rows/s | llmclf reaches |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in LIMITS:
        dtype = name.partition(":")[2] or "float32"
        if name in case["absent"]:
            lines.append(f"| {dtype} | not run: {case['absent'][name]} | | | | | |")
        elif name in limits:
            limit = limits[name]
            ordinary = [f"{limit['ordinary_gflops_per_second']:.0f}", _spread(limit["ordinary_rows_per_second"])]
            ordinary.append(_percent(limit["ordinary_share"]))
            packed = (
                f"{limit['gflops_per_second']:.0f} | {_spread(limit['rows_per_second'])} | {_percent(limit['share'])}"
            )
            lines.append(f"| {dtype} | {' | '.join(ordinary)} | {packed} |")
    return lines


def _memory_lines(results: Mapping[str, Any]) -> list[str]:
    memory = results["memory"]
    lines = [
        "## Memory",
        "",
        "llmclf in float32, each case in a fresh process: the peak during one run.",
        "",
        "| case | rows | peak memory |",
        "|---|--:|--:|",
    ]
    for case, entry in memory.items():
        lines.append(f"| {results['cases'][case]['title']} | {entry['rows']} | {entry['peak_bytes'] / 1e9:.2f} GB |")
    peaks = [entry["peak_bytes"] for entry in memory.values()]
    if len(peaks) == 2:
        lines += ["", f"The second takes {peaks[1] / peaks[0]:.2f} times the memory of the first."]
    return lines


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = f"{median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.3g}–{max(values):.3g}]"


def _percent(shares: Sequence[float]) -> str:
    return f"**{_spread([100 * share for share in shares])} %**" if shares else ""


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
