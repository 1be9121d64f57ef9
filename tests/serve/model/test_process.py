"""The process of the models, with models that say in which thread they are at work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmclf.serve.model.frames import framed, length_of, packed

pytestmark = [pytest.mark.server]

PROGRAM = """
import sys, threading
from dataclasses import replace
sys.path[:0] = {path!r}
from serving import fake_pipeline
from llmclf.backends import FakeBackend
from llmclf.serve.model.answering import Answerer, OpenModel
from llmclf.serve.model.process import run

class Saying(FakeBackend):
    shares_beginnings = True

    def identity(self):
        print("opens", self.seed, threading.current_thread().name, flush=True)
        return super().identity()

    def score(self, requests):
        print("answers", self.seed, threading.current_thread().name, flush=True)
        return super().score(requests)

def opened(config):
    classifiers = {{name: replace(fake_pipeline(), backend=Saying(seed)) for seed, name in enumerate(["a", "b"])}}
    return Answerer(classifiers, {{"m": OpenModel(Saying(2))}})

run(opened)
"""


def test_each_model_is_opened_and_asked_in_the_thread_of_its_lane():
    """A thread that multiplies gets helpers of its own, which the helpers of a second thread would wait for."""
    asks = {
        "0": {"model": "a", "row": {"text": "x"}},
        "1": {"model": "b", "row": {"text": "x"}},
        "2": {"model": "m", "question": "Which?", "words": ["u", "v"], "text": "x"},
    }
    config = {
        "lanes": dict.fromkeys(asks, 1),
        "classifiers": [{"name": "a", "lane": "0"}, {"name": "b", "lane": "1"}],
        "models": [{"name": "m", "lane": "2"}],
    }
    messages = [config, *({"id": int(lane), "lane": lane, **packed([ask])} for lane, ask in asks.items())]
    program = PROGRAM.format(path=[path for path in sys.path if path])
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        for message in messages:
            process.stdin.write(framed(message))
        process.stdin.flush()
        for _ in messages:  # what was opened, and the answers
            head = process.stdout.read(4)
            process.stdout.read(length_of(head))
        process.stdin.close()
        said = process.stderr.read().decode().splitlines()
    assert sorted(set(said)) == sorted(f"{what} {lane} lane-{lane}_0" for lane in asks for what in ("opens", "answers"))
