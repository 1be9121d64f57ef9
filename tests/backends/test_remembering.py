"""What models are asked while a transformer works: answers that are known, and rehearsals in which nothing is sent."""

from __future__ import annotations

import threading

from llmclf.backends import open_backend
from llmclf.backends.remembering import Memory, Rehearsal


def test_a_memory_is_open_in_its_block_and_thread_alone():
    """The inner one of two counts; another thread, and whoever comes after an error, finds none."""
    outer, inner, elsewhere = Memory(), Memory(), []
    with outer.opened():
        assert Memory.current() is outer
        with inner.opened():
            assert Memory.current() is inner
            assert Rehearsal.current() is None
            thread = threading.Thread(target=lambda: elsewhere.append(Memory.current()))
            thread.start()
            thread.join()
        assert Memory.current() is outer
        try:
            with Rehearsal().opened():
                assert Memory.current() is None
                raise RuntimeError
        except RuntimeError:
            assert Memory.current() is outer
    assert (Memory.current(), elsewhere) == (None, [None])


def test_a_memory_knows_what_it_was_told():
    """Answers by their keys, and each model once."""
    memory = Memory()
    memory.put([("a", 1), ("b", 2)])
    assert memory.get(["a", "c"]) == {"a": 1}
    for model in (open_backend("smollm2"), open_backend("smollm2"), open_backend("openai:other")):
        memory.note(model)
    assert memory.asked == [open_backend("smollm2"), open_backend("openai:other")]
