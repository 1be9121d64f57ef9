"""How far does the same model move between runs, routes and settings, and is a changed one told from it?

One classifier per route on the default model is certified; the canary is then asked again under other settings (batches, threads,
memory, another start of the server with other slots), and of models that were changed a little. Needs the data folder that
LLMCLF_DATA names; writes canary_noise.md beside itself.

    python experiments/canary_noise.py [--only local,servers]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from llmclf import LLMClassifier, Prompt, open_backend, verify
from llmclf.calibration import SelectedThreshold
from llmclf.cards import load_card
from llmclf.certificates import Certificate, certificate_of
from llmclf.downloads import SMOLLM2
from llmclf.saved_folder import classifier_sha256

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

PROMPT = "Review: {{ text }}\nSentiment:"
LABELS = {"fresh": ["positive"], "rotten": ["negative"]}
N_FIT, N_JUDGED = 60, 60
ROUTES = ("grammar", "named_tokens", "top_logprobs", "chat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="local,servers")
    parser.add_argument(
        "--serve", nargs=5, metavar=("GGUF", "PORT", "SLOTS", "THREADS", "BATCH"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.serve:
        serve(given.serve[0], *map(int, given.serve[1:]))
        return
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        for part in given.only.split(","):
            for line in {"local": local_lines, "servers": server_lines}[part](Path(work)):
                print(line, flush=True)
                lines.append(line)
    if given.only == "local,servers":
        (HERE / "canary_noise.md").write_text(to_markdown(lines), encoding="utf-8")


def certified(model: Any, folder: Path, *, prompt: Any = PROMPT) -> Path:
    """The folder of a certified classifier that accepts all rows."""
    rows = load_card("rotten_tomatoes").load("train", n=N_FIT + N_JUDGED)
    clf = LLMClassifier(model, labels=LABELS, prompt=prompt, calibrator="temperature", random_state=0)
    clf.fit(rows["text"][:N_FIT], rows["label"][:N_FIT])
    clf.threshold_ = SelectedThreshold(0.0, 1.0, 0.4, 0.6, N_FIT, N_FIT, 0.6, 0.95)
    clf.certify(rows["text"][N_FIT:], rows["label"][N_FIT:], max_error=0.7, folder=folder)
    return folder


def line(model: str, change: str, folder: Path, **options: Any) -> str:
    """A row of the table: what `verify` says, and how far scores and probabilities have moved."""
    found = verify(folder, **options)
    moved = found.comparison
    if moved is None:
        return f"| {model} | {change} | | | | {found.outcome} |"
    fact = "" if moved.other_fact is None else f" ({moved.other_fact.split()[0]})"
    return (
        f"| {model} | {change} | {moved.score_difference:.1e} | {moved.probability_difference:.1e} | "
        f"{moved.score_tolerance:.1e} | {found.outcome}{fact} |"
    )


def local_lines(work: Path) -> Iterator[str]:
    """The default model in this process, in its number types."""
    import torch

    n_threads = torch.get_num_threads()
    for dtype in ("float32", "bfloat16"):
        folder = certified(open_backend("smollm2", dtype=dtype), work / dtype)
        noise = certificate_of(folder).content.canary.score_noise
        yield line(f"smollm2, {dtype}", f"none (noise measured then: {noise:.1e})", folder)
        for batch in (64, 4096):
            yield line(f"smollm2, {dtype}", f"batch_tokens={batch}", folder, model_options={"batch_tokens": batch})
        torch.set_num_threads(2 if n_threads == 1 else 1)
        yield line(f"smollm2, {dtype}", f"{torch.get_num_threads()} threads, not {n_threads}", folder)
        torch.set_num_threads(n_threads)
        if dtype == "float32":
            yield line("smollm2, float32", 'memory="file"', folder, model_options={"memory": "file"})
            yield line("smollm2, float32", 'dtype="bfloat16"', folder, model_options={"dtype": "bfloat16"})
            gguf = shutil.copy(SMOLLM2.locate(), work / "same.gguf")
            yield line("smollm2, float32", "the same file as gguf:FILE", reached(folder, work / "gguf", f"gguf:{gguf}"))
            yield from changed_lines(folder, work)


def changed_lines(folder: Path, work: Path) -> Iterator[str]:
    """Other weights under the same description, and other files of the classifier."""
    for layers, factor in (([15], 1.001), ([15], 1.0001), (range(30), 1.001)):
        gguf = scaled(work, layers, factor)
        other = reached(folder, work / f"scaled-{len(layers)}-{factor}", f"gguf:{gguf}", hides_weights=True)
        n = "one norm" if len(layers) == 1 else "all norms"
        yield line("smollm2, float32", f"weights of {n} times {factor}, as if they had the same hash", other)
    for name, change in CHANGES.items():
        other = Path(shutil.copytree(folder, work / name.replace(" ", "-")))
        values = json.loads((other / "classifier.json").read_text())
        change(values)
        (other / "classifier.json").write_text(json.dumps(values))
        yield line("smollm2, float32", name, other)
        renamed(certificate_of(folder), other)
        yield line("smollm2, float32", f"{name}, and its hash in the certificate", other)


def _prompt(values: dict[str, Any]) -> None:
    values["prompt"]["template"] = "Review: {{ text }}\nMood:"


def _words(values: dict[str, Any]) -> None:
    values["words"] = [["good"], ["bad"]]


def _calibrator(values: dict[str, Any]) -> None:
    values["corrections"]["calibrator"]["fitted"]["temperature"] *= 1.01


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another prompt": _prompt,
    "other label words": _words,
    "a temperature 1 % higher": _calibrator,
}


def server_lines(work: Path) -> Iterator[str]:
    """llama.cpp's own server with the same file, by each route."""
    chat = Prompt("Review: {{ text }}\nIs it positive or negative?", chat=True)
    settings = {
        "the server started again": {},
        "4 slots": {"slots": 4},
        "1 thread": {"threads": 1},
        "batches of 32": {"batch": 32},
    }
    folders = {}
    gguf = SMOLLM2.locate()
    with llama(gguf, work) as url:
        for route in ROUTES:
            name = f"llama.cpp, {route}"
            model = open_backend("openai:smol", base_url=url, use_route=route, concurrency=2)
            try:
                folders[route] = certified(model, work / route, prompt=chat if route == "chat" else PROMPT)
            except Exception as error:  # a route that this server does not have
                yield f"| {name} | not on this server: {str(error)[:80]} | | | | |"
                continue
            noise = certificate_of(folders[route]).content.canary.score_noise
            yield line(
                name, f"none (noise measured then: {noise:.1e})", folders[route], model_options={"base_url": url}
            )
            yield line(name, "8 requests at once", folders[route], model_options={"base_url": url, "concurrency": 8})
    for change, options in settings.items():
        with llama(gguf, work, **options) as url:
            for route, folder in folders.items():
                yield line(f"llama.cpp, {route}", change, folder, model_options={"base_url": url})
    for layers, factor in (([15], 1.001), (range(30), 1.001), ([15], 1.01)):
        with llama(scaled(work, layers, factor), work) as url:
            n = "one norm" if len(layers) == 1 else "all norms"
            for route, folder in folders.items():
                yield line(
                    f"llama.cpp, {route}", f"weights of {n} times {factor}", folder, model_options={"base_url": url}
                )


def scaled(work: Path, layers: Any, factor: float) -> Path:
    """The default model's file with the norms before the attention of some layers scaled."""
    from gguf import GGUFReader

    path = work / f"scaled-{len(layers)}-{factor}.gguf"
    shutil.copy(SMOLLM2.locate(), path)
    path.chmod(0o644)
    reader = GGUFReader(path, "r+")
    names = {f"blk.{layer}.attn_norm.weight" for layer in layers}
    for tensor in reader.tensors:
        if tensor.name in names:
            tensor.data[:] = (tensor.data * np.float32(factor)).astype(tensor.data.dtype)
            tensor.data.flush()
    del reader
    return path


def reached(folder: Path, target: Path, model: str, *, hides_weights: bool = False) -> Path:
    """A copy of a certified folder whose model is another string; the certificate is made to be about it."""
    shutil.copytree(folder, target)
    values = json.loads((target / "classifier.json").read_text())
    values["model"] = model
    (target / "classifier.json").write_text(json.dumps(values))
    identity = open_backend(model).identity()
    renamed(
        certificate_of(folder),
        target,
        {"model": identity["model"], **({"weights": identity["weights"]} if hides_weights else {})},
    )
    return target


def renamed(made: Certificate, folder: Path, facts: dict[str, Any] | None = None) -> None:
    """Let a certificate name the classifier's file as it is in a folder, and other facts of the model."""
    classifier = made.content.classifier.model_copy(update={"sha256": classifier_sha256(folder)})
    model = {**made.content.model, **(facts or {})}
    content = made.content.model_copy(update={"classifier": classifier, "model": model})
    Certificate(content, made.reference).save(folder)


@contextmanager
def llama(gguf: Path, work: Path, *, slots: int = 2, threads: int = 2, batch: int = 2048) -> Iterator[str]:
    from servers import free_port, running

    port = free_port()
    command = [sys.executable, __file__, "--serve", *map(str, (gguf, port, slots, threads, batch))]
    with running(command, f"http://127.0.0.1:{port}/v1/models", work / "llama.log", seconds=60) as url:
        yield url.removesuffix("/models")


def serve(path: str, port: int, slots: int, threads: int, batch: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 2048 * slots
    params.n_parallel = slots
    params.cpuparams.n_threads = threads
    params.n_batch = params.n_ubatch = batch
    params.warmup = False
    server = xllamacpp.Server(params)
    assert server.listening_address
    threading.Event().wait()


def to_markdown(lines: list[str]) -> str:
    return "\n".join(
        [
            "# What a canary tells apart",
            "",
            "A classifier on the default model (SmolLM2-135M, 4 bits) is certified, and 50 canary rows are asked again under",
            "other settings, and of models that were changed a little. Differences are the largest of all rows and classes: of",
            "scores in nats, and of calibrated probabilities. Tolerated is the larger of three times the noise that was measured",
            "when it was certified and the least for its number type. Written by `canary_noise.py`.",
            "",
            "| model | what differs | scores | probabilities | tolerated | verdict |",
            "|---|---|--:|--:|--:|---|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
