"""Models and texts that the tests share: tiny random models of several kinds, made here, and the real small one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import tiers
import usual_signals
from hypothesis import HealthCheck, settings
from tiny_models import save_with_large_weights

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes with several threads each keep one another waiting
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("SCIPY_ARRAY_API", "1")  # else one of scikit-learn's checks skips itself
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for _name in tuple(os.environ):
    if _name.startswith(("OPENAI_", "TYPESAFE_")):
        del os.environ[_name]  # servers and keys of whoever runs the tests are no part of them
# What a shell runs in the background ignores Ctrl-C, and so would all that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says more about what else the machine is doing than about the code.
settings.register_profile("llmclf", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("llmclf")


def pytest_configure(config):
    for name, meaning in tiers.MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.pluginmanager.register(tiers.Watch())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        tiers.mark(item)
    if "PYTEST_XDIST_WORKER" in os.environ:
        tiers.longest_first(items)


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report, config):
    return tiers.status(report) if getattr(config.option, "numprocesses", None) else None


CORPUS = [
    "The film was a delight from start to finish, and the actors were superb.",
    "What a waste of time: neither funny nor sad, and far too long.",
    "positive negative neutral spam not spam not sure cat catfish dog person or group",
    "Review: the plot is thin.\nSentiment: negative",
    "Question: who wrote it?\nAnswer: a person",
    "The numbers 7 and 42 (and 3.14) are not words; \"quotes\" and 'such' are marks!",
    "Größe, café, naïve, 東京 and emoji 🙂 are text as well.",
] * 4

KINDS = ("byte_bpe", "sentencepiece", "no_pad")


def _byte_bpe_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _sentencepiece_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    trainer = trainers.BpeTrainer(
        vocab_size=620,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def make_model(kind: str, folder: Path) -> Path:
    """Save a tiny random model with a tokenizer of one kind, and return its folder."""
    import torch
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        MambaConfig,
        MambaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "max_position_embeddings": 256}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    if kind == "sentencepiece":
        core = _sentencepiece_tokenizer()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
        )
    else:
        core = _byte_bpe_tokenizer()
        extra = {} if kind == "no_pad" else {"pad_token": "<|endoftext|>"}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core,
            eos_token="<|endoftext|>" if kind == "no_pad" else "<|im_end|>",
            additional_special_tokens=["<|im_start|>", "<|im_end|>"],
            **extra,
        )
        tokenizer.chat_template = (
            "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n"
            "{% endif %}{% endif %}"
        )
    n = len(tokenizer)
    if kind == "no_pad":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=n, n_positions=256, n_embd=32, n_layer=3, n_head=4))
    elif kind == "sliding_window":
        model = MistralForCausalLM(MistralConfig(vocab_size=n, sliding_window=7, **small, **heads))
    elif kind == "softcap":
        model = Gemma2ForCausalLM(Gemma2Config(vocab_size=n, sliding_window=9, **small, **heads))
    elif kind == "no_attention":
        model = MambaForCausalLM(MambaConfig(vocab_size=n, hidden_size=32, num_hidden_layers=2, state_size=4))
    else:
        model = LlamaForCausalLM(LlamaConfig(vocab_size=n, **small, **heads))
    save_with_large_weights(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A function: kind -> folder of a tiny random model, made once per session."""
    folders: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = make_model(kind, tmp_path_factory.mktemp(kind))
        return folders[kind]

    return folder


@pytest.fixture(scope="session", params=KINDS)
def tiny(request, model_folder):
    """A LocalBackend on a tiny random model, one for each kind of tokenizer."""
    from llmclf import open_backend

    return open_backend(f"hf:{model_folder(request.param)}")


@pytest.fixture(scope="session")
def tiny_bpe(model_folder):
    """A LocalBackend on a tiny random model with a byte-level tokenizer and a chat template."""
    from llmclf import open_backend

    return open_backend(f"hf:{model_folder('byte_bpe')}")


@pytest.fixture(scope="session")
def smollm2():
    """The real default model."""
    from llmclf import open_backend

    return open_backend("smollm2")


@pytest.fixture(autouse=True)
def own_environment():
    """What a test sets in the environment, be it by a page of the documentation that it runs, is gone with the test."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def as_a_new_process(request):
    """Tests that send signals begin with what a new process does with them."""
    if request.node.get_closest_marker("kill") is None:
        yield
    else:
        before = usual_signals.take()
        yield
        usual_signals.put_back(before)


@pytest.fixture
def no_waiting(monkeypatch):
    """Retries follow at once, and no server or key of the environment is meant."""
    from llmclf.backends.http import client

    monkeypatch.setattr(client, "_FIRST_WAIT", 0.001)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys):
    """A function: arguments -> what the command line does with them, without the cost of a new process."""

    from llmclf.cli import main

    def call(*arguments) -> Result:
        monkeypatch.setattr(sys, "argv", ["llmclf", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        handler = signal.getsignal(signal.SIGINT)
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            signal.signal(signal.SIGINT, handler)
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, without a window; no longer than a module, since its event loop would be in the way of others."""
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail(
                "the tests of the page need a Chromium, and here they may not be skipped; apt-get install chromium"
            )
        pytest.skip("no Chromium on this machine; install the system's package chromium to test the page")
    with sync_playwright() as playwright:
        # Its sandbox refuses to run as root, as in a container.
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()
