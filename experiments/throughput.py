"""How many rows per second does llmclf label on a CPU, compared with other packages and with the machine's limit?

All contenders score exactly the same prompts and completions with the same weights on the same number of threads, in float32
where nothing else is said. Each runs in its own process (throughput_process.py). Rounds are interleaved, one run of every
contender after another, so that a disturbance of the machine affects all alike; ratios are taken within a round. Every score is
compared with `ReferenceBackend`. One row at a time is timed in the same rounds. Needs the data folder that LLMCLF_DATA names;
writes throughput.md and throughput.json beside itself.

    python experiments/throughput.py [--cases a,b] [--contenders llmclf,pairs] [--rounds 3] [--rows-scale 0.1]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import throughput_latency
from throughput_cases import ROWS, Task, build_task, checked_labels, requests_of, rows_of, scaled, warm_up_task
from throughput_llama import rewritten
from throughput_table import machine_facts, summarise, to_markdown

from llmclf.backends import ReferenceBackend
from llmclf.backends.local.weights import converted, load
from llmclf.downloads import SMOLLM2
from llmclf.errors import DownloadError

HERE = Path(__file__).resolve().parent
LONG_SECONDS = 60.0  # a run that takes longer is not repeated in later rounds
DTYPES = ("float32", "bfloat16")
# A limit is timed next to the contender whose result is a share of it.
ORDER = (
    "limit",
    "llmclf",
    "limit:bfloat16",
    "llmclf:bfloat16",
    "pairs",
    "cappr",
    "lm-eval",
    "llama:float32",
    "llama:q8_0",
    "llama:file",
    "grammar",
    "vllm",
    "latency",
)
# A server may keep what it has answered, so every round brings it other rows.
NEW_ROWS = ("grammar", "vllm", "latency")
REWRITTEN = {"llama:float32": "F32", "llama:q8_0": "Q8_0"}  # the type of its GGUF file
FILE = ("llama:file", "grammar")
MEMORY_CASES = ("a", "e")  # two labels, two thousand labels


class Worker:
    """A contender's process; `failure` says why it could not start or why it ended.

    It is stopped while another one is measured, and its server with it: some keep a core busy for seconds after their answer.
    """

    def __init__(self, name: str, python: str, path: Path, threads: int, server_python: str = "") -> None:
        self.failure: str | None = None
        self.versions: dict[str, str] = {}
        for needed, maker in ((python, "make bench"), (server_python, "make servers")):
            if needed and not Path(needed).is_file():
                self.failure = f"its environment is not there (`{maker}`)"
                return
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
        command = [python, str(HERE / "throughput_process.py"), name, str(path), str(threads), server_python]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        opened = self._answer()
        self._signal(signal.SIGSTOP)
        self.versions, self.failure = opened.get("versions", {}), opened.get("error")

    def run(self, case: str, first: int, n_rows: int, n_checked: int) -> dict[str, Any]:
        return self.ask({"run": case, "first": first, "rows": n_rows, "checked": n_checked})

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if self.failure:
            return {"error": self.failure}
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer says so
        answer = self._answer()
        self._signal(signal.SIGSTOP)
        return answer

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if not line:
            self.failure = answer["error"]
        return answer

    def _signal(self, number: int) -> None:
        """To the contender and all that it has started."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            for one in (process, *process.children(recursive=True)):
                one.send_signal(number)

    def close(self) -> None:
        if hasattr(self, "_process"):
            self._signal(signal.SIGCONT)
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
                n_rows = rows_of(case, contender, scale)
                if not n_rows or contender in absent[case] or (case, contender) in done:
                    continue
                first = round_number * n_rows if contender in NEW_ROWS else 0
                answer = worker.run(case, first, n_rows, ROWS[case]["checked"])
                if "error" in answer:
                    absent[case][contender] = answer["error"]
                    say(f"({case}) {contender}: {answer['error']}")
                    continue
                runs.append({"case": case, "contender": contender, "round": round_number, "rows": n_rows} | answer)
                seconds = answer.get("seconds", answer.get("limit_seconds"))
                say(f"({case}) round {round_number + 1}, {contender}: {n_rows} rows, {n_rows / seconds:.3g} rows/s")
                if seconds > LONG_SECONDS:
                    done.add((case, contender))
        measure_latency(runs, workers, round_number, scale, say)
    return runs, absent


def measure_latency(
    runs: list[dict[str, Any]],
    workers: Mapping[str, Worker],
    round_number: int,
    scale: float,
    say: Callable[[str], None],
) -> None:
    """One round of single rows."""
    if "latency" in workers:
        n_rows = scaled(throughput_latency.ROWS_PER_ROUND, scale)
        answer = workers["latency"].run("warm-up", round_number * n_rows, n_rows, 0)
        say(f"one row at a time, round {round_number + 1}: {answer.get('error', f'{n_rows} calls of each kind')}")
        if "error" not in answer:
            runs.append({"case": "latency", "contender": "latency", "round": round_number} | answer)


def measure_memory(tasks: Mapping[str, Task], folder: Path, threads: int, scale: float) -> dict[str, dict[str, int]]:
    """llmclf's peak memory in some cases, each in a fresh process."""
    memory = {}
    for case in MEMORY_CASES:
        if case in tasks:
            worker = Worker("llmclf", sys.executable, folder, threads)
            worker.ask(warm_up_task().message())
            worker.ask(tasks[case].message())
            n_rows = rows_of(case, "llmclf", scale)
            answer = worker.run(case, 0, n_rows, 0)
            worker.close()
            if "error" not in answer:
                memory[case] = {"rows": n_rows, "peak_bytes": answer["peak_bytes"]}
    return memory


def open_workers(names: Sequence[str], args: argparse.Namespace, folder: Path, work: Path) -> dict[str, Worker]:
    """A process for each contender, with the files and the environment that it needs."""
    paths = {"cappr": lambda: older_folder(folder, work)}
    paths |= dict.fromkeys(FILE, SMOLLM2.locate)
    paths |= {
        name: partial(rewritten, SMOLLM2.locate(), work / f"{kind}.gguf", kind) for name, kind in REWRITTEN.items()
    }
    pythons = {"cappr": args.cappr_python, "lm-eval": args.lm_eval_python}
    pythons |= dict.fromkeys((*REWRITTEN, "llama:file"), args.llama_python)
    servers = {"vllm": args.vllm_python}
    return {
        name: Worker(
            f"latency:{','.join(DTYPES)}" if name == "latency" else name,
            pythons.get(name, sys.executable),
            paths.get(name, lambda: folder)(),
            args.threads,
            servers.get(name, ""),
        )
        for name in ORDER
        if name in names
    }


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
        tasks = {name: build_task(name, tokenizer, _most_rows(name, args)) for name in args.cases}
    except DownloadError as error:
        print(error, file=sys.stderr)
        return 2
    judge = ReferenceBackend(model, tokenizer)
    reference: dict[str, list[tuple[float, ...]]] = {}
    for name, task in tasks.items():
        completions = task.completions[checked_labels(len(task.completions))]
        requests = requests_of(task.spans[: ROWS[name]["checked"]], completions)
        reference[name] = [scores.sums for _, scores in judge.score(requests)]
        say(f"({name}) scored {len(requests)} rows with the reference")
    del judge, model
    folder, _ = converted(SMOLLM2.locate())
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = open_workers(args.contenders, args, folder, work)
        for worker in workers.values():
            stack.callback(worker.close)
        for worker in workers.values():
            for task in (warm_up_task(), *tasks.values()):
                worker.ask(task.message())
        say("opened " + ", ".join(name for name, worker in workers.items() if not worker.failure))
        runs, absent = measure(tasks, workers, args.rounds, args.rows_scale, say)
    memory = {}
    if "llmclf" in args.contenders:
        memory = measure_memory(tasks, folder, args.threads, args.rows_scale)
        say("measured memory")
    latency = [run for run in runs if run["contender"] == "latency"]
    results = {
        "machine": machine_facts(args.threads),
        "versions": {name: worker.versions for name, worker in workers.items()},
        "rounds": args.rounds,
        "seconds": time.perf_counter() - began,
        "cases": {
            name: {"title": task.title, "contenders": summarise(name, runs, reference[name]), "absent": absent[name]}
            for name, task in tasks.items()
        },
        "memory": memory,
        "latency": throughput_latency.summarise(latency) if latency else {},
        "runs": [{key: value for key, value in run.items() if key != "scores"} for run in runs],
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "throughput.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (args.output / "throughput.md").write_text(to_markdown(results, LONG_SECONDS))
    say("wrote throughput.md and throughput.json")
    return 0


def _most_rows(case: str, args: argparse.Namespace) -> int:
    """How many rows of a case are scored by whoever scores most."""
    rounds = {name: args.rounds if name in NEW_ROWS else 1 for name in args.contenders}
    most = max(rows_of(case, name, args.rows_scale) * n for name, n in rounds.items())
    return max(most, int(ROWS[case]["checked"]))


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
    parser.add_argument("--llama-python", default=str(HERE.parent / ".bench/llama-cpp/bin/python"))
    parser.add_argument("--vllm-python", default=str(HERE.parent / ".servers/vllm/bin/python"))
    parser.add_argument(
        "--output", type=Path, default=HERE, help="the folder to write to (default: that of this script)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
