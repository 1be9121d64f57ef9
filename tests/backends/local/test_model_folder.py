"""Every way in which a model's folder can be broken is one error that names the file and the cure, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llmclf import open_backend
from llmclf.backends.local.model_folder import check_folder
from llmclf.errors import InputError, LlmclfError, MissingDependencyError, ModelError, ModelNameError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 12345678\n"
HEADER = json.dumps(
    {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
).encode()
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(8))


def write(folder: Path, files: dict[str, str | bytes | None]) -> Path:
    """Files of a folder; None removes one."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        file = folder / name
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder that is whole, as far as can be seen from outside."""
    return write(
        tmp_path / "model",
        {
            "config.json": json.dumps({"model_type": "llama"}),
            "tokenizer.json": "{}",
            "tokenizer_config.json": "{}",
            "model.safetensors": WEIGHTS,
        },
    )


def test_a_whole_folder_passes(folder):
    """In one file of weights, in several, and with the pickles of PyTorch."""
    check_folder(folder)
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = json.dumps({"weight_map": shards})
    write(
        folder,
        {"model.safetensors": None, "model.safetensors.index.json": index, **dict.fromkeys(shards.values(), WEIGHTS)},
    )
    check_folder(folder)
    write(folder, {"model.safetensors.index.json": None, "pytorch_model.bin": b"\x80\x02}q\x00."})
    check_folder(folder)


BROKEN = {
    "pointer of weights": ({"model.safetensors": POINTER}, r"model\.safetensors' is a Git LFS pointer.*12\.3 MB"),
    "pointer of tokenizer": ({"tokenizer.json": POINTER}, r"tokenizer\.json' is a Git LFS pointer"),
    "pointer of template": ({"chat_template.jinja": POINTER}, r"chat_template\.jinja' is a Git LFS pointer"),
    "pointer of merges": ({"merges.txt": POINTER}, r"merges\.txt' is a Git LFS pointer"),
    "half of the weights": (
        {"model.safetensors": WEIGHTS[:-3]},
        r"is \d+ bytes long, and its header tells of \d+: the download",
    ),
    "half of the header": ({"model.safetensors": WEIGHTS[:20]}, "ends within its header"),
    "other weights": ({"model.safetensors": b"\x02" + bytes(7) + b"[]" + bytes(90)}, "has no readable header"),
    "longer weights": ({"model.safetensors": WEIGHTS + b"x"}, "something was added to it"),
    "no weights": ({"model.safetensors": None}, r"has no weights \(no model\.safetensors"),
    "weights under another name": ({"model.safetensors": None, "weights.pth": b"x"}, r"it holds weights\.pth"),
    "under way": (
        {"model.safetensors": None, "model.safetensors.incomplete": b"x"},
        r"model\.safetensors\.incomplete has not ended",
    ),
    "no index": ({"model.safetensors": None, "model-00001-of-00002.safetensors": WEIGHTS}, "and not the index"),
    "half of a pickle": ({"model.safetensors": None, "pytorch_model.bin": b"PK\x03\x04abc"}, "has no end"),
    "empty configuration": ({"config.json": ""}, r"config\.json' is empty"),
    "a list as configuration": ({"config.json": "[]"}, "holds a list where a JSON object is expected"),
    "no JSON": ({"config.json": "{oops"}, "is not valid JSON"),
    "no text": ({"config.json": b"\xff\xfe"}, "is not valid JSON"),
    "a page": ({"config.json": "<!doctype html><html>"}, "is a web page"),
    "no type": ({"config.json": "{}"}, "names no model_type"),
    "no tokenizer": ({"tokenizer.json": None}, r"has no tokenizer \(no tokenizer\.json"),
    "an adapter": (
        {"adapter_config.json": '{"base_model_name_or_path": "org/base"}'},
        "adapter .* for .*'org/base'.*merge",
    ),
    "shard absent": (
        {
            "model.safetensors": None,
            "model.safetensors.index.json": '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}',
            "one.safetensors": WEIGHTS,
        },
        r"lacks 1 of the 2 files of its weights: two\.safetensors",
    ),
    "an index of nothing": ({"model.safetensors": None, "model.safetensors.index.json": "{}"}, "no weight_map"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_named_with_its_cure(folder, name):
    """Without torch: what is wrong shows from outside."""
    files, expected = BROKEN[name]
    with pytest.raises(ModelError, match=expected):
        check_folder(write(folder, files))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config.json": None}, "does not hold a config.json"),
        ({"config.json": None, "model.gguf": b"GGUF"}, r"give 'gguf:.*model\.gguf'"),
        ({"config.json": None, "classifier.json": "{}"}, r"llmclf\.load\(folder\)"),
    ],
)
def test_what_is_no_model_is_refused_when_it_is_named(folder, files, expected):
    """`open_backend` says what the folder is instead."""
    with pytest.raises(ModelNameError, match=expected):
        open_backend(f"hf:{write(folder, files)}")


def test_a_file_in_the_place_of_a_folder_and_the_reverse(folder):
    """Both are named."""
    with pytest.raises(ModelNameError, match="is a file, not a folder"):
        open_backend(f"hf:{folder / 'config.json'}")
    with pytest.raises(ModelNameError, match="is a folder, not a file"):
        open_backend(f"gguf:{folder}")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").mkdir()
    with pytest.raises(ModelError, match=r"tokenizer\.json' is a folder"):
        check_folder(folder)


def test_a_gguf_file_that_is_none_is_refused_when_it_is_named(tmp_path):
    """A pointer, nothing, something else, and one piece of several."""
    for content, expected in ((POINTER, "Git LFS pointer"), ("", "is empty"), ("junk", "is not a GGUF file")):
        file = write(tmp_path / "files", {"model.gguf": content}) / "model.gguf"
        with pytest.raises(InputError, match=expected):
            open_backend(f"gguf:{file}")
    file = write(tmp_path / "files", {"m-00001-of-00003.gguf": "GGUF"}) / "m-00001-of-00003.gguf"
    with pytest.raises(ModelError, match="one of 3 pieces"):
        open_backend(f"gguf:{file}")


def copied(source: Path, target: Path, **config) -> Path:
    """A copy of a model whose configuration says something else."""
    shutil.copytree(source, target)
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **config}))
    return target


@pytest.mark.parametrize(
    ("config", "kind", "expected"),
    [
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            MissingDependencyError,
            "bitsandbytes",
        ),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            MissingDependencyError,
            "pip install gptqmodel optimum",
        ),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, MissingDependencyError, "gptqmodel"),
        ({"quantization_config": {"quant_method": "hqq"}}, MissingDependencyError, "pip install hqq"),
        ({"quantization_config": {}}, ModelError, "is quantised"),
        ({"model_type": "llama9"}, ModelError, "'llama9', which transformers .* does not know; run: pip install -U"),
        ({"model_type": "t5"}, ModelError, "'t5', which is not a causal language model"),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}},
            ModelError,
            r"needs .* code .*\(own\.Own\).*never runs",
        ),
        ({"dtype": "float99"}, ModelError, "float99"),
        ({"hidden_size": "wide"}, ModelError, "hidden_size"),
        ({"hidden_act": "nope"}, ModelError, "KeyError: 'nope'"),
    ],
)
def test_what_transformers_cannot_load_is_explained(model_folder, tmp_path, config, kind, expected):
    """A package that is missing, an architecture of tomorrow, code that would run, a configuration that is not one."""
    with pytest.raises(kind, match=expected) as raised:
        open_backend(f"hf:{copied(model_folder('byte_bpe'), tmp_path / 'copy', **config)}").identity()
    assert isinstance(raised.value, LlmclfError)


def test_a_pickle_that_would_run_code_is_not_read(model_folder, tmp_path):
    """Numbers in a pickle are read, anything else is refused."""
    import torch
    from safetensors.torch import load_file

    folder = copied(model_folder("byte_bpe"), tmp_path / "copy")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    expected = open_backend(f"hf:{model_folder('byte_bpe')}").identity()["dtype"]
    assert open_backend(f"hf:{folder}").identity()["dtype"] == expected
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (ran,))

    other = copied(folder, tmp_path / "other")
    torch.save({"a": Evil()}, other / "pytorch_model.bin")
    with pytest.raises(ModelError, match="could run any code"):
        open_backend(f"hf:{other}").identity()
    assert not ran.exists()


def test_a_model_of_the_hub_is_known_by_its_commit(model_folder, tmp_path, monkeypatch):
    """Its name alone would keep answers of older weights; without a network, the client's own folder counts."""
    from huggingface_hub import constants

    from llmclf.backends.local import loaded_model

    hub = tmp_path / "models--org--name"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    identities = []
    for commit in ("a" * 40, "b" * 40):
        shutil.copytree(model_folder("byte_bpe"), hub / "snapshots" / commit)
        (hub / "refs").mkdir(exist_ok=True)
        (hub / "refs" / "main").write_text(commit)
        loaded_model._MODELS.clear()
        identities.append(open_backend("hf:org/name").identity()["weights"])
    assert identities == [f"org/name@{'a' * 40}", f"org/name@{'b' * 40}"]
    loaded_model._MODELS.clear()
    assert open_backend(f"hf:org/name@{'a' * 40}").identity()["weights"] == identities[0]
