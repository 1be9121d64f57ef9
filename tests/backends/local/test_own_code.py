"""Code of a model's own repository is never run, whatever its files say, and nobody is asked on standard input."""

from __future__ import annotations

import builtins
import json
import shutil
import sys

import pandas as pd
import pytest
from faults import FakeServer

from llmclf import LLMClassifier, Prompt, load, open_backend
from llmclf.backends.embeddings import open_embedder
from llmclf.backends.local import loaded_model
from llmclf.backends.openai.backend import OpenAIBackend
from llmclf.errors import InputError, LlmclfError, ModelError
from llmclf.jobs import estimate_table

OWN = "from pathlib import Path\nPath({marker!r}).write_text('ran')\nclass Own: pass\nOwnConfig = OwnTokenizer = Own\n"


@pytest.fixture
def hostile(model_folder, tmp_path, monkeypatch):
    """A function: changes to the JSON files of a model -> a copy of its folder with code that leaves a mark; and that mark."""
    marker = tmp_path / "ran"

    asked = []
    monkeypatch.setattr(builtins, "input", lambda *questions: asked.append(questions) or "y")
    monkeypatch.setattr(sys, "stdin", None)

    def made(**files):
        folder = tmp_path / "model"
        shutil.copytree(model_folder("byte_bpe"), folder)
        for name in ("modeling_own", "configuration_own", "tokenization_own", "__init__"):
            (folder / f"{name}.py").write_text(OWN.format(marker=str(marker)))
        for name, change in files.items():
            file = folder / f"{name}.json"
            values = json.loads(file.read_text()) if file.exists() else {}
            file.write_text(json.dumps({**values, **change}))
        loaded_model._MODELS.clear()
        return folder

    yield made
    assert not marker.exists()
    assert not asked


MAP = {
    "AutoConfig": "configuration_own.OwnConfig",
    "AutoModelForCausalLM": "modeling_own.Own",
    "AutoModel": "modeling_own.Own",
}
TOKENIZER = {
    "tokenizer_class": "OwnTokenizer",
    "auto_map": {"AutoTokenizer": ["tokenization_own.OwnTokenizer", "tokenization_own.OwnTokenizer"]},
}


@pytest.mark.parametrize("remote", ["", "somebody/else--"])
def test_an_architecture_of_its_own(hostile, remote):
    """It is refused, and the message says why and what to do; for scores and for embeddings."""
    own = {name: f"{remote}{place}" for name, place in MAP.items()}
    folder = hostile(config={"model_type": "own", "architectures": ["Own"], "auto_map": own})
    ask = (open_backend(f"hf:{folder}").identity, lambda: next(iter(open_embedder(f"hf:{folder}").embed(["a"]))))
    for act in ask:
        with pytest.raises(
            ModelError, match=r"needs Python code from its repository \(.*Own.*\), .* never runs; serve"
        ):
            act()


def test_an_architecture_that_transformers_has(hostile):
    """Its own code is passed over: the model is that of transformers."""
    folder = hostile(config={"auto_map": MAP})
    assert open_backend(f"hf:{folder}").identity()["backend"] == "local"


def test_a_tokenizer_of_its_own(hostile):
    """It is refused, or read as one that transformers has."""
    folder = hostile(tokenizer_config=TOKENIZER)
    try:
        open_backend(f"hf:{folder}").identity()
    except LlmclfError as error:
        assert "which llmclf never runs" in str(error)


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["somebody/kernel", {"": "somebody/kernel@main"}])
def test_code_of_the_model_hub(hostile, name, value):
    """A configuration may name a kernel that transformers would fetch and run."""
    folder = hostile(config={name: value})
    with pytest.raises(
        ModelError, match=rf"asks for code from the model hub \({name}='somebody/kernel.*never runs; take"
    ):
        open_backend(f"hf:{folder}").identity()


def test_the_tokenizer_of_a_server(hostile):
    """It is read from a folder in the same way."""
    folder = hostile(tokenizer_config=TOKENIZER, config={"model_type": "own", "auto_map": MAP})
    with FakeServer("vllm") as server:
        backend = OpenAIBackend("openai:tiny", base_url=server.url, tokenizer=str(folder))
        table = pd.DataFrame({"text": ["Fine."]})
        for act in (
            lambda: backend.probe,
            lambda: estimate_table(table, text_column="text", labels=["a", "b"], model=backend),
        ):
            with pytest.raises(InputError, match="needs Python code from its repository, which llmclf never runs"):
                act()


def test_a_saved_classifier_of_such_a_model(hostile, tmp_path):
    """Neither load nor what follows runs it, with trust= neither."""
    folder = hostile(config={"auto_map": MAP})
    backend = open_backend(f"hf:{folder}")
    LLMClassifier(backend, labels=["good", "bad"], prompt=Prompt("{{ text }}:")).fit(["Any."]).save(tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    loaded_model._MODELS.clear()
    for trust in (False, True):
        with pytest.raises(ModelError, match="never runs"):
            load(tmp_path / "saved", trust=trust).predict(["Any."])
