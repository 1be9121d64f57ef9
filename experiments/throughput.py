"""How many rows per second does llmclf label on a CPU, compared with other packages and with the machine's limit?

All contenders score exactly the same prompts and completions with the same float32 weights on the same number of threads.
Each runs in its own process (throughput_contenders.py). Rounds are interleaved, one run of every contender after another, so
that a disturbance of the machine affects all alike; ratios are taken within a round. Every score is compared with
`ReferenceBackend`. Needs the data folder that LLMCLF_DATA names; writes throughput.md and throughput.json beside itself.

    python experiments/throughput.py [--cases a,b] [--contenders llmclf,pairs] [--rounds 3] [--rows-scale 0.1]
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from throughput_contenders import requests_of

from llmclf.backends import ReferenceBackend
from llmclf.backends.local.weights import converted, load
from llmclf.cards import load_card
from llmclf.downloads import SMOLLM2
from llmclf.errors import DownloadError
from llmclf.prompts.prompt import Prompt

HERE = Path(__file__).resolve().parent

# Rows per run, so that a run takes 10 to 30 seconds on two cores; `checked` rows are compared with the reference, which
# needs a forward pass per label.
ROWS = {
    "a": {"llmclf": 512, "pairs": 32, "cappr": 64, "lm-eval": 64, "checked": 3},
    "b": {"llmclf": 384, "pairs": 8, "cappr": 48, "lm-eval": 8, "checked": 3},
    "c": {"llmclf": 16, "pairs": 3, "cappr": 12, "lm-eval": 3, "checked": 3},
    "c2": {"llmclf": 16, "pairs": 1, "cappr": 6, "lm-eval": 1, "checked": 1},
    "d": {"llmclf": 16, "pairs": 6, "cappr": 12, "lm-eval": 12, "checked": 3},
}
CAPPR_BATCH = {"a": 16, "b": 8, "c": 2, "c2": 2, "d": 4}  # prompts at a time
LONG_SECONDS = 60.0  # a run that takes longer is not repeated in later rounds
LIKELY = 1e-6  # labels with more than this share of a row's probability

TITLES = {
    "llmclf": "llmclf",
    "cappr": "CAPPr with its cache",
    "lm-eval": "lm-eval (HFLM)",
    "pairs": "pair by pair, plain transformers",
}
# The limit is timed next to llmclf, because the result is llmclf's share of it.
ORDER = ("limit", "llmclf", "pairs", "cappr", "lm-eval")

TREC_WORDS = {
    "abbreviation": "the meaning of an abbreviation",
    "description": "a description of something",
    "entity": "an entity or a thing",
    "human": "a person or a group",
    "location": "a place or a location",
    "number": "a number or a quantity",
}

Spans = list[list[tuple[str, bool]]]


@dataclass(frozen=True)
class Task:
    """One case: prompts as spans, completions, and the text that instruction and shots put before every prompt."""

    name: str
    title: str
    spans: Spans
    completions: list[str]
    shared: str

    def message(self) -> dict[str, Any]:
        case = {"name": self.name, "spans": self.spans, "completions": self.completions, "shared": self.shared}
        return {"case": case | {"cappr_batch": CAPPR_BATCH.get(self.name, 1)}}


def build_task(name: str, tokenizer: Any, n_rows: int) -> Task:
    """The rows of one case, a random sample that is always the same."""
    if name == "a":
        prompt, words = Prompt("Review: {{ text }}\nSentiment:"), ["negative", "positive"]
        shots = _shots("sst2", {word: word for word in words}, 2)
        return _task(name, "SST-2, 4 shots, 2 labels of one token", prompt, words, _texts("sst2", n_rows), shots)
    if name == "b":
        prompt, words = Prompt("Question: {{ text }}\nAnswer type:"), list(TREC_WORDS.values())
        texts, shots = _texts("trec", n_rows), _shots("trec", TREC_WORDS, 1)
        return _task(name, "TREC, 6 shots, 6 labels of 4 to 5 tokens", prompt, words, texts, shots)
    if name in ("c", "c2"):
        words = [class_words[0] for class_words in load_card("banking77").classes.values()]
        instruction, title = None, "Banking77, zero-shot, 77 intents, none of them named in the prompt"
        if name == "c2":
            instruction = "Say which of these a bank's customer asks about: {{ label_words | join(', ') }}."
            title = "Banking77, zero-shot, 77 intents, all of them listed in an instruction"
        prompt = Prompt("Query: {{ text }}\nIntent:", instruction=instruction)
        return _task(name, title, prompt, words, _texts("banking77", n_rows))
    prompt, words = Prompt("Review: {{ text }}\nSentiment:"), ["negative", "positive"]
    texts = [text for text in _texts("imdb") if 300 <= len(tokenizer(text)["input_ids"]) <= 800][:n_rows]
    return _task(name, "IMDB, zero-shot, 2 labels, reviews of 300 to 800 tokens", prompt, words, texts)


def _texts(name: str, n: int | None = None) -> list[str]:
    return load_card(name).load("test", n=n)["text"].tolist()


def _shots(name: str, words: Mapping[str, str], per_class: int) -> list[tuple[dict[str, str], str]]:
    train = load_card(name).load("train")
    return [
        ({"text": text}, words[label])
        for i in range(per_class)
        for label in words
        for text in [train.loc[train["label"] == label, "text"].iloc[i]]
    ]


def _task(
    name: str,
    title: str,
    prompt: Prompt,
    words: Sequence[str],
    texts: Sequence[str],
    shots: Sequence[tuple[dict[str, str], str]] = (),
) -> Task:
    renderer = prompt.renderer(words, shots)
    rendered = [renderer.render({"text": text}) for text in texts]
    spans = [[(span.text, span.is_data) for span in row.turns[0].spans] for row in rendered]
    shared = ""
    if shots or prompt.instruction:
        shared = renderer.render({"text": "\0"}).text.partition("\0")[0].rstrip(" ")  # ends in "Review:"
    return Task(name, title, spans, [prompt.completion(word) for word in words], shared)


class Worker:
    """A contender's process; `failure` says why it could not start or why it ended."""

    def __init__(self, name: str, python: str, folder: Path, threads: int) -> None:
        self.failure: str | None = None
        self.versions: dict[str, str] = {}
        if not Path(python).is_file():
            self.failure = "no environment"
            return
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
        command = [python, str(HERE / "throughput_contenders.py"), name, str(folder), str(threads)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.versions = self._answer().get("versions", {})

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if self.failure:
            return {"error": self.failure}
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer says so
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if not line:
            self.failure = answer["error"]
        return answer

    def close(self) -> None:
        if hasattr(self, "_process"):
            self._process.stdin.close()
            self._process.wait()


def older_folder(folder: Path, where: Path) -> Path:
    """The same weights with a configuration that transformers 4 understands.

    Version 4 does not know `rope_parameters` (it would silently use another rotary base), nor the name of the tokenizer's
    class, whose replacement would give the model `token_type_ids`, which it does not read.
    """
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer["model_input_names"] = ["input_ids", "attention_mask"]
    (where / "config.json").write_text(json.dumps(config))
    (where / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    for file in (*folder.glob("model*"), folder / "tokenizer.json"):
        (where / file.name).symlink_to(file)
    return where


def score_errors(scores: Sequence[Sequence[float]], reference: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The largest difference from the reference in nats: over all labels, and over the likely ones."""
    actual, expected = np.array(scores), np.array(reference)[: len(scores)]
    difference = np.abs(actual - expected)
    share = np.exp(expected - np.logaddexp.reduce(expected, axis=1, keepdims=True))
    return float(difference.max()), float(difference[share > LIKELY].max())


def measure(
    tasks: Mapping[str, Task], workers: Mapping[str, Worker], rounds: int, scale: float, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """All runs, and per case the contenders without one, with the reason."""
    runs: list[dict[str, Any]] = []
    absent: dict[str, dict[str, str]] = {name: {} for name in tasks}
    done: set[tuple[str, str]] = set()
    for round_number in range(rounds):
        for case in tasks:
            for contender, worker in workers.items():
                if contender in absent[case] or (case, contender) in done:
                    continue
                n_rows = scaled(ROWS[case]["llmclf" if contender == "limit" else contender], scale)
                answer = worker.ask({"run": case, "rows": n_rows, "checked": ROWS[case]["checked"]})
                if "error" in answer:
                    absent[case][contender] = answer["error"]
                    say(f"({case}) {contender}: {answer['error']}")
                    continue
                runs.append({"case": case, "contender": contender, "round": round_number} | answer)
                seconds = answer.get("seconds", answer.get("limit_seconds"))
                say(f"({case}) round {round_number + 1}, {contender}: {n_rows} rows, {n_rows / seconds:.3g} rows/s")
                if seconds > LONG_SECONDS:
                    done.add((case, contender))
    return runs, absent


def scaled(n_rows: int, scale: float) -> int:
    return max(1, round(n_rows * scale))


def summarise(
    case: str, runs: Sequence[Mapping[str, Any]], reference: Sequence[Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """Per contender rows/s of every round, how many times slower than llmclf, score errors and peak memory."""
    rates: dict[str, dict[int, float]] = {}
    summary: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run["case"] == case:
            seconds = run.get("seconds", run.get("limit_seconds"))
            rates.setdefault(run["contender"], {})[run["round"]] = run.get("rows", 0) / seconds
    for contender, by_round in rates.items():
        own_runs = [run for run in runs if run["case"] == case and run["contender"] == contender]
        if contender == "limit":
            summary[contender] = _summarise_limit(own_runs, [run for run in runs if run["case"] == case])
            continue
        base = rates.get("llmclf", {})
        ratios = [base[i] / rate for i, rate in by_round.items() if i in base]
        errors = score_errors(own_runs[0]["scores"], reference)
        summary[contender] = {
            "rows": own_runs[0]["rows"],
            "rows_per_second": list(by_round.values()),
            "times_slower": median(ratios) if ratios else math.nan,
            "error_all": errors[0],
            "error_likely": errors[1],
            "peak_bytes": max(run["peak_bytes"] for run in own_runs),
        }
    return summary


def _summarise_limit(limits: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds = {run["round"]: run["seconds"] for run in runs if run["contender"] == "llmclf"}
    rows = next((run["rows"] for run in runs if run["contender"] == "llmclf"), 0)
    names = ("gflops_per_second", "ordinary_gflops_per_second", "gflops", "attention_gflops")
    values = {name: median(run[name] for run in limits) for name in (*names, "prefix_tokens", "own_tokens")}
    return values | {
        "label_nodes": limits[0]["label_nodes"],
        "share": [run["limit_seconds"] / seconds[run["round"]] for run in limits if run["round"] in seconds],
        "ordinary_share": [
            run["ordinary_limit_seconds"] / seconds[run["round"]] for run in limits if run["round"] in seconds
        ],
        "rows_per_second": [rows / run["limit_seconds"] for run in limits],
        "ordinary_rows_per_second": [rows / run["ordinary_limit_seconds"] for run in limits],
    }


def machine_facts(threads: int) -> dict[str, Any]:
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
    }


def to_markdown(results: Mapping[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    lines = [
        "# Throughput on a CPU",
        "",
        "How many rows per second does llmclf label, compared with other packages and with the machine's limit? Written by",
        "`throughput.py` (`make bench`). SmolLM2-135M in float32; every contender scores the same prompts and completions.",
        "",
        f"{machine['date']}. {machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; "
        f"{machine['system']}.",
        *(
            f"{TITLES[name]}: {_versions(packages)}."
            for name, packages in versions.items()
            if packages and name in TITLES
        ),
        "",
        f"Median [smallest–largest] of {results['rounds']} interleaved rounds; runs of more than {LONG_SECONDS:.0f} s are "
        "made once. Times slower: the median of the rounds' ratios. Score error: the largest difference from `ReferenceBackend`",
        f"in summed log-probability (nats), over the labels with more than {LIKELY:g} of a row's probability and over all.",
        "Peak memory: of the process, weights (0.54 GB) included.",
    ]
    for case in results["cases"].values():
        lines += ["", *_case_lines(case)]
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
            lines.append(f"| {title} | not run ({case['absent'][name]}) | | | | | |")
        elif name in case["contenders"]:
            entry = case["contenders"][name]
            slower = "" if name == "llmclf" or math.isnan(entry["times_slower"]) else f"{entry['times_slower']:.3g}"
            lines.append(
                f"| {title} | {_spread(entry['rows_per_second'])} | {slower} | {entry['rows']} | {entry['error_likely']:.1e} | "
                f"{entry['error_all']:.1e} | {entry['peak_bytes'] / 1e9:.2f} GB |"
            )
    limit = case["contenders"].get("limit")
    if limit:
        lines += [
            "",
            f"The trie of a run: {limit['prefix_tokens']:.0f} tokens shared by all rows, then {limit['own_tokens']:.0f} tokens "
            f"and {limit['label_nodes']:.0f} inner nodes of labels per row. Its operations alone would allow "
            f"{_spread(limit['ordinary_rows_per_second'])} rows/s at the rate of PyTorch's ordinary product of the same shapes "
            f"({limit['ordinary_gflops_per_second']:.0f} GFLOP/s), and {_spread(limit['rows_per_second'])} rows/s at the rate "
            f"with packed weights, which llmclf uses ({limit['gflops_per_second']:.0f} GFLOP/s).",
        ]
        if limit["share"]:
            lines[-1] += (
                f" llmclf reaches **{_percent(limit['ordinary_share'])}** of the first and "
                f"**{_percent(limit['share'])}** of the second."
            )
    return lines


def _spread(values: Sequence[float]) -> str:
    middle = f"{median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.3g}–{max(values):.3g}]"


def _percent(shares: Sequence[float]) -> str:
    return f"{_spread([100 * share for share in shares])} %"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def main() -> int:
    args = _arguments()
    if not os.environ.get("LLMCLF_DATA"):
        print("LLMCLF_DATA is not set: it must name the folder with sst2, trec, banking77 and imdb.", file=sys.stderr)
        return 2
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:7.0f} s  {text}", flush=True)

    import torch

    torch.set_num_threads(args.threads)
    model, tokenizer, _ = load("smollm2", "cpu", None)
    try:
        most = {name: max(scaled(n, args.rows_scale) for n in ROWS[name].values()) for name in args.cases}
        tasks = {name: build_task(name, tokenizer, most[name]) for name in args.cases}
    except DownloadError as error:
        print(error, file=sys.stderr)
        return 2
    judge = ReferenceBackend(model, tokenizer)
    reference: dict[str, list[tuple[float, ...]]] = {}
    for name, task in tasks.items():
        requests = requests_of(task.spans[: ROWS[name]["checked"]], task.completions)
        reference[name] = [scores.sums for _, scores in judge.score(requests)]
        say(f"({name}) scored {len(requests)} rows with the reference")
    folder, _ = converted(SMOLLM2.locate())
    pythons = {"cappr": args.cappr_python, "lm-eval": args.lm_eval_python}
    with tempfile.TemporaryDirectory() as older:
        folders = {"cappr": older_folder(folder, Path(older))}
        workers = {
            name: Worker(name, pythons.get(name, sys.executable), folders.get(name, folder), args.threads)
            for name in ORDER
            if name in args.contenders
        }
        try:
            warm_up = _task("warm-up", "", Prompt(), ["yes", "no"], ["A short text.", "Another one, a little longer."])
            for worker in workers.values():
                for task in (warm_up, *tasks.values()):
                    worker.ask(task.message())
            say("opened " + ", ".join(name for name, worker in workers.items() if not worker.failure))
            runs, absent = measure(tasks, workers, args.rounds, args.rows_scale, say)
        finally:
            for worker in workers.values():
                worker.close()
    results = {
        "machine": machine_facts(args.threads),
        "versions": {name: worker.versions for name, worker in workers.items()},
        "rounds": args.rounds,
        "seconds": time.perf_counter() - began,
        "cases": {
            name: {"title": task.title, "contenders": summarise(name, runs, reference[name]), "absent": absent[name]}
            for name, task in tasks.items()
        },
        "runs": [{key: value for key, value in run.items() if key != "scores"} for run in runs],
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "throughput.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (args.output / "throughput.md").write_text(to_markdown(results))
    say("wrote throughput.md and throughput.json")
    return 0


def _arguments() -> argparse.Namespace:
    def names(known: Sequence[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := sorted(set(chosen) - set(known)):
                raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; known: {', '.join(known)}")
            return chosen

        return parse

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=names(list(ROWS)), default=list(ROWS), help="default: all of %(default)s")
    parser.add_argument("--contenders", type=names(ORDER), default=list(ORDER), help="default: all of %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows-scale", type=float, default=1.0, help="multiplies the rows of every run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cappr-python", default=str(HERE.parent / ".bench/cappr/bin/python"))
    parser.add_argument("--lm-eval-python", default=str(HERE.parent / ".bench/lm-eval/bin/python"))
    parser.add_argument(
        "--output", type=Path, default=HERE, help="the folder to write to (default: that of this script)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
