"""The process of the models: reads messages from its standard input, answers on its standard output, ends where the input does.

It is started by `llmclf.serve.model.supervision`, and outlives neither a crash of its own (another one takes its place) nor the
process that listens.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from ...backends import open_backend
from ...errors import LlmclfError
from ...loading import load_pipeline
from .answering import Answerer, OpenModel
from .frames import framed, read_frame, unpacked


def main() -> None:
    """Serve one client, the process that started this one."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # whoever listens decides when the work is done
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    run(open_answerer)


def run(opened: Any) -> None:
    """Answer messages until the input ends.

    Parameters
    ----------
    opened : callable
        Makes an `Answerer` of the first message, which says the lane of each model, too.
    """
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer
    lock = Lock()

    def write(message: dict[str, Any]) -> None:
        data = memoryview(framed(message))
        with lock:
            while data:
                data = data[answers.write(data) :]

    config = read_frame(sys.stdin.buffer)
    if config is None:
        return
    pools = {lane: ThreadPoolExecutor(n, f"lane-{lane}") for lane, n in config["lanes"].items()}
    names: dict[str, list[str]] = {lane: [] for lane in pools}
    for one in (*config["classifiers"], *config["models"]):
        names[one["lane"]].append(one["name"])
    versions: dict[str, str] = {}
    try:
        answerer: Answerer = opened(config)
        for lane, pool in pools.items():
            # In the thread that will make passes: each thread that multiplies gets helpers of its own, and where there are more
            # of them than processors, all of them sleep between two products.
            versions.update(pool.submit(answerer.open, names[lane]).result())
    except LlmclfError as error:
        write({"failed": str(error), "is_input": isinstance(error, ValueError)})
        return
    except Exception as error:
        write({"failed": f"the model cannot be opened ({_named(error)})", "is_input": False})
        return
    warnings.simplefilter("ignore")  # what is warned of from here on may quote a text
    gc.freeze()
    sys.setswitchinterval(0.0005)
    write({"versions": versions, "pid": os.getpid()})

    def answer(message: Mapping[str, Any]) -> None:
        try:
            write({"id": message["id"], "answers": answerer.answers(unpacked(message))})
        except BaseException as error:  # an answer that cannot be written helps nobody: the next process may do better
            print(f"the model's process ends: {_named(error)}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)

    while (message := read_frame(sys.stdin.buffer)) is not None:
        pools[message["lane"]].submit(answer, message)
    os._exit(0)  # nobody waits for what is still under way


def open_answerer(config: Mapping[str, Any]) -> Answerer:
    """The answerer that a configuration describes.

    Raises
    ------
    LlmclfError
        A folder or a model cannot be opened.
    """
    classifiers = {
        one["name"]: load_pipeline(
            one["folder"],
            model_options=one["model_options"],
            embedding_options=one["embedding_options"],
            trust=one["trust"],
            check_model=True,
        )
        for one in config["classifiers"]
    }
    models = {
        one["name"]: OpenModel(open_backend(one["model"], **one["model_options"]), chat=one["chat"])
        for one in config["models"]
    }
    return Answerer(classifiers, models)


def _named(error: BaseException) -> str:
    """The kind of an error and where it arose, without its words, which may quote a text."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" at {os.path.basename(one.filename)}:{one.lineno}" for one in last)
    return f"{type(error).__name__}{where}"
