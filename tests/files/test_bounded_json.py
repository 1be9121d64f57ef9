"""JSON and TOML of any depth and size, wherever a file of anybody is read: one error of ours that names file and limit."""

from __future__ import annotations

import json
import time

import pytest

from llmclf import load, open_backend
from llmclf.cli.job_file import read_config
from llmclf.errors import InputError, ModelError, StoreError
from llmclf.files.bounded_json import MOST_LEVELS, parsed_json
from llmclf.labels import label_set
from llmclf.saved_folder import read_folder
from llmclf.tables.files import read_table

DEPTHS = [MOST_LEVELS + 1, 400, 5000, 1_000_000]


def nested(depth: int, kind: str) -> str:
    opening, closing = ("[", "]") if kind == "list" else ('{"a":', "}")
    return opening * depth + ("" if kind == "list" else "1") + closing * depth


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_the_limit(kind):
    """A hundred levels are read, one more is not, whatever Python's own limit is."""
    assert json.dumps(parsed_json(nested(MOST_LEVELS, kind)), separators=(",", ":")) == nested(MOST_LEVELS, kind)
    for depth in DEPTHS:
        for text in (nested(depth, kind), nested(depth, kind).encode()):
            with pytest.raises(ValueError, match="nested too deeply"):
                parsed_json(text)
    assert parsed_json(json.dumps(["[" * 1000] * 1000)) == ["[" * 1000] * 1000


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_files(tmp_path, run, depth, kind):
    """Saved classifiers, rows of tables, job files, configurations of models, and the row of a command line."""
    deep = nested(depth, kind)
    (tmp_path / "classifier.json").write_text(f'{{"a": {deep}}}')
    with pytest.raises(StoreError, match=r"classifier\.json' is damaged .*nested too deeply"):
        load(tmp_path)
    (tmp_path / "rows.jsonl").write_text(f'{{"text": "a"}}\n{{"text": {deep}}}\n')
    with pytest.raises(InputError, match=r"line 2 of .*rows\.jsonl' cannot be read: it is nested too deeply"):
        read_table(tmp_path / "rows.jsonl")
    (tmp_path / "config.json").write_text(deep)
    with pytest.raises(
        ModelError, match=r"config\.json' is not valid JSON \(it is nested too deeply \(more than 100 levels\)\)"
    ):
        open_backend(f"hf:{tmp_path}").tokenizer  # noqa: B018


@pytest.mark.parametrize(
    "text",
    [
        "labels = " + "[" * 200_000,
        "model_options = " + "{a = " * 100_000,
        "a" + ".a" * 200_000 + " = 1",
        "[" + "a." * 200_000 + "b]",
        "a" + "  .  'a.b' " * 50_000 + "= 1",
        'a."\\"".' + '"a b".' * 100_000 + "a = 1",
        "\n".join("a." * 500 + f"b{i} = 1" for i in range(100)),
    ],
)
def test_deep_job_files(tmp_path, text):
    """Brackets and dots; dots before the parser's memory grows with the square of them."""
    (tmp_path / "job.toml").write_text(text)
    began = time.thread_time()
    with pytest.raises(InputError, match=r"job\.toml' cannot be read: it is nested too deeply"):
        read_config(tmp_path / "job.toml", {})
    assert time.thread_time() - began < 5


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("prompt = '''" + "Say it. " * 500 + "{{ text }}'''", "prompt", "Say it. " * 500 + "{{ text }}"),
        ('prompt = """' + "a.b." * 500 + '\\""""', "prompt", "a.b." * 500 + '"'),
        ("# " + "a." * 500 + "\nprompt = 'x'", "prompt", "x"),
        ("labels = [" + ", ".join(f"'{i}.{i}'" for i in range(500)) + "]", "labels", [f"{i}.{i}" for i in range(500)]),
        ("prompt = '.' # '''\nlabels = 'a.b'", "labels", "a.b"),
    ],
)
def test_dots_of_texts_are_no_keys(tmp_path, text, key, value):
    """Prompts, labels and comments have as many as they like."""
    (tmp_path / "job.toml").write_text(text)
    assert getattr(read_config(tmp_path / "job.toml", {}), key) == value


@pytest.mark.parametrize(
    "text", ["a = '" * 100_000, 'a = "\\"' + '\\"' * 400_000, '"""' * 100_000, "'" * 900_000, "#" * 900_000]
)
def test_broken_job_files_end_soon(tmp_path, text):
    """Texts without an end are looked through once."""
    (tmp_path / "job.toml").write_text(text)
    began = time.thread_time()
    try:
        read_config(tmp_path / "job.toml", {})
    except InputError as error:
        assert "job.toml" in str(error)
    assert time.thread_time() - began < 5


def test_sizes(tmp_path):
    """A job file, the JSON of a classifier, and its arrays, each before it is read: the files are holes, and cost no disk."""
    with (tmp_path / "job.toml").open("wb") as file:
        file.write(b"labels = 'a,b'\n")
        file.truncate(10**12)
    with pytest.raises(InputError, match=r"job\.toml' cannot be read: it has 1,000,000,000,000 bytes"):
        read_config(tmp_path / "job.toml", {})
    with (tmp_path / "classifier.json").open("wb") as file:
        file.write(b"{")
        file.truncate(10**12)
    with pytest.raises(StoreError, match=r"it has 1,000,000 MB; expected at most 64"):
        read_folder(tmp_path)
    name = "0" * 32 + ".npy"
    (tmp_path / "classifier.json").write_text(json.dumps({"a": [{"\0array": name}] * 5}))
    with (tmp_path / name).open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(StoreError, match="it names arrays of 5 GB together; expected at most 4 GB"):
        read_folder(tmp_path)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000,), }\n"
    with (tmp_path / name).open("wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        file.truncate(10**12)
    with pytest.raises(StoreError, match="it names arrays of 5,000 GB together"):
        read_folder(tmp_path)


def test_labels_without_number():
    """A hundred thousand classes take a moment, and more are refused; a message does not quote them all."""
    began = time.thread_time()
    assert len(label_set([f"{i} of them" for i in range(100_000)]).classes) == 100_000
    assert time.thread_time() - began < 5
    with pytest.raises(InputError, match="labels has 100,001 classes; expected at most 100,000"):
        label_set(map(str, range(100_001)))


@pytest.mark.parametrize(("name", "most"), [("concurrency", 10_000), ("max_retries", 1000)])
def test_numbers_of_servers_have_an_end(tmp_path, name, most):
    """A folder or job file cannot ask for a thousand million connections, or for retries without end."""
    options = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": ""}
    assert getattr(open_backend("openai:m", **options, **{name: most}), name) == most
    with pytest.raises(InputError, match=rf"{name}=1000000000: expected a whole number between . and {most}"):
        open_backend("openai:m", **options, **{name: 10**9})
    (tmp_path / "job.toml").write_text(f"{name} = 1000000000\n")
    with pytest.raises(
        InputError, match=rf"job\.toml': {name}=1000000000: input should be less than or equal to {most}"
    ):
        read_config(tmp_path / "job.toml", {})
